//! Messages as they are passed on.
//!
//! A head is never copied: it is written anew from what was understood of it, so nothing that was
//! not understood gets through. What ends at this hop (RFC 9110 section 7.6.1) is left out, framing
//! is the writer's own, and what upstreams believe about the client is written by the gateway
//! alone. `Via` is not written: it tells nothing that the tenant does not know, and servers turn
//! features off for it.
//!
//! Fields go to a [`Sink`], so that HTTP/2 is written by the same rules as HTTP/1.

mod origin;
mod real;
mod request;
mod response;
#[cfg(test)]
mod tests;

pub use origin::Client;
pub use real::real_client;
pub use request::{Forwarding, Outgoing, request_fields, write_host, write_request, write_target};
pub use response::{ResponseForwarding, response_fields, write_interim, write_response};

use crate::octet;

/// Where fields are written to. The parts of a value come one after the other.
pub trait Sink {
    /// Starts a field.
    fn name(&mut self, name: &[u8]);
    /// Adds to its value.
    fn value(&mut self, part: &[u8]);
    /// Ends it.
    fn end(&mut self);

    /// Writes a whole field.
    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.name(name);
        self.value(value);
        self.end();
    }
}

/// Writes field lines as in HTTP/1.
#[derive(Debug)]
pub(crate) struct Lines<'a>(pub(crate) &'a mut Vec<u8>);

impl Sink for Lines<'_> {
    fn name(&mut self, name: &[u8]) {
        self.0.extend_from_slice(name);
        self.0.extend_from_slice(b": ");
    }

    fn value(&mut self, part: &[u8]) {
        self.0.extend_from_slice(part);
    }

    fn end(&mut self) {
        self.0.extend_from_slice(b"\r\n");
    }
}

fn write_content_length(length: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Content-Length: ");
    octet::write_decimal(out, length);
    out.extend_from_slice(b"\r\n");
}
