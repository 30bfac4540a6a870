//! Numbers as SQLite has them: 64 bits with a sign.

/// Times and totals: stops at 2^63 - 1, which is nine exabytes.
pub(crate) fn amount(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What [`amount`] made.
pub(crate) fn from_amount(stored: i64) -> u64 {
    u64::try_from(stored).unwrap_or(0)
}

/// Epochs and raw counters keep all their bits; they are compared, never ordered, by SQL.
pub(crate) fn bits(number: u64) -> i64 {
    number.cast_signed()
}

/// What [`bits`] made.
pub(crate) fn from_bits(stored: i64) -> u64 {
    stored.cast_unsigned()
}
