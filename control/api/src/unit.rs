//! Durations and sizes as people write them.

use std::{fmt, str::FromStr, time::Duration};

use serde_json::{Value, json};

use crate::{document::Spot, field::from_text, problem::Problems};

/// A number of bytes: `65536`, `64KiB`, `1MiB`, `1GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

/// Binary units, largest first.
const BYTE_UNITS: [(&str, u64); 4] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

/// In milliseconds, largest first.
const TIME_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

impl ByteSize {
    /// In bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// In bytes, for what lives in memory.
    pub fn in_memory(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// Why a text is not an amount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// It does not start with a digit. Holds an example.
    #[error("a whole number with a unit is expected, such as {0}")]
    Shape(&'static str),
    /// An unknown unit, or none where one is needed. Holds the known ones.
    #[error("the unit has to be one of {0}")]
    Unit(&'static str),
    /// More than 64 bits hold.
    #[error("the number is too large")]
    TooLarge,
}

impl FromStr for ByteSize {
    type Err = AmountError;

    fn from_str(text: &str) -> Result<Self, AmountError> {
        let (number, unit) = split(text, "64KiB")?;
        let (number, unit) = match unit {
            "" => (number, "B"),
            unit => (number, unit),
        };
        scale(number, unit, &BYTE_UNITS, "B, KiB, MiB, GiB").map(Self)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_amount(f, self.0, &BYTE_UNITS)
    }
}

impl crate::field::Field for ByteSize {
    const SYNTAX: &'static str = "size";

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        from_text(spot, problems)
    }

    fn write(&self) -> Value {
        self.to_string().into()
    }

    fn schema() -> Value {
        json!({ "oneOf": [
            { "type": "integer", "minimum": 0 },
            { "type": "string", "pattern": "^[0-9]+(B|KiB|MiB|GiB)?$" },
        ] })
    }
}

/// Reads `250ms`, `5s`, `15m`, `1h` or `2d`.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, AmountError> {
    let (number, unit) = split(text, "5s")?;
    scale(number, unit, &TIME_UNITS, "ms, s, m, h, d").map(Duration::from_millis)
}

/// Writes what [`parse_duration`] reads.
pub(crate) struct Written(pub(crate) Duration);

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX) {
            0 => f.write_str("0s"),
            millis => write_amount(f, millis, &TIME_UNITS),
        }
    }
}

fn split<'t>(text: &'t str, example: &'static str) -> Result<(u64, &'t str), AmountError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    if number.is_empty() {
        return Err(AmountError::Shape(example));
    }
    // Only digits are left: all that can be wrong is the size.
    let number = number.parse().map_err(|_| AmountError::TooLarge)?;
    Ok((number, unit))
}

fn scale(
    number: u64,
    unit: &str,
    units: &[(&str, u64)],
    known: &'static str,
) -> Result<u64, AmountError> {
    let (_, factor) = units
        .iter()
        .find(|(name, _)| *name == unit)
        .ok_or(AmountError::Unit(known))?;
    number.checked_mul(*factor).ok_or(AmountError::TooLarge)
}

/// In the largest unit that loses nothing.
fn write_amount(f: &mut fmt::Formatter<'_>, amount: u64, units: &[(&str, u64)]) -> fmt::Result {
    let fits = |factor: u64| amount >= factor && amount.is_multiple_of(factor);
    let (name, factor) = units
        .iter()
        .find(|&&(_, factor)| fits(factor))
        .copied()
        .unwrap_or(("", 1));
    let name = if name == "B" { "" } else { name };
    write!(f, "{}{name}", amount / factor)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn amounts_are_read_with_their_unit() {
        for (text, millis) in [
            ("250ms", 250),
            ("5s", 5000),
            ("15m", 900_000),
            ("0s", 0),
            ("2d", 172_800_000),
        ] {
            assert_eq!(
                parse_duration(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for (text, bytes) in [
            ("0", 0),
            ("7", 7),
            ("7B", 7),
            ("64KiB", 65_536),
            ("1MiB", 1 << 20),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "",
            "s",
            "-5s",
            "5",
            "5 s",
            "1.5s",
            "5S",
            "5sec",
            "٥s",
            "18446744073709551616s",
            "18446744073709551615d",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for text in [
            "",
            "KiB",
            "64kb",
            "64 KiB",
            "64KB",
            "1e3",
            "18446744073709551615KiB",
        ] {
            assert!(text.parse::<ByteSize>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(millis in 0..u64::MAX, bytes: u64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&Written(duration).to_string()), Ok(duration));
            prop_assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = parse_duration(&text);
            let _ = text.parse::<ByteSize>();
        }
    }
}
