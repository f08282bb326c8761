//! The partition as a plain state machine: turns over its slots. Time, messages, commands in; events, answers, messages out.
//!
//! ```text
//! answers --> ends (one event) \
//! opens   --> answers           \
//! expiries due                   >--> decide --> event --> evolve --> answer to the submitter, message to a peer
//! what waited for an exchange   /
//! commands                     /
//! ```
//!
//! Events carry provisional numbers until [`Partition::stamp`]: the caller draws the turn's numbers once it is over. Refuses
//! to know: threads, rings, the journal, wall clocks. Invariants: J1 messages leave after the events that caused them; J2
//! every answer says what must be durable before it; EXC-1; at most [`WAITING_MAX`] commands wait for one exchange.

mod ahead;
mod expiries;
mod memory;

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use tp_planted::{Bug, has};

use crate::command::Command;
use crate::copying::SlotPart;
use crate::decide::{self, Decision, Scene};
use crate::event::{Body, End, Ended, Event, Recorded};
use crate::evolve::EvolveError;
use crate::ids::{AccountId, AuthorizationId, Seq, SlotIndex, SlotSeed};
use crate::key::Key;
use crate::outcome::Outcome;
use crate::reply::Reply;
use crate::rules::Rules;
use crate::scope::{Carried, Scope};
use crate::slot::Slot;
pub use crate::stats::PartitionStats;
use crate::time::{Bucket, Time};
use crate::turn::{Admission, Answer, AnswerMessage, Message, OpenMessage, Output, Submission, Turn};
use crate::wheel::Wheel;
use ahead::{Ahead, LOOK_AHEAD};

/// At most so many commands wait for one exchange; further ones are answered `busy`.
pub const WAITING_MAX: usize = 8;
/// At most so many openers are asked in one idle call what may be forgotten.
pub const ASKS_MAX: usize = 16;

/// An exchange: the opener slot and its number there.
type ExchangeId = (SlotIndex, u64);

/// An exchange that ended in this turn.
struct EndedExchange {
    id: ExchangeId,
    account: AccountId,
    key: Key,
    authorization: u128,
}

/// A submitter whose reply comes with the end of an exchange.
struct Owed {
    ticket: u64,
    deadline_ms: u64,
    scope: Carried,
}

/// The slots that one actor owns, and what is under way in them.
pub struct Partition {
    slots: Vec<Option<Box<Slot>>>,
    seed: SlotSeed,
    rules: Arc<Rules>,
    wheel: Wheel,
    /// Commands to be decided again when an exchange ends.
    waiting: BTreeMap<ExchangeId, Vec<Submission>>,
    /// Their exchange has ended.
    ready: VecDeque<Submission>,
    /// Taken in this turn and not decided yet, each with its slot and where its things are; empty between turns.
    ahead: Vec<Ahead>,
    /// Holds that expire next; empty between turns.
    due: Vec<AuthorizationId>,
    /// Slots in which a turn may forget something, as often as each was touched; empty between turns.
    visited: Vec<usize>,
    /// Each of them, and how often it is still to be forgotten in; empty between turns.
    old: Vec<(usize, usize)>,
    owed: BTreeMap<ExchangeId, Owed>,
    last_seq: Seq,
    last_event: Time,
    /// Of the last turn's time, in the default calendar.
    today: Bucket,
    stats: PartitionStats,
    /// Slots with provisional numbers in them.
    touched: Vec<SlotIndex>,
    opens: Vec<OpenMessage>,
    answers: Vec<AnswerMessage>,
    forgets: Vec<Message>,
    /// Where the next idle call goes on asking.
    ask_from: usize,
    /// Where the next turn goes on forgetting.
    forget_from: usize,
    /// How many keys and authorizations may be added at their budgets in this turn, for as many that time alone frees.
    key_credit: usize,
    authorization_credit: usize,
}

impl Partition {
    /// Takes slots over, empty or recovered, at the beginning of time.
    pub fn new(seed: SlotSeed, rules: Arc<Rules>, slots: impl IntoIterator<Item = impl Into<Box<Slot>>>) -> Self {
        Self::recovered(seed, rules, Time(0), slots)
    }

    /// Takes slots over at a time that no turn will be before: what expires is put where that time will look for it. (Seen from the
    /// beginning of time all holds are far ahead, and the first turn would move every one of them.)
    pub fn recovered(
        seed: SlotSeed,
        rules: Arc<Rules>,
        now: Time,
        slots: impl IntoIterator<Item = impl Into<Box<Slot>>>,
    ) -> Self {
        let mut partition = Self {
            slots: SlotIndex::all().map(|_| None).collect(),
            seed,
            rules,
            wheel: Wheel::at(now),
            waiting: BTreeMap::new(),
            ready: VecDeque::new(),
            ahead: Vec::with_capacity(LOOK_AHEAD),
            due: Vec::with_capacity(LOOK_AHEAD),
            visited: Vec::new(),
            old: Vec::new(),
            owed: BTreeMap::new(),
            last_seq: Seq::ZERO,
            last_event: Time(0),
            today: Bucket::default(),
            stats: PartitionStats::default(),
            touched: Vec::new(),
            opens: Vec::new(),
            answers: Vec::new(),
            forgets: Vec::new(),
            ask_from: 0,
            forget_from: 0,
            key_credit: 0,
            authorization_credit: 0,
        };
        for slot in slots {
            let slot = slot.into();
            for a in slot.iter_authorizations().filter(|a| a.is_open()) {
                partition.wheel.insert(a.expires, a.id());
            }
            partition.stats.shift(&PartitionStats::default(), &PartitionStats::of(&slot));
            let index = slot.index().index();
            partition.slots[index] = Some(slot);
        }
        partition
    }

    /// The numbers up to which everything was recovered: replies without an event of their own wait for them.
    pub const fn set_last_seq(&mut self, seq: Seq) {
        self.last_seq = seq;
    }

    /// Takes one turn. Events, answers and messages are added to `out`, which the caller emptied.
    ///
    /// # Errors
    /// When an event did not follow from the state, or an exchange that cannot be refused could not be answered: a bug. The
    /// engine must be poisoned. (A panic in decide is caught, and answered `system_error`.)
    pub fn turn(
        &mut self,
        turn: Turn,
        messages: &mut dyn Iterator<Item = Message>,
        commands: &mut dyn Iterator<Item = Submission>,
        out: &mut Output,
    ) -> Result<(), EvolveError> {
        self.wheel.advance(turn.now);
        self.today = Bucket::of_near(turn.now, self.rules.policy_default.utc_offset_minutes, self.today);
        self.make_room(turn.now);
        self.take_messages(turn, messages, out)?;
        if turn.admission == Admission::Open {
            self.expire(turn, out)?;
        }
        let may_decide = turn.admission != Admission::Open || !self.wheel.has_due();
        if may_decide {
            for _ in 0..self.ready.len() {
                let Some(submission) = self.ready.pop_front() else { break };
                let slot = submission.command.slot(&self.seed);
                self.command(turn, slot, &submission, out)?;
            }
            self.commands(turn, commands, out)?;
        }
        self.forget();
        Ok(())
    }

    // --- messages ---

    fn take_messages(
        &mut self,
        turn: Turn,
        messages: &mut dyn Iterator<Item = Message>,
        out: &mut Output,
    ) -> Result<(), EvolveError> {
        let mut answers = core::mem::take(&mut self.answers);
        for message in messages {
            match message {
                Message::Answer(m) => answers.push(m),
                Message::Open(m) => self.opens.push(m),
                Message::Ask { .. } | Message::Forget { .. } => self.forgets.push(message),
            }
        }
        let mut ends = Vec::new();
        let mut whose = Vec::new();
        for few in answers.chunks(LOOK_AHEAD) {
            for (m, looked) in few.iter().zip(self.look_at_answers(few)) {
                self.hint(m.to, looked);
                self.end(turn, m, &mut ends, &mut whose, out)?;
            }
        }
        answers.clear();
        self.answers = answers;
        if !ends.is_empty() {
            self.record(Event { time: turn.now, body: Body::Ended(Ended { ends }) }, out);
            for one in &whose {
                self.ended(one, out);
            }
        }
        let mut opens = core::mem::take(&mut self.opens);
        for few in opens.chunks(LOOK_AHEAD) {
            for (m, looked) in few.iter().zip(self.look_at_opens(few)) {
                self.hint(m.to, looked);
                self.answer(turn, m, out)?;
            }
        }
        opens.clear();
        self.opens = opens;
        let mut forgets = core::mem::take(&mut self.forgets);
        for message in forgets.drain(..) {
            self.forget_answers(turn, message, out)?;
        }
        self.forgets = forgets;
        Ok(())
    }

    /// An answer to an exchange that is open becomes one of the turn's ends; the state follows at once.
    fn end(
        &mut self,
        turn: Turn,
        m: &AnswerMessage,
        ends: &mut Vec<End>,
        whose: &mut Vec<EndedExchange>,
        out: &Output,
    ) -> Result<(), EvolveError> {
        let Some(slot) = self.slots.get_mut(m.to.index()).and_then(Option::as_deref_mut) else { return Ok(()) };
        let (Some(end), Some(exchange)) = (decide::end(slot, m), slot.exchanges.get(m.number)) else { return Ok(()) };
        whose.push(EndedExchange {
            id: (m.to, m.number),
            account: exchange.account,
            key: exchange.key,
            authorization: exchange.movement.authorization,
        });
        let before = PartitionStats::of(slot);
        slot.evolve_end(&end, turn.now, next_provisional(out))?;
        self.stats.shift(&before, &PartitionStats::of(slot));
        self.touched.push(m.to);
        ends.push(end);
        Ok(())
    }

    /// The reply that the end owes, those that waited for it, and the expiry that it kept back.
    fn ended(&mut self, ended: &EndedExchange, out: &mut Output) {
        let index = ended.id.0;
        if let Some(mut waiting) = self.waiting.remove(&ended.id) {
            self.stats.waiting -= waiting.len() as u64;
            self.ready.extend(waiting.drain(..));
        }
        let owed = self.owed.remove(&ended.id);
        let Some(slot) = self.slots[index.index()].as_deref() else { return };
        let open = slot.find_authorization(ended.authorization).filter(|a| a.is_open());
        if let Some((at, id)) = open.map(|a| (a.expires, a.id())).filter(|_| !has(Bug::ExpiryLost)) {
            self.wheel.insert(at, id);
        }
        let record = slot.find_key(ended.account, ended.key);
        if let (Some(Owed { ticket, deadline_ms, scope }), Some(record)) = (owed, record) {
            let reply = decide::owed_reply(slot, &record, scope.scope());
            out.answers.push(Answer { ticket, deadline_ms, after: last_provisional(out, self.last_seq), reply });
        }
    }

    fn answer(&mut self, turn: Turn, m: &OpenMessage, out: &mut Output) -> Result<(), EvolveError> {
        let Some(slot) = self.slots.get(m.to.index()).and_then(Option::as_deref) else { return Ok(()) };
        let decided = catch_unwind(AssertUnwindSafe(|| decide::answer(slot, m)));
        let (message, body) = match decided {
            Ok((message, body)) => (message, body),
            Err(_) if m.purpose.is_forced() => {
                let what = "EXC-1: a movement that cannot be refused could not be answered";
                return Err(EvolveError { seq: next_provisional(out).0, slot: m.to.get(), what });
            }
            Err(_) => {
                let (message, body) = decide::refuse_for_system_error(slot, m);
                (message, Some(body))
            }
        };
        if let Some(body) = body {
            self.apply(turn, body, out)?;
        }
        out.messages.push(Message::Answer(message));
        Ok(())
    }

    // --- commands ---

    fn command(
        &mut self,
        turn: Turn,
        slot: Option<SlotIndex>,
        submission: &Submission,
        out: &mut Output,
    ) -> Result<(), EvolveError> {
        let &Submission { ticket, deadline_ms, ref scope, ref command } = submission;
        if turn.monotonic_ms >= deadline_ms {
            self.leave(ticket, deadline_ms, Reply::bare(Outcome::DeadlineExceeded), out);
            return Ok(());
        }
        if turn.admission == Admission::Stopping {
            self.leave(ticket, deadline_ms, Reply::bare(Outcome::Stopping), out);
            return Ok(());
        }
        match self.decide(turn, slot, command, scope.scope(), out) {
            Decision::Reply(reply) => self.leave(ticket, deadline_ms, reply, out),
            Decision::Wait(slot, number) => {
                let waiting = self.waiting.entry((slot, number)).or_default();
                if waiting.len() >= WAITING_MAX {
                    self.leave(ticket, deadline_ms, Reply::bare(Outcome::Busy), out);
                    return Ok(());
                }
                waiting.push(submission.clone());
                self.stats.waiting += 1;
            }
            Decision::Event(body) => {
                let opened = match &body {
                    Body::Opened(e) => Some((e.head.slot, e.number)),
                    _ => None,
                };
                let reply = self.apply(turn, body, out)?;
                match (opened, reply) {
                    (Some(id), _) => {
                        let scope = submission.scope.clone();
                        self.owed.insert(id, Owed { ticket, deadline_ms, scope });
                    }
                    (None, Some(reply)) => self.leave(ticket, deadline_ms, reply, out),
                    (None, None) => self.leave(ticket, deadline_ms, Reply::bare(Outcome::SystemError), out),
                }
            }
        }
        Ok(())
    }

    fn decide(&self, turn: Turn, slot: Option<SlotIndex>, command: &Command, scope: Scope, out: &Output) -> Decision {
        if let Command::Record(record) = command {
            return match turn.admission {
                _ if !command.is_well_formed() => Decision::Reply(Reply::bare(Outcome::Malformed)),
                Admission::NoSpace => Decision::Reply(Reply::bare(Outcome::NoSpace)),
                _ => Decision::Event(Body::Recorded(Recorded { stream: record.stream, bytes: record.bytes.to_vec() })),
            };
        }
        let Some(slot) = slot.and_then(|index| self.slot(index)) else {
            return Decision::Reply(Reply::bare(Outcome::Malformed));
        };
        let scene = Scene {
            slots: &self.slots,
            seed: self.seed,
            rules: &self.rules,
            now: turn.now,
            today: self.today,
            seq: next_provisional(out),
            room: self.room(turn, command),
            scope,
        };
        catch_unwind(AssertUnwindSafe(|| decide::decide(&scene, slot, command)))
            .unwrap_or_else(|_| Decision::Reply(Reply::bare(Outcome::SystemError)))
    }

    // --- what every event and answer goes through ---

    /// Evolves the legs of a decided event and adds it to the turn; sends an exchange on its way. Gives the reply of a command.
    fn apply(&mut self, turn: Turn, body: Body, out: &mut Output) -> Result<Option<Reply>, EvolveError> {
        let seq = next_provisional(out);
        let stats_before = self.stats;
        let event = Event { time: turn.now, body };
        let mut result = Ok(());
        let (slots, stats, touched) = (&mut self.slots, &mut self.stats, &mut self.touched);
        event.body.each_leg(|leg| {
            let slot = slots.get_mut(leg.slot.index()).and_then(Option::as_deref_mut);
            let Some(slot) = slot else {
                result =
                    Err(EvolveError { seq: seq.0, slot: leg.slot.get(), what: "a leg of a slot of another partition" });
                return;
            };
            if result.is_ok() {
                let before = PartitionStats::of(slot);
                result = slot.evolve(&event, seq, leg.role);
                stats.shift(&before, &PartitionStats::of(slot));
                touched.push(leg.slot);
            }
        });
        result?;
        self.spend_credit(&stats_before);
        let reply = self.follow_up(&event.body, seq, out);
        self.record(event, out);
        Ok(reply)
    }

    /// What an event causes beside state: an expiry to watch, a message, a reply.
    fn follow_up(&mut self, body: &Body, seq: Seq, out: &mut Output) -> Option<Reply> {
        match body {
            Body::Authorized(e) => {
                let early_ms = if has(Bug::ExpireEarly) { 2_000 } else { 0 };
                self.wheel.insert(Time(e.expires.0 - early_ms), e.authorization);
            }
            Body::Incremented(e) => self.wheel.insert(e.expires, e.authorization),
            Body::Opened(e) => {
                let slot = self.slot(e.head.slot)?;
                out.messages.push(Message::Open(decide::open_message(slot, e.number, &e.movement)));
                return None; // its reply comes with its end
            }
            Body::Fenced(e) => {
                let account = self.slot(e.slot)?.find_account(e.account);
                return Some(Reply { seq, ..Reply::bare(Outcome::Fenced) }.standing_on(account));
            }
            Body::Recorded(_) => return Some(Reply { seq, ..Reply::bare(Outcome::Approved) }),
            _ => {}
        }
        let head = body.head()?;
        let slot = self.slot(head.slot)?;
        Some(decide::reply_of(slot, &slot.noted_key(head.account, head.full_key())?))
    }

    fn record(&mut self, event: Event, out: &mut Output) {
        self.last_event = event.time;
        out.events.push(event);
    }

    /// J2: the answer waits for all that stands before it, unless it looked at nothing.
    fn leave(&self, ticket: u64, deadline_ms: u64, reply: Reply, out: &mut Output) {
        let after = if reply.outcome.leaves_at_once() { Seq::ZERO } else { last_provisional(out, self.last_seq) };
        out.answers.push(Answer { ticket, deadline_ms, after, reply });
    }

    /// Turns the turn's provisional numbers into real ones, in state and output. To be called after every turn; `first` is the
    /// first number drawn and of no account when the turn made no event.
    pub fn stamp(&mut self, first: Seq, out: &mut Output) {
        if out.events.is_empty() {
            return;
        }
        for event in &mut out.events {
            event.body.stamp(first);
        }
        for answer in &mut out.answers {
            answer.after = answer.after.stamped(first);
            answer.reply.seq = answer.reply.seq.stamped(first);
            if let Some(crate::reply::Detail::Account(view)) = answer.reply.detail.as_deref_mut() {
                view.seq = view.seq.stamped(first);
            }
        }
        for index in self.touched.drain(..) {
            if let Some(slot) = self.slots[index.index()].as_deref_mut() {
                slot.stamp(first);
            }
        }
        self.last_seq = Seq(first.0 + out.events.len() as u64 - 1);
    }

    // --- between turns ---

    /// After recovery, before commands: every exchange opened and not ended, oldest first, also those to this partition.
    pub fn resend(&mut self, out: &mut Output) {
        for slot in self.slots.iter().flatten() {
            for (number, exchange) in slot.exchanges.iter() {
                out.messages.push(Message::Open(decide::open_message(slot, number, &exchange.movement)));
            }
        }
    }

    /// Deadlines of commands that wait (`deadline_exceeded`: nothing was done) and of submitters whose exchange is open
    /// (`in_progress`). Makes no event.
    pub fn sweep(&mut self, monotonic_ms: u64, out: &mut Output) {
        let is_past = |deadline_ms: u64| monotonic_ms >= deadline_ms;
        self.drop_waiting(Outcome::DeadlineExceeded, is_past, out);
        self.owed.retain(|_, owed| {
            let stays = !is_past(owed.deadline_ms);
            if !stays {
                out.answers.push(at_once(owed.ticket, owed.deadline_ms, Outcome::InProgress));
            }
            stays
        });
    }

    /// The engine stops or is poisoned: what waits was not done, what is owed is in progress.
    pub fn abandon(&mut self, out: &mut Output) {
        self.drop_waiting(Outcome::Stopping, |_| true, out);
        for Owed { ticket, deadline_ms, .. } in core::mem::take(&mut self.owed).into_values() {
            out.answers.push(at_once(ticket, deadline_ms, Outcome::InProgress));
        }
    }

    fn drop_waiting(&mut self, outcome: Outcome, goes: impl Fn(u64) -> bool, out: &mut Output) {
        let mut drop_from = |submissions: &mut Vec<Submission>| {
            submissions.retain(|s| {
                if goes(s.deadline_ms) {
                    out.answers.push(at_once(s.ticket, s.deadline_ms, outcome));
                }
                !goes(s.deadline_ms)
            });
        };
        let mut ready: Vec<_> = core::mem::take(&mut self.ready).into();
        drop_from(&mut ready);
        self.ready = ready.into();
        self.waiting.retain(|_, submissions| {
            drop_from(submissions);
            !submissions.is_empty()
        });
        self.stats.waiting = self.waiting.values().map(|w| w.len() as u64).sum();
    }

    /// A time before which no hold expires; `None`: no hold is open.
    pub fn next_expiry(&self) -> Option<Time> {
        self.wheel.next()
    }

    /// Whether a turn without input makes progress: an expiry is due, or a wait is over. (Expiries wait while admission is not
    /// open; a turn then makes none.)
    pub fn has_work(&self, now: Time) -> bool {
        !self.ready.is_empty() || self.wheel.next().is_some_and(|at| at <= now)
    }

    /// The time of the last event that this partition made; zero since its start.
    pub const fn last_event(&self) -> Time {
        self.last_event
    }

    /// One of its slots.
    pub fn slot(&self, index: SlotIndex) -> Option<&Slot> {
        self.slots.get(index.index())?.as_deref()
    }
    /// Takes the first part of a copy of a slot as it is now, of up to `most` records, into the memory of an old part. A copy of it
    /// under way is given up. To be called between turns, as all of these. `None`: the slot is another partition's.
    pub fn begin_copy(&mut self, index: SlotIndex, most: usize, part: SlotPart) -> Option<SlotPart> {
        let slot = self.slots.get_mut(index.index())?.as_deref_mut()?;
        slot.begin_copy();
        slot.copy_part(most, part)
    }
    /// The next part, after one that was not the last.
    pub fn copy_on(&mut self, index: SlotIndex, most: usize, part: SlotPart) -> Option<SlotPart> {
        self.slots.get_mut(index.index())?.as_deref_mut()?.copy_part(most, part)
    }
    /// Gives a copy up.
    pub fn end_copy(&mut self, index: SlotIndex) {
        if let Some(slot) = self.slots.get_mut(index.index()).and_then(Option::as_deref_mut) {
            slot.end_copy();
        }
    }
    /// All its slots, in order.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().flatten().map(Box::as_ref)
    }
    /// Its counts.
    pub const fn stats(&self) -> PartitionStats {
        self.stats
    }
}

/// The number of the turn's next event.
fn next_provisional(out: &Output) -> Seq {
    Seq::provisional(out.events.len() as u64)
}

/// The number of the turn's last event so far, or of the last event of the turns before.
fn last_provisional(out: &Output, before: Seq) -> Seq {
    out.events.len().checked_sub(1).map_or(before, |last| Seq::provisional(last as u64))
}

const fn at_once(ticket: u64, deadline_ms: u64, outcome: Outcome) -> Answer {
    Answer { ticket, deadline_ms, after: Seq::ZERO, reply: Reply::bare(outcome) }
}
