//! An auditor that reads the journal alone: chains of legs, keys, exchanges, caps and money, folded from events by other means
//! than `evolve`.
//!
//! Invariants by name: J3 (versions gapless, chained), IDM-1 (one decision per key), EXC-1 (an exchange is answered once and ends
//! once, J1: in this order), HLD-1 (captured within what is authorized and its tolerance), refunded within captured, one undo
//! per original.

use std::collections::{BTreeMap, BTreeSet};

use tp_core::event::{Answered, Body, End, Event, Movement, Purpose};
use tp_core::ids::{AccountId, Seq, SlotIndex, Version};
use tp_core::outcome::Outcome;
use tp_core::rules::Windows;
use tp_core::time::Time;

/// Where an exchange stands.
#[derive(Clone, Debug, PartialEq)]
enum Stage {
    Opened,
    Answered(Outcome),
    Ended,
}

/// One authorization's sums.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    authorized: i128,
    released: i128,
    captured: i128,
    tolerance: i128,
}

/// What the journal says so far.
#[derive(Clone, Debug, Default)]
pub(crate) struct Audit {
    chains: BTreeMap<AccountId, (Version, Seq)>,
    posted: BTreeMap<AccountId, i128>,
    windows: Windows,
    /// Until when each key is remembered at least.
    keys: BTreeMap<(AccountId, u128), Time>,
    exchanges: BTreeMap<(SlotIndex, u64), (Stage, Movement, AccountId)>,
    authorizations: BTreeMap<u128, Sums>,
    /// Captured less undone, refunded less undone.
    captures: BTreeMap<u128, (i128, i128)>,
    undone: BTreeSet<(AccountId, u128)>,
    /// How many legs of each kind of event were seen.
    pub(crate) kinds: BTreeMap<&'static str, u64>,
}

impl Audit {
    /// Of a directory with these windows.
    pub(crate) fn new(windows: Windows) -> Self {
        Self { windows, ..Self::default() }
    }

    /// Version, last event and posted balance of an account.
    pub(crate) fn stands(&self, account: AccountId) -> (Version, Seq, i128) {
        let (version, seq) = self.chains.get(&account).copied().unwrap_or_default();
        (version, seq, self.posted.get(&account).copied().unwrap_or_default())
    }

    /// No exchange is open.
    pub(crate) fn check_rest(&self) {
        let open: Vec<_> = self.exchanges.iter().filter(|(_, (stage, ..))| *stage != Stage::Ended).collect();
        assert!(open.is_empty(), "EXC-1: open at rest: {open:?}");
    }

    /// Takes the next event.
    pub(crate) fn observe(&mut self, seq: Seq, event: &Event) {
        *self.kinds.entry(event.body.name()).or_default() += 1;
        event.body.each_leg(|leg| {
            let Some(account) = leg.account else { return };
            let (version, last) = self.chains.get(&account).copied().unwrap_or_default();
            let follows = (Version(version.0 + 1), last);
            assert_eq!((leg.version, leg.previous), follows, "J3: {account:?} at {seq} in {event:?}");
            self.chains.insert(account, (leg.version, seq));
        });
        if let Some(head) = event.body.head() {
            let key = head.full_key();
            let until = self.windows.key_end(key.kind, event.time, key.own_time());
            let before = self.keys.insert((head.account, head.key), until);
            assert!(before.is_none_or(|until| until <= event.time), "IDM-1: {key:?} is decided twice: {event:?}");
        }
        match &event.body {
            Body::Authorized(e) => {
                let (authorized, tolerance) = (signed(e.amount.get()), i128::from(e.tolerance_bp));
                let sums = Sums { authorized, tolerance, ..Sums::default() };
                assert!(self.authorizations.insert(e.authorization.0, sums).is_none(), "ids are unique: {event:?}");
            }
            Body::Incremented(e) => self.sums(e.authorization.0).authorized += signed(e.amount.get()),
            Body::Released(e) => {
                let sums = self.sums(e.authorization.0);
                sums.released += signed(e.amount.get());
                assert!(sums.released <= sums.authorized, "HLD-1: {event:?}");
            }
            Body::Moved(e) => {
                let owner = owner_of(event);
                self.decide(e.head.account, &e.movement);
                self.move_money(owner, &e.movement, e.movement.purpose.is_push());
                self.move_money(e.counter, &e.movement, !e.movement.purpose.is_push());
            }
            Body::Opened(e) => {
                let owner = owner_of(event);
                self.decide(e.head.account, &e.movement);
                if e.movement.purpose.is_push() {
                    self.move_money(owner, &e.movement, true);
                }
                let id = (e.head.slot, e.number);
                let fresh = self.exchanges.insert(id, (Stage::Opened, e.movement, owner)).is_none();
                assert!(fresh, "EXC-1: number {id:?} is used twice");
            }
            Body::Answered(e) => self.answer(e),
            Body::Ended(e) => e.ends.iter().for_each(|end| self.end(end)),
            _ => {}
        }
    }

    fn sums(&mut self, authorization: u128) -> &mut Sums {
        self.authorizations.get_mut(&authorization).expect("J1: made before it is used")
    }

    fn move_money(&mut self, account: AccountId, movement: &Movement, is_debit: bool) {
        let amount = signed(movement.amount.get());
        *self.posted.entry(account).or_default() += if is_debit { -amount } else { amount };
    }

    fn answer(&mut self, e: &Answered) {
        let (stage, movement, _) =
            self.exchanges.get_mut(&(e.opener, e.number)).expect("J1: opened before it is answered");
        assert_eq!(*stage, Stage::Opened, "EXC-1: answered once: {e:?}");
        *stage = Stage::Answered(e.outcome);
        let movement = *movement;
        assert_eq!((e.amount, e.transfer, e.purpose), (movement.amount, movement.transfer, movement.purpose));
        if e.outcome == Outcome::Approved {
            self.move_money(e.account, &movement, !movement.purpose.is_push());
        } else {
            assert!(!movement.purpose.is_forced(), "a forced movement is not refused: {e:?}");
        }
    }

    fn end(&mut self, e: &End) {
        let (stage, movement, owner) = self.exchanges.get_mut(&(e.slot, e.number)).expect("J1: opened before it ends");
        let Stage::Answered(outcome) = *stage else { panic!("EXC-1: {e:?} ends from {stage:?}") };
        *stage = Stage::Ended;
        let (movement, owner) = (*movement, *owner);
        let approved = outcome == Outcome::Approved;
        assert_eq!(e.outcome.is_approval(), approved, "the end says what the answer said: {e:?} {outcome}");
        match (approved, movement.purpose.is_push()) {
            (false, true) => {
                assert_eq!(e.account, owner, "what was debited is given back");
                self.move_money(owner, &movement, false);
            }
            (true, false) => self.move_money(e.account, &movement, false),
            _ => {}
        }
        if !approved {
            self.apply(&movement, -1);
        }
    }

    /// Caps, at the moment of the owner's decision.
    fn decide(&mut self, owner: AccountId, m: &Movement) {
        if m.purpose.is_undo() {
            assert!(self.undone.insert((owner, m.original)), "one undo per original: {m:?}");
        }
        self.apply(m, 1);
        if m.purpose == Purpose::Capture {
            let s = self.sums(m.authorization);
            let cap = (s.authorized - s.released) * (10_000 + s.tolerance) / 10_000;
            assert!(s.captured <= cap, "HLD-1: captured {} of {cap}: {m:?}", s.captured);
        }
        if matches!(m.purpose, Purpose::Refund | Purpose::UndoCapture | Purpose::UndoRefund) {
            let (captured, refunded) = self.captures[&m.capture];
            assert!(0 <= refunded && refunded <= captured, "refunded {refunded} of {captured}: {m:?}");
        }
    }

    /// Adds a movement to the sums of its authorization and capture, or takes it out again.
    fn apply(&mut self, m: &Movement, sign: i128) {
        let amount = sign * signed(m.amount.get());
        match m.purpose {
            Purpose::Capture | Purpose::Advice if m.authorization != 0 => {
                self.sums(m.authorization).captured += amount;
                self.captures.entry(m.transfer.0).or_default().0 += amount;
            }
            Purpose::Refund => self.captures.entry(m.capture).or_default().1 += amount,
            Purpose::UndoRefund => self.captures.entry(m.capture).or_default().1 -= amount,
            Purpose::UndoCapture => {
                self.sums(m.authorization).captured -= amount;
                self.captures.entry(m.capture).or_default().0 -= amount;
            }
            Purpose::Capture | Purpose::Advice | Purpose::Transfer | Purpose::UndoTransfer => {}
        }
    }
}

fn signed(amount: u128) -> i128 {
    i128::try_from(amount).expect("an amount is below 2^96")
}

/// The account of the owner's leg.
fn owner_of(event: &Event) -> AccountId {
    let mut owner = None;
    event.body.each_leg(|leg| owner = owner.or(leg.account));
    owner.expect("money moves from or to an account")
}
