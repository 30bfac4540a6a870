//! The userspace WireGuard device, for hosts whose kernel has no WireGuard.
#![forbid(unsafe_code)]

mod change;
mod key;
mod state;

pub use change::{Change, PeerChange};
pub use key::{Key, PublicKey};
pub use state::{PeerState, State};
