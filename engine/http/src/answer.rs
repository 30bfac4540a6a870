//! What the gateway answers by itself: errors, redirects, 100 (Continue).
//!
//! An error is JSON, `{"error", "code", "request_id"}`, or a plain page where the client likes HTML
//! better, or what a network put in place of it. None of them is ever cached.

use crate::{
    date::HttpDate,
    field::Fields,
    forward::{Lines, Sink},
    method::{Method, Version},
    request::Request,
    rules::{Denied, Redirect},
};

mod accept;
mod reply;

pub use crate::{
    code::Code,
    pages::{Page, PageError, Pages},
};
pub use accept::{Form, negotiate};
pub use reply::Reply;

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

    /// The whole response.
    pub fn reply(&self) -> Reply {
        self.with_body(self.body())
    }

    fn with_body(&self, body: Vec<u8>) -> Reply {
        let reply = Reply::new(self.code.status(), self.code.reason(), body, self.head)
            .with(b"Content-Type", self.content_type().as_bytes())
            .with_length()
            .with(b"Cache-Control", b"no-store")
            .with(b"X-Request-Id", self.request_id.as_bytes());
        let reply = match self.retry_after {
            Some(seconds) => reply.with_number(b"Retry-After", seconds),
            None => reply,
        };
        match self.challenge {
            Some(challenge) => reply.with(b"WWW-Authenticate", challenge.as_bytes()),
            None => reply,
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

/// A redirect, without body.
pub fn redirect(redirect: &Redirect, request: &Request<'_>, request_id: &str) -> Reply {
    let status = redirect.status();
    let mut location = Vec::new();
    redirect.write_location(request, &mut location);
    Reply::new(status.code(), status.reason(), Vec::new(), false)
        .with(b"Location", &location)
        .with_length()
        .with(b"X-Request-Id", request_id.as_bytes())
}

/// What an ACME directory looks for (RFC 8555 section 8.3).
pub fn proof(proof: &str, is_head: bool, request_id: &str) -> Reply {
    Reply::new(200, "OK", proof.as_bytes().to_vec(), is_head)
        .with(b"Content-Type", b"application/octet-stream")
        .with_length()
        .with(b"Cache-Control", b"no-store")
        .with(b"X-Request-Id", request_id.as_bytes())
}

/// What a client is told that speaks HTTP where TLS is spoken.
const TLS_HINT: &str = "This port speaks TLS: use https:// in place of http://";

/// The answer to HTTP where TLS is spoken.
pub fn tls_hint(request_id: &str) -> Reply {
    let code = Code::BadRequest;
    let body = json(TLS_HINT, code, request_id);
    Answer::to_unread(code, request_id).with_body(body.into_bytes())
}

fn json(message: &str, code: Code, request_id: &str) -> String {
    format!(
        "{{\"error\":\"{message}\",\"code\":\"{}\",\"request_id\":{}}}\n",
        code.label(),
        serde_json::Value::from(request_id)
    )
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
