//! A histogram of durations with fixed buckets. Owns its counters and its text; refuses to allocate or lock when it records.
//!
//! The exporter's own histograms keep every sample until somebody scrapes, in blocks that they allocate: a server that nobody scrapes would
//! grow without bound (LIM-1). This one is eighteen numbers.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets, µs, with their text in seconds: 50 µs to 10 s, three to a decade. The usual objectives (1, 10, 50, 100 ms)
/// are bounds, so that an error budget is a difference of two counters and no interpolation.
pub(crate) const BOUNDS: [(u64, &str); 17] = [
    (50, "0.00005"),
    (100, "0.0001"),
    (200, "0.0002"),
    (500, "0.0005"),
    (1_000, "0.001"),
    (2_000, "0.002"),
    (5_000, "0.005"),
    (10_000, "0.01"),
    (20_000, "0.02"),
    (50_000, "0.05"),
    (100_000, "0.1"),
    (200_000, "0.2"),
    (500_000, "0.5"),
    (1_000_000, "1"),
    (2_000_000, "2"),
    (5_000_000, "5"),
    (10_000_000, "10"),
];

/// Counts of durations by bucket, and their sum.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    counts: [AtomicU64; BOUNDS.len() + 1],
    sum_ns: AtomicU64,
}

impl Histogram {
    /// One more. A bucket holds what is at most its bound.
    pub(crate) fn record(&self, time: Duration) {
        let ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|(bound_us, _)| bound_us * 1000 < ns);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Appends its lines in the text format, with these labels (`route="..."`). The count is that of the last bucket, so that lines fit
    /// each other while others record.
    pub(crate) fn write(&self, text: &mut String, name: &str, labels: &str) {
        let mut count = 0;
        let bounds = BOUNDS.iter().map(|(_, le)| *le).chain(["+Inf"]);
        for (bucket, le) in self.counts.iter().zip(bounds) {
            count += bucket.load(Ordering::Relaxed);
            let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{le}\"}} {count}");
        }
        let sum_ns = self.sum_ns.load(Ordering::Relaxed);
        let (seconds, rest) = (sum_ns / 1_000_000_000, sum_ns % 1_000_000_000);
        let _ = writeln!(text, "{name}_sum{{{labels}}} {seconds}.{rest:09}");
        let _ = writeln!(text, "{name}_count{{{labels}}} {count}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_on_a_bound_belongs_to_its_bucket_and_one_above_to_the_next() {
        let histogram = Histogram::default();
        for us in [0, 50, 1000] {
            histogram.record(Duration::from_micros(us));
        }
        histogram.record(Duration::from_nanos(1_000_001));
        histogram.record(Duration::from_secs(11));
        let mut text = String::new();
        histogram.write(&mut text, "h", "stage=\"read\"");
        let has = |line: &str| assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        has("h_bucket{stage=\"read\",le=\"0.00005\"} 2");
        has("h_bucket{stage=\"read\",le=\"0.001\"} 3");
        has("h_bucket{stage=\"read\",le=\"0.002\"} 4");
        has("h_bucket{stage=\"read\",le=\"10\"} 4");
        has("h_bucket{stage=\"read\",le=\"+Inf\"} 5");
        has("h_sum{stage=\"read\"} 11.002050001");
        has("h_count{stage=\"read\"} 5");
    }

    #[test]
    fn the_texts_of_the_bounds_are_their_numbers() {
        for (us, text) in BOUNDS {
            let seconds: f64 = text.parse().expect("a number");
            assert!((seconds * 1e6 - f64::from(u32::try_from(us).expect("small"))).abs() < 1e-6, "{text}");
        }
        assert!(BOUNDS.is_sorted());
    }
}
