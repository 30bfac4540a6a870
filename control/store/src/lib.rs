//! Ringway's durable state, in SQLite: what is desired ([`DesiredStore`]), what was counted
//! ([`Accounts`]), what happened ([`Audit`]), the certificates that were obtained ([`CertificateStore`]), and
//! secrets. Each is a handle on the one [`Store`].
//!
//! ```text
//!   samples ─► ledger ─► writer thread ─► file ◄─ reader threads ◄─ questions
//!             (memory)   once a second    (WAL)                     traffic, generations, …
//!                            ▲
//!            commits, events, audit: one transaction each
//! ```
//!
//! - One connection writes, others read, each on a thread of its own: questions never wait for
//!   writes, and callers never for the disk.
//! - A generation, or the ownership of a namespace, is on disk when its commit is answered. Of
//!   counters, `kill -9` loses the last second at most.
//! - While the disk takes nothing, counters are kept in memory, merged, and [`Accounts::health`] says
//!   so. Nothing else depends on it.
//! - What was counted is told once: going on from an answer's `stop_time` gets what came later.
//! - Questions write nothing: what was counted since the last row is told as the row that it becomes.
//! - There is no clock in here: times are unix seconds and come with what they are about.
//!
//! May depend on: control-api and control-plan for their types.
#![forbid(unsafe_code)]

mod accounts;
mod answers;
mod audit;
mod certificates;
mod chain;
mod desired;
mod error;
mod file;
mod forget;
mod frontier;
mod generations;
mod health;
#[cfg(test)]
mod lab;
mod ledger;
mod migrate;
mod names;
mod namespaces;
mod number;
mod open;
mod reader;
mod request;
mod retention;
mod sample;
mod secrets;
mod store;
mod threads;
mod totals;
mod traffic;
mod writer;

pub use accounts::Accounts;
pub use audit::{Audit, Event};
pub use certificates::{CertificateStore, StoredCertificate, StoredFailure, StoredOrder};
pub use control_plan::sample::Raw;
pub use desired::{CommitError, DesiredStore, Generation, NewGeneration};
pub use error::{ReadError, WriteError};
pub use file::{FileError, MovedError, examine};
pub use generations::SqliteDesired;
pub use health::Health;
pub use migrate::MigrateError;
pub use open::OpenError;
pub use request::{Answer, Refused};
pub use retention::Retention;
pub use sample::{PeerSample, RelaySample, Sample};
pub use store::Store;
pub use totals::{ClientTotal, PeerTotal, RouteTotal};
pub use traffic::{ANSWER_ROWS_MAX, Group, NetworkFilter, TrafficQuery};
