//! Requests through a running engine, over real sockets of the loopback interface.

pub(crate) mod bench;
pub(crate) mod checks;
pub(crate) mod clients;
pub(crate) mod endings;
pub(crate) mod names;
pub(crate) mod policies;
pub(crate) mod records;
pub(crate) mod resting;
pub(crate) mod targets;
