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

use tpcore::event::{Body, Event, Head, Leg, Movement, Role};
use tpcore::{AccountId, AuthorizationId, Date, Metadata, Outcome, SlotIndex, TransferId, Version};

/// One leg of an account.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    /// The account's version after it.
    pub(crate) version: Version,
    /// The event's stable name.
    pub(crate) event: &'static str,
    /// Verb or purpose of what happened; `expire` for an expiry.
    pub(crate) what: &'static str,
    /// The decision; `None` for an expiry.
    pub(crate) outcome: Option<Outcome>,
    /// The other account, if there is one.
    pub(crate) counterparty: Option<AccountId>,
    /// What it adds to the posted balance, minor units.
    pub(crate) amount: i128,
    /// The caller's value date.
    pub(crate) value_date: Option<Date>,
    /// The caller's reference.
    pub(crate) reference: Option<String>,
    /// The authorization that it works on.
    pub(crate) authorization: Option<AuthorizationId>,
    /// The transfer that it belongs to.
    pub(crate) transfer: Option<TransferId>,
}

/// An open exchange, as far as its answer and end need it.
struct Exchange {
    owner: AccountId,
    value_date: Option<Date>,
    reference: Option<String>,
    movement: Movement,
}

/// Turns events into lines; it must see every event from the first on.
#[derive(Default)]
pub(crate) struct Legs {
    open: HashMap<(SlotIndex, u64), Exchange>,
}

impl Legs {
    /// Calls back with the lines of the accounts that are wanted, in the order of the event's legs.
    pub(crate) fn each(
        &mut self,
        event: &Event,
        wanted: impl Fn(AccountId) -> bool,
        mut visit: impl FnMut(AccountId, Line),
    ) {
        if let Body::Opened(e) = &event.body {
            let exchange = Exchange {
                owner: e.head.account,
                value_date: value_date(&e.head),
                reference: reference(&e.head),
                movement: e.movement,
            };
            self.open.insert((e.head.slot, e.number), exchange);
        }
        event.body.each_leg(|leg| {
            if let Some(account) = leg.account.filter(|account| wanted(*account)) {
                visit(account, self.line(event, leg));
            }
        });
        if let Body::Ended(e) = &event.body {
            for end in &e.ends {
                self.open.remove(&(end.slot, end.number));
            }
        }
    }

    fn line(&self, event: &Event, leg: Leg) -> Line {
        let event_name = event.body.name();
        let bare = Line {
            version: leg.version,
            event: event_name,
            what: event_name,
            outcome: None,
            counterparty: None,
            amount: 0,
            value_date: None,
            reference: None,
            authorization: None,
            transfer: None,
        };
        let bare = match event.body.head() {
            None => bare,
            Some(head) => Line {
                what: head.verb.name(),
                outcome: Some(head.outcome),
                value_date: value_date(head),
                reference: reference(head),
                counterparty: head.rare.as_ref().and_then(|rare| (rare.payee != 0).then_some(AccountId(rare.payee))),
                ..bare
            },
        };
        match &event.body {
            Body::Authorized(e) => Line { authorization: Some(e.authorization), ..bare },
            Body::Incremented(e) => Line { authorization: Some(e.authorization), ..bare },
            Body::Released(e) => Line { authorization: Some(e.authorization), ..bare },
            Body::Expired(e) => Line { what: "expire", authorization: Some(e.authorization), ..bare },
            Body::Moved(e) if leg.role == Role::Counter => {
                of_movement(bare, &e.movement, e.head.account, counters_share(&e.movement))
            }
            Body::Moved(e) => of_movement(bare, &e.movement, e.movement.counter, -counters_share(&e.movement)),
            Body::Opened(e) => {
                let amount = if e.movement.purpose.is_push() { -size(&e.movement) } else { 0 };
                of_movement(bare, &e.movement, e.movement.counter, amount)
            }
            Body::Answered(e) => match self.open.get(&(e.opener, e.number)) {
                None => Line { outcome: Some(e.outcome), what: e.purpose.name(), transfer: Some(e.transfer), ..bare },
                Some(x) => {
                    let line = Line { outcome: Some(e.outcome), ..x.shared(&bare) };
                    of_movement(line, &x.movement, x.owner, counters_share(&x.movement))
                }
            },
            Body::Ended(e) => self.end(bare, e, leg.role),
            _ => bare,
        }
    }

    fn end(&self, bare: Line, ended: &tpcore::event::Ended, role: Role) -> Line {
        let Role::End(n) = role else { return bare };
        let Some(end) = ended.ends.get(n) else { return bare };
        let line = Line { outcome: Some(end.outcome), ..bare };
        let Some(x) = self.open.get(&(end.slot, end.number)) else { return line };
        // Given back when a push was refused; credited when a pull was done.
        let is_credited = x.movement.purpose.is_push() != end.outcome.is_approval();
        let amount = if is_credited { size(&x.movement) } else { 0 };
        of_movement(x.shared(&line), &x.movement, x.movement.counter, amount)
    }
}

impl Exchange {
    fn shared(&self, line: &Line) -> Line {
        Line { value_date: self.value_date, reference: self.reference.clone(), ..line.clone() }
    }
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
