//! Where connections come in.

use std::{
    net::SocketAddr, num::NonZeroU32, ops::Deref, os::fd::OwnedFd, sync::Arc, time::Duration,
};

use engine_core::{
    balance::Load,
    ids::{ListenerId, NetworkId},
};
use ipnet::IpNet;

/// One address that connections come in at, as a publication says it. Its sockets come apart: see
/// [`Sockets`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Stable over publications.
    pub id: ListenerId,
    /// As in logs and metrics.
    pub name: Arc<str>,
    /// The network whose names alone it serves; `None` serves those of all networks.
    pub network: Option<NetworkId>,
    /// What is read before a connection is routed.
    pub protocol: Protocol,
    /// How bytes are moved.
    pub relay: RelayMode,
    /// Sources that must send a PROXY protocol header first. From all others it is refused.
    pub accept_proxy_from: Vec<IpNet>,
    /// Most connections at a time over all workers; `None` is no cap of its own.
    pub connections_max: Option<NonZeroU32>,
    /// Longest time from the accept to a whole hello, PROXY protocol header included; and from there
    /// to the end of a TLS handshake.
    pub hello_timeout: Duration,
    /// Longest time for one target to take the connection.
    pub connect_timeout: Duration,
    /// Longest time without a byte either way.
    pub idle_timeout: Duration,
    /// Longest time from one HTTP request to the next.
    pub keep_alive_timeout: Duration,
    /// Longest silence of a target before it answers an HTTP request.
    pub answer_timeout: Duration,
    /// What a client has said by ending its stream behind an HTTP request.
    pub half_close: HalfClose,
    /// Proxies whose word on where an HTTP request comes from is taken.
    pub trusted_proxies: Vec<IpNet>,
}

/// The listening sockets of a listener: see [`crate::Opening`].
#[derive(Debug)]
pub struct Sockets {
    /// Where they listen, with the port that the kernel chose for port 0.
    pub address: SocketAddr,
    /// One for each worker.
    pub each: Vec<OwnedFd>,
}

/// A listener in force, with what all workers count of it. What a worker accepted keeps the worker's
/// own copy, also when the listener is gone.
#[derive(Clone, Debug)]
pub(crate) struct Listening {
    declared: Arc<Listener>,
    /// Live connections over all workers, for the listener's cap.
    pub(crate) live: Load,
}

impl Listening {
    pub(crate) fn new(declared: Arc<Listener>, live: Load) -> Self {
        Self { declared, live }
    }

    /// What it routes by: itself, and the network whose names alone it serves.
    pub(crate) fn scope(&self) -> (ListenerId, Option<NetworkId>) {
        (self.declared.id, self.declared.network)
    }
}

impl Deref for Listening {
    type Target = Listener;

    fn deref(&self) -> &Listener {
        &self.declared
    }
}

/// What becomes of an HTTP request whose client ends its stream before the response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HalfClose {
    /// It is given up: the client has left.
    Abort,
    /// It is responded to, as long as the client takes what is sent to it.
    #[default]
    Respond,
}

/// What is read of a connection before it is routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// The TLS ClientHello: routed by its name, and passed on untouched unless the name ends its
    /// TLS here.
    Tls,
    /// The TLS ClientHello. All TLS ends here, and carries HTTP.
    Https,
    /// Nothing: everything goes to the listener's fixed route.
    Tcp,
    /// The head of each HTTP request: routed by its host, path, method and fields, and proxied.
    Http,
}

impl Protocol {
    /// Whether the client speaks first, so that its connection need not be seen before it has. What a
    /// listener's sockets are opened with depends on it.
    pub fn is_client_first(self) -> bool {
        matches!(self, Self::Tls | Self::Https)
    }
}

/// How bytes are moved from one socket to the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RelayMode {
    /// By copy; a bulk flow by splice where that measures cheaper on the flow itself.
    #[default]
    Auto,
    /// Through the worker's scratch buffer.
    Copy,
    /// Through a pipe, without a copy to user memory.
    Splice,
}
