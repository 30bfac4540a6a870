//! Requests as an upstream gets them.

use std::{io::Write as _, net::SocketAddr};

use super::{Client, Lines, Sink, origin, write_content_length};
use crate::{
    edit::{FieldEdits, Rewrite},
    facts::{Framing, Named},
    field::{Field, Known},
    method::{Scheme, Version},
    request::Request,
};

/// What the gateway knows of a request beside its head.
#[derive(Clone, Copy, Debug)]
pub struct Forwarding<'a> {
    /// Who sent it.
    pub client: &'a Client,
    /// Whose request it is: the same, or whom trusted proxies name ([`super::real_client`]).
    pub real: &'a Client,
    /// The address that it came to: named as the host where HTTP/1.0 names none.
    pub local: SocketAddr,
    /// How it came.
    pub scheme: Scheme,
    /// The client is a proxy whose word on the client before it is taken.
    pub trusted: bool,
    /// Written as `X-Request-Id`; one that was taken over from a trusted client is this one.
    pub request_id: &'a str,
    /// Written in place of the client's `traceparent`, which passes otherwise.
    pub traceparent: Option<&'a str>,
    /// Further fields that the gateway vouches for, as of a client certificate. A field of the
    /// same name that the client sent is left out.
    pub vouched: &'a [(&'a str, &'a str)],
}

/// How a request leaves.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The path to ask for, before it is rewritten.
    pub path: &'a str,
    /// How many bytes of it the rule was found by.
    pub matched: usize,
    /// What becomes of path and host.
    pub rewrite: &'a Rewrite,
    /// What becomes of the fields.
    pub edits: &'a FieldEdits,
    /// How the content is sent.
    pub framing: Framing,
    /// The client's `Expect: 100-continue` is passed on: its content was not asked for yet.
    pub expect: bool,
    /// The connection is used again.
    pub keep_alive: bool,
    /// The key for a WebSocket that HTTP/2 opened (RFC 8441 section 5), which HTTP/1 needs: 16
    /// random bytes in Base64 (RFC 6455 section 4.1).
    pub websocket_key: Option<&'a str>,
}

impl Outgoing<'_> {
    /// Whether the upstream is asked for its `100` first. Without content there is nothing to wait for
    /// (RFC 9110 section 10.1.1).
    pub fn asks_first(&self, request: &Request<'_>) -> bool {
        let has_content = !matches!(self.framing, Framing::None | Framing::Length(0));
        self.expect && request.expects_continue && has_content
    }
}

/// Appends a request head as HTTP/1.1.
pub fn write_request(
    request: &Request<'_>,
    forwarding: &Forwarding<'_>,
    outgoing: &Outgoing<'_>,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(request.method.as_str().as_bytes());
    out.push(b' ');
    write_target(request, outgoing, out);
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    write_host(request, forwarding, outgoing, out);
    out.extend_from_slice(b"\r\n");
    request_fields(request, forwarding, outgoing, &mut Lines(out));
    match outgoing.framing {
        Framing::None => {}
        Framing::Length(length) => write_content_length(length, out),
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
    if outgoing.asks_first(request) {
        out.extend_from_slice(b"Expect: 100-continue\r\n");
    }
    write_connection(request, outgoing, out);
    out.extend_from_slice(b"\r\n");
}

/// Appends path and query in origin form, or `*`.
pub fn write_target(request: &Request<'_>, outgoing: &Outgoing<'_>, out: &mut Vec<u8>) {
    if request.target.path == "*" {
        out.push(b'*');
        return;
    }
    let Outgoing { path, matched, .. } = *outgoing;
    outgoing.rewrite.write_path(path, matched, out);
    if let Some(query) = request.target.query {
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
    }
}

/// Appends the host that the upstream is asked for, with its port.
pub fn write_host(
    request: &Request<'_>,
    forwarding: &Forwarding<'_>,
    outgoing: &Outgoing<'_>,
    out: &mut Vec<u8>,
) {
    match (outgoing.rewrite.host(), request.host) {
        (Some(host), _) => out.extend_from_slice(host.as_bytes()),
        (None, Some(host)) => out.extend_from_slice(host.as_str().as_bytes()),
        (None, None) => {
            // Writing to a vector cannot fail.
            let _ = write!(out, "{}", forwarding.local);
        }
    }
}

/// Writes all fields but Host and those of framing and connection.
pub fn request_fields(
    request: &Request<'_>,
    forwarding: &Forwarding<'_>,
    outgoing: &Outgoing<'_>,
    sink: &mut impl Sink,
) {
    let edits = outgoing.edits;
    let crumbs = request.version == Version::Http2;
    let named = Named::of(request.connection, request.fields);
    for field in request.fields {
        let vouched = forwarding
            .vouched
            .iter()
            .any(|(name, _)| field.name.eq_ignore_ascii_case(name.as_bytes()));
        let kept = passes(&field, forwarding, outgoing) && !named.has(field.name) && !vouched;
        if kept && !edits.removes(field.name) && !(crumbs && field.is("cookie")) {
            sink.field(field.name, field.value);
        }
    }
    if crumbs && !edits.removes(b"cookie") {
        write_cookie(request, sink);
    }
    origin::write_origin(request, forwarding, edits, sink);
    sink.field(b"X-Request-Id", forwarding.request_id.as_bytes());
    if let Some(traceparent) = forwarding.traceparent {
        sink.field(b"traceparent", traceparent.as_bytes());
    }
    for (name, value) in forwarding.vouched {
        sink.field(name.as_bytes(), value.as_bytes());
    }
    for (name, value) in edits.written() {
        sink.field(name, value);
    }
}

/// Whether a client's field is passed on, as far as its name says.
fn passes(field: &Field<'_>, forwarding: &Forwarding<'_>, outgoing: &Outgoing<'_>) -> bool {
    match Known::of(field.name) {
        None | Some(Known::StrictTransportSecurity) => true,
        Some(Known::TraceParent) => forwarding.traceparent.is_none(),
        Some(Known::Trailer) => outgoing.framing == Framing::Chunked,
        Some(Known::XForwardedOther | Known::ClientCert | Known::OfProxy) => forwarding.trusted,
        Some(
            Known::Connection
            | Known::ContentLength
            | Known::Expect
            | Known::Forwarded
            | Known::Host
            | Known::Te
            | Known::TransferEncoding
            | Known::Upgrade
            | Known::KeepAlive
            | Known::HopByHop
            | Known::ForProxy
            | Known::Proxy
            | Known::XForwardedFor
            | Known::XForwardedProto
            | Known::XForwardedHost
            | Known::XRealIp
            | Known::XRequestId
            | Known::Disguised,
        ) => false,
    }
}

/// Joins the cookie fields of HTTP/2 into one (RFC 9113 section 8.2.3).
fn write_cookie(request: &Request<'_>, sink: &mut impl Sink) {
    let mut crumbs = request.fields.all("cookie");
    let Some(first) = crumbs.next() else {
        return;
    };
    sink.name(b"Cookie");
    sink.value(first);
    for crumb in crumbs {
        sink.value(b"; ");
        sink.value(crumb);
    }
    sink.end();
}

/// Appends Connection and what it names. Persistence is HTTP/1.1's default and needs no word.
fn write_connection(request: &Request<'_>, outgoing: &Outgoing<'_>, out: &mut Vec<u8>) {
    if let Some(upgrade) = request.upgrade {
        if let Some(key) = outgoing.websocket_key {
            out.extend_from_slice(b"Sec-WebSocket-Key: ");
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"Upgrade: ");
        out.extend_from_slice(upgrade.protocol.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if request.takes_trailers {
        out.extend_from_slice(b"TE: trailers\r\n");
    }
    let options: &[u8] = match (
        request.upgrade.is_some(),
        request.takes_trailers,
        outgoing.keep_alive,
    ) {
        (true, true, _) => b"Connection: Upgrade, TE\r\n",
        (true, false, _) => b"Connection: Upgrade\r\n",
        (false, true, true) => b"Connection: TE\r\n",
        (false, true, false) => b"Connection: close, TE\r\n",
        (false, false, true) => b"",
        (false, false, false) => b"Connection: close\r\n",
    };
    out.extend_from_slice(options);
}
