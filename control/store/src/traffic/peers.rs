//! What WireGuard counted, read.

use std::collections::HashMap;

use control_api::answer::{DeviceTraffic, Traffic, TrafficInfo};
use rusqlite::Transaction;

use super::{
    Group, TrafficQuery,
    select::{Kind, Selection},
};
use crate::{
    Accounts, Answer, ReadError,
    frontier::Reach,
    ledger::Told,
    names::{key_text, network_label},
    number::from_amount,
};

const PEERS: Kind = Kind {
    rows: "peer_rows",
    owner: "peer",
    by_owner: "peer_rows_by_peer",
    owners: "peers",
    peer_key: "public_key",
    open: "o.id, o.total_rx - o.rowed_rx, o.total_tx - o.rowed_tx",
    is_open: "o.total_rx <> o.rowed_rx OR o.total_tx <> o.rowed_tx",
};

impl Accounts {
    /// What WireGuard counted, strictly after `since`. What is answered once never changes, and
    /// going on from `stop_time` or `next` gets everything else, once.
    pub fn traffic(&self, query: TrafficQuery) -> Answer<TrafficInfo, ReadError> {
        self.threads.read(move |reader| {
            let doing = "reading the traffic";
            let info = reader.read_traffic(doing, &query, |transaction, reach| {
                read(transaction, &query, reach)
            })?;
            reader.note_answer(Told {
                since: info.start_time,
                stop: info.stop_time,
                next: info.next,
            });
            Ok(info)
        })
    }
}

fn read(
    transaction: &Transaction<'_>,
    query: &TrafficQuery,
    reach: Reach,
) -> rusqlite::Result<TrafficInfo> {
    let selection = Selection::new(transaction, query, reach, PEERS)?;
    let mut info = TrafficInfo {
        start_time: query.since,
        stop_time: query.since,
        next: selection.next,
        more: selection.more,
        ..TrafficInfo::default()
    };
    let mut devices = HashMap::<i64, DeviceTraffic>::new();
    let sql = selection.sql(PEERS, "r.peer, r.time, r.rx, r.tx", "");
    let mut statement = transaction.prepare_cached(&sql)?;
    let mut rows = statement.query(selection.values().as_slice())?;
    while let Some(row) = rows.next()? {
        let time = from_amount(row.get(1)?);
        info.stop_time = info.stop_time.max(time);
        let traffic = Traffic {
            rx: from_amount(row.get(2)?),
            tx: from_amount(row.get(3)?),
        };
        let device = devices.entry(row.get(0)?).or_default();
        device.add(Group::start(query.group, time), traffic);
    }
    if let Some(time) = selection.open {
        let sql = selection.open_sql(PEERS);
        let mut statement = transaction.prepare_cached(&sql)?;
        let mut rows = statement.query(selection.open_values().as_slice())?;
        while let Some(row) = rows.next()? {
            info.stop_time = time;
            let traffic = Traffic {
                rx: from_amount(row.get(1)?),
                tx: from_amount(row.get(2)?),
            };
            let device = devices.entry(row.get(0)?).or_default();
            device.add(Group::start(query.group, time), traffic);
        }
    }
    for (peer, device) in devices {
        insert(&mut info, transaction, peer, device)?;
    }
    Ok(info)
}

fn insert(
    info: &mut TrafficInfo,
    transaction: &Transaction<'_>,
    peer: i64,
    device: DeviceTraffic,
) -> rusqlite::Result<()> {
    let sql = "SELECT n.name, n.public_key, p.public_key
        FROM peers AS p JOIN networks AS n ON n.id = p.network WHERE p.id = ?";
    let (network, peer) = transaction.prepare_cached(sql)?.query_row([peer], |row| {
        Ok((network_label(row, 0)?, key_text(row, 2)?))
    })?;
    info.traffic.add(device.traffic);
    let network = info.networks.entry(network).or_default();
    network.traffic.add(device.traffic);
    // A peer of a network that had several names is shown once.
    let shown = network.devices.entry(peer).or_default();
    for (time, traffic) in device.times {
        shown.add(time, traffic);
    }
    Ok(())
}
