//! Linux, and nothing but Linux: namespaces, sockets, splice, processors, the probe.
//!
//! The only crate that may contain unsafe code. Its surface takes [`BorrowedFd`](std::os::fd::BorrowedFd)
//! and gives [`OwnedFd`](std::os::fd::OwnedFd); it knows nothing of routes or tenants.
#![allow(
    unsafe_code,
    reason = "the system calls that have no safe binding live here"
)]
#![deny(
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    unsafe_op_in_unsafe_fn
)]

pub mod clock;
pub mod datagram;
pub mod netns;
pub mod pipe;
pub mod probe;
pub mod process;
pub mod socket;
pub mod stream;
pub mod tun;
