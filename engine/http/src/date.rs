//! Points in time as text, in UTC.

use std::{fmt, io::Write as _, time::Duration};

const SECONDS_A_DAY: u64 = 86_400;
const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

/// A date and a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Date {
    year: u64,
    month: u64,
    day: u64,
    second: u64,
    millisecond: u32,
}

impl Date {
    /// The date so long after the epoch.
    ///
    /// Counts in years that begin in March, so that the leap day is the last of its year, and in
    /// eras of 400 years, after which the calendar repeats.
    pub(crate) fn of(time: Duration) -> Self {
        const ERA_DAYS: u64 = 146_097;
        // From 1 March of the year 0 to the epoch.
        let days = time.as_secs() / SECONDS_A_DAY + 719_468;
        let (era, day_of_era) = (days / ERA_DAYS, days % ERA_DAYS);
        let leap_days = day_of_era / 1460 - day_of_era / 36_524 + day_of_era / 146_096;
        let year_of_era = (day_of_era - leap_days) / 365;
        let before = 365 * year_of_era + year_of_era / 4 - year_of_era / 100;
        let day_of_year = day_of_era - before;
        // The months from March on have 31, 30, 31, 30, 31 days, and again: 153 for five.
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let (year, month) = match month {
            0..=9 => (year_of_era, month + 3),
            _ => (year_of_era + 1, month - 9),
        };
        Self {
            year: era * 400 + year,
            month,
            day,
            second: time.as_secs() % SECONDS_A_DAY,
            millisecond: time.subsec_millis(),
        }
    }

    /// As in RFC 3339, with milliseconds.
    pub(crate) fn rfc_3339(self) -> impl fmt::Display {
        fmt::from_fn(move |f| {
            let Self {
                year, month, day, ..
            } = self;
            let (hour, minute, second) = self.clock();
            let milli = self.millisecond;
            write!(
                f,
                "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z"
            )
        })
    }

    /// As in the Common Log Format.
    pub(crate) fn common(self) -> impl fmt::Display {
        fmt::from_fn(move |f| {
            let (day, month, year) = (self.day, self.month_name(), self.year);
            let (hour, minute, second) = self.clock();
            write!(
                f,
                "{day:02}/{month}/{year:04}:{hour:02}:{minute:02}:{second:02} +0000"
            )
        })
    }

    fn month_name(self) -> &'static str {
        let month = usize::try_from(self.month - 1).unwrap_or(0);
        MONTHS.get(month).copied().unwrap_or_default()
    }

    fn clock(self) -> (u64, u64, u64) {
        (self.second / 3600, self.second / 60 % 60, self.second % 60)
    }
}

/// A point in time as the field `Date` gives it (RFC 9110 section 5.6.7), to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpDate([u8; HTTP_DATE_BYTES]);

/// Bytes of `Sun, 06 Nov 1994 08:49:37 GMT`.
const HTTP_DATE_BYTES: usize = 29;

impl HttpDate {
    /// The point so long after the epoch, up to the year 9999.
    pub fn of(time: Duration) -> Self {
        let date = Date::of(time);
        let weekday = usize::try_from(time.as_secs() / SECONDS_A_DAY % 7).unwrap_or(0);
        let (day, month, year) = (date.day, date.month_name(), date.year);
        let (hour, minute, second) = date.clock();
        let mut text = [b' '; HTTP_DATE_BYTES];
        // What a later year lacks room for is left out.
        let _ = write!(
            text.as_mut_slice(),
            "{}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT",
            DAYS.get(weekday).copied().unwrap_or_default()
        );
        Self(text)
    }

    /// The value of the field.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_in_time_is_written_as_rfc_9110_says() {
        for (seconds, text) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_827_696, "Tue, 29 Feb 2000 12:34:56 GMT"),
            (1_796_083_199, "Mon, 30 Nov 2026 23:59:59 GMT"),
        ] {
            let date = HttpDate::of(Duration::from_secs(seconds));
            assert_eq!(std::str::from_utf8(date.as_bytes()).unwrap(), text);
        }
    }
}
