//! A response of the gateway's own, in the form that both versions of HTTP are written from.

use super::Ending;
use crate::{
    field::Fields,
    forward::{Lines, Sink},
    octet,
};

/// A response that is whole.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    reason: &'static str,
    /// Its fields as lines, but for those that [`Ending`] has.
    lines: Vec<u8>,
    body: Vec<u8>,
    /// The body is left out, not its length.
    is_head: bool,
}

impl Reply {
    /// One with this body, which is left out in answer to HEAD (`is_head`).
    pub(super) fn new(status: u16, reason: &'static str, body: Vec<u8>, is_head: bool) -> Self {
        Self {
            status,
            reason,
            lines: Vec::with_capacity(256),
            body,
            is_head,
        }
    }

    /// Adds a field.
    pub(super) fn with(mut self, name: &[u8], value: &[u8]) -> Self {
        Lines(&mut self.lines).field(name, value);
        self
    }

    /// Adds a field that is a number.
    pub(super) fn with_number(mut self, name: &[u8], number: u64) -> Self {
        let mut digits = Vec::with_capacity(20);
        octet::write_decimal(&mut digits, number);
        Lines(&mut self.lines).field(name, &digits);
        self
    }

    /// Adds the length of the body.
    pub(super) fn with_length(self) -> Self {
        let length = self.body.len() as u64;
        self.with_number(b"Content-Length", length)
    }

    /// Its status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Its fields, but for Date and Connection.
    pub fn fields(&self) -> Fields<'_> {
        Fields::checked(&self.lines)
    }

    /// The body as it is sent: empty in answer to HEAD.
    pub fn body(&self) -> &[u8] {
        match self.is_head {
            true => &[],
            false => &self.body,
        }
    }

    /// Appends the whole of it as HTTP/1.1.
    pub fn write(&self, ending: Ending, out: &mut Vec<u8>) {
        out.extend_from_slice(b"HTTP/1.1 ");
        octet::write_decimal(out, self.status.into());
        out.push(b' ');
        out.extend_from_slice(self.reason.as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&self.lines);
        ending.write(out);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(self.body());
    }
}
