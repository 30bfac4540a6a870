use control_api::answer::{Relayed, TrafficInfo};

use super::*;
use crate::lab::{Lab, PORT, key, network_key, peer, peers, port, raw, relay, relays};

mod pollers;
mod speed;

#[test]
fn traffic_is_told_by_network_peer_and_time_in_the_form_of_the_contract() {
    let lab = Lab::new();
    let (one, two) = (raw(1, 10, 20), raw(1, 1, 0));
    lab.store
        .accounts()
        .record_sample(&peers(100, &[peer(1, one), peer(2, two)]));
    let info = lab.traffic_since(0);
    let json = serde_json::to_value(&info).unwrap();
    let expected = serde_json::json!({
        "start_time": 0,
        "stop_time": 100,
        "next": 100,
        "traffic": {"rx": 11, "tx": 20},
        "networks": {
            network_key().to_string(): {
                "traffic": {"rx": 11, "tx": 20},
                "devices": {
                    key(1).to_string(): {
                        "traffic": {"rx": 10, "tx": 20},
                        "times": {"100": {"rx": 10, "tx": 20}},
                    },
                    key(2).to_string(): {
                        "traffic": {"rx": 1, "tx": 0},
                        "times": {"100": {"rx": 1, "tx": 0}},
                    },
                },
            },
        },
    });
    assert_eq!(json, expected);
    assert_eq!(serde_json::from_value::<TrafficInfo>(json).unwrap(), info);
    // Nothing new: the poller stays where it is.
    let nothing = lab.traffic_since(100);
    assert_eq!((nothing.start_time, nothing.stop_time), (100, 100));
    assert!(nothing.networks.is_empty());
}

#[test]
fn what_comes_within_a_second_that_was_answered_belongs_to_the_next() {
    let lab = Lab::new();
    lab.store
        .accounts()
        .record_sample(&peers(100, &[peer(1, raw(1, 10, 0))]));
    assert_eq!(lab.traffic_since(0).stop_time, 100);
    lab.store
        .accounts()
        .record_sample(&peers(100, &[peer(1, raw(1, 15, 0))]));
    let next = lab.traffic_since(100);
    assert_eq!((next.stop_time, next.traffic.rx), (101, 5));
    // Time that runs backwards stands still.
    lab.store
        .accounts()
        .record_sample(&peers(40, &[peer(1, raw(1, 16, 0))]));
    let next = lab.traffic_since(101);
    assert_eq!((next.stop_time, next.traffic.rx), (102, 1));
    // What was answered is answered again.
    assert_eq!(lab.traffic_since(100).traffic.rx, 6);
    assert_eq!(lab.traffic_since(0).traffic.rx, 16);
}

fn times(lab: &Lab) -> Vec<i64> {
    let connection = lab.connection();
    let sql = "SELECT time FROM peer_rows ORDER BY time";
    let mut statement = connection.prepare(sql).unwrap();
    let times = statement.query_map([], |row| row.get(0)).unwrap();
    times.map(Result::unwrap).collect()
}

#[test]
fn rows_are_written_once_an_interval_while_nobody_asks() {
    let lab = Lab::new();
    for time in 1..=180 {
        lab.store
            .accounts()
            .record_sample(&peers(time, &[peer(1, raw(1, time, 0))]));
        lab.store.accounts().flush().wait().unwrap();
    }
    assert_eq!(times(&lab), [60, 120]);
    // The rest is not left open, and a peer at rest gets no rows.
    for time in [181, 600] {
        lab.store
            .accounts()
            .record_sample(&peers(time, &[peer(1, raw(1, 180, 0))]));
        lab.store.accounts().flush().wait().unwrap();
    }
    assert_eq!(times(&lab), [60, 120, 180]);
}

#[test]
fn questions_name_a_time_a_network_and_a_peer() {
    let lab = Lab::new();
    let mut elsewhere = peer(1, raw(1, 1_000, 0));
    (elsewhere.network, elsewhere.network_key) = (port(51_821), key(77));
    let here = |rx| peer(1, raw(1, rx, 0));
    lab.store
        .accounts()
        .record_sample(&peers(100, &[here(1), peer(2, raw(1, 10, 0))]));
    assert_eq!(lab.traffic_since(0).stop_time, 100);
    lab.store
        .accounts()
        .record_sample(&peers(200, &[here(101), elsewhere]));
    let rx = |query: TrafficQuery| {
        let info = lab.store.accounts().traffic(query).wait().unwrap();
        (info.traffic.rx, info.stop_time)
    };
    let all = TrafficQuery::default();
    let network = |text: &str| TrafficQuery {
        network: Some(text.parse().unwrap()),
        ..all.clone()
    };
    assert_eq!(rx(all.clone()), (1_111, 200));
    assert_eq!(rx(network("51821")), (1_000, 200));
    assert_eq!(rx(network("port:51820")), (111, 200));
    assert_eq!(rx(network("network-51820")), (111, 200));
    assert_eq!(rx(network(&key(77).to_string())), (1_000, 200));
    assert_eq!(rx(network("51822")), (0, 0));
    let peer = TrafficQuery {
        peer: Some(key(1)),
        ..all.clone()
    };
    assert_eq!(rx(peer.clone()), (1_101, 200));
    let here = TrafficQuery {
        network: Some(NetworkFilter::from(port(PORT))),
        ..peer
    };
    assert_eq!(rx(here), (101, 200));
    let early = TrafficQuery {
        until: Some(199),
        ..all.clone()
    };
    assert_eq!(rx(early), (11, 100));
    let late = TrafficQuery { since: 100, ..all };
    assert_eq!(rx(late), (1_100, 200));
    assert!("51820x".parse::<NetworkFilter>().is_err());
}

#[test]
fn a_question_up_to_a_time_gets_the_rows_until_then_and_cuts_none_that_are_later() {
    let lab = Lab::new();
    let up_to = |until| {
        let query = TrafficQuery {
            until: Some(until),
            ..TrafficQuery::default()
        };
        let info = lab.store.accounts().traffic(query).wait().unwrap();
        (info.stop_time, info.traffic.rx)
    };
    lab.store
        .accounts()
        .record_sample(&peers(90, &[peer(1, raw(1, 1, 0))]));
    assert_eq!(up_to(90), (90, 1));
    lab.store
        .accounts()
        .record_sample(&peers(100, &[peer(1, raw(1, 10, 0))]));
    lab.store.accounts().flush().wait().unwrap();
    assert_eq!(up_to(99), (90, 1));
    assert_eq!(times(&lab), [90]);
    assert_eq!(up_to(100), (100, 10));
}

#[test]
fn questions_alone_write_nothing() {
    let lab = Lab::new();
    lab.store
        .accounts()
        .record_sample(&peers(100, &[peer(1, raw(1, 10, 0))]));
    assert_eq!(lab.traffic_since(0).traffic.rx, 10);
    let connection = lab.connection();
    let version = || -> i64 {
        connection
            .pragma_query_value(None, "data_version", |row| row.get(0))
            .unwrap()
    };
    let before = version();
    for since in [0, 0, 50] {
        assert_eq!(lab.traffic_since(since).traffic.rx, 10);
    }
    assert_eq!(version(), before);
    // With the next sample they are remembered.
    lab.store.accounts().flush().wait().unwrap();
    assert_ne!(version(), before);
}

#[test]
fn what_is_no_row_yet_is_told_as_the_row_that_it_becomes() {
    let lab = Lab::new();
    let sample = |time, rx, bytes_in| {
        let mut sample = peers(time, &[peer(1, raw(1, rx, 0))]);
        sample.relays.push(relay("a", "192.0.2.1", bytes_in, 0));
        lab.store.accounts().record_sample(&sample);
    };
    sample(30, 10, 1);
    let ask = |since| {
        let query = TrafficQuery {
            since,
            ..TrafficQuery::default()
        };
        let relayed = lab.store.accounts().routes_traffic(query).wait().unwrap();
        let counted = lab.traffic_since(since);
        assert_eq!(relayed.stop_time, counted.stop_time);
        let bytes = (counted.traffic.rx, relayed.traffic.bytes_in);
        (counted.stop_time, counted.next, bytes)
    };
    assert_eq!(ask(0), (30, 30, (10, 1)));
    assert_eq!(times(&lab), [0_i64; 0], "a question makes no row");
    sample(37, 12, 1);
    assert_eq!(ask(30), (37, 37, (2, 1)));
    assert_eq!(times(&lab), [30], "the next sample does");
    assert_eq!(ask(0), (37, 37, (12, 2)));
}

#[test]
fn what_was_told_before_a_restart_becomes_the_row_that_it_was_told_as() {
    let lab = Lab::new();
    lab.store
        .accounts()
        .record_sample(&peers(30, &[peer(1, raw(1, 10, 0))]));
    assert_eq!(lab.traffic_since(0).next, 30);
    let lab = lab.restart();
    assert_eq!(times(&lab), [0_i64; 0]);
    lab.store
        .accounts()
        .record_sample(&peers(40, &[peer(1, raw(1, 13, 0))]));
    let next = lab.traffic_since(30);
    assert_eq!((next.next, next.traffic.rx), (40, 3));
    assert_eq!(times(&lab), [30]);
}

#[test]
fn a_poller_of_a_quiet_peer_goes_on_with_the_others() {
    let lab = Lab::new();
    lab.store
        .accounts()
        .record_sample(&peers(100, &[peer(1, raw(1, 1, 0)), peer(2, raw(1, 1, 0))]));
    let ask = |since, until| {
        let query = TrafficQuery {
            since,
            until,
            peer: Some(key(2)),
            ..TrafficQuery::default()
        };
        let info = lab.store.accounts().traffic(query).wait().unwrap();
        (info.stop_time, info.next, info.traffic.rx)
    };
    assert_eq!(ask(0, None), (100, 100, 1));
    lab.store
        .accounts()
        .record_sample(&peers(200, &[peer(1, raw(1, 2, 0))]));
    assert_eq!(ask(100, None), (100, 200, 0));
    assert_eq!(ask(100, Some(150)), (100, 150, 0));
    lab.store
        .accounts()
        .record_sample(&peers(300, &[peer(2, raw(1, 5, 0))]));
    assert_eq!(ask(100, None), (300, 300, 4), "from its last time");
    assert_eq!(ask(200, None), (300, 300, 4), "from where it is complete");
}

#[test]
fn an_hour_includes_its_end_and_a_day_is_made_of_such_hours() {
    let lab = Lab::new();
    for (index, time) in [7_199, 7_200, 7_201, 86_400, 86_401]
        .into_iter()
        .enumerate()
    {
        let rx = 10_u64.pow(u32::try_from(index).unwrap() + 1) - 1;
        lab.store
            .accounts()
            .record_sample(&peers(time, &[peer(1, raw(1, rx, 0))]));
        assert_eq!(lab.traffic_since(time - 1).stop_time, time);
    }
    let grouped = |group| {
        let query = TrafficQuery {
            group: Some(group),
            ..TrafficQuery::default()
        };
        let info = lab.store.accounts().traffic(query).wait().unwrap();
        assert_eq!(info.stop_time, 86_401);
        let network = info.networks.into_values().next().unwrap();
        let times = network.devices.into_values().next().unwrap().times;
        times
            .into_iter()
            .map(|(time, it)| (time, it.rx))
            .collect::<Vec<_>>()
    };
    let hours = [(3_600, 99), (7_200, 900), (82_800, 9_000), (86_400, 90_000)];
    assert_eq!(grouped(Group::Hour), hours);
    assert_eq!(grouped(Group::Day), [(0, 9_999), (86_400, 90_000)]);
}

#[test]
fn what_was_relayed_is_told_by_network_route_and_client() {
    let lab = Lab::new();
    let to_peer = crate::RelaySample {
        peer: Some(key(5)),
        ..relay("b.example", "2001:db8::1", 5, 6)
    };
    let with_key = crate::RelaySample {
        network_key: Some(network_key()),
        ..relay("c.example", "192.0.2.1", 7, 8)
    };
    let on_host = crate::RelaySample {
        network: NetworkName::Host,
        ..relay("d.example", "192.0.2.1", 9, 10)
    };
    let again = relay("a.example", "192.0.2.1", 100, 200);
    let first = relay("a.example", "192.0.2.1", 1, 2);
    let sample = [first, again, to_peer, with_key, on_host];
    lab.store.accounts().record_sample(&relays(100, &sample));
    let answer = lab.store.accounts().routes_traffic(TrafficQuery::default());
    let answer = answer.wait().unwrap();
    assert_eq!((answer.start_time, answer.stop_time), (0, 100));
    assert_eq!(answer.traffic.connections, 5);
    let client = |network: &str, route: &str, client: &str| {
        answer.networks[network].routes[route].clients[client].clone()
    };
    let relayed = |bytes_in, bytes_out, connections| Relayed {
        bytes_in,
        bytes_out,
        connections,
    };
    let a = client("port:51820", "a.example", "192.0.2.1");
    assert_eq!(a.traffic, relayed(101, 202, 2));
    assert_eq!(a.times[&100], a.traffic);
    let b = client("port:51820", "b.example", "2001:db8::1");
    assert_eq!(b.peers[&key(5).to_string()], relayed(5, 6, 1));
    let c = client(&network_key().to_string(), "c.example", "192.0.2.1");
    assert_eq!(c.traffic, relayed(7, 8, 1));
    assert_eq!(
        client("host", "d.example", "192.0.2.1").traffic,
        relayed(9, 10, 1)
    );
    let filtered = lab.store.accounts().routes_traffic(TrafficQuery {
        peer: Some(key(5)),
        ..TrafficQuery::default()
    });
    assert_eq!(filtered.wait().unwrap().traffic, relayed(5, 6, 1));
    let totals = lab.store.accounts().route_totals().wait().unwrap();
    assert_eq!(totals.len(), 4);
    let a = totals
        .iter()
        .find(|total| total.route == "a.example")
        .unwrap();
    assert_eq!(a.traffic, relayed(101, 202, 2));
}

#[test]
fn an_answer_that_would_be_too_long_ends_early_and_says_so() {
    let lab = Lab::new();
    lab.store
        .accounts()
        .record_sample(&peers(1, &[peer(1, raw(1, 1, 1))]));
    assert_eq!(lab.traffic_since(0).stop_time, 1);
    let rows = i64::from(ANSWER_ROWS_MAX);
    let connection = lab.connection();
    // As if it had become a row.
    let cut = "UPDATE peers SET rowed_rx = total_rx, rowed_tx = total_tx;
        UPDATE clock SET cut = sampled";
    connection.execute_batch(cut).unwrap();
    // Two rows short of the bound, then three at one time: they do not fit, and go together.
    let fill = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?1)
        INSERT INTO peer_rows SELECT 1000 + n, 1, 1, 1, 0, 0 FROM n";
    connection.execute("DELETE FROM peer_rows", []).unwrap();
    connection.execute(fill, [rows - 2]).unwrap();
    let last = 1_000_000;
    connection
        .execute_batch(&format!(
            "INSERT INTO peers SELECT 1 + value, network, randomblob(32), 0, 0,
                0, 0, 0, 0, 0, 0, 0, NULL, NULL FROM peers, (SELECT 1 AS value UNION SELECT 2);
            INSERT INTO peer_rows SELECT {last}, id, 1, 1, 0, 0 FROM peers;"
        ))
        .unwrap();
    for network in [None, Some(NetworkFilter::from(port(PORT)))] {
        let ask = |since| {
            let query = TrafficQuery {
                since,
                network: network.clone(),
                ..TrafficQuery::default()
            };
            lab.store.accounts().traffic(query).wait().unwrap()
        };
        let first = ask(0);
        assert!(first.more);
        assert_eq!(first.traffic.rx, u64::from(ANSWER_ROWS_MAX) - 2);
        let rest = ask(first.stop_time);
        assert!(!rest.more);
        assert_eq!((rest.stop_time, rest.traffic.rx), (last, 3));
        let whole = lab.store.accounts().traffic(TrafficQuery {
            group: Some(Group::Day),
            network: network.clone(),
            ..TrafficQuery::default()
        });
        assert_eq!(
            whole.wait().unwrap().traffic.rx,
            u64::from(ANSWER_ROWS_MAX) + 1
        );
    }
}
