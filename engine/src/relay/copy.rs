//! Moves bytes through the worker's scratch buffer.

use std::io;

use crate::{
    context::scratch::{SMALL_PIECE, Scratch},
    relay::{Half, Step},
    transport::unsent::Unsent,
};

/// The piece that a flow starts with. It grows while pieces are full and taken whole.
const FIRST_PIECE: usize = 64 << 10;

/// Copies one direction.
#[derive(Debug)]
pub(crate) struct Copier<'a> {
    scratch: &'a Scratch,
    held: Unsent,
    piece: usize,
}

impl<'a> Copier<'a> {
    pub(crate) fn new(scratch: &'a Scratch, first: Unsent) -> Self {
        scratch.hold(0, first.capacity());
        Self {
            scratch,
            held: first,
            piece: FIRST_PIECE,
        }
    }

    /// Whether it holds nothing for the destination.
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }

    /// Passes on what is held, else one piece; gives what comes next and the bytes moved.
    pub(super) fn step(&mut self, half: &Half<'_>) -> (Step, u64) {
        if !self.held.is_empty() {
            return self.send_held(half);
        }
        let scratch = self.scratch;
        let piece = if scratch.is_crowded() {
            SMALL_PIECE
        } else {
            self.piece
        };
        let piece = piece.min(half.left());
        scratch
            .with(piece, |buffer| self.move_piece(half, buffer))
            .unwrap_or_else(|step| (step, 0))
    }

    fn send_held(&mut self, half: &Half<'_>) -> (Step, u64) {
        let before = self.held.capacity();
        let sent = self.held.send(|bytes| half.to().send(bytes));
        self.scratch.hold(before, self.held.capacity());
        match sent {
            Ok(bytes) => {
                half.count(bytes);
                let is_done = self.held.is_empty();
                (
                    if is_done {
                        Step::WaitReadable
                    } else {
                        Step::WaitWritable
                    },
                    bytes,
                )
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => (Step::WaitWritable, 0),
            Err(_) => (Step::Broken(half.destination_broke()), 0),
        }
    }

    fn move_piece(&mut self, half: &Half<'_>, buffer: &mut [u8]) -> Result<(Step, u64), Step> {
        let received = match half.from().recv(buffer) {
            Ok(0) => return Err(Step::End),
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(Step::WaitReadable);
            }
            Err(_) => return Err(Step::Broken(half.source_broke())),
        };
        half.took(received);
        let sent = match half.to().send(&buffer[..received]) {
            Ok(sent) => sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
            Err(_) => return Err(Step::Broken(half.destination_broke())),
        };
        if sent > 0 {
            half.count(sent as u64);
        }
        if sent < received {
            self.hold(&buffer[sent..received]);
            self.piece = sent.clamp(FIRST_PIECE, buffer.len().max(FIRST_PIECE));
            return Ok((Step::WaitWritable, sent as u64));
        }
        if received == buffer.len() {
            self.piece = (self.piece * 2).min(self.scratch.len());
        }
        Ok((Step::WaitReadable, sent as u64))
    }

    fn hold(&mut self, rest: &[u8]) {
        self.held = Unsent::new(rest.to_vec(), 0);
        self.scratch.hold(0, self.held.capacity());
    }
}

impl Drop for Copier<'_> {
    fn drop(&mut self) {
        self.scratch.hold(self.held.capacity(), 0);
    }
}
