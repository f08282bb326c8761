//! Scales: where a value lies on an axis, and which values the axis names.
//!
//! Refuses to know what is drawn. Invariants: a place is in 0 to 1 for every value, `NaN` and infinity included; an axis names
//! [`TICKS_MAX`] values at most, all of them on it.

use super::units::{latency_exact, short};

/// Most values that an axis names.
const TICKS_MAX: u32 = 24;
/// Intervals that a linear axis aims at.
const INTERVALS: f64 = 5.0;
/// Steps of a time axis, s: those that a clock has.
const TIME_STEPS_S: [f64; 14] =
    [1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1800.0, 3600.0, 7200.0];
/// Intervals of a time axis at most.
const TIME_INTERVALS: f64 = 10.0;

/// A value that the axis names.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Tick {
    /// Its place, 0 to 1.
    pub(super) place: f64,
    /// Its name; empty for a line without one.
    pub(super) label: String,
}

/// An axis.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    /// The values it names, ascending.
    pub(super) ticks: Vec<Tick>,
}

impl Axis {
    /// From 0 to `max` or a little more, for counts.
    pub(super) fn linear(max: f64) -> Self {
        let max = if max.is_finite() { max.max(1.0) } else { 1.0 };
        let step = nice_step(max / INTERVALS).max(1.0);
        let mut axis = Self { low: 0.0, high: (max / step).ceil() * step, log: false, ticks: Vec::new() };
        axis.name_multiples(step, short);
        axis
    }

    /// Seconds from `low` to `high`.
    pub(super) fn time(low: f64, high: f64) -> Self {
        let span = high - low;
        let step = TIME_STEPS_S.into_iter().find(|step| span / step <= TIME_INTERVALS);
        let step = step.unwrap_or_else(|| nice_step(span / INTERVALS));
        let mut axis = Self { low, high, log: false, ticks: Vec::new() };
        axis.name_multiples(step, |s| time_label(s, step));
        axis
    }

    /// Latencies that include those from `low` to `high`, ns, by their logarithm; ends on 1, 2 or 5 times a power of ten.
    pub(super) fn log_latency(low: u64, high: u64) -> Self {
        let marks = log_marks();
        let first = marks.iter().rposition(|mark| *mark <= low.max(1)).unwrap_or(0);
        let last = marks.iter().position(|mark| *mark >= high).unwrap_or(marks.len() - 1).max(first + 1);
        let last = last.min(marks.len() - 1);
        let first = first.min(last - 1);
        let [low, high] = [first, last].map(|at| super::units::float(marks[at]).log10());
        let mut axis = Self { low, high, log: true, ticks: Vec::new() };
        let keep = |mark: u64| last - first <= 7 || mark == 10_u64.pow(mark.ilog10());
        let every = if last - first > 24 { 2 } else { 1 };
        for (at, mark) in marks.iter().enumerate().take(last + 1).skip(first) {
            if keep(*mark) && (at / 3).is_multiple_of(every) {
                let place = axis.place(super::units::float(*mark));
                axis.ticks.push(Tick { place, label: latency_exact(*mark) });
            }
        }
        axis
    }

    /// Numbers of nines from 0 to `high`, with the ticks given as (nines, name).
    pub(super) fn nines(high: f64, ticks: Vec<(f64, String)>) -> Self {
        let mut axis = Self { low: 0.0, high, log: false, ticks: Vec::new() };
        axis.ticks = ticks.into_iter().map(|(at, label)| Tick { place: axis.place(at), label }).collect();
        axis
    }

    /// The place of a value: 0 at the low end, 1 at the high end, the nearer end for what lies outside, 0 for no number.
    pub(super) fn place(&self, value: f64) -> f64 {
        let value = if self.log { value.max(1.0).log10() } else { value };
        let place = (value - self.low) / (self.high - self.low);
        if place.is_nan() { 0.0 } else { place.clamp(0.0, 1.0) }
    }

    fn name_multiples(&mut self, step: f64, label: impl Fn(f64) -> String) {
        let first = (self.low / step).ceil();
        let slack = step * 1e-6;
        for i in 0..TICKS_MAX {
            let at = (first + f64::from(i)) * step;
            // False for what is no number, too.
            if at <= self.high + slack {
                self.ticks.push(Tick { place: self.place(at), label: label(at) });
            }
        }
    }
}

/// 1, 2 and 5 times each power of ten that 64 bits hold.
fn log_marks() -> Vec<u64> {
    let powers = (0..=19).filter_map(|power| 10_u64.checked_pow(power));
    let mut marks: Vec<u64> =
        powers.flat_map(|power| [1, 2, 5].into_iter().filter_map(move |mark| power.checked_mul(mark))).collect();
    marks.push(u64::MAX);
    marks
}

/// The smallest of 1, 2, 5 times a power of ten that is no smaller.
fn nice_step(wanted: f64) -> f64 {
    if !wanted.is_finite() || wanted <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(wanted.log10().floor());
    [1.0, 2.0, 5.0].into_iter().map(|m| m * power).find(|step| *step >= wanted).unwrap_or(10.0 * power)
}

fn time_label(s: f64, step: f64) -> String {
    match step {
        step if step >= 3600.0 => format!("{} h", short(s / 3600.0)),
        step if step >= 60.0 => format!("{} min", short(s / 60.0)),
        _ => format!("{} s", short(s)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|tick| tick.label.as_str()).collect()
    }

    fn is_sound(axis: &Axis) {
        assert!(axis.ticks.len() <= TICKS_MAX as usize, "{axis:?}");
        assert!(axis.ticks.iter().all(|tick| (0.0..=1.0).contains(&tick.place)), "{axis:?}");
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, 0.0, 1e300] {
            assert!((0.0..=1.0).contains(&axis.place(value)), "{value} on {axis:?}");
        }
    }

    #[test]
    fn axes_name_round_values() {
        assert_eq!(labels(&Axis::linear(250_000.0)), ["0", "50 k", "100 k", "150 k", "200 k", "250 k"]);
        assert_eq!(labels(&Axis::linear(0.0)), ["0", "1"]);
        assert_eq!(labels(&Axis::time(0.0, 30.0)), ["0 s", "5 s", "10 s", "15 s", "20 s", "25 s", "30 s"]);
        assert_eq!(labels(&Axis::time(0.0, 600.0)).last(), Some(&"10 min"));
        assert_eq!(labels(&Axis::log_latency(120_000, 900_000)), ["100 µs", "200 µs", "500 µs", "1 ms"]);
        assert_eq!(labels(&Axis::log_latency(50_000, 300_000_000)), ["100 µs", "1 ms", "10 ms", "100 ms"]);
    }

    #[test]
    fn places_on_a_logarithmic_axis_are_by_ratio() {
        let axis = Axis::log_latency(1_000, 100_000);
        assert!((axis.place(10_000.0) - 0.5).abs() < 1e-9, "{axis:?}");
    }

    #[test]
    fn no_value_is_off_an_axis_and_no_axis_is_without_end() {
        for max in [f64::NAN, f64::INFINITY, -1.0, 0.0, 0.5, 1e19, f64::MAX] {
            is_sound(&Axis::linear(max));
            is_sound(&Axis::time(0.0, max));
            is_sound(&Axis::time(max, max));
        }
        for (low, high) in [(0, 0), (0, u64::MAX), (u64::MAX, u64::MAX), (5, 1), (u64::MAX, 0), (1, 1)] {
            is_sound(&Axis::log_latency(low, high));
        }
    }
}
