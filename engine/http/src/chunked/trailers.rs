//! Trailers: fields behind the content (RFC 9110 section 6.5).

use super::TRAILERS_BYTES_MAX;
use crate::{field::Known, lines, refusal::Refusal};

/// Collects the lines of a trailer section, up to its empty line.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trailers {
    /// Lines that are whole, checked and kept; behind them the line that is not whole.
    lines: Vec<u8>,
    /// Where that line begins.
    line: usize,
    /// All bytes so far, kept or not.
    taken: usize,
}

impl Trailers {
    /// Takes bytes up to the end of the section. Gives how many, and whether it ended.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> Result<(usize, bool), Refusal> {
        let mut used = 0;
        while used < bytes.len() {
            let rest = &bytes[used..];
            let newline = memchr::memchr(b'\n', rest);
            let part = &rest[..newline.map_or(rest.len(), |at| at + 1)];
            self.taken += part.len();
            if self.taken > TRAILERS_BYTES_MAX {
                return Err(Refusal::TrailersTooLong);
            }
            self.lines.extend_from_slice(part);
            used += part.len();
            if newline.is_some() && self.end_line()? {
                return Ok((used, true));
            }
        }
        Ok((used, false))
    }

    /// The lines that are kept.
    pub(crate) fn lines(&self) -> &[u8] {
        &self.lines[..self.line]
    }

    /// Judges the line that became whole. True for the empty one, which ends the section.
    fn end_line(&mut self) -> Result<bool, Refusal> {
        let line = &self.lines[self.line..];
        let line = line.strip_suffix(b"\r\n").ok_or(Refusal::BareLf)?;
        if line.is_empty() {
            self.lines.truncate(self.line);
            return Ok(true);
        }
        lines::check(line)?;
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        if is_allowed(name) {
            self.line = self.lines.len();
        } else {
            self.lines.truncate(self.line);
        }
        Ok(false)
    }
}

/// Whether a field may come behind the content: none for framing, routing, conditions,
/// authentication, or the meaning of the content (RFC 9110 section 6.5.1).
pub(crate) fn is_allowed(name: &[u8]) -> bool {
    const FORBIDDEN: &[&str] = &[
        "age",
        "authorization",
        "cache-control",
        "cookie",
        "date",
        "expires",
        "location",
        "max-forwards",
        "pragma",
        "range",
        "retry-after",
        "set-cookie",
        "tracestate",
        "vary",
        "warning",
        "www-authenticate",
    ];
    let begins = |prefix: &str| {
        name.get(..prefix.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    Known::of(name).is_none()
        && !begins("content-")
        && !begins("if-")
        && !FORBIDDEN
            .iter()
            .any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}
