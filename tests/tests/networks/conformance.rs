//! Whole documents, one after the other: what is declared answers, and what is not is gone.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::json;
use tests::{
    lab::{Lab, tls},
    leak::nothing_is_left,
    network::{self, Network},
    peer::{Client, Keys, Peer, Uplink},
    random::Random,
    runner::Test,
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    random_networks_answer_until_they_are_replaced: 120,
    a_hundred_networks_of_five_peers_are_made_in_time,
];

/// The ports that the networks are made at.
const PORTS: std::ops::Range<u16> = 50_000..60_000;

/// A network in which all peers send `10.0.0.0/8` to the gateway.
struct Tenant {
    network: Network,
    peers: Vec<Peer>,
}

fn draw(lab: &mut Lab, random: &mut Random, taken: &mut BTreeSet<u16>) -> Result<Tenant> {
    let port = loop {
        let port = PORTS.start + u16::try_from(random.index(PORTS.len()))?;
        if taken.insert(port) {
            break port;
        }
    };
    let mut network = Network::new(port)?;
    network.document["address"] = json!(["10.0.0.1/8"]);
    let mut peers = Vec::new();
    for number in 0..random.index(3) {
        let peer = lab.peer(Client::ALL[random.index(Client::ALL.len())])?;
        let address = format!("10.0.0.{}", 2 + number);
        network.admit(&peer.keys.public, &[&format!("{address}/32")]);
        peer.add_address(&format!("{address}/8"))?;
        peers.push(peer);
    }
    Ok(Tenant { network, peers })
}

fn draw_ten(lab: &mut Lab, random: &mut Random, taken: &mut BTreeSet<u16>) -> Result<Vec<Tenant>> {
    (0..10).map(|_| draw(lab, random, taken)).collect()
}

fn document(tenants: &[Tenant]) -> serde_json::Value {
    network::state(tenants.iter().map(|tenant| &tenant.network))
}

fn peers(tenants: &[Tenant]) -> impl Iterator<Item = &Peer> {
    tenants.iter().flat_map(|tenant| &tenant.peers)
}

fn random_networks_answer_until_they_are_replaced(lab: &mut Lab) -> Result<()> {
    let mut random = Random::from_environment();
    let mut taken = BTreeSet::new();
    let gateway = lab.gateway(tls(json!({})), json!({}))?;
    let old = draw_ten(lab, &mut random, &mut taken)?;
    gateway.api().apply(&document(&old))?;
    all_answer(&old)?;
    let new = draw_ten(lab, &mut random, &mut taken)?;
    gateway.api().apply(&document(&new))?;
    all_answer(&new)?;
    // All at once, for each waits for answers that must not come.
    std::thread::scope(|scope| {
        let pings = peers(&old).map(|peer| scope.spawn(|| peer.pings("10.0.0.1")));
        for ping in pings.collect::<Vec<_>>() {
            let answered = ping
                .join()
                .map_err(|_| anyhow::anyhow!("a ping panicked"))?;
            ensure!(!answered?, "a network that was replaced still answers");
        }
        anyhow::Ok(())
    })?;
    for tenant in &old {
        ensure!(tenant.network.netns().is_err(), "a namespace is left");
    }
    gateway.api().apply(&json!({}))?;
    nothing_is_left(&gateway)?;
    if let Some(peer) = peers(&new).next() {
        ensure!(!peer.pings("10.0.0.1")?, "a removed network still answers");
    }
    Ok(())
}

fn all_answer(tenants: &[Tenant]) -> Result<()> {
    for Tenant { network, peers } in tenants {
        for peer in peers {
            peer.connect(Uplink {
                allowed_ips: "10.0.0.0/8",
                ..network.uplink()
            })?;
        }
        for peer in peers {
            peer.wait_for_ping("10.0.0.1")?;
        }
    }
    Ok(())
}

fn a_hundred_networks_of_five_peers_are_made_in_time(lab: &mut Lab) -> Result<()> {
    let gateway = lab.gateway(tls(json!({})), json!({}))?;
    let keys = Keys::generate()?;
    let networks = (0..100_u16).map(|index| {
        let peers = (0..5_u16).map(|number| {
            // Any 32 bytes are a public key.
            let key = format!("{:032x}{number:032x}", index + 1);
            let peer = json!({ "allowed_ips": [format!("10.0.0.{}/32", number + 2)] });
            (key, peer)
        });
        let network = json!({
            "private_key": keys.private,
            "address": ["10.0.0.1/24"],
            "peers": peers.collect::<serde_json::Map<_, _>>(),
            "proxy": {},
        });
        ((PORTS.start + index).to_string(), network)
    });
    let document = networks.collect::<serde_json::Map<_, _>>().into();
    let began = std::time::Instant::now();
    let applied = gateway.api().apply(&document)?;
    let took = began.elapsed();
    ensure!(took.as_secs() < 8, "it took {took:?}");
    ensure!(applied.get("degraded").is_none(), "{applied}");
    let status = gateway.api().get("/api/v1/status")?;
    let networks = status["networks"].as_object().map(|networks| {
        let is_whole = |network: &&serde_json::Value| {
            network["state"] == "ok"
                && network["device"]["up"] == true
                && network["peers"]
                    .as_object()
                    .is_some_and(|peers| peers.len() == 5)
        };
        networks.values().filter(is_whole).count()
    });
    ensure!(networks == Some(100), "{networks:?} of 100 are whole");
    let again = gateway.api().apply(&document)?;
    ensure!(again["changed"] == false, "{again}");
    gateway.api().apply(&json!({}))?;
    nothing_is_left(&gateway)
}
