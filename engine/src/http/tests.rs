//! Requests through a running engine, over real sockets of the loopback interface.

pub(crate) mod bench;
mod checks;
mod clients;
mod endings;
mod policies;
mod records;
mod resting;
mod targets;
