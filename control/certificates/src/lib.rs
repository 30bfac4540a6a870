//! Where certificates come from: files, and ACME directories (RFC 8555); and when they are renewed.
//!
//! ```text
//!   what is wanted ─┐                ┌─► files ──────────────┐
//!   strangers ─ ask ┼─► keeper ──────┤                       ├─► engine's certificates, the store,
//!   time            ┘   (schedule)   └─► order ◄─► directory ┘   events, what the API shows
//!                                          └─► proof: http-01, tls-alpn-01, dns-01
//! ```
//!
//! - What is done when is decided by [`schedule`] and `demand`, without a clock or a die of their
//!   own. The keeper is one task that owns all of it and carries out what they say.
//! - A certificate that is served is only ever replaced by a better one: what fails is tried again,
//!   ever later, and said.
//! - Keys are in the store and in memory. Nothing shows them: no log, no answer, no `Debug`.
//! - A name has one order at a time; orders at once, orders an hour of a directory and of a network,
//!   names that strangers may ask about, sizes and waiting times of everything remote are bounded.
//!
//! May depend on: control-api for what is declared, control-store, and what of the engine is shared
//! with control: certificates and challenges.
#![forbid(unsafe_code)]

mod acme;
mod ask;
mod client;
mod clock;
mod demand;
mod dns;
mod files;
mod keeper;
mod leaf;
mod random;
mod reading;
mod reason;
pub mod schedule;
mod wants;

pub use files::load;
pub use keeper::{Ears, Keeper, KeeperError, Setting};
pub use wants::{Impossible, WantedFiles, Wants};
