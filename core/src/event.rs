//! Events: recorded facts with their outcomes, version 1 of their form in the journal.
//!
//! An event carries results (amounts, the bucket counted, the new expiry), never inputs to a rule. It has *legs*: each leg
//! touches one slot only, names its account, that account's version after it and the sequence number of the event that
//! touched the account before (J3). The types below are frozen: a change is a new version beside them, with its own
//! archived types, turned into the current ones when read.
//!
//! ```text
//! one slot:        Settled  Noted  Tombstoned  Fenced  Authorized  Incremented  Released  Expired  Forgotten  Recorded
//! two slots:       Moved (owner's leg, counter's leg)                    both in one partition
//! an exchange:     Opened (owner) --> Answered (counter) --> Ended (owner; several ends in one event)
//! ```

use rkyv::{Archive, Deserialize, Serialize};

use crate::amount::{Amount, Ledger};
use crate::command::{Settings, Verb};
use crate::ids::{AccountId, AuthorizationId, Seq, SlotIndex, TransferId, Version};
use crate::key::{Fingerprint, Key, KeyKind};
use crate::outcome::Outcome;
use crate::reply::{AuthorizationState, Flags};
use crate::time::{Bucket, Date, Time};

/// A recorded fact. Its sequence number is its position in the journal.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    /// When it was decided.
    pub time: Time,
    /// What was decided.
    pub body: Body,
}

/// What was decided.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Body {
    /// An account was opened, updated or closed.
    Settled(Settled),
    /// A decision that moves nothing: a refusal, an account check, an accepted reversal or advice without effect.
    Noted(Noted),
    /// A reversal of an unknown original was accepted; the original can no longer execute.
    Tombstoned(Tombstoned),
    /// A lookup forbade an unknown command.
    Fenced(Fenced),
    /// A hold was made.
    Authorized(Authorized),
    /// A hold was raised or its expiry extended.
    Incremented(Incremented),
    /// Part or all of a hold was released on request or undone.
    Released(Released),
    /// A hold was released by time.
    Expired(Expired),
    /// Money moved between two accounts whose slots lie in one partition.
    Moved(Box<Moved>),
    /// The first of an exchange's three events: the owner's side.
    Opened(Box<Opened>),
    /// The second: the other side.
    Answered(Answered),
    /// The third: the owner's side again.
    Ended(Ended),
    /// An opener has nothing open below a number: its answers need not be remembered.
    Forgotten(Forgotten),
    /// Opaque bytes of a layer above.
    Recorded(Recorded),
}

/// The owner's leg of an event and the key that it decided: what all decided events share.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Head {
    /// The account that the key is scoped to. Also the leg's account, unless `flags` has `SUSPENSE`.
    pub account: AccountId,
    /// The key's bits.
    pub key: u128,
    /// The leg's version; zero: the account does not exist, no leg.
    pub version: Version,
    /// The event that touched the leg's account before.
    pub previous: Seq,
    /// Of the command's body.
    pub fingerprint: Fingerprint,
    /// What is seldom there.
    pub rare: Option<Box<Rare>>,
    /// The owner's slot.
    pub slot: SlotIndex,
    /// The caller's value date; day 0: none.
    pub value_date: Date,
    /// The key's kind.
    pub key_kind: KeyKind,
    /// The command's kind.
    pub verb: Verb,
    /// The decision.
    pub outcome: Outcome,
    /// Remarks.
    pub flags: Flags,
}

impl Head {
    /// The key.
    pub const fn full_key(&self) -> Key {
        Key { bits: self.key, kind: self.key_kind }
    }
}

/// Parts of a decided event that are seldom there, kept out of line.
#[derive(Clone, PartialEq, Eq, Debug, Default, Archive, Serialize, Deserialize)]
pub struct Rare {
    /// The caller's metadata, encoded.
    pub metadata: Vec<u8>,
    /// The payee fixed by an authorization; zero: none.
    pub payee: u128,
    /// The amount asked for, where it is not the amount approved; zero: as approved.
    pub requested: u128,
    /// The ledger of an authorization booked on a suspense account; zero: the account's own.
    pub ledger: u64,
}

/// An account was opened, updated or closed.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Settled {
    /// Owner and key.
    pub head: Head,
    /// All settings after it.
    pub settings: Settings,
}

/// A decision that moves nothing.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Noted {
    /// Owner, key and outcome.
    pub head: Head,
    /// The amount asked for.
    pub amount: Amount,
    /// The authorization, capture or original's key that the command named; zero: none.
    pub target: u128,
}

/// A reversal of an unknown original.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Tombstoned {
    /// Owner and key of the reversal.
    pub head: Head,
    /// The original's key bits.
    pub original: u128,
    /// The original's key kind.
    pub original_kind: KeyKind,
}

/// A fence on an unknown command. No leg: it is not a decision about the account.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Fenced {
    /// Whose key.
    pub account: AccountId,
    /// The key's bits.
    pub key: u128,
    /// The account's slot.
    pub slot: SlotIndex,
    /// The key's kind.
    pub key_kind: KeyKind,
}

/// A hold was made.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Authorized {
    /// Payer and key.
    pub head: Head,
    /// The authorization made.
    pub authorization: AuthorizationId,
    /// What is held.
    pub amount: Amount,
    /// When the hold expires.
    pub expires: Time,
    /// The capture tolerance granted, 1/10,000.
    pub tolerance_bp: u16,
    /// The bucket that the amount was counted in.
    pub bucket: Bucket,
}

/// A hold was raised or its expiry extended.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Incremented {
    /// Payer and key.
    pub head: Head,
    /// Whose hold.
    pub authorization: AuthorizationId,
    /// By how much.
    pub amount: Amount,
    /// When it expires now.
    pub expires: Time,
    /// The bucket that the amount was counted in.
    pub bucket: Bucket,
}

/// Part or all of a hold was released.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Released {
    /// Payer and key.
    pub head: Head,
    /// Whose hold.
    pub authorization: AuthorizationId,
    /// How much.
    pub amount: Amount,
    /// The original's key bits, for a reversal; zero with an opaque kind: a void.
    pub original: u128,
    /// The original's key kind.
    pub original_kind: KeyKind,
    /// How the authorization stands after it.
    pub state: AuthorizationState,
    /// The bucket that is given back to, for a reversal.
    pub bucket: Bucket,
    /// How many commands are given back.
    pub uncounted: u8,
}

/// A hold was released by time.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Expired {
    /// The payer.
    pub account: AccountId,
    /// Whose hold.
    pub authorization: AuthorizationId,
    /// How much was still held.
    pub amount: Amount,
    /// The leg's version.
    pub version: Version,
    /// The event that touched the account before.
    pub previous: Seq,
    /// The payer's slot.
    pub slot: SlotIndex,
}

/// Why money moves; decides what open, answer and end do.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Archive, Serialize, Deserialize)]
#[repr(u8)]
pub enum Purpose {
    /// A transfer: owner pays counter.
    Transfer = 0,
    /// A capture: the payer of the authorization pays the payee.
    Capture = 1,
    /// A posted advice: as a capture or transfer, never refused.
    Advice = 2,
    /// A refund: the payee of a capture pays back.
    Refund = 3,
    /// The reversal of a transfer or of an advice without authorization.
    UndoTransfer = 4,
    /// The reversal of a capture or of an advice with authorization.
    UndoCapture = 5,
    /// The reversal of a refund: the payer pays again.
    UndoRefund = 6,
}

impl Purpose {
    /// A push debits the owner first; a pull debits the counter first and credits the owner at the end.
    pub const fn is_push(self) -> bool {
        matches!(self, Self::Transfer | Self::Capture | Self::Advice | Self::UndoRefund)
    }
    /// Reversals and advices are never refused for funds or status.
    pub const fn is_forced(self) -> bool {
        matches!(self, Self::Advice | Self::UndoTransfer | Self::UndoCapture | Self::UndoRefund)
    }
    /// Whether it undoes an earlier command.
    pub const fn is_undo(self) -> bool {
        matches!(self, Self::UndoTransfer | Self::UndoCapture | Self::UndoRefund)
    }
    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Transfer => "transfer",
            Self::Capture => "capture",
            Self::Advice => "advice",
            Self::Refund => "refund",
            Self::UndoTransfer => "undo_transfer",
            Self::UndoCapture => "undo_capture",
            Self::UndoRefund => "undo_refund",
        }
    }
}

/// A movement of money between the owner of a key and a counter-account.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Movement {
    /// The transfer made.
    pub transfer: TransferId,
    /// How much.
    pub amount: Amount,
    /// The other account, as the command or capture named it.
    pub counter: AccountId,
    /// The authorization that it works on; zero: none.
    pub authorization: u128,
    /// The capture that is refunded, undone, or whose refund is undone; zero: none.
    pub capture: u128,
    /// The original's key bits, for a reversal.
    pub original: u128,
    /// Of a capture or advice: what it takes from the hold. Of an undone capture: what returns into the hold.
    pub hold: Amount,
    /// Both accounts' ledger.
    pub ledger: Ledger,
    /// The bucket that the amount was counted in, or is given back to.
    pub bucket: Bucket,
    /// The counter-account's slot.
    pub counter_slot: SlotIndex,
    /// Why.
    pub purpose: Purpose,
    /// The original's key kind.
    pub original_kind: KeyKind,
    /// Whether it is counted in the bucket, or given back to it.
    pub is_counted: bool,
    /// Whether the rest of the hold is released at the end.
    pub is_final: bool,
}

impl Movement {
    /// Whether slot and amounts are in their ranges: tested for whatever is read from a file.
    pub(crate) fn is_in_range(&self) -> bool {
        let is_slot = SlotIndex::new(self.counter_slot.get()).is_some();
        is_slot && self.amount <= Amount::MAX && self.hold <= self.amount
    }
}

/// Money moved between two accounts whose slots lie in one partition.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Moved {
    /// Owner and key.
    pub head: Head,
    /// What moved.
    pub movement: Movement,
    /// The account that the counter's leg touches: the counter-account, or its slot's suspense account.
    pub counter: AccountId,
    /// The counter's leg's version.
    pub counter_version: Version,
    /// The event that touched the counter's account before.
    pub counter_previous: Seq,
}

/// An exchange was opened.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Opened {
    /// Owner and key.
    pub head: Head,
    /// What shall move.
    pub movement: Movement,
    /// The exchange's number in the opener slot.
    pub number: u64,
}

/// An exchange was answered.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Answered {
    /// The account touched, or that would have been.
    pub account: AccountId,
    /// The transfer.
    pub transfer: TransferId,
    /// How much.
    pub amount: Amount,
    /// The leg's version; zero: refused, no leg.
    pub version: Version,
    /// The event that touched the account before.
    pub previous: Seq,
    /// The exchange's number in the opener slot.
    pub number: u64,
    /// The opener slot's oldest open number: answers below it are forgotten.
    pub oldest: u64,
    /// The ledger of the amount.
    pub ledger: Ledger,
    /// The opener slot.
    pub opener: SlotIndex,
    /// The answering slot.
    pub slot: SlotIndex,
    /// Why.
    pub purpose: Purpose,
    /// `approved`, or why not.
    pub outcome: Outcome,
    /// Remarks.
    pub flags: Flags,
}

/// One end.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct End {
    /// The account touched.
    pub account: AccountId,
    /// The leg's version.
    pub version: Version,
    /// The event that touched the account before.
    pub previous: Seq,
    /// The exchange's number in this slot.
    pub number: u64,
    /// The opener slot.
    pub slot: SlotIndex,
    /// The reply's outcome.
    pub outcome: Outcome,
    /// Remarks of both sides.
    pub flags: Flags,
}

/// Exchanges ended, in their order.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Ended {
    /// At least one.
    pub ends: Vec<End>,
}

/// Answers to an opener slot below a number are forgotten.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Forgotten {
    /// The opener slot has nothing open below it.
    pub below: u64,
    /// The opener slot.
    pub opener: SlotIndex,
    /// The slot that forgets.
    pub slot: SlotIndex,
}

/// Opaque bytes of a layer above.
#[derive(Clone, PartialEq, Eq, Debug, Archive, Serialize, Deserialize)]
pub struct Recorded {
    /// The layer's stream number.
    pub stream: u32,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// Which leg of an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The leg of the slot that owns the decision.
    Owner,
    /// The other leg of [`Moved`].
    Counter,
    /// The n-th of [`Ended`].
    End(usize),
}

/// One leg: which slot and account it touches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leg {
    /// The slot.
    pub slot: SlotIndex,
    /// Its place in the event.
    pub role: Role,
    /// The account touched; `None`: the slot only.
    pub account: Option<AccountId>,
    /// The account's version after it; zero: the slot only.
    pub version: Version,
    /// The event that touched the account before.
    pub previous: Seq,
}

impl Body {
    /// The stable name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Settled(_) => "settled",
            Self::Noted(_) => "noted",
            Self::Tombstoned(_) => "tombstoned",
            Self::Fenced(_) => "fenced",
            Self::Authorized(_) => "authorized",
            Self::Incremented(_) => "incremented",
            Self::Released(_) => "released",
            Self::Expired(_) => "expired",
            Self::Moved(_) => "moved",
            Self::Opened(_) => "opened",
            Self::Answered(_) => "answered",
            Self::Ended(_) => "ended",
            Self::Forgotten(_) => "forgotten",
            Self::Recorded(_) => "recorded",
        }
    }

    /// Owner and key, where a command was decided.
    pub const fn head(&self) -> Option<&Head> {
        match self {
            Self::Settled(e) => Some(&e.head),
            Self::Noted(e) => Some(&e.head),
            Self::Tombstoned(e) => Some(&e.head),
            Self::Authorized(e) => Some(&e.head),
            Self::Incremented(e) => Some(&e.head),
            Self::Released(e) => Some(&e.head),
            Self::Moved(e) => Some(&e.head),
            Self::Opened(e) => Some(&e.head),
            Self::Fenced(_)
            | Self::Expired(_)
            | Self::Answered(_)
            | Self::Ended(_)
            | Self::Forgotten(_)
            | Self::Recorded(_) => None,
        }
    }

    fn head_mut(&mut self) -> Option<&mut Head> {
        match self {
            Self::Settled(e) => Some(&mut e.head),
            Self::Noted(e) => Some(&mut e.head),
            Self::Tombstoned(e) => Some(&mut e.head),
            Self::Authorized(e) => Some(&mut e.head),
            Self::Incremented(e) => Some(&mut e.head),
            Self::Released(e) => Some(&mut e.head),
            Self::Moved(e) => Some(&mut e.head),
            Self::Opened(e) => Some(&mut e.head),
            Self::Fenced(_)
            | Self::Expired(_)
            | Self::Answered(_)
            | Self::Ended(_)
            | Self::Forgotten(_)
            | Self::Recorded(_) => None,
        }
    }

    /// The account that the owner's leg touches.
    pub(crate) fn owner_account(&self, head: &Head) -> AccountId {
        if !head.flags.has(Flags::SUSPENSE) {
            return head.account;
        }
        let ledger = match self {
            Self::Moved(e) => e.movement.ledger,
            Self::Opened(e) => e.movement.ledger,
            _ => head.rare.as_ref().map_or(Ledger::from_bits(0), |rare| Ledger::from_bits(rare.ledger)),
        };
        AccountId::suspense_of(head.slot, ledger)
    }

    /// Calls back with each leg in order.
    pub fn each_leg(&self, mut visit: impl FnMut(Leg)) {
        let leg = |slot, role, account, version: Version, previous| Leg {
            slot,
            role,
            account: (version != Version(0)).then_some(account),
            version,
            previous,
        };
        if let Some(head) = self.head() {
            visit(leg(head.slot, Role::Owner, self.owner_account(head), head.version, head.previous));
        }
        match self {
            Self::Moved(e) => {
                visit(leg(e.movement.counter_slot, Role::Counter, e.counter, e.counter_version, e.counter_previous));
            }
            Self::Fenced(e) => visit(leg(e.slot, Role::Owner, e.account, Version(0), Seq::ZERO)),
            Self::Expired(e) => visit(leg(e.slot, Role::Owner, e.account, e.version, e.previous)),
            Self::Answered(e) => visit(leg(e.slot, Role::Owner, e.account, e.version, e.previous)),
            Self::Ended(e) => {
                for (n, end) in e.ends.iter().enumerate() {
                    visit(leg(end.slot, Role::End(n), end.account, end.version, end.previous));
                }
            }
            Self::Forgotten(e) => visit(leg(e.slot, Role::Owner, AccountId(0), Version(0), Seq::ZERO)),
            _ => {}
        }
    }

    /// Turns the provisional numbers of a turn into real ones.
    pub(crate) fn stamp(&mut self, first: Seq) {
        if let Some(head) = self.head_mut() {
            head.previous = head.previous.stamped(first);
        }
        match self {
            Self::Moved(e) => e.counter_previous = e.counter_previous.stamped(first),
            Self::Expired(e) => e.previous = e.previous.stamped(first),
            Self::Answered(e) => e.previous = e.previous.stamped(first),
            Self::Ended(e) => {
                for end in &mut e.ends {
                    end.previous = end.previous.stamped(first);
                }
            }
            _ => {}
        }
    }

    /// Whether ids, slots and amounts are in their ranges: tested for whatever is read from a file.
    pub(crate) fn is_in_range(&self) -> bool {
        let amount = match self {
            Self::Noted(e) => e.amount,
            Self::Authorized(e) => e.amount,
            Self::Incremented(e) => e.amount,
            Self::Released(e) => e.amount,
            Self::Expired(e) => e.amount,
            Self::Answered(e) => e.amount,
            _ => Amount::ZERO,
        };
        let mut slots_are_valid = true;
        self.each_leg(|leg| slots_are_valid &= SlotIndex::new(leg.slot.get()).is_some());
        let rest_is_valid = match self {
            Self::Answered(e) => SlotIndex::new(e.opener.get()).is_some(),
            Self::Forgotten(e) => SlotIndex::new(e.opener.get()).is_some(),
            Self::Opened(e) => e.movement.is_in_range(),
            Self::Moved(e) => e.movement.is_in_range(),
            Self::Settled(e) => e.settings.is_in_range(),
            _ => true,
        };
        amount <= Amount::MAX && slots_are_valid && rest_is_valid
    }
}
