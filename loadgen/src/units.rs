//! Numbers with units: durations and rates as a command line writes them, latencies and counts as people read them.
//!
//! Owns parsing and showing, on terminal and page alike; refuses floats where a whole number is meant.

use std::time::Duration;

/// Reads `250us`, `300ms`, `2s`, `5m`, `1h`; fractions are allowed: `0.5s`.
///
/// # Errors
/// What is wrong with it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let nanos_per_unit: u64 = match unit {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "" => return Err(format!("'{text}' has no unit: write for example 30s, 300ms or 5m")),
        _ => return Err(format!("'{unit}' is not a unit of time: use ns, us, ms, s, m or h")),
    };
    let nanos = decimal(number, nanos_per_unit).ok_or_else(|| format!("'{text}' is not a duration"))?;
    Ok(Duration::from_nanos(nanos))
}

/// A decimal number times `unit`, rounded down; `None`: it is none, is negative or too large.
fn decimal(text: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let is_digits = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !is_digits(whole) || !is_digits(fraction) || fraction.len() > 9 || text.ends_with('.') {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let digits: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let part = u128::from(digits) * u128::from(unit) / 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    whole.checked_mul(unit)?.checked_add(u64::try_from(part).ok()?)
}

/// Reads `20000`, `20_000`, `250k`, `1.5m`, and the same with `/s`: commands a second, above 0.
///
/// # Errors
/// What is wrong with it.
pub fn rate(text: &str) -> Result<u64, String> {
    let plain = text.strip_suffix("/s").unwrap_or(text).replace('_', "");
    let (number, unit) = match plain.strip_suffix(['k', 'K']) {
        Some(number) => (number, 1_000),
        None => match plain.strip_suffix(['m', 'M']) {
            Some(number) => (number, 1_000_000),
            None => (plain.as_str(), 1),
        },
    };
    match decimal(number, unit) {
        Some(0) => Err("a rate is above 0".to_owned()),
        Some(rate) if rate > RATE_MAX => Err(format!("a rate is at most {RATE_MAX} a second")),
        Some(rate) => Ok(rate),
        None => Err(format!("'{text}' is not a rate: write for example 20000, 250k or 1.5m")),
    }
}

/// The highest rate that can be asked for, commands a second.
pub const RATE_MAX: u64 = 100_000_000;

/// Reads `8MiB`, `1GiB`: whole mebibytes.
///
/// # Errors
/// What is wrong with it.
pub fn bytes(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.strip_suffix("GiB") {
        Some(number) => (number, 1 << 30),
        None => (text.strip_suffix("MiB").unwrap_or(""), 1 << 20),
    };
    let whole = |bytes: &u64| *bytes > 0 && bytes.is_multiple_of(1 << 20);
    let form = || format!("'{text}' is not a size: write for example 8MiB or 1GiB, in whole MiB");
    decimal(number, unit).filter(whole).ok_or_else(form)
}

/// A duration for a reader, as [`duration`] reads it.
pub fn show_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    for (unit, name) in [(3_600_000_000_000, "h"), (60_000_000_000, "m"), (1_000_000_000, "s"), (1_000_000, "ms")] {
        if nanos >= unit && nanos.is_multiple_of(unit) {
            return format!("{}{name}", nanos / unit);
        }
    }
    format!("{nanos}ns")
}

/// Significant digits of a latency beside others.
const DIGITS: usize = 3;
/// Significant digits of a latency beside the limit it was judged by: 299.96 ms must not read 300 ms.
const DIGITS_EXACT: usize = 6;

/// Nanoseconds, three significant digits: `4.56 ms`.
pub fn latency(ns: u64) -> String {
    let (whole, fraction, unit) = split_latency(ns, DIGITS);
    if fraction.is_empty() { format!("{whole} {unit}") } else { format!("{whole}.{fraction} {unit}") }
}

/// Nanoseconds, as exactly as needed beside a limit, without zeros at the end: `299.96 ms`.
pub fn latency_exact(ns: u64) -> String {
    let (whole, fraction, unit) = split_latency(ns, DIGITS_EXACT);
    let fraction = fraction.trim_end_matches('0');
    if fraction.is_empty() { format!("{whole} {unit}") } else { format!("{whole}.{fraction} {unit}") }
}

/// The whole part with its separators, the decimals, and the unit; rounded before the unit is chosen, so that 999,999 ns is 1 ms.
fn split_latency(ns: u64, digits: usize) -> (String, String, &'static str) {
    let step = ten_to(u128::from(ns).to_string().len().saturating_sub(digits));
    let rounded = (u128::from(ns) + step / 2) / step * step;
    let (unit, name, places): (u128, _, usize) = match rounded {
        0..1_000 => (1, "ns", 0),
        1_000..1_000_000 => (1_000, "µs", 3),
        1_000_000..1_000_000_000 => (1_000_000, "ms", 6),
        _ => (1_000_000_000, "s", 9),
    };
    let whole = (rounded / unit).to_string();
    let decimals = digits.saturating_sub(whole.len()).min(places);
    let fraction = (rounded % unit) / ten_to(places - decimals);
    let fraction = if decimals == 0 { String::new() } else { format!("{fraction:0decimals$}") };
    (group(&whole), fraction, name)
}

fn ten_to(exponent: usize) -> u128 {
    (0..exponent).fold(1, |power: u128, _| power.saturating_mul(10))
}

/// A count with separators: `1,234,567`.
pub fn count(n: u64) -> String {
    group(&n.to_string())
}

/// Digits in groups of three.
pub fn group(digits: &str) -> String {
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_sizes_are_read_and_durations_shown() {
        for (text, nanos) in
            [("250us", 250_000), ("300ms", 300_000_000), ("0.5s", 500_000_000), ("2m", 120_000_000_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        assert_eq!(["8MiB", "0.5GiB"].map(bytes), [Ok(8 << 20), Ok(512 << 20)]);
        for bad in ["", "8", "8MB", "MiB", "0MiB", "1.5MiB", "-1MiB", "99999999999999GiB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
        assert_eq!(duration("1h").map(show_duration).as_deref(), Ok("1h"));
        assert_eq!(duration("90s").map(show_duration).as_deref(), Ok("90s"));
        for bad in ["", "5", "ms", "-1s", "1.s", "1e3s", "1x", "1.0000000001s", "99999999999999999999s", "NaNs"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn rates_are_read() {
        for (text, rate_per_s) in [("20000", 20_000), ("20_000/s", 20_000), ("250k", 250_000), ("1.5m", 1_500_000)] {
            assert_eq!(rate(text), Ok(rate_per_s), "{text}");
        }
        for bad in ["0", "", "k", "-5", "1.2.3", "101m", "ten", "0.5"] {
            assert!(rate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn latencies_have_three_digits_and_the_unit_that_fits() {
        for (ns, text) in [
            (0, "0 ns"),
            (999, "999 ns"),
            (1_000, "1.00 µs"),
            (12_345, "12.3 µs"),
            (999_499, "999 µs"),
            (999_500, "1.00 ms"),
            (4_560_000, "4.56 ms"),
            (1_234_000_000, "1.23 s"),
            (u64::MAX, "18,400,000,000 s"),
        ] {
            assert_eq!(latency(ns), text, "{ns} ns");
        }
    }

    #[test]
    fn a_latency_just_under_its_limit_does_not_read_as_the_limit() {
        assert_eq!(latency_exact(299_960_000), "299.96 ms");
        assert_eq!(latency_exact(300_000_000), "300 ms");
        assert_eq!(latency_exact(u64::MAX), "18,446,700,000 s");
    }

    #[test]
    fn counts_have_separators() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }
}
