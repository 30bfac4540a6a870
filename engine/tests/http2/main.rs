//! HTTP/2 through a whole engine, with h2 on the other sides.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

mod abuse;
mod content;
mod edge;
mod endings;
mod framing;
mod grpc;
mod stalled;
mod targets;
mod upstream;
mod websocket;
mod wire;
