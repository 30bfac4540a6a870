//! Moves bytes through a pipe, without a copy to user memory.
//!
//! splice(2) after readiness, never the ring's own splice operation: that one occupies a kernel
//! thread for each direction (io_uring/splice.c forces it to a worker thread).

use std::{io, os::fd::AsFd};

use engine_sys::pipe::Pipe;

use crate::relay::{Half, Step};

/// Splices one direction. It has a pipe only while there are bytes in it.
#[derive(Debug, Default)]
pub(crate) struct Splicer {
    pipe: Option<Pipe>,
    in_pipe: usize,
}

/// The pipe cannot be had, or the kernel does not splice these sockets, or there is TLS between
/// them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refused;

impl Splicer {
    /// Whether its pipe holds nothing for the destination.
    pub(crate) fn is_empty(&self) -> bool {
        self.in_pipe == 0
    }

    /// Passes on what is in the pipe, else one pipe-full; gives what comes next and the bytes moved.
    ///
    /// # Errors
    /// [`Refused`], with nothing lost: the caller copies instead.
    pub(super) fn step(&mut self, half: &Half<'_>) -> Result<(Step, u64), Refused> {
        if !self.is_empty() {
            return Ok(self.empty(half));
        }
        let (from, _) = half.sockets().ok_or(Refused)?;
        let pipes = &half.wire.connection.worker.pipes;
        let pipe = pipes.take().map_err(|_| Refused)?;
        match pipe.fill(from.as_fd(), half.left()) {
            Ok(0) => {
                pipes.give(pipe);
                Ok((Step::End, 0))
            }
            Ok(filled) => {
                half.took(filled);
                self.in_pipe = filled;
                self.pipe = Some(pipe);
                Ok(self.empty(half))
            }
            Err(error) => {
                pipes.give(pipe);
                match error.raw_os_error() {
                    Some(libc::EAGAIN) => Ok((Step::WaitReadable, 0)),
                    Some(libc::EINVAL | libc::ENOSYS | libc::EPERM) => Err(Refused),
                    _ => Ok((Step::Broken(half.source_broke()), 0)),
                }
            }
        }
    }

    /// Passes on what is in the pipe.
    pub(super) fn empty(&mut self, half: &Half<'_>) -> (Step, u64) {
        let Some(pipe) = &self.pipe else {
            return (Step::WaitReadable, 0);
        };
        let drained = match pipe.drain(half.to().socket().as_fd(), self.in_pipe) {
            Ok(drained) => drained,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return (Step::WaitWritable, 0);
            }
            Err(_) => return (Step::Broken(half.destination_broke()), 0),
        };
        half.count(drained as u64);
        self.in_pipe -= drained;
        if !self.is_empty() {
            return (Step::WaitWritable, drained as u64);
        }
        if let Some(pipe) = self.pipe.take() {
            half.wire.connection.worker.pipes.give(pipe);
        }
        (Step::WaitReadable, drained as u64)
    }
}
