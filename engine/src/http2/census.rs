//! The frames that a client sends, counted as they come (RFC 9113 section 10.5).
//!
//! Frames that ask for work and carry nothing are paid for: with an allowance that grows with time,
//! and with what the gateway itself has sent, since windows are opened for that. Requests and their
//! content are free here: they have limits of their own. Nothing is decoded: of a frame, its nine
//! bytes of header are enough.

use std::time::Instant;

use engine_http::refusal::Refusal;

use super::PREFACE;

/// Bytes in front of each frame (RFC 9113 section 4.1).
const HEADER_BYTES: usize = 9;

/// For so many bytes that the gateway sends, a client may send one frame more: two updates of
/// windows for each full frame, and room to spare.
const SENT_BYTES_PER_FRAME: u64 = 4096;

/// What frames may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    /// Frames that may come at once.
    pub(super) burst: u32,
    /// Frames that may come each second.
    pub(super) per_second: u32,
}

/// The frames of one client.
#[derive(Debug)]
pub(super) struct Census {
    allowance: Allowance,
    /// What is left of it, in frames.
    left: u64,
    counted_at: Instant,
    /// Bytes sent that were not yet made frames of.
    sent: u64,
    header: [u8; HEADER_BYTES],
    /// Bytes of the header that have come.
    come: usize,
    /// Bytes up to the next header.
    skip: usize,
}

impl Census {
    /// Counts from the preface on.
    pub(super) fn new(allowance: Allowance, now: Instant) -> Self {
        Self {
            allowance,
            left: allowance.burst.into(),
            counted_at: now,
            sent: 0,
            header: [0; HEADER_BYTES],
            come: 0,
            skip: PREFACE.len(),
        }
    }

    /// The gateway sent so many bytes.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.sent = self.sent.saturating_add(bytes as u64);
    }

    /// Takes what came.
    ///
    /// # Errors
    /// When it is more than the client may send: the kind of the last frame that costs something.
    pub(super) fn take(&mut self, mut bytes: &[u8], now: Instant) -> Result<(), Refusal> {
        let (mut cost, mut last) = (0, None);
        while !bytes.is_empty() {
            if self.skip > 0 {
                let over = self.skip.min(bytes.len());
                self.skip -= over;
                bytes = &bytes[over..];
                continue;
            }
            let count = (HEADER_BYTES - self.come).min(bytes.len());
            self.header[self.come..self.come + count].copy_from_slice(&bytes[..count]);
            self.come += count;
            bytes = &bytes[count..];
            if self.come == HEADER_BYTES {
                self.come = 0;
                if let Some(kind) = self.end_header() {
                    cost += 1;
                    last = Some(kind);
                }
            }
        }
        match last {
            Some(kind) if !self.pay(cost, now) => Err(kind),
            _ => Ok(()),
        }
    }

    /// Takes a header; gives its frame's kind if it costs something.
    fn end_header(&mut self) -> Option<Refusal> {
        // RFC 9113 section 6.
        const DATA: u8 = 0;
        const HEADERS: u8 = 1;
        const RST_STREAM: u8 = 3;
        const SETTINGS: u8 = 4;
        const PING: u8 = 6;
        const WINDOW_UPDATE: u8 = 8;
        const CONTINUATION: u8 = 9;
        const END_STREAM: u8 = 1;
        let [high, middle, low, kind, flags, ..] = self.header;
        self.skip = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        match kind {
            DATA if self.skip > 0 || flags & END_STREAM != 0 => None,
            DATA => Some(Refusal::FloodOfData),
            HEADERS => None,
            RST_STREAM => Some(Refusal::FloodOfResets),
            SETTINGS => Some(Refusal::FloodOfSettings),
            PING => Some(Refusal::FloodOfPings),
            WINDOW_UPDATE => Some(Refusal::FloodOfWindows),
            CONTINUATION => Some(Refusal::FloodOfContinuations),
            _ => Some(Refusal::FloodOfOthers),
        }
    }

    fn pay(&mut self, cost: u64, now: Instant) -> bool {
        let Allowance { burst, per_second } = self.allowance;
        let waited = now.saturating_duration_since(self.counted_at);
        let earned = waited.as_millis() * u128::from(per_second) / 1000;
        if earned > 0 {
            self.counted_at = now;
            let earned = u64::try_from(earned).unwrap_or(u64::MAX);
            self.left = self.left.saturating_add(earned).min(burst.into());
        }
        // What was sent counts beyond the burst: its windows are opened later.
        self.left = self.left.saturating_add(self.sent / SENT_BYTES_PER_FRAME);
        self.sent %= SENT_BYTES_PER_FRAME;
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, size: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, size, kind, flags, 0, 0, 0, 1];
        frame.resize(HEADER_BYTES + usize::from(size), 0xff);
        frame
    }

    fn census(now: Instant) -> Census {
        let allowance = Allowance {
            burst: 10,
            per_second: 2,
        };
        let mut census = Census::new(allowance, now);
        assert_eq!(census.take(PREFACE, now), Ok(()));
        census
    }

    #[test]
    fn more_than_the_burst_is_too_much_and_time_makes_up_for_it() {
        let begin = Instant::now();
        let mut census = census(begin);
        let ping = frame(PING, 0, 8);
        let too_many = Err(Refusal::FloodOfPings);
        assert_eq!(census.take(&ping.repeat(10), begin), Ok(()));
        assert_eq!(census.take(&ping, begin), too_many);
        let second = begin + Duration::from_secs(1);
        assert_eq!(census.take(&ping.repeat(2), second), Ok(()));
        let soon = second + Duration::from_millis(100);
        assert_eq!(census.take(&ping, soon), too_many);
        let hour = begin + Duration::from_secs(3600);
        assert_eq!(census.take(&ping.repeat(11), hour), too_many);
    }

    #[test]
    fn it_does_not_matter_in_which_pieces_frames_come() {
        let begin = Instant::now();
        let bytes = [
            frame(PING, 0, 8),
            frame(0, 0, 200),
            frame(1, 4, 30),
            frame(3, 0, 4),
        ]
        .concat();
        for size in 1..bytes.len() {
            let mut census = census(begin);
            for piece in bytes.chunks(size) {
                assert_eq!(census.take(piece, begin), Ok(()));
            }
            assert_eq!(census.left, 8, "pieces of {size}");
        }
    }

    #[test]
    fn content_is_free_and_empty_content_is_not() {
        let begin = Instant::now();
        let mut census = census(begin);
        assert_eq!(census.take(&frame(0, 0, 1).repeat(1000), begin), Ok(()));
        assert_eq!(census.take(&frame(0, 1, 0).repeat(1000), begin), Ok(()));
        let empty = frame(0, 0, 0).repeat(11);
        assert_eq!(census.take(&empty, begin), Err(Refusal::FloodOfData));
    }

    #[test]
    fn what_was_sent_pays_for_the_windows_that_are_opened_for_it() {
        let begin = Instant::now();
        let mut census = census(begin);
        census.sent(100 * 4096);
        let update = frame(8, 0, 4);
        assert_eq!(census.take(&update.repeat(110), begin), Ok(()));
        assert_eq!(census.take(&update, begin), Err(Refusal::FloodOfWindows));
    }
}
