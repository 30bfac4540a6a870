//! What an upstream is told about where a request comes from.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr},
};

use super::{Forwarding, Sink};
use crate::{edit::FieldEdits, field::Fields, method::Scheme, octet, request::Request};

/// Longest text of an address: IPv6 with an IPv4 address at its end.
const IP_BYTES_MAX: usize = 45;

/// A client, with its address as text: written into each request, made once for a connection.
#[derive(Clone, Copy, Debug)]
pub struct Client {
    address: SocketAddr,
    text: [u8; IP_BYTES_MAX],
    len: usize,
}

impl Client {
    /// Takes the address that counts: the socket's, or that of a PROXY protocol header.
    pub fn new(address: SocketAddr) -> Self {
        let mut text = [0; IP_BYTES_MAX];
        let ip = address.ip().to_canonical();
        let mut rest = text.as_mut_slice();
        // The text of an address fits its place.
        let _ = write!(rest, "{ip}");
        let len = IP_BYTES_MAX - rest.len();
        Self {
            address: SocketAddr::new(ip, address.port()),
            text,
            len,
        }
    }

    /// Its address; an IPv4 address is never in its IPv6 form.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its IP address as text.
    pub fn ip_text(&self) -> &[u8] {
        &self.text[..self.len]
    }
}

/// Writes `X-Forwarded-For`, `-Proto`, `-Host`, `X-Real-IP` and `Forwarded`.
///
/// A trusted client's own are kept: lists are appended to, single values passed on.
pub(super) fn write_origin(
    request: &Request<'_>,
    forwarding: &Forwarding<'_>,
    edits: &FieldEdits,
    sink: &mut impl Sink,
) {
    let before = match forwarding.trusted {
        true => request.fields,
        false => Fields::default(),
    };
    let ip = forwarding.client.ip_text();
    if !edits.removes(b"x-forwarded-for") {
        sink.name(b"X-Forwarded-For");
        write_list(before, "x-forwarded-for", sink);
        sink.value(ip);
        sink.end();
    }
    let scheme = forwarding.scheme.as_str().as_bytes();
    let mut single = |name: &[u8], folded: &str, own: &[u8]| {
        if !edits.removes(name) {
            sink.field(name, before.first(folded).unwrap_or(own));
        }
    };
    single(b"X-Forwarded-Proto", "x-forwarded-proto", scheme);
    if let Some(host) = request.host {
        single(
            b"X-Forwarded-Host",
            "x-forwarded-host",
            host.as_str().as_bytes(),
        );
    }
    single(b"X-Real-IP", "x-real-ip", forwarding.real.ip_text());
    if !edits.removes(b"forwarded") {
        write_forwarded(request, forwarding, before, sink);
    }
}

/// Writes `Forwarded` (RFC 7239): an IPv6 address in brackets, and quoted for that; a host quoted
/// when its port makes it more than a token (section 4).
fn write_forwarded(
    request: &Request<'_>,
    forwarding: &Forwarding<'_>,
    before: Fields<'_>,
    sink: &mut impl Sink,
) {
    sink.name(b"Forwarded");
    write_list(before, "forwarded", sink);
    sink.value(b"for=");
    match forwarding.client.address().ip() {
        IpAddr::V4(_) => sink.value(forwarding.client.ip_text()),
        IpAddr::V6(_) => {
            sink.value(b"\"[");
            sink.value(forwarding.client.ip_text());
            sink.value(b"]\"");
        }
    }
    if let Some(host) = request.host {
        let host = host.as_str().as_bytes();
        let quote: &[u8] = if octet::is_token(host) { b"" } else { b"\"" };
        sink.value(b";host=");
        sink.value(quote);
        sink.value(host);
        sink.value(quote);
    }
    sink.value(match forwarding.scheme {
        Scheme::Http => b";proto=http",
        Scheme::Https => b";proto=https",
    });
    sink.end();
}

/// Writes the elements that came before, each with a comma behind it.
fn write_list(before: Fields<'_>, name: &str, sink: &mut impl Sink) {
    for value in before.all(name).filter(|value| !value.is_empty()) {
        sink.value(value);
        sink.value(b", ");
    }
}
