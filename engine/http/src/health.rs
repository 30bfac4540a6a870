//! Whether a target is well: asked by checks, and seen from requests.
//!
//! State machines without clock: results and times come in, changes come out. Times are
//! nanoseconds of a clock that only grows.

mod active;
mod passive;

pub use active::{Active, Check, Probe};
pub use passive::{Ejection, Passive};

/// A change of a target's health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It may be used again.
    Up,
    /// It is left out.
    Down,
}
