//! Where a head ends, found once however it arrives.

use crate::{limits::Limits, octet, refusal::Refusal};

/// How far a head has been looked through.
///
/// One is made for each head and given to every reading of it, each time with the bytes of before
/// in front: each byte is looked at once, so a head that arrives byte by byte costs time in
/// proportion to its length.
#[derive(Clone, Copy, Debug, Default)]
pub struct Scan {
    /// Where the start line begins.
    start: usize,
    /// Where the line begins that was not whole when last seen.
    line: usize,
    /// All bytes before were looked at.
    seen: usize,
    /// Lines that are whole.
    lines: usize,
}

/// What a scan came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The empty line is not there yet.
    NeedMore,
    /// The head lies between these two positions.
    Head { start: usize, end: usize },
    /// No head, whatever follows.
    Refused(Refusal),
}

/// Which kind of head is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Request,
    Response,
}

impl Scan {
    /// Goes on behind what was seen, up to the empty line.
    ///
    /// Checks go in the order of the bytes, which makes the result independent of how they were
    /// cut.
    pub(crate) fn advance(&mut self, bytes: &[u8], side: Side, limits: &Limits) -> Ended {
        let within = &bytes[..bytes.len().min(limits.head_bytes_max)];
        loop {
            let newline = memchr::memchr(b'\n', within.get(self.seen..).unwrap_or_default());
            let line_end = newline.map_or(within.len(), |at| self.seen + at);
            if let Err(refusal) = self.check_start(within, line_end, side, limits) {
                return Ended::Refused(refusal);
            }
            self.seen = line_end;
            if newline.is_none() {
                break;
            }
            match self.end_line(within, line_end, side, limits) {
                Ended::NeedMore => {}
                ended @ (Ended::Head { .. } | Ended::Refused(_)) => return ended,
            }
        }
        if within.len() == limits.head_bytes_max {
            return Ended::Refused(Refusal::HeadTooLong);
        }
        Ended::NeedMore
    }

    /// Refuses what cannot become a start line, before it is whole.
    fn check_start(
        &self,
        within: &[u8],
        line_end: usize,
        side: Side,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        if self.line != self.start {
            return Ok(());
        }
        let strange = |byte: &u8| !octet::is_tchar(*byte) && !matches!(byte, b'\r' | b'\n');
        match side {
            Side::Request if within.get(self.start).is_some_and(strange) => {
                Err(Refusal::RequestLine)
            }
            Side::Request if line_end.saturating_sub(self.start) > limits.line_bytes_max() + 1 => {
                Err(Refusal::TargetTooLong)
            }
            Side::Response if within.first().is_some_and(strange) => Err(Refusal::StatusLine),
            Side::Request | Side::Response => Ok(()),
        }
    }

    /// Takes the line whose LF is at `newline`. On the head's end nothing changes, so that a
    /// further call finds the same.
    fn end_line(&mut self, within: &[u8], newline: usize, side: Side, limits: &Limits) -> Ended {
        let line = &within[self.line..newline];
        match line {
            [b'\r'] if self.line > self.start => {
                return Ended::Head {
                    start: self.start,
                    end: newline + 1,
                };
            }
            // The one empty line that is tolerated (RFC 9112 section 2.2).
            [b'\r'] if self.start == 0 && side == Side::Request => self.start = newline + 1,
            [b'\r'] => return Ended::Refused(Refusal::EmptyLine),
            [.., b'\r'] => self.lines += 1,
            // A status line may end in LF alone.
            [_, ..] if side == Side::Response && self.line == self.start => self.lines += 1,
            _ => return Ended::Refused(Refusal::BareLf),
        }
        if self.lines > limits.fields_bound() + 1 {
            return Ended::Refused(Refusal::TooManyFields);
        }
        self.line = newline + 1;
        self.seen = newline + 1;
        Ended::NeedMore
    }
}
