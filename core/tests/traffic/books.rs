//! The clients' own books: what each account must have, added up from the replies alone.
//!
//! One reply counts per key, the first one with an outcome; all others of that key must say the same (IDM-1).

use std::collections::BTreeMap;

use tp_core::amount::Ledger;
use tp_core::command::{Advice, Advise, Command, RefundTarget};
use tp_core::ids::AccountId;
use tp_core::outcome::Outcome;
use tp_core::reply::{Flags, Reply};

use super::{Clients, czk};
use crate::harness::SEED;

/// Decided commands and their first replies.
#[derive(Default)]
pub(crate) struct Books {
    /// By owner and key.
    pub(crate) decided: BTreeMap<(AccountId, u128), (Command, Reply)>,
    /// The payees of captures, by transfer.
    payees: BTreeMap<u128, AccountId>,
}

/// Whether a reply tells what was decided under its key.
fn is_decided(reply: &Reply) -> bool {
    use Outcome::{AccountNotFound, IdempotencyConflict, KeyExpired, OriginalNotFound};
    let is_other = matches!(reply.outcome, AccountNotFound | IdempotencyConflict | KeyExpired);
    let is_unknown = reply.outcome == OriginalNotFound && reply.balances.is_none();
    !is_other && !is_unknown && (reply.outcome as u8) < Outcome::InProgress as u8
}

impl Books {
    /// Takes a reply to a command.
    pub(crate) fn take(&mut self, clients: &Clients, command: &Command, reply: &Reply) {
        let (Some(owner), Some(key)) = (clients.owner(command), command.key()) else { return };
        if !is_decided(reply) {
            return;
        }
        if let Some((_, first)) = self.decided.get(&(owner, key.bits)) {
            check_repeat(command, first, reply);
        } else {
            assert!(reply.seq.0 > 0, "a decision is an event: {command:?} {reply:?}");
            self.decided.insert((owner, key.bits), (command.clone(), reply.clone()));
        }
        let payee = match command {
            Command::Capture(c) => Some(c.payee),
            Command::Advise(Advise { advice: Advice::Post { payee, .. }, .. }) => Some(*payee),
            _ => None,
        };
        if let (Some(payee), Some(transfer)) = (payee, reply.transfer) {
            self.payees.insert(transfer.0, payee);
        }
    }

    /// What each account must have posted.
    pub(crate) fn posted(&self, clients: &Clients) -> BTreeMap<AccountId, i128> {
        let mut posted = BTreeMap::new();
        for ((owner, _), (command, reply)) in &self.decided {
            if let Some((counter, sign)) = self.movement(clients, *owner, command) {
                let amount = sign * i128::try_from(reply.amount.get()).expect("below 2^96");
                let place = |id, flag| if reply.flags.has(flag) { suspense(id, czk()) } else { id };
                *posted.entry(place(*owner, Flags::SUSPENSE)).or_default() += amount;
                *posted.entry(place(counter, Flags::COUNTER_SUSPENSE)).or_default() -= amount;
            }
        }
        posted.retain(|_, amount| *amount != 0);
        posted
    }

    /// The other account of a command that moves money, and +1 when the owner is credited.
    fn movement(&self, clients: &Clients, owner: AccountId, command: &Command) -> Option<(AccountId, i128)> {
        match command {
            Command::Transfer(c) => Some((c.payee, -1)),
            Command::Capture(c) => Some((c.payee, -1)),
            Command::Advise(Advise { advice: Advice::Post { payee, .. }, .. }) => Some((*payee, -1)),
            Command::Refund(c) => match c.target {
                RefundTarget::Capture(id) => Some((*self.payees.get(&id.0)?, 1)),
                RefundTarget::Authorization(id) => {
                    let (capture, _) = clients.captures.iter().find(|(_, of)| *of == id)?;
                    Some((*self.payees.get(&capture.0)?, 1))
                }
            },
            Command::Reverse(c) => {
                let (original, _) = self.decided.get(&(owner, c.original.bits))?;
                let is_reversal = matches!(original, Command::Reverse(_));
                if is_reversal { None } else { self.movement(clients, owner, original).map(|(id, sign)| (id, -sign)) }
            }
            _ => None,
        }
    }
}

fn suspense(account: AccountId, ledger: Ledger) -> AccountId {
    AccountId::suspense_of(SEED.slot_of(account), ledger)
}

/// IDM-1: a later reply of a key says what the first one said.
pub(crate) fn check_repeat(command: &Command, first: &Reply, later: &Reply) {
    let told = |r: &Reply| (r.outcome, r.amount, r.flags, r.authorization, r.transfer, r.expires, r.seq, r.version);
    assert_eq!(told(later), told(first), "IDM-1: {command:?}\n first {first:?}\n later {later:?}");
}
