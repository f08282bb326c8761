//! Numbers with units as a command line writes them: durations and rates.
//!
//! Owns parsing and showing; refuses floats where a whole number is meant.

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

/// Nanoseconds for a reader: `850 ns`, `12.3 us`, `4.56 ms`, `1.20 s`.
pub fn show_ns(ns: u64) -> String {
    let shown = |unit: u64, name: &str| {
        let (whole, part) = (ns / unit, ns % unit);
        let digits = if whole >= 100 {
            0
        } else if whole >= 10 {
            1
        } else {
            2
        };
        let scale = 10_u64.pow(digits);
        let part = u64::try_from(u128::from(part) * u128::from(scale) / u128::from(unit)).unwrap_or(0);
        let width = digits as usize;
        if digits == 0 { format!("{whole} {name}") } else { format!("{whole}.{part:0width$} {name}") }
    };
    match ns {
        0..1_000 => format!("{ns} ns"),
        1_000..1_000_000 => shown(1_000, "us"),
        1_000_000..1_000_000_000 => shown(1_000_000, "ms"),
        _ => shown(1_000_000_000, "s"),
    }
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

/// A count with separators: `1,234,567`.
pub fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut shown = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_and_shown() {
        for (text, nanos) in
            [("250us", 250_000), ("300ms", 300_000_000), ("0.5s", 500_000_000), ("2m", 120_000_000_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
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
    fn figures_are_shown_short() {
        let shown = [0, 999, 1_234, 12_345, 4_560_000, 123_456_789, 1_204_000_000, u64::MAX].map(show_ns);
        let expected = ["0 ns", "999 ns", "1.23 us", "12.3 us", "4.56 ms", "123 ms", "1.20 s", "18446744073 s"];
        assert_eq!(shown, expected);
        assert_eq!([0, 999, 1_000, 1_234_567].map(show_count), ["0", "999", "1,000", "1,234,567"]);
    }
}
