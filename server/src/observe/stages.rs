//! Where a request's time goes. Owns the four stages and the stopwatch that a request carries; refuses to know what a stage does.
//!
//! A lap gives the time since the lap before to one stage, so nothing is counted twice and the stages sum up to the whole.

use std::time::{Duration, Instant};

/// A part of a request's time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// From the head to the end of the body.
    Read,
    /// Authentication, roles, limits.
    Gate,
    /// From submission to the durable reply.
    Engine,
    /// Encoding of the reply or problem.
    Write,
}

impl Stage {
    /// All, in the order of their discriminants.
    pub const ALL: [Self; 4] = [Self::Read, Self::Gate, Self::Engine, Self::Write];

    /// The label in metrics, logs and spans.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Gate => "gate",
            Self::Engine => "engine",
            Self::Write => "write",
        }
    }
}

/// The time of one stage.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spent {
    /// When it began first.
    pub from: Instant,
    /// How long it was, all laps together.
    pub time: Duration,
}

/// Goes with a request from its head to its answer. Copied freely, allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch {
    started: Instant,
    last: Instant,
    spent: [Option<Spent>; Stage::ALL.len()],
}

impl Stopwatch {
    /// Starts at the request's head.
    pub const fn start(now: Instant) -> Self {
        Self { started: now, last: now, spent: [None; Stage::ALL.len()] }
    }

    /// Gives the time since the last lap to that stage. A stage may have several laps.
    pub fn lap(&mut self, stage: Stage, now: Instant) {
        let time = now.saturating_duration_since(self.last);
        let spent = self.spent[stage as usize].get_or_insert(Spent { from: self.last, time: Duration::ZERO });
        spent.time += time;
        self.last = self.last.max(now);
    }

    /// What a stage took; `None` when the request never came to it.
    pub const fn spent(&self, stage: Stage) -> Option<Spent> {
        self.spent[stage as usize]
    }

    /// When the request's head was there.
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// The end of the last lap.
    pub const fn ended(&self) -> Instant {
        self.last
    }

    /// From the start to the end of the last lap.
    pub fn total(&self) -> Duration {
        self.last.saturating_duration_since(self.started)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_laps_sum_up_to_the_whole_and_a_stage_may_have_several() {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        let mut watch = Stopwatch::start(start);
        watch.lap(Stage::Gate, start + ms(2));
        watch.lap(Stage::Read, start + ms(5));
        watch.lap(Stage::Gate, start + ms(6));
        assert_eq!(watch.spent(Stage::Gate), Some(Spent { from: start, time: ms(3) }));
        assert_eq!(watch.spent(Stage::Read), Some(Spent { from: start + ms(2), time: ms(3) }));
        assert_eq!(watch.spent(Stage::Engine), None);
        assert_eq!((watch.total(), watch.ended()), (ms(6), start + ms(6)));
    }

    #[test]
    fn a_time_before_the_last_lap_takes_nothing_back() {
        let (start, ms) = (Instant::now() + Duration::from_secs(1), Duration::from_millis);
        let mut watch = Stopwatch::start(start);
        watch.lap(Stage::Read, start + ms(5));
        watch.lap(Stage::Gate, start + ms(1));
        assert_eq!(watch.total(), ms(5));
        assert_eq!(watch.spent(Stage::Gate).map(|spent| spent.time), Some(Duration::ZERO));
    }
}
