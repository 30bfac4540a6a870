//! Heads between their two forms: h2's maps, and the values that rules and HTTP/1 work with.

use bytes::Bytes;
use engine_http::{
    chunked,
    decoded::{self, FieldLines, RequestHead},
    facts,
    field::{Fields, Known},
    forward::{self, Forwarding, Outgoing, ResponseForwarding, Sink as _},
    limits::Limits,
    refusal::Refusal,
    request::Request,
    response::{Framing, Response},
};
use h2::ext::Protocol;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode, header,
    uri::{Authority, PathAndQuery, Scheme},
};

use crate::exchange::{answer::LocalReply, head::Http2Head};

/// Writes the fields of a head out as checked lines.
///
/// # Errors
/// Says which rule one of them breaks.
pub(crate) fn lines(map: &HeaderMap, limits: &Limits) -> Result<FieldLines, Refusal> {
    let mut lines = FieldLines::default();
    for (name, value) in map {
        lines.push(name.as_str().as_bytes(), value.as_bytes(), limits)?;
    }
    Ok(lines)
}

/// Reads the head of a request.
///
/// # Errors
/// Says which rule it breaks.
pub(crate) fn request<'a>(
    parts: &'a http::request::Parts,
    lines: &'a FieldLines,
    is_end: bool,
    limits: &Limits,
) -> Result<Request<'a>, Refusal> {
    let path = parts.uri.path_and_query();
    let head = RequestHead {
        method: parts.method.as_str(),
        authority: parts.uri.authority().map(Authority::as_str),
        path: path.map_or("/", PathAndQuery::as_str),
        protocol: parts.extensions.get::<Protocol>().map(Protocol::as_str),
        fields: lines.fields(),
        is_end,
    };
    decoded::request(&head, limits)
}

/// The head of a request as an upstream of HTTP/2 gets it. `None` where it cannot be written so.
pub(crate) fn forwarded(
    request: &Request<'_>,
    forwarding: &Forwarding<'_>,
    outgoing: &Outgoing<'_>,
    is_tls: bool,
) -> Option<Http2Head> {
    let (mut path, mut authority) = (Vec::new(), Vec::new());
    forward::write_target(request, outgoing, &mut path);
    forward::write_host(request, forwarding, outgoing, &mut authority);
    let method = request.method.as_str();
    let line = method.len() + path.len() + "  HTTP/1.1\r\n".len();
    let host = "Host: \r\n".len() + authority.len();
    let mut map = HeaderMap::with_capacity(32);
    let mut sink = MapSink::new(&mut map);
    forward::request_fields(request, forwarding, outgoing, &mut sink);
    if request.takes_trailers {
        sink.field(b"te", b"trailers");
    }
    if let facts::Framing::Length(length) = outgoing.framing {
        sink.field(b"content-length", length.to_string().as_bytes());
    }
    if outgoing.asks_first(request) {
        sink.field(b"expect", b"100-continue");
    }
    let size = line + host + sink.size + "\r\n".len();
    let uri = uri(is_tls, authority, path)?;
    let request = with_line(method, uri, map)?;
    Some(Http2Head { request, size })
}

/// Makes a request that opens a WebSocket an extended CONNECT (RFC 8441 section 5).
pub(crate) fn connect(request: &mut http::Request<()>) {
    *request.method_mut() = http::Method::CONNECT;
    let protocol = Protocol::from_static("websocket");
    request.extensions_mut().insert(protocol);
    let fields = request.headers_mut();
    fields.remove(header::SEC_WEBSOCKET_KEY);
    // What follows is no content of the request.
    fields.remove(header::CONTENT_LENGTH);
}

/// The fields of a response to an extended CONNECT that opened a WebSocket, as HTTP/1 has them (RFC 8441
/// section 5). `accept` shows the client that its key was understood; empty says nothing.
///
/// # Errors
/// Says which rule a field breaks.
pub(crate) fn switched(
    map: &HeaderMap,
    accept: &str,
    limits: &Limits,
) -> Result<FieldLines, Refusal> {
    let mut lines = FieldLines::default();
    lines.push(b"upgrade", b"websocket", limits)?;
    if !accept.is_empty() {
        lines.push(b"sec-websocket-accept", accept.as_bytes(), limits)?;
    }
    for (name, value) in map {
        let is_own = [
            header::UPGRADE,
            header::SEC_WEBSOCKET_ACCEPT,
            header::CONTENT_LENGTH,
        ];
        if !is_own.contains(name) {
            lines.push(name.as_str().as_bytes(), value.as_bytes(), limits)?;
        }
    }
    Ok(lines)
}

fn uri(is_tls: bool, authority: Vec<u8>, path: Vec<u8>) -> Option<http::Uri> {
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(if is_tls { Scheme::HTTPS } else { Scheme::HTTP });
    uri.authority = Some(Authority::from_maybe_shared(Bytes::from(authority)).ok()?);
    uri.path_and_query = Some(PathAndQuery::from_maybe_shared(Bytes::from(path)).ok()?);
    http::Uri::from_parts(uri).ok()
}

fn with_line(method: &str, uri: http::Uri, map: HeaderMap) -> Option<http::Request<()>> {
    let mut request = http::Request::new(());
    *request.method_mut() = http::Method::from_bytes(method.as_bytes()).ok()?;
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_2;
    *request.headers_mut() = map;
    Some(request)
}

/// The head of a response, as a client of HTTP/2 gets it.
pub(crate) fn response(
    response: &Response<'_>,
    forwarding: &ResponseForwarding<'_>,
) -> http::Response<()> {
    let mut map = HeaderMap::with_capacity(16);
    forward::response_fields(response, forwarding, &mut MapSink::new(&mut map));
    let length = match forwarding.framing {
        // As it was declared: the end of the stream says where content ends.
        Framing::Length(_) => response.length,
        // What the content would be, for HEAD and 304 (RFC 9110 section 8.6).
        Framing::None if response.status >= 200 && response.status != 204 => response.length,
        Framing::None | Framing::Chunked | Framing::UntilClose => None,
    };
    if let Some(length) = length {
        map.insert(header::CONTENT_LENGTH, length.into());
    }
    with_status(response.status, map)
}

/// An interim response, as a client of HTTP/2 gets it.
pub(crate) fn interim(response: &Response<'_>) -> http::Response<()> {
    let mut map = HeaderMap::new();
    copy_fields(response.fields, &mut map);
    with_status(response.status, map)
}

/// The head of a response of the gateway's own.
pub(crate) fn own(own: &LocalReply) -> http::Response<()> {
    let mut map = HeaderMap::with_capacity(8);
    for field in own.reply().fields() {
        append(&mut map, field.name, field.value);
    }
    append(&mut map, b"date", own.date().as_bytes());
    with_status(own.status(), map)
}

/// The trailers of a message as lines, without those that may not come there.
///
/// # Errors
/// Says which rule one of them breaks.
pub(crate) fn trailer_lines(map: &HeaderMap) -> Result<Vec<u8>, Refusal> {
    let limits = Limits {
        head_bytes_max: chunked::TRAILERS_BYTES_MAX,
        ..Limits::default()
    };
    let mut lines = FieldLines::default();
    for (name, value) in map {
        let name = name.as_str().as_bytes();
        if chunked::is_trailer(name) {
            lines.push(name, value.as_bytes(), &limits)?;
        }
    }
    Ok(lines.fields().lines().to_vec())
}

/// The trailers of a message as a map; `None` where there are none.
pub(crate) fn trailer_map(lines: &[u8]) -> Option<HeaderMap> {
    if lines.is_empty() {
        return None;
    }
    let mut map = HeaderMap::new();
    for field in chunked::trailer_fields(lines) {
        append(&mut map, field.name, field.value);
    }
    Some(map)
}

fn copy_fields(fields: Fields<'_>, map: &mut HeaderMap) {
    for field in fields {
        let is_of_connection = matches!(
            Known::of(field.name),
            Some(
                Known::Connection
                    | Known::ContentLength
                    | Known::Te
                    | Known::TransferEncoding
                    | Known::Upgrade
                    | Known::KeepAlive
                    | Known::HopByHop
                    | Known::ForProxy
            )
        );
        if !is_of_connection {
            append(map, field.name, field.value);
        }
    }
}

fn with_status(status: u16, map: HeaderMap) -> http::Response<()> {
    let mut response = http::Response::new(());
    // A head that was read has a status from 100 to 599.
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY);
    *response.headers_mut() = map;
    response
}

/// Adds a field that was checked. A map takes every checked field, as long as it has room, which it
/// has for 32,768 of them.
fn append(map: &mut HeaderMap, name: &[u8], value: &[u8]) {
    if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
        let _ = map.try_append(name, value);
    }
}

/// What a field line has beside its name and its value: `: ` and CR LF.
const LINE_BYTES: usize = 4;

/// Writes fields into a map.
struct MapSink<'a> {
    map: &'a mut HeaderMap,
    name: Option<HeaderName>,
    value: Vec<u8>,
    /// Bytes of the fields so far, as lines.
    size: usize,
}

impl<'a> MapSink<'a> {
    fn new(map: &'a mut HeaderMap) -> Self {
        Self {
            map,
            name: None,
            value: Vec::new(),
            size: 0,
        }
    }
}

impl forward::Sink for MapSink<'_> {
    fn name(&mut self, name: &[u8]) {
        self.name = HeaderName::from_bytes(name).ok();
    }

    fn value(&mut self, part: &[u8]) {
        self.value.extend_from_slice(part);
    }

    fn end(&mut self) {
        let value = HeaderValue::from_bytes(&self.value);
        let size = self.value.len() + LINE_BYTES;
        self.value.clear();
        if let (Some(name), Ok(value)) = (self.name.take(), value) {
            self.size += name.as_str().len() + size;
            let _ = self.map.try_append(name, value);
        }
    }

    fn field(&mut self, name: &[u8], value: &[u8]) {
        self.size += name.len() + value.len() + LINE_BYTES;
        append(self.map, name, value);
    }
}
