//! Opening connections, and the events of many of them.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, AsRawFd},
};

use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, socket},
};

/// Events taken at a time.
const BATCH: usize = 128;

/// Starts to connect; the first write or EPOLLOUT tells how it ended.
///
/// # Errors
/// When no descriptor or no local port is left, or the refusal is known at once.
pub(crate) fn start_to_connect(target: SocketAddr) -> io::Result<TcpStream> {
    let family = match target {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let fd = socket(family, SockType::Stream, flags, None)?;
    match connect(fd.as_raw_fd(), &SockaddrStorage::from(target)) {
        Ok(()) | Err(nix::Error::EINPROGRESS) => Ok(TcpStream::from(fd)),
        Err(error) => Err(error.into()),
    }
}

/// An epoll instance whose events carry the index of the connection.
#[derive(Debug)]
pub(crate) struct Events {
    epoll: Epoll,
    batch: [EpollEvent; BATCH],
}

impl Events {
    /// An empty one.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            batch: [EpollEvent::empty(); BATCH],
        })
    }

    /// Reports every change of `fd`, once each (epoll(7), "edge-triggered").
    ///
    /// # Errors
    /// When it is watched already, or the limit of watches is reached.
    pub(crate) fn watch_edges(&self, fd: impl AsFd, index: usize) -> io::Result<()> {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        Ok(self.epoll.add(fd, EpollEvent::new(flags, index as u64))?)
    }

    /// Reports `fd` as long as it has something to read.
    ///
    /// # Errors
    /// As [`Self::watch_edges`].
    pub(crate) fn watch_input(&self, fd: impl AsFd, index: usize) -> io::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, index as u64);
        Ok(self.epoll.add(fd, event)?)
    }

    /// Waits at most `timeout` and gives the indices of what is ready.
    ///
    /// # Errors
    /// Never, with a valid instance; an interrupted wait gives nothing.
    pub(crate) fn wait(
        &mut self,
        timeout: EpollTimeout,
    ) -> io::Result<impl Iterator<Item = usize> + use<>> {
        let count = match self.epoll.wait(&mut self.batch, timeout) {
            Ok(count) => count,
            Err(nix::Error::EINTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let batch = self.batch;
        Ok(batch
            .into_iter()
            .take(count)
            .filter_map(|event| usize::try_from(event.data()).ok()))
    }
}
