//! Numbers with their units.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const BINARY: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// `0 B`, `999 B`, `1.2 GiB`: at most four digits, never more than the count.
pub(crate) fn bytes(count: u64) -> String {
    if count < 1024 {
        return format!("{count} B");
    }
    let mut unit = 0;
    let mut size = 1024_u128;
    while u128::from(count) >= size * 1024 && unit + 1 < BINARY.len() {
        size *= 1024;
        unit += 1;
    }
    // Cut off, not rounded: 1023.99 KiB is not 1024 KiB.
    let tenths = u128::from(count) * 10 / size;
    let (whole, tenth) = (tenths / 10, tenths % 10);
    let name = BINARY[unit];
    if whole < 100 {
        format!("{whole}.{tenth} {name}")
    } else {
        format!("{whole} {name}")
    }
}

/// Bytes in each second.
pub(crate) fn rate(bytes_per_second: u64) -> String {
    format!("{}/s", bytes(bytes_per_second))
}

/// `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Two units at most: `12 s`, `3 min`, `2 h 5 min`, `40 d`.
pub(crate) fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |first: String, rest: u64, unit: &str| match rest {
        0 => first,
        rest => format!("{first} {rest} {unit}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min"),
        3600..86_400 => two(format!("{hours} h"), minutes % 60, "min"),
        86_400..864_000 => two(format!("{days} d"), hours % 24, "h"),
        _ => format!("{days} d"),
    }
}

/// How long ago a time of the gateway's clock was: `12 s ago`.
pub(crate) fn age(now: u64, then: u64) -> String {
    match now.saturating_sub(then) {
        0 => "now".into(),
        seconds => format!("{} ago", span(seconds)),
    }
}

/// How far off a time of the gateway's clock is, either way: `in 12 s`, `12 s ago`.
pub(crate) fn until(now: u64, then: u64) -> String {
    match then.saturating_sub(now) {
        0 => age(now, then),
        seconds => format!("in {}", span(seconds)),
    }
}

/// A time in UTC (RFC 3339).
pub(crate) fn clock(unix: u64) -> String {
    // The end of year 9999, beyond which there is no such text.
    const LAST: u64 = 253_402_300_799;
    let time: SystemTime = UNIX_EPOCH + Duration::from_secs(unix.min(LAST));
    humantime::format_rfc3339_seconds(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_a_unit_and_at_most_four_digits() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (102_399, "99.9 KiB"),
            (102_400, "100 KiB"),
            (1024 * 1024 - 1, "1023 KiB"),
            (1024 * 1024, "1.0 MiB"),
            (1_288_490_189, "1.2 GiB"),
            (u64::MAX, "15.9 EiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
        assert_eq!(rate(2048), "2.0 KiB/s");
    }

    #[test]
    fn long_numbers_are_grouped() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn spans_have_two_units_at_most() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3599, "59 min"),
            (3600, "1 h"),
            (7500, "2 h 5 min"),
            (86_400, "1 d"),
            (90_000, "1 d 1 h"),
            (864_000, "10 d"),
        ] {
            assert_eq!(span(seconds), text);
        }
        assert_eq!(age(100, 88), "12 s ago");
        assert_eq!(age(100, 101), "now", "clocks differ");
        assert_eq!(until(100, 112), "in 12 s");
        assert_eq!(until(112, 100), "12 s ago");
        assert_eq!(until(100, 100), "now");
    }

    #[test]
    fn any_time_has_a_text() {
        assert_eq!(clock(0), "1970-01-01T00:00:00Z");
        assert_eq!(clock(1_795_250_000), "2026-11-21T08:33:20Z");
        assert_eq!(clock(u64::MAX), "9999-12-31T23:59:59Z");
    }
}
