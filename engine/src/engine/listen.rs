//! Opens the listening sockets: one for each worker.

use std::{
    io, mem,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use engine_sys::socket;

use crate::{
    context::config::{Config, ListenSocket, Listener, Protocol},
    engine::{StartError, choose_cores},
};

/// A listener that listens.
pub(crate) struct Bound {
    pub(crate) listener: Listener,
    pub(crate) address: SocketAddr,
    /// One for each worker.
    pub(crate) sockets: Vec<OwnedFd>,
}

impl Config {
    /// Opens the listening sockets ahead of the engine's start: clients that come until then wait in
    /// the kernel's queues, where they would be refused otherwise.
    ///
    /// # Errors
    /// Names the listener that cannot be had.
    pub fn listen(&mut self) -> Result<(), StartError> {
        let workers = choose_cores(self.workers).len();
        let listeners = mem::take(&mut self.listeners);
        let open = |listener| {
            let Bound {
                mut listener,
                sockets,
                ..
            } = bind(listener, self, workers)?;
            listener.socket = ListenSocket::Open(sockets);
            Ok(listener)
        };
        self.listeners = listeners.into_iter().map(open).collect::<Result<_, _>>()?;
        Ok(())
    }
}

/// Takes one socket for each worker out of a listener's configuration.
///
/// # Errors
/// Names the listener that cannot be had.
pub(crate) fn bind(
    mut listener: Listener,
    config: &Config,
    workers: usize,
) -> Result<Bound, StartError> {
    let options = socket::Listen {
        backlog: i32::try_from(config.limits.backlog).unwrap_or(i32::MAX),
        client_first: matches!(listener.protocol, Protocol::Tls | Protocol::Https),
        liveness: config.limits.liveness(),
    };
    let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
    match mem::replace(&mut listener.socket, ListenSocket::Bind(unspecified)) {
        ListenSocket::Bind(wanted) => {
            let failed = |source| StartError::Listen {
                name: Arc::clone(&listener.name),
                address: wanted,
                source,
            };
            let first = socket::listen(wanted, options).map_err(failed)?;
            let address = socket::local_address(first.as_fd()).map_err(failed)?;
            let mut sockets = vec![first];
            for _ in 1..workers {
                sockets.push(socket::listen(address, options).map_err(failed)?);
            }
            Ok(Bound {
                listener,
                address,
                sockets,
            })
        }
        ListenSocket::Open(sockets) => {
            let failed = |source| StartError::Listen {
                name: Arc::clone(&listener.name),
                address: unspecified,
                source,
            };
            let first = sockets.first().ok_or_else(|| failed(no_socket()))?;
            let address = socket::local_address(first.as_fd()).map_err(failed)?;
            Ok(Bound {
                address,
                sockets,
                listener,
            })
        }
        ListenSocket::Inherited(fd) => {
            let failed = |source| StartError::Inherited {
                name: Arc::clone(&listener.name),
                source,
            };
            if !socket::is_tcp_listener(fd.as_fd()) {
                return Err(failed(io::ErrorKind::InvalidInput.into()));
            }
            socket::prepare_listener(fd.as_fd(), options).map_err(failed)?;
            let address = socket::local_address(fd.as_fd()).map_err(failed)?;
            let sockets = (0..workers)
                .map(|_| fd.try_clone())
                .collect::<io::Result<_>>();
            Ok(Bound {
                address,
                sockets: sockets.map_err(failed)?,
                listener,
            })
        }
    }
}

fn no_socket() -> io::Error {
    io::ErrorKind::NotFound.into()
}
