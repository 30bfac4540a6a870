//! The pure half of the data plane: bytes in, decisions out.
//!
//! ```text
//!   bytes ─► classify ─► Verdict ─► Snapshot::route ─► &Route ─► Admission ─► Slots
//! ```
//!
//! Nothing here does IO, reads a clock or draws a random number: time and seeds are arguments.
//! Namespaces are named by [`ids::NetnsId`]; their descriptors live in the engine.
#![forbid(unsafe_code)]

pub mod admit;
pub mod balance;
pub mod classify;
pub mod destination;
pub mod endpoint;
pub mod hash;
pub mod health;
pub mod hostname;
pub mod ids;
pub mod outcome;
pub mod proxy_protocol;
pub mod requests;
pub mod shared_map;
pub mod snapshot;
pub mod tally;
