//! Super-packets.
