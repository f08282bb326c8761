//! Many lanes of commands through one client: serial within a lane, together across lanes.
//!
//! Owns submission, repeats of what was not decided (`busy`, `deadline_exceeded`, `in_progress`: the same command with the same
//! key) and the end when the engine cannot go on. Refuses to know what the commands are.
//!
//! ```text
//!   ready lanes --submit--> engine --poll--> reply --next(lane, reply)--> the lane's next command, or it is done
//!        ^                                     |
//!        +------- the same command again <-----+ busy, deadline_exceeded, in_progress
//! ```

use std::collections::VecDeque;
use std::time::Duration;

use tpcore::{CallOptions, Client, Command, Engine, ErrorClass, Outcome, Reply};

use super::super::exit::{Code, Failure};

/// Commands under way at one time.
pub(crate) const IN_FLIGHT: usize = 1024;
/// Until when each must be decided, ms: a loaded disk is no reason to give up; what is undecided then is sent again.
const DEADLINE_MS: u64 = 60_000;
/// How long to wait before the engine's state is looked at, or an undecided command is sent again.
const WAIT: Duration = Duration::from_millis(200);
const PAUSE: Duration = Duration::from_millis(2);

/// Gives a lane's next command: the first one without a reply, the others after the reply to the one before; `None`: done.
pub(crate) type Next<'a> = dyn FnMut(usize, Option<Reply>) -> Option<Command> + 'a;

/// One client and what it is doing.
pub(crate) struct Pipeline<'e> {
    engine: &'e Engine,
    client: Client,
}

impl<'e> Pipeline<'e> {
    pub(crate) fn new(engine: &'e Engine) -> Self {
        Self { engine, client: engine.client(IN_FLIGHT) }
    }

    /// Runs lanes 0 to `lanes` - 1 to their ends: all replies are in.
    ///
    /// # Errors
    /// When the disk is full or the engine stopped; what was approved until then stays booked.
    pub(crate) fn run(&mut self, lanes: usize, next: &mut Next<'_>) -> Result<(), Failure> {
        let mut current: Vec<Option<Command>> = (0..lanes).map(|lane| next(lane, None)).collect();
        let mut ready: VecDeque<usize> =
            (0..lanes).filter(|lane| current.get(*lane).is_some_and(Option::is_some)).collect();
        let mut answered: Vec<(usize, Reply)> = Vec::with_capacity(IN_FLIGHT);
        let mut in_flight = 0usize;
        while in_flight > 0 || !ready.is_empty() {
            in_flight += self.submit(&current, &mut ready);
            self.client.poll(|lane, reply| answered.push((usize::try_from(lane).unwrap_or(usize::MAX), reply)));
            if answered.is_empty() {
                self.wait()?;
                continue;
            }
            let mut undecided = false;
            for (lane, reply) in answered.drain(..) {
                in_flight -= 1;
                match reply.outcome {
                    Outcome::Busy | Outcome::DeadlineExceeded | Outcome::InProgress => undecided = true,
                    Outcome::NoSpace => return Err(no_space()),
                    Outcome::Stopping | Outcome::SystemError => return Err(self.stopped(reply.outcome)),
                    _ => {
                        let command = next(lane, Some(reply));
                        let goes_on = command.is_some();
                        if let Some(slot) = current.get_mut(lane) {
                            *slot = command;
                        }
                        if !goes_on {
                            continue;
                        }
                    }
                }
                ready.push_back(lane);
            }
            if undecided {
                self.check()?;
                std::thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    /// Submits what is ready, as far as there is room. Returns how many.
    fn submit(&mut self, current: &[Option<Command>], ready: &mut VecDeque<usize>) -> usize {
        let mut count = 0;
        while let Some(lane) = ready.front().copied() {
            let Some(Some(command)) = current.get(lane) else { break };
            let options = CallOptions { deadline_ms: Some(DEADLINE_MS), ..CallOptions::default() };
            if self.client.submit_with(lane as u64, command, options).is_err() {
                break;
            }
            ready.pop_front();
            count += 1;
        }
        count
    }

    fn wait(&mut self) -> Result<(), Failure> {
        if self.client.in_flight() == 0 {
            std::thread::sleep(PAUSE); // the partition's inbox was full
        } else if self.client.wait(WAIT) {
            return Ok(());
        }
        self.check()
    }

    /// Whether the engine still works.
    fn check(&self) -> Result<(), Failure> {
        if self.engine.status().poison.is_some() { Err(self.stopped(Outcome::SystemError)) } else { Ok(()) }
    }

    fn stopped(&self, outcome: Outcome) -> Failure {
        const CURE: &str =
            "what was acknowledged is booked; remove the cause and run the same command again: it continues";
        match self.engine.status().poison {
            Some(cause) => {
                let code = if cause.class() == ErrorClass::Disk { Code::Disk } else { Code::Check };
                Failure::new(code, format!("the engine stopped: {cause}; {CURE}"))
            }
            None => Failure::new(Code::Check, format!("the engine answered `{outcome}`; {CURE}")),
        }
    }
}

fn no_space() -> Failure {
    Failure::new(
        Code::Disk,
        "the disk is full: no further journal segment can be had; what was acknowledged is booked; free space and run the same \
         command again: it continues",
    )
}
