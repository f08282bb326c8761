//! Movements between two accounts: in one event where both slots lie in the partition, else by an exchange.

use super::{Case, Scene, Verdict, leave, next_leg};
use crate::account::SUM_MAX;
use crate::amount::{Amount, Ledger};
use crate::command::Status;
use crate::event::{Answered, Body, End, Moved, Movement, Opened, Purpose, Rare};
use crate::exchange::Exchange;
use crate::ids::{AccountId, Seq, Version};
use crate::outcome::Outcome;
use crate::reply::{Flags, Reply};
use crate::slot::Slot;
use crate::turn::{AnswerMessage, OpenMessage};

/// The owner's side of a movement: which account its legs touch, and the reply when it is done.
#[derive(Clone, Copy)]
pub(super) struct OwnerSide {
    pub(super) account: AccountId,
    pub(super) outcome: Outcome,
    pub(super) flags: Flags,
}

impl Case<'_> {
    /// One event with two legs, an exchange's first event, or the counter-account's refusal. Every pull passes here: the scope
    /// is asked before anything is known of the other account.
    pub(super) fn movement(&self, m: Movement, owner: OwnerSide) -> Verdict {
        if !m.purpose.is_push() && self.scene.scope.forbids_pull_from(m.counter) {
            return Err(leave(Reply::bare(Outcome::NotReversible)));
        }
        let target = if m.authorization == 0 { m.counter.0 } else { m.authorization };
        let is_suspense = owner.account != self.account;
        let rare = Rare::default();
        let flags = owner.flags.with(Flags::SUSPENSE.when(is_suspense));
        let Some(counter_slot) = self.scene.slot(m.counter_slot) else {
            if !self.scene.room.exchanges {
                return Err(leave(Reply::bare(Outcome::Busy)));
            }
            let head = self.head_on(owner.account, owner.outcome, flags, rare);
            return Ok(Body::Opened(Box::new(Opened { head, movement: m, number: self.slot.exchanges.next() })));
        };
        let side = match counter_side(counter_slot, m.counter, m.ledger, m.amount, m.purpose) {
            Ok(side) => side,
            Err(refusal) => return Ok(self.note(refusal, m.amount, target)),
        };
        let head = self.head_on(owner.account, owner.outcome, flags.with(side.flags), rare);
        // Both legs may touch one suspense account: legs of one event are read in order (J3).
        let (version, previous) = if side.account == owner.account {
            (Version(head.version.0 + 1), self.scene.seq)
        } else {
            next_leg(counter_slot, side.account)
        };
        Ok(Body::Moved(Box::new(Moved {
            head,
            movement: m,
            counter: side.account,
            counter_version: version,
            counter_previous: previous,
        })))
    }

    /// Whose account a forced movement's owner leg touches: the key's, or the slot's suspense account.
    pub(super) fn forced_owner(&self, account: AccountId, ledger: Ledger) -> AccountId {
        if self.slot.takes_forced(account, ledger) {
            account
        } else {
            AccountId::suspense_of(self.slot.index(), ledger)
        }
    }

    /// Where the counter's side of an earlier movement was booked: it is drawn from there.
    pub(super) fn paid(&self, payee: AccountId, ledger: Ledger, is_on_suspense: bool) -> AccountId {
        if is_on_suspense { AccountId::suspense_of(self.scene.seed.slot_of(payee), ledger) } else { payee }
    }

    /// Whether a forced debit of `amount` beyond what is held leaves the account below its limit.
    pub(super) fn overdraws(&self, account: AccountId, amount: u128) -> bool {
        overdraws(self.slot, account, amount)
    }
}

fn overdraws(slot: &Slot, account: AccountId, amount: u128) -> bool {
    let available = slot.find_account(account).and_then(|a| a.balances().available);
    available.is_some_and(|available| available.saturating_sub_unsigned(amount) < 0)
}

/// The counter's side: which account its leg touches.
#[derive(Clone, Copy)]
struct CounterSide {
    account: AccountId,
    flags: Flags,
}

/// Tests the counter-account; a forced movement finds the slot's suspense account where the account is closed or missing.
fn counter_side(
    slot: &Slot,
    account: AccountId,
    ledger: Ledger,
    amount: Amount,
    purpose: Purpose,
) -> Result<CounterSide, Outcome> {
    if purpose.is_forced() {
        return Ok(if slot.takes_forced(account, ledger) {
            let is_overdrawn = !purpose.is_push() && overdraws(slot, account, amount.get());
            let suspense = Flags::COUNTER_SUSPENSE.when(account.suspense().is_some());
            CounterSide { account, flags: Flags::OVERDRAWN.when(is_overdrawn).with(suspense) }
        } else {
            CounterSide { account: AccountId::suspense_of(slot.index(), ledger), flags: Flags::COUNTER_SUSPENSE }
        });
    }
    let payee = slot.find_account(account).ok_or(Outcome::PayeeNotFound)?;
    let guard = |holds: bool, outcome: Outcome| if holds { Ok(()) } else { Err(outcome) };
    guard(payee.ledger == ledger, Outcome::WrongLedger)?;
    guard(payee.status != Status::Closed, Outcome::PayeeClosed)?;
    guard(payee.status != Status::Frozen, Outcome::PayeeFrozen)?;
    if purpose.is_push() {
        guard(payee.takes_credit(amount), Outcome::InvalidAmount)?;
    } else {
        guard(payee.status != Status::DebitFrozen, Outcome::PayeeFrozen)?;
        guard(!overdraws(slot, account, amount.get()), Outcome::InsufficientFunds)?;
        guard(payee.debits.get().saturating_add(amount.get()) <= SUM_MAX, Outcome::InvalidAmount)?;
    }
    Ok(CounterSide { account, flags: Flags::COUNTER_SUSPENSE.when(account.suspense().is_some()) })
}

/// Answers an exchange that another slot opened: a remembered answer again, or a new one with its event.
pub(crate) fn answer(slot: &Slot, m: &OpenMessage) -> (AnswerMessage, Option<Body>) {
    let reply = |outcome, flags| AnswerMessage { to: m.from, number: m.number, outcome, flags };
    if let Some(given) = slot.answers.get(m.from, m.number) {
        return (reply(given.outcome, given.flags), None);
    }
    let (account, outcome, flags) = match counter_side(slot, m.account, m.ledger, m.amount, m.purpose) {
        Ok(side) => (side.account, Outcome::Approved, side.flags),
        Err(refusal) => (m.account, refusal, Flags::NONE),
    };
    let (version, previous) = if outcome.is_approval() { next_leg(slot, account) } else { Default::default() };
    (reply(outcome, flags), Some(answered(slot, m, account, (version, previous), (outcome, flags))))
}

/// The refusal of an exchange whose answer could not be decided.
pub(crate) fn refuse_for_system_error(slot: &Slot, m: &OpenMessage) -> (AnswerMessage, Body) {
    let message = AnswerMessage { to: m.from, number: m.number, outcome: Outcome::SystemError, flags: Flags::NONE };
    (message, answered(slot, m, m.account, Default::default(), (Outcome::SystemError, Flags::NONE)))
}

fn answered(
    slot: &Slot,
    m: &OpenMessage,
    account: AccountId,
    (version, previous): (Version, Seq),
    (outcome, flags): (Outcome, Flags),
) -> Body {
    Body::Answered(Answered {
        account,
        transfer: m.transfer,
        amount: m.amount,
        version,
        previous,
        number: m.number,
        oldest: m.oldest,
        ledger: m.ledger,
        opener: m.from,
        slot: slot.index(),
        purpose: m.purpose,
        outcome,
        flags,
    })
}

/// The end of an open exchange. `None`: it is not open, the answer is ignored.
pub(crate) fn end(slot: &Slot, m: &AnswerMessage) -> Option<End> {
    let exchange: &Exchange = slot.exchanges.get(m.number)?;
    let (version, previous) = next_leg(slot, exchange.owner);
    let outcome = if m.outcome.is_approval() { exchange.outcome } else { m.outcome };
    let flags = if m.outcome.is_approval() { exchange.flags.with(m.flags) } else { Flags::NONE };
    Some(End { account: exchange.owner, version, previous, number: m.number, slot: slot.index(), outcome, flags })
}

/// The message that opens an exchange.
pub(crate) fn open_message(scene_slot: &Slot, number: u64, m: &Movement) -> OpenMessage {
    OpenMessage {
        from: scene_slot.index(),
        to: m.counter_slot,
        number,
        oldest: scene_slot.exchanges.oldest(),
        account: m.counter,
        ledger: m.ledger,
        amount: m.amount,
        purpose: m.purpose,
        transfer: m.transfer,
    }
}

impl Scene<'_> {
    /// A movement with nothing special about it; the caller sets what is.
    pub(super) fn plain_movement(
        &self,
        case: &Case<'_>,
        purpose: Purpose,
        counter: AccountId,
        ledger: Ledger,
        amount: Amount,
    ) -> Movement {
        Movement {
            transfer: case.new_transfer(),
            amount,
            counter,
            authorization: 0,
            capture: 0,
            original: 0,
            hold: Amount::ZERO,
            ledger,
            bucket: crate::time::Bucket::default(),
            counter_slot: self.seed.slot_of(counter),
            purpose,
            original_kind: crate::key::KeyKind::Opaque,
            is_counted: false,
            is_final: false,
        }
    }
}
