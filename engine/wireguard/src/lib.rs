//! The userspace WireGuard device.
#![forbid(unsafe_code)]
