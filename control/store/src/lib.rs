//! SQLite.
#![forbid(unsafe_code)]
