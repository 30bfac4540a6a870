//! The data plane: per-core workers that carry connections from accept to account.
//!
//! ```text
//!   accept ► PROXY header ► classify ► route ► resolve ► admit ► dial ► relay ► account      (connection.rs)
//!                      └──► head ► decide ► resolve ► admit ► exchange ► account, and again  (front/http.rs)
//!                                   ▲ Snapshot                      │ counters
//!                     Engine::publish           Engine::counters, Engine::drain
//! ```
//!
//! A worker is one pinned thread with one ring and its own listening sockets; nothing is shared on
//! the way of a byte. Control meets it in three verbs: publish, counters, drain. The runtime is
//! known to `rt` alone, system calls to `engine-sys`, decisions to `engine-core`.
#![forbid(unsafe_code)]

mod accept;
mod connection;
mod context;
mod engine;
mod exchange;
mod front;
mod relay;
mod rt;
mod transport;
mod upstream;
mod worker;

pub use crate::{
    context::{
        account::{ListenerTally, WorkerState},
        challenge::Challenges,
        checked::TargetDown,
        config::{Config, DriverChoice, Limits, UndeclaredName, Workers},
        failure::Failure,
        http2_limits::Http2Limits,
        listener::{HalfClose, Listener, Protocol, RelayMode, Sockets},
        lookups::LookupTally,
        record::{Durations, Record},
        request_record::RequestRecord,
        snapshot::Publication,
        tls::{
            Speech, Termination, Tls,
            origin::Origin,
            tally::{Handshake, TlsTally},
        },
    },
    engine::{
        Drained, Draining, Engine, PublishError, StartError,
        counters::{ClientTraffic, Counters, ListenerCounters, RouteCounters, WorkerCounters},
        listen::{Bind, Opening},
    },
    rt::Driver,
};
