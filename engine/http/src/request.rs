//! Heads of requests: what a client asks for, and where its content ends.

use std::mem::MaybeUninit;

use crate::{
    facts::{Connection, Facts, Framing, Once},
    field::{Field, Fields},
    host::Host,
    limits::{FIELDS_MAX, Limits, METHOD_BYTES_MAX},
    lines,
    method::{Method, Version},
    octet,
    reading::Reading,
    refusal::Refusal,
    scan::{Scan, Side},
    target::{Form, Target},
};

/// Bytes of the version at the end of a request line, with the space before it and CR LF.
const LINE_TAIL_BYTES: usize = " HTTP/1.1\r\n".len();

/// The head of a request, in any version.
///
/// Whatever is ambiguous was refused: a value of this type can be routed and written out.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// What to do.
    pub method: Method<'a>,
    /// What to do it to.
    pub target: Target<'a>,
    /// The version that the client speaks. HTTP/1.2 and later are HTTP/1.1.
    pub version: Version,
    /// Whom it asks. Only HTTP/1.0 leaves it out.
    pub host: Option<Host<'a>>,
    /// All fields.
    pub fields: Fields<'a>,
    /// Where the content ends.
    pub framing: Framing,
    /// What Connection names.
    pub connection: Connection,
    /// Whether the client is ready for another request on the connection.
    pub keep_alive: bool,
    /// The protocol that the client wants to go on with.
    pub upgrade: Option<Upgrade<'a>>,
    /// The client waits for 100 (Continue) before it sends the content (RFC 9110 section 10.1.1).
    pub expects_continue: bool,
    /// The client takes trailers (RFC 9110 section 10.1.4).
    pub takes_trailers: bool,
    /// Bytes of the head, with what was skipped in front: where the content begins.
    pub head_len: usize,
}

/// A protocol to go on with (RFC 9110 section 7.8; RFC 8441 for HTTP/2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Upgrade<'a> {
    /// Its name, with the version if it has one.
    pub protocol: &'a str,
}

impl Upgrade<'_> {
    /// Whether it is the WebSocket protocol (RFC 6455).
    pub fn is_websocket(self) -> bool {
        self.protocol.eq_ignore_ascii_case("websocket")
    }
}

/// Reads one head off the front of `bytes`: all bytes since the message before, each time with
/// those of before in front. `scan` is made anew for each head.
pub fn read<'a>(bytes: &'a [u8], limits: &Limits, scan: &mut Scan) -> Reading<Request<'a>> {
    Reading::of(scan.advance(bytes, Side::Request, limits), |start, end| {
        read_whole(&bytes[start..end], limits).map(|request| Request {
            head_len: end,
            ..request
        })
    })
}

/// Reads a head that has its empty line, and no LF without CR.
fn read_whole<'a>(head: &'a [u8], limits: &Limits) -> Result<Request<'a>, Refusal> {
    let mut places = [const { MaybeUninit::<httparse::Header<'a>>::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Request::new(&mut []);
    let status = parsed.parse_with_uninit_headers(head, &mut places);
    let (Ok(httparse::Status::Complete(_)), Some(method), Some(target), Some(minor)) =
        (status, parsed.method, parsed.path, parsed.version)
    else {
        return read_later_minor(head, limits).unwrap_or_else(|| Err(refusal_of(head)));
    };
    // httparse skips empty lines, and could be told to skip spaces: only one way to write the line
    // has these lengths.
    let fields_at = method.len() + 1 + target.len() + LINE_TAIL_BYTES;
    let lines = head
        .get(fields_at..head.len().saturating_sub(2))
        .filter(|_| head[..fields_at].ends_with(b"\r\n") && head[method.len()] == b' ')
        .ok_or(Refusal::RequestLine)?;
    let facts = Facts::of(parsed.headers.iter().map(|header| Field {
        name: header.name.as_bytes(),
        value: header.value,
    }));
    let version = match minor {
        0 => Version::Http10,
        _ => Version::Http11,
    };
    judge_line(
        (method, target, version),
        Fields::checked(lines),
        &facts,
        limits,
    )
}

/// Reads a head of HTTP/1.2 to HTTP/1.9 as what it is to whoever knows HTTP/1.1 alone (RFC 9110
/// section 6.2). httparse knows none of them. `None` is any other head.
#[cold]
fn read_later_minor<'a>(head: &'a [u8], limits: &Limits) -> Option<Result<Request<'a>, Refusal>> {
    let line_len = memchr::memchr(b'\n', head)? + 1;
    let (line, lines) = head.split_at(line_len);
    let mut parts = line.strip_suffix(b"\r\n")?.split(|&byte| byte == b' ');
    let (method, target, version) = (parts.next()?, parts.next()?, parts.next()?);
    let is_later = matches!(
        version,
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'2'..=b'9']
    );
    let is_right = octet::is_token(method) && !target.is_empty();
    if !(is_later && is_right && target.iter().copied().all(octet::is_target))
        || parts.next().is_some()
    {
        return None;
    }
    let method = std::str::from_utf8(method).ok()?;
    let target = std::str::from_utf8(target).ok()?;
    let lines = lines.strip_suffix(b"\r\n")?;
    if let Some(refusal) = lines::first_refusal(lines) {
        return Some(Err(refusal));
    }
    let fields = Fields::checked(lines);
    let line = (method, target, Version::Http11);
    Some(judge_line(line, fields, &Facts::of(fields), limits))
}

/// Looks at the parts of a start line, and puts them together with the fields.
fn judge_line<'a>(
    (method, target, version): (&'a str, &'a str, Version),
    fields: Fields<'a>,
    facts: &Facts<'a>,
    limits: &Limits,
) -> Result<Request<'a>, Refusal> {
    if method.len() > METHOD_BYTES_MAX {
        return Err(Refusal::MethodTooLong);
    }
    if target.len() > limits.target_bytes_max {
        return Err(Refusal::TargetTooLong);
    }
    let method = Method::parse(method).ok_or(Refusal::Connect)?;
    let target = Target::parse(target, method).ok_or(Refusal::Target)?;
    judge(method, target, version, fields, facts)
}

/// Puts together what start line and fields of HTTP/1 say.
fn judge<'a>(
    method: Method<'a>,
    target: Target<'a>,
    version: Version,
    fields: Fields<'a>,
    facts: &Facts<'a>,
) -> Result<Request<'a>, Refusal> {
    let modern = version > Version::Http10;
    let host = match facts.host {
        Once::Never if modern => return Err(Refusal::NoHost),
        Once::Never => None,
        Once::One(raw) => Some(Host::parse(raw).ok_or(Refusal::Host)?),
        Once::Same(_) | Once::Several => return Err(Refusal::SeveralHosts),
    };
    let host = match (target.form, host) {
        (Form::Absolute { scheme, host }, Some(field)) if !field.is_same(host, scheme) => {
            return Err(Refusal::HostMismatch);
        }
        (Form::Absolute { host, .. }, None) => Some(host),
        (Form::Origin | Form::Asterisk | Form::Absolute { .. }, host) => host,
    };
    let framing = facts.framing(modern)?;
    let connection = facts.connection()?;
    let request = Request {
        method,
        target,
        version,
        host,
        fields,
        framing,
        connection,
        keep_alive: !connection.close && (modern || connection.keep_alive),
        upgrade: upgrade_of(facts, connection, framing).filter(|_| modern),
        expects_continue: modern && facts.expects_continue,
        takes_trailers: facts.te_trailers,
        head_len: 0,
    };
    check_meaning(&request, facts)?;
    Ok(request)
}

/// Refuses what is well written and still means nothing.
pub(crate) fn check_meaning(request: &Request<'_>, facts: &Facts<'_>) -> Result<(), Refusal> {
    let content = !matches!(request.framing, Framing::None | Framing::Length(0));
    if request.method == Method::Trace && content {
        return Err(Refusal::TraceContent);
    }
    if facts.expects_other && request.version > Version::Http10 {
        return Err(Refusal::Expectation);
    }
    Ok(())
}

/// The upgrade that is passed on. Ignoring one is always allowed (RFC 9110 section 7.8), and these
/// are ignored: lists, since the gateway could not say what was chosen; those of requests with
/// content; and HTTP/2 and TLS, with which a client would leave the rules behind.
fn upgrade_of<'a>(
    facts: &Facts<'a>,
    connection: Connection,
    framing: Framing,
) -> Option<Upgrade<'a>> {
    let (Once::One(value), true) = (facts.upgrade, connection.upgrade) else {
        return None;
    };
    let protocol = std::str::from_utf8(value).ok()?;
    let mut parts = protocol.splitn(2, '/');
    let tokens = parts.all(|part| octet::is_token(part.as_bytes()));
    let name = protocol.split('/').next().unwrap_or_default();
    let tunnels_http = ["h2c", "h2", "http", "tls"]
        .iter()
        .any(|other| name.eq_ignore_ascii_case(other));
    let content = !matches!(framing, Framing::None | Framing::Length(0));
    (tokens && !tunnels_http && !content).then_some(Upgrade { protocol })
}

/// Says why httparse did not take a head.
#[cold]
fn refusal_of(head: &[u8]) -> Refusal {
    let line_len = memchr::memchr(b'\n', head).unwrap_or(0);
    let (line, fields) = head.split_at((line_len + 1).min(head.len()));
    match check_line(line.strip_suffix(b"\r\n").unwrap_or(line)) {
        Ok(()) => lines::refusal_of_fields(fields),
        Err(refusal) => refusal,
    }
}

/// Checks a request line without its CR LF.
fn check_line(line: &[u8]) -> Result<(), Refusal> {
    if memchr::memchr(b'\r', line).is_some() {
        return Err(Refusal::BareCr);
    }
    let mut parts = line.split(|&byte| byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::RequestLine);
    };
    let known = matches!(version, b"HTTP/1.0" | b"HTTP/1.1");
    match version {
        _ if !octet::is_token(method) => Err(Refusal::RequestLine),
        _ if target.is_empty() || !target.iter().copied().all(octet::is_target) => {
            Err(Refusal::Target)
        }
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if !known && major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            Err(Refusal::Version)
        }
        _ if !known => Err(Refusal::RequestLine),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
