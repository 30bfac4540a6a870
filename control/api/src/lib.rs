//! What operators write, turned into valid values: the boot file and the state document.
//!
//! ```text
//!   boot file (YAML) + RINGWAY_… ─► document ─► boot::Boot      ┐ or every problem at once,
//!   state document (JSON)        ─► document ─► state::Desired  ┘ each with its place
//!   a request                    ─► edit     ─► state::Desired, or why not
//! ```
//! [`answer`] has what the API says in return.
//!
//! A value of these types is valid by construction: it comes out of the parser only. Nothing here
//! does IO; the environment is an argument. Anything at all may be parsed: sizes, depths and the
//! number of problems are bounded, and no input panics.
#![forbid(unsafe_code)]

pub mod answer;
pub mod boot;
mod document;
mod field;
mod overlap;
pub mod place;
mod problem;
mod section;
pub mod state;
mod unit;
mod word;

pub use document::{FileKind, STATE_BYTES_MAX, kind_of};
pub use overlap::overlap;
pub use problem::{PROBLEMS_MAX, Problem, Problems, Severity, Valid};
pub use section::Key;
pub use unit::{AmountError, ByteSize};
