//! The REST API.
#![forbid(unsafe_code)]
