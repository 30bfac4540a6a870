//! Responses as a client gets them.

use super::{Lines, Sink, write_content_length};
use crate::{
    date::HttpDate,
    edit::FieldEdits,
    facts::Named,
    field::{Field, Known},
    method::Version,
    octet,
    response::{Framing, Response},
};

/// What the gateway adds to a response.
#[derive(Clone, Copy, Debug)]
pub struct ResponseForwarding<'a> {
    /// The version that the client speaks.
    pub version: Version,
    /// Whether the client may send another request on the connection.
    pub keep_alive: bool,
    /// How the content is sent.
    pub framing: Framing,
    /// Written as `X-Request-Id`.
    pub request_id: &'a str,
    /// What becomes of the fields.
    pub edits: &'a FieldEdits,
    /// The value of `Strict-Transport-Security` (RFC 6797), in place of the upstream's.
    pub hsts: Option<&'a str>,
    /// The value of a further `Set-Cookie`.
    pub set_cookie: Option<&'a [u8]>,
    /// Now: written as `Date` where the upstream wrote none (RFC 9110 section 6.6.1).
    pub date: HttpDate,
}

/// Appends a response head as HTTP/1.1, also to clients of HTTP/1.0 (RFC 9110 section 2.5).
pub fn write_response(
    response: &Response<'_>,
    forwarding: &ResponseForwarding<'_>,
    out: &mut Vec<u8>,
) {
    write_status_line(response, out);
    response_fields(response, forwarding, &mut Lines(out));
    match forwarding.framing {
        Framing::Length(length) => write_content_length(length, out),
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        // What the content would be, for HEAD and 304 (RFC 9110 section 8.6).
        Framing::None if response.status >= 200 && response.status != 204 => {
            if let Some(length) = response.length {
                write_content_length(length, out);
            }
        }
        Framing::None | Framing::UntilClose => {}
    }
    if response.is_upgrade() {
        if let Some(protocol) = response.fields.first("upgrade") {
            Lines(out).field(b"Upgrade", protocol);
        }
        out.extend_from_slice(b"Connection: Upgrade\r\n");
    } else if !forwarding.keep_alive {
        out.extend_from_slice(b"Connection: close\r\n");
    } else if forwarding.version == Version::Http10 {
        out.extend_from_slice(b"Connection: keep-alive\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends an interim response: 100, 103 and the like (RFC 9110 section 15.2). Clients of HTTP/1.0
/// must not get one.
pub fn write_interim(response: &Response<'_>, out: &mut Vec<u8>) {
    debug_assert!(response.is_interim(), "a final response has framing");
    write_status_line(response, out);
    let named = Named::of(response.connection, response.fields);
    for field in response.fields {
        if Known::of(field.name).is_none() && !named.has(field.name) {
            Lines(out).field(field.name, field.value);
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes all fields but those of framing and connection.
pub fn response_fields(
    response: &Response<'_>,
    forwarding: &ResponseForwarding<'_>,
    sink: &mut impl Sink,
) {
    let edits = forwarding.edits;
    let named = Named::of(response.connection, response.fields);
    let mut has_date = false;
    for field in response.fields {
        let kept = passes(&field, forwarding) && !named.has(field.name);
        if kept && !edits.removes(field.name) {
            has_date |= field.is("date");
            sink.field(field.name, field.value);
        }
    }
    if !has_date && !edits.touches(b"date") {
        sink.field(b"Date", forwarding.date.as_bytes());
    }
    sink.field(b"X-Request-Id", forwarding.request_id.as_bytes());
    if let Some(hsts) = forwarding.hsts {
        sink.field(b"Strict-Transport-Security", hsts.as_bytes());
    }
    if let Some(cookie) = forwarding.set_cookie {
        sink.field(b"Set-Cookie", cookie);
    }
    for (name, value) in edits.written() {
        sink.field(name, value);
    }
}

/// Whether an upstream's field is passed on, as far as its name says. It may say what it likes
/// about where a request came from.
fn passes(field: &Field<'_>, forwarding: &ResponseForwarding<'_>) -> bool {
    match Known::of(field.name) {
        Some(
            Known::Connection
            | Known::ContentLength
            | Known::Te
            | Known::TransferEncoding
            | Known::Upgrade
            | Known::KeepAlive
            | Known::HopByHop
            | Known::ForProxy
            | Known::XRequestId
            | Known::Disguised,
        ) => false,
        Some(Known::Trailer) => forwarding.framing == Framing::Chunked,
        Some(Known::StrictTransportSecurity) => forwarding.hsts.is_none(),
        Some(
            Known::Expect
            | Known::Forwarded
            | Known::Host
            | Known::XForwardedFor
            | Known::XForwardedProto
            | Known::XForwardedHost
            | Known::XForwardedOther
            | Known::ClientCert
            | Known::OfProxy
            | Known::Proxy
            | Known::XRealIp
            | Known::TraceParent,
        )
        | None => true,
    }
}

fn write_status_line(response: &Response<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    octet::write_decimal(out, response.status.into());
    out.push(b' ');
    out.extend_from_slice(response.reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}
