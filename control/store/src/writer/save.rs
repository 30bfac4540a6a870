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
    for (id, change) in &batch.peers {
        let name = NetworkName::Port(id.network);
        let network = networks.id(transaction, &name, Some(id.network_key))?;
        save_peer(transaction, network, id, change, clock.sampled)?;
    }
    for (id, change) in &batch.relays {
        let route = &id.route;
        let network = networks.id(transaction, &route.network, route.network_key)?;
        save_relay(transaction, network, id, change)?;
    }
    answers::note(transaction, &batch.answers)
}

/// The networks of a batch, each looked up once.
#[derive(Default)]
struct Networks(HashMap<(NetworkName, Option<PublicKey>), i64>);

impl Networks {
    fn id(
        &mut self,
        transaction: &Transaction<'_>,
        name: &NetworkName,
        key: Option<PublicKey>,
    ) -> rusqlite::Result<i64> {
        let known = (name.clone(), key);
        if let Some(id) = self.0.get(&known) {
            return Ok(*id);
        }
        let values = params![name.to_string(), key_bytes(key.as_ref())];
        // An update that changes nothing answers the id of what is there already.
        let sql = "INSERT INTO networks (name, public_key) VALUES (?, ?)
            ON CONFLICT DO UPDATE SET name = excluded.name RETURNING id";
        let id = transaction
            .prepare_cached(sql)?
            .query_row(values, |row| row.get(0))?;
        self.0.insert(known, id);
        Ok(id)
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
    network: i64,
    id: &PeerId,
    change: &PeerChange,
    time: u64,
) -> rusqlite::Result<()> {
    let key = id.peer.as_bytes();
    let account = account(transaction, network, key)?;
    let before = account.as_ref().map(|account| account.raw);
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
                network, key, time, time, epoch, raw_rx, raw_tx, rx, tx, handshake, endpoint,
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
