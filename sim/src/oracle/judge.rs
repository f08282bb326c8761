//! What the life cycle says to a command, on the world as it stands.

use tp_core::amount::{Amount, Ledger};
use tp_core::authorization::CAPTURES_MAX;
use tp_core::command::{self, Advice, Command, RefundTarget, Settings, Status, Verb};
use tp_core::event::{Body, Head, Movement, Purpose};
use tp_core::ids::AccountId;
use tp_core::key::{Key, KeyKind};
use tp_core::outcome::Outcome;
use tp_core::reply::{AuthorizationState, Flags};
use tp_core::time::{Bucket, Time};

use super::{Account, Capture, Hold, Known, Oracle, Wrong, ensure, money};

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing moves: a refusal, or an approval without effect.
    Note(Outcome),
    Settle(Settings),
    Tombstone(Key),
    Hold {
        place: AccountId,
        amount: i128,
        outcome: Outcome,
        flags: Flags,
        payee: u128,
        expires: Time,
        tolerance: u16,
        bucket: Bucket,
    },
    Raise {
        hold: u128,
        amount: i128,
        expires: Time,
        bucket: Bucket,
    },
    Release {
        hold: u128,
        amount: i128,
        state: AuthorizationState,
        undo: Option<(Key, Bucket, u8)>,
    },
    Move(Move),
}

/// Money between two accounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Move {
    pub(super) purpose: Purpose,
    /// Where the owner's legs go.
    pub(super) place: AccountId,
    /// Whom the other side names, and where its leg goes, if that is decided here.
    pub(super) counter: AccountId,
    pub(super) paid: Option<AccountId>,
    pub(super) ledger: Ledger,
    pub(super) amount: i128,
    pub(super) hold: u128,
    pub(super) capture: u128,
    /// Taken from the hold, or returned into it.
    pub(super) from_hold: i128,
    pub(super) bucket: Bucket,
    pub(super) counted: bool,
    pub(super) is_final: bool,
    pub(super) original: Option<Key>,
    pub(super) outcome: Outcome,
    pub(super) flags: Flags,
}

type Refused = Outcome;

fn require(holds: bool, refusal: Outcome) -> Result<(), Refused> {
    if holds { Ok(()) } else { Err(refusal) }
}

fn debitable(account: &Account) -> Result<(), Refused> {
    require(account.settings.status != Status::Closed, Outcome::AccountClosed)?;
    require(account.settings.status == Status::Open, Outcome::AccountFrozen)
}

/// What limits and funds leave of an amount, each guard with its refusal, in their order.
fn rooms(account: &Account, bucket: Bucket) -> [(i128, Outcome); 6] {
    const ALL: i128 = i128::MAX;
    let [day, month] = account.used(bucket);
    let count = |(limit, used): (command::PeriodLimit, (i128, i128))| {
        limit.count.map_or(ALL, |max| if used.0 >= i128::from(max) { 0 } else { ALL })
    };
    let sum = |(limit, used): (command::PeriodLimit, (i128, i128))| limit.amount.map_or(ALL, |max| money(max) - used.1);
    [
        (account.settings.limits.command_amount.map_or(ALL, money), Outcome::AmountLimit),
        (count(day), Outcome::CountLimit),
        (count(month), Outcome::CountLimit),
        (sum(day), Outcome::AmountLimit),
        (sum(month), Outcome::AmountLimit),
        (account.available().unwrap_or(ALL), Outcome::InsufficientFunds),
    ]
}

impl Oracle {
    /// `is_remote`: the other side is asked later.
    pub(super) fn judge(
        &self,
        at: Time,
        command: &Command,
        owner: AccountId,
        is_remote: bool,
    ) -> Result<Verdict, Wrong> {
        let verdict = match command {
            Command::OpenAccount(c) => self.open_account(c),
            Command::UpdateAccount(c) => self.settle(c.account, |old| Settings {
                status: c.status.unwrap_or(old.status),
                credit_limit: c.credit_limit.unwrap_or(old.credit_limit),
                limits: c.limits.unwrap_or(old.limits),
                ..old
            }),
            Command::CloseAccount(c) => self.close_account(c.account),
            Command::Authorize(c) => self.authorize(at, c),
            Command::Increment(c) => self.increment(at, c),
            Command::Capture(c) => self.capture(at, c),
            Command::Void(c) => self.void(at, c),
            Command::Refund(c) => self.refund(at, c),
            Command::Reverse(c) => self.reverse(at, c),
            Command::Advise(c) => Ok(self.advise(at, c)),
            Command::Transfer(c) => self.transfer(at, c),
            Command::Lookup(_) | Command::Read(_) | Command::Record(_) => return Err("it decides nothing".into()),
        };
        let verdict = match verdict.map_err(Verdict::Note) {
            Ok(Verdict::Move(m)) if !is_remote => {
                let side = self.counter_side(m.purpose, m.counter, m.ledger, m.amount);
                side.map_or_else(Verdict::Note, |(paid, flags)| {
                    Verdict::Move(Move { paid: Some(paid), flags: m.flags.with(flags), ..m })
                })
            }
            Ok(verdict) | Err(verdict) => verdict,
        };
        Ok(verdict.on_suspense(owner))
    }

    /// The other side of a movement: where its leg goes.
    pub(super) fn counter_side(
        &self,
        purpose: Purpose,
        counter: AccountId,
        ledger: Ledger,
        amount: i128,
    ) -> Result<(AccountId, Flags), Refused> {
        let suspense = |paid: AccountId| Flags::COUNTER_SUSPENSE.when(paid.suspense().is_some());
        if purpose.is_forced() {
            let paid = self.forced(counter, self.seed.slot_of(counter), ledger);
            let overdrawn = !purpose.is_push() && self.overdraws(paid, amount);
            return Ok((paid, suspense(paid).with(Flags::OVERDRAWN.when(overdrawn))));
        }
        let payee = self.accounts.get(&counter).ok_or(Outcome::PayeeNotFound)?;
        require(payee.settings.ledger == ledger, Outcome::WrongLedger)?;
        require(payee.settings.status != Status::Closed, Outcome::PayeeClosed)?;
        require(payee.settings.status != Status::Frozen, Outcome::PayeeFrozen)?;
        if !purpose.is_push() {
            require(payee.settings.status == Status::Open, Outcome::PayeeFrozen)?;
            require(!self.overdraws(counter, amount), Outcome::InsufficientFunds)?;
        }
        Ok((counter, suspense(counter)))
    }

    fn existing(&self, account: AccountId) -> &Account {
        &self.accounts[&account] // a decision without it is no event, and `take` tests the leg first
    }

    fn open_account(&self, c: &command::OpenAccount) -> Result<Verdict, Refused> {
        match self.accounts.get(&c.account).filter(|a| a.version > 1) {
            Some(a) => {
                require(a.settings == c.settings, Outcome::AccountExists).map(|()| Verdict::Note(Outcome::Approved))
            }
            None => Ok(Verdict::Settle(c.settings)),
        }
    }

    fn settle(&self, account: AccountId, change: impl Fn(Settings) -> Settings) -> Result<Verdict, Refused> {
        let settings = self.existing(account).settings;
        require(settings.status != Status::Closed, Outcome::AccountClosed)?;
        Ok(Verdict::Settle(change(settings)))
    }

    fn close_account(&self, id: AccountId) -> Result<Verdict, Refused> {
        let closed = self.settle(id, |old| Settings { status: Status::Closed, ..old })?;
        let a = self.existing(id);
        let has_hold = self.holds.values().any(|h| h.place == id && h.state == AuthorizationState::Open);
        let is_empty = a.credits == a.debits && a.held == 0 && !has_hold && a.exchanges == 0;
        require(is_empty, Outcome::AccountNotEmpty).map(|()| closed)
    }

    fn bucket(&self, at: Time, ledger: Ledger) -> Bucket {
        Bucket::of(at, self.rules.policy(ledger).utc_offset_minutes)
    }

    fn expiry(&self, at: Time, ledger: Ledger, lifetime_ms: Option<u64>) -> Time {
        let policy = self.rules.policy(ledger);
        at.plus_ms(lifetime_ms.unwrap_or(policy.hold_lifetime_ms_default).min(policy.hold_lifetime_ms_max))
    }

    fn authorize(&self, at: Time, c: &command::Authorize) -> Result<Verdict, Refused> {
        let account = self.existing(c.account);
        require(account.settings.ledger == c.ledger, Outcome::WrongLedger)?;
        debitable(account)?;
        if c.amount.is_zero() {
            return Ok(Verdict::Note(Outcome::AccountValid));
        }
        let (asked, bucket) = (money(c.amount), self.bucket(at, c.ledger));
        let rooms = rooms(account, bucket);
        let refusal = |below: i128| rooms.iter().find(|(room, _)| *room < below).map(|(_, refusal)| *refusal);
        let amount = rooms.iter().fold(asked, |least, (room, _)| least.min(*room));
        if let Some(refused) = refusal(if c.allow_partial { 1 } else { asked }) {
            return Err(refused);
        }
        Ok(Verdict::Hold {
            place: c.account,
            amount,
            outcome: if amount == asked { Outcome::Approved } else { Outcome::ApprovedPartially },
            flags: Flags::NONE,
            payee: c.payee.map_or(0, |payee| payee.0),
            expires: self.expiry(at, c.ledger, c.lifetime_ms),
            tolerance: c.tolerance_bp.min(self.rules.policy(c.ledger).tolerance_bp_max),
            bucket,
        })
    }

    /// An open hold; expired is tested before not open.
    fn open_hold(&self, at: Time, id: u128) -> Result<&Hold, Refused> {
        let hold = self.visible_hold(id, at).ok_or(Outcome::SystemError)?; // unknown: no event
        let is_open = hold.state == AuthorizationState::Open;
        require(hold.state != AuthorizationState::Expired && !(is_open && at >= hold.expires), Outcome::HoldExpired)?;
        require(is_open, Outcome::HoldNotOpen).map(|()| hold)
    }

    fn ledger_of(&self, hold: &Hold) -> Ledger {
        self.existing(hold.place).settings.ledger
    }

    fn increment(&self, at: Time, c: &command::Increment) -> Result<Verdict, Refused> {
        let hold = self.open_hold(at, c.authorization.0)?;
        let (ledger, amount) = (self.ledger_of(hold), money(c.amount));
        let bucket = if amount == 0 { Bucket::default() } else { self.bucket(at, ledger) };
        if amount > 0 {
            let account = self.existing(hold.place);
            debitable(account)?;
            rooms(account, bucket).into_iter().try_for_each(|(room, refusal)| require(amount <= room, refusal))?;
            require(hold.authorized + amount <= money(Amount::MAX), Outcome::InvalidAmount)?;
        }
        let extended = c.lifetime_ms.map_or(Time(0), |_| self.expiry(at, ledger, c.lifetime_ms));
        Ok(Verdict::Raise { hold: c.authorization.0, amount, expires: hold.expires.max(extended), bucket })
    }

    fn plain(purpose: Purpose, place: AccountId, counter: AccountId, ledger: Ledger, amount: i128) -> Move {
        let (paid, hold, capture, from_hold, original) = (None, 0, 0, 0, None);
        let (bucket, counted, is_final) = (Bucket::default(), false, false);
        let outcome = match purpose {
            Purpose::Advice => Outcome::AdviceAccepted,
            Purpose::UndoTransfer | Purpose::UndoCapture | Purpose::UndoRefund => Outcome::ReversalAccepted,
            Purpose::Transfer | Purpose::Capture | Purpose::Refund => Outcome::Approved,
        };
        let flags = Flags::NONE;
        Move {
            purpose,
            place,
            counter,
            paid,
            ledger,
            amount,
            hold,
            capture,
            from_hold,
            bucket,
            counted,
            is_final,
            original,
            outcome,
            flags,
        }
    }

    fn capture(&self, at: Time, c: &command::Capture) -> Result<Verdict, Refused> {
        let (hold, amount) = (self.open_hold(at, c.authorization.0)?, money(c.amount));
        require(hold.payee == 0 || hold.payee == c.payee.0, Outcome::PayeeNotFound)?;
        require(hold.captures.len() < CAPTURES_MAX as usize, Outcome::CountLimit)?;
        let ceiling = (hold.authorized - hold.released) * (10_000 + hold.tolerance) / 10_000;
        require(hold.captured + amount <= ceiling, Outcome::AboveHold)?;
        let over = amount > hold.held;
        let overdrawn = over && self.overdraws(hold.place, amount - hold.held);
        let plain = Self::plain(Purpose::Capture, hold.place, c.payee, self.ledger_of(hold), amount);
        Ok(Verdict::Move(Move {
            hold: c.authorization.0,
            from_hold: amount.min(hold.held),
            is_final: c.is_final,
            outcome: if overdrawn { Outcome::ApprovedOverdrawn } else { Outcome::Approved },
            flags: Flags::OVER_HOLD.when(over).with(Flags::OVERDRAWN.when(overdrawn)),
            ..plain
        }))
    }

    fn void(&self, at: Time, c: &command::Void) -> Result<Verdict, Refused> {
        let hold = self.open_hold(at, c.authorization.0)?;
        require(hold.held > 0, Outcome::NothingLeft)?;
        let amount = c.amount.map_or(hold.held, money);
        require(amount <= hold.held, Outcome::AboveHold)?;
        let state = if amount == hold.held { AuthorizationState::Voided } else { AuthorizationState::Open };
        Ok(Verdict::Release { hold: c.authorization.0, amount, state, undo: None })
    }

    fn refund(&self, at: Time, c: &command::Refund) -> Result<Verdict, Refused> {
        let id = match c.target {
            RefundTarget::Authorization(id) => id.0,
            RefundTarget::Capture(id) => *self.capture_holds.get(&id.0).ok_or(Outcome::SystemError)?,
        };
        let (hold, amount) = (self.visible_hold(id, at).ok_or(Outcome::SystemError)?, money(c.amount));
        let capture = match (c.target, &hold.captures[..]) {
            (RefundTarget::Authorization(_), [only]) => only,
            (RefundTarget::Authorization(_), _) => return Err(Outcome::OriginalNotFound),
            (RefundTarget::Capture(id), all) => all.iter().find(|c| c.id == id.0).ok_or(Outcome::SystemError)?,
        };
        require(at <= capture.at.plus_ms(self.rules.windows.refund_ms), Outcome::RefundWindowPassed)?;
        require(amount <= capture.amount - capture.refunded, Outcome::AboveCaptured)?;
        require(self.existing(hold.place).settings.status != Status::Frozen, Outcome::AccountFrozen)?;
        Ok(Verdict::Move(Move { hold: id, capture: capture.id, ..self.pull(Purpose::Refund, hold, capture, amount) }))
    }

    /// A movement back from where a capture was paid to.
    fn pull(&self, purpose: Purpose, hold: &Hold, capture: &Capture, amount: i128) -> Move {
        let ledger = self.ledger_of(hold);
        let place = self.forced(hold.place, self.seed.slot_of(hold.payer), ledger);
        Self::plain(purpose, place, self.paid(capture.payee, ledger, capture.on_suspense), ledger, amount)
    }

    fn paid(&self, payee: AccountId, ledger: Ledger, on_suspense: bool) -> AccountId {
        if on_suspense { AccountId::suspense_of(self.seed.slot_of(payee), ledger) } else { payee }
    }

    fn transfer(&self, at: Time, c: &command::Transfer) -> Result<Verdict, Refused> {
        let account = self.existing(c.account);
        require(account.settings.ledger == c.ledger, Outcome::WrongLedger)?;
        debitable(account)?;
        let (amount, bucket) = (money(c.amount), self.bucket(at, c.ledger));
        rooms(account, bucket).into_iter().try_for_each(|(room, refusal)| require(amount <= room, refusal))?;
        let plain = Self::plain(Purpose::Transfer, c.account, c.payee, c.ledger, amount);
        Ok(Verdict::Move(Move { bucket, counted: true, ..plain }))
    }

    fn advise(&self, at: Time, c: &command::Advise) -> Verdict {
        let (amount, bucket, slot) = (money(c.amount), self.bucket(at, c.ledger), self.seed.slot_of(c.account));
        let place = self.forced(c.account, slot, c.ledger);
        let overdrawn = |place, amount| Flags::OVERDRAWN.when(self.overdraws(place, amount));
        match c.advice {
            Advice::Declined => Verdict::Note(Outcome::AdviceAccepted),
            Advice::Hold { lifetime_ms, payee } => Verdict::Hold {
                place,
                amount,
                outcome: Outcome::AdviceAccepted,
                flags: overdrawn(place, amount),
                payee: payee.map_or(0, |payee| payee.0),
                expires: self.expiry(at, c.ledger, lifetime_ms),
                tolerance: 0,
                bucket,
            },
            Advice::Post { payee, authorization } => {
                let plain = Self::plain(Purpose::Advice, place, payee, c.ledger, amount);
                let its = |h: &&Hold| h.payer == c.account && self.ledger_of(h) == c.ledger;
                let Some(id) = authorization.filter(|id| self.visible_hold(id.0, at).as_ref().is_some_and(its)) else {
                    let flags = Flags::UNMATCHED.with(overdrawn(place, amount));
                    return Verdict::Move(Move { bucket, counted: true, flags, ..plain });
                };
                let hold = &self.holds[&id.0];
                let is_open = hold.state == AuthorizationState::Open;
                let place = self.forced(hold.place, slot, c.ledger);
                let flags = Flags::UNMATCHED.when(!is_open).with(overdrawn(place, amount - hold.held));
                let from_hold = if is_open { amount.min(hold.held) } else { 0 };
                Verdict::Move(Move { place, hold: id.0, from_hold, is_final: true, flags, ..plain })
            }
        }
    }

    fn reverse(&self, at: Time, c: &command::Reverse) -> Result<Verdict, Refused> {
        let accepted = Ok(Verdict::Note(Outcome::ReversalAccepted));
        let Some(known) = self.visible_key(c.account, c.original, at) else {
            let since = self.opaque_since.get(&self.seed.slot_of(c.account));
            let cannot_have_passed = match c.original.kind {
                KeyKind::UuidV7 => !self.is_out_of_window(c.original, at),
                KeyKind::Opaque => since.is_none_or(|s| at < self.rules.windows.key_end(KeyKind::Opaque, *s, None)),
            };
            return if cannot_have_passed {
                Ok(Verdict::Tombstone(c.original))
            } else {
                Err(Outcome::OriginalNotFound)
            };
        };
        if known.is_barred || !known.told.outcome.is_approval() || known.reversed {
            return accepted;
        }
        let left = c.new_total.map_or(0, money);
        let hold = self.visible_hold(known.told.authorization, at);
        let reachable = |used: i128| require(left == 0 || left >= used, Outcome::FurtherActivity);
        let undoing = |m: Move| Ok(Verdict::Move(Move { original: Some(c.original), ..m }));
        let capture_of = |id: u128| hold.and_then(|h| h.captures.iter().find(|c| c.id == id).map(|c| (h, c)));
        match &known.command {
            Command::Authorize(_)
            | Command::Advise(command::Advise { advice: Advice::Hold { .. } | Advice::Declined, .. }) => {
                let Some(h) = hold else { return accepted };
                reachable(h.captured)?;
                let stands = h.authorized - h.released;
                if h.state != AuthorizationState::Open || left >= stands {
                    return accepted;
                }
                let amount = if left == 0 { h.held } else { h.held.min(stands - left) };
                let state = if left == 0 { AuthorizationState::Reversed } else { AuthorizationState::Open };
                let uncounted = u8::from(left == 0 && h.captured == 0);
                Ok(Verdict::Release {
                    hold: known.told.authorization,
                    amount,
                    state,
                    undo: Some((c.original, known.bucket, uncounted)),
                })
            }
            Command::Increment(_) => {
                let Some(h) = hold.filter(|h| h.state == AuthorizationState::Open) else { return accepted };
                if left >= known.told.amount {
                    return accepted;
                }
                let amount = h.held.min(known.told.amount - left);
                let undo = Some((c.original, known.bucket, u8::from(amount == known.told.amount)));
                Ok(Verdict::Release { hold: known.told.authorization, amount, state: AuthorizationState::Open, undo })
            }
            Command::Capture(_) | Command::Advise(_) if known.told.authorization != 0 => {
                let Some((h, taken)) = capture_of(known.told.transfer) else { return accepted };
                reachable(taken.refunded)?;
                let amount = taken.amount - taken.amount.min(left.max(taken.refunded));
                if amount == 0 {
                    return accepted;
                }
                let returns = h.state == AuthorizationState::Open && !taken.is_final;
                let from_hold = if returns { amount.min(taken.from_hold) } else { 0 };
                let pull = self.pull(Purpose::UndoCapture, h, taken, amount);
                undoing(Move { hold: known.told.authorization, capture: taken.id, from_hold, ..pull })
            }
            Command::Refund(_) => {
                let Some((h, taken)) = capture_of(known.capture) else { return accepted };
                let amount = known.told.amount - left;
                if amount <= 0 {
                    return accepted;
                }
                let pull = Move { place: self.booked(known), ..self.pull(Purpose::UndoRefund, h, taken, amount) };
                let flags = Flags::OVERDRAWN.when(self.overdraws(pull.place, amount));
                undoing(Move { hold: known.told.authorization, capture: taken.id, flags, ..pull })
            }
            Command::Transfer(command::Transfer { payee, .. })
            | Command::Advise(command::Advise { advice: Advice::Post { payee, .. }, .. }) => {
                let amount = known.told.amount - left;
                if amount <= 0 {
                    return accepted;
                }
                let counter = self.paid(*payee, known.ledger, known.told.flags.has(Flags::COUNTER_SUSPENSE));
                let plain = Self::plain(Purpose::UndoTransfer, self.booked(known), counter, known.ledger, amount);
                undoing(Move { bucket: known.bucket, counted: known.counted, is_final: left == 0, ..plain })
            }
            _ => Err(Outcome::NotReversible),
        }
    }

    /// Where the owner's side of an earlier movement is undone: where it was booked, if that takes forced legs.
    fn booked(&self, known: &Known) -> AccountId {
        let (account, slot) = (known.told.account, self.seed.slot_of(known.told.account));
        let suspense = AccountId::suspense_of(slot, known.ledger);
        let booked = if known.told.flags.has(Flags::SUSPENSE) { suspense } else { account };
        self.forced(booked, slot, known.ledger)
    }
}

impl Verdict {
    /// A leg that does not touch the key's own account is flagged.
    fn on_suspense(mut self, owner: AccountId) -> Self {
        match &mut self {
            Self::Hold { place, flags, .. } | Self::Move(Move { place, flags, .. }) => {
                *flags = flags.with(Flags::SUSPENSE.when(*place != owner));
            }
            _ => {}
        }
        self
    }

    /// What the event's head must say.
    fn head(&self, oracle: &Oracle, account: AccountId) -> (Outcome, Flags) {
        let suspense = |id: &u128| Flags::SUSPENSE.when(oracle.holds.get(id).is_some_and(|h| h.place != account));
        match self {
            Self::Note(outcome) => (*outcome, Flags::NONE),
            Self::Settle(_) => (Outcome::Approved, Flags::NONE),
            Self::Tombstone(_) => (Outcome::ReversalAccepted, Flags::NONE),
            Self::Hold { outcome, flags, .. } => (*outcome, *flags),
            Self::Raise { hold, .. } => (Outcome::Approved, suspense(hold)),
            Self::Release { hold, undo, .. } => {
                (if undo.is_some() { Outcome::ReversalAccepted } else { Outcome::Approved }, suspense(hold))
            }
            Self::Move(m) => (m.outcome, m.flags),
        }
    }

    /// Whether the event says what was decided here.
    pub(super) fn compare(&self, oracle: &Oracle, body: &Body) -> Result<(), Wrong> {
        let head = body.head().ok_or("no head")?;
        let said = match body {
            Body::Noted(_) => Self::Note(head.outcome),
            Body::Settled(e) => Self::Settle(e.settings),
            Body::Tombstoned(e) => Self::Tombstone(Key { bits: e.original, kind: e.original_kind }),
            Body::Authorized(e) => Self::Hold {
                place: leg_of(body),
                amount: money(e.amount),
                outcome: head.outcome,
                flags: head.flags,
                payee: head.rare.as_ref().map_or(0, |rare| rare.payee),
                expires: e.expires,
                tolerance: e.tolerance_bp,
                bucket: e.bucket,
            },
            Body::Incremented(e) => {
                Self::Raise { hold: e.authorization.0, amount: money(e.amount), expires: e.expires, bucket: e.bucket }
            }
            Body::Released(e) => {
                let undo = (Key { bits: e.original, kind: e.original_kind }, e.bucket, e.uncounted);
                let undo = (head.verb == Verb::Reverse).then_some(undo);
                Self::Release { hold: e.authorization.0, amount: money(e.amount), state: e.state, undo }
            }
            Body::Moved(e) => said_of(oracle, &e.movement, Some(e.counter), body, head)?,
            Body::Opened(e) => said_of(oracle, &e.movement, None, body, head)?,
            _ => return Err(format!("no decision: {body:?}")),
        };
        let (outcome, flags) = self.head(oracle, head.account);
        ensure((head.outcome, head.flags) == (outcome, flags), || format!("the oracle says {outcome} {flags:?}"))?;
        ensure(*self == said, || format!("the oracle decides {self:?}"))
    }
}

/// What an event says of a movement; `paid`: where the other side's leg goes, if it is in the same event.
fn said_of(oracle: &Oracle, m: &Movement, paid: Option<AccountId>, body: &Body, head: &Head) -> Result<Verdict, Wrong> {
    ensure(m.counter_slot == oracle.seed.slot_of(m.counter), || format!("another slot: {m:?}"))?;
    Ok(Verdict::Move(Move {
        purpose: m.purpose,
        place: leg_of(body),
        counter: m.counter,
        paid,
        ledger: m.ledger,
        amount: money(m.amount),
        hold: m.authorization,
        capture: m.capture,
        from_hold: money(m.hold),
        bucket: m.bucket,
        counted: m.is_counted,
        is_final: m.is_final,
        original: m.purpose.is_undo().then_some(Key { bits: m.original, kind: m.original_kind }),
        outcome: head.outcome,
        flags: head.flags,
    }))
}

/// The account of the owner's leg.
fn leg_of(body: &Body) -> AccountId {
    let mut account = None;
    body.each_leg(|leg| account = account.or(leg.account));
    account.unwrap_or(AccountId(0))
}
