//! The body of messages, where one side speaks HTTP/2: chunks from a source to a sink.
//!
//! A chunk is taken from the source only when the sink took the one before, so a message holds one
//! chunk, and back-pressure passes through. Room in the connection's window is asked for when there
//! is something to send: what waits for its source takes none from other streams.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
};

use bytes::Bytes;
use engine_core::outcome::Outcome;
use engine_http::{
    chunked::{self, Decoder, Piece as Decoded},
    edit::FieldEdits,
    refusal::Refusal,
};
use h2::{RecvStream, SendStream};

use crate::{
    context::WorkerContext,
    exchange::{
        body::{BodyError, send_all},
        http2::{heads, replay::Replay},
        watch::ResponseState,
    },
    relay::Direction,
    transport::{Transport, http2::held::Holding, read_ahead::ReadAhead},
};

/// The largest chunk that is taken from a connection of HTTP/1: four frames.
const CHUNK_BYTES: usize = 64 << 10;

/// Where content comes from.
pub(crate) enum Source<'a> {
    /// A stream of HTTP/2.
    Http2(Http2Source<'a>),
    /// A connection of HTTP/1.
    Http1(Http1Source<'a>),
}

/// Content that arrives on a stream of HTTP/2.
pub(crate) struct Http2Source<'a> {
    pub(crate) stream: RecvStream,
    /// Where it is counted what is held of it.
    pub(crate) holding: Option<&'a Holding>,
}

/// Content that arrives on a connection of HTTP/1.
pub(crate) struct Http1Source<'a> {
    pub(crate) worker: &'a WorkerContext,
    pub(crate) transport: &'a Transport,
    pub(crate) ahead: &'a mut ReadAhead,
    pub(crate) extent: Extent,
}

/// How far content goes.
pub(crate) enum Extent {
    /// So many bytes.
    Left(u64),
    /// Until the chunks end.
    Chunks(Box<Decoder>),
    /// Until the connection ends.
    Close,
}

/// A part of a body.
pub(crate) enum Chunk {
    Data {
        bytes: Bytes,
        /// What it took of the source, framing included.
        wire_size: u64,
        /// Nothing follows, not even trailers.
        is_last: bool,
    },
    /// The end, with the lines of the trailers.
    End { trailers: Vec<u8>, wire_size: u64 },
}

/// A stream of HTTP/2 that content goes to.
pub(crate) struct Http2Sink {
    pub(crate) stream: RefCell<SendStream<Bytes>>,
    /// Bytes of content that h2 was handed.
    pub(crate) handed: Cell<u64>,
}

/// Where content goes to.
#[derive(Clone, Copy)]
pub(crate) enum Sink<'a> {
    /// A stream of HTTP/2.
    Http2(&'a Http2Sink),
    /// A connection of HTTP/1.
    Http1 {
        transport: &'a Transport,
        is_chunked: bool,
        /// Where a response is, for whoever watches its client.
        place: Option<&'a Cell<ResponseState>>,
    },
}

/// What happened to a source or a sink.
pub(crate) enum SourceError {
    /// It broke.
    Broken,
    /// It ended early.
    Ended,
    /// What it sent is malformed.
    Refused(Refusal),
}

/// Copies a body from its source to its sink.
pub(crate) struct BodyCopy<'a, F> {
    pub(crate) direction: Direction,
    /// The most that is passed on.
    pub(crate) length_max: u64,
    /// What the rule changes in trailers.
    pub(crate) edits: &'a FieldEdits,
    /// Counts what the upstream took, or gave.
    pub(crate) count: F,
    /// Set while the source is waited for.
    pub(crate) is_awaited: &'a Cell<bool>,
    /// Set when something of the source may be gone.
    pub(crate) is_begun: &'a Cell<bool>,
    /// What was taken so far, for another attempt.
    pub(crate) replay: Option<&'a Replay>,
    pub(crate) sink: Sink<'a>,
}

impl<F: Fn(u64)> BodyCopy<'_, F> {
    /// Copies it to its end.
    ///
    /// # Errors
    /// Says what was in its way. The receiver has then a part of a message.
    pub(crate) async fn run(&self, source: &mut Source<'_>) -> Result<(), BodyError> {
        let mut length: u64 = 0;
        // Of chunks, parts of their framing may be used up before there is a chunk.
        if matches!(source, Source::Http1(_)) {
            self.is_begun.set(true);
        }
        for chunk in self.replay.map(Replay::chunks).unwrap_or_default() {
            if self.pass(chunk, &mut length).await?.is_none() {
                return Ok(());
            }
        }
        // A connection of HTTP/1 does not say whether a request was begun.
        if let (Some(replay), Sink::Http1 { .. }) = (self.replay, &self.sink) {
            replay.give_up();
        }
        loop {
            self.is_awaited.set(true);
            let next = source.next().await;
            self.is_awaited.set(false);
            self.is_begun.set(true);
            let chunk = next.map_err(|error| self.source_error(error))?;
            if let Some(replay) = self.replay {
                replay.keep(&chunk);
            }
            match self.pass(chunk, &mut length).await? {
                Some(size) => source.release(size),
                None => return Ok(()),
            }
        }
    }

    /// Passes a chunk on; gives how much content it was, and `None` after the last one.
    async fn pass(&self, chunk: Chunk, length: &mut u64) -> Result<Option<usize>, BodyError> {
        match chunk {
            Chunk::Data {
                bytes,
                wire_size,
                is_last,
            } => {
                let size = bytes.len();
                *length += size as u64;
                if *length > self.length_max {
                    return Err(BodyError::TooLong);
                }
                let sent = self.sink.put(bytes, is_last).await;
                let sent = sent.map_err(|_| self.sink_error())?;
                self.count(wire_size, sent);
                Ok((!is_last).then_some(size))
            }
            Chunk::End {
                trailers,
                wire_size,
            } => {
                let sent = self.sink.end(&self.edits.trailers(&trailers)).await;
                let sent = sent.map_err(|_| self.sink_error())?;
                self.count(wire_size, sent);
                Ok(None)
            }
        }
    }

    fn count(&self, taken: u64, given: u64) {
        (self.count)(match self.direction {
            Direction::In => given,
            Direction::Out => taken,
        });
    }

    fn source_error(&self, error: SourceError) -> BodyError {
        match (error, self.direction) {
            (SourceError::Refused(refusal), _) => BodyError::Refused(refusal),
            (SourceError::Broken, Direction::In) => BodyError::Broken(Outcome::ClientReset),
            (SourceError::Ended, Direction::In) => BodyError::Broken(Outcome::Truncated),
            (SourceError::Broken | SourceError::Ended, Direction::Out) => {
                BodyError::Broken(Outcome::UpstreamReset)
            }
        }
    }

    fn sink_error(&self) -> BodyError {
        BodyError::Broken(match self.direction {
            Direction::In => Outcome::UpstreamReset,
            Direction::Out => Outcome::ClientReset,
        })
    }
}

impl Source<'_> {
    async fn next(&mut self) -> Result<Chunk, SourceError> {
        match self {
            Self::Http2(incoming) => next_of_stream(&mut incoming.stream).await,
            Self::Http1(arriving) => arriving.next().await,
        }
    }

    /// The sink took so much: the sender may send as much again.
    fn release(&mut self, size: usize) {
        if let Self::Http2(incoming) = self {
            // Fails only when more is released than was received.
            let _ = incoming.stream.flow_control().release_capacity(size);
            if let Some(holding) = incoming.holding {
                holding.taken(size);
            }
        }
    }
}

async fn next_of_stream(stream: &mut RecvStream) -> Result<Chunk, SourceError> {
    match stream.data().await {
        Some(Ok(bytes)) => Ok(Chunk::Data {
            wire_size: bytes.len() as u64,
            is_last: stream.is_end_stream(),
            bytes,
        }),
        Some(Err(_)) => Err(SourceError::Broken),
        None => {
            let trailers = stream.trailers().await.map_err(|_| SourceError::Broken)?;
            let trailers = trailers.map_or(Ok(Vec::new()), |map| heads::trailer_lines(&map));
            let trailers = trailers.map_err(SourceError::Refused)?;
            let wire_size = trailers.len() as u64;
            Ok(Chunk::End {
                trailers,
                wire_size,
            })
        }
    }
}

impl Http1Source<'_> {
    async fn next(&mut self) -> Result<Chunk, SourceError> {
        loop {
            if let Some(chunk) = self.chunk()? {
                return Ok(chunk);
            }
            if !self.receive().await? {
                return Ok(Chunk::End {
                    trailers: Vec::new(),
                    wire_size: 0,
                });
            }
        }
    }

    /// The next chunk of what was received already.
    fn chunk(&mut self) -> Result<Option<Chunk>, SourceError> {
        let unused = self.ahead.unused();
        let (bytes, used) = match &mut self.extent {
            Extent::Left(0) => {
                return Ok(Some(Chunk::End {
                    trailers: Vec::new(),
                    wire_size: 0,
                }));
            }
            _ if unused.is_empty() => return Ok(None),
            Extent::Left(left) => {
                let count =
                    usize::try_from(*left).map_or(unused.len(), |left| left.min(unused.len()));
                *left -= count as u64;
                (Bytes::copy_from_slice(&unused[..count]), count)
            }
            Extent::Close => (Bytes::copy_from_slice(unused), unused.len()),
            Extent::Chunks(decoder) => {
                let (used, chunk) = decoder.read(unused).map_err(SourceError::Refused)?;
                let range = match chunk {
                    Decoded::Data(range) => range,
                    Decoded::End => {
                        let trailers = decoder.trailers().to_vec();
                        self.ahead.consume(used);
                        let wire_size = used as u64;
                        return Ok(Some(Chunk::End {
                            trailers,
                            wire_size,
                        }));
                    }
                    Decoded::NeedMore => {
                        self.ahead.consume(used);
                        return Ok(None);
                    }
                };
                (Bytes::copy_from_slice(&unused[range]), used)
            }
        };
        self.ahead.consume(used);
        Ok(Some(Chunk::Data {
            bytes,
            wire_size: used as u64,
            is_last: matches!(self.extent, Extent::Left(0)),
        }))
    }

    /// Receives more. False where the content ends with the connection, and it ended.
    async fn receive(&mut self) -> Result<bool, SourceError> {
        loop {
            match self
                .ahead
                .receive_up_to(CHUNK_BYTES, self.worker, self.transport)
            {
                Ok(0) if matches!(self.extent, Extent::Close) => return Ok(false),
                Ok(0) => return Err(SourceError::Ended),
                Ok(_) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(SourceError::Broken),
            }
            self.transport
                .readable()
                .await
                .map_err(|_| SourceError::Broken)?;
        }
    }
}

impl Sink<'_> {
    /// Passes a chunk on; gives what that took, framing included.
    async fn put(&self, bytes: Bytes, is_last: bool) -> io::Result<u64> {
        match *self {
            Self::Http2(to) => {
                let size = bytes.len() as u64;
                to.send(bytes, is_last).await?;
                Ok(size)
            }
            Self::Http1 {
                transport,
                is_chunked,
                place,
            } => {
                if !is_chunked {
                    send_all(transport, &bytes).await?;
                    return Ok(bytes.len() as u64);
                }
                let mut framed = Vec::with_capacity(bytes.len() + 2 * chunked::SIZE_BYTES_MAX);
                if !bytes.is_empty() {
                    chunked::write_size(bytes.len() as u64, &mut framed);
                    framed.extend_from_slice(&bytes);
                    framed.extend_from_slice(chunked::CHUNK_END);
                }
                if is_last {
                    chunked::write_end(&[], &mut framed);
                }
                if let Some(place) = place {
                    place.set(ResponseState::Within);
                }
                send_all(transport, &framed).await?;
                if let Some(place) = place {
                    place.set(ResponseState::BetweenChunks);
                }
                Ok(framed.len() as u64)
            }
        }
    }

    /// Ends what a connection of HTTP/1 is sent. A stream has ended with its content.
    pub(crate) async fn shut_down(self) -> io::Result<()> {
        match self {
            Self::Http2(_) => Ok(()),
            Self::Http1 { transport, .. } => transport.shut_down().await,
        }
    }

    /// Ends the content; gives what that took.
    async fn end(&self, trailers: &[u8]) -> io::Result<u64> {
        match *self {
            Self::Http2(to) => {
                let mut stream = to.stream.borrow_mut();
                let ended = match heads::trailer_map(trailers) {
                    Some(map) => stream.send_trailers(map),
                    None => stream.send_data(Bytes::new(), true),
                };
                ended.map_err(io::Error::other)?;
                Ok(trailers.len() as u64)
            }
            Self::Http1 {
                transport,
                is_chunked,
                place,
            } => {
                let mut framed = Vec::new();
                if is_chunked {
                    if let Some(place) = place {
                        place.set(ResponseState::Within);
                    }
                    chunked::write_end(trailers, &mut framed);
                    send_all(transport, &framed).await?;
                }
                Ok(framed.len() as u64)
            }
        }
    }
}

impl Http2Sink {
    pub(crate) fn new(stream: SendStream<Bytes>) -> Self {
        Self {
            stream: RefCell::new(stream),
            handed: Cell::new(0),
        }
    }

    /// Sends all of it, as the windows of stream and connection allow.
    ///
    /// # Errors
    /// When the other side wants no more of it.
    pub(crate) async fn send(&self, mut bytes: Bytes, is_last: bool) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = poll_fn(|cx| {
                let mut stream = self.stream.borrow_mut();
                stream.reserve_capacity(bytes.len());
                match stream.capacity() {
                    0 => stream.poll_capacity(cx),
                    room => std::task::Poll::Ready(Some(Ok(room))),
                }
            });
            let room = room.await.ok_or(io::ErrorKind::BrokenPipe)?;
            let room = room.map_err(io::Error::other)?.min(bytes.len());
            if room == 0 {
                continue;
            }
            let part = bytes.split_to(room);
            let ends = is_last && bytes.is_empty();
            self.hand(part, ends)?;
            if ends {
                return Ok(());
            }
        }
        if is_last {
            self.hand(Bytes::new(), true)?;
        }
        Ok(())
    }

    fn hand(&self, part: Bytes, is_last: bool) -> io::Result<()> {
        let size = part.len() as u64;
        let sent = self.stream.borrow_mut().send_data(part, is_last);
        sent.map_err(io::Error::other)?;
        self.handed.set(self.handed.get() + size);
        Ok(())
    }
}
