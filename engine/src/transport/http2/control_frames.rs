//! The frames that the other side sends, counted as they come (RFC 9113 section 10.5).
//!
//! Frames that ask for work and carry nothing are paid for: by the frames of the gateway that they
//! answer, and else with an allowance that grows with time. Each kind is paid by what it answers
//! alone: credit for what costs little is worth nothing for what costs much. What a peer sends for a
//! frame of content is no more than it has to: updates of two windows, and what it measures the path
//! with. Requests, responses and their content are free here: they have limits of their own. Nothing is
//! decoded: of a frame, its nine bytes of header are enough.

use std::time::Instant;

use engine_http::refusal::Refusal;

use crate::{context::http2_limits::Http2Limits, transport::http2::PREFACE};

/// Bytes in front of each frame (RFC 9113 section 4.1).
const HEADER_BYTES: usize = 9;

/// For a frame of content, the other side may send so many: an update of the stream's window and of
/// the connection's, a PING to measure the path with, and one to spare.
const ANSWERS_TO_CONTENT: u64 = 4;

/// For each part of this size of a larger one, it may send one.
const CONTENT_PER_ANSWER: usize = 4096;

/// Most answers to content that the other side may be behind with: those to as much content in small
/// frames as fits into the windows of clients.
const ANSWERS_MAX: u64 = 1 << 18;

/// Most answers to anything else that it may be behind with.
const OTHER_ANSWERS_MAX: u64 = 1 << 10;

/// Kinds of frames (RFC 9113 section 6).
pub(crate) mod kind {
    pub(crate) const DATA: u8 = 0;
    pub(crate) const HEADERS: u8 = 1;
    pub(crate) const RST_STREAM: u8 = 3;
    pub(crate) const SETTINGS: u8 = 4;
    pub(crate) const PING: u8 = 6;
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    pub(crate) const CONTINUATION: u8 = 9;
    /// The flag END_STREAM of DATA and HEADERS.
    pub(crate) const END_STREAM: u8 = 1;
    /// The flag ACK of SETTINGS and PING.
    pub(crate) const ACK: u8 = 1;
}

/// What frames may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// Frames that may come at once.
    pub(crate) burst: u32,
    /// Frames that may come each second.
    pub(crate) per_second: u32,
}

impl Allowance {
    /// What the limits say.
    pub(crate) fn of(limits: &Http2Limits) -> Self {
        Self {
            burst: limits.control_frames_burst,
            per_second: limits.control_frames_per_second,
        }
    }
}

/// Whose frames are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Upstream,
}

/// What the control frames of one connection may still cost.
#[derive(Debug)]
pub(crate) struct ControlFrames {
    allowance: Allowance,
    /// What is left of it, in frames.
    left: u64,
    counted_at: Instant,
    credit: Credit,
    came: Walk,
    sent: Walk,
}

/// Frames that the other side may send in answer to those that it was sent.
#[derive(Debug, Default)]
struct Credit {
    /// Updates of windows, and pings.
    content: u64,
    /// What comes once with a request or a response: its end, its rank, more of its head.
    heads: u64,
    /// Acknowledgements.
    settings: u64,
    pings: u64,
}

/// A walk over frames, in whichever pieces they come.
#[derive(Debug)]
struct Walk {
    header: [u8; HEADER_BYTES],
    /// Bytes of the header that were seen.
    seen: usize,
    /// Bytes up to the next header.
    skip: usize,
}

/// What is looked at of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) size: usize,
    pub(crate) stream: u32,
}

impl ControlFrames {
    /// Counts the frames of one side from the first byte on.
    pub(crate) fn new(side: Side, allowance: Allowance, now: Instant) -> Self {
        let (came, sent) = match side {
            Side::Client => (PREFACE.len(), 0),
            Side::Upstream => (0, PREFACE.len()),
        };
        Self {
            allowance,
            left: allowance.burst.into(),
            counted_at: now,
            credit: Credit::default(),
            came: Walk::behind(came),
            sent: Walk::behind(sent),
        }
    }

    /// Takes what the gateway sends, and gives each of its frames.
    pub(crate) fn sent(&mut self, mut bytes: &[u8], mut each: impl FnMut(Frame)) {
        while let Some(frame) = self.sent.next(&mut bytes) {
            each(frame);
            self.credit.earn(frame);
        }
    }

    /// Takes what came, and gives each frame of it.
    ///
    /// # Errors
    /// When it is more than the other side may send: the kind of the last frame that costs something.
    pub(crate) fn take(
        &mut self,
        mut bytes: &[u8],
        now: Instant,
        mut each: impl FnMut(Frame),
    ) -> Result<(), Refusal> {
        let (mut cost, mut last) = (0, None);
        while let Some(frame) = self.came.next(&mut bytes) {
            each(frame);
            if let Some(kind) = frame.cost()
                && !self.credit.pay(frame)
            {
                cost += 1;
                last = Some(kind);
            }
        }
        match last {
            Some(kind) if !self.pay(cost, now) => Err(kind),
            _ => Ok(()),
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
        match self.left.checked_sub(cost) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }
}

impl Credit {
    /// Takes a frame that the other side may answer.
    fn earn(&mut self, frame: Frame) {
        let (mut content, mut heads, mut settings, mut pings) = (0, 0, 0, 0);
        match frame.kind {
            kind::DATA if frame.size > 0 => {
                content = ANSWERS_TO_CONTENT.max((frame.size / CONTENT_PER_ANSWER) as u64);
            }
            // Some make a stream's window larger as soon as it begins.
            kind::HEADERS => (heads, content) = (1, 1),
            kind::SETTINGS if !frame.is_ack() => settings = 1,
            kind::PING if !frame.is_ack() => pings = 1,
            _ => {}
        }
        for (credit, earned, most) in [
            (&mut self.content, content, ANSWERS_MAX),
            (&mut self.heads, heads, OTHER_ANSWERS_MAX),
            (&mut self.settings, settings, OTHER_ANSWERS_MAX),
            (&mut self.pings, pings, OTHER_ANSWERS_MAX),
        ] {
            *credit = (*credit + earned).min(most);
        }
    }

    /// Pays for a frame. False when nothing was earned for its kind.
    fn pay(&mut self, frame: Frame) -> bool {
        let credit = match frame.kind {
            kind::WINDOW_UPDATE => &mut self.content,
            kind::PING if frame.is_ack() => &mut self.pings,
            kind::PING => &mut self.content,
            kind::SETTINGS if frame.is_ack() => &mut self.settings,
            kind::DATA | kind::SETTINGS => return false,
            _ => &mut self.heads,
        };
        let is_paid = *credit > 0;
        *credit -= u64::from(is_paid);
        is_paid
    }
}

impl Walk {
    fn behind(skip: usize) -> Self {
        Self {
            header: [0; HEADER_BYTES],
            seen: 0,
            skip,
        }
    }

    /// The next frame whose header ends in these bytes, which begin behind it then.
    fn next(&mut self, bytes: &mut &[u8]) -> Option<Frame> {
        while !bytes.is_empty() {
            let over = self.skip.min(bytes.len());
            self.skip -= over;
            *bytes = &bytes[over..];
            let count = (HEADER_BYTES - self.seen).min(bytes.len());
            self.header[self.seen..self.seen + count].copy_from_slice(&bytes[..count]);
            self.seen += count;
            *bytes = &bytes[count..];
            if self.seen == HEADER_BYTES {
                let [high, middle, low, kind, flags, stream @ ..] = self.header;
                let size = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
                (self.seen, self.skip) = (0, size);
                return Some(Frame {
                    kind,
                    flags,
                    size,
                    // The highest bit is reserved.
                    stream: u32::from_be_bytes(stream) & (u32::MAX >> 1),
                });
            }
        }
        None
    }
}

impl Frame {
    /// Whether it is a SETTINGS or PING that answers one.
    fn is_ack(self) -> bool {
        self.flags & kind::ACK != 0
    }

    /// Its kind, where it asks for work and carries nothing.
    fn cost(self) -> Option<Refusal> {
        match self.kind {
            kind::DATA if self.size > 0 || self.flags & kind::END_STREAM != 0 => None,
            kind::DATA => Some(Refusal::FloodOfData),
            kind::HEADERS => None,
            kind::RST_STREAM => Some(Refusal::FloodOfResets),
            kind::SETTINGS => Some(Refusal::FloodOfSettings),
            kind::PING => Some(Refusal::FloodOfPings),
            kind::WINDOW_UPDATE => Some(Refusal::FloodOfWindows),
            kind::CONTINUATION => Some(Refusal::FloodOfContinuations),
            _ => Some(Refusal::FloodOfOthers),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn frame(kind: u8, flags: u8, size: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, size, kind, flags, 0, 0, 0, 1];
        frame.resize(HEADER_BYTES + usize::from(size), 0xff);
        frame
    }

    fn control_frames(now: Instant) -> ControlFrames {
        let allowance = Allowance {
            burst: 10,
            per_second: 2,
        };
        let mut control_frames = ControlFrames::new(Side::Client, allowance, now);
        assert_eq!(control_frames.take(PREFACE, now, |_| {}), Ok(()));
        control_frames
    }

    #[test]
    fn more_than_the_burst_is_too_much_and_time_makes_up_for_it() {
        let begin = Instant::now();
        let mut control_frames = control_frames(begin);
        let ping = frame(kind::PING, 0, 8);
        let too_many = Err(Refusal::FloodOfPings);
        assert_eq!(control_frames.take(&ping.repeat(10), begin, |_| {}), Ok(()));
        assert_eq!(control_frames.take(&ping, begin, |_| {}), too_many);
        let second = begin + Duration::from_secs(1);
        assert_eq!(control_frames.take(&ping.repeat(2), second, |_| {}), Ok(()));
        let soon = second + Duration::from_millis(100);
        assert_eq!(control_frames.take(&ping, soon, |_| {}), too_many);
        let hour = begin + Duration::from_secs(3600);
        assert_eq!(
            control_frames.take(&ping.repeat(11), hour, |_| {}),
            too_many
        );
    }

    #[test]
    fn it_does_not_matter_in_which_pieces_frames_come() {
        let begin = Instant::now();
        let bytes = [
            frame(kind::PING, 0, 8),
            frame(0, 0, 200),
            frame(1, 4, 30),
            frame(3, 0, 4),
        ]
        .concat();
        for size in 1..bytes.len() {
            let mut control_frames = control_frames(begin);
            for piece in bytes.chunks(size) {
                assert_eq!(control_frames.take(piece, begin, |_| {}), Ok(()));
            }
            assert_eq!(control_frames.left, 8, "pieces of {size}");
        }
    }

    #[test]
    fn content_is_free_and_empty_content_is_not() {
        let begin = Instant::now();
        let mut control_frames = control_frames(begin);
        assert_eq!(
            control_frames.take(&frame(0, 0, 1).repeat(1000), begin, |_| {}),
            Ok(())
        );
        assert_eq!(
            control_frames.take(&frame(0, 1, 0).repeat(1000), begin, |_| {}),
            Ok(())
        );
        let empty = frame(0, 0, 0).repeat(11);
        assert_eq!(
            control_frames.take(&empty, begin, |_| {}),
            Err(Refusal::FloodOfData)
        );
    }

    #[test]
    fn what_was_sent_pays_for_what_answers_it() {
        let begin = Instant::now();
        let (data, heads) = (
            frame(kind::DATA, 0, 16).repeat(100),
            frame(kind::HEADERS, 4, 16).repeat(100),
        );
        let (update, ping) = (frame(kind::WINDOW_UPDATE, 0, 4), frame(kind::PING, 0, 8));
        let reset = frame(kind::RST_STREAM, 0, 4);
        let settings = frame(kind::SETTINGS, 0, 0);
        let [ping_ack, settings_ack] =
            [(kind::PING, 8), (kind::SETTINGS, 0)].map(|(kind, size)| frame(kind, kind::ACK, size));
        for (sent, answer, answers) in [
            (&data, &update, 400),
            (&data, &ping, 400),
            (&data, &reset, 0),
            (&data, &settings, 0),
            (&data, &ping_ack, 0),
            (&data, &frame(kind::CONTINUATION, 0, 4), 0),
            (&data, &frame(kind::DATA, 0, 0), 0),
            (&heads, &reset, 100),
            (&heads, &update, 100),
            (&heads.repeat(20), &reset, 1024),
            (&ping, &ping_ack, 1),
            (&ping, &ping, 0),
            (&ping_ack, &ping, 0),
            (&settings, &settings_ack, 1),
            (&settings_ack, &settings, 0),
            (&frame(kind::DATA, 1, 0), &update, 0),
        ] {
            for size in [1, 7, sent.len()] {
                let mut control_frames = control_frames(begin);
                for piece in sent.chunks(size) {
                    control_frames.sent(piece, |_| {});
                }
                assert_eq!(
                    control_frames.take(&answer.repeat(answers + 10), begin, |_| {}),
                    Ok(())
                );
                assert!(
                    control_frames.take(answer, begin, |_| {}).is_err(),
                    "{answer:?}"
                );
            }
        }
    }

    #[test]
    fn a_large_frame_pays_for_each_of_its_parts() {
        let begin = Instant::now();
        let mut control_frames = control_frames(begin);
        control_frames.sent(&[1, 0, 0, kind::DATA, 0, 0, 0, 0, 1], |_| {});
        control_frames.sent(&[0; 1 << 16], |_| {});
        let update = frame(kind::WINDOW_UPDATE, 0, 4);
        assert_eq!(
            control_frames.take(&update.repeat(16 + 10), begin, |_| {}),
            Ok(())
        );
        assert_eq!(
            control_frames.take(&update, begin, |_| {}),
            Err(Refusal::FloodOfWindows)
        );
    }

    #[test]
    fn an_upstream_is_counted_from_its_first_byte_on() {
        let now = Instant::now();
        let allowance = Allowance {
            burst: 1,
            per_second: 0,
        };
        let mut control_frames = ControlFrames::new(Side::Upstream, allowance, now);
        control_frames.sent(PREFACE, |_| {});
        control_frames.sent(&frame(kind::SETTINGS, 0, 6), |_| {});
        let settings = [frame(kind::SETTINGS, 0, 0), frame(kind::SETTINGS, 1, 0)].concat();
        assert_eq!(control_frames.take(&settings, now, |_| {}), Ok(()));
        let ping = frame(kind::PING, 0, 8);
        assert_eq!(
            control_frames.take(&ping, now, |_| {}),
            Err(Refusal::FloodOfPings)
        );
    }
}
