//! The REST API: HTTP/1.1 on a TCP port or a unix socket, on the control thread.
//!
//! ```text
//!   client ─► accept ─► access ─► ask, body ─► routes ─► changes ─► the reconciler
//!             (bounds)  (role,    (what is     │  ▲
//!                        audit)    wrong: 400)  ▼  └── view, store, events
//! ```
//!
//! - Nothing here decides about networks: a change goes over the channel of [`Front`], and what is
//!   answered comes from its view and from the store.
//! - A function that answers takes who may ask as an argument, so that none can forget to.
//! - Connections, headers, bodies, waiting times, wrong tokens and followers of events are bounded;
//!   no request can hold up another one for longer than its deadline, or the data plane at all.
//! - The OpenAPI document, the list of metrics and what is answered come from the same source.
//!
//! May depend on: control-api, control-store, the engine's counters.
#![forbid(unsafe_code)]

mod access;
mod ask;
mod audit;
mod body;
mod browser;
mod failures;
mod front;
mod listen;
mod metrics;
mod notes;
mod openapi;
mod pending;
mod refusal;
mod room;
mod routes;
mod serve;
mod shared;
mod source;
mod stall;
mod tally;
mod tokens;

pub use front::{
    Actor, ChangeRefused, ChangeRequest, EVENTS_BEHIND_MAX, Front, LazyStatus, Reconciles, View,
};
pub use listen::{BindError, Listener};
pub use metrics::reference as metrics_reference;
pub use pending::Claim;
pub use serve::serve;
pub use shared::Settings;
pub use tokens::Tokens;
