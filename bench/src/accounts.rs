//! A store with a day of accounts, written the way a gateway writes them.

use std::path::Path;

use control_api::place::NetworkKey;

use anyhow::{Context, Result};
use control_api::state::{PrivateKey, PublicKey};
use control_store::{PeerSample, Raw, Retention, Sample, Store};

use crate::tenants;

/// Seconds between two rows of a peer: the gateway's default.
pub(crate) const ROW_SECONDS: u64 = 60;
/// Bytes that a peer sends in that time, and receives.
const RX_BYTES: u64 = 12_345;
const TX_BYTES: u64 = 67_890;

/// A day's accounts: every peer of the first networks has moved bytes in every minute.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Day {
    pub(crate) networks: u16,
    /// Of each network.
    pub(crate) peers: u16,
    pub(crate) minutes: u64,
    /// Unix time of the last row.
    pub(crate) end: u64,
}

impl Day {
    /// The rows that it has.
    pub(crate) fn rows(self) -> u64 {
        u64::from(self.networks) * u64::from(self.peers) * self.minutes
    }

    /// Unix time that all rows are after.
    pub(crate) fn start(self) -> u64 {
        self.end - self.minutes * ROW_SECONDS
    }

    /// Writes it into a new store at `path`.
    ///
    /// # Errors
    /// When the store does not take it.
    pub(crate) fn write(self, path: &Path) -> Result<()> {
        // Nothing is merged yet: it is the gateway's to do that.
        let retention = Retention {
            fine: Retention::default().fine * 2,
            ..Retention::default()
        };
        let store = Store::open_with(path, retention).context("cannot open a new store")?;
        let mut sample = Sample {
            peers: self.peers()?,
            ..Sample::default()
        };
        // The first reading of a peer counts in full, so every minute makes a row of each.
        for minute in 1..=self.minutes {
            sample.time_unix = self.start() + minute * ROW_SECONDS;
            for peer in &mut sample.peers {
                peer.raw.rx += RX_BYTES;
                peer.raw.tx += TX_BYTES;
            }
            store.accounts().record_sample(&sample);
            store
                .accounts()
                .flush()
                .wait()
                .context("cannot write the accounts")?;
        }
        Ok(())
    }

    fn peers(self) -> Result<Vec<PeerSample>> {
        let mut peers = Vec::new();
        for network in 0..self.networks {
            let private_key: PrivateKey = tenants::private_key(network).parse()?;
            let port = NetworkKey::new(tenants::port(network)).context("no port")?;
            let network_key: PublicKey = private_key.public_key();
            for peer in 0..self.peers {
                peers.push(PeerSample {
                    network: port,
                    network_key,
                    peer: tenants::peer_key(network, peer).parse()?,
                    raw: Raw {
                        epoch: 1,
                        rx: 0,
                        tx: 0,
                    },
                    last_handshake: None,
                    endpoint: None,
                });
            }
        }
        Ok(peers)
    }
}

#[cfg(test)]
mod tests {
    use control_store::{NetworkFilter, TrafficQuery};

    use super::*;

    #[test]
    fn a_day_has_as_many_rows_as_it_says() {
        let day = Day {
            networks: 2,
            peers: 3,
            minutes: 4,
            end: 1_000_000,
        };
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ringway.db");
        day.write(&path).unwrap();
        let store = Store::open(&path).unwrap();
        let rows = |network| {
            let query = TrafficQuery {
                since: day.start(),
                network,
                ..TrafficQuery::default()
            };
            let answer = store.accounts().traffic(query).wait().unwrap();
            let devices = answer
                .networks
                .values()
                .flat_map(|one| one.devices.values());
            devices.map(|device| device.times.len() as u64).sum::<u64>()
        };
        assert_eq!(rows(None), day.rows());
        let one: NetworkFilter = tenants::port(1).to_string().parse().unwrap();
        assert_eq!(rows(Some(one)), day.rows() / 2);
    }
}
