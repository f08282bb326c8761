//! A deterministic driver of 1 to 8 partitions in one thread, under a schedule drawn from a seed.
//!
//! Owns queues, the counter of sequence numbers, the journal (every event goes through its bytes), the durable point, crashes
//! and recovery. Refuses to know what a command means. After each step it checks SEQ-1, J1, J3, EXC-1, IDM-1, LED-1, FGT-1 and
//! `Slot::validate`; at rest J4 (RPL-1).
//!
//! ```text
//! submit --> queue of the partition --+
//! messages of peers (one queue each) -+--> decide (turn) --> ticket (stamp, journal) --> send (messages to queues)
//!                                                                  |
//!                                                     sync (durable point) --> answers released
//! ```
#![allow(dead_code, reason = "each test binary uses its own part")]

pub(crate) mod audit;
mod copies;
pub(crate) mod replay;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use tp_core::codec::{EventBytes, decode, encode};
use tp_core::command::Command;
use tp_core::event::Event;
use tp_core::ids::{AccountId, Seq, SlotIndex, SlotSeed};
use tp_core::partition::Partition;
use tp_core::reply::{AccountView, AuthorizationView, Reply};
use tp_core::rules::Rules;
use tp_core::scope::Scope;
use tp_core::slot::Slot;
use tp_core::time::Time;
use tp_core::turn::{Admission, Answer, Message, Output, Submission, Turn};

use audit::Audit;
use copies::Copies;

/// The seed of the hash from account to slot in all tests.
pub(crate) const SEED: SlotSeed = SlotSeed([7; 16]);
/// Far beyond any deadline.
const NEVER_MS: u64 = u64::MAX >> 1;
/// More steps than any test needs to come to rest.
const STEPS_MAX: usize = 100_000;

/// Draws numbers: splitmix64.
#[derive(Clone, Debug)]
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
    /// Below `bound`, which is above 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).expect("below a usize")
    }
}

/// One partition with its queues.
struct Seat {
    partition: Partition,
    /// From each peer, itself included.
    inbox: Vec<VecDeque<Message>>,
    submissions: VecDeque<Submission>,
    /// Decided, not yet numbered.
    decided: Option<Output>,
    /// Numbered, not yet sent.
    unsent: VecDeque<Message>,
    copies: Copies,
}

/// Partitions, journal, clients.
pub(crate) struct World {
    pub(crate) rules: Arc<Rules>,
    pub(crate) now: Time,
    pub(crate) journal: Vec<Event>,
    pub(crate) durable: usize,
    pub(crate) audit: Audit,
    /// What the next turns take.
    pub(crate) admission: Admission,
    /// The callers' clock, on which deadlines are counted.
    pub(crate) monotonic_ms: u64,
    /// Replies that left, by ticket.
    pub(crate) replies: BTreeMap<u64, Reply>,
    /// Tickets without a reply.
    pub(crate) owed: BTreeSet<u64>,
    seats: Vec<Seat>,
    held_back: Vec<Answer>,
    next_ticket: u64,
}

impl World {
    pub(crate) fn new(partitions: usize, rules: Rules, now: Time) -> Self {
        let rules = Arc::new(rules);
        let windows = rules.windows;
        let slots = SlotIndex::all().map(|index| Slot::new(index, SEED, windows)).collect();
        let mut world = Self {
            rules,
            now,
            journal: Vec::new(),
            durable: 0,
            audit: Audit::new(windows),
            admission: Admission::Open,
            monotonic_ms: 0,
            replies: BTreeMap::new(),
            owed: BTreeSet::new(),
            seats: Vec::new(),
            held_back: Vec::new(),
            next_ticket: 0,
        };
        world.seat(partitions, slots);
        world
    }

    fn seat(&mut self, partitions: usize, slots: Vec<Slot>) {
        let mut shares: Vec<Vec<Slot>> = (0..partitions).map(|_| Vec::new()).collect();
        for slot in slots {
            shares[slot.index().index() % partitions].push(slot);
        }
        let seat = |share: Vec<Slot>| Seat {
            partition: Partition::new(SEED, Arc::clone(&self.rules), share),
            inbox: (0..partitions).map(|_| VecDeque::new()).collect(),
            submissions: VecDeque::new(),
            decided: None,
            unsent: VecDeque::new(),
            copies: Copies::default(),
        };
        self.seats = shares.into_iter().map(seat).collect();
    }

    pub(crate) fn partitions(&self) -> usize {
        self.seats.len()
    }
    pub(crate) fn home(&self, slot: SlotIndex) -> usize {
        slot.index() % self.seats.len()
    }

    /// Hands a command in; its reply comes under the ticket.
    pub(crate) fn submit(&mut self, command: Command) -> u64 {
        self.submit_until(command, NEVER_MS)
    }

    /// The same within a scope.
    pub(crate) fn submit_within(&mut self, scope: Scope, command: Command) -> u64 {
        self.submit_with(command, NEVER_MS, scope)
    }

    /// The same with a deadline on the callers' clock.
    pub(crate) fn submit_until(&mut self, command: Command, deadline_ms: u64) -> u64 {
        self.submit_with(command, deadline_ms, Scope::default())
    }

    fn submit_with(&mut self, command: Command, deadline_ms: u64, scope: Scope) -> u64 {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let home = command.slot(&SEED).map_or(0, |slot| self.home(slot));
        self.owed.insert(ticket);
        self.seats[home].submissions.push_back(Submission { ticket, deadline_ms, scope: scope.carried(), command });
        ticket
    }

    /// Submits, runs to rest, gives the reply.
    pub(crate) fn call(&mut self, command: Command) -> Reply {
        self.call_within(Scope::default(), command)
    }

    /// The same within a scope.
    pub(crate) fn call_within(&mut self, scope: Scope, command: Command) -> Reply {
        let ticket = self.submit_within(scope, command);
        self.settle();
        self.replies[&ticket].clone()
    }

    /// One random step.
    pub(crate) fn step(&mut self, draw: &mut Draw) {
        let p = draw.below(self.seats.len());
        match draw.below(8) {
            0..=3 if self.seats[p].decided.is_none() && self.seats[p].unsent.is_empty() => {
                let (messages, commands) = (draw.below(4), draw.below(4));
                self.decide(p, messages, commands, draw.below(3));
            }
            0..=4 if self.seats[p].decided.is_some() => self.ticket(p),
            5 | 6 => self.send(p),
            7 => {
                let behind = self.journal.len() - self.durable;
                let to = self.durable + draw.below(behind + 1);
                self.sync(to);
            }
            _ => {}
        }
    }

    /// A turn of partition `p` that takes at most so many messages of each peer, commands and expiries.
    pub(crate) fn decide(&mut self, p: usize, messages_max: usize, commands_max: usize, expiries_max: usize) {
        let (monotonic_ms, admission) = (self.monotonic_ms, self.admission);
        let turn = Turn { now: self.now, monotonic_ms, expiries_max, admission };
        let seat = &mut self.seats[p];
        let mut allowance = vec![messages_max; seat.inbox.len()];
        let (inbox, submissions) = (&mut seat.inbox, &mut seat.submissions);
        let mut messages = core::iter::from_fn(|| {
            let from = (0..inbox.len()).find(|from| allowance[*from] > 0 && !inbox[*from].is_empty())?;
            allowance[from] -= 1;
            inbox[from].pop_front()
        });
        let mut commands_left = commands_max;
        let mut commands = core::iter::from_fn(|| {
            commands_left = commands_left.checked_sub(1)?;
            submissions.pop_front()
        });
        let mut out = Output::default();
        let turned = seat.partition.turn(turn, &mut messages, &mut commands, &mut out);
        turned.expect("evolve follows decide");
        seat.decided = Some(out);
    }

    /// Draws the numbers of what `p` decided and journals it.
    pub(crate) fn ticket(&mut self, p: usize) {
        let Some(mut out) = self.seats[p].decided.take() else { return };
        let first = Seq(self.journal.len() as u64 + 1);
        self.seats[p].partition.stamp(first, &mut out);
        let mut touched = BTreeSet::new();
        for event in out.events.drain(..) {
            event.body.each_leg(|leg| _ = touched.insert(leg.slot));
            self.append(&event);
        }
        for slot in &touched {
            let state = self.slot(*slot).expect("a leg's slot has an owner");
            state.validate().expect("a slot is valid after every turn");
            state.validate_order().expect("every key can leave");
        }
        let Seat { partition, copies, .. } = &mut self.seats[p];
        copies.go_on(partition, touched.into_iter(), self.now);
        for answer in out.answers.drain(..) {
            self.take_answer(answer);
        }
        self.seats[p].unsent.extend(out.messages.drain(..));
    }

    fn append(&mut self, event: &Event) {
        let mut bytes = EventBytes::new();
        encode(event, &mut bytes);
        let (read, length) = decode(&bytes).expect("what is written can be read");
        assert_eq!((&read, length), (event, bytes.len()), "an event survives its bytes");
        let seq = Seq(self.journal.len() as u64 + 1);
        self.audit.observe(seq, &read);
        self.journal.push(read);
    }

    fn take_answer(&mut self, answer: Answer) {
        assert!(!answer.after.is_provisional(), "J2: {answer:?} is released by a real number");
        assert!(answer.after.0 <= self.journal.len() as u64, "J2: {answer:?} waits for what exists");
        assert!(answer.reply.seq <= answer.after, "J2: {answer:?} reveals its own event");
        let Reply { balances, ledger, .. } = &answer.reply;
        assert_eq!(balances.is_some(), ledger.is_some(), "{answer:?}: balances are told with their ledger");
        assert!(self.owed.contains(&answer.ticket), "{answer:?} is answered twice");
        assert!(self.held_back.iter().all(|held| held.ticket != answer.ticket), "{answer:?} is answered twice");
        self.held_back.push(answer);
        self.release();
    }

    /// Sends what `p` has to say to its peers.
    pub(crate) fn send(&mut self, p: usize) {
        while let Some(message) = self.seats[p].unsent.pop_front() {
            let to = self.home(message.to());
            self.seats[to].inbox[p].push_back(message);
        }
    }

    /// Moves the durable point; answers up to it leave.
    pub(crate) fn sync(&mut self, to: usize) {
        assert!(self.durable <= to && to <= self.journal.len());
        self.durable = to;
        self.release();
    }
    fn release(&mut self) {
        let durable = self.durable as u64;
        let (leaving, staying) = self.held_back.drain(..).partition(|answer: &Answer| answer.after.0 <= durable);
        self.held_back = staying;
        for Answer { ticket, reply, .. } in leaving {
            self.owed.remove(&ticket);
            self.replies.insert(ticket, reply);
        }
    }

    fn is_idle(&self, p: usize) -> bool {
        let seat = &self.seats[p];
        let queues_are_empty = seat.inbox.iter().all(VecDeque::is_empty) && seat.submissions.is_empty();
        queues_are_empty && seat.decided.is_none() && seat.unsent.is_empty() && !seat.partition.has_work(self.now)
    }

    /// Answers whose deadline passed, of all partitions.
    pub(crate) fn sweep(&mut self) {
        for p in 0..self.seats.len() {
            let mut out = Output::default();
            self.seats[p].partition.sweep(self.monotonic_ms, &mut out);
            self.take_swept(out);
        }
    }

    /// The engine stops: everyone who waits is answered.
    pub(crate) fn abandon(&mut self) {
        for p in 0..self.seats.len() {
            let mut out = Output::default();
            self.seats[p].partition.abandon(&mut out);
            self.take_swept(out);
        }
    }

    fn take_swept(&mut self, out: Output) {
        assert!(out.events.is_empty() && out.messages.is_empty(), "a sweep only answers");
        for answer in out.answers {
            assert!(answer.reply.outcome.leaves_at_once(), "J2: {answer:?}");
            self.take_answer(answer);
        }
    }

    /// Runs until nothing moves, all is durable and every submitter has its reply.
    pub(crate) fn settle(&mut self) {
        for step in 0..STEPS_MAX {
            let busy: Vec<usize> = (0..self.seats.len()).filter(|p| !self.is_idle(*p)).collect();
            if busy.is_empty() {
                break;
            }
            assert!(step + 1 < STEPS_MAX, "partitions {busy:?} do not come to rest");
            for p in busy {
                self.ticket(p);
                self.send(p);
                self.decide(p, usize::MAX, usize::MAX, usize::MAX);
                self.ticket(p);
                self.send(p);
            }
        }
        self.sync(self.journal.len());
        assert!(self.owed.is_empty(), "EXC-1: submitters {:?} wait although nothing moves", self.owed);
        self.check_rest();
    }

    /// At rest no exchange is open and all books balance.
    fn check_rest(&self) {
        self.audit.check_rest();
        let mut transit = BTreeMap::new();
        for slot in self.slots() {
            assert_eq!(slot.open_exchanges(), 0, "EXC-1: slot {:?} is at rest", slot.index());
            for (ledger, amount) in slot.in_transit() {
                *transit.entry(*ledger).or_insert(0i128) += amount;
            }
        }
        assert!(transit.values().all(|sum| *sum == 0), "LED-1: in transit at rest: {transit:?}");
        self.check_books();
    }

    /// LED-1: what is posted and what is in transit cancel out, per ledger, at any time; and the live accounts stand as the
    /// journal's events say.
    pub(crate) fn check_books(&self) {
        let mut sums = BTreeMap::new();
        for slot in self.slots() {
            for (ledger, amount) in slot.in_transit() {
                *sums.entry(*ledger).or_insert(0i128) += amount;
            }
            for account in slot.accounts() {
                *sums.entry(account.settings.ledger).or_insert(0) += account.balances.posted;
            }
        }
        assert!(sums.values().all(|sum| *sum == 0), "LED-1: {sums:?}");
        if self.seats.iter().all(|seat| seat.decided.is_none()) {
            for account in self.accounts() {
                let (version, seq, posted) = self.audit.stands(account.account);
                let live = (account.version, account.seq, account.balances.posted);
                assert_eq!(live, (version, seq, posted), "{:?} stands as its legs say", account.account);
            }
        }
    }

    /// All power is lost: what is not durable is gone. Returns the tickets that will never be answered.
    pub(crate) fn crash(&mut self, partitions: usize) -> Vec<u64> {
        self.journal.truncate(self.durable);
        self.held_back.clear();
        self.audit = Audit::new(self.rules.windows);
        for (n, event) in self.journal.iter().enumerate() {
            self.audit.observe(Seq(n as u64 + 1), event);
        }
        let slots = replay::replay(&self.journal, partitions, &self.rules);
        self.seat(partitions, slots);
        let last = Seq(self.journal.len() as u64);
        for p in 0..partitions {
            let mut out = Output::default();
            self.seats[p].partition.set_last_seq(last);
            self.seats[p].partition.resend(&mut out);
            assert!(out.events.is_empty() && out.answers.is_empty(), "recovery only sends");
            self.seats[p].unsent.extend(out.messages);
        }
        core::mem::take(&mut self.owed).into_iter().collect()
    }

    /// Every partition says what its peers may forget; then rest.
    pub(crate) fn idle(&mut self) {
        for p in 0..self.seats.len() {
            let mut out = Output::default();
            self.seats[p].partition.idle(&mut out);
            assert!(out.events.is_empty() && out.answers.is_empty(), "an idle partition only sends");
            self.seats[p].unsent.extend(out.messages);
        }
        self.settle();
    }

    /// What one idle call of `p` asks, by slot that asks and slot that is asked; nothing is sent.
    pub(crate) fn asks(&mut self, p: usize) -> Vec<(SlotIndex, SlotIndex)> {
        let mut out = Output::default();
        self.seats[p].partition.idle(&mut out);
        let ask = |message: &Message| match message {
            Message::Ask { from, to } => (*from, *to),
            other => panic!("an idle partition only asks: {other:?}"),
        };
        out.messages.iter().map(ask).collect()
    }

    /// J4: the journal replayed with any number of partitions gives the live state.
    pub(crate) fn check_replay(&self, partitions: &[usize]) {
        let at = self.journal.iter().map(|event| event.time).max().unwrap_or(Time(0));
        let live = replay::digest(self.slots(), at);
        for count in partitions {
            let replayed = replay::replay(&self.journal, *count, &self.rules);
            replay::check_same(self.slots(), &replayed, at);
            assert_eq!(replay::digest(&replayed, at), live, "J4: replay with {count} partitions");
        }
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        let mut slots: Vec<&Slot> = self.seats.iter().flat_map(|seat| seat.partition.slots()).collect();
        slots.sort_by_key(|slot| slot.index());
        slots.into_iter()
    }
    pub(crate) fn slot(&self, index: SlotIndex) -> Option<&Slot> {
        self.seats[self.home(index)].partition.slot(index)
    }
    /// Keys in memory, of all partitions.
    pub(crate) fn keys_in_memory(&self) -> u64 {
        self.seats.iter().map(|seat| seat.partition.stats().keys).sum()
    }
    pub(crate) fn accounts(&self) -> Vec<AccountView> {
        self.slots().flat_map(Slot::accounts).collect()
    }
    pub(crate) fn account(&self, id: AccountId) -> Option<AccountView> {
        self.slot(SEED.slot_of(id))?.account(id)
    }
    pub(crate) fn authorization(&self, id: tp_core::ids::AuthorizationId) -> Option<AuthorizationView> {
        self.slot(id.slot())?.authorization(id)
    }
}
