//! What a device says of itself.

use std::{net::SocketAddr, sync::Arc, time::SystemTime};

use ipnet::IpNet;

use crate::key::{Key, PublicKey};

/// A device as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Its own key, if it has one.
    pub private_key: Option<Key>,
    /// The public half of it.
    pub public_key: Option<PublicKey>,
    /// The UDP port that it listens on.
    pub listen_port: u16,
    /// The largest packet that it carries.
    pub mtu: u16,
    /// Its peers, in the order in which they came.
    pub peers: Vec<PeerState>,
}

/// A peer as it is.
///
/// The bytes are counted exactly as the kernel module counts them (`drivers/net/wireguard`,
/// `update_rx_stats` in `receive.c`, `wg_socket_send_skb_to_peer` in `socket.c`): whole WireGuard
/// messages, that is the payloads of the UDP datagrams, with their headers of 16 bytes, the padding
/// and the authenticators of 16 bytes, handshakes and keep-alives included, cookies not. Received
/// messages count when they were authenticated and what was inside was accepted; sent ones when
/// they were handed to the socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerState {
    /// Who it is.
    pub public_key: PublicKey,
    /// The secret beside the keys, if there is one.
    pub preshared_key: Option<Key>,
    /// Where it was last heard from, or is expected.
    pub endpoint: Option<SocketAddr>,
    /// When a handshake with it was last completed.
    pub last_handshake: Option<SystemTime>,
    /// Bytes received from it.
    pub rx_bytes: u64,
    /// Bytes sent to it.
    pub tx_bytes: u64,
    /// The seconds of silence before a keep-alive; 0 is never.
    pub keep_alive: u16,
    /// The addresses that it may use, in the order in which they were given.
    pub allowed_ips: Arc<[IpNet]>,
}
