//! The API's server-sent events (WHATWG HTML section 9.2.6). `sse-stream` reads them; what it does
//! not bound is bounded here: a message's length, and the silence between two pieces.

use std::{error::Error, future::ready, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Bytes};
use sse_stream::SseByteStream;
use tokio::time::timeout;

/// Bytes of one message; a longer one ends the stream.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// Silence after which a connection counts as broken: the gateway sends a comment every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// One message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// What `Last-Event-ID` takes; the last one that was given.
    pub(crate) id: Option<String>,
    /// Its lines, with line feeds between them.
    pub(crate) data: String,
}

/// Why nothing more is read of a stream.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    /// Not even a comment came.
    #[error("the stream is silent")]
    Silent,
    /// The connection ended in the middle.
    #[error("the stream broke ({0})")]
    Broken(#[source] Box<dyn Error + Send + Sync>),
    /// The stream sends a message longer than is kept.
    #[error("an event of more than {MESSAGE_BYTES_MAX} bytes")]
    TooLong,
    /// What came is no text.
    #[error("the stream is no text")]
    NoText,
}

/// The messages of an answer's body. An incomplete one at its end is dropped.
pub(crate) fn messages<B>(body: B) -> impl Stream<Item = Result<Message, Lost>> + Unpin
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Error + Send + Sync + 'static,
{
    let pieces = stream::unfold((body, Bound::default()), |(mut body, mut bound)| async {
        let piece = piece(&mut body, &mut bound).await.transpose()?;
        Some((piece, (body, bound)))
    });
    let mut id = None;
    SseByteStream::new(Box::pin(pieces)).filter_map(move |read| {
        ready(match read {
            Ok(event) => {
                id = event.id.or(id.take());
                let id = id.clone();
                event.data.map(|data| Ok(Message { id, data }))
            }
            Err(error) => Some(Err(Lost::from(error))),
        })
    })
}

/// The next bytes; none at the end.
async fn piece<B>(body: &mut B, bound: &mut Bound) -> Result<Option<Bytes>, Lost>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Error + Send + Sync + 'static,
{
    loop {
        let frame = timeout(SILENCE_MAX, body.frame()).await;
        let Some(frame) = frame.map_err(|_| Lost::Silent)? else {
            return Ok(None);
        };
        let frame = frame.map_err(|error| Lost::Broken(Box::new(error)))?;
        // Trailers say nothing here.
        if let Ok(bytes) = frame.into_data() {
            bound.take(&bytes)?;
            return Ok(Some(bytes));
        }
    }
}

impl From<sse_stream::Error> for Lost {
    fn from(error: sse_stream::Error) -> Self {
        match error {
            sse_stream::Error::Body(source) => match source.downcast::<Self>() {
                Ok(lost) => *lost,
                Err(source) => Self::Broken(source),
            },
            sse_stream::Error::Utf8Parse(_) | sse_stream::Error::UnknownField => Self::NoText,
            // The library may tell more apart some day.
            _ => Self::NoText,
        }
    }
}

/// How long the message is that is being read: an empty line ends it.
#[derive(Debug, Default)]
struct Bound {
    bytes: usize,
    /// The last byte.
    last: u8,
    /// Whether the line has anything in it.
    is_filled: bool,
}

impl Bound {
    fn take(&mut self, bytes: &[u8]) -> Result<(), Lost> {
        for &byte in bytes {
            match (self.last, byte) {
                // The second half of one end of a line.
                (b'\r', b'\n') => {}
                (_, b'\n' | b'\r') => {
                    if !std::mem::take(&mut self.is_filled) {
                        self.bytes = 0;
                    }
                }
                _ => self.is_filled = true,
            }
            self.last = byte;
            self.bytes += 1;
            if self.bytes > MESSAGE_BYTES_MAX {
                return Err(Lost::TooLong);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::StreamBody;
    use hyper::body::Frame;

    use super::*;

    const STREAM: &str = ": heartbeat\n\nid: 7\nevent: peer_connected\ndata: {\"a\":\ndata:1}\n\n\
                          retry: 10\n\r\nid: 8\r\ndata: x\r\n\r\ndata: y\r\rdata: cut off";

    fn message(id: &str, data: &str) -> Message {
        Message {
            id: Some(id.into()),
            data: data.into(),
        }
    }

    /// What is read of these pieces.
    async fn read(pieces: Vec<Bytes>) -> Vec<Result<Message, Lost>> {
        let frames = pieces.into_iter().map(Frame::data).map(Ok::<_, Infallible>);
        let body = StreamBody::new(stream::iter(frames));
        messages(body).collect().await
    }

    #[tokio::test]
    async fn messages_are_the_same_however_the_stream_is_cut() {
        let expected = [
            message("7", "{\"a\":\n1}"),
            message("8", "x"),
            message("8", "y"),
        ];
        for cut in 0..=STREAM.len() {
            let (first, rest) = STREAM.as_bytes().split_at(cut);
            let pieces = vec![Bytes::from_static(first), Bytes::from_static(rest)];
            let messages: Vec<_> = read(pieces).await.into_iter().map(Result::unwrap).collect();
            assert_eq!(messages, expected, "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn a_message_without_end_is_given_up() {
        let line = vec![Bytes::from_static(&[b'x'; 4096]); MESSAGE_BYTES_MAX / 4096 + 1];
        let lines = vec![Bytes::from_static(b"data: x\r\n"); MESSAGE_BYTES_MAX / 9 + 1];
        for pieces in [line, lines] {
            let read = read(pieces).await;
            assert!(matches!(read[..], [Err(Lost::TooLong)]), "{read:?}");
        }
    }

    #[tokio::test]
    async fn comments_of_many_days_are_no_long_message() {
        let mut pieces = vec![Bytes::from_static(b": heartbeat\n\n"); MESSAGE_BYTES_MAX / 10];
        pieces.push(Bytes::from_static(b"id: 1\ndata: x\n\n"));
        let read: Vec<_> = read(pieces).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(read, [message("1", "x")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_stream_is_told_from_one_that_ended() {
        let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, Infallible>>());
        let read: Vec<_> = messages(body).collect().await;
        assert!(matches!(read[..], [Err(Lost::Silent)]), "{read:?}");
        assert!(self::read(Vec::new()).await.is_empty());
    }
}
