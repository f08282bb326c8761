//! When commands are to be sent: planned before the run, whatever the target does (an open loop).
//!
//! Owns the stages and the planned time of every command; refuses to know clocks. Latency counts from these times, so that a
//! stall of the target shows in every command that it should have taken meanwhile (no coordinated omission).

use std::fmt;
use std::time::Duration;

use crate::units;

/// A stretch of time over which the rate changes evenly from one value to another.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Stage {
    /// Commands a second when it begins.
    pub from_per_s: u64,
    /// Commands a second when it ends.
    pub to_per_s: u64,
    /// How long it takes.
    pub length: Duration,
}

/// Stages, one after the other.
#[derive(Clone, PartialEq, Debug)]
pub struct Schedule {
    stages: Vec<Stage>,
}

impl Schedule {
    /// One rate all the time.
    pub fn constant(rate_per_s: u64, length: Duration) -> Self {
        Self { stages: vec![Stage { from_per_s: rate_per_s, to_per_s: rate_per_s, length }] }
    }

    /// Reads `ramp:1k-50k:10s,spike:100k:2s,soak:20k:30s`: `ramp` changes the rate evenly; `spike`, `soak` and `hold` keep one.
    ///
    /// # Errors
    /// Which stage is wrong, and how.
    pub fn parse(text: &str) -> Result<Self, String> {
        let stages = text
            .split(',')
            .map(|stage| Self::parse_stage(stage.trim()).map_err(|error| format!("stage '{stage}': {error}")));
        Ok(Self { stages: stages.collect::<Result<_, _>>()? })
    }

    fn parse_stage(text: &str) -> Result<Stage, String> {
        let form = "write ramp:FROM-TO:DURATION, or soak:RATE:DURATION (also hold, spike)";
        let mut parts = text.split(':');
        let (Some(kind), Some(rates), Some(length), None) = (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(form.to_owned());
        };
        let length = units::duration(length)?;
        if length.is_zero() || length > LENGTH_MAX {
            return Err(format!("a stage takes more than 0 and at most {}", units::show_duration(LENGTH_MAX)));
        }
        let (from, to) = match kind {
            "ramp" => rates.split_once('-').ok_or(form)?,
            "hold" | "soak" | "spike" => (rates, rates),
            _ => return Err(form.to_owned()),
        };
        Ok(Stage { from_per_s: units::rate(from)?, to_per_s: units::rate(to)?, length })
    }

    /// The same stages with another one before them, for the warm-up: at the rate with which they begin.
    #[must_use]
    pub fn with_warm_up(&self, length: Duration) -> Self {
        let mut stages = self.stages.clone();
        if let Some(first) = stages.first().copied().filter(|_| !length.is_zero()) {
            stages.insert(0, Stage { to_per_s: first.from_per_s, length, ..first });
        }
        Self { stages }
    }

    /// How long all of it takes.
    pub fn length(&self) -> Duration {
        self.stages.iter().map(|stage| stage.length).sum()
    }

    /// The highest rate, commands a second.
    pub fn rate_max(&self) -> u64 {
        self.stages.iter().map(|stage| stage.from_per_s.max(stage.to_per_s)).max().unwrap_or(0)
    }

    /// About how many commands.
    pub fn commands(&self) -> u64 {
        self.stages.iter().map(Stage::commands).fold(0, u64::saturating_add)
    }

    /// The planned times of all commands, ns since the start, ascending.
    pub fn times(&self) -> Times {
        Times { stages: self.stages.clone(), stage: 0, start_ns: 0, sent: 0 }
    }
}

/// The longest stage.
pub const LENGTH_MAX: Duration = Duration::from_hours(24 * 7);

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, stage) in self.stages.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            let length = units::show_duration(stage.length);
            if stage.from_per_s == stage.to_per_s {
                write!(f, "{comma}hold:{}:{length}", stage.from_per_s)?;
            } else {
                write!(f, "{comma}ramp:{}-{}:{length}", stage.from_per_s, stage.to_per_s)?;
            }
        }
        Ok(())
    }
}

impl Stage {
    fn commands(&self) -> u64 {
        let sum = u128::from(self.from_per_s) + u128::from(self.to_per_s);
        u64::try_from(sum * self.length.as_nanos() / 2_000_000_000).unwrap_or(u64::MAX)
    }

    /// When the n-th command of the stage is due, ns since the stage began.
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "times, not money"
    )]
    fn due_ns(&self, n: u64) -> u64 {
        if self.from_per_s == self.to_per_s {
            return u64::try_from(u128::from(n) * 1_000_000_000 / u128::from(self.from_per_s)).unwrap_or(u64::MAX);
        }
        // n = from t + slope t^2 / 2, solved for t so that nothing cancels when the rate falls.
        let (from, to, length) = (self.from_per_s as f64, self.to_per_s as f64, self.length.as_secs_f64());
        let slope = (to - from) / length;
        let root = (from * from + 2.0 * slope * n as f64).max(0.0).sqrt();
        (2.0 * n as f64 / (from + root) * 1e9) as u64
    }
}

/// The planned times of a schedule.
#[derive(Clone, Debug)]
pub struct Times {
    stages: Vec<Stage>,
    stage: usize,
    start_ns: u64,
    sent: u64,
}

impl Iterator for Times {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        loop {
            let stage = self.stages.get(self.stage)?;
            let length_ns = u64::try_from(stage.length.as_nanos()).unwrap_or(u64::MAX);
            if self.sent < stage.commands() {
                let due = stage.due_ns(self.sent).min(length_ns);
                self.sent += 1;
                return Some(self.start_ns + due);
            }
            self.start_ns = self.start_ns.saturating_add(length_ns);
            (self.stage, self.sent) = (self.stage + 1, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(text: &str) -> Vec<u64> {
        Schedule::parse(text).expect("parses").times().collect()
    }

    #[test]
    fn a_constant_rate_is_evenly_spaced() {
        let times = times("hold:4:1s");
        assert_eq!(times, [0, 250_000_000, 500_000_000, 750_000_000]);
    }

    #[test]
    fn a_ramp_sends_as_many_as_its_mean_rate_and_in_order() {
        for text in ["ramp:100-300:10s", "ramp:300-100:10s", "ramp:1-1000000:1s"] {
            let times = times(text);
            let expected = Schedule::parse(text).expect("parses").commands();
            assert_eq!(times.len() as u64, expected, "{text}");
            assert!(times.is_sorted() && times.iter().all(|ns| *ns <= 10_000_000_000), "{text}");
        }
        let times = times("ramp:100-300:10s");
        let first_half = times.iter().filter(|ns| **ns < 5_000_000_000).count();
        assert!((748..=752).contains(&first_half), "100/s to 200/s over 5 s are 750: {first_half}");
    }

    #[test]
    fn stages_follow_each_other() {
        let schedule = Schedule::parse("hold:10:1s, spike:1k:0.1s,soak:10:1s").expect("parses");
        let times: Vec<u64> = schedule.times().collect();
        assert_eq!((times.len(), schedule.commands(), schedule.rate_max()), (120, 120, 1_000));
        assert_eq!(times.iter().filter(|ns| (1_000_000_000..1_100_000_000).contains(*ns)).count(), 100);
        assert_eq!(schedule.with_warm_up(Duration::from_secs(2)).commands(), 140);
        assert_eq!(schedule.to_string(), "hold:10:1s,hold:1000:100ms,hold:10:1s");
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        for bad in [
            "",
            "ramp",
            "ramp:1:1s",
            "ramp:1-2",
            "hold:0:1s",
            "hold:1:0s",
            "jump:1:1s",
            "hold:1:1s,",
            "hold:1:1s:1",
            "hold:1:8d",
        ] {
            assert!(Schedule::parse(bad).is_err(), "{bad}");
        }
    }
}
