//! What the engine relayed, read.

use std::collections::{BTreeMap, HashMap};

use control_api::answer::{Relayed, RoutesTraffic};
use rusqlite::{Row, Transaction};

use super::{
    Group, TrafficQuery,
    select::{Kind, Selection},
};
use crate::{
    Accounts, Answer, ReadError,
    frontier::Reach,
    ledger::Told,
    names::{client_text, network_label, peer_text},
    number::from_amount,
};

const RELAYS: Kind = Kind {
    rows: "relay_rows",
    owner: "relay",
    by_owner: "relay_rows_by_relay",
    owners: "relays",
    peer_key: "peer",
    open: "o.id, o.total_in - o.rowed_in, o.total_out - o.rowed_out,
        o.total_connections - o.rowed_connections",
    is_open: "o.total_in <> o.rowed_in OR o.total_out <> o.rowed_out
        OR o.total_connections <> o.rowed_connections",
};

/// What one client relayed over one route to one peer.
#[derive(Default)]
struct Relay {
    traffic: Relayed,
    times: BTreeMap<u64, Relayed>,
}

impl Accounts {
    /// What the engine relayed, by network, route and client; as exact as [`Accounts::traffic`], and
    /// in the same steps of time.
    pub fn routes_traffic(&self, query: TrafficQuery) -> Answer<RoutesTraffic, ReadError> {
        self.threads.read(move |reader| {
            let doing = "reading what was relayed";
            let answer = reader.read_traffic(doing, &query, |transaction, reach| {
                read(transaction, &query, reach)
            })?;
            reader.note_answer(Told {
                since: answer.start_time,
                stop: answer.stop_time,
                next: answer.next,
            });
            Ok(answer)
        })
    }
}

fn read(
    transaction: &Transaction<'_>,
    query: &TrafficQuery,
    reach: Reach,
) -> rusqlite::Result<RoutesTraffic> {
    let selection = Selection::new(transaction, query, reach, RELAYS)?;
    let mut answer = RoutesTraffic {
        start_time: query.since,
        stop_time: query.since,
        next: selection.next,
        more: selection.more,
        ..RoutesTraffic::default()
    };
    let mut relays = HashMap::<i64, Relay>::new();
    let columns = "r.relay, r.time, r.bytes_in, r.bytes_out, r.connections";
    let sql = selection.sql(RELAYS, columns, "");
    let mut statement = transaction.prepare_cached(&sql)?;
    let mut rows = statement.query(selection.values().as_slice())?;
    while let Some(row) = rows.next()? {
        let time = from_amount(row.get(1)?);
        answer.stop_time = answer.stop_time.max(time);
        let traffic = relayed(row, 2)?;
        let relay = relays.entry(row.get(0)?).or_default();
        relay.traffic.add(traffic);
        let shown = relay.times.entry(Group::start(query.group, time));
        shown.or_default().add(traffic);
    }
    if let Some(time) = selection.open {
        let sql = selection.open_sql(RELAYS);
        let mut statement = transaction.prepare_cached(&sql)?;
        let mut rows = statement.query(selection.open_values().as_slice())?;
        while let Some(row) = rows.next()? {
            answer.stop_time = time;
            let traffic = relayed(row, 1)?;
            let relay = relays.entry(row.get(0)?).or_default();
            relay.traffic.add(traffic);
            let shown = relay.times.entry(Group::start(query.group, time));
            shown.or_default().add(traffic);
        }
    }
    for (id, relay) in relays {
        insert(&mut answer, transaction, id, relay)?;
    }
    Ok(answer)
}

fn relayed(row: &Row<'_>, first: usize) -> rusqlite::Result<Relayed> {
    Ok(Relayed {
        bytes_in: from_amount(row.get(first)?),
        bytes_out: from_amount(row.get(first + 1)?),
        connections: from_amount(row.get(first + 2)?),
    })
}

fn insert(
    answer: &mut RoutesTraffic,
    transaction: &Transaction<'_>,
    id: i64,
    relay: Relay,
) -> rusqlite::Result<()> {
    let sql = "SELECT n.name, n.public_key, r.route, r.client, r.peer
        FROM relays AS r JOIN networks AS n ON n.id = r.network WHERE r.id = ?";
    let (network, route, client, peer) =
        transaction.prepare_cached(sql)?.query_row([id], |row| {
            let route: String = row.get(2)?;
            let client = client_text(row, 3)?;
            Ok((network_label(row, 0)?, route, client, peer_text(row, 4)?))
        })?;
    answer.traffic.add(relay.traffic);
    let network = answer.networks.entry(network).or_default();
    network.traffic.add(relay.traffic);
    let route = network.routes.entry(route).or_default();
    route.traffic.add(relay.traffic);
    let client = route.clients.entry(client).or_default();
    client.traffic.add(relay.traffic);
    if let Some(peer) = peer {
        client.peers.entry(peer).or_default().add(relay.traffic);
    }
    for (time, traffic) in relay.times {
        client.times.entry(time).or_default().add(traffic);
    }
    Ok(())
}
