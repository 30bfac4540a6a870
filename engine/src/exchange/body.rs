//! Moves the content of messages.
//!
//! Content of a known length, and content that ends with its connection, takes the relay's way.
//! Chunked content is read chunk by chunk and framed anew, so that nothing of one side's framing
//! reaches the other.

use std::{cell::Cell, io, mem};

use engine_core::outcome::Outcome;
use engine_http::{
    chunked::{self, Decoder, Piece},
    edit::FieldEdits,
    facts,
    refusal::Refusal,
    response,
};

use crate::{
    exchange::watch::ResponseState,
    relay::{Direction, Wire, carry, carry_rest},
    transport::{Transport, read_ahead::ReadAhead},
};

/// Framed content that is gathered before it is sent.
const GATHERED_BYTES: usize = 64 << 10;

/// Why content did not reach its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyError {
    /// One side broke the connection.
    Broken(Outcome),
    /// The sender's framing is malformed.
    Refused(Refusal),
    /// It is longer than the route allows.
    TooLong,
}

/// How the receiver of chunked content is told where it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Towards {
    /// By chunks.
    Chunks,
    /// By the end of the connection, where it knows no chunks (HTTP/1.0).
    Close,
}

/// The client that content goes to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receiver<'a> {
    pub(crate) towards: Towards,
    /// Where its response is, for whoever watches it.
    pub(crate) place: &'a Cell<ResponseState>,
    /// What the rule changes in it.
    pub(crate) edits: &'a FieldEdits,
}

/// Moves a request's content to the upstream.
///
/// # Errors
/// Says what was in its way. The upstream has then a part of a message.
pub(crate) async fn send_content(
    wire: &Wire<'_>,
    framing: facts::Framing,
    ahead: &mut ReadAhead,
    (length_max, edits): (u64, &FieldEdits),
) -> Result<(), BodyError> {
    match framing {
        facts::Framing::None => Ok(()),
        facts::Framing::Length(length) => {
            measured(wire, Direction::In, Vec::new(), ahead, length).await
        }
        facts::Framing::Chunked => {
            let half = Chunks {
                wire,
                direction: Direction::In,
                towards: Towards::Chunks,
                place: None,
                length_max,
                edits,
            };
            half.run(Decoder::default(), &mut Vec::new(), ahead).await
        }
    }
}

/// Moves a response's content to the client, behind `head`: what is there of both goes out in one
/// piece.
///
/// # Errors
/// Says what was in its way. The client has then a part of a message, or nothing where `head` is
/// still there.
pub(crate) async fn take_content(
    wire: &Wire<'_>,
    head: &mut Vec<u8>,
    framing: response::Framing,
    ahead: &mut ReadAhead,
    Receiver {
        towards,
        place,
        edits,
    }: Receiver<'_>,
) -> Result<(), BodyError> {
    match framing {
        response::Framing::None => measured(wire, Direction::Out, mem::take(head), ahead, 0).await,
        response::Framing::Length(length) => {
            measured(wire, Direction::Out, mem::take(head), ahead, length).await
        }
        response::Framing::UntilClose => {
            let first = ahead.take_behind(mem::take(head), u64::MAX);
            let carried = carry_rest(wire, Direction::Out, first).await;
            carried.map_err(BodyError::Broken)
        }
        response::Framing::Chunked => {
            let half = Chunks {
                wire,
                direction: Direction::Out,
                towards,
                place: (towards == Towards::Chunks).then_some(place),
                length_max: u64::MAX,
                edits,
            };
            half.run(Decoder::of_response(), head, ahead).await
        }
    }
}

async fn measured(
    wire: &Wire<'_>,
    direction: Direction,
    head: Vec<u8>,
    ahead: &mut ReadAhead,
    length: u64,
) -> Result<(), BodyError> {
    let before = ahead.unused().len() as u64;
    let first = ahead.take_behind(head, length);
    let left = length.saturating_sub(before);
    let carried = carry(wire, direction, first, left).await;
    carried.map_err(BodyError::Broken)
}

/// Chunked content on its way.
struct Chunks<'a> {
    wire: &'a Wire<'a>,
    direction: Direction,
    towards: Towards,
    /// Told when all chunks so far were sent, and when the next one is.
    place: Option<&'a Cell<ResponseState>>,
    /// The most content that is passed on.
    length_max: u64,
    /// What the rule changes in trailers.
    edits: &'a FieldEdits,
}

impl Chunks<'_> {
    /// Moves all of it, behind `head`, which is left where it is when nothing could be sent.
    async fn run(
        &self,
        mut decoder: Decoder,
        head: &mut Vec<u8>,
        ahead: &mut ReadAhead,
    ) -> Result<(), BodyError> {
        let (from, to) = self.wire.sides(self.direction);
        let mut content = 0;
        // The head was counted by whoever read it.
        let mut counted = head.len();
        let mut framed = mem::take(head);
        loop {
            let taken = self.frame(&mut decoder, ahead.unused(), &mut content, &mut framed);
            if taken.is_err() && counted > 0 {
                *head = mem::take(&mut framed);
            }
            ahead.consume(taken?);
            if !framed.is_empty() {
                send_all(to, &framed)
                    .await
                    .map_err(|_| BodyError::Broken(self.wire.receiver_broke(self.direction)))?;
                self.wire
                    .count(self.direction, (framed.len() - counted) as u64);
                counted = 0;
                framed.clear();
            }
            if decoder.is_done() {
                return Ok(());
            }
            if ahead.is_empty() {
                self.is_at(ResponseState::BetweenChunks);
                self.receive(ahead, from).await?;
                self.is_at(ResponseState::Within);
            }
        }
    }

    fn is_at(&self, place: ResponseState) {
        if let Some(told) = self.place {
            told.set(place);
        }
    }

    /// Frames content anew, up to the size of a piece. Gives how much of `bytes` was used.
    fn frame(
        &self,
        decoder: &mut Decoder,
        bytes: &[u8],
        content: &mut u64,
        framed: &mut Vec<u8>,
    ) -> Result<usize, BodyError> {
        let mut used = 0;
        while framed.len() < GATHERED_BYTES {
            let (read, piece) = decoder.read(&bytes[used..]).map_err(BodyError::Refused)?;
            match piece {
                Piece::Data(range) => {
                    *content += range.len() as u64;
                    if *content > self.length_max {
                        return Err(BodyError::TooLong);
                    }
                    self.put(&bytes[used..][range], framed);
                }
                Piece::End => {
                    if self.towards == Towards::Chunks {
                        chunked::write_end(&self.edits.trailers(decoder.trailers()), framed);
                    }
                    return Ok(used + read);
                }
                Piece::NeedMore => return Ok(used + read),
            }
            used += read;
        }
        Ok(used)
    }

    fn put(&self, data: &[u8], framed: &mut Vec<u8>) {
        match self.towards {
            Towards::Chunks => {
                chunked::write_size(data.len() as u64, framed);
                framed.extend_from_slice(data);
                framed.extend_from_slice(chunked::CHUNK_END);
            }
            Towards::Close => framed.extend_from_slice(data),
        }
    }

    async fn receive(&self, ahead: &mut ReadAhead, from: &Transport) -> Result<(), BodyError> {
        let worker = self.wire.connection.worker;
        loop {
            match ahead.receive(worker, from) {
                Ok(0) => return Err(BodyError::Broken(self.wire.sender_ended(self.direction))),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(BodyError::Broken(self.wire.sender_broke(self.direction))),
            }
            let readable = from.readable().await;
            readable.map_err(|_| BodyError::Broken(Outcome::GatewayError))?;
        }
    }
}

/// Sends all of it, waiting where the other side takes no more.
///
/// # Errors
/// Those of [`Transport::send`], and of waiting.
pub(crate) async fn send_all(to: &Transport, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match to.send(bytes) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => to.writable().await?,
            Err(error) => return Err(error),
        }
    }
    to.flushed().await
}
