//! The kernel's side of all networks: what is there, what is wrong with it, and what it moved.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use control_api::{
    answer::{DeviceStatus, Event},
    place::{NetworkKey, NetworkName},
    state::Desired,
};
use control_http::Reconciles;
use control_kernel::Linux;
use control_plan::{
    NamespaceSource,
    actual::Backend,
    plan::{Known, place_of, places},
    sample::Delta,
};
use control_store::{ReadError, Store};
use rpds::RedBlackTreeMapSync;
use tokio::sync::broadcast;

use super::{
    Heartbeat, clock::AccountsClock, degraded::Degraded, news::News, owners::Owners, peers::Peers,
    records::Records,
};

/// All networks.
#[derive(Debug)]
pub(crate) struct Networks {
    pub(super) kernel: Linux,
    pub(super) records: Records,
    pub(super) store: Store,
    pub(super) clock: AccountsClock,
    pub(super) news: News,
    pub(super) heartbeat: Arc<Heartbeat>,
    /// Who has to carry the packets; absent where it does not matter.
    pub(super) backend: Option<Backend>,
    pub(super) known: Known,
    pub(super) degraded: Degraded,
    pub(super) peers: Peers,
    pub(super) owners: Owners,
    /// Devices as they were observed last.
    pub(super) devices: RedBlackTreeMapSync<NetworkKey, DeviceStatus>,
    /// What is set in the devices, as of the last sample.
    pub(super) settings: BTreeMap<NetworkKey, u64>,
    pub(super) reconciles: Reconciles,
    /// Addresses that devices have lost, and that flows may still leave from.
    pub(super) withdrawn: BTreeMap<NetworkKey, HashSet<IpAddr>>,
}

impl Networks {
    /// None of them touched yet. What the store knows of owners, peers and endpoints is taken over.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) fn new(
        (kernel, backend): (Linux, Option<Backend>),
        store: Store,
        events: broadcast::Sender<Event>,
        heartbeat: Arc<Heartbeat>,
        desired: &Desired,
        now: Duration,
    ) -> Result<Self, ReadError> {
        let mut networks = Self {
            backend,
            kernel,
            records: Records::load(store.desired())?,
            news: News::new(store.audit(), events),
            clock: AccountsClock::after(store.accounts().last_stamp()),
            store,
            heartbeat,
            known: Known::default(),
            degraded: Degraded::default(),
            peers: Peers::new(now),
            owners: Owners::of(desired),
            devices: RedBlackTreeMapSync::new_sync(),
            settings: BTreeMap::new(),
            reconciles: Reconciles::default(),
            withdrawn: BTreeMap::new(),
        };
        networks.known.settle(desired, desired.networks.keys());
        networks.remember_peers()?;
        Ok(networks)
    }

    /// Takes over where peers were seen last, and what they moved so far.
    fn remember_peers(&mut self) -> Result<(), ReadError> {
        for peer in self.store.accounts().peer_totals().wait()? {
            let NetworkName::Port(network) = peer.network else {
                continue;
            };
            // A port that got another key is another network.
            if self.owners.public_key(network) != peer.network_key {
                continue;
            }
            let total = Delta {
                rx: peer.traffic.rx,
                tx: peer.traffic.tx,
            };
            self.peers
                .remember(network, peer.peer, Some(peer.raw), total);
            if let Some(endpoint) = peer.endpoint {
                self.known.see(network, &peer.peer, endpoint);
            }
        }
        Ok(())
    }

    /// Lets go of the namespaces that neither the desired state nor a record names any longer.
    pub(super) fn release_places(&mut self, desired: &Desired) {
        let recorded = places(desired, self.records.all(), None).into_values();
        let wanted: BTreeSet<NamespaceSource> = desired
            .networks
            .values()
            .map(place_of)
            .chain(recorded)
            .collect();
        self.kernel.release_all_but(|place| wanted.contains(place));
    }
}
