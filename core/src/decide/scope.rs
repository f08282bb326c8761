//! The scope's guard: whether a submission may be decided on the account that owns the decision.
//!
//! Stands at one place, between the command's form and its key. Owns who the owner is and what a stranger is told; refuses to
//! know what the verbs do with their own. What is told follows from the command, the time and the room only, never from what
//! the account, authorization or capture is (beside that it is not the tenant's). Whom a pull draws on is tested where that is
//! known (`movement.rs`).

use super::{Adds, Decision, Scene, capture, is_key_outside_window, leave, lookup};
use crate::account::Account;
use crate::command::{Command, ReadTarget, RefundTarget};
use crate::ids::AccountId;
use crate::key::Key;
use crate::outcome::Outcome;
use crate::reply::Reply;
use crate::slot::Slot;

/// What a command would be decided on.
enum Target<'a> {
    /// An account by its id.
    Account(AccountId),
    /// An authorization, by its id or a capture's: its payer, and the account that its hold stands on.
    Hold { payer: Option<&'a Account>, stands_on: Option<&'a Account> },
    /// Nothing that is there.
    Nothing,
}

/// Ends the decision here when the owner is outside the scope.
pub(super) fn require(scene: &Scene<'_>, slot: &Slot, command: &Command) -> Result<(), Decision> {
    let scope = scene.scope;
    if scope.is_open() {
        return Ok(());
    }
    let refuse = |outcome| Err(leave(Reply::bare(outcome)));
    if let Command::OpenAccount(c) = command {
        if scope.tenant.is_some_and(|tenant| tenant != c.settings.tenant) {
            return refuse(Outcome::Malformed);
        }
        if scope.excludes(c.settings.ledger) {
            return refuse(Outcome::WrongLedger);
        }
    }
    let (is_hidden, ledger) = match target(scene, slot, command) {
        Target::Account(id) => {
            let account = slot.find_account(id);
            (account.is_some_and(|account| scope.hides(account)), account.map(|account| account.ledger))
        }
        Target::Hold { payer, stands_on } => {
            let is_nobodys = scope.tenant.is_some() && payer.is_none();
            (is_nobodys || payer.is_some_and(|account| scope.hides(account)), stands_on.map(|account| account.ledger))
        }
        Target::Nothing => return Ok(()),
    };
    if is_hidden {
        return refuse(told_to_strangers(scene, slot, command));
    }
    if ledger.is_some_and(|ledger| scope.excludes(ledger)) { refuse(Outcome::WrongLedger) } else { Ok(()) }
}

fn target<'a>(scene: &Scene<'_>, slot: &'a Slot, command: &Command) -> Target<'a> {
    let hold = match command {
        Command::OpenAccount(c) => return Target::Account(c.account),
        Command::UpdateAccount(c) => return Target::Account(c.account),
        Command::CloseAccount(c) => return Target::Account(c.account),
        Command::Authorize(c) => return Target::Account(c.account),
        Command::Transfer(c) => return Target::Account(c.account),
        Command::Advise(c) => return Target::Account(c.account),
        Command::Reverse(c) => return Target::Account(c.account),
        Command::Lookup(c) => return Target::Account(c.account),
        Command::Read(c) => match c.target {
            ReadTarget::Account(id) => return Target::Account(id),
            ReadTarget::Authorization(id) => slot.visible_authorization(id.0, scene.now),
            ReadTarget::Capture(id) => capture::visible_authorization_of(slot, id, scene.now),
        },
        Command::Increment(c) => slot.visible_authorization(c.authorization.0, scene.now),
        Command::Capture(c) => slot.visible_authorization(c.authorization.0, scene.now),
        Command::Void(c) => slot.visible_authorization(c.authorization.0, scene.now),
        Command::Refund(c) => match c.target {
            RefundTarget::Authorization(id) => slot.visible_authorization(id.0, scene.now),
            RefundTarget::Capture(id) => capture::visible_authorization_of(slot, id, scene.now),
        },
        Command::Record(_) => None,
    };
    hold.map_or(Target::Nothing, |a| Target::Hold {
        payer: slot.find_account(a.payer()),
        stands_on: slot.find_account(a.account()),
    })
}

/// As if the account, authorization or capture did not exist, in the order in which that would be found.
fn told_to_strangers(scene: &Scene<'_>, slot: &Slot, command: &Command) -> Outcome {
    let by_key = |key: Key, adds, last| {
        let is_expired = is_key_outside_window(slot, key, scene.now);
        let early = is_expired.then_some(Outcome::KeyExpired).or_else(|| scene.room_refusal(slot, adds));
        early.unwrap_or(last)
    };
    let missing = |key| by_key(key, Adds::OrphanKey, Outcome::AccountNotFound);
    match command {
        Command::OpenAccount(c) => by_key(c.key, Adds::Key, Outcome::AccountExists),
        Command::UpdateAccount(c) => missing(c.key),
        Command::CloseAccount(c) => missing(c.key),
        Command::Authorize(c) => missing(c.key),
        Command::Transfer(c) => missing(c.key),
        Command::Advise(c) => missing(c.key),
        Command::Reverse(c) => missing(c.key),
        // No fence was set, so it is not said to be.
        Command::Lookup(c) => lookup::unfenced(scene, slot, c, Adds::OrphanKey).unwrap_or(Outcome::OriginalNotFound),
        Command::Read(c) => match c.target {
            ReadTarget::Account(_) => Outcome::AccountNotFound,
            ReadTarget::Authorization(_) | ReadTarget::Capture(_) => Outcome::OriginalNotFound,
        },
        Command::Refund(c) => capture::unknown(scene, slot, c.target),
        Command::Increment(_) | Command::Capture(_) | Command::Void(_) | Command::Record(_) => {
            Outcome::OriginalNotFound
        }
    }
}
