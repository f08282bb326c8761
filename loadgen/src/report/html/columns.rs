//! The seconds of a run as the columns of a chart: as many as a screen can show.
//!
//! Refuses to draw. Invariants: no second is left out; where a column holds several, rates are their mean, latencies and lag their
//! worst, so that a spike of one second stays visible in a run of hours.
//!
//! ```text
//! seconds  0 1 2 | 3 4 5 | 6 7 8 ...     a run longer than COLUMNS_MAX seconds
//! columns    0   |   1   |   2   ...     offered: mean; p99, lag: worst; checkpoint: share
//! ```

use super::super::{Latency, Second};
use super::units::float;

/// Most columns of a chart.
pub(super) const COLUMNS_MAX: usize = 600;

/// Some seconds in a row.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Column {
    /// The first second in it.
    pub(super) first_s: u64,
    /// The last second in it.
    pub(super) last_s: u64,
    /// Mean of the commands planned, per second.
    pub(super) offered: f64,
    /// Mean of the replies other than `busy`, per second.
    pub(super) completed: f64,
    /// Mean of the `busy`, per second.
    pub(super) busy: f64,
    /// The worst of each percentile; `None` when nothing was answered.
    pub(super) latency_ns: Option<Latency>,
    /// The worst lag, events.
    pub(super) lag: u64,
    /// Seconds in it.
    pub(super) seconds: u64,
    /// Those of them with a running checkpoint.
    pub(super) checkpoint_seconds: u64,
}

impl Column {
    /// Where it begins on a time axis, s.
    pub(super) fn begin(&self) -> f64 {
        float(self.first_s)
    }

    /// Where it ends on a time axis, s.
    pub(super) fn end(&self) -> f64 {
        float(self.last_s.saturating_add(1))
    }

    /// Where its point is drawn, s.
    pub(super) fn middle(&self) -> f64 {
        f64::midpoint(self.begin(), self.end())
    }

    /// The part of its seconds with a running checkpoint, 0 to 1.
    pub(super) fn checkpoint(&self) -> f64 {
        float(self.checkpoint_seconds) / float(self.seconds.max(1))
    }

    /// What there is to say about checkpoints; empty when none was running.
    pub(super) fn checkpoint_text(&self) -> String {
        match self.checkpoint_seconds {
            0 => String::new(),
            n if n == self.seconds => "running".to_owned(),
            n => format!("running in {n} of {} s", self.seconds),
        }
    }

    /// The seconds it holds, for people.
    pub(super) fn name(&self) -> String {
        if self.first_s == self.last_s {
            format!("second {}", self.first_s)
        } else {
            format!("seconds {} to {}", self.first_s, self.last_s)
        }
    }
}

/// Seconds in each column.
pub(super) fn seconds_per_column(seconds: usize) -> usize {
    seconds.div_ceil(COLUMNS_MAX).max(1)
}

/// The columns of a run in the order of time.
pub(super) fn columns(series: &[Second]) -> Vec<Column> {
    let mut seconds: Vec<&Second> = series.iter().collect();
    seconds.sort_by_key(|second| second.t_s);
    seconds.chunks(seconds_per_column(seconds.len())).map(column).collect()
}

fn column(seconds: &[&Second]) -> Column {
    let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let n = number(seconds.len());
    let mean = |of: fn(&Second) -> u64| seconds.iter().map(|second| float(of(second))).sum::<f64>() / float(n.max(1));
    Column {
        first_s: seconds.first().map_or(0, |second| second.t_s),
        last_s: seconds.last().map_or(0, |second| second.t_s),
        offered: mean(|second| second.offered),
        completed: mean(|second| second.completed),
        busy: mean(|second| second.busy),
        latency_ns: seconds.iter().filter(|second| answered(second)).map(|second| second.latency_ns).reduce(worst),
        lag: seconds.iter().map(|second| second.durable_lag_events).max().unwrap_or(0),
        seconds: n,
        checkpoint_seconds: number(seconds.iter().filter(|second| second.checkpoint_running).count()),
    }
}

fn answered(second: &Second) -> bool {
    second.completed > 0 || second.latency_ns.max > 0
}

fn worst(a: Latency, b: Latency) -> Latency {
    Latency {
        p50: a.p50.max(b.p50),
        p90: a.p90.max(b.p90),
        p99: a.p99.max(b.p99),
        p99_9: a.p99_9.max(b.p99_9),
        p99_99: a.p99_99.max(b.p99_99),
        max: a.max.max(b.max),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(t_s: u64, completed: u64, max: u64) -> Second {
        Second { t_s, offered: 10, completed, latency_ns: Latency { max, ..Latency::default() }, ..Second::default() }
    }

    #[test]
    fn a_short_run_has_a_column_each_second_in_the_order_of_time() {
        let columns = columns(&[second(1, 9, 5), second(0, 8, 4)]);
        assert_eq!(columns.iter().map(|c| (c.first_s, c.last_s)).collect::<Vec<_>>(), [(0, 0), (1, 1)]);
        assert_eq!(columns[1].latency_ns.map(|latency| latency.max), Some(5));
    }

    #[test]
    fn a_spike_of_one_second_survives_in_a_long_run() {
        let mut series: Vec<Second> = (0..7200).map(|t| second(t, 10, 1_000)).collect();
        series[3601] = Second { durable_lag_events: 77, checkpoint_running: true, ..second(3601, 10, 9_999) };
        let columns = columns(&series);
        assert_eq!(columns.len(), COLUMNS_MAX);
        assert_eq!(columns.iter().filter(|c| c.latency_ns.is_some_and(|l| l.max == 9_999)).count(), 1);
        assert_eq!(columns.iter().filter(|c| c.lag == 77 && c.checkpoint_seconds == 1).count(), 1);
        assert!(columns.iter().all(|c| (c.completed - 10.0).abs() < 1e-9), "the mean of equal rates is that rate");
    }

    #[test]
    fn a_second_without_replies_has_no_latency() {
        assert_eq!(columns(&[second(0, 0, 0)])[0].latency_ns, None);
        assert_eq!(columns(&[]), []);
    }
}
