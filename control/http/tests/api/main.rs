//! The API as its clients see it: real sockets, a real store, and hostile clients.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where something fails that is not being tested"
)]

mod access;
mod certificates;
mod changes;
mod events;
mod gateway;
mod hostile;
mod metrics;
mod openapi;
mod owners;
mod schema;
mod traffic;
mod wire;
