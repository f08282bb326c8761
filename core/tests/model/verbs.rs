//! The model's verbs: each one guards, then changes the world. Owns every rule but those of reversals.

use tp_core::amount::{Amount, Ledger};
use tp_core::command::{
    Advice, Advise, Authorize, Capture, Command, Increment, Refund, RefundTarget, Status, Transfer, Void,
};
use tp_core::command::{OpenAccount, UpdateAccount};
use tp_core::ids::{AccountId, AuthorizationId, TransferId};
use tp_core::outcome::Outcome;
use tp_core::reply::{AuthorizationState, Flags};
use tp_core::time::{Bucket, Time};

use super::{Account, Decision, Effect, Hold, Made, Model, Verdict, money};

const CAPTURES_MAX: usize = 150;
/// Stands in where the engine made no id although the model expects one, so that the comparison fails and not the model.
const NO_AUTHORIZATION: AuthorizationId = AuthorizationId(0);
const NO_TRANSFER: TransferId = TransferId(0);

impl Model {
    pub(super) fn decide(&mut self, now: Time, command: &Command, made: Made) -> Verdict {
        match command {
            Command::OpenAccount(c) => self.open_account(c),
            Command::UpdateAccount(c) => self.update_account(c),
            Command::CloseAccount(c) => self.close_account(c.account),
            Command::Authorize(c) => self.authorize(now, c, made),
            Command::Increment(c) => self.increment(now, c),
            Command::Capture(c) => self.capture(now, c, made),
            Command::Void(c) => self.void(c),
            Command::Refund(c) => self.refund(now, c, made),
            Command::Reverse(c) => self.reverse(now, c),
            Command::Advise(c) => Ok(self.advise(now, c, made)),
            Command::Transfer(c) => self.transfer(now, c, made),
            Command::Lookup(_) | Command::Read(_) | Command::Record(_) => Err(Outcome::Malformed),
        }
    }

    fn open_account(&mut self, c: &OpenAccount) -> Verdict {
        match self.accounts.get(&c.account) {
            Some(account) if account.settings != c.settings => return Err(Outcome::AccountExists),
            Some(_) => {}
            None => {
                self.accounts.insert(c.account, Account::new(c.settings));
            }
        }
        Ok(Decision::new(Outcome::Approved, 0, Effect::NeverReversible))
    }

    fn update_account(&mut self, c: &UpdateAccount) -> Verdict {
        let settings = &mut self.account(c.account).settings;
        if settings.status == Status::Closed {
            return Err(Outcome::AccountClosed);
        }
        settings.status = c.status.unwrap_or(settings.status);
        settings.credit_limit = c.credit_limit.unwrap_or(settings.credit_limit);
        settings.limits = c.limits.unwrap_or(settings.limits);
        Ok(Decision::new(Outcome::Approved, 0, Effect::NeverReversible))
    }

    fn close_account(&mut self, id: AccountId) -> Verdict {
        let has_open_hold = self.holds.iter().any(|hold| hold.place == id && hold.is_open());
        let account = self.account(id);
        if account.settings.status == Status::Closed {
            return Err(Outcome::AccountClosed);
        }
        if account.posted() != 0 || account.held != 0 || has_open_hold {
            return Err(Outcome::AccountNotEmpty);
        }
        account.settings.status = Status::Closed;
        Ok(Decision::new(Outcome::Approved, 0, Effect::NeverReversible))
    }

    fn bucket(&self, now: Time, ledger: Ledger) -> Bucket {
        Bucket::of(now, self.rules.policy(ledger).utc_offset_minutes)
    }
    fn expiry(&self, now: Time, ledger: Ledger, lifetime: Option<u64>) -> Time {
        let policy = self.rules.policy(ledger);
        now.plus_ms(lifetime.unwrap_or(policy.hold_lifetime_ms_default).min(policy.hold_lifetime_ms_max))
    }

    /// Ledger and status of an account that is newly debited.
    fn may_be_debited(&self, id: AccountId, ledger: Ledger) -> Result<(), Outcome> {
        let settings = &self.accounts[&id].settings;
        if settings.ledger != ledger {
            return Err(Outcome::WrongLedger);
        }
        match settings.status {
            Status::Closed => Err(Outcome::AccountClosed),
            Status::Frozen | Status::DebitFrozen => Err(Outcome::AccountFrozen),
            Status::Open => Ok(()),
        }
    }

    /// Ledger and status of an account that is newly credited, as the payer sees it.
    fn may_be_paid(&self, id: AccountId, ledger: Ledger) -> Result<(), Outcome> {
        let settings = &self.accounts.get(&id).ok_or(Outcome::PayeeNotFound)?.settings;
        if settings.ledger != ledger {
            return Err(Outcome::WrongLedger);
        }
        match settings.status {
            Status::Closed => Err(Outcome::PayeeClosed),
            Status::Frozen => Err(Outcome::PayeeFrozen),
            Status::Open | Status::DebitFrozen => Ok(()),
        }
    }

    /// What limits and funds allow of `amount`: all of it, or with `partial` what is left, if anything.
    fn room(&self, id: AccountId, amount: i128, bucket: Bucket, partial: bool) -> Result<i128, Outcome> {
        let account = &self.accounts[&id];
        let [day, month] = account.used(bucket);
        let count = |(limit, used): (tp_core::command::PeriodLimit, (i128, i128))| {
            limit.count.filter(|max| used.0 >= i128::from(*max)).map(|_| 0)
        };
        let sum =
            |(limit, used): (tp_core::command::PeriodLimit, (i128, i128))| limit.amount.map(|max| money(max) - used.1);
        let caps = [
            (account.settings.limits.command_amount.map(money), Outcome::AmountLimit),
            (count(day), Outcome::CountLimit),
            (count(month), Outcome::CountLimit),
            (sum(day), Outcome::AmountLimit),
            (sum(month), Outcome::AmountLimit),
            (account.available(), Outcome::InsufficientFunds),
        ];
        let mut granted = amount;
        for (cap, refusal) in caps {
            let Some(cap) = cap else { continue };
            if granted > cap && (!partial || cap <= 0) {
                return Err(refusal);
            }
            granted = granted.min(cap);
        }
        Ok(granted)
    }

    fn authorize(&mut self, now: Time, c: &Authorize, made: Made) -> Verdict {
        self.may_be_debited(c.account, c.ledger)?;
        if c.amount.is_zero() {
            return Ok(Decision::new(Outcome::AccountValid, 0, Effect::Nothing));
        }
        let bucket = self.bucket(now, c.ledger);
        let asked = money(c.amount);
        let amount = self.room(c.account, asked, bucket, c.allow_partial)?;
        self.account(c.account).count(bucket, 1, amount);
        let tolerance = c.tolerance_bp.min(self.rules.policy(c.ledger).tolerance_bp_max);
        let id = made.authorization.unwrap_or(NO_AUTHORIZATION);
        let hold = self.hold(id, c.account, c.account, c.ledger, amount);
        self.holds[hold].payee = c.payee;
        self.holds[hold].tolerance = i128::from(tolerance);
        self.holds[hold].expires = self.expiry(now, c.ledger, c.lifetime_ms);
        self.holds[hold].bucket = bucket;
        let outcome = if amount == asked { Outcome::Approved } else { Outcome::ApprovedPartially };
        Ok(self.held(Decision::new(outcome, amount, Effect::Authorized { hold }), hold))
    }

    /// Makes a hold on `place`.
    fn hold(
        &mut self,
        id: AuthorizationId,
        account: AccountId,
        place: AccountId,
        ledger: Ledger,
        amount: i128,
    ) -> usize {
        self.account(place).held += amount;
        self.holds.push(Hold {
            id,
            account,
            place,
            ledger,
            payee: None,
            tolerance: 0,
            authorized: amount,
            released: 0,
            held: amount,
            expires: Time(0),
            state: AuthorizationState::Open,
            bucket: Bucket::default(),
            captures: Vec::new(),
        });
        self.holds.len() - 1
    }
    /// A decision about a hold says its id and expiry.
    fn held(&self, decision: Decision, hold: usize) -> Decision {
        let (authorization, expires) = (Some(self.holds[hold].id), Some(self.holds[hold].expires));
        Decision { authorization, expires, ..decision }
    }

    fn open_hold(&self, id: AuthorizationId) -> Result<usize, Outcome> {
        let hold = self.hold_of(id).ok_or(Outcome::OriginalNotFound)?;
        match self.holds[hold].state {
            AuthorizationState::Expired => Err(Outcome::HoldExpired),
            AuthorizationState::Open => Ok(hold),
            _ => Err(Outcome::HoldNotOpen),
        }
    }

    fn increment(&mut self, now: Time, c: &Increment) -> Verdict {
        let hold = self.open_hold(c.authorization)?;
        let (place, ledger) = (self.holds[hold].place, self.holds[hold].ledger);
        let (amount, bucket) = (money(c.amount), self.bucket(now, ledger));
        if amount > 0 {
            self.may_be_debited(place, ledger)?;
            if self.holds[hold].authorized + amount > money(Amount::MAX) {
                return Err(Outcome::InvalidAmount);
            }
            self.room(place, amount, bucket, false)?;
            self.account(place).count(bucket, 1, amount);
            self.account(place).held += amount;
            self.holds[hold].authorized += amount;
            self.holds[hold].held += amount;
        }
        if c.lifetime_ms.is_some() {
            let expires = self.expiry(now, ledger, c.lifetime_ms);
            self.holds[hold].expires = self.holds[hold].expires.max(expires);
        }
        let effect = Effect::Incremented { hold, amount, bucket };
        let decision = Decision { flags: suspense(place), ..Decision::new(Outcome::Approved, amount, effect) };
        Ok(self.held(decision, hold))
    }

    fn capture(&mut self, now: Time, c: &Capture, made: Made) -> Verdict {
        if self.hold_of(c.authorization).is_some_and(|hold| self.holds[hold].account == c.payee) {
            return Err(Outcome::Malformed);
        }
        let hold = self.open_hold(c.authorization)?;
        let (h, amount) = (&self.holds[hold], money(c.amount));
        if h.payee.is_some_and(|payee| payee != c.payee) {
            return Err(Outcome::PayeeNotFound);
        }
        if h.captures.len() >= CAPTURES_MAX {
            return Err(Outcome::CountLimit);
        }
        if h.captured() + amount > (h.authorized - h.released) * (10_000 + h.tolerance) / 10_000 {
            return Err(Outcome::AboveHold);
        }
        self.may_be_paid(c.payee, h.ledger)?;
        let (place, over) = (h.place, amount > h.held);
        let capture =
            self.book_capture(now, hold, (c.payee, c.payee), amount, c.is_final, made.transfer.unwrap_or(NO_TRANSFER));
        self.pay(place, c.payee, amount);
        let overdrawn = over && self.is_overdrawn(place);
        let outcome = if overdrawn { Outcome::ApprovedOverdrawn } else { Outcome::Approved };
        let effect = Effect::Captured { hold, capture };
        let decision = Decision::new(outcome, amount, effect);
        let flags = Flags::OVER_HOLD.when(over).with(Flags::OVERDRAWN.when(overdrawn));
        let transfer = Some(self.holds[hold].captures[capture].id);
        let authorization = Some(c.authorization);
        Ok(Decision { flags: flags.with(suspense(place)), transfer, authorization, ..decision })
    }

    /// Records a capture, takes what there is from the hold, and closes it if this is the last one.
    fn book_capture(
        &mut self,
        at: Time,
        hold: usize,
        (payee, paid): (AccountId, AccountId),
        amount: i128,
        is_final: bool,
        id: TransferId,
    ) -> usize {
        let h = &mut self.holds[hold];
        let from_hold = amount.min(h.held);
        h.captures.push(super::Capture { id, payee, paid, amount, refunded: 0, from_hold, at, is_final });
        h.held -= from_hold;
        let freed = if is_final && h.is_open() { h.held } else { 0 };
        if is_final && h.is_open() {
            h.held = 0;
            h.state = AuthorizationState::Captured;
        }
        let (place, capture) = (h.place, h.captures.len() - 1);
        self.account(place).held -= from_hold + freed;
        capture
    }

    fn void(&mut self, c: &Void) -> Verdict {
        let hold = self.open_hold(c.authorization)?;
        let held = self.holds[hold].held;
        if held == 0 {
            return Err(Outcome::NothingLeft);
        }
        let amount = c.amount.map_or(held, money);
        if amount > held {
            return Err(Outcome::AboveHold);
        }
        self.release(hold, amount);
        if amount == held {
            self.holds[hold].state = AuthorizationState::Voided;
        }
        let decision = Decision::new(Outcome::Approved, amount, Effect::NeverReversible);
        let flags = suspense(self.holds[hold].place);
        Ok(Decision { authorization: Some(c.authorization), flags, ..decision })
    }

    pub(super) fn release(&mut self, hold: usize, amount: i128) {
        let h = &mut self.holds[hold];
        h.released += amount;
        h.held -= amount;
        let place = h.place;
        self.account(place).held -= amount;
    }

    fn refund(&mut self, now: Time, c: &Refund, made: Made) -> Verdict {
        let (hold, capture) = match c.target {
            RefundTarget::Capture(id) => self.capture_of(id).ok_or(Outcome::OriginalNotFound)?,
            RefundTarget::Authorization(id) => {
                let hold = self.hold_of(id).ok_or(Outcome::OriginalNotFound)?;
                if self.holds[hold].captures.len() != 1 {
                    return Err(Outcome::OriginalNotFound);
                }
                (hold, 0)
            }
        };
        let (h, amount) = (&self.holds[hold], money(c.amount));
        let (taken, payer, ledger) = (&h.captures[capture], h.account, h.ledger);
        if now > taken.at.plus_ms(self.rules.windows.refund_ms) {
            return Err(Outcome::RefundWindowPassed);
        }
        if amount > taken.amount - taken.refunded {
            return Err(Outcome::AboveCaptured);
        }
        let (payee, is_on_suspense) = (taken.paid, taken.paid.suspense().is_some());
        let place = self.payer_place(hold);
        if self.accounts[&place].settings.status == Status::Frozen {
            return Err(Outcome::AccountFrozen);
        }
        debug_assert!(place == payer || place.suspense().is_some());
        // Money that went to a suspense account is refunded from there, whatever became of the payee.
        if !is_on_suspense {
            self.may_be_paid(payee, ledger)?;
        }
        if self.accounts[&payee].settings.status == Status::DebitFrozen {
            return Err(Outcome::PayeeFrozen);
        }
        if self.accounts[&payee].available().is_some_and(|available| available < amount) {
            return Err(Outcome::InsufficientFunds);
        }
        self.pay(payee, place, amount);
        self.holds[hold].captures[capture].refunded += amount;
        let decision = Decision::new(Outcome::Approved, amount, Effect::Refunded { hold, capture, amount });
        let transfer = Some(made.transfer.unwrap_or(NO_TRANSFER));
        Ok(Decision { flags: suspense(place).with(counter_suspense(payee)), transfer, ..decision })
    }

    /// Where the payee's side of a capture is undone: where it was booked, if that takes forced postings.
    pub(super) fn paid_place(&mut self, hold: usize, capture: usize) -> AccountId {
        let (paid, ledger) = (self.holds[hold].captures[capture].paid, self.holds[hold].ledger);
        if paid.suspense().is_some() { paid } else { self.place(paid, ledger) }
    }

    /// Where the payer's side of an authorization is booked now.
    pub(super) fn payer_place(&mut self, hold: usize) -> AccountId {
        let h = &self.holds[hold];
        if h.place.suspense().is_some() { h.place } else { self.place(h.account, h.ledger) }
    }

    fn transfer(&mut self, now: Time, c: &Transfer, made: Made) -> Verdict {
        self.may_be_debited(c.account, c.ledger)?;
        let (amount, bucket) = (money(c.amount), self.bucket(now, c.ledger));
        self.room(c.account, amount, bucket, false)?;
        self.may_be_paid(c.payee, c.ledger)?;
        self.account(c.account).count(bucket, 1, amount);
        self.pay(c.account, c.payee, amount);
        let effect = Effect::Paid { payee: c.payee, ledger: c.ledger, amount, bucket };
        let transfer = Some(made.transfer.unwrap_or(NO_TRANSFER));
        Ok(Decision { transfer, ..Decision::new(Outcome::Approved, amount, effect) })
    }

    fn advise(&mut self, now: Time, c: &Advise, made: Made) -> Decision {
        match c.advice {
            Advice::Hold { lifetime_ms, payee } => self.advise_hold(now, c, lifetime_ms, payee, made),
            Advice::Post { payee, authorization } => self.advise_post(now, c, payee, authorization, made),
            Advice::Declined => Decision::new(Outcome::AdviceAccepted, 0, Effect::Nothing),
        }
    }

    fn advise_hold(
        &mut self,
        now: Time,
        c: &Advise,
        life: Option<u64>,
        payee: Option<AccountId>,
        made: Made,
    ) -> Decision {
        let (place, amount) = (self.place(c.account, c.ledger), money(c.amount));
        let bucket = self.bucket(now, c.ledger);
        self.account(place).count(bucket, 1, amount);
        let hold = self.hold(made.authorization.unwrap_or(NO_AUTHORIZATION), c.account, place, c.ledger, amount);
        self.holds[hold].payee = payee;
        self.holds[hold].expires = self.expiry(now, c.ledger, life);
        self.holds[hold].bucket = bucket;
        let decision = Decision::new(Outcome::AdviceAccepted, amount, Effect::Authorized { hold });
        let flags = suspense(place).with(Flags::OVERDRAWN.when(self.is_overdrawn(place)));
        self.held(Decision { flags, ..decision }, hold)
    }

    fn advise_post(
        &mut self,
        now: Time,
        c: &Advise,
        to: AccountId,
        id: Option<AuthorizationId>,
        made: Made,
    ) -> Decision {
        let (amount, bucket) = (money(c.amount), self.bucket(now, c.ledger));
        let is_its = |hold: &usize| self.holds[*hold].account == c.account && self.holds[*hold].ledger == c.ledger;
        let hold = id.and_then(|id| self.hold_of(id)).filter(is_its);
        let matched = hold.is_some_and(|hold| self.holds[hold].is_open());
        let place = match hold {
            Some(hold) => self.payer_place(hold),
            None => self.place(c.account, c.ledger),
        };
        let payee = self.place(to, c.ledger);
        let transfer = made.transfer.unwrap_or(NO_TRANSFER);
        let effect = match hold {
            None => Effect::Paid { payee: to, ledger: c.ledger, amount, bucket },
            Some(hold) => {
                let capture = self.book_capture(now, hold, (to, payee), amount, true, transfer);
                Effect::Captured { hold, capture }
            }
        };
        if hold.is_none() {
            // What an authorization was made for is counted already, and neither void nor expiry gave it back.
            self.account(place).count(bucket, 1, amount);
        }
        self.pay(place, payee, amount);
        let flags = Flags::UNMATCHED.when(!matched).with(suspense(place)).with(counter_suspense(payee));
        let flags = flags.with(Flags::OVERDRAWN.when(self.is_overdrawn(place)));
        let decision = Decision::new(Outcome::AdviceAccepted, amount, effect);
        Decision { flags, transfer: Some(transfer), ..decision }
    }
}

pub(super) fn suspense(place: AccountId) -> Flags {
    Flags::SUSPENSE.when(place.suspense().is_some())
}
pub(super) fn counter_suspense(place: AccountId) -> Flags {
    Flags::COUNTER_SUSPENSE.when(place.suspense().is_some())
}
