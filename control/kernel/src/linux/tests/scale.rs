//! Many networks, and many peers in one.

use std::time::{Duration, Instant};

use control_api::state::PublicKey;
use serde_json::{Map, Value, json};

use super::lab::*;

const PEERS: u16 = 10_000;

/// A key that nobody has the other half of.
fn stranger(number: u32) -> String {
    format!("{number:08x}{}", "2a".repeat(28))
}

fn peers(of: u32, count: u32) -> Value {
    let peer = |number: u32| {
        let [_, _, high, low] = number.to_be_bytes();
        let allowed = json!({ "allowed_ips": [format!("10.77.{high}.{low}/32")] });
        (stranger(of * 65_536 + number + 1), allowed)
    };
    Value::Object((0..count).map(peer).collect())
}

fn networks(count: u16) -> Value {
    let network = |number: u16| {
        let port = 40_000 + number;
        (
            port.to_string(),
            gateway(port, &peers(u32::from(number) + 1, 10)),
        )
    };
    Value::Object((0..count).map(network).collect::<Map<_, _>>())
}

#[test]
fn ten_thousand_peers_fit_into_one_network() {
    on_each_backend(|lab| {
        let mut crowded = gateway(51820, &peers(0, PEERS.into()));
        crowded["address"] = json!(["10.77.0.1/16"]);
        lab.settle(&desired(&json!({ "51820": crowded })));
        let device = lab.device(51820);
        assert_eq!(device.peers.len(), usize::from(PEERS));
        assert!(device.routes.is_empty(), "one prefix covers them all");
        let begun = Instant::now();
        let sampled = lab.linux.sample(port(51820)).unwrap();
        println!(
            "{}: sampled in {:?}",
            lab.backend().label(),
            begun.elapsed()
        );
        assert_eq!(sampled.peers.len(), usize::from(PEERS));
        let first: PublicKey = stranger(1).parse().unwrap();
        assert_eq!(sampled.peers[&first].tx, 0);
    });
}

#[test]
fn a_peer_has_as_many_prefixes_as_it_likes() {
    on_each_backend(|lab| {
        let prefixes: Vec<String> = (0..1500_u32)
            .map(|number| format!("10.{}.{}.0/24", number / 250, number % 250))
            .collect();
        let routed = json!({ stranger(1): { "allowed_ips": prefixes } });
        let mut network = gateway(51820, &routed);
        network["address"] = json!(["172.16.0.1/24"]);
        lab.settle(&desired(&json!({ "51820": network })));
        let device = lab.device(51820);
        let [peer] = device.peers.values().collect::<Vec<_>>()[..] else {
            panic!("one peer");
        };
        assert_eq!(peer.allowed_ips.len(), 1500);
        assert_eq!(device.routes.len(), 1500);
    });
}

#[test]
fn many_networks_are_made_and_removed() {
    on_each_backend(|lab| made_and_removed(lab, 20));
}

#[test]
#[ignore = "a measurement: five hundred networks take too long for every run"]
fn five_hundred_networks_are_made_in_time() {
    on_each_backend(|lab| made_and_removed(lab, 500));
}

fn made_and_removed(lab: &mut Lab, count: u16) {
    let wanted = desired(&networks(count));
    let plan = lab.plan(&wanted);
    let mut spent: std::collections::BTreeMap<&str, Duration> = Default::default();
    let begun = Instant::now();
    for step in plan.steps() {
        let begun = Instant::now();
        lab.apply(step);
        let object = step.object();
        let kind = object.rsplit('/').next().unwrap();
        let kind = if kind.starts_with("wg") {
            "device"
        } else {
            kind
        };
        let kind = if kind.starts_with("network") {
            "namespace"
        } else {
            kind
        };
        let kind = match (kind, step.op()) {
            ("device", "make") => "device made",
            ("device", "set") => "device set",
            ("device", "add") => "device address or route",
            ("device", _) => "device raised",
            ("namespace", _) => "namespace",
            ("lo", _) => "lo",
            ("forwarding", _) => "forwarding",
            (_, _) => "nftables",
        };
        *spent.entry(kind).or_default() += begun.elapsed();
    }
    let applied = begun.elapsed();
    let begun = Instant::now();
    let again = lab.plan(&wanted);
    let planned = begun.elapsed();
    assert!(again.is_empty());
    let begun = Instant::now();
    for port in wanted.networks.keys() {
        lab.linux.sample(*port).unwrap();
    }
    println!(
        "{}: {count} networks applied in {applied:?} ({spent:?}), observed and planned in \
         {planned:?}, sampled in {:?}",
        lab.backend().label(),
        begun.elapsed()
    );
    let begun = Instant::now();
    lab.settle(&desired(&json!({})));
    println!("removed in {:?}", begun.elapsed());
}
