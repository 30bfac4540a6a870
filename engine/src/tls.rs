//! TLS that ends here, towards clients and towards upstreams.
//!
//! ```text
//!   hello ► whose? ─► passthrough: the route by name, unread                     (connection.rs)
//!             └────► terms ► handshake ► the requests of the connection          (http.rs)
//!                                            └─► origin ► handshake ► upstream   (http/open.rs)
//! ```
//!
//! What sessions are is engine-tls' to say; here are the names that end here, and the waits.

mod accept;
mod connect;
mod handshake;
mod names;
mod origin;
mod tally;
mod told;

pub(crate) use self::{
    accept::{Secured, serve, terms},
    connect::{Endpoint, connect, connect_until},
    names::Asked,
    origin::Sessions,
    told::Told,
};
pub use self::{
    names::{Speech, Termination, Tls},
    origin::Origin,
    tally::{Handshake, TlsTally},
};
