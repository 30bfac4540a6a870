//! Heads of responses: what an upstream answers, and where its content ends.
//!
//! What has one meaning is taken though it is badly written, because servers write it so and other
//! proxies take it: a length that is repeated (RFC 9110 section 8.6), a status line that ends in LF
//! alone (RFC 9112 section 2.2), a status from 600 to 999 (RFC 9110 section 15). It is written anew.

use std::{mem::MaybeUninit, ops::RangeInclusive};

use crate::{
    facts::{Connection, Facts},
    field::{Field, Fields},
    limits::{FIELDS_MAX, Limits},
    lines,
    method::{Method, Version},
    reading::Reading,
    refusal::Refusal,
    request::Request,
    scan::{Scan, Side},
};

/// What of the request decides how the response is read (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The method was HEAD: no content follows, whatever the fields say.
    pub head: bool,
    /// An upgrade was passed on: 101 is an answer to it.
    pub upgrade: bool,
}

impl Asked {
    /// What a request asks for.
    pub fn by(request: &Request<'_>) -> Self {
        Self {
            head: request.method == Method::Head,
            upgrade: request.upgrade.is_some(),
        }
    }
}

/// The statuses that are passed on. Those from 600 on have no class, and clients take them for errors
/// of the server (RFC 9110 section 15).
pub const STATUSES: RangeInclusive<u16> = 100..=999;

/// Where the content of a response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// Where the chunks end; in HTTP/2, where the stream ends.
    Chunked,
    /// With the connection.
    UntilClose,
}

/// The head of a response.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// One of [`STATUSES`].
    pub status: u16,
    /// The words behind it; may be empty.
    pub reason: &'a str,
    /// The version that the upstream speaks.
    pub version: Version,
    /// All fields.
    pub fields: Fields<'a>,
    /// Where the content ends.
    pub framing: Framing,
    /// The length that is declared, also where no content follows (HEAD, 304).
    pub length: Option<u64>,
    /// What Connection names.
    pub connection: Connection,
    /// Whether another request may be sent on the connection.
    pub keep_alive: bool,
    /// How long the upstream keeps the connection open until then, in seconds, where it says so.
    pub rests_for: Option<u32>,
    /// Bytes of the head: where the content begins.
    pub head_len: usize,
}

impl Response<'_> {
    /// Whether the connection goes on with another protocol.
    pub fn is_upgrade(&self) -> bool {
        self.status == 101
    }

    /// Whether another response follows to the same request (RFC 9110 section 15.2).
    pub fn is_interim(&self) -> bool {
        self.status < 200 && !self.is_upgrade()
    }
}

/// Reads one head off the front of `bytes`: all bytes since the message before, each time with
/// those of before in front. `scan` is made anew for each head.
pub fn read<'a>(
    bytes: &'a [u8],
    asked: Asked,
    limits: &Limits,
    scan: &mut Scan,
) -> Reading<Response<'a>> {
    Reading::of(scan.advance(bytes, Side::Response, limits), |_, end| {
        read_whole(&bytes[..end], asked)
    })
}

/// Reads a head that has its empty line, and no LF without CR but that of its status line.
fn read_whole<'a>(head: &'a [u8], asked: Asked) -> Result<Response<'a>, Refusal> {
    let line_len = memchr::memchr(b'\n', head).unwrap_or(0) + 1;
    let mut places = [const { MaybeUninit::<httparse::Header<'a>>::uninit() }; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut []);
    let status = httparse::ParserConfig::default().parse_response_with_uninit_headers(
        &mut parsed,
        head,
        &mut places,
    );
    let (Ok(httparse::Status::Complete(_)), Some(status), Some(minor)) =
        (status, parsed.code, parsed.version)
    else {
        return read_later_minor(head, line_len, asked)
            .unwrap_or_else(|| Err(refusal_of(head, line_len)));
    };
    // httparse skips empty lines in front; the line is the first one here, and one space follows
    // the version.
    if !(head.starts_with(b"HTTP/1.") && STATUSES.contains(&status)) {
        return Err(Refusal::StatusLine);
    }
    let facts = Facts::of(parsed.headers.iter().map(|header| Field {
        name: header.name.as_bytes(),
        value: header.value,
    }));
    let line = StatusLine {
        minor,
        status,
        reason: parsed.reason.unwrap_or_default(),
    };
    let lines = head.get(line_len..head.len() - 2).unwrap_or_default();
    judge_head(line, Fields::checked(lines), facts, (asked, head.len()))
}

/// Reads a head of HTTP/1.2 to HTTP/1.9 as what it is to whoever knows HTTP/1.1 alone (RFC 9110
/// section 6.2). httparse knows none of them. `None` is any other head.
#[cold]
fn read_later_minor<'a>(
    head: &'a [u8],
    line_len: usize,
    asked: Asked,
) -> Option<Result<Response<'a>, Refusal>> {
    let (line, lines) = head.split_at_checked(line_len)?;
    let line = StatusLine::read(line).filter(|line| line.minor > 1)?;
    if !STATUSES.contains(&line.status) {
        return None;
    }
    if let Some(refusal) = lines::first_refusal(lines) {
        return Some(Err(refusal));
    }
    let fields = Fields::checked(lines.strip_suffix(b"\r\n")?);
    let judged = judge_head(line, fields, Facts::of(fields), (asked, head.len()));
    Some(judged)
}

/// The parts of a status line of HTTP/1.x (RFC 9112 section 4).
struct StatusLine<'a> {
    /// x
    minor: u8,
    status: u16,
    /// Empty where it is none or has other characters than those of ASCII.
    reason: &'a str,
}

impl<'a> StatusLine<'a> {
    /// Reads a line with its end, which may be an LF alone.
    fn read(line: &'a [u8]) -> Option<Self> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let (minor, rest) = match line.strip_prefix(b"HTTP/1.")? {
            [minor @ b'0'..=b'9', b' ', rest @ ..] => (minor - b'0', rest),
            _ => return None,
        };
        let (digits, reason) = rest.split_at_checked(3)?;
        if !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let status = std::str::from_utf8(digits).ok()?.parse().ok()?;
        let reason = match reason {
            [] => reason,
            [b' ', words @ ..] if words.iter().copied().all(crate::octet::is_value) => words,
            _ => return None,
        };
        let reason = std::str::from_utf8(reason).ok();
        Some(Self {
            minor,
            status,
            reason: reason.filter(|it| it.is_ascii()).unwrap_or_default(),
        })
    }
}

/// Puts the parts of a head together, and judges them.
fn judge_head<'a>(
    line: StatusLine<'a>,
    fields: Fields<'a>,
    mut facts: Facts<'a>,
    (asked, head_len): (Asked, usize),
) -> Result<Response<'a>, Refusal> {
    facts.merge_lengths()?;
    let response = Response {
        status: line.status,
        reason: line.reason,
        version: match line.minor {
            0 => Version::Http10,
            _ => Version::Http11,
        },
        fields,
        framing: Framing::None,
        length: facts.length()?,
        connection: facts.connection()?,
        keep_alive: false,
        rests_for: facts.rests_for(),
        head_len,
    };
    judge(response, asked, &facts)
}

/// Decides where the content ends (RFC 9112 section 6.3), and whether the connection can go on.
pub(crate) fn judge<'a>(
    response: Response<'a>,
    asked: Asked,
    facts: &Facts<'_>,
) -> Result<Response<'a>, Refusal> {
    use crate::facts::Framing as Declared;

    if response.is_upgrade() && !asked.upgrade {
        return Err(Refusal::UnaskedUpgrade);
    }
    let declared = facts.framing(response.version > Version::Http10)?;
    let bare = response.status < 200 || response.status == 204;
    let framing = match declared {
        _ if bare || asked.head || response.status == 304 => Framing::None,
        Declared::None => Framing::UntilClose,
        Declared::Length(length) => Framing::Length(length),
        Declared::Chunked => Framing::Chunked,
    };
    // These never have content (RFC 9112 section 6.1); an upstream that announces some anyway may
    // send it, so the connection is not used again.
    let announces = !matches!(declared, Declared::None | Declared::Length(0));
    let modern = response.version > Version::Http10;
    let connection = response.connection;
    let keep_alive = !connection.close
        && (modern || connection.keep_alive)
        && framing != Framing::UntilClose
        && !(bare && announces);
    Ok(Response {
        framing,
        keep_alive,
        ..response
    })
}

/// Says why a head could not be read.
#[cold]
fn refusal_of(head: &[u8], line_len: usize) -> Refusal {
    let (line, fields) = head.split_at(line_len.min(head.len()));
    match StatusLine::read(line).filter(|line| STATUSES.contains(&line.status)) {
        Some(_) => lines::refusal_of_fields(fields),
        None => Refusal::StatusLine,
    }
}

#[cfg(test)]
mod tests;
