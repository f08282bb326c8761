//! The open loop: sends each command at its planned time, whatever became of those before.
//!
//! Owns what is in flight and the clock of a run; refuses to know what commands mean. The target is never waited for: what it
//! has no room for is `busy`. Between two planned times the thread sleeps or waits for replies, at most [`TICK`].
//!
//! ```text
//!  0 ────── warm-up ────── from_ns ────────── measured part ────────── to_ns ── drain ──
//!           not recorded            planned in here: recorded
//! ```

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Result, bail};
use tpcore::{Lookup, Outcome};

use crate::acks::AckRecorder;
use crate::machine;
use crate::recorder::{Answer, Recorder};
use crate::report::Second;
use crate::schedule::Schedule;
use crate::target::{Progress, Session, Target};
use crate::workload::{Sent, Workload};

/// The longest sleep between looks at the clock.
const TICK: Duration = Duration::from_micros(500);
/// So long a target may take for the last replies.
const DRAIN: Duration = Duration::from_mins(1);
const SECOND_NS: u64 = 1_000_000_000;
/// Commands sent between two looks for replies.
const BURST: u32 = 256;

/// Before the outcome of a command is asked for again, ns.
const ASK_AGAIN_NS: u64 = 100_000_000;

/// A command in flight.
struct Flight {
    planned_ns: u64,
    sent: Sent,
    /// It was answered `in_progress`; what is in flight is the question what became of it.
    is_asked: bool,
}

/// What the driver is given besides the workload.
pub struct Drive<'a> {
    /// What is driven.
    pub target: &'a dyn Target,
    /// The measured part.
    pub schedule: &'a Schedule,
    /// Before it, at its first rate.
    pub warm_up: Duration,
    /// The most commands in flight.
    pub in_flight: usize,
    /// Set to end early.
    pub stop: &'a AtomicBool,
    /// What the target shows of itself, sampled beside the run.
    pub progress: &'a (dyn Fn() -> Progress + Sync),
    /// Told about each second of the measured part.
    pub each_second: &'a mut dyn FnMut(&Second),
    /// Acknowledgements, if they are recorded.
    pub acks: Option<&'a mut AckRecorder>,
    /// A reply that comes so long after the measured part is still in time: the load may end higher than it began.
    pub grace: Duration,
}

/// What a run gave.
pub struct Driven {
    /// What was measured.
    pub recorder: Recorder,
    /// Length of the measured part, ns.
    pub measured_ns: u64,
    /// Whether it was ended early.
    pub ended_early: bool,
    /// When the measured part began.
    pub started: SystemTime,
}

struct Loop<'a, 'b> {
    drive: &'b mut Drive<'a>,
    session: Box<dyn Session>,
    start: Instant,
    from_ns: u64,
    to_ns: u64,
    grace_ns: u64,
    flights: Vec<Option<Flight>>,
    free: Vec<usize>,
    recorder: Recorder,
    /// Sent, and answered `in_progress`: looked up soon, while their keys are remembered. When, and what.
    unresolved: VecDeque<(u64, Sent)>,
    /// The target stopped for good, or has a bug: nothing more is sent.
    met_system_error: bool,
}

/// Runs a schedule.
///
/// # Errors
/// When the target leaves commands unanswered, or has no room for a session.
pub fn drive(workload: &mut Workload, mut drive: Drive<'_>) -> Result<Driven> {
    let session = drive.target.session(drive.in_flight)?;
    let from_ns = ns(drive.warm_up);
    let to_ns = from_ns + ns(drive.schedule.length());
    let times = drive.schedule.with_warm_up(drive.warm_up).times();
    let grace_ns = ns(drive.grace);
    let mut looping = Loop {
        met_system_error: false,
        session,
        start: Instant::now(),
        from_ns,
        to_ns,
        grace_ns,
        flights: (0..drive.in_flight).map(|_| None).collect(),
        free: (0..drive.in_flight).rev().collect(),
        recorder: Recorder::default(),
        unresolved: VecDeque::new(),
        drive: &mut drive,
    };
    looping.start = Instant::now(); // what was made above took time
    let started = SystemTime::now() + looping.drive.warm_up;
    let ended_early = looping.send_all(workload, times);
    if ended_early {
        looping.to_ns = looping.now_ns().clamp(looping.from_ns, looping.to_ns);
    }
    looping.drain(workload)?;
    looping.resolve(workload)?;
    let measured_ns = looping.to_ns - looping.from_ns;
    Ok(Driven { recorder: looping.recorder, measured_ns, ended_early, started })
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Loop<'_, '_> {
    fn now_ns(&self) -> u64 {
        ns(self.start.elapsed())
    }

    /// Sends everything at its time. Returns whether it was stopped before the end.
    fn send_all(&mut self, workload: &mut Workload, times: impl Iterator<Item = u64>) -> bool {
        let mut times = times.peekable();
        loop {
            let now_ns = self.now_ns();
            self.end_seconds(now_ns);
            if self.drive.stop.load(Ordering::Relaxed) || self.met_system_error {
                return true;
            }
            // One look at the target's clock serves all that are due.
            let time = self.drive.target.now();
            let mut burst = 0_u32;
            while let Some(planned_ns) = times.next_if(|planned_ns| *planned_ns <= now_ns) {
                let (command, sent) = workload.next(time);
                self.send(workload, planned_ns, &command, sent);
                burst += 1;
                if burst.is_multiple_of(BURST) {
                    self.poll(workload); // replies do not wait for a long burst to be sent
                }
            }
            self.poll(workload);
            self.ask();
            if let Some(acks) = &mut self.drive.acks {
                acks.tick();
            }
            let wait_ns = match times.peek() {
                Some(planned_ns) => planned_ns.saturating_sub(self.now_ns()),
                None if self.now_ns() >= self.to_ns => break,
                None => self.to_ns - self.now_ns(),
            };
            if wait_ns > 0 {
                self.session.wait(Duration::from_nanos(wait_ns).min(TICK));
            }
        }
        self.end_seconds(self.now_ns());
        false
    }

    fn is_measured(&self, ns: u64) -> bool {
        (self.from_ns..self.to_ns).contains(&ns)
    }

    fn send(&mut self, workload: &mut Workload, planned_ns: u64, command: &tpcore::Command, sent: Sent) {
        let is_measured = self.is_measured(planned_ns);
        if is_measured {
            self.recorder.sent(self.now_ns().saturating_sub(planned_ns));
        }
        if self.free.is_empty() {
            self.poll(workload); // what is answered already is not in flight
        }
        let Some(at) = self.free.pop() else { return self.refuse(workload, is_measured, &sent) };
        if self.session.submit(at as u64, command) {
            self.flights[at] = Some(Flight { planned_ns, sent, is_asked: false });
        } else {
            self.free.push(at);
            self.refuse(workload, is_measured, &sent);
        }
    }

    fn refuse(&mut self, workload: &mut Workload, is_measured: bool, sent: &Sent) {
        if is_measured {
            self.recorder.refused(sent.kind);
        }
        workload.refused(sent);
    }

    fn poll(&mut self, workload: &mut Workload) -> usize {
        let Self { session, flights, free, recorder, unresolved, start, from_ns, to_ns, grace_ns, drive, .. } = self;
        let met_system_error = &mut self.met_system_error;
        session.poll(&mut |tag, reply| {
            let at = usize::try_from(tag).unwrap_or(usize::MAX);
            let Some(flight) = flights.get_mut(at).and_then(Option::take) else { return };
            free.push(at);
            // The clock is read for each: replies that come while others are handled are not as old as those.
            let now_ns = ns(start.elapsed());
            *met_system_error |= reply.outcome == Outcome::SystemError;
            if flight.is_asked && is_open(&reply) {
                return unresolved.push_back((now_ns + ASK_AGAIN_NS, flight.sent));
            }
            if let (Some(acks), Some((owner, key))) = (&mut drive.acks, flight.sent.key) {
                acks.record(owner, key, &reply);
            }
            if flight.is_asked {
                return resolved(workload, flight.sent, &reply);
            }
            let is_in = |ns: u64| (*from_ns..*to_ns).contains(&ns);
            let answer = Answer {
                kind: flight.sent.kind,
                outcome: reply.outcome,
                latency_ns: now_ns.saturating_sub(flight.planned_ns),
                is_measured: is_in(flight.planned_ns),
                is_within: is_in(now_ns),
                is_timely: now_ns < to_ns.saturating_add(*grace_ns),
            };
            recorder.answered(&answer);
            if reply.outcome == Outcome::InProgress && flight.sent.key.is_some() {
                unresolved.push_back((now_ns, flight.sent));
            } else {
                workload.answered(flight.sent, &reply);
            }
        })
    }

    /// Asks for what was answered `in_progress` and is due, as far as there is room.
    fn ask(&mut self) {
        let now_ns = self.now_ns();
        for _ in 0..BURST {
            let Some((_, sent)) = self.unresolved.pop_front_if(|(due_ns, _)| *due_ns <= now_ns) else { return };
            let (Some(at), Some((account, key))) = (self.free.pop(), sent.key) else {
                return self.unresolved.push_front((now_ns, sent));
            };
            if !self.session.submit(at as u64, &Lookup { account, key, fence: true }.into()) {
                self.free.push(at);
                return self.unresolved.push_back((now_ns + ASK_AGAIN_NS, sent));
            }
            self.flights[at] = Some(Flight { planned_ns: now_ns, sent, is_asked: true });
        }
    }

    /// Ends the seconds of the measured part that have passed.
    fn end_seconds(&mut self, now_ns: u64) {
        let end = now_ns.min(self.to_ns);
        while self.from_ns + (self.recorder.series().len() as u64 + 1) * SECOND_NS <= end {
            let progress = (self.drive.progress)();
            let Progress { durable_lag_events, checkpoint_running, .. } = progress;
            let second = self.recorder.tick(durable_lag_events, checkpoint_running, machine::resident_bytes());
            (self.drive.each_second)(second);
        }
    }

    fn drain(&mut self, workload: &mut Workload) -> Result<()> {
        let until = Instant::now() + DRAIN;
        while self.free.len() < self.flights.len() {
            if self.poll(workload) == 0 {
                self.session.wait(Duration::from_millis(10));
            }
            if Instant::now() >= until {
                let open = self.flights.len() - self.free.len();
                bail!("{open} commands were not answered within {} s of the last one", DRAIN.as_secs());
            }
        }
        Ok(())
    }

    /// Asks for what was answered `in_progress`, and forbids what has not come: afterwards every outcome is known.
    fn resolve(&mut self, workload: &mut Workload) -> Result<()> {
        let until = Instant::now() + DRAIN;
        while !self.unresolved.is_empty() || self.free.len() < self.flights.len() {
            if Instant::now() >= until {
                bail!("the outcome of a command is still not known {} s after the last one", DRAIN.as_secs());
            }
            self.ask();
            self.session.wait(Duration::from_millis(1));
            self.poll(workload);
        }
        Ok(())
    }
}

/// Whether a question was not answered itself.
const fn is_open(reply: &tpcore::Reply) -> bool {
    reply.outcome.leaves_at_once()
}

/// What became of a command that was answered `in_progress`; with the fence, what has not come never comes.
fn resolved(workload: &mut Workload, sent: Sent, reply: &tpcore::Reply) {
    match reply.outcome {
        Outcome::Fenced | Outcome::OriginalNotFound => workload.refused(&sent),
        _ => workload.answered(sent, reply),
    }
}

/// Sends commands as fast as the target takes them, and waits for all of them: for the setup.
///
/// # Errors
/// What `done` says of a reply; or when the target leaves commands unanswered.
pub fn closed_loop(
    session: &mut dyn Session,
    in_flight: usize,
    commands: u64,
    mut make: impl FnMut(u64) -> tpcore::Command,
    mut done: impl FnMut(u64, &tpcore::Reply) -> Result<()>,
    stop: &AtomicBool,
) -> Result<()> {
    let (mut next, mut open, mut failed) = (0, 0_usize, None);
    // A command that was not decided is sent again as it was, under its key.
    let mut flights: HashMap<u64, tpcore::Command> = HashMap::new();
    let mut waiting: Vec<u64> = Vec::new();
    let mut heard = Instant::now();
    while next < commands || open > 0 || !waiting.is_empty() {
        if stop.load(Ordering::Relaxed) {
            bail!("ended before the accounts were there");
        }
        while open < in_flight {
            let Some(n) = waiting.pop().or_else(|| (next < commands).then_some(next)) else { break };
            next = next.max(n + 1);
            let command = flights.entry(n).or_insert_with(|| make(n));
            if !session.submit(n, command) {
                waiting.push(n);
                break;
            }
            open += 1;
        }
        session.wait(Duration::from_millis(1));
        let polled = session.poll(&mut |n, reply| {
            open -= 1;
            match reply.outcome {
                Outcome::Busy | Outcome::NoSpace | Outcome::InProgress | Outcome::DeadlineExceeded => {
                    waiting.push(n); // again
                }
                _ => {
                    flights.remove(&n);
                    heard = Instant::now();
                    if let Err(error) = done(n, &reply) {
                        failed.get_or_insert(error);
                    }
                }
            }
        });
        if polled > 0 && open == 0 && !waiting.is_empty() {
            std::thread::sleep(Duration::from_millis(1)); // nothing but refusals: no need to hurry
        }
        if let Some(error) = failed.take() {
            return Err(error);
        }
        if heard.elapsed() > DRAIN {
            bail!(
                "the target has decided nothing for {} s: its disk stalls or is full, or the directory holds more than its budgets allow",
                DRAIN.as_secs()
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tpcore::{AccountId, Key, Reply};

    /// Answers each command with what comes next, and with an approval when nothing does.
    struct Told(Vec<Outcome>, Vec<(u64, Outcome)>);

    impl Session for Told {
        fn submit(&mut self, tag: u64, _: &tpcore::Command) -> bool {
            let outcome = self.0.pop().unwrap_or(Outcome::Approved);
            self.1.push((tag, outcome));
            true
        }
        fn poll(&mut self, each: &mut dyn FnMut(u64, Reply)) -> usize {
            let told = std::mem::take(&mut self.1);
            for (tag, outcome) in &told {
                each(*tag, Reply::bare(*outcome));
            }
            told.len()
        }
        fn wait(&mut self, _: Duration) {}
    }

    /// A setup on a disk that was full for a moment ended with the advice to use another directory.
    #[test]
    fn what_was_not_decided_is_asked_again_until_it_is() {
        let again = vec![Outcome::Busy, Outcome::NoSpace, Outcome::InProgress, Outcome::DeadlineExceeded];
        let mut session = Told(again, Vec::new());
        let lookup = |n| Lookup { account: AccountId(1), key: Key::opaque(u128::from(n)), fence: false }.into();
        let mut approved = Vec::new();
        let each = |n, reply: &Reply| {
            assert_eq!(reply.outcome, Outcome::Approved);
            approved.push(n);
            Ok(())
        };
        closed_loop(&mut session, 2, 3, lookup, each, &AtomicBool::new(false)).expect("all are decided");
        approved.sort_unstable();
        assert_eq!(approved, [0, 1, 2]);
    }
}
