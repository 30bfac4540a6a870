//! What the gateway answers by itself: errors, redirects, 100 (Continue).
//!
//! An error is JSON, `{"error", "code", "request_id"}`, or a plain page where the client likes HTML
//! better, or what a network put in place of it. None of them is ever cached.

use crate::{
    date::HttpDate,
    field::Fields,
    forward::{Lines, Sink},
    method::{Method, Version},
    octet,
    request::Request,
    rules::{Denied, Redirect},
};

mod accept;

pub use crate::{
    code::Code,
    pages::{Page, PageError, Pages},
};
pub use accept::{Form, negotiate};

/// The interim response to a client that expects one (RFC 9110 section 10.1.1).
pub const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

impl From<Denied> for Code {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Address => Self::Forbidden,
            Denied::Unauthorized | Denied::BadCredentials => Self::Unauthorized,
        }
    }
}

/// An error as it is answered.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// Why.
    pub code: Code,
    /// Which of the gateway's own bodies.
    pub form: Form,
    /// The network's bodies.
    pub pages: Option<&'a Pages>,
    /// Written as `X-Request-Id` and in the body.
    pub request_id: &'a str,
    /// Seconds until another attempt makes sense; for 429 and 503.
    pub retry_after: Option<u64>,
    /// The challenge of 401, as [`crate::rules::Auth::challenge`] gives it.
    pub challenge: Option<&'a str>,
    /// The method was HEAD: the body is left out, not its length.
    pub head: bool,
}

/// How an answer ends, for HTTP/1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending {
    /// The version that the client speaks.
    pub version: Version,
    /// Whether the client may send another request on the connection.
    pub keep_alive: bool,
    /// Now: when the answer is made (RFC 9110 section 6.6.1).
    pub date: HttpDate,
}

impl Ending {
    fn write(self, out: &mut Vec<u8>) {
        Lines(out).field(b"Date", self.date.as_bytes());
        match (self.keep_alive, self.version) {
            (false, _) => out.extend_from_slice(b"Connection: close\r\n"),
            (true, Version::Http10) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
            (true, Version::Http11 | Version::Http2) => {}
        }
    }
}

impl<'a> Answer<'a> {
    /// An answer to a request that was read. The rest is set on what comes back.
    pub fn to(request: &Request<'_>, code: Code, request_id: &'a str) -> Self {
        Self {
            form: negotiate(request.fields),
            head: request.method == Method::Head,
            ..Self::to_unread(code, request_id)
        }
    }

    /// An answer to what was not understood.
    pub fn to_unread(code: Code, request_id: &'a str) -> Self {
        Self {
            code,
            form: Form::Json,
            pages: None,
            request_id,
            retry_after: None,
            challenge: None,
            head: false,
        }
    }

    /// Appends the whole answer as HTTP/1.1.
    pub fn write(&self, ending: Ending, out: &mut Vec<u8>) {
        let body = self.body();
        write_status_line(self.code.status(), self.code.reason(), out);
        self.fields(body.len(), &mut Lines(out));
        ending.write(out);
        out.extend_from_slice(b"\r\n");
        if !self.head {
            out.extend_from_slice(&body);
        }
    }

    /// Writes the fields, Content-Length of a body of so many bytes among them.
    pub fn fields(&self, body_len: usize, sink: &mut impl Sink) {
        sink.field(b"Content-Type", self.content_type().as_bytes());
        number(b"Content-Length", body_len as u64, sink);
        sink.field(b"Cache-Control", b"no-store");
        sink.field(b"X-Request-Id", self.request_id.as_bytes());
        if let Some(seconds) = self.retry_after {
            number(b"Retry-After", seconds, sink);
        }
        if let Some(challenge) = self.challenge {
            sink.field(b"WWW-Authenticate", challenge.as_bytes());
        }
    }

    /// The body, whether it is sent or not.
    pub fn body(&self) -> Vec<u8> {
        if let Some(page) = self.page() {
            return page.body.to_vec();
        }
        let Self {
            code, request_id, ..
        } = *self;
        let text = match self.form {
            Form::Json => json(code.message(), code, request_id),
            Form::Html => html(code, request_id),
        };
        text.into_bytes()
    }

    fn content_type(&self) -> &str {
        match (self.page(), self.form) {
            (Some(page), _) => &page.content_type,
            (None, Form::Json) => "application/json",
            (None, Form::Html) => "text/html; charset=utf-8",
        }
    }

    fn page(&self) -> Option<&'a Page> {
        self.pages?.pages.get(&self.code.status())
    }
}

fn html(code: Code, request_id: &str) -> String {
    let (status, reason) = (code.status(), code.reason());
    let shown: String = request_id
        .chars()
        .filter(|it| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.'))
        .collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <title>{status} {reason}</title></head>\n<body><h1>{status} {reason}</h1>\
         <p>{}.</p><p><small>{} {shown}</small></p></body></html>\n",
        code.message(),
        code.label(),
    )
}

/// Appends a redirect as HTTP/1.1, without body.
pub fn write_redirect(
    redirect: &Redirect,
    request: &Request<'_>,
    request_id: &str,
    ending: Ending,
    out: &mut Vec<u8>,
) {
    let status = redirect.status();
    write_status_line(status.code(), status.reason(), out);
    redirect_fields(redirect, request, request_id, &mut Lines(out));
    ending.write(out);
    out.extend_from_slice(b"\r\n");
}

/// Writes the fields of a redirect.
pub fn redirect_fields(
    redirect: &Redirect,
    request: &Request<'_>,
    request_id: &str,
    sink: &mut impl Sink,
) {
    let mut location = Vec::new();
    redirect.write_location(request, &mut location);
    sink.field(b"Location", &location);
    sink.field(b"Content-Length", b"0");
    sink.field(b"X-Request-Id", request_id.as_bytes());
}

/// Appends what an ACME directory looks for, as HTTP/1.1 (RFC 8555 section 8.3).
pub fn write_proof(
    proof: &str,
    is_head: bool,
    request_id: &str,
    ending: Ending,
    out: &mut Vec<u8>,
) {
    write_status_line(200, "OK", out);
    let mut lines = Lines(out);
    lines.field(b"Content-Type", b"application/octet-stream");
    number(b"Content-Length", proof.len() as u64, &mut lines);
    lines.field(b"Cache-Control", b"no-store");
    lines.field(b"X-Request-Id", request_id.as_bytes());
    ending.write(out);
    out.extend_from_slice(b"\r\n");
    if !is_head {
        out.extend_from_slice(proof.as_bytes());
    }
}

/// What a client is told that speaks HTTP where TLS is spoken.
const TLS_HINT: &str = "This port speaks TLS: use https:// in place of http://";

/// Appends the answer to HTTP where TLS is spoken, as HTTP/1.1.
pub fn write_tls_hint(request_id: &str, ending: Ending, out: &mut Vec<u8>) {
    let code = Code::BadRequest;
    let body = json(TLS_HINT, code, request_id);
    write_status_line(code.status(), code.reason(), out);
    Answer::to_unread(code, request_id).fields(body.len(), &mut Lines(out));
    ending.write(out);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body.as_bytes());
}

fn json(message: &str, code: Code, request_id: &str) -> String {
    format!(
        "{{\"error\":\"{message}\",\"code\":\"{}\",\"request_id\":{}}}\n",
        code.label(),
        serde_json::Value::from(request_id)
    )
}

fn write_status_line(status: u16, reason: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    octet::write_decimal(out, status.into());
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn number(name: &[u8], number: u64, sink: &mut impl Sink) {
    let mut digits = Vec::with_capacity(20);
    octet::write_decimal(&mut digits, number);
    sink.field(name, &digits);
}

/// Whether a request id that a trusted client sent is taken over: visible ASCII, as short as any
/// scheme of ids, and nothing that a log or a page would have to escape.
pub fn request_id<'a>(fields: Fields<'a>) -> Option<&'a str> {
    let id = fields.first("x-request-id")?;
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/+=@".contains(byte);
    let fits = (1..=128).contains(&id.len()) && id.iter().all(plain);
    std::str::from_utf8(id).ok().filter(|_| fits)
}

#[cfg(test)]
mod tests;
