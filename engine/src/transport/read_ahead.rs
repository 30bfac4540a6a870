//! What a socket gave, and nobody has used yet.

use std::io;

use crate::{
    context::WorkerContext,
    transport::{Transport, unsent::Unsent},
};

/// The most that is received at once while a head is waited for. What follows a head waits in the
/// socket, where the body is read by larger pieces.
const PIECE_BYTES: usize = 16 << 10;

/// Bytes that were received ahead of their use. Memory is held only while there are some.
#[derive(Debug, Default)]
pub(crate) struct ReadAhead {
    bytes: Vec<u8>,
    start: usize,
}

impl ReadAhead {
    /// The bytes from `start` on.
    pub(crate) fn new(bytes: Vec<u8>, start: usize) -> Self {
        Self { bytes, start }
    }

    /// What was not used yet.
    pub(crate) fn unused(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    /// The first `count` bytes are used.
    pub(crate) fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.bytes.len());
        if self.is_empty() {
            *self = Self::default();
        }
    }

    /// What follows the first `count` bytes, while those are still in use. Holds no memory where nothing
    /// does.
    pub(crate) fn behind(&self, count: usize) -> Self {
        let following = self.unused().get(count..).unwrap_or_default();
        Self::new(following.to_vec(), 0)
    }

    /// Uses up to `count_max` bytes, as something to be sent behind a head.
    pub(crate) fn take_behind(&mut self, head: Vec<u8>, count_max: u64) -> Unsent {
        let unused = self.unused();
        let count = usize::try_from(count_max).map_or(unused.len(), |max| max.min(unused.len()));
        let held = Unsent::behind(head, &unused[..count]);
        self.consume(count);
        held
    }

    /// Receives more, through the worker's scratch buffer. 0 is the end of the stream.
    ///
    /// # Errors
    /// Those of [`Transport::recv`], `WouldBlock` among them.
    pub(crate) fn receive(
        &mut self,
        worker: &WorkerContext,
        from: &Transport,
    ) -> io::Result<usize> {
        self.receive_up_to(PIECE_BYTES, worker, from)
    }

    /// [`ReadAhead::receive`], but pieces of this size.
    ///
    /// # Errors
    /// As there.
    pub(crate) fn receive_up_to(
        &mut self,
        size: usize,
        worker: &WorkerContext,
        from: &Transport,
    ) -> io::Result<usize> {
        worker.scratch.with(size, |scratch| {
            let count = from.recv(scratch)?;
            if self.start > 0 {
                self.bytes.drain(..self.start);
                self.start = 0;
            }
            self.bytes.extend_from_slice(&scratch[..count]);
            Ok(count)
        })
    }
}
