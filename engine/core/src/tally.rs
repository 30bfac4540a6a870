//! Counters and their arithmetic.
