//! Devices that Ringway carries itself, in the words of the plan.

use std::{num::NonZeroUsize, path::Path, time::SystemTime};

use control_api::state::PublicKey;
use control_plan::{
    actual::ActualPeer,
    step::{DeviceChange, PeerChange, PeerSettings},
};
use engine_sys::netns::Netns;
use engine_wireguard::{Change, ConfigureError, Device, Key, Offloads, Open, PeerState, Pool};

use super::{error::UserspaceError, wireguard::Shown};
use crate::keys;

/// A device, and what tells it from later ones of its name.
#[derive(Debug)]
pub(super) struct Userspace {
    device: Device,
    pub(super) epoch: u64,
}

/// The threads that carry packets.
#[derive(Debug)]
pub(super) struct Carriers {
    pool: Option<Pool>,
    threads: NonZeroUsize,
    offloads: Offloads,
}

impl Carriers {
    pub(super) fn new(threads: NonZeroUsize, offload: bool) -> Self {
        Self {
            pool: None,
            threads,
            offloads: if offload {
                Offloads::ALL
            } else {
                Offloads::NONE
            },
        }
    }

    /// Starts the threads, unless they run: with the scheduling of the calling thread.
    pub(super) fn start(&mut self, sockets: &Path) -> Result<&Pool, UserspaceError> {
        match &mut self.pool {
            Some(pool) => Ok(pool),
            none => {
                let started = Pool::start_in(self.threads, sockets);
                let pool = started.map_err(UserspaceError::Start)?;
                Ok(none.insert(pool.with_offloads(self.offloads).with_lasting_links()))
            }
        }
    }

    /// Makes a device that speaks with nobody yet and listens on no port in particular.
    pub(super) fn open(
        &mut self,
        name: &str,
        mtu: u16,
        (tenant, host): (&Netns, &Netns),
        sockets: &Path,
        epoch: u64,
    ) -> Result<Userspace, UserspaceError> {
        let open = Open {
            name,
            tenant,
            host,
            mtu,
            listen_port: 0,
            private_key: Key::ZERO,
        };
        let device = self
            .start(sockets)?
            .open(open)
            .map_err(UserspaceError::Open)?;
        Ok(Userspace { device, epoch })
    }
}

impl Userspace {
    /// What it is; absent when its link was deleted.
    pub(super) fn show(&self) -> Option<Shown> {
        let state = self.device.state().ok()?;
        let peers = state.peers.iter();
        Some(Shown {
            // Links of userspace devices are found by name.
            index: 0,
            private_key: state
                .private_key
                .and_then(|key| keys::private(key.expose())),
            listen_port: state.listen_port,
            peers: peers.filter_map(show_peer).collect(),
        })
    }

    pub(super) fn change(&self, change: &DeviceChange) -> Result<(), UserspaceError> {
        let peers = change.peers.iter();
        let change = Change {
            private_key: change
                .private_key
                .as_ref()
                .map(|key| Key::new(*key.expose())),
            listen_port: change.listen_port.map(u16::from),
            replace_peers: false,
            peers: peers.map(|(key, change)| ask(key, change)).collect(),
        };
        self.device
            .configure(change)
            .map_err(UserspaceError::Configure)
    }

    /// Listens on some other port from now on. A device whose link was deleted has none.
    pub(super) fn free_port(&self) -> Result<(), UserspaceError> {
        let elsewhere = Change {
            listen_port: Some(0),
            ..Change::default()
        };
        match self.device.configure(elsewhere) {
            Ok(()) | Err(ConfigureError::Gone { .. }) => Ok(()),
            Err(refused) => Err(UserspaceError::Configure(refused)),
        }
    }

    pub(super) fn set_mtu(&self, tenant: &Netns, mtu: u16) -> Result<(), UserspaceError> {
        self.device
            .set_mtu(tenant, mtu)
            .map_err(UserspaceError::Mtu)
    }
}

fn ask(key: &PublicKey, change: &PeerChange) -> engine_wireguard::PeerChange {
    let peer = engine_wireguard::PeerChange::new((*key.as_bytes()).into());
    let PeerChange::Set(settings) = change else {
        return engine_wireguard::PeerChange {
            remove: true,
            ..peer
        };
    };
    let PeerSettings {
        preshared_key,
        endpoint,
        keep_alive,
        allowed_ips,
    } = settings;
    engine_wireguard::PeerChange {
        preshared_key: preshared_key
            .as_ref()
            .map(|secret| secret.as_ref().map(|secret| Key::new(*secret.expose()))),
        endpoint: *endpoint,
        keep_alive: *keep_alive,
        replace_allowed_ips: allowed_ips.is_some(),
        allowed_ips: allowed_ips.clone().unwrap_or_default(),
        ..peer
    }
}

fn show_peer(peer: &PeerState) -> Option<(PublicKey, ActualPeer)> {
    let key = keys::public(peer.public_key.as_bytes())?;
    let since = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).ok();
    let actual = ActualPeer {
        preshared_key: peer
            .preshared_key
            .as_ref()
            .and_then(|secret| keys::preshared(secret.expose())),
        endpoint: peer.endpoint,
        keep_alive: peer.keep_alive,
        allowed_ips: peer.allowed_ips.iter().copied().collect(),
        last_handshake: peer.last_handshake.and_then(since),
        rx: peer.rx_bytes,
        tx: peer.tx_bytes,
    };
    Some((key, actual))
}
