//! From what is desired to what the engine runs.
//!
//! ```text
//!   Desired + listeners ─► publish ─► Snapshot, and the namespaces that it names
//!                             ▲
//!                            Ids: a route, network or namespace keeps its id
//! ```
//!
//! Pure: no IO, no clock, and the same input gives the same answer.
#![forbid(unsafe_code)]

mod ids;
mod publish;

pub use ids::Ids;
pub use publish::{NamespaceSource, Planned, publish};
