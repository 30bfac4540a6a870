//! What the kernel has to hold for tenants: network namespaces and the links in them.
//!
//! ```text
//!   NamespaceName ─► Names ─► Arc<Netns> ─► the engine dials inside
//!
//!   Step ─► Kernel::apply ─► Linux ─► namespaces, WireGuard, addresses, routes, nftables
//!   Actual ◄── observe ──────┘
//! ```
//!
//! A namespace is held by descriptor from the moment it is opened, and looked up by name only
//! then. No process is ever started: everything is a system call or a netlink message.
#![forbid(unsafe_code)]

mod kernel;
mod keys;
pub mod linux;
pub mod name;
pub mod names;

pub use kernel::{Kernel, Observed, OwnError, Ownership};
pub use linux::{Linux, LinuxConfig};

#[cfg(test)]
mod private;
