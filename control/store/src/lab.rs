//! What the tests share: a store in a directory of its own, and peers to count for.

use std::path::{Path, PathBuf};

use control_api::{
    answer::{Traffic, TrafficInfo},
    place::{NetworkKey, NetworkName},
    state::PublicKey,
};
use tempfile::TempDir;

use crate::{
    PeerSample, PeerTotal, Raw, RelaySample, Retention, Sample, Store, TrafficQuery, WriteError,
    writer::Writer,
};

/// A store, and the directory that goes with it.
pub(crate) struct Lab {
    pub(crate) store: Store,
    retention: Retention,
    // Dropped after the store.
    directory: TempDir,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Self::with(Retention::default())
    }

    pub(crate) fn with(retention: Retention) -> Self {
        let directory = TempDir::new().unwrap();
        let store = Store::open_with(&file(directory.path()), retention.clone()).unwrap();
        Self {
            store,
            retention,
            directory,
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        file(self.directory.path())
    }

    /// Ends the store as a process does that ends well, and opens it again.
    pub(crate) fn restart(self) -> Self {
        let Self {
            store,
            retention,
            directory,
        } = self;
        drop(store);
        let store = Store::open_with(&file(directory.path()), retention.clone()).unwrap();
        Self {
            store,
            retention,
            directory,
        }
    }

    /// Merges old rows until there is nothing left to merge.
    pub(crate) fn tidy(&self) {
        let tidied = self.store.threads.write(|writer: &mut Writer| {
            writer.tidy_all();
            Ok::<_, WriteError>(())
        });
        tidied.wait().unwrap();
    }

    /// A second connection to the file, as `sqlite3` would have it.
    pub(crate) fn connection(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.path()).unwrap()
    }

    pub(crate) fn count(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        self.connection()
            .query_row(&sql, [], |row| row.get(0))
            .unwrap()
    }

    pub(crate) fn traffic_since(&self, since: u64) -> TrafficInfo {
        let query = TrafficQuery {
            since,
            ..TrafficQuery::default()
        };
        self.store.accounts().traffic(query).wait().unwrap()
    }

    pub(crate) fn total(&self, peer: PublicKey) -> Traffic {
        let totals = self.store.accounts().peer_totals().wait().unwrap();
        let of_peer = |total: &PeerTotal| (total.peer == peer).then_some(total.traffic);
        totals.iter().find_map(of_peer).unwrap_or_default()
    }
}

fn file(directory: &Path) -> PathBuf {
    directory.join("store/ringway.db")
}

/// The key with this number.
pub(crate) fn key(number: u32) -> PublicKey {
    format!("{:064x}", u64::from(number) + 1).parse().unwrap()
}

pub(crate) fn port(port: u16) -> NetworkKey {
    NetworkKey::new(port).unwrap()
}

pub(crate) const PORT: u16 = 51820;

/// The key of the network of [`peer`].
pub(crate) fn network_key() -> PublicKey {
    key(1_000_000)
}

/// A reading of a peer of the network at [`PORT`].
pub(crate) fn peer(number: u32, raw: Raw) -> PeerSample {
    PeerSample {
        network: port(PORT),
        network_key: network_key(),
        peer: key(number),
        raw,
        last_handshake: None,
        endpoint: None,
    }
}

pub(crate) fn raw(epoch: u64, rx: u64, tx: u64) -> Raw {
    Raw { epoch, rx, tx }
}

pub(crate) fn peers(time_unix: u64, peers: &[PeerSample]) -> Sample {
    Sample {
        time_unix,
        peers: peers.to_vec(),
        relays: Vec::new(),
    }
}

/// What a client relayed over a route of the network at [`PORT`].
pub(crate) fn relay(route: &str, client: &str, bytes_in: u64, bytes_out: u64) -> RelaySample {
    RelaySample {
        network: NetworkName::Port(port(PORT)),
        network_key: None,
        route: route.to_owned(),
        client: client.parse().ok(),
        peer: None,
        bytes_in,
        bytes_out,
        connections: 1,
    }
}

pub(crate) fn relays(time_unix: u64, relays: &[RelaySample]) -> Sample {
    Sample {
        time_unix,
        peers: Vec::new(),
        relays: relays.to_vec(),
    }
}
