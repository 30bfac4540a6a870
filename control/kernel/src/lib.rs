//! What the kernel has to hold for tenants: network namespaces and the links in them.
//!
//! ```text
//!   NamespaceName ─► Namespaces ─► Arc<Netns> ─► the engine dials inside
//!                         │
//!                         └──────► Links: veth pairs, addresses, up and down, over rtnetlink(7)
//! ```
//!
//! A namespace is held by descriptor from the moment it is opened, and looked up by name only
//! then. No process is ever started: everything is a system call or a netlink message.
#![forbid(unsafe_code)]

pub mod links;
pub mod name;
pub mod namespaces;

#[cfg(test)]
mod private;
