//! What an event means to one account: its legs as lines of a statement.
//!
//! Owns the sign and size of each leg and what belongs to an exchange (its answer and end name only its number). Refuses to
//! compute balances: they come from the state; the sum of the legs is compared with them.
//!
//! ```text
//!                 push (transfer, capture, advice, undo of a refund)     pull (refund, undo of a transfer or capture)
//!   moved         owner -amount, counter +amount                         owner +amount, counter -amount
//!   opened        owner -amount                                          owner 0
//!   answered      counter +amount                                        counter -amount
//!   ended         owner 0; refused: +amount                              owner +amount; refused: 0
//! ```

use std::collections::HashMap;
use std::fmt;

use tp_core::event::{Body, Ended, Event, Head, Leg, Movement, Opened, Role};
use tp_core::ids::{AccountId, AuthorizationId, SlotIndex, TransferId, Version};
use tp_core::metadata::Metadata;
use tp_core::outcome::Outcome;
use tp_core::time::Date;

/// One leg of an account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// The account's version after it.
    pub version: Version,
    /// The event's stable name.
    pub event: &'static str,
    /// Verb or purpose of what happened; `expire` for an expiry.
    pub what: &'static str,
    /// The decision; `None` for an expiry.
    pub outcome: Option<Outcome>,
    /// The account that owns the decision behind it, to which value date and reference belong: the payer, also on its payee's
    /// line; of an expiry the account that held. `None`: the opening of its exchange was not found.
    pub owner: Option<AccountId>,
    /// The other account, if there is one.
    pub counterparty: Option<AccountId>,
    /// What it adds to the posted balance, minor units.
    pub amount: i128,
    /// The caller's value date.
    pub value_date: Option<Date>,
    /// The caller's reference.
    pub reference: Option<String>,
    /// The authorization that it works on.
    pub authorization: Option<AuthorizationId>,
    /// The transfer that it belongs to.
    pub transfer: Option<TransferId>,
}

/// An exchange: the opener slot and its number there.
pub(crate) type ExchangeKey = (SlotIndex, u64);

/// The opening of an exchange, as far as its answer and end need it.
pub(crate) struct Opening {
    owner: AccountId,
    value_date: Option<Date>,
    reference: Option<String>,
    pub(crate) movement: Movement,
}

impl Opening {
    pub(crate) fn of(opened: &Opened) -> Self {
        Self {
            owner: opened.head.account,
            value_date: value_date(&opened.head),
            reference: reference(&opened.head),
            movement: opened.movement,
        }
    }

    fn shared(&self, line: &Line) -> Line {
        Line { owner: Some(self.owner), value_date: self.value_date, reference: self.reference.clone(), ..line.clone() }
    }
}

/// The exchange that a leg answers or ends.
pub(crate) fn exchange_of(event: &Event, role: Role) -> Option<ExchangeKey> {
    match (&event.body, role) {
        (Body::Answered(e), _) => Some((e.opener, e.number)),
        (Body::Ended(e), Role::End(n)) => e.ends.get(n).map(|end| (end.slot, end.number)),
        _ => None,
    }
}

/// Turns events into lines; it must see every event from the first on.
#[derive(Default)]
pub struct Legs {
    open: HashMap<ExchangeKey, Opening>,
}

impl fmt::Debug for Legs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Legs").field("open", &self.open.len()).finish()
    }
}

impl Legs {
    /// Calls back with the lines of the accounts that are wanted, in the order of the event's legs.
    pub fn each(&mut self, event: &Event, wanted: impl Fn(AccountId) -> bool, mut visit: impl FnMut(AccountId, Line)) {
        if let Body::Opened(e) = &event.body {
            self.open.insert((e.head.slot, e.number), Opening::of(e));
        }
        event.body.each_leg(|leg| {
            if let Some(account) = leg.account.filter(|account| wanted(*account)) {
                let opening = exchange_of(event, leg.role).and_then(|exchange| self.open.get(&exchange));
                visit(account, Line::of(event, leg, opening));
            }
        });
        if let Body::Ended(e) = &event.body {
            for end in &e.ends {
                self.open.remove(&(end.slot, end.number));
            }
        }
    }
}

impl Line {
    /// One leg. An answer without its opening lacks what only that names; an end without it lacks its amount too.
    pub(crate) fn of(event: &Event, leg: Leg, opening: Option<&Opening>) -> Self {
        let bare = Self::bare(event, leg);
        match &event.body {
            Body::Authorized(e) => Self { authorization: Some(e.authorization), ..bare },
            Body::Incremented(e) => Self { authorization: Some(e.authorization), ..bare },
            Body::Released(e) => Self { authorization: Some(e.authorization), ..bare },
            Body::Expired(e) => {
                Self { what: "expire", owner: Some(e.account), authorization: Some(e.authorization), ..bare }
            }
            Body::Moved(e) if leg.role == Role::Counter => {
                of_movement(bare, &e.movement, e.head.account, counters_share(&e.movement))
            }
            Body::Moved(e) => of_movement(bare, &e.movement, e.movement.counter, -counters_share(&e.movement)),
            Body::Opened(e) => {
                let amount = if e.movement.purpose.is_push() { -size(&e.movement) } else { 0 };
                of_movement(bare, &e.movement, e.movement.counter, amount)
            }
            Body::Answered(e) => {
                let line = Self { outcome: Some(e.outcome), ..bare };
                match opening {
                    None => {
                        let amount = e.amount.get().cast_signed(); // below 2^96
                        let amount = if e.purpose.is_push() { amount } else { -amount };
                        Self { what: e.purpose.name(), transfer: Some(e.transfer), amount, ..line }
                    }
                    Some(x) => of_movement(x.shared(&line), &x.movement, x.owner, counters_share(&x.movement)),
                }
            }
            Body::Ended(e) => end(bare, e, leg.role, opening),
            _ => bare,
        }
    }

    /// What every leg has.
    fn bare(event: &Event, leg: Leg) -> Self {
        let name = event.body.name();
        let bare = Self {
            version: leg.version,
            event: name,
            what: name,
            outcome: None,
            owner: None,
            counterparty: None,
            amount: 0,
            value_date: None,
            reference: None,
            authorization: None,
            transfer: None,
        };
        match event.body.head() {
            None => bare,
            Some(head) => Self {
                what: head.verb.name(),
                outcome: Some(head.outcome),
                owner: Some(head.account),
                value_date: value_date(head),
                reference: reference(head),
                counterparty: head.rare.as_ref().and_then(|rare| (rare.payee != 0).then_some(AccountId(rare.payee))),
                ..bare
            },
        }
    }
}

fn end(bare: Line, ended: &Ended, role: Role, opening: Option<&Opening>) -> Line {
    let Role::End(n) = role else { return bare };
    let Some(end) = ended.ends.get(n) else { return bare };
    let line = Line { outcome: Some(end.outcome), ..bare };
    let Some(x) = opening else { return line };
    // Given back when a push was refused; credited when a pull was done.
    let is_credited = x.movement.purpose.is_push() != end.outcome.is_approval();
    let amount = if is_credited { size(&x.movement) } else { 0 };
    of_movement(x.shared(&line), &x.movement, x.movement.counter, amount)
}

fn of_movement(line: Line, movement: &Movement, counterparty: AccountId, amount: i128) -> Line {
    Line {
        what: movement.purpose.name(),
        counterparty: Some(counterparty),
        amount,
        authorization: AuthorizationId::from_bits(movement.authorization),
        transfer: Some(movement.transfer),
        ..line
    }
}

fn size(movement: &Movement) -> i128 {
    movement.amount.get().cast_signed() // below 2^96
}

/// What the counter's side gains.
fn counters_share(movement: &Movement) -> i128 {
    if movement.purpose.is_push() { size(movement) } else { -size(movement) }
}

fn value_date(head: &Head) -> Option<Date> {
    (head.value_date != Date(0)).then_some(head.value_date)
}

/// The metadata entry with the empty name.
fn reference(head: &Head) -> Option<String> {
    let data = Metadata::from_bytes(&head.rare.as_ref()?.metadata).ok()?;
    data.entries().find(|(name, _)| name.is_empty()).map(|(_, value)| value.to_owned())
}
