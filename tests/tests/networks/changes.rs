//! Changes in place: who is not meant does not notice.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::{
    flow::Flow,
    lab::{Lab, tls},
    leak::nothing_is_left,
    network::Network,
    peer::{Client, Keys},
    runner::Test,
    server::{self, Server},
    stream, tests,
};

pub(crate) const TESTS: &[Test] = tests![
    changes_of_one_peer_disturb_no_other,
    an_address_moves_from_one_peer_to_another,
    a_network_gets_another_key,
    flows_from_an_address_that_goes_end_at_once,
];

const NAME: &str = "blue.example";
const PORT: u16 = 50_000;

fn changes_of_one_peer_disturb_no_other(lab: &mut Lab) -> Result<()> {
    let (peer, other) = (lab.peer(Client::GotaTun)?, lab.peer(Client::BoringTun)?);
    let _server = Server::start(peer.listen(443)?, server::echo)?;
    let mut network = Network::new(PORT)?;
    network.invite(&peer, 2)?;
    network.publish(NAME, "10.0.0.2:443");
    let gateway = lab.gateway(tls(json!({})), network.state())?;
    network.meet(&peer)?;
    let mut flow = Flow::open(NAME)?;
    let shaken = network.show("latest-handshakes")?;
    let api = gateway.api();
    let (key, start) = (other.keys.public.clone(), network.document.clone());
    let mut documents: Vec<(&str, Value)> = Vec::new();
    network.invite(&other, 3)?;
    documents.push(("a peer is added", network.document.clone()));
    network.document["peers"][&key]["allowed_ips"] = json!(["10.0.0.3/32", "192.0.2.0/24"]);
    documents.push(("it may send more", network.document.clone()));
    network.document["peers"][&key]["preshared_key"] = Keys::preshared()?.into();
    documents.push(("it gets a secret", network.document.clone()));
    network.document["peers"][&key]["endpoint"] = json!("198.51.100.1:7");
    documents.push(("it is said to be elsewhere", network.document.clone()));
    network.document["address"] = json!(["10.0.0.1/24", "fd00::1/64", "10.5.0.1/24"]);
    documents.push(("the network gets an address", network.document.clone()));
    network.document["mtu"] = json!(1380);
    documents.push(("its packets become smaller", network.document.clone()));
    network.document["peer_to_peer"] = json!(false);
    documents.push(("its peers are kept apart", network.document.clone()));
    network.publish("green.example", "10.0.0.3:443");
    documents.push(("a name is added", network.document.clone()));
    documents.push(("everything as at first", start));
    for (what, document) in documents {
        network.document = document;
        let applied = api.apply(&network.state())?;
        ensure!(applied["changed"] == true, "{what}: {applied}");
        flow.still_lives().context(what)?;
        let again = api.apply(&network.state())?;
        ensure!(
            again["changed"] == false && again["steps"] == json!([]),
            "{what}: {again}"
        );
    }
    let now = network.show("latest-handshakes")?;
    ensure!(
        now == shaken,
        "the session is another: {shaken}, then {now}"
    );
    flow.end()?;
    api.apply(&json!({}))?;
    nothing_is_left(&gateway)
}

fn an_address_moves_from_one_peer_to_another(lab: &mut Lab) -> Result<()> {
    let (left, right) = (lab.peer(Client::WireGuardGo)?, lab.peer(Client::BoringTun)?);
    let mut network = Network::new(PORT)?;
    network.invite(&left, 2)?;
    network.invite(&right, 3)?;
    network.publish(NAME, "10.0.0.9:443");
    left.add_address("10.0.0.9/24")?;
    right.add_address("10.0.0.9/24")?;
    let of_left = Server::start(left.listen(443)?, server::echo)?;
    let alone = network.document.clone();
    let of = |peer: &str, number: u8| {
        let mut document = alone.clone();
        document["peers"][peer]["allowed_ips"] =
            json!([format!("10.0.0.{number}/32"), "10.0.0.9/32"]);
        document
    };
    network.document = of(&left.keys.public, 2);
    let gateway = lab.gateway(tls(json!({})), network.state())?;
    network.meet(&left)?;
    network.meet(&right)?;
    Flow::open(NAME)?.end()?;
    drop(of_left);
    let _right = Server::start(right.listen(443)?, server::echo)?;
    network.document = of(&right.keys.public, 3);
    gateway.api().apply(&network.state())?;
    Flow::open(NAME)?.end()?;
    let shown = network.show("allowed-ips")?;
    let owner = shown.lines().find(|line| line.contains("10.0.0.9/32"));
    ensure!(
        owner.is_some_and(|line| line.starts_with(&right.keys.public)),
        "{shown}"
    );
    ensure!(shown.matches("10.0.0.9/32").count() == 1, "{shown}");
    gateway.api().apply(&json!({}))?;
    nothing_is_left(&gateway)
}

fn a_network_gets_another_key(lab: &mut Lab) -> Result<()> {
    let peer = lab.peer(Client::WireGuardGo)?;
    let _server = Server::start(peer.listen(443)?, server::echo)?;
    let mut network = Network::new(PORT)?;
    network.invite(&peer, 2)?;
    network.publish(NAME, "10.0.0.2:443");
    let gateway = lab.gateway(tls(json!({})), network.state())?;
    network.meet(&peer)?;
    let mut flow = Flow::open(NAME)?;
    network.keys = Keys::generate()?;
    network.document["private_key"] = network.keys.private.clone().into();
    gateway.api().apply(&network.state())?;
    ensure!(network.show("public-key")?.trim() == network.keys.public);
    // The peer learns it, and what was open goes on.
    network.meet(&peer)?;
    flow.still_lives()?;
    flow.end()?;
    gateway.api().apply(&json!({}))?;
    nothing_is_left(&gateway)
}

/// What leaves from it would wait for answers that cannot come, and the next flow for an address.
fn flows_from_an_address_that_goes_end_at_once(lab: &mut Lab) -> Result<()> {
    let peer = lab.peer(Client::WireGuardGo)?;
    let _server = Server::start(peer.listen(443)?, server::echo)?;
    let mut network = Network::new(PORT)?;
    network.invite(&peer, 2)?;
    network.publish(NAME, "10.0.0.2:443");
    network.document["address"] = json!(["10.0.0.1/24", "10.0.0.5/24"]);
    let gateway = lab.gateway(tls(json!({})), network.state())?;
    network.meet(&peer)?;
    let mut flow = Flow::open(NAME)?;
    network.document["address"] = json!(["10.0.0.5/24"]);
    gateway.api().apply(&network.state())?;
    // The other one was the second of its prefix: it does not go with the first.
    let mut other = Flow::open(NAME)?;
    flow.stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    stream::read_to_any_end(&mut flow.stream).context("it goes on")?;
    let ended = gateway.wait_for_record("its end", |it| it["outcome"] == "network_changed")?;
    ensure!(ended["fault"] == "gateway", "{ended}");
    other.still_lives()?;
    other.end()?;
    gateway.api().apply(&json!({}))?;
    nothing_is_left(&gateway)
}
