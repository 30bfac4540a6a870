//! Notices clients that leave while their response is awaited, or rests.
//!
//! A reset says so by itself. The end of a client's stream does not: it may have left, or it has only
//! sent all that it will (RFC 9112 section 9.6), and TCP says the same for both. What tells them apart
//! is how they take what is sent to them, because one that left answers with a reset. So a client that
//! has ended its stream is asked, when nothing else is sent to it for a while, by what means nothing:
//! before a response by `100 (Continue)`, which a client that expects none discards (RFC 9110 section
//! 15.2.1; HTTP/1.0 has none); between two chunks by a leading zero of the next one's size (RFC 9112 section 7.1). In the
//! middle of other content that rests nothing may be sent: there the end counts as leaving.

use std::{
    cell::Cell,
    io,
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use engine_http::{answer::CONTINUE, method::Version};
use engine_sys::socket;

use crate::{
    context::{FlowContext, listener::HalfClose, record::Flow},
    rt,
    transport::{read_ahead::ReadAhead, streams::ClientFlow},
};

/// How long a client that has ended its stream waits for something before it is asked. With the time
/// that its answer takes, it is noticed within two seconds that it has left.
const ASKED_AFTER: Duration = Duration::from_millis(1400);

/// How long its answer takes, for nearly all clients.
const ANSWERED_AFTER: Duration = Duration::from_millis(300);

/// How often it is looked, after that, whether the client has reset the connection.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Most bytes of a client's next requests that are taken off its socket while it waits for a response.
/// Those behind hide the end of its stream from a reader.
const AHEAD_BYTES_MAX: usize = 16 << 10;

/// What may be sent to a client that only means that somebody is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ResponseState {
    /// An interim response.
    BeforeHead,
    /// The beginning of a chunk.
    BetweenChunks,
    /// Nothing, and none of the response was sent: such a client is taken to be there.
    Silent,
    /// Nothing, in the middle of something.
    #[default]
    Within,
}

impl ResponseState {
    /// Where a response is that has not begun.
    pub(crate) fn before(version: Version) -> Self {
        match version {
            // It knows no interim responses.
            Version::Http10 => Self::Silent,
            Version::Http11 | Version::Http2 => Self::BeforeHead,
        }
    }
}

/// One client that waits for its response.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    pub(crate) connection: &'a ClientFlow<'a>,
    pub(crate) flow: &'a Flow,
    /// Where the response is.
    pub(crate) place: &'a Cell<ResponseState>,
    /// All of the request was sent then, and the client had not left.
    pub(crate) since: Instant,
}

impl Watch<'_> {
    /// Waits until the client is gone.
    pub(crate) async fn gone(&self, ahead: &mut ReadAhead) {
        let FlowContext { worker, .. } = self.connection.flow;
        let streams = self.connection.streams;
        let watched_at = Instant::now();
        while ahead.unused().len() < AHEAD_BYTES_MAX {
            if streams.client.readable().await.is_err() {
                return;
            }
            match ahead.receive(worker, &streams.client) {
                Ok(0) => {
                    // What is there at once may have come while nobody looked.
                    let now = Instant::now();
                    let is_old = now - watched_at < Duration::from_millis(10);
                    let since = if is_old { self.since } else { now };
                    return Box::pin(self.left(since)).await;
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
        Box::pin(self.gone_unread()).await;
    }

    /// The same, of a client that is ahead of its responses by more than is taken off its socket.
    async fn gone_unread(&self) {
        loop {
            let heard = socket::heard(self.connection.streams.client.socket().as_fd());
            if heard.reset {
                return;
            }
            if heard.end {
                return self.left(Instant::now()).await;
            }
            rt::sleep(LOOK_PERIOD).await;
        }
    }

    /// The same, of a client that has ended its stream, which was not later than `since`.
    async fn left(&self, since: Instant) {
        if self.connection.listener.half_close == HalfClose::Abort {
            return;
        }
        let before = self.flow.bytes_out.get();
        rt::sleep(ASKED_AFTER.saturating_sub(since.elapsed())).await;
        // What was sent to it meanwhile asks as well.
        let is_asked = self.flow.bytes_out.get() != before || self.is_sending();
        if self.is_reset() || !is_asked && !self.ask() {
            return;
        }
        rt::sleep(ANSWERED_AFTER).await;
        while !self.is_reset() {
            rt::sleep(LOOK_PERIOD).await;
        }
    }

    /// Sends something that a client which is there makes nothing of. `false` where that is not
    /// possible in the middle of a response.
    fn ask(&self) -> bool {
        let question: &[u8] = match self.place.get() {
            ResponseState::BeforeHead => CONTINUE,
            ResponseState::BetweenChunks => b"0",
            ResponseState::Silent => return true,
            ResponseState::Within => return false,
        };
        // It takes nothing only when it has taken nothing for long, which is not for now.
        let _ = self.connection.streams.client.send(question);
        true
    }

    fn is_reset(&self) -> bool {
        socket::heard(self.connection.streams.client.socket().as_fd()).reset
    }

    /// Whether bytes are on their way to the client.
    fn is_sending(&self) -> bool {
        let client = self.connection.streams.client.socket();
        socket::unacknowledged(client.as_fd()).is_ok_and(|count| count > 0)
    }
}
