//! Figures as people read them: latencies, counts, rates, bytes, shares.
//!
//! Refuses to know where a figure is shown. Invariants: any value gives text without characters that markup gives a meaning
//! (but the `<` of a share, which is written as an entity); a rate that is no number is `not known`, never `NaN`.

use crate::units::group;
pub(super) use crate::units::{count, latency, latency_exact};

/// What is shown for a figure that nobody measured.
pub(super) const NOT_KNOWN: &str = "not known";

/// A rate a second; one decimal below 100.
pub(super) fn rate(per_s: f64) -> String {
    if !per_s.is_finite() || per_s < 0.0 {
        NOT_KNOWN.to_owned()
    } else if per_s >= 1e15 {
        format!("{per_s:.2e}")
    } else if per_s >= 100.0 || per_s == 0.0 {
        group(&format!("{per_s:.0}"))
    } else {
        format!("{per_s:.1}")
    }
}

/// Seconds of a length of time.
pub(super) fn seconds(s: f64) -> String {
    let figure = rate(s);
    if figure == NOT_KNOWN { figure } else { format!("{figure} s") }
}

/// A number on an axis: `250 k`, `1.5 M`.
pub(super) fn short(value: f64) -> String {
    const STEPS: [(f64, &str); 6] = [(1e18, " E"), (1e15, " P"), (1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")];
    if !value.is_finite() {
        return NOT_KNOWN.to_owned();
    }
    let (unit, name) = STEPS.into_iter().find(|(unit, _)| value.abs() >= *unit).unwrap_or((1.0, ""));
    let digits = format!("{:.2}", value / unit);
    format!("{}{name}", digits.trim_end_matches('0').trim_end_matches('.'))
}

/// Bytes in binary units; 0 is not known.
pub(super) fn bytes(n: u64) -> String {
    const STEPS: [(u64, &str); 4] = [(1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    if n == 0 {
        return NOT_KNOWN.to_owned();
    }
    match STEPS.into_iter().find(|(unit, _)| n >= *unit) {
        Some((unit, name)) => {
            let tenths = u128::from(n) * 10 / u128::from(unit);
            format!("{}.{} {name}", group(&(tenths / 10).to_string()), tenths % 10)
        }
        None => format!("{n} B"),
    }
}

/// A part of a total in percent, as HTML; a part that is there is never 0, and one that lacks something is never 100.
pub(super) fn share(part: u64, total: u128) -> String {
    if total == 0 {
        return "–".to_owned();
    }
    let tenths = (u128::from(part) * 1000 + total / 2) / total;
    if part > 0 && tenths == 0 {
        "&lt; 0.1 %".to_owned()
    } else if u128::from(part) < total && tenths >= 1000 {
        "&gt; 99.9 %".to_owned()
    } else {
        format!("{}.{} %", tenths / 10, tenths % 10)
    }
}

/// A rate in percent of another, rounded down, so that what misses 99 % does not read 99 %; `None` when there is no such figure.
pub(super) fn percent_of(part: f64, whole: f64) -> Option<String> {
    let percent = part / whole * 100.0;
    (0.0..1e6).contains(&percent).then(|| format!("{:.2} %", (percent * 100.0).floor() / 100.0))
}

/// A whole number for drawing.
#[expect(clippy::cast_precision_loss, reason = "a position on the screen needs no 53 bits")]
pub(super) fn float(n: u64) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_rates_bytes_and_axis_figures_read_well() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(rate(250_000.4), "250,000");
        assert_eq!(rate(12.34), "12.3");
        assert_eq!(rate(f64::MAX), "1.80e308");
        assert_eq!([rate(f64::NAN), rate(f64::INFINITY), seconds(f64::NAN)], [NOT_KNOWN; 3]);
        assert_eq!(bytes(0), NOT_KNOWN);
        assert_eq!(bytes(1_073_741_824), "1.0 GiB");
        assert_eq!(bytes(512), "512 B");
        assert_eq!([short(0.0), short(1500.0), short(250_000.0), short(2e19)], ["0", "1.5 k", "250 k", "20 E"]);
    }

    #[test]
    fn a_share_is_never_rounded_to_nothing_or_to_all() {
        assert_eq!(share(1, 1_000_000), "&lt; 0.1 %");
        assert_eq!(share(999_999, 1_000_000), "&gt; 99.9 %");
        assert_eq!(share(1, 3), "33.3 %");
        assert_eq!(share(5, 5), "100.0 %");
        assert_eq!(share(0, 0), "–");
        assert_eq!(percent_of(98.999, 100.0).as_deref(), Some("98.99 %"));
        assert_eq!(percent_of(1.0, 0.0), None);
        assert_eq!(percent_of(f64::NAN, 1.0), None);
    }
}
