//! A pipe for splice(2): bytes pass from one socket to another without a copy to user memory.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};

use crate::process::for_a_connection;

/// A pipe that sockets are spliced through. It may hold more bytes than its nominal capacity.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
}

impl Pipe {
    /// Opens a pipe of about `capacity` bytes, or as much of it as the kernel grants
    /// (`/proc/sys/fs/pipe-max-size`, `pipe-user-pages-soft`).
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn open(capacity: usize) -> io::Result<Self> {
        let (read, write) = nix::unistd::pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
        let (read, write) = (for_a_connection(read)?, for_a_connection(write)?);
        let mut wanted = i32::try_from(capacity).unwrap_or(i32::MAX);
        while fcntl(&write, FcntlArg::F_SETPIPE_SZ(wanted)).is_err() && wanted > DEFAULT_BYTES {
            wanted /= 2;
        }
        let granted = fcntl(&write, FcntlArg::F_GETPIPE_SZ)?;
        Ok(Self {
            read,
            write,
            capacity: usize::try_from(granted).unwrap_or(0),
        })
    }

    /// The nominal capacity in bytes.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Moves what has arrived at a socket into the pipe, at most `count` bytes. 0 is the end of the
    /// stream. The socket must be non-blocking: the flag given here covers the pipe alone
    /// (splice(2)).
    ///
    /// # Errors
    /// `WouldBlock` when nothing has arrived or the pipe is full; those of the socket.
    pub fn fill(&self, from: BorrowedFd<'_>, count: usize) -> io::Result<usize> {
        let count = count.min(self.capacity);
        Ok(splice(from, None, &self.write, None, count, FLAGS)?)
    }

    /// Moves up to `count` bytes out of the pipe into a socket.
    ///
    /// # Errors
    /// `WouldBlock` when the socket takes nothing; those of the socket.
    pub fn drain(&self, to: BorrowedFd<'_>, count: usize) -> io::Result<usize> {
        Ok(splice(&self.read, None, to, None, count, FLAGS)?)
    }
}

/// What a pipe holds that nobody asked to hold more (pipe(7), "Pipe capacity").
const DEFAULT_BYTES: i32 = 64 << 10;

const FLAGS: SpliceFFlags = SpliceFFlags::SPLICE_F_MOVE.union(SpliceFFlags::SPLICE_F_NONBLOCK);

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        os::fd::AsFd,
    };

    use super::*;

    #[test]
    fn bytes_pass_and_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut one = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (other, _) = listener.accept().unwrap();
        other.set_nonblocking(true).unwrap();
        let pipe = Pipe::open(1 << 20).unwrap();
        assert_eq!(
            pipe.fill(other.as_fd(), 5).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        one.write_all(b"hello, and more").unwrap();
        assert_eq!(pipe.fill(other.as_fd(), 5).unwrap(), 5);
        assert_eq!(pipe.drain(other.as_fd(), 5).unwrap(), 5);
        let mut back = [0; 5];
        one.read_exact(&mut back).unwrap();
        assert_eq!(&back, b"hello");
        assert_eq!(pipe.fill(other.as_fd(), usize::MAX).unwrap(), 10);
    }
}
