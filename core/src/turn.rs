//! What goes into a partition's turn and what comes out of it: plain data, so that tests compare effects.

use crate::amount::{Amount, Ledger};
use crate::command::Command;
use crate::event::{Event, Purpose};
use crate::ids::{AccountId, Seq, SlotIndex, TransferId};
use crate::outcome::Outcome;
use crate::reply::{Flags, Reply};
use crate::scope::Carried;
use crate::time::Time;

/// A command handed in, and how its submitter is found again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Submission {
    /// The submitter's own mark, given back with the answer.
    pub ticket: u64,
    /// Until when it must be decided, on the caller's monotonic clock, ms.
    pub deadline_ms: u64,
    /// What it may be decided on. Kept while it waits.
    pub scope: Carried,
    /// What is asked.
    pub command: Command,
}

/// A reply on its way: it may leave once the event `after` is durable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The submitter's mark.
    pub ticket: u64,
    /// Until when the submitter waits, on the caller's monotonic clock, ms.
    pub deadline_ms: u64,
    /// All that it reveals has a sequence number up to this one (J2). [`Seq::ZERO`]: it may leave at once.
    pub after: Seq,
    /// The reply.
    pub reply: Reply,
}

/// A message between partitions. Between two partitions messages are first in, first out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// An exchange was opened: answer it.
    Open(OpenMessage),
    /// The answer to an exchange.
    Answer(AnswerMessage),
    /// A slot still remembers answers to exchanges of an opener slot: may it forget?
    Ask {
        /// The slot that remembers.
        from: SlotIndex,
        /// The opener slot.
        to: SlotIndex,
    },
    /// The opener slot has nothing open below a number.
    Forget {
        /// The opener slot.
        from: SlotIndex,
        /// The slot that may forget.
        to: SlotIndex,
        /// Its answers below this number.
        below: u64,
    },
}

impl Message {
    /// The slot that it is for.
    pub const fn to(&self) -> SlotIndex {
        match self {
            Self::Open(m) => m.to,
            Self::Answer(m) => m.to,
            Self::Ask { to, .. } | Self::Forget { to, .. } => *to,
        }
    }
}

/// An exchange was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OpenMessage {
    /// The opener slot.
    pub from: SlotIndex,
    /// The answering slot.
    pub to: SlotIndex,
    /// The exchange's number in the opener slot.
    pub number: u64,
    /// The opener slot's oldest open number.
    pub oldest: u64,
    /// The other account.
    pub account: AccountId,
    /// The ledger of the amount.
    pub ledger: Ledger,
    /// How much.
    pub amount: Amount,
    /// Why.
    pub purpose: Purpose,
    /// The transfer.
    pub transfer: TransferId,
}

/// The answer to an exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AnswerMessage {
    /// The opener slot.
    pub to: SlotIndex,
    /// The exchange's number in the opener slot.
    pub number: u64,
    /// `approved`, or why not.
    pub outcome: Outcome,
    /// Remarks of the answering side.
    pub flags: Flags,
}

/// What a partition takes beside its peers' messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Admission {
    /// Everything.
    #[default]
    Open,
    /// The disk is full: commands that would change state are answered `no_space`, expiries wait, exchanges already open finish.
    NoSpace,
    /// The engine closes: commands are answered `stopping`, exchanges already open finish.
    Stopping,
}

/// The frame of one turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Turn {
    /// Engine time, the same for the whole turn. Never below that of the turn before.
    pub now: Time,
    /// The caller's monotonic clock, ms, on which deadlines are counted.
    pub monotonic_ms: u64,
    /// At most so many expiries.
    pub expiries_max: usize,
    /// What is taken.
    pub admission: Admission,
}

/// What a turn made. Empty it before the next one; its capacity is kept.
#[derive(Debug, Default)]
pub struct Output {
    /// In order; their numbers are consecutive from the first one drawn.
    pub events: Vec<Event>,
    /// To submitters.
    pub answers: Vec<Answer>,
    /// To other partitions (or this one), to be sent after the events are in the ring.
    pub messages: Vec<Message>,
}

impl Output {
    /// Forgets everything, keeps the capacity.
    pub fn clear(&mut self) {
        self.events.clear();
        self.answers.clear();
        self.messages.clear();
    }
}
