//! Objectives: `p99.9<300ms`.
//!
//! Owns their grammar and their verdict over a histogram; refuses to know what was measured.

use std::fmt;
use std::str::FromStr;

use hdrhistogram::Histogram;

use crate::report::SloResult;
use crate::units;

/// Which value of a distribution.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Quantity {
    /// The value that this share of all lies at or below.
    Percentile {
        /// As given, 0 to 100.
        percent: f64,
        /// The same, 0 to 1.
        quantile: f64,
    },
    /// The largest.
    Max,
}

/// One objective.
#[derive(Clone, PartialEq, Debug)]
pub struct Objective {
    quantity: Quantity,
    /// The measured value must lie below.
    bound_ns: u64,
    text: String,
}

impl FromStr for Objective {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = "an objective is a percentile (or max), '<' and a duration: p99.9<300ms";
        let (left, right) = text.split_once('<').ok_or(form)?;
        let quantity = match left.trim() {
            "max" => Quantity::Max,
            left => {
                let number = left.strip_prefix('p').ok_or(form)?;
                let is_plain = number.bytes().all(|b| b.is_ascii_digit() || b == b'.');
                // Not divided by 100: 99.9 / 100 is a little more than 0.999, and would count one command more.
                let read = |text: &str| text.parse::<f64>().ok().filter(|_| is_plain).ok_or(form);
                let (percent, quantile) = (read(number)?, read(&format!("{number}e-2"))?);
                if !(quantile > 0.0 && quantile < 1.0) {
                    return Err("a percentile lies between 0 and 100".to_owned());
                }
                Quantity::Percentile { percent, quantile }
            }
        };
        let bound = units::duration(right.trim())?;
        let bound_ns = u64::try_from(bound.as_nanos()).ok().filter(|ns| *ns > 0).ok_or("the bound is above 0")?;
        Ok(Self { quantity, bound_ns, text: text.to_owned() })
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Objective {
    /// Which percentile, 0 to 100; the maximum is 100.
    pub const fn percentile(&self) -> f64 {
        match self.quantity {
            Quantity::Percentile { percent, .. } => percent,
            Quantity::Max => 100.0,
        }
    }

    /// The value in question, ns.
    fn measure(&self, latencies: &Histogram<u64>) -> u64 {
        match self.quantity {
            Quantity::Percentile { quantile, .. } => latencies.value_at_quantile(quantile),
            Quantity::Max => latencies.max(),
        }
    }

    /// Whether the latencies meet it. No latency at all meets nothing.
    pub fn judge(&self, latencies: &Histogram<u64>) -> SloResult {
        let measured_ns = self.measure(latencies);
        let met = !latencies.is_empty() && measured_ns < self.bound_ns;
        SloResult { objective: self.text.clone(), measured_ns, met }
    }

    /// The bound, ns.
    pub const fn bound_ns(&self) -> u64 {
        self.bound_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Histogram<u64> {
        let mut histogram = crate::recorder::histogram();
        values.into_iter().for_each(|value| histogram.saturating_record(value));
        histogram
    }

    #[test]
    fn objectives_judge_the_value_they_name() {
        let latencies = of((1..=1000).map(|n| n * 1_000));
        for (text, met) in [("p50<501us", true), ("p50<500us", false), ("p99.9<1ms", true), ("max<1ms", false)] {
            let objective: Objective = text.parse().expect("parses");
            assert_eq!(objective.judge(&latencies).met, met, "{text} {:?}", objective.judge(&latencies));
            assert_eq!(objective.to_string(), text);
        }
    }

    #[test]
    fn nothing_measured_meets_nothing() {
        let objective: Objective = "p50<1h".parse().expect("parses");
        assert!(!objective.judge(&of([])).met);
    }

    #[test]
    fn what_is_no_objective_is_refused() {
        for bad in [
            "", "p99", "p99>1ms", "99<1ms", "p100<1ms", "p0<1ms", "p-1<1ms", "pNaN<1ms", "p1e1<1ms", "p50<0ms",
            "p50<1", "avg<1ms",
        ] {
            assert!(bad.parse::<Objective>().is_err(), "{bad}");
        }
    }
}
