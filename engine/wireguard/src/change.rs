//! What is asked of a device.

use std::net::SocketAddr;

use ipnet::IpNet;

use crate::key::{Key, PublicKey};

/// A change to a device. Its meaning is that of the kernel's `WG_CMD_SET_DEVICE`
/// (`include/uapi/linux/wireguard.h`): what is not named stays as it is, peers are taken in order,
/// and sessions with peers that a change does not touch go on.
///
/// The default changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The device's own key; [`Key::ZERO`] takes it away. Another key ends every session, and a
    /// peer that has this very key is removed.
    pub private_key: Option<Key>,
    /// The UDP port to listen on; 0 lets the kernel choose one.
    pub listen_port: Option<u16>,
    /// Removes every peer first.
    pub replace_peers: bool,
    /// The peers to add, change or remove.
    pub peers: Vec<PeerChange>,
}

/// A change to one peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerChange {
    /// Which peer.
    pub public_key: PublicKey,
    /// Remove it; the rest is not looked at.
    pub remove: bool,
    /// Do nothing when there is no such peer.
    pub update_only: bool,
    /// The pre-shared key: `None` leaves it, `Some(None)` and a zero key take it away. Another key
    /// than before ends the peer's sessions.
    pub preshared_key: Option<Option<Key>>,
    /// Where it is.
    pub endpoint: Option<SocketAddr>,
    /// After how many seconds of silence a keep-alive is sent; 0 is never.
    pub keep_alive: Option<u16>,
    /// Takes every allowed address from it first.
    pub replace_allowed_ips: bool,
    /// Addresses that it may use and that are sent to it. An address that another peer has moves
    /// to this one at once. Host bits are cut off.
    pub allowed_ips: Vec<IpNet>,
}

impl PeerChange {
    /// A change that makes sure of the peer and changes nothing else.
    pub fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            remove: false,
            update_only: false,
            preshared_key: None,
            endpoint: None,
            keep_alive: None,
            replace_allowed_ips: false,
            allowed_ips: Vec::new(),
        }
    }
}
