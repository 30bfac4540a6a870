//! What consistent hashing makes of a request.

use std::net::IpAddr;

use engine_core::{balance::HashOn, hash::fold};

use crate::{field, request::Request};

/// The number that a request is hashed to: the same in every process. A request that lacks what is
/// hashed, and a connection without requests, go by the client's address.
pub fn key(on: &HashOn, client: IpAddr, request: Option<&Request<'_>>) -> u64 {
    let value = request.and_then(|request| match on {
        HashOn::Source => None,
        HashOn::Path => Some(request.target.path.as_bytes()),
        HashOn::Field(name) => request.fields.first(name),
        HashOn::Cookie(name) => field::cookies(request.fields, name).next(),
    });
    match (value, client) {
        (Some(value), _) => fold(value),
        (None, IpAddr::V4(v4)) => fold(&v4.octets()),
        (None, IpAddr::V6(v6)) => fold(&v6.octets()),
    }
}
