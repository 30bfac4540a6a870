//! Where a peer is, and which of the host's addresses it knows.

use std::net::{IpAddr, SocketAddr};

/// Between which two addresses messages go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    /// The peer.
    pub(crate) remote: SocketAddr,
    /// The address that it spoke to, which answers leave from; `None` until it spoke.
    pub(crate) local: Option<IpAddr>,
}

impl Path {
    /// A path to a place that was only named so far.
    pub(crate) fn to(remote: SocketAddr) -> Self {
        Self {
            remote,
            local: None,
        }
    }
}
