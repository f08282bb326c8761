//! A partition's step: one turn from queues to ring, and the timer's work. No threads in here.
//!
//! Owns the order of a turn (J1): room first, then peers' messages, then commands; events are numbered, encoded and in
//! the writer's ring before any message leaves; replies wait until what they reveal is durable (J2). Refuses to know
//! what is decided and how bytes reach the disk. Between the drawing of numbers and the ring nothing blocks.
//!
//! ```text
//!  room? -> messages, commands -> Partition::turn -> numbers -> stamp -> encode -> ring -> messages -> held replies
//! ```

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use tp_core::EvolveError;
use tp_core::codec;
use tp_core::command::{Command, Lookup};
use tp_core::ids::Seq;
use tp_core::outcome::Outcome;
use tp_core::partition::Partition;
use tp_core::reply::Reply;
use tp_core::time::Time;
use tp_core::turn::{Admission, Message, Output, Submission, Turn};
use tp_planted::{Bug, has};

use crate::config::BLOCK_BYTES;
use crate::inbound::{Inbound, ReplyTo, Tickets, Touched};
use crate::lane::{Batch, Lane, count};
use crate::release::Held;
use crate::shared::{Room, Shared};
use crate::shed::{Events, Measure, Shed, Worth};

/// Milliseconds without a turn after which a partition tells its peers what they may forget.
const IDLE_MS: u64 = 1_000;

/// The moment of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Moment {
    /// Engine time.
    pub(crate) now: Time,
    /// The clock of deadlines, ms.
    pub(crate) monotonic_ms: u64,
}

/// What a step came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Progress {
    /// Something was taken or made: look again.
    Made,
    /// There was nothing to do.
    Idle,
    /// Too much is in flight: wait for the writer.
    PutOff,
}

/// One partition's side of the engine.
pub(crate) struct Step {
    index: usize,
    partition: Partition,
    tickets: Tickets,
    held: Held,
    out: Output,
    touched: Touched,
    /// Messages that found their queue full, by receiver, in order.
    outbox: Vec<VecDeque<Message>>,
    /// Commands taken out of the inbox to look at their deadlines while no turn could start.
    staged: VecDeque<Inbound>,
    /// Commands that are not decided, and what they are told.
    refused: Vec<(ReplyTo, Outcome)>,
    shed: Shed,
    woken: Vec<bool>,
    /// Which peer's queue comes first.
    rotation: usize,
    last_turn_ms: u64,
    is_idle_told: bool,
}

impl Step {
    pub(crate) fn new(index: usize, partitions: usize, partition: Partition) -> Self {
        Self {
            index,
            partition,
            tickets: Tickets::default(),
            held: Held::default(),
            out: Output::default(),
            touched: Touched::default(),
            outbox: (0..partitions).map(|_| VecDeque::new()).collect(),
            staged: VecDeque::new(),
            refused: Vec::new(),
            shed: Shed::default(),
            woken: vec![false; partitions],
            rotation: 0,
            last_turn_ms: 0,
            is_idle_told: false,
        }
    }

    /// Between two turns.
    pub(crate) const fn partition(&mut self) -> &mut Partition {
        &mut self.partition
    }

    /// After recovery, before anything is taken: opened exchanges are sent again.
    pub(crate) fn resend(&mut self, shared: &Shared) {
        if !has(Bug::NoResend) {
            self.partition.resend(&mut self.out);
        }
        self.send_messages(shared);
    }

    /// One turn, if there is work and room.
    ///
    /// # Errors
    /// [`EvolveError`]: a bug; the engine must be poisoned.
    pub(crate) fn turn(&mut self, shared: &Shared, at: Moment) -> Result<Progress, EvolveError> {
        self.flush_outbox(shared);
        if !self.has_work(shared, at.now) {
            return Ok(Progress::Idle);
        }
        if !self.has_room(shared) {
            Shared::count_put_off(&shared.lanes[self.index]);
            return Ok(Progress::PutOff);
        }
        let admission = shared.admission();
        let taken = self.decide(shared, at, admission)?;
        if has(Bug::MessageBeforeRing) {
            self.send_messages(shared);
        }
        let made = self.hand_over(shared, at.monotonic_ms);
        let sent = self.send_messages(shared);
        let answered = self.settle(shared, at.monotonic_ms);
        self.last_turn_ms = at.monotonic_ms;
        self.is_idle_told = false;
        // Due expiries of holds that were closed since make no event, and keep commands back until they are through.
        let has_more = admission == Admission::Open && self.partition.has_work(at.now);
        Ok(if has_more || taken + made + sent + answered > 0 { Progress::Made } else { Progress::Idle })
    }

    fn has_work(&self, shared: &Shared, now: Time) -> bool {
        let lane = &shared.lanes[self.index];
        !lane.inbox.is_empty() || !self.staged.is_empty() || lane.has_messages() || self.partition.has_work(now)
    }

    /// Room for a turn's worst case: in the ring, and below what the journal's reserve takes (BND-1). In this order: what is no longer
    /// in flight is in the journal, and the writer shows what that has left of it before it takes it out of the count.
    fn has_room(&self, shared: &Shared) -> bool {
        let ring = &shared.lanes[self.index].ring;
        !ring.is_full() && !shared.in_flight.is_full() && shared.room() != Room::Awaited
    }

    /// Takes input and lets the partition decide. Returns how much was taken.
    fn decide(&mut self, shared: &Shared, at: Moment, admission: Admission) -> Result<usize, EvolveError> {
        let Self { index, partition, tickets, out, staged, refused, shed, rotation, .. } = self;
        let lane = &shared.lanes[*index];
        let turn =
            Turn { now: at.now, monotonic_ms: at.monotonic_ms, expiries_max: shared.bounds.turn_expiries, admission };
        *rotation = (*rotation + 1) % lane.peers.len();
        let mut messages_taken = 0;
        let mut messages = std::iter::from_fn(|| {
            let message = (messages_taken < shared.bounds.turn_messages).then(|| next_message(lane, *rotation))??;
            messages_taken += 1;
            Some(message)
        });
        let measure = shed.begin(at.monotonic_ms, shared.bounds.queue_wait_ms_max);
        let (mut weight, mut commands_taken) = (0, 0);
        let mut commands = std::iter::from_fn(|| {
            if weight >= shared.bounds.turn_commands {
                return None;
            }
            let inbound = next_command(shared, lane, staged, refused, measure)?;
            weight += weight_of(&inbound.command);
            commands_taken += 1;
            let Inbound { command, deadline_ms, scope, reply_to, .. } = inbound;
            Some(Submission { ticket: tickets.issue(reply_to), deadline_ms, scope, command })
        });
        out.clear();
        partition.turn(turn, &mut messages, &mut commands, out)?;
        let refused = refused.len();
        lane.leave(commands_taken + refused);
        shed.took(lane.waiting(), lane.inbox.capacity(), at.monotonic_ms);
        count(&lane.counters.turns, 1);
        count(&lane.counters.commands, commands_taken as u64);
        if commands_taken > 0 && !shared.was_used.load(Ordering::Relaxed) {
            shared.was_used.store(true, Ordering::Release);
        }
        Ok(messages_taken + commands_taken + refused)
    }

    /// Numbers, stamps, encodes and hands the turn's events to the writer. Nothing here blocks.
    fn hand_over(&mut self, shared: &Shared, monotonic_ms: u64) -> usize {
        let lane = &shared.lanes[self.index];
        let made = self.out.events.len();
        if made == 0 {
            self.partition.stamp(Seq(shared.next_seq.load(Ordering::SeqCst)), &mut self.out);
            return 0;
        }
        let mut bytes = lane.buffers.pop().unwrap_or_default();
        let times = self.out.events.iter().map(|event| event.time.0);
        let (time_min, time_max) = times.fold((u64::MAX, 0), |(low, high), time| (low.min(time), high.max(time)));
        shared.event_time_max.fetch_max(time_max, Ordering::AcqRel);
        let first_seq = if has(Bug::NumbersTorn) {
            let first_seq = shared.next_seq.load(Ordering::SeqCst);
            shared.next_seq.store(first_seq + made as u64, Ordering::SeqCst);
            first_seq
        } else {
            shared.next_seq.fetch_add(made as u64, Ordering::SeqCst)
        };
        self.partition.stamp(Seq(first_seq), &mut self.out);
        for event in &self.out.events {
            codec::encode(event, &mut bytes);
        }
        // In a frame of its own; in one with others it takes less.
        let blocks = bytes.len() as u64 / BLOCK_BYTES + 2;
        shared.in_flight.add(blocks, made as u64);
        let count_of_events = u32::try_from(made).unwrap_or(u32::MAX);
        let batch = Batch { first_seq, count: count_of_events, blocks, time_min, time_max, bytes };
        let pushed = lane.ring.push(batch);
        assert!(pushed.is_ok(), "room was tested before the turn, and this is the ring's only producer");
        shared.writer.wake();
        self.shed.decided(first_seq + made as u64 - 1, monotonic_ms);
        count(&lane.counters.events, made as u64);
        lane.counters.turn_events_max.fetch_max(made as u64, Ordering::Relaxed);
        made
    }

    /// To the peers, after the events are in the ring (J1).
    fn send_messages(&mut self, shared: &Shared) -> usize {
        let sent = self.out.messages.len();
        for message in self.out.messages.drain(..) {
            let to = shared.partition_of(message.to());
            self.woken[to] = true;
            let queue = &shared.lanes[to].peers[self.index];
            if !self.outbox[to].is_empty() {
                self.outbox[to].push_back(message);
            } else if let Err(message) = queue.push(message) {
                self.outbox[to].push_back(message);
            }
        }
        self.wake_peers(shared);
        sent
    }

    /// What found a full queue before. It is bounded by the partition's own open exchanges.
    fn flush_outbox(&mut self, shared: &Shared) {
        for (to, outbox) in self.outbox.iter_mut().enumerate() {
            let queue = &shared.lanes[to].peers[self.index];
            while let Some(message) = outbox.pop_front() {
                if let Err(message) = queue.push(message) {
                    outbox.push_front(message);
                    break;
                }
                self.woken[to] = true;
            }
        }
        self.wake_peers(shared);
    }

    fn wake_peers(&mut self, shared: &Shared) {
        for (to, woken) in self.woken.iter_mut().enumerate() {
            if std::mem::take(woken) && to != self.index {
                shared.lanes[to].waker.wake();
            }
        }
    }

    /// Answers that may leave leave; the others wait. Returns how many left or began to wait.
    fn settle(&mut self, shared: &Shared, monotonic_ms: u64) -> usize {
        let Self { tickets, held, out, touched, refused, .. } = self;
        let settled = out.answers.len() + refused.len();
        for (reply_to, outcome) in refused.drain(..) {
            reply_to.deliver(Reply::bare(outcome), touched);
        }
        for answer in out.answers.drain(..) {
            if answer.after == Seq::ZERO {
                deliver(tickets, touched, answer.ticket, answer.reply);
            } else {
                held.hold(answer);
            }
        }
        self.release(shared, monotonic_ms);
        settled
    }

    /// Hands over the replies whose events became durable.
    pub(crate) fn release(&mut self, shared: &Shared, monotonic_ms: u64) {
        let Self { tickets, held, touched, shed, .. } = self;
        shed.durable(shared.durable.seq().0, monotonic_ms);
        let durable = if has(Bug::AnswerEarly) { shared.last_seq() } else { shared.durable.seq() };
        held.release(durable, |ticket, reply| deliver(tickets, touched, ticket, reply));
        touched.wake();
        let counters = &shared.lanes[self.index].counters;
        counters.replies_held.store(held.len() as u64, Ordering::Relaxed);
        counters.owed.store((tickets.len() + self.staged.len()) as u64, Ordering::Release);
    }

    /// The timer's work: deadlines, and what peers may forget. Needs no room in the ring.
    pub(crate) fn tick(&mut self, shared: &Shared, at: Moment) {
        self.release(shared, at.monotonic_ms);
        self.stage_if_stalled(shared);
        self.sweep_staged(shared, at.monotonic_ms);
        let Self { tickets, held, touched, partition, out, .. } = self;
        held.sweep(at.monotonic_ms, |ticket, reply| deliver(tickets, touched, ticket, reply));
        out.clear();
        partition.sweep(at.monotonic_ms, out);
        let forgets = shared.bounds.forget_when_idle && !self.is_idle_told;
        if forgets && at.monotonic_ms >= self.last_turn_ms + IDLE_MS {
            self.is_idle_told = true;
            self.partition.idle(&mut self.out);
        }
        self.send_messages(shared);
        self.settle(shared, at.monotonic_ms);
    }

    /// While no turn can start, deadlines of queued commands are watched outside the inbox. All of them: what is taken out
    /// goes on counting as waiting.
    fn stage_if_stalled(&mut self, shared: &Shared) {
        if self.has_room(shared) {
            return;
        }
        let inbox = &shared.lanes[self.index].inbox;
        while let Some(inbound) = inbox.pop() {
            self.staged.push_back(inbound);
        }
    }

    fn sweep_staged(&mut self, shared: &Shared, monotonic_ms: u64) {
        let Self { staged, refused, .. } = self;
        for _ in 0..staged.len() {
            let Some(inbound) = staged.pop_front() else { break };
            if inbound.deadline_ms <= monotonic_ms {
                refused.push((inbound.reply_to, Outcome::DeadlineExceeded));
            } else {
                staged.push_back(inbound);
            }
        }
        let lane = &shared.lanes[self.index];
        lane.leave(refused.len());
        count(&lane.counters.deadlines_passed, refused.len() as u64);
    }

    /// Poisoned, or ended without an orderly close: everybody is answered, nothing more is acknowledged.
    pub(crate) fn abandon(&mut self, shared: &Shared) {
        self.release(shared, 0);
        let Self { tickets, held, touched, staged, refused, .. } = self;
        if has(Bug::AbandonAcks) {
            held.release(shared.last_seq(), |ticket, reply| deliver(tickets, touched, ticket, reply));
        }
        held.abandon(|ticket, reply| deliver(tickets, touched, ticket, reply));
        for (reply_to, outcome) in refused.drain(..) {
            reply_to.deliver(Reply::bare(outcome), touched);
        }
        for reply_to in tickets.drain() {
            reply_to.deliver(Reply::bare(Outcome::InProgress), touched);
        }
        let refusal = if shared.poison.is_set() { Outcome::SystemError } else { Outcome::Stopping };
        shared.lanes[self.index].leave(staged.len());
        for inbound in staged.drain(..) {
            inbound.reply_to.deliver(Reply::bare(refusal), touched);
        }
        touched.wake();
        shared.answer_leftovers(&shared.lanes[self.index]);
    }
}

fn deliver(tickets: &mut Tickets, touched: &mut Touched, ticket: u64, reply: Reply) {
    if let Some(reply_to) = tickets.redeem(ticket) {
        reply_to.deliver(reply, touched);
    }
}

/// From the peers' queues in turn, each first in, first out.
fn next_message(lane: &Lane, rotation: usize) -> Option<Message> {
    let peers = lane.peers.len();
    (0..peers).find_map(|k| lane.peers[(rotation + k) % peers].pop())
}

/// The next command that is worth deciding.
fn next_command(
    shared: &Shared,
    lane: &Lane,
    staged: &mut VecDeque<Inbound>,
    refused: &mut Vec<(ReplyTo, Outcome)>,
    measure: Measure,
) -> Option<Inbound> {
    loop {
        let inbound = staged.pop_front().or_else(|| lane.inbox.pop())?;
        let (counter, outcome) =
            match measure.of(inbound.since_ms, inbound.deadline_ms, events_of(shared, &inbound.command)) {
                Worth::Taken => return Some(inbound),
                Worth::TooLate => (&lane.counters.deadlines_passed, Outcome::DeadlineExceeded),
                Worth::WaitedTooLong => (&lane.counters.shed, Outcome::Busy),
            };
        count(counter, 1);
        refused.push((inbound.reply_to, outcome));
    }
}

/// What a command leaves in the journal, as far as it shows.
fn events_of(shared: &Shared, command: &Command) -> Events {
    let are_apart = |a, b| shared.partition_of(a) != shared.partition_of(b);
    match command {
        Command::Read(_) | Command::Lookup(Lookup { fence: false, .. }) => Events::None,
        Command::Transfer(c) if are_apart(shared.seed.slot_of(c.account), shared.seed.slot_of(c.payee)) => {
            Events::Exchange
        }
        Command::Capture(c) if are_apart(c.authorization.slot(), shared.seed.slot_of(c.payee)) => Events::Exchange,
        _ => Events::OneTurn,
    }
}

/// How many events of ordinary size a command counts as.
fn weight_of(command: &Command) -> usize {
    match command {
        Command::Record(record) => 1 + record.bytes.len() / 4096,
        _ => 1,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::Arc;
    use tp_core::amount::{Amount, CreditLimit, Ledger};
    use tp_core::command::{Authorize, Note, OpenAccount, Record, Settings};
    use tp_core::ids::{AccountId, SlotIndex, SlotSeed};
    use tp_core::key::Key;
    use tp_core::metadata::{METADATA_BYTES_MAX, Metadata};
    use tp_core::rules::{Rules, Windows};
    use tp_core::scope::Carried;
    use tp_core::slot::Slot;
    use tp_storage::PAYLOAD_BYTES_MAX;

    use crate::clock::{Clock, EngineClock, GivenClock};
    use crate::config::{Bounds, Config};
    use crate::shared::Start;
    use crate::wake::Sleeper;

    const SEED: SlotSeed = SlotSeed([7; 16]);
    const INBOX: usize = 16_384;

    pub(crate) fn shared_of(partitions: usize) -> Shared {
        let config = Config { partitions, inbox_commands: INBOX, ..Config::at("/nowhere") };
        config.validate().expect("the largest turn of the defaults");
        Shared::new(Start {
            seed: SEED,
            windows: Windows::default(),
            bounds: Bounds::of(&config),
            deadline_ms_default: 10_000,
            inbox_commands: INBOX,
            partitions,
            clock: EngineClock::start(&Clock::given(GivenClock::new(Time(1))), Time(0)),
            last_seq: 0,
            event_time_max: 0,
            has_room: true,
            writer: Sleeper::new().1,
        })
    }

    fn partition() -> (Shared, Step) {
        let shared = shared_of(1);
        let slots = SlotIndex::all().map(|index| Slot::new(index, SEED, Windows::default()));
        (shared, Step::new(0, 1, Partition::new(SEED, Arc::new(Rules::default()), slots)))
    }

    fn offer(shared: &Shared, command: impl Into<Command>) {
        let (sender, _) = tokio::sync::oneshot::channel(); // nobody waits
        let (command, reply_to) = (command.into(), ReplyTo::Call(sender));
        let inbound = Inbound { command, since_ms: 0, deadline_ms: u64::MAX, scope: Carried::default(), reply_to };
        assert!(shared.submit(inbound).is_ok(), "the inbox takes {INBOX}");
    }

    /// Turns until nothing is left, with a writer that is always done. Returns the events and the largest batch.
    fn work_off(shared: &Shared, step: &mut Step) -> (u64, usize) {
        let (mut events, mut largest) = (0, 0);
        while step.turn(shared, Moment { now: Time(1), monotonic_ms: 1 }).expect("no bug") == Progress::Made {
            while let Some(batch) = shared.lanes[0].ring.pop() {
                assert!(batch.bytes.len() <= PAYLOAD_BYTES_MAX, "{} events do not fit into a frame", batch.count);
                assert!(batch.blocks * BLOCK_BYTES >= batch.bytes.len() as u64, "it is counted as less than it is");
                shared.in_flight.remove(batch.blocks, u64::from(batch.count));
                (events, largest) = (events + u64::from(batch.count), largest.max(batch.bytes.len()));
                shared.durable.publish(batch.first_seq + u64::from(batch.count) - 1, batch.time_max);
            }
        }
        (events, largest)
    }

    /// The events of a turn are one batch, and a batch is never divided: one that no frame takes would poison the engine.
    #[test]
    fn however_much_waits_the_events_of_a_turn_fit_into_one_frame() {
        let (shared, mut step) = partition();
        let ledger = Ledger::new("EUR", 2).expect("valid");
        let metadata = Metadata::reference(&"x".repeat(METADATA_BYTES_MAX - 2)).expect("the longest");
        assert_eq!(metadata.as_bytes().len(), METADATA_BYTES_MAX);
        let note = Note { metadata, ..Note::default() };
        let settings = Settings { credit_limit: CreditLimit::Unlimited, ..Settings::new(ledger) };
        offer(&shared, OpenAccount { key: Key::opaque(1), account: AccountId(1), settings, note: note.clone() });
        work_off(&shared, &mut step);
        for n in 0..INBOX as u128 {
            let authorize = Authorize::new(Key::opaque(10 + n), AccountId(1), ledger, Amount::from(1));
            offer(&shared, Authorize { note: note.clone(), ..authorize });
        }
        let (events, largest) = work_off(&shared, &mut step);
        assert_eq!(events, INBOX as u64, "all are done");
        assert!(largest > METADATA_BYTES_MAX * 500, "in turns of many: {largest}");
        let per_event = largest / 500;
        assert!(per_event * INBOX > PAYLOAD_BYTES_MAX, "all of them would not have fitted");
    }

    #[test]
    fn records_count_by_their_size_towards_a_turn() {
        let (shared, mut step) = partition();
        let (records, bytes) = (256u64, 64 << 10);
        for stream in 0..records {
            offer(&shared, Record { stream: u32::try_from(stream).expect("few"), bytes: vec![7; bytes].into() });
        }
        assert!(bytes * 256 > 4 * PAYLOAD_BYTES_MAX, "all of them would not have fitted");
        let (events, largest) = work_off(&shared, &mut step);
        assert!(events == records && largest > 4 * bytes, "{events}, in turns of many: {largest}");
    }
}
