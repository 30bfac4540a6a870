//! What the kernel has to hold for tenants: network namespaces and the links in them.
//!
//! ```text
//!   NamespaceName ─► Namespaces ─► Arc<Netns> ─► the engine dials inside
//!                         │
//!                         └──────► Links: veth pairs, addresses, up and down, over rtnetlink(7)
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
pub mod links;
pub mod linux;
pub mod name;
mod names;
pub mod namespaces;

pub use kernel::{Kernel, Observed, OwnError, Ownership};
pub use linux::{Linux, LinuxConfig};

#[cfg(test)]
mod private;
