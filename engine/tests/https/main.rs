//! TLS that ends at the engine, over sockets of the loopback: a rustls client before it, plain and
//! TLS upstreams behind it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod accounts;
mod clients;
mod gateway;
mod http2;
mod names;
mod namespaces;
mod policies;
mod requests;
mod upstreams;
