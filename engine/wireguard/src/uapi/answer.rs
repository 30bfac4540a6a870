//! Writing answers.

use std::{
    io::Write as _,
    time::{Duration, UNIX_EPOCH},
};

use crate::state::{PeerState, State};

/// Ends an answer; 0 is success.
pub(super) fn write_errno(errno: i32, into: &mut Vec<u8>) {
    line(into, "errno", format_args!("{}", -errno));
    into.push(b'\n');
}

/// A whole state, with its end.
pub(super) fn write_state(state: &State, into: &mut Vec<u8>) {
    if let Some(private_key) = &state.private_key {
        line(into, "private_key", Hex(private_key.expose()));
    }
    line(into, "listen_port", state.listen_port);
    for peer in &state.peers {
        write_peer(peer, into);
    }
    write_errno(0, into);
}

fn write_peer(peer: &PeerState, into: &mut Vec<u8>) {
    line(into, "public_key", Hex(peer.public_key.as_bytes()));
    if let Some(preshared_key) = &peer.preshared_key {
        line(into, "preshared_key", Hex(preshared_key.expose()));
    }
    line(into, "protocol_version", 1);
    if let Some(endpoint) = peer.endpoint {
        line(into, "endpoint", endpoint);
    }
    let since_epoch = peer.last_handshake.map(|at| at.duration_since(UNIX_EPOCH));
    let at = since_epoch.map_or(Duration::ZERO, Result::unwrap_or_default);
    line(into, "last_handshake_time_sec", at.as_secs());
    line(into, "last_handshake_time_nsec", at.subsec_nanos());
    line(into, "tx_bytes", peer.tx_bytes);
    line(into, "rx_bytes", peer.rx_bytes);
    line(into, "persistent_keepalive_interval", peer.keep_alive);
    for prefix in peer.allowed_ips.iter() {
        line(into, "allowed_ip", prefix);
    }
}

fn line(into: &mut Vec<u8>, key: &str, value: impl std::fmt::Display) {
    // Memory takes everything.
    let _ = writeln!(into, "{key}={value}");
}

struct Hex<'a>(&'a [u8; 32]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
