//! Opens listening sockets: one for each worker.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use engine_sys::{
    netns::Netns,
    socket::{self, Liveness},
};

use crate::{
    context::{
        config::Config,
        listener::{Protocol, Sockets},
    },
    engine::choose_cores,
};

/// Where a listener listens.
#[derive(Clone, Debug)]
pub struct Bind {
    /// The address; with port 0 the kernel chooses a port.
    pub address: SocketAddr,
    /// The namespace that it is an address of; `None` is the one that the process runs in.
    pub namespace: Option<Arc<Netns>>,
}

impl Bind {
    /// Tries whether nobody listens there: the workers' sockets would share the address with whoever
    /// shares it as well.
    ///
    /// # Errors
    /// `EADDRINUSE` when somebody does; else those of [`Opening::bind`].
    pub fn probe(&self) -> io::Result<()> {
        self.enter(|| socket::probe(self.address)).map(drop)
    }

    fn enter(&self, open: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
        match &self.namespace {
            Some(namespace) => namespace.enter(open),
            None => open(),
        }
    }
}

/// How the listening sockets of an engine are opened, before its start and while it runs. Clients that
/// come until a publication hands them to the workers wait in the kernel's queues.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    backlog: i32,
    liveness: Liveness,
    workers: usize,
}

impl Config {
    /// How the listening sockets of this engine are opened.
    pub fn opening(&self) -> Opening {
        Opening {
            backlog: i32::try_from(self.limits.backlog).unwrap_or(i32::MAX),
            liveness: self.limits.liveness(),
            workers: choose_cores(self.workers).len(),
        }
    }
}

impl Opening {
    /// Opens sockets of the gateway's own.
    ///
    /// # Errors
    /// `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES` for ports below `net.ipv4.ip_unprivileged_port_start`,
    /// `EMFILE`, and `EPERM` where a namespace may not be entered.
    pub fn bind(&self, bind: &Bind, protocol: Protocol) -> io::Result<Sockets> {
        let options = self.options(protocol);
        let open = |address| bind.enter(|| socket::listen(address, options));
        let first = open(bind.address)?;
        let address = socket::local_address(first.as_fd())?;
        let mut each = vec![first];
        for _ in 1..self.workers {
            each.push(open(address)?);
        }
        Ok(Sockets { address, each })
    }

    /// Takes over a socket that listens already, and that the workers then share.
    ///
    /// # Errors
    /// `InvalidInput` for what is no listening TCP socket; `EMFILE`.
    pub fn adopt(&self, fd: &OwnedFd, protocol: Protocol) -> io::Result<Sockets> {
        if !socket::is_tcp_listener(fd.as_fd()) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        socket::prepare_listener(fd.as_fd(), self.options(protocol))?;
        let address = socket::local_address(fd.as_fd())?;
        let each = (0..self.workers).map(|_| fd.try_clone());
        let each = each.collect::<io::Result<_>>()?;
        Ok(Sockets { address, each })
    }

    fn options(&self, protocol: Protocol) -> socket::Listen {
        socket::Listen {
            backlog: self.backlog,
            client_first: protocol.is_client_first(),
            liveness: self.liveness,
        }
    }
}
