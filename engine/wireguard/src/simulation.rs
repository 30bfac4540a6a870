//! The root of the package in `../simulation`: the core, from the very files of `engine-wireguard`,
//! with a boringtun whose clock is simulated.
//!
//! `cargo test` there runs what the core promises over minutes and hours: new keys in time,
//! keep-alives, retries and their end, peers that move, networks that lose and double. Several tests
//! repeat themselves for a range of seeds; `SIM_SEED=n` runs one of them alone.
#![forbid(unsafe_code)]
#![cfg(test)]
#![allow(
    dead_code,
    unused_imports,
    reason = "what only the devices' threads need is not used here"
)]

mod change;
mod checksum;
mod core;
mod key;
mod packet;
mod state;
mod superpacket;
#[path = "simulation/tests.rs"]
mod tests;
