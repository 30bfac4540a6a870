//! WireGuard in user space, for hosts whose kernel has none: many devices on a fixed number of
//! threads.
//!
//! ```text
//!   the tenant's namespace                                      the host's namespace
//!
//!   applications ─► link wg51820 ═ TUN ─► Core::send ─────► Outbox ─► UDP port 51820 ─► peers
//!                                         (peers, trie,
//!   applications ◄─ link wg51820 ═ TUN ◄─ Core::receive ◄── Inbox ◄── UDP port 51820 ◄─ peers
//!                                         sessions)
//!           Pool: each device belongs to one thread; `Device` sends it commands,
//!           and so does `wg`, through /var/run/wireguard/wg51820.sock
//! ```
//!
//! The core is pure: no descriptors, no clock, no randomness of its own but what boringtun's `Tunn`
//! brings. The rest moves bytes. Invariants:
//!
//! - nothing that is not authenticated is answered, but for cookies under load, or changes anything;
//! - a device without sessions has no timers: it costs no processor time at all;
//! - nothing is allocated for a packet while there is a session for it;
//! - every queue and table has a bound, named where it is kept.
#![forbid(unsafe_code)]

mod change;
mod checksum;
mod core;
mod courier;
mod device;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod key;
mod packet;
mod pool;
mod state;
mod superpacket;
mod uapi;

pub use change::{Change, PeerChange};
pub use device::{ConfigureError, Device, Gone, SetMtuError};
pub use key::{Key, PublicKey};
pub use pool::{Offload, Offloads, Open, OpenError, Pool, StartError, UAPI_DIRECTORY};
pub use state::{PeerState, State};
