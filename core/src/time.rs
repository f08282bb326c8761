//! Times, dates and the calendar buckets of limits. Owns the calendar arithmetic; refuses to know what time it is.

#![allow(clippy::cast_possible_truncation)] // calendar fields: ranges are tested before each narrowing cast

use core::fmt;

use rkyv::{Archive, Deserialize, Serialize};

/// Engine time: Unix milliseconds. It never falls; one value a turn. Range: 48 bits (until the year 10889), since ids carry it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Archive, Serialize, Deserialize)]
pub struct Time(pub u64);

/// Milliseconds of a UTC day.
pub const DAY_MS: u64 = 86_400_000;

impl Time {
    /// The latest time that can be carried.
    pub const MAX: Self = Self((1 << 48) - 1);
    /// So many milliseconds later, at most [`Time::MAX`].
    #[must_use]
    pub const fn plus_ms(self, ms: u64) -> Self {
        let sum = self.0.saturating_add(ms);
        Self(if sum > Self::MAX.0 { Self::MAX.0 } else { sum })
    }
    /// The UTC date.
    pub const fn date(self) -> Date {
        Date::from_days(self.0 / DAY_MS)
    }
}

impl fmt::Display for Time {
    /// RFC 3339 with milliseconds, UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, ms) = (self.0 / 1000 % 86_400, self.0 % 1000);
        let (y, m, d) = civil_from_days(self.0 / DAY_MS);
        write!(f, "{y:04}-{m:02}-{d:02}T{:02}:{:02}:{:02}.{ms:03}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
    }
}

/// A calendar day, 1970-01-01 to 2149-06-06 (days since 1970-01-01 in 16 bits): value dates and buckets of limits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Archive, Serialize, Deserialize)]
pub struct Date(pub u16);

impl Date {
    const fn from_days(days: u64) -> Self {
        Self(if days > u16::MAX as u64 { u16::MAX } else { days as u16 })
    }
    /// The day of that year, month (1-12) and day of month; `None` when it does not exist or is out of range.
    pub fn new(year: u16, month: u8, day: u8) -> Option<Self> {
        if year < 1970 || !(1..=12).contains(&month) || day == 0 {
            return None;
        }
        let date = Self(u16::try_from(days_from_civil(u64::from(year), u64::from(month), u64::from(day))).ok()?);
        (date.civil() == (u64::from(year), u64::from(month), u64::from(day))).then_some(date)
    }
    /// Year, month, day of month.
    pub const fn civil(self) -> (u64, u64, u64) {
        civil_from_days(self.0 as u64)
    }
    /// Its first millisecond, UTC.
    pub const fn start(self) -> Time {
        Time(self.0 as u64 * DAY_MS)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (y, m, d) = self.civil();
        write!(f, "{y:04}-{m:02}-{d:02}")
    }
}

/// The text is not a date.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a date: expected YYYY-MM-DD from 1970-01-01 to 2149-06-06")]
pub struct NotADate;

impl core::str::FromStr for Date {
    type Err = NotADate;
    fn from_str(text: &str) -> Result<Self, NotADate> {
        let bytes = text.as_bytes();
        if bytes.len() != 10 || bytes[4] != b'-' || bytes[7] != b'-' {
            return Err(NotADate);
        }
        let number = |range: core::ops::Range<usize>| -> Option<u16> {
            bytes[range].iter().try_fold(0u16, |n, b| b.is_ascii_digit().then(|| n * 10 + u16::from(b - b'0')))
        };
        let parts = (number(0..4), number(5..7), number(8..10));
        let (Some(y), Some(m), Some(d)) = parts else { return Err(NotADate) };
        Self::new(y, m as u8, d as u8).ok_or(NotADate)
    }
}

/// The buckets that an approved amount was counted in: the day and the month of the ledger's calendar.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Archive, Serialize, Deserialize)]
pub struct Bucket {
    /// The day, ledger's offset applied.
    pub day: Date,
    /// Months since January 1970, ledger's offset applied.
    pub month: u16,
}

impl Bucket {
    /// The buckets of a moment in a calendar `offset_minutes` ahead of UTC (-1,440 to 1,440).
    pub fn of(time: Time, offset_minutes: i16) -> Self {
        Self::of_day(Self::day_of(time, offset_minutes))
    }
    /// As [`Bucket::of`]. One of the same day is given back: most commands come on the day of the one before, and a month takes longer
    /// to work out than a day.
    pub(crate) fn of_near(time: Time, offset_minutes: i16, near: Self) -> Self {
        let day = Self::day_of(time, offset_minutes);
        if day == near.day { near } else { Self::of_day(day) }
    }
    fn day_of(time: Time, offset_minutes: i16) -> Date {
        Time(time.0.saturating_add_signed(i64::from(offset_minutes) * 60_000)).date()
    }
    /// The buckets of a day of the ledger's calendar.
    pub(crate) fn of_day(day: Date) -> Self {
        let (year, month, _) = day.civil();
        Self { day, month: ((year - 1970) * 12 + month - 1) as u16 }
    }
}

// Days to civil date and back: proleptic Gregorian calendar, years counted from March so that the leap day is last.
// Algorithm: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", for days from 1970 on.
const fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + (month <= 2) as u64, month, doy - (153 * mp + 2) / 5 + 1)
}

const fn days_from_civil(year: u64, month: u64, day: u64) -> u64 {
    let y = if month <= 2 { year - 1 } else { year };
    let (era, yoe) = (y / 400, y % 400);
    let doy = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_day_survives_its_text_form_and_days_are_consecutive() {
        let mut last = String::new();
        for day in 0..=u16::MAX {
            let text = Date(day).to_string();
            assert_eq!(text.parse::<Date>(), Ok(Date(day)));
            assert!(text > last);
            last = text;
        }
        assert_eq!((Date(0).to_string(), last), ("1970-01-01".into(), "2149-06-06".into()));
        assert_eq!("1993-01-01".parse::<Date>().map(Date::start), Ok(Time(725_846_400_000)));
    }

    #[test]
    fn days_that_do_not_exist_are_refused() {
        for text in [
            "1993-02-29",
            "1993-13-01",
            "1993-00-10",
            "1993-01-00",
            "1969-12-31",
            "2149-06-07",
            "93-01-01",
            "1993/01/01",
            "1993-01-1x",
            "",
        ] {
            assert_eq!(text.parse::<Date>(), Err(NotADate), "{text}");
        }
    }

    #[test]
    fn a_bucket_near_another_is_the_one_that_it_is_without() {
        for day in (0..u64::from(u16::MAX)).step_by(7) {
            for offset in [-1_440, 0, 60, 1_440] {
                let time = Time(day * DAY_MS + DAY_MS / 2);
                let of = Bucket::of(time, offset);
                for near in [Bucket::default(), of, Bucket::of(time.plus_ms(DAY_MS), offset), Bucket::of(time, -offset)]
                {
                    assert_eq!(Bucket::of_near(time, offset, near), of, "{time}, {offset} minutes, near {near:?}");
                }
            }
        }
    }

    #[test]
    fn the_ledgers_offset_moves_the_bucket() {
        let new_year = "2024-01-01".parse::<Date>().expect("a date").start();
        assert_eq!(Bucket::of(new_year, 0), Bucket { day: new_year.date(), month: 54 * 12 });
        assert_eq!(Bucket::of(new_year, -1), Bucket { day: Date(new_year.date().0 - 1), month: 54 * 12 - 1 });
        assert_eq!(Bucket::of(Time(new_year.0 - 1), 60), Bucket { day: new_year.date(), month: 54 * 12 });
        assert_eq!(new_year.to_string(), "2024-01-01T00:00:00.000Z");
    }
}
