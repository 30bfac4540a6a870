//! What a worker uses again, and that nothing of one network's flow is in it when another one gets it
//! (DESIGN.md, "What is used again"). The fault comes between the two flows, and each flow's bytes say
//! whose they are. Pipes and scratch buffers are tested beside the relay, in `src/relay/tests.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests")]

mod ahead;
mod connections;
#[allow(dead_code, reason = "these tests need a part of it")]
#[path = "../http2/edge.rs"]
mod edge;
mod frames;
#[allow(dead_code, reason = "these tests need a part of it")]
#[path = "../https/gateway.rs"]
mod gateway;
mod marks;
mod records;
mod removal;
mod sessions;
mod tables;
mod waits;
#[allow(dead_code, reason = "these tests need a part of it")]
#[path = "../http2/wire.rs"]
mod wire;
