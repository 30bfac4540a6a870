//! What the engine relayed, read.

use std::collections::{BTreeMap, HashMap};

use control_api::answer::{Relayed, RoutesTraffic};
use rusqlite::Transaction;

use super::{
    Group, TrafficQuery,
    select::{Kind, Selection},
};
use crate::{
    Accounts, Answer, ReadError,
    names::{client_text, network_label, peer_text},
    number::from_amount,
};

const RELAYS: Kind = Kind {
    rows: "relay_rows",
    owner: "relay",
    by_owner: "relay_rows_by_relay",
    owners: "relays",
    peer_key: "peer",
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
            reader.cut(query.until);
            let answer = reader.read("reading what was relayed", |transaction| {
                read(transaction, &query)
            })?;
            reader.note_answer(answer.start_time, answer.stop_time);
            Ok(answer)
        })
    }
}

fn read(transaction: &Transaction<'_>, query: &TrafficQuery) -> rusqlite::Result<RoutesTraffic> {
    let selection = Selection::new(transaction, query, RELAYS)?;
    let mut answer = RoutesTraffic {
        start_time: query.since,
        stop_time: query.since,
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
        let traffic = Relayed {
            bytes_in: from_amount(row.get(2)?),
            bytes_out: from_amount(row.get(3)?),
            connections: from_amount(row.get(4)?),
        };
        let relay = relays.entry(row.get(0)?).or_default();
        relay.traffic.add(traffic);
        let shown = relay.times.entry(Group::start(query.group, time));
        shown.or_default().add(traffic);
    }
    for (id, relay) in relays {
        insert(&mut answer, transaction, id, relay)?;
    }
    Ok(answer)
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
