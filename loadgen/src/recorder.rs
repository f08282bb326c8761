//! What was measured: latencies, outcomes, a line a second.
//!
//! Owns histograms and counters of the measured part; refuses to know what commands are for. Latency is the time from the
//! planned send time to the reply.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use tpcore::Outcome;

use crate::mix::Kind;
use crate::report::{CurvePoint, Latency, PerCommand, Second};

/// The longest latency told apart: 10 minutes. Longer ones count as this.
const LONGEST_NS: u64 = 600_000_000_000;

/// An empty histogram of latencies in ns, three digits exact.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("one to ten minutes in three digits is a range")
}

/// The percentiles of a histogram.
pub fn latency(histogram: &Histogram<u64>) -> Latency {
    let at = |quantile| histogram.value_at_quantile(quantile);
    Latency { p50: at(0.5), p90: at(0.9), p99: at(0.99), p99_9: at(0.999), p99_99: at(0.9999), max: histogram.max() }
}

/// One kind of command.
struct PerKind {
    latencies: Histogram<u64>,
    outcomes: BTreeMap<Outcome, u64>,
}

/// Records one run.
pub struct Recorder {
    all: Histogram<u64>,
    kinds: Vec<PerKind>,
    now: Histogram<u64>,
    second: Second,
    series: Vec<Second>,
    /// How late commands were sent, against the plan.
    send_delay: Histogram<u64>,
    sent: u64,
    completed: u64,
    busy: u64,
    replies_within: u64,
    timely: u64,
    undecided: u64,
}

/// An answer, and where its times lie.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Answer {
    /// Of the command.
    pub kind: Kind,
    /// What was decided, if anything.
    pub outcome: Outcome,
    /// From the planned send time to the reply.
    pub latency_ns: u64,
    /// Whether the planned time lies in the measured part.
    pub is_measured: bool,
    /// Whether the reply's time does.
    pub is_within: bool,
    /// Whether the reply came before the measured part ended, or within the grace after it.
    pub is_timely: bool,
}

/// Whether the target decided: an outcome of the command itself, not of the moment.
pub const fn is_decided(outcome: Outcome) -> bool {
    !outcome.leaves_at_once() && !matches!(outcome, Outcome::SystemError)
}

impl Default for Recorder {
    fn default() -> Self {
        let kinds = Kind::ALL.map(|_| PerKind { latencies: histogram(), outcomes: BTreeMap::new() });
        Self {
            all: histogram(),
            kinds: kinds.into(),
            now: histogram(),
            second: Second::default(),
            series: Vec::new(),
            send_delay: histogram(),
            sent: 0,
            completed: 0,
            busy: 0,
            replies_within: 0,
            timely: 0,
            undecided: 0,
        }
    }
}

impl Recorder {
    /// A command of the measured part was handed to the target, so late against its plan.
    pub fn sent(&mut self, delay_ns: u64) {
        self.sent += 1;
        self.second.offered += 1;
        self.send_delay.saturating_record(delay_ns);
    }

    /// The target had no room for a command of the measured part.
    pub fn refused(&mut self, kind: Kind) {
        self.busy += 1;
        self.second.busy += 1;
        *self.kinds[kind as usize].outcomes.entry(Outcome::Busy).or_insert(0) += 1;
    }

    /// A command was answered.
    pub fn answered(&mut self, answer: &Answer) {
        let Answer { kind, outcome, latency_ns, is_measured, is_within, is_timely } = *answer;
        let is_decided = is_decided(outcome);
        if is_within {
            self.replies_within += u64::from(is_decided);
            self.second.completed += u64::from(is_decided);
            if is_decided {
                self.now.saturating_record(latency_ns);
            }
        }
        if !is_measured {
            return;
        }
        let per_kind = &mut self.kinds[kind as usize];
        *per_kind.outcomes.entry(outcome).or_insert(0) += 1;
        if is_decided {
            self.completed += 1;
            self.timely += u64::from(is_timely);
            self.all.saturating_record(latency_ns);
            per_kind.latencies.saturating_record(latency_ns);
        } else if outcome == Outcome::Busy {
            self.busy += 1;
            self.second.busy += 1;
        } else {
            self.undecided += 1;
        }
    }

    /// Ends a second of the measured part, and gives it back.
    pub fn tick(&mut self, durable_lag_events: u64, checkpoint_running: bool, rss_bytes: u64) -> &Second {
        let t_s = self.series.len() as u64;
        let second = std::mem::take(&mut self.second);
        let latency_ns = latency(&self.now);
        self.now.reset();
        self.series.push(Second { t_s, latency_ns, durable_lag_events, checkpoint_running, rss_bytes, ..second });
        &self.series[self.series.len() - 1]
    }

    /// The latencies of all decided commands.
    pub const fn latencies(&self) -> &Histogram<u64> {
        &self.all
    }

    /// How late commands were sent.
    pub fn send_delay(&self) -> Latency {
        latency(&self.send_delay)
    }

    /// Commands sent, decided, answered `busy`, and not decided for another reason.
    pub const fn counts(&self) -> [u64; 4] {
        [self.sent, self.completed, self.busy, self.undecided]
    }

    /// Decided replies that came within the measured part.
    pub const fn replies_within(&self) -> u64 {
        self.replies_within
    }

    /// Commands of the measured part that were decided in time.
    pub const fn timely(&self) -> u64 {
        self.timely
    }

    /// Ended seconds.
    pub fn series(&self) -> &[Second] {
        &self.series
    }

    /// All outcomes by name.
    pub fn outcomes(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::new();
        for (outcome, count) in self.kinds.iter().flat_map(|kind| &kind.outcomes) {
            *all.entry(outcome.name().to_owned()).or_insert(0) += count;
        }
        all
    }

    /// Each kind that occurred.
    pub fn per_command(&self) -> BTreeMap<String, PerCommand> {
        let of = |kind: Kind| {
            let PerKind { latencies, outcomes } = &self.kinds[kind as usize];
            let outcomes: BTreeMap<_, _> = outcomes.iter().map(|(o, count)| (o.name().to_owned(), *count)).collect();
            PerCommand { completed: latencies.len(), outcomes, latency_ns: latency(latencies) }
        };
        let occurred = Kind::ALL.into_iter().filter(|kind| !self.kinds[*kind as usize].outcomes.is_empty());
        occurred.map(|kind| (kind.name().to_owned(), of(kind))).collect()
    }

    /// The distribution: percentiles at equal steps towards 100, halving the rest each time.
    pub fn curve(&self) -> Vec<CurvePoint> {
        let points = self.all.iter_quantiles(5).map(|step| CurvePoint {
            percentile: step.quantile_iterated_to() * 100.0,
            latency_ns: step.value_iterated_to(),
        });
        points.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kind: Kind, outcome: Outcome, latency_ns: u64, is_measured: bool, is_within: bool) -> Answer {
        Answer { kind, outcome, latency_ns, is_measured, is_within, is_timely: is_within }
    }

    #[test]
    fn only_the_measured_part_counts_and_busy_is_no_latency() {
        let mut recorder = Recorder::default();
        recorder.answered(&answer(Kind::Authorize, Outcome::Approved, 9_000_000, false, false)); // warm-up
        for n in 1..=10 {
            recorder.sent(n);
            recorder.answered(&answer(Kind::Authorize, Outcome::Approved, n * 1_000, true, n <= 8));
        }
        recorder.sent(0);
        recorder.refused(Kind::Capture);
        recorder.sent(0);
        recorder.answered(&answer(Kind::Capture, Outcome::Busy, 1, true, true));
        recorder.sent(0);
        recorder.answered(&answer(Kind::Void, Outcome::DeadlineExceeded, 1, true, true));
        assert_eq!(recorder.counts(), [13, 10, 2, 1]);
        assert_eq!((recorder.replies_within(), recorder.timely(), recorder.latencies().len()), (8, 8, 10));
        assert!((10_000..10_010).contains(&recorder.latencies().max()));
        let second = recorder.tick(7, true, 4096).clone();
        assert_eq!((second.offered, second.completed, second.busy, second.durable_lag_events), (13, 8, 2, 7));
        assert_eq!(recorder.outcomes().values().sum::<u64>(), 13);
        assert_eq!(
            recorder.per_command().keys().map(String::as_str).collect::<Vec<_>>(),
            ["authorize", "capture", "void"]
        );
        assert_eq!(recorder.tick(0, false, 0).offered, 0, "a second begins empty");
    }

    #[test]
    fn the_curve_ascends_to_the_largest() {
        let mut recorder = Recorder::default();
        (1..=10_000).for_each(|n| recorder.answered(&answer(Kind::Read, Outcome::Approved, n * 100, true, true)));
        let curve = recorder.curve();
        assert!(curve.windows(2).all(|w| w[0].percentile <= w[1].percentile && w[0].latency_ns <= w[1].latency_ns));
        let last = curve.last().expect("points");
        assert!(last.latency_ns >= 1_000_000 && last.percentile > 99.9);
    }
}
