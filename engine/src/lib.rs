//! The data plane: per-core workers that carry connections from accept to account.
//!
//! ```text
//!   accept ► preface ► classify ► route ► admit ► dial ► relay ► account      (connection.rs)
//!                 └──► head ► decide ► admit ► exchange ► account, and again  (http.rs)
//!                                   ▲ Snapshot            │ counters
//!                     Engine::publish           Engine::counters, Engine::drain
//! ```
//!
//! A worker is one pinned thread with one ring and its own listening sockets; nothing is shared on
//! the way of a byte. Control meets it in three verbs: publish, counters, drain. The runtime is
//! known to `rt` alone, system calls to `engine-sys`, decisions to `engine-core`.
#![forbid(unsafe_code)]

mod accept;
mod access;
mod account;
mod admit;
mod chance;
mod check;
mod classify;
mod config;
mod connection;
mod context;
mod counters;
mod dial;
mod end;
mod engine;
mod failure;
mod http;
mod http2;
mod linger;
mod listen;
mod live;
mod preface;
mod record;
mod relay;
mod route;
mod rt;
mod snapshot;
mod stop;
mod streams;
mod tls;
mod upstream;
mod worker;

pub use crate::{
    account::{ListenerTally, WorkerState},
    check::TargetDown,
    config::{
        Config, DriverChoice, HalfClose, Limits, ListenSocket, Listener, Protocol, RelayMode,
        Stranger, Workers,
    },
    counters::{ClientTraffic, Counters, RouteCounters, WorkerCounters},
    engine::{Drained, Draining, Engine, Publication, PublishError, StartError},
    failure::Failure,
    http::{challenge::Challenges, trace::RequestRecord},
    http2::limits::Http2Limits,
    record::{Durations, Record},
    rt::Driver,
    tls::{Handshake, Origin, Speech, Termination, Tls, TlsTally},
};
