//! A point in the journal as a user writes it: a date, a time, or a sequence number; and the ids in arguments.
//!
//! A date means its first millisecond where something starts and its last where something ends; times are UTC.

use std::str::FromStr;

use tpcore::{AccountId, AuthorizationId, Date, Seq, Time};

/// A point in the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Point {
    /// A whole day, UTC.
    Day(Date),
    /// A moment.
    Moment(Time),
    /// A sequence number.
    Seq(Seq),
}

/// One end of a range of the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Bound {
    /// By recorded time.
    Time(Time),
    /// By sequence number.
    Seq(Seq),
}

impl Point {
    /// Where a range that starts here starts.
    pub(crate) fn start(self) -> Bound {
        match self {
            Self::Day(date) => Bound::Time(date.start()),
            Self::Moment(time) => Bound::Time(time),
            Self::Seq(seq) => Bound::Seq(seq),
        }
    }

    /// The last that belongs to a range that ends here.
    pub(crate) fn end(self) -> Bound {
        match self {
            Self::Day(date) => Bound::Time(date.start().plus_ms(tpcore::DAY_MS - 1)),
            Self::Moment(time) => Bound::Time(time),
            Self::Seq(seq) => Bound::Seq(seq),
        }
    }
}

impl Bound {
    /// Whether an event is at this bound or after it.
    pub(crate) fn is_reached_by(self, seq: Seq, time: Time) -> bool {
        match self {
            Self::Time(bound) => time >= bound,
            Self::Seq(bound) => seq >= bound,
        }
    }
}

const EXPECTED: &str = "expected a date (1993-06-30), a time in UTC (1993-06-30T12:00:00Z, with up to three decimals), or a \
                        sequence number (12345)";

impl FromStr for Point {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return text
                .parse()
                .map(|seq| Self::Seq(Seq(seq)))
                .map_err(|_| "a sequence number is below 2^64".to_owned());
        }
        let split = text.split_at_checked(10).and_then(|(date, rest)| Some((date.parse::<Date>().ok()?, rest)));
        match split {
            Some((date, "")) => Ok(Self::Day(date)),
            Some((date, clock)) => {
                let ms = parse_clock(clock).ok_or_else(|| EXPECTED.to_owned())?;
                Ok(Self::Moment(date.start().plus_ms(ms)))
            }
            None => Err(EXPECTED.to_owned()),
        }
    }
}

/// The milliseconds of `THH:MM:SS[.f[f[f]]]Z` (`+00:00` is the same as `Z`).
fn parse_clock(text: &str) -> Option<u64> {
    let text = text.strip_prefix(['T', 't', ' '])?;
    let text = text.strip_suffix(['Z', 'z']).or_else(|| text.strip_suffix("+00:00"))?;
    let (clock, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let bytes = clock.as_bytes();
    if bytes.len() != 8 || bytes[2] != b':' || bytes[5] != b':' || !(1..=3).contains(&fraction.len()) {
        return None;
    }
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok()).flatten();
    let part = |at: usize| clock.get(at..at + 2).and_then(number);
    let (hours, minutes, seconds) = (part(0)?, part(3)?, part(6)?);
    let ms = number(&format!("{fraction:0<3}"))?;
    (hours < 24 && minutes < 60 && seconds < 60).then_some(((hours * 60 + minutes) * 60 + seconds) * 1000 + ms)
}

/// An account's id in an argument.
pub(crate) fn parse_account(text: &str) -> Result<AccountId, String> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let id = if is_number { text.parse().ok() } else { None };
    id.map(AccountId).ok_or_else(|| "expected an account's id: a decimal number below 2^128".to_owned())
}

/// An authorization's id in an argument.
pub(crate) fn parse_authorization(text: &str) -> Result<AuthorizationId, String> {
    text.parse().map_err(|error| format!("{error}; `tpcore dump` and `tpcore statement` show them"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_times_and_sequence_numbers_are_told_apart() {
        let date: Date = "1993-06-30".parse().expect("a date");
        assert_eq!("1993-06-30".parse(), Ok(Point::Day(date)));
        assert_eq!("42".parse(), Ok(Point::Seq(Seq(42))));
        let noon = Point::Moment(date.start().plus_ms(12 * 3_600_000));
        assert_eq!("1993-06-30T12:00:00Z".parse(), Ok(noon));
        assert_eq!("1993-06-30T12:00:00+00:00".parse(), Ok(noon));
        assert_eq!("1993-06-30T12:00:00.5Z".parse(), Ok(Point::Moment(date.start().plus_ms(12 * 3_600_000 + 500))));
    }

    #[test]
    fn other_texts_are_refused_without_panic() {
        for text in [
            "",
            "x",
            "-1",
            "1993-6-3",
            "1993-06-30T",
            "1993-06-30T12:00Z",
            "1993-06-30T24:00:00Z",
            "1993-02-30",
            "1993-06-30T12:00:00",
            "1993-06-30T12:00:00.1234Z",
            "1993-06-3é",
            "99999999999999999999999",
            "1993-06-30T1é:00:0Z",
        ] {
            assert!(text.parse::<Point>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_day_ends_with_its_last_millisecond() {
        let date: Date = "1993-06-30".parse().expect("a date");
        let (start, end) = (Point::Day(date).start(), Point::Day(date).end());
        let midnight = date.start().plus_ms(tpcore::DAY_MS);
        assert_eq!((start, end), (Bound::Time(date.start()), Bound::Time(Time(midnight.0 - 1))));
        assert!(start.is_reached_by(Seq(1), date.start()) && !start.is_reached_by(Seq(1), Time(date.start().0 - 1)));
    }
}
