//! The fold of movements: captures, refunds, transfers, posted advices and their undoing, at once or as an exchange.
//!
//! Owns both sides of a movement in their slots, its opening, its end and its answer; refuses to know which guards let it
//! happen. LED-1 with in-transit, HLD-1 for what comes from a hold, EXC-1 for exchanges.

use tp_planted::{Bug, has};

use super::{Fold, Mark, Misfit, Moment, add, record, take};
use crate::authorization::{Capture, NOWHERE};
use crate::event::{Answered, Body, End, Head, Moved, Movement, Opened, Purpose};
use crate::exchange::{Exchange, GivenAnswer};
use crate::ids::AccountId;
use crate::key::Key;
use crate::keys::KeyRecord;
use crate::outcome::Outcome;
use crate::reply::{AuthorizationState, Flags};
use crate::slot::Slot;
use crate::time::{Bucket, Time};

impl Slot {
    pub(super) fn moved(&mut self, body: &Body, e: &Moved, at: Moment) -> Fold {
        let position = self.touch_owner(body, &e.head, at)?.ok_or("a movement from no account")?;
        self.open_movement(&e.movement, e.head.account, position, at, 0)?;
        self.note_where_paid(&e.movement, e.head.flags);
        self.end_movement(&e.movement, position, e.head.outcome, at)?;
        let record = self.movement_record(&e.head, &e.movement, at, 0);
        self.remember_decided(record)
    }

    pub(super) fn moved_counter(&mut self, e: &Moved, at: Moment) -> Fold {
        let mark = Mark { account: e.counter, version: e.counter_version, previous: e.counter_previous };
        let position = self.touch(mark, at)?;
        let account = self.account_mut(position)?;
        let side = if e.movement.purpose.is_push() { &mut account.credits } else { &mut account.debits };
        add(side, e.movement.amount.get())
    }

    pub(super) fn opened(&mut self, body: &Body, e: &Opened, at: Moment) -> Fold {
        if e.number != self.exchanges.next() {
            return Err("EXC-1: the exchange's number does not follow");
        }
        let position = self.touch_owner(body, &e.head, at)?.ok_or("an exchange from no account")?;
        self.open_movement(&e.movement, e.head.account, position, at, e.number)?;
        let account = self.account_mut(position)?;
        account.exchanges_open += 1;
        let owner = account.id();
        if e.movement.purpose.is_push() {
            let times = if has(Bug::TransitTwice) && !at.seq.is_provisional() { 2 } else { 1 };
            self.transit(e.movement.ledger, times * e.movement.amount.get().cast_signed())?;
        }
        self.exchanges.open(Exchange {
            movement: e.movement,
            account: e.head.account,
            key: e.head.full_key(),
            owner,
            outcome: e.head.outcome,
            flags: e.head.flags,
        });
        let record = self.movement_record(&e.head, &e.movement, at, e.number);
        self.remember_decided(record)
    }

    /// The owner's side when it opens: a push debits, a pull reserves the cap; a reversal marks its original.
    fn open_movement(&mut self, m: &Movement, scope: AccountId, account: u32, at: Moment, number: u64) -> Fold {
        let amount = m.amount.get();
        if m.transfer.0 != 0 {
            self.count_id(m.transfer.counter())?;
        }
        if m.purpose.is_push() {
            let account = self.account_mut(account)?;
            add(&mut account.debits, amount)?;
            take(&mut account.held, m.hold.get())?;
            if m.is_counted && !m.purpose.is_undo() {
                account.count(m.bucket, m.amount);
            }
        }
        if m.purpose.is_undo() {
            self.mark_reversed(scope, Key { bits: m.original, kind: m.original_kind })?;
        }
        if m.authorization == 0 {
            return Ok(());
        }
        let position = self.authorization_position(m.authorization).ok_or("an authorization that is not in memory")?;
        let authorization = self.authorization_at(position).ok_or("an authorization that is not there")?;
        if authorization.exchange() != 0 {
            return Err("EXC-1: an exchange of this authorization is open");
        }
        if number != 0 {
            authorization.course_mut().exchange = number;
        }
        match m.purpose {
            Purpose::Capture | Purpose::Advice => {
                take(&mut authorization.hold, m.hold.get())?;
                add(&mut authorization.course_mut().captured, amount)?;
                add(&mut authorization.course_mut().from_hold, m.hold.get())?;
                self.insert_capture(Capture {
                    id: m.transfer,
                    payee: m.counter,
                    amount,
                    from_hold: m.hold.get(),
                    refunded: 0,
                    at: at.time,
                    authorization: position,
                    next: NOWHERE,
                    is_final: m.is_final,
                    is_on_suspense: false,
                });
            }
            Purpose::Refund | Purpose::UndoCapture => add(&mut self.capture_mut(m.capture)?.refunded, amount)?,
            Purpose::Transfer | Purpose::UndoTransfer | Purpose::UndoRefund => {}
        }
        Ok(())
    }

    /// A forced posting may have been booked on the suspense account of the payee's slot: refunds and reversals draw on that.
    fn note_where_paid(&mut self, m: &Movement, flags: Flags) {
        if flags.has(Flags::COUNTER_SUSPENSE)
            && m.purpose == Purpose::Advice
            && let Some(position) = self.capture_position(m.transfer.0)
            && let Some(capture) = self.capture_at(position)
        {
            capture.is_on_suspense = true;
        }
    }

    fn capture_mut(&mut self, id: u128) -> Result<&mut Capture, Misfit> {
        let position = self.capture_position(id).ok_or("a capture that is not in memory")?;
        self.capture_at(position).ok_or("a capture that is not there")
    }

    /// The owner's side when it ends: a refused push is debited back, a pull that was done credits.
    fn end_movement(&mut self, m: &Movement, account: u32, outcome: Outcome, at: Moment) -> Fold {
        let amount = m.amount.get();
        let is_done = outcome.is_approval();
        let owner = self.account_mut(account)?;
        match (m.purpose.is_push(), is_done) {
            (true, false) => {
                take(&mut owner.debits, if has(Bug::RefusedEndLost) { 0 } else { amount })?;
                add(&mut owner.held, m.hold.get())?;
                if m.is_counted && !has(Bug::RefusedLimitLost) {
                    owner.uncount(m.bucket, m.amount, 1);
                }
            }
            (false, true) => {
                add(&mut owner.credits, amount)?;
                if m.is_counted {
                    owner.uncount(m.bucket, m.amount, u32::from(m.is_final));
                }
            }
            (true, true) | (false, false) => {}
        }
        if m.purpose.is_forced() && !is_done {
            return Err("EXC-1: a movement that cannot be refused was refused");
        }
        if m.authorization == 0 {
            return Ok(());
        }
        let position = self.authorization_position(m.authorization).ok_or("an authorization that is not in memory")?;
        let authorization = self.authorization_at(position).ok_or("an authorization that is not there")?;
        if authorization.exchange() != 0 {
            authorization.course_mut().exchange = 0;
        }
        match (m.purpose, is_done) {
            (Purpose::Capture | Purpose::Advice, true) if m.is_final => self.close_captured(m, account, at),
            (Purpose::Capture, false) => {
                let authorization = self.authorization_at(position).ok_or("an authorization that is not there")?;
                add(&mut authorization.hold, if has(Bug::RefusedHoldLost) { 0 } else { m.hold.get() })?;
                take(&mut authorization.course_mut().captured, amount)?;
                take(&mut authorization.course_mut().from_hold, m.hold.get())?;
                self.remove_last_capture(position);
                Ok(())
            }
            (Purpose::Refund, false) | (Purpose::UndoRefund, true) => {
                take(&mut self.capture_mut(m.capture)?.refunded, amount)
            }
            (Purpose::UndoCapture, true) => {
                let capture = self.capture_mut(m.capture)?;
                take(&mut capture.refunded, amount)?;
                take(&mut capture.amount, amount)?;
                // What came from the hold returns there, or to available where the hold is closed.
                let from_hold = capture.from_hold.min(amount);
                take(&mut capture.from_hold, from_hold)?;
                if from_hold < m.hold.get() {
                    return Err("HLD-1: more returns than was taken");
                }
                let authorization = self.authorization_at(position).ok_or("an authorization that is not there")?;
                take(&mut authorization.course_mut().captured, amount)?;
                take(&mut authorization.course_mut().from_hold, from_hold)?;
                add(&mut authorization.hold, m.hold.get())?;
                add(&mut self.account_mut(account)?.held, if has(Bug::UndoneHoldStays) { 0 } else { m.hold.get() })
            }
            _ => Ok(()),
        }
    }

    /// A final capture or a matched advice releases the rest; an advice on a closed hold finds nothing to release.
    fn close_captured(&mut self, m: &Movement, account: u32, at: Moment) -> Fold {
        let rest = match self.find_authorization(m.authorization) {
            Some(authorization) if authorization.is_open() => authorization.hold.get(),
            _ => return Ok(()),
        };
        self.release(m.authorization, rest, account)?;
        self.close_hold(m.authorization, AuthorizationState::Captured, at.time)
    }

    pub(super) fn answered(&mut self, e: &Answered, at: Moment) -> Fold {
        if e.outcome.is_approval() {
            let position = self.touch(Mark { account: e.account, version: e.version, previous: e.previous }, at)?;
            let account = self.account_mut(position)?;
            let amount = e.amount.get();
            if e.purpose.is_push() {
                add(&mut account.credits, amount)?;
                self.transit(e.ledger, -amount.cast_signed())?;
            } else {
                add(&mut account.debits, amount)?;
                self.transit(e.ledger, amount.cast_signed())?;
            }
        }
        let answer = GivenAnswer { number: e.number, outcome: e.outcome, flags: e.flags };
        self.answers.forget_below(e.opener, e.oldest);
        if !self.answers.insert(e.opener, answer) {
            return Err("EXC-1: the exchange is answered already");
        }
        if has(Bug::AnswersForgotten) {
            self.answers.forget_below(e.opener, e.oldest + 1);
        }
        Ok(())
    }

    pub(super) fn ended(&mut self, e: &End, at: Moment) -> Fold {
        let exchange = self.exchanges.end(e.number).ok_or("EXC-1: the exchange is not open")?;
        if exchange.owner != e.account {
            return Err("EXC-1: the exchange was opened from another account");
        }
        let position = self.touch(Mark { account: e.account, version: e.version, previous: e.previous }, at)?;
        let m = &exchange.movement;
        self.end_movement(m, position, e.outcome, at)?;
        self.note_where_paid(m, e.flags);
        let account = self.account_mut(position)?;
        account.exchanges_open =
            account.exchanges_open.checked_sub(1).ok_or("EXC-1: more exchanges ended than opened")?;
        let version = account.version;
        let amount = m.amount.get().cast_signed();
        if m.purpose.is_push() != e.outcome.is_approval() {
            self.transit(m.ledger, -amount)?;
        }
        let key = self.key_position(exchange.account, exchange.key).ok_or("the exchange's key is not in memory")?;
        self.renew_key(key, at.time);
        self.name_authorization(m.authorization, exchange.key, at);
        self.change_key(key, |record| {
            record.exchange = 0;
            record.expires = if e.outcome.is_approval() { record.expires } else { Time(0) };
            record.outcome = e.outcome;
            record.flags = e.flags;
            record.seq = at.seq;
            record.version = version;
            if !e.outcome.is_approval() {
                record.amount = crate::amount::Amount::ZERO;
                record.transfer = 0;
                record.is_counted = false;
            }
        });
        self.note_key(key, at);
        Ok(())
    }

    fn movement_record(&self, head: &Head, m: &Movement, at: Moment, exchange: u64) -> KeyRecord {
        let other = if m.authorization == 0 { m.counter.0 } else { m.capture };
        let expires = self.find_authorization(m.authorization).map_or(Time(0), |a| a.expires);
        KeyRecord {
            amount: m.amount,
            expires,
            authorization: m.authorization,
            transfer: m.transfer.0,
            other,
            ledger: m.ledger,
            exchange,
            bucket: if m.is_counted { m.bucket } else { Bucket::default() },
            is_counted: m.is_counted && !m.purpose.is_undo(),
            ..record(head, at)
        }
    }
}
