//! Heads of HTTP/2, which arrive decoded: the same values, by the same rules.
//!
//! Fields are written out once as lines ([`FieldLines`]), checked as they are; from there on a
//! request of HTTP/2 is no other than one of HTTP/1 (RFC 9113 section 8).

use crate::{
    facts::{Connection, Facts, Framing, Once},
    field::Fields,
    host::Host,
    limits::Limits,
    method::{Method, Version},
    octet,
    refusal::Refusal,
    request::{self, Request, Upgrade},
    response::{self, Asked, Response, STATUSES},
    target::{Form, Target},
};

/// Decoded fields, as checked lines. One is kept for each connection and used again.
#[derive(Clone, Debug, Default)]
pub struct FieldLines {
    lines: Vec<u8>,
    count: usize,
}

impl FieldLines {
    /// Forgets all fields and keeps the memory.
    pub fn clear(&mut self) {
        self.lines.clear();
        self.count = 0;
    }

    /// Adds a field that is no pseudo-header field.
    ///
    /// # Errors
    /// Says which rule it breaks (RFC 9113 section 8.2.1).
    pub fn push(&mut self, name: &[u8], value: &[u8], limits: &Limits) -> Result<(), Refusal> {
        if !octet::is_token(name) || name.iter().any(u8::is_ascii_uppercase) {
            return Err(Refusal::Name);
        }
        let ends = octet::trim(value).len() != value.len();
        if ends || !value.iter().copied().all(octet::is_value) {
            return Err(Refusal::Control);
        }
        if self.count >= limits.fields_bound() {
            return Err(Refusal::TooManyFields);
        }
        if self.lines.len() + name.len() + value.len() + 4 > limits.head_bytes_max {
            return Err(Refusal::HeadTooLong);
        }
        self.count += 1;
        for part in [name, b": ", value, b"\r\n"] {
            self.lines.extend_from_slice(part);
        }
        Ok(())
    }

    /// The fields so far.
    pub fn fields(&self) -> Fields<'_> {
        Fields::checked(&self.lines)
    }
}

/// The head of a request as HTTP/2 gives it.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'a> {
    /// `:method`
    pub method: &'a str,
    /// `:authority`
    pub authority: Option<&'a str>,
    /// `:path`
    pub path: &'a str,
    /// `:protocol` of an extended CONNECT (RFC 8441 section 4).
    pub protocol: Option<&'a str>,
    /// All others.
    pub fields: Fields<'a>,
    /// The stream ends with the head.
    pub is_end: bool,
}

/// Reads the head of a request.
///
/// An extended CONNECT becomes what it is in HTTP/1: a GET with an upgrade.
///
/// # Errors
/// Says which rule the head breaks. The stream ends with it, the connection goes on.
pub fn request<'a>(head: &RequestHead<'a>, limits: &Limits) -> Result<Request<'a>, Refusal> {
    if head.path.len() > limits.target_bytes_max {
        return Err(Refusal::TargetTooLong);
    }
    let facts = Facts::of(head.fields);
    if facts.of_connection {
        return Err(Refusal::ConnectionField);
    }
    let upgrade = match (head.method, head.protocol) {
        ("CONNECT", Some(protocol)) if octet::is_token(protocol.as_bytes()) => {
            Some(Upgrade { protocol })
        }
        ("CONNECT", _) => return Err(Refusal::Connect),
        (_, Some(_)) => return Err(Refusal::RequestLine),
        (_, None) => None,
    };
    let method = match upgrade {
        Some(_) => Method::Get,
        None => Method::parse(head.method).ok_or(Refusal::RequestLine)?,
    };
    let target = Target::parse(head.path, method)
        .filter(|target| matches!(target.form, Form::Origin | Form::Asterisk))
        .ok_or(Refusal::Target)?;
    let framing = match (upgrade, head.is_end) {
        (Some(_), _) => Framing::None,
        (None, is_end) => framing(&facts, is_end)?,
    };
    let request = Request {
        method,
        target,
        version: Version::Http2,
        host: Some(host(head.authority, &facts)?),
        fields: head.fields,
        framing,
        connection: Connection::default(),
        keep_alive: true,
        upgrade,
        expects_continue: facts.expects_continue,
        takes_trailers: facts.te_trailers,
        head_len: 0,
    };
    request::check_meaning(&request, &facts)?;
    Ok(request)
}

/// Reads the head of a response. `is_end` says that the stream ends with it.
///
/// # Errors
/// Says which rule the head breaks.
pub fn response<'a>(
    status: u16,
    fields: Fields<'a>,
    asked: Asked,
    is_end: bool,
) -> Result<Response<'a>, Refusal> {
    if !STATUSES.contains(&status) {
        return Err(Refusal::StatusLine);
    }
    // HTTP/2 has no such status (RFC 9113 section 8.6).
    if status == 101 {
        return Err(Refusal::UnaskedUpgrade);
    }
    let mut facts = Facts::of(fields);
    if facts.of_connection {
        return Err(Refusal::ConnectionField);
    }
    facts.merge_lengths()?;
    let length = facts.length()?;
    let bare = asked.head || status < 200 || status == 204 || status == 304;
    let framing = match (bare, is_end, length) {
        (true, ..) => response::Framing::None,
        // Content that is empty is content: in HTTP/1 that has to be said (RFC 9112 section 6.3).
        (false, true, None | Some(0)) => response::Framing::Length(0),
        (false, true, Some(_)) => return Err(Refusal::Length),
        (false, false, Some(length)) => response::Framing::Length(length),
        (false, false, None) => response::Framing::Chunked,
    };
    Ok(Response {
        status,
        reason: "",
        version: Version::Http2,
        fields,
        framing,
        length,
        connection: Connection::default(),
        keep_alive: true,
        rests_for: None,
        head_len: 0,
    })
}

/// What success says to an extended CONNECT, as HTTP/1 says it: the connection goes on with the protocol
/// that `fields` name in Upgrade (RFC 8441 section 5).
pub fn switched(fields: Fields<'_>) -> Response<'_> {
    Response {
        status: 101,
        reason: "Switching Protocols",
        version: Version::Http2,
        fields,
        framing: response::Framing::None,
        length: None,
        connection: Connection::default(),
        keep_alive: false,
        rests_for: None,
        head_len: 0,
    }
}

/// Where the content ends. A length must be right: what is passed on says it again.
fn framing(facts: &Facts<'_>, is_end: bool) -> Result<Framing, Refusal> {
    match (facts.length()?, is_end) {
        (None, true) => Ok(Framing::None),
        (Some(0), true) => Ok(Framing::Length(0)),
        (Some(_), true) => Err(Refusal::Length),
        (Some(length), false) => Ok(Framing::Length(length)),
        (None, false) => Ok(Framing::Chunked),
    }
}

/// The host: `:authority`, or else Host, and where both are given they agree (RFC 9113 section
/// 8.3.1).
fn host<'a>(authority: Option<&'a str>, facts: &Facts<'a>) -> Result<Host<'a>, Refusal> {
    let parse = |raw: &'a [u8]| Host::parse(raw).ok_or(Refusal::Host);
    let authority = match authority {
        Some(authority) => Some(parse(authority.as_bytes())?),
        None => None,
    };
    let field = match facts.host {
        Once::Never => None,
        Once::One(raw) => Some(parse(raw)?),
        Once::Same(_) | Once::Several => return Err(Refusal::SeveralHosts),
    };
    match (authority, field) {
        (Some(authority), Some(field)) => {
            let same = field.text().eq_ignore_ascii_case(authority.text())
                && field.port() == authority.port();
            same.then_some(authority).ok_or(Refusal::HostMismatch)
        }
        (authority, field) => authority.or(field).ok_or(Refusal::NoHost),
    }
}

#[cfg(test)]
mod tests;
