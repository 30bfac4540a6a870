//! From what is desired to what the engine runs, and to what the kernel is told.
//!
//! ```text
//!   Desired + listeners ─► publish ─► Snapshot, and the namespaces that it names
//!                             ▲
//!                            Ids: a route, network or namespace keeps its id
//!
//!   Desired + Actual + Known ─► plan ─► Plan { before, after, refused }
//! ```
//!
//! Pure: no IO, no clock, and the same input gives the same answer.
#![forbid(unsafe_code)]

pub mod actual;
pub mod calendar;
mod changed;
mod clashes;
mod doubts;
mod ids;
mod misfits;
pub mod plan;
mod publish;
pub mod sample;
pub mod step;
pub mod tls;

pub use changed::{Changed, changed};
pub use clashes::{Clash, clashes, clashes_of};
pub use doubts::doubts;
pub use ids::Ids;
pub use misfits::{covers, misfits, own_misfits};
pub use publish::{
    Gone, Held, Input, NameServers, NamespaceSource, Planned, PlannedListener, Planner, Running,
    Unserved, publish, unserved,
};
