//! The clients of a loaded engine: what is sent at which time, and what came back.
//!
//! Owns every command by its number, and the tests of a reply: it answers a command that waits, once, in time, and says what was
//! asked for; it is no earlier than its event can be durable. Refuses to know disks. At the end the journal is held
//! against what was said ([`Load::audit`]).

use std::collections::BTreeMap;

use tp_actors::{CallOptions, Client, ManualEngine};
use tp_core::amount::{Amount, CreditLimit, Ledger};
use tp_core::command::{Authorize, Command, Note, OpenAccount, Settings, Transfer};
use tp_core::event::{Body, Event};
use tp_core::ids::AccountId;
use tp_core::key::Key;
use tp_core::outcome::Outcome;
use tp_core::reply::Reply;

use crate::machine::events;
use crate::oracle::Wrong;

/// Accounts that pay and are paid: so few that soon each slot remembers an exchange with each, and memory stands still.
const ACCOUNTS: u64 = 256;
/// Of so many commands one is a transfer, the others are authorizations.
const TRANSFER_ONE_IN: u64 = 4;
/// How long a hold lives, ms: what a run keeps in memory soon stays as it is.
const HOLD_MS: u64 = 100;
/// Between two looks at deadlines.
pub(super) const TICK_US: u64 = 5_000;

/// What became of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fate {
    Waits,
    /// Refused for want of room, at once or later.
    Busy,
    /// `deadline_exceeded`: it will never be done.
    Late,
    /// `in_progress` at its deadline: decided, and it is not known yet whether it is durable.
    InProgress,
    /// Decided in time, by this event.
    Decided(u64),
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    planned_us: u64,
    until_us: u64,
    fate: Fate,
}

/// A part of a run with one rate.
#[derive(Clone, Debug)]
pub struct Part {
    /// Commands a second.
    pub rate: u64,
    /// When it begins, µs.
    pub from_us: u64,
    /// When it ends, µs.
    pub to_us: u64,
    /// Commands planned in it.
    pub sent: u64,
    /// Of these, answered `busy`.
    pub busy: u64,
    /// Of these, answered `deadline_exceeded`.
    pub late: u64,
    /// Of these, answered `in_progress`.
    pub in_progress: u64,
    /// When the last command that was not decided in time was planned, from its beginning, µs.
    pub refused_us_last: u64,
    /// Replies that came within it and told a decision: the goodput.
    pub decided_within: u64,
    /// Of the commands planned in it that were decided in time: when, from its beginning, and how long it took from then on, µs.
    pub latencies_us: Vec<(u32, u32)>,
}

/// Everything sent in a run.
pub(super) struct Load {
    client: Client,
    ledger: Ledger,
    sent: Vec<Sent>,
    pub(super) parts: Vec<Part>,
    /// Each of so many has a deadline of its own, ms.
    deadlines_ms: Vec<u64>,
    /// The last event that a reply named.
    pub(super) acknowledged: u64,
    /// The latest that a reply came after its deadline, µs.
    pub(super) overdue_us_max: u64,
    pub(super) in_flight_max: usize,
}

/// The bits of a number, mixed (`SplitMix64`): which account and amount it names.
const fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn account(n: u64) -> AccountId {
    AccountId(u128::from(n % ACCOUNTS) + 1)
}

fn amount_of(number: u64) -> Amount {
    Amount::from(mixed(number) % 1_000 + 1)
}

const fn is_transfer(number: u64) -> bool {
    number.is_multiple_of(TRANSFER_ONE_IN)
}

impl Load {
    /// Clients that wait for `deadlines_ms` in turn. `commands`: so many are expected.
    pub(super) fn new(engine: &ManualEngine, in_flight: usize, deadlines_ms: &[u64], commands: usize) -> Self {
        Self {
            client: engine.client(in_flight),
            ledger: Ledger::new("EUR", 2).expect("three capital letters and two decimals are a ledger"),
            sent: Vec::with_capacity(commands),
            parts: Vec::new(),
            deadlines_ms: deadlines_ms.to_vec(),
            acknowledged: 0,
            overdue_us_max: 0,
            in_flight_max: 0,
        }
    }

    /// A part more, after the others.
    pub(super) fn add_part(&mut self, rate: u64, from_us: u64, to_us: u64, goodput_most: u64) {
        let expected =
            usize::try_from((to_us - from_us).saturating_mul(rate.min(goodput_most)) / 1_000_000).unwrap_or(0);
        let latencies_us = Vec::with_capacity(expected * 3 / 2);
        self.parts.push(Part {
            rate,
            from_us,
            to_us,
            sent: 0,
            busy: 0,
            late: 0,
            in_progress: 0,
            refused_us_last: 0,
            decided_within: 0,
            latencies_us,
        });
    }

    /// The accounts that everything is about, one command each.
    pub(super) fn openings(&self) -> impl Iterator<Item = OpenAccount> {
        let settings = Settings { credit_limit: CreditLimit::Unlimited, ..Settings::new(self.ledger) };
        (0..ACCOUNTS).map(move |n| OpenAccount {
            key: Key::opaque(u128::from(n) + 1),
            account: account(n),
            settings,
            note: Note::default(),
        })
    }

    fn command(&self, number: u64, engine: &ManualEngine) -> Command {
        let key = Key::uuid_v7_from_parts(engine.now(), u128::from(number));
        let (payer, amount) = (mixed(number) >> 20, amount_of(number));
        if is_transfer(number) {
            let payee = payer + 1 + (mixed(number) >> 8) % (ACCOUNTS - 1);
            let (account, payee) = (account(payer), account(payee));
            return Transfer { key, account, payee, ledger: self.ledger, amount, note: Note::default() }.into();
        }
        Authorize { lifetime_ms: Some(HOLD_MS), ..Authorize::new(key, account(payer), self.ledger, amount) }.into()
    }

    /// Sends the next command, planned for that time.
    pub(super) fn send(&mut self, engine: &ManualEngine, now_us: u64, planned_us: u64) {
        let number = self.sent.len() as u64;
        let command = self.command(number, engine);
        let deadline_ms = self.deadlines_ms[usize::try_from(number).unwrap_or(0) % self.deadlines_ms.len()];
        let options = CallOptions { deadline_ms: Some(deadline_ms), ..CallOptions::default() };
        let is_taken = self.client.submit_with(number, &command, options).is_ok();
        self.in_flight_max = self.in_flight_max.max(self.client.in_flight());
        let fate = if is_taken { Fate::Waits } else { Fate::Busy };
        self.sent.push(Sent { planned_us, until_us: now_us + deadline_ms * 1_000, fate });
        if let Some(part) = part_at(&mut self.parts, planned_us) {
            part.sent += 1;
            if !is_taken {
                part.busy += 1;
                part.refused_us_last = planned_us - part.from_us;
            }
        }
    }

    /// Takes the replies that are there. `reach`: no event above it can be durable.
    ///
    /// # Errors
    /// A reply that is not true, twice, or early.
    pub(super) fn poll(&mut self, now_us: u64, reach: u64) -> Result<(), Wrong> {
        let Self { client, sent, parts, overdue_us_max, acknowledged, .. } = self;
        let mut wrong = None;
        client.poll(|number, reply| {
            let Some(was) = usize::try_from(number).ok().and_then(|at| sent.get_mut(at)) else {
                wrong = Some(format!("a reply to command {number}, which was never sent"));
                return;
            };
            match judge(number, was, &reply, reach) {
                Ok(fate) => {
                    *overdue_us_max = (*overdue_us_max).max(now_us.saturating_sub(was.until_us));
                    *acknowledged = (*acknowledged).max(reply.seq.0);
                    was.fate = fate;
                    note(parts, *was, now_us);
                }
                Err(said) => wrong = Some(format!("command {number}: {said}: {reply:?}")),
            }
        });
        wrong.map_or(Ok(()), Err)
    }

    /// Memory that the notes about all that was sent take.
    pub(super) fn bytes(&self) -> u64 {
        let latencies = self.parts.iter().map(|part| part.latencies_us.capacity() * size_of::<(u32, u32)>());
        (self.sent.capacity() * size_of::<Sent>() + latencies.sum::<usize>()) as u64
    }

    pub(super) fn in_flight(&self) -> usize {
        self.client.in_flight()
    }

    /// Holds the journal against what was said: who was told a decision finds it at that number, once; what was refused for want
    /// of room or time is not in it; what was left open is in it, since nothing was lost.
    ///
    /// # Errors
    /// The first difference.
    pub(super) fn audit(&self, engine: &ManualEngine) -> Result<(), Wrong> {
        let mut journal =
            Journal { told: vec![0; self.sent.len()], decided: vec![0; self.sent.len()], open: BTreeMap::new() };
        let mut reader = engine.source().read_from(1).map_err(|error| error.to_string())?;
        while let Some(frame) = reader.next(engine.durable_seq().0).map_err(|error| error.to_string())? {
            for event in events(&frame) {
                let (seq, event) = event?;
                journal.take(seq, &event)?;
            }
        }
        for (number, sent) in self.sent.iter().enumerate() {
            let (decided, told) = (journal.decided[number], journal.told[number]);
            let is_right = match sent.fate {
                Fate::Waits => return Err(format!("command {number} was never answered")),
                Fate::Busy | Fate::Late => decided == 0,
                Fate::InProgress => decided == 1,
                Fate::Decided(seq) => decided == 1 && told == seq,
            };
            if !is_right {
                return Err(format!(
                    "command {number}, {sent:?}: decided {decided} times in the journal, told by {told}"
                ));
            }
        }
        Ok(())
    }
}

/// What the journal says of the commands, by number.
struct Journal {
    /// The event that tells the outcome.
    told: Vec<u64>,
    /// How often it was decided.
    decided: Vec<u8>,
    /// Exchanges under way, by opener slot and number.
    open: BTreeMap<(u16, u64), usize>,
}

impl Journal {
    fn take(&mut self, seq: u64, event: &Event) -> Result<(), Wrong> {
        if let Body::Ended(ended) = &event.body {
            for end in &ended.ends {
                let number = self.open.remove(&(end.slot.get(), end.number)).ok_or("an end of nothing")?;
                self.told[number] = seq;
            }
            return Ok(());
        }
        let Some(head) = event.body.head().filter(|head| Key::opaque(head.key) != head.full_key()) else {
            return Ok(());
        };
        let number = usize::try_from(head.key & ((1 << 62) - 1)).map_err(|error| error.to_string())?;
        let decided = self.decided.get_mut(number).ok_or("a decision of nothing that was sent")?;
        *decided += 1;
        self.told[number] = seq;
        if let Body::Opened(opened) = &event.body {
            self.open.insert((head.slot.get(), opened.number), number);
        }
        Ok(())
    }
}

impl Part {
    /// Commands planned in it that were told a decision, whenever.
    pub const fn decided(&self) -> u64 {
        self.sent - self.busy - self.late - self.in_progress
    }

    /// Decided commands a second that were told within it.
    pub const fn goodput(&self) -> u64 {
        self.decided_within * 1_000_000 / (self.to_us - self.from_us)
    }

    /// So many of 1,000 were not slower, of those planned between two times from its beginning, µs; 0 when there are none.
    pub fn latency_us(&self, per_mille: usize, (from_us, to_us): (u64, u64)) -> u64 {
        let within = |planned_us: u32| (from_us..to_us).contains(&u64::from(planned_us));
        let of = |(planned_us, took_us): &(u32, u32)| within(*planned_us).then_some(*took_us);
        let mut took: Vec<u32> = self.latencies_us.iter().filter_map(of).collect();
        took.sort_unstable();
        let at = (took.len() * per_mille / 1_000).min(took.len().saturating_sub(1));
        took.get(at).map_or(0, |us| u64::from(*us))
    }

    /// How long it is, µs.
    pub const fn length_us(&self) -> u64 {
        self.to_us - self.from_us
    }
}

fn part_at(parts: &mut [Part], us: u64) -> Option<&mut Part> {
    parts.iter_mut().find(|part| (part.from_us..part.to_us).contains(&us))
}

/// What a reply makes of a command.
fn judge(number: u64, was: &Sent, reply: &Reply, reach: u64) -> Result<Fate, Wrong> {
    if was.fate != Fate::Waits {
        return Err(format!("answered again after {:?}", was.fate));
    }
    match reply.outcome {
        Outcome::Busy => Ok(Fate::Busy),
        Outcome::DeadlineExceeded => Ok(Fate::Late),
        Outcome::InProgress => Ok(Fate::InProgress),
        Outcome::Approved if reply.seq.0 > reach => Err(format!("acknowledged, and durable at most to {reach}")),
        Outcome::Approved if reply.amount != amount_of(number) || reply.repeated => Err("another answer".into()),
        Outcome::Approved if reply.transfer.is_some() != is_transfer(number) => {
            Err("the answer of another verb".into())
        }
        Outcome::Approved => Ok(Fate::Decided(reply.seq.0)),
        _ => Err("an outcome that nothing asked for".into()),
    }
}

fn note(parts: &mut [Part], sent: Sent, now_us: u64) {
    if matches!(sent.fate, Fate::Decided(_))
        && let Some(part) = part_at(parts, now_us)
    {
        part.decided_within += 1;
    }
    let Some(part) = part_at(parts, sent.planned_us) else { return };
    if !matches!(sent.fate, Fate::Decided(_)) {
        part.refused_us_last = part.refused_us_last.max(sent.planned_us - part.from_us);
    }
    match sent.fate {
        Fate::Waits => {}
        Fate::Busy => part.busy += 1,
        Fate::Late => part.late += 1,
        Fate::InProgress => part.in_progress += 1,
        Fate::Decided(_) => {
            let short = |us: u64| u32::try_from(us).unwrap_or(u32::MAX);
            part.latencies_us.push((short(sent.planned_us - part.from_us), short(now_us - sent.planned_us)));
        }
    }
}
