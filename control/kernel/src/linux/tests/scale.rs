//! Many networks, and many peers in one.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use control_api::state::{Desired, PublicKey};
use control_plan::{
    NamespaceSource,
    step::{Action, Step},
};
use engine_sys::netns::Netns;
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
    let before = resident_bytes();
    let (applied, spent) = apply(lab, &wanted);
    let begun = Instant::now();
    assert!(lab.plan(&wanted).is_empty());
    let planned = begun.elapsed();
    let begun = Instant::now();
    for port in wanted.networks.keys() {
        lab.linux.sample(*port).unwrap();
    }
    let sampled = begun.elapsed();
    println!(
        "{}: {count} networks applied in {applied:?} ({spent:?}), observed and planned in \
         {planned:?}, sampled in {sampled:?}; {} bytes and {} descriptors for each",
        lab.backend().label(),
        resident_bytes().saturating_sub(before) / usize::from(count),
        std::fs::read_dir("/proc/self/fd").unwrap().count() / usize::from(count),
    );
    let nothing = desired(&json!({}));
    let begun = Instant::now();
    for port in wanted.networks.keys() {
        lab.apply(&Step {
            network: *port,
            place: NamespaceSource::Made(*port),
            action: Action::RemoveNamespace,
        });
    }
    println!("removed in {:?}", begun.elapsed());
    let begun = Instant::now();
    // A device whose socket may still be there is made again.
    let last = format!("{}", 40_000 + count - 1);
    let networks = networks(count);
    lab.settle(&desired(&json!({ last.clone(): networks[&last] })));
    println!("the last one made again in {:?}", begun.elapsed());
    lab.settle(&nothing);
    assert!(lab.plan(&nothing).is_empty());
    assert!(lab.records.owned.is_empty());
}

/// Applies a plan, and says how long each kind of step took.
fn apply(lab: &mut Lab, wanted: &Desired) -> (Duration, BTreeMap<String, Duration>) {
    let plan = lab.plan(wanted);
    let mut spent: BTreeMap<String, Duration> = BTreeMap::new();
    for step in plan.steps() {
        let begun = Instant::now();
        lab.apply(step);
        let object = step.object();
        let object = object.rsplit(['/', '-']).next().unwrap();
        let object = object.trim_end_matches(|c: char| c.is_ascii_digit());
        let kind = format!("{} {object}", step.op());
        *spent.entry(kind).or_default() += begun.elapsed();
    }
    (spent.values().sum(), spent)
}

/// Memory of this process (proc_pid_statm(5)).
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: usize = statm.split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096
}

#[test]
fn many_userspace_devices_are_back_at_once_after_a_restart() {
    const NETWORKS: u16 = 60;
    on_each_backend(|lab| {
        let wanted = desired(&networks(NETWORKS));
        let begun = Instant::now();
        lab.settle(&wanted);
        let made = begun.elapsed();
        let index = |lab: &Lab| {
            let mut inside = rtnl(&Netns::open(&lab.path(40_000)).unwrap());
            inside.link("wg40000").unwrap().unwrap().index
        };
        let before = index(lab);
        let begun = Instant::now();
        lab.restart();
        let ended = begun.elapsed();
        lab.settle(&wanted);
        let back = begun.elapsed();
        println!(
            "{}: made in {made:?}, ended in {ended:?}, back in {back:?}",
            lab.backend().label(),
        );
        // The kernel takes 20 ms and more to end each. In an emulated machine, where other tests hold its
        // locks, time says nothing.
        let is_emulated = std::env::var_os("LAB_WIREGUARD_MODULE").is_some();
        assert!(is_emulated || back < made + Duration::from_millis(10) * NETWORKS.into());
        assert_eq!(index(lab), before, "the same link");
    });
}
