//! The client verbs.
#![forbid(unsafe_code)]
