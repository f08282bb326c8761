//! Figures: what was measured, once in each run; median and range; how they are written.
//!
//! Owns units and their words; refuses to know where a figure came from. Floats, for these are measurements and not money.

use std::collections::BTreeMap;

/// What a figure's values are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Nanoseconds; less is better.
    Ns,
    /// Seconds; less is better.
    Seconds,
    /// So many each second; more is better.
    PerSecond,
}

impl Unit {
    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ns => "ns",
            Self::Seconds => "s",
            Self::PerSecond => "per_s",
        }
    }
    /// The unit of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Ns, Self::Seconds, Self::PerSecond].into_iter().find(|unit| unit.name() == name)
    }
    /// A value with its unit, to four digits.
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Ns => scaled(value, &[(1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns")]),
            Self::Seconds => format!("{value:.2} s"),
            Self::PerSecond => {
                format!("{}/s", scaled(value, &[(1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, "")]).trim_end())
            }
        }
    }
}

fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    let found = units.iter().find(|(size, _)| value >= *size).or(units.last());
    let (size, name) = found.copied().unwrap_or((1.0, ""));
    let value = value / size;
    let digits = if value < 10.0 {
        3
    } else if value < 100.0 {
        2
    } else {
        1
    };
    format!("{value:.digits$} {name}")
}

/// What one iteration of a bench works through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Commands, events, numbers.
    Elements(u64),
    /// Bytes.
    Bytes(u64),
}

/// One figure over all runs, in their order.
#[derive(Clone, PartialEq, Debug)]
pub struct Figure {
    /// What the values are.
    pub unit: Unit,
    /// What one of them is the time for, if anything.
    pub work: Option<Work>,
    /// A value of each run that showed it; never empty in a record.
    pub values: Vec<f64>,
}

/// Figures by name.
pub type Figures = BTreeMap<String, Figure>;

/// The names of figures in the order that people expect: `16` before `128`.
pub fn in_order<'a>(names: impl IntoIterator<Item = &'a String>) -> Vec<&'a String> {
    let mut names: Vec<&String> = names.into_iter().collect();
    names.sort_by_cached_key(|name| {
        let part = |part: &str| (part.parse::<u64>().unwrap_or(u64::MAX), part.to_owned());
        name.split('/').map(part).collect::<Vec<_>>()
    });
    names
}

impl Figure {
    /// Median, least and greatest; `None` without values.
    pub fn range(&self) -> Option<Range> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let (half, is_even) = (sorted.len() / 2, sorted.len().is_multiple_of(2));
        let median = if is_even { f64::midpoint(sorted[half - 1], sorted[half]) } else { sorted[half] };
        Some(Range { median, min, max })
    }

    /// How much work a second the value means, with its unit.
    pub fn rate(&self, value: f64) -> Option<String> {
        let work = self.work.filter(|_| self.unit == Unit::Ns && value > 0.0)?;
        #[allow(clippy::cast_precision_loss, reason = "a count of elements for reading")]
        Some(match work {
            Work::Elements(n) => Unit::PerSecond.show(n as f64 * 1e9 / value),
            Work::Bytes(n) => format!("{:.2} GB/s", n as f64 / value),
        })
    }
}

/// Median, least and greatest of a figure's values.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Range {
    /// The middle one; of an even number, the middle of the middle two.
    pub median: f64,
    /// The least.
    pub min: f64,
    /// The greatest.
    pub max: f64,
}

impl Range {
    /// Whether some value could belong to both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.min <= other.max && other.min <= self.max
    }
}

/// Adds one run's figures to those of the runs before.
pub fn add(all: &mut Figures, one: Figures) {
    for (name, figure) in one {
        match all.get_mut(&name) {
            Some(known) => known.values.extend(figure.values),
            None => _ = all.insert(name, figure),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(values: &[f64]) -> Figure {
        Figure { unit: Unit::Ns, work: Some(Work::Elements(128)), values: values.to_vec() }
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        let check = |values: &[f64], median, min, max| {
            assert_eq!(figure(values).range(), Some(Range { median, min, max }), "{values:?}");
        };
        check(&[3.0, 1.0, 2.0], 2.0, 1.0, 3.0);
        check(&[4.0, 1.0, 2.0, 3.0], 2.5, 1.0, 4.0);
        check(&[7.0], 7.0, 7.0, 7.0);
        assert_eq!(figure(&[]).range(), None);
    }

    #[test]
    fn values_are_written_with_the_unit_that_fits() {
        let check = |unit: Unit, value, text| assert_eq!(unit.show(value), text);
        check(Unit::Ns, 0.25, "0.250 ns");
        check(Unit::Ns, 431.2, "431.2 ns");
        check(Unit::Ns, 1_500.0, "1.500 µs");
        check(Unit::Ns, 23_456_789.0, "23.46 ms");
        check(Unit::PerSecond, 250_123.0, "250.1 k/s");
        check(Unit::PerSecond, 7.0, "7.000/s");
        check(Unit::Seconds, 1.5, "1.50 s");
    }

    #[test]
    fn names_are_ordered_by_the_numbers_in_them() {
        let names = ["turn/128", "turn/16", "batch/1", "turn/16/x"].map(str::to_owned);
        assert_eq!(in_order(&names), ["batch/1", "turn/16", "turn/16/x", "turn/128"]);
    }

    #[test]
    fn work_over_time_is_a_rate() {
        assert_eq!(figure(&[1.0]).rate(64_000.0).as_deref(), Some("2.000 M/s"));
        let bytes = Figure { work: Some(Work::Bytes(4096)), ..figure(&[1.0]) };
        assert_eq!(bytes.rate(2048.0).as_deref(), Some("2.00 GB/s"));
        assert_eq!(Figure { work: None, ..figure(&[1.0]) }.rate(1.0), None);
    }

    #[test]
    fn ranges_that_touch_overlap() {
        let range = |min, max| Range { median: f64::midpoint(min, max), min, max };
        assert!(range(1.0, 2.0).overlaps(&range(2.0, 3.0)));
        assert!(range(1.0, 9.0).overlaps(&range(2.0, 3.0)));
        assert!(!range(1.0, 2.0).overlaps(&range(2.1, 3.0)));
    }
}
