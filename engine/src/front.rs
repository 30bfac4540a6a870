//! What clients speak, one file each: what they send is read until it is known where it leads.
//!
//! ```text
//!   ClientHello ► whose? ─► passthrough: the route by name, unread                    (connection.rs)
//!                   └────► terms ► handshake ► the requests of the connection         (front/http.rs)
//!                                                  └─► origin ► handshake ► upstream  (exchange/open.rs)
//! ```

pub(crate) mod classify;
pub(crate) mod http;
pub(crate) mod http2;
pub(crate) mod proxy_header;
pub(crate) mod route;
pub(crate) mod tls;
