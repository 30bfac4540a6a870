//! What was counted, into the totals.

use std::{collections::HashMap, net::IpAddr};

use control_api::{place::NetworkName, state::PublicKey};
use control_plan::sample::{Delta, Raw};
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::cut::Clock;
use crate::{
    answers,
    ledger::{Batch, PeerChange, PeerId, RelayChange, RelayId},
    number::{amount, bits, from_amount, from_bits},
};

/// Writes a batch and moves the clock to it.
pub(super) fn save(
    transaction: &Transaction<'_>,
    batch: &Batch,
    clock: &mut Clock,
) -> rusqlite::Result<()> {
    if batch.counts() {
        clock.sample(batch.time);
        clock.write(transaction)?;
    }
    let mut networks = Networks::default();
    // Those that follow what another account of the same peer counts come after it: what came before
    // that one is asked of the file, which is not to answer what came later.
    let (following, first): (Vec<_>, Vec<_>) = batch
        .peers
        .iter()
        .partition(|(_, change)| change.span.is_following());
    for (id, change) in first.into_iter().chain(following) {
        let name = NetworkName::Port(id.network);
        let network = networks.find(transaction, &name, Some(id.network_key))?;
        save_peer(transaction, network, id, change, clock.sampled)?;
    }
    for (id, change) in &batch.relays {
        let route = &id.route;
        let network = networks.find(transaction, &route.network, route.network_key)?;
        save_relay(transaction, network.id, id, change)?;
    }
    answers::note(transaction, &batch.answers)
}

/// The networks of a batch, each looked up once.
#[derive(Default)]
struct Networks(HashMap<(NetworkName, Option<PublicKey>), Network>);

/// A network's row.
#[derive(Clone, Copy)]
struct Network {
    id: i64,
    /// Whether there is one of its name with another key.
    had_other_keys: bool,
}

impl Networks {
    fn find(
        &mut self,
        transaction: &Transaction<'_>,
        name: &NetworkName,
        key: Option<PublicKey>,
    ) -> rusqlite::Result<Network> {
        let known = (name.clone(), key);
        if let Some(network) = self.0.get(&known) {
            return Ok(*network);
        }
        let values = params![name.to_string(), key_bytes(key.as_ref())];
        // An update that changes nothing answers the id of what is there already.
        let sql = "INSERT INTO networks (name, public_key) VALUES (?, ?)
            ON CONFLICT DO UPDATE SET name = excluded.name RETURNING id";
        let id = transaction
            .prepare_cached(sql)?
            .query_row(values, |row| row.get(0))?;
        let sql = "SELECT EXISTS (SELECT 1 FROM networks WHERE name = ? AND id <> ?)";
        let network = Network {
            id,
            had_other_keys: transaction
                .prepare_cached(sql)?
                .query_row((name.to_string(), id), |row| row.get(0))?,
        };
        self.0.insert(known, network);
        Ok(network)
    }
}

/// A peer's books.
struct Account {
    id: i64,
    raw: Raw,
    total: Delta,
}

fn save_peer(
    transaction: &Transaction<'_>,
    network: Network,
    id: &PeerId,
    change: &PeerChange,
    time: u64,
) -> rusqlite::Result<()> {
    let key = id.peer.as_bytes();
    let account = account(transaction, network.id, key)?;
    let before = if network.had_other_keys {
        last_raw(transaction, network.id, key)?
    } else {
        account.as_ref().map(|account| account.raw)
    };
    let raw = change.span.last();
    let booked = account.as_ref().map_or(Delta::default(), |it| it.total);
    let total = booked.plus(change.span.after(before));
    let handshake = change.last_handshake.map(amount);
    let endpoint = change.endpoint.map(|endpoint| endpoint.to_string());
    let (time, epoch) = (amount(time), bits(raw.epoch));
    let (raw_rx, raw_tx) = (bits(raw.rx), bits(raw.tx));
    let (rx, tx) = (amount(total.rx), amount(total.tx));
    match account {
        Some(account) => {
            let sql = "UPDATE peers SET changed = ?, epoch = ?, raw_rx = ?, raw_tx = ?,
                    total_rx = ?, total_tx = ?, last_handshake = ifnull(?, last_handshake),
                    endpoint = ifnull(?, endpoint)
                WHERE id = ?";
            transaction.prepare_cached(sql)?.execute(params![
                time, epoch, raw_rx, raw_tx, rx, tx, handshake, endpoint, account.id,
            ])?;
        }
        None => {
            let sql = "INSERT INTO peers (network, public_key, first_seen, changed, epoch,
                    raw_rx, raw_tx, total_rx, total_tx, last_handshake, endpoint)
                VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
            transaction.prepare_cached(sql)?.execute(params![
                network.id, key, time, time, epoch, raw_rx, raw_tx, rx, tx, handshake, endpoint,
            ])?;
        }
    }
    Ok(())
}

fn account(
    transaction: &Transaction<'_>,
    network: i64,
    key: &[u8; 32],
) -> rusqlite::Result<Option<Account>> {
    let sql = "SELECT id, epoch, raw_rx, raw_tx, total_rx, total_tx FROM peers
        WHERE network = ? AND public_key = ?";
    transaction
        .prepare_cached(sql)?
        .query_row((network, key), |row| {
            Ok(Account {
                id: row.get(0)?,
                raw: Raw {
                    epoch: from_bits(row.get(1)?),
                    rx: from_bits(row.get(2)?),
                    tx: from_bits(row.get(3)?),
                },
                total: Delta {
                    rx: from_amount(row.get(4)?),
                    tx: from_amount(row.get(5)?),
                },
            })
        })
        .optional()
}

/// What a peer's counters said last, whichever key its network had then: a device that gets another
/// key counts on. The epoch tells whether it still is that device.
fn last_raw(
    transaction: &Transaction<'_>,
    network: i64,
    key: &[u8; 32],
) -> rusqlite::Result<Option<Raw>> {
    // Of two that were written together, the one that counted more is the later.
    let sql = "SELECT p.epoch, p.raw_rx, p.raw_tx FROM networks AS mine
        JOIN networks AS n ON n.name = mine.name
        JOIN peers AS p ON p.network = n.id AND p.public_key = ?2
        WHERE mine.id = ?1 ORDER BY p.changed DESC, p.raw_rx DESC, p.raw_tx DESC LIMIT 1";
    transaction
        .prepare_cached(sql)?
        .query_row((network, key), |row| {
            Ok(Raw {
                epoch: from_bits(row.get(0)?),
                rx: from_bits(row.get(1)?),
                tx: from_bits(row.get(2)?),
            })
        })
        .optional()
}

fn save_relay(
    transaction: &Transaction<'_>,
    network: i64,
    id: &RelayId,
    change: &RelayChange,
) -> rusqlite::Result<()> {
    // A sum that leaves 63 bits would become a floating-point number: it stops there instead.
    let sql = "INSERT INTO relays
            (network, route, client, peer, total_in, total_out, total_connections)
        VALUES (?, ?, ?, ?, ?, ?, ?)
        ON CONFLICT (network, route, client, peer) DO UPDATE SET
            total_in = total_in + min(excluded.total_in, 0x7fffffffffffffff - total_in),
            total_out = total_out + min(excluded.total_out, 0x7fffffffffffffff - total_out),
            total_connections = total_connections
                + min(excluded.total_connections, 0x7fffffffffffffff - total_connections)";
    transaction.prepare_cached(sql)?.execute(params![
        network,
        id.route.route,
        client_bytes(id.client),
        key_bytes(id.peer.as_ref()),
        amount(change.bytes_in),
        amount(change.bytes_out),
        amount(change.connections),
    ])?;
    Ok(())
}

/// A key as its column has it: empty if there is none.
fn key_bytes(key: Option<&PublicKey>) -> &[u8] {
    key.map_or(&[], |key| key.as_bytes())
}

fn client_bytes(client: Option<IpAddr>) -> Vec<u8> {
    match client {
        Some(IpAddr::V4(address)) => address.octets().to_vec(),
        Some(IpAddr::V6(address)) => address.octets().to_vec(),
        None => Vec::new(),
    }
}
