//! Reading requests, a line at a time.

use std::net::SocketAddr;

use ipnet::IpNet;

use super::conversation::{E2BIG, EINVAL, EOPNOTSUPP};
use crate::{
    change::{Change, PeerChange},
    key::{Key, PublicKey},
};

/// The most peers and prefixes, together, that one request names.
const ITEMS_MAX: usize = 1 << 17;

/// A whole request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// Tell the state.
    Get,
    /// Change it.
    Set(Change),
    /// Answer this error number.
    Wrong(i32),
}

/// The lines of a request so far.
#[derive(Debug, Default)]
pub(super) struct Reader {
    state: Reading,
}

#[derive(Debug, Default)]
enum Reading {
    /// Before the first line.
    #[default]
    Start,
    Get,
    Set {
        change: Change,
        items: usize,
    },
    /// Something was wrong; the rest of the request is passed over.
    Wrong(i32),
}

impl Reader {
    /// Takes a line, without its end. An empty one ends a request.
    pub(super) fn line(&mut self, line: &[u8]) -> Option<Request> {
        if line.is_empty() {
            return match std::mem::take(&mut self.state) {
                Reading::Start => None,
                Reading::Get => Some(Request::Get),
                Reading::Set { change, .. } => Some(Request::Set(change)),
                Reading::Wrong(errno) => Some(Request::Wrong(errno)),
            };
        }
        let read = split(line).and_then(|(key, value)| self.entry(key, value));
        if let Err(errno) = read {
            self.state = Reading::Wrong(errno);
        }
        None
    }

    fn entry(&mut self, key: &str, value: &str) -> Result<(), i32> {
        match (&mut self.state, key, value) {
            (Reading::Start, "get", "1") => self.state = Reading::Get,
            (Reading::Start, "set", "1") => {
                self.state = Reading::Set {
                    change: Change::default(),
                    items: 0,
                };
            }
            (Reading::Set { change, items }, ..) => {
                *items += usize::from(matches!(key, "public_key" | "allowed_ip"));
                if *items > ITEMS_MAX {
                    return Err(E2BIG);
                }
                return set(change, key, value);
            }
            (Reading::Wrong(_), ..) => {}
            (Reading::Start | Reading::Get, ..) => return Err(EINVAL),
        }
        Ok(())
    }
}

fn split(line: &[u8]) -> Result<(&str, &str), i32> {
    let line = str::from_utf8(line).map_err(|_| EINVAL)?;
    line.split_once('=').ok_or(EINVAL)
}

/// Keys of the device come first, then those of peers, each after its `public_key`.
fn set(change: &mut Change, key: &str, value: &str) -> Result<(), i32> {
    if key == "public_key" {
        let public_key = PublicKey::new(key_bytes(value)?);
        change.peers.push(PeerChange::new(public_key));
        return Ok(());
    }
    match change.peers.last_mut() {
        Some(peer) => set_peer(peer, key, value),
        None => set_device(change, key, value),
    }
}

fn set_device(change: &mut Change, key: &str, value: &str) -> Result<(), i32> {
    match key {
        "private_key" => change.private_key = Some(Key::new(key_bytes(value)?)),
        "listen_port" => change.listen_port = Some(value.parse().map_err(|_| EINVAL)?),
        "replace_peers" => change.replace_peers = truth(value)?,
        // There is no mark on our datagrams, and none is what it may be set to.
        "fwmark" if matches!(value, "" | "0") => {}
        "fwmark" => return Err(EOPNOTSUPP),
        _ => return Err(EINVAL),
    }
    Ok(())
}

fn set_peer(peer: &mut PeerChange, key: &str, value: &str) -> Result<(), i32> {
    match key {
        "remove" => peer.remove = truth(value)?,
        "update_only" => peer.update_only = truth(value)?,
        "preshared_key" => {
            let preshared_key = Key::new(key_bytes(value)?);
            peer.preshared_key = Some((!preshared_key.is_zero()).then_some(preshared_key));
        }
        "endpoint" => peer.endpoint = Some(endpoint(value)?),
        "persistent_keepalive_interval" => {
            peer.keep_alive = Some(value.parse().map_err(|_| EINVAL)?);
        }
        "replace_allowed_ips" => peer.replace_allowed_ips = truth(value)?,
        "allowed_ip" => peer.allowed_ips.push(prefix(value)?),
        "protocol_version" if value == "1" => {}
        _ => return Err(EINVAL),
    }
    Ok(())
}

fn truth(value: &str) -> Result<bool, i32> {
    (value == "true").then_some(true).ok_or(EINVAL)
}

fn endpoint(value: &str) -> Result<SocketAddr, i32> {
    value.parse().map_err(|_| EINVAL)
}

/// A prefix, or an address that stands for itself alone.
fn prefix(value: &str) -> Result<IpNet, i32> {
    let prefix: Result<IpNet, _> = value.parse();
    let alone = || {
        value
            .parse()
            .map(|address: std::net::IpAddr| IpNet::from(address))
    };
    prefix.or_else(|_| alone()).map_err(|_| EINVAL)
}

/// 32 bytes in 64 hexadecimal digits.
fn key_bytes(value: &str) -> Result<[u8; 32], i32> {
    let digits = value.as_bytes();
    if digits.len() != 64 {
        return Err(EINVAL);
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(bytes)
}

fn digit(digit: u8) -> Result<u8, i32> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(EINVAL),
    }
}
