//! How long questions and samples take when there is much. Figures, not assertions: run with
//! `--ignored --nocapture --release`.

use std::time::Instant;

use crate::{
    Group, NetworkFilter, TrafficQuery,
    lab::{Lab, key, peer, peers, port, raw},
};

const NETWORKS: u16 = 100;
const PEERS: u32 = 10;
const ROWS_PER_PEER: u64 = 1_440;

/// A day of a network among 1.4 million rows.
#[test]
#[ignore = "measures: takes half a minute"]
fn a_day_of_one_network_among_a_million_rows() {
    let lab = Lab::new();
    for minute in 1..=ROWS_PER_PEER {
        let mut sample = peers(minute * 60, &[]);
        for network in 0..NETWORKS {
            for number in 0..PEERS {
                let id = u32::from(network) * PEERS + number;
                let mut one = peer(id, raw(1, minute * 1_000, minute * 100));
                one.network = port(50_000 + network);
                one.network_key = key(2_000_000 + u32::from(network));
                sample.peers.push(one);
            }
        }
        lab.store.accounts().record_sample(&sample);
        lab.store.accounts().flush().wait().unwrap();
    }
    println!("{} rows", lab.count("peer_rows"));
    let day = |group, network| TrafficQuery {
        since: 0,
        network,
        group,
        ..TrafficQuery::default()
    };
    let one = Some(NetworkFilter::from(port(50_042)));
    for (what, query) in [
        ("a day of one network", day(None, one.clone())),
        ("a day of one network, by hour", day(Some(Group::Hour), one)),
        ("a day of all, by day", day(Some(Group::Day), None)),
    ] {
        for _ in 0..3 {
            let start = Instant::now();
            let info = lab.store.accounts().traffic(query.clone()).wait().unwrap();
            let asked = start.elapsed();
            let bytes = serde_json::to_vec(&info).unwrap().len();
            println!(
                "{what}: {asked:?}, and {bytes} B of JSON in {:?}",
                start.elapsed() - asked
            );
        }
    }
}

/// What a second costs with 10,000 busy peers.
#[test]
#[ignore = "measures: takes some seconds"]
fn ten_thousand_busy_peers_every_second() {
    let lab = Lab::new();
    for second in 1..=10 {
        let all: Vec<_> = (0..10_000)
            .map(|id| peer(id, raw(1, second, second)))
            .collect();
        let sample = peers(second, &all);
        let start = Instant::now();
        lab.store.accounts().record_sample(&sample);
        let recorded = start.elapsed();
        lab.store.accounts().flush().wait().unwrap();
        println!("recorded in {recorded:?}, written in {:?}", start.elapsed());
    }
}
