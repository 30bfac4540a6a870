//! Each client behind its network: streams, secrets, roaming, and who reaches whom.

use std::{io::Write as _, net::SocketAddr, sync::Arc};

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::{
    flow::Flow,
    gateway::Gateway,
    lab::{GATEWAY, Lab, tls},
    leak::nothing_is_left,
    network::{self, Network},
    peer::{Client, Keys, Peer, Uplink},
    random::Random,
    runner::Test,
    server::{self, Server},
    stream::{self, Pattern},
    tests, tls as client,
    tool::Tool,
    wait::eventually,
};

pub(crate) const TESTS: &[Test] = tests![
    every_client_serves_https_over_both_families,
    fifty_megabytes_arrive_as_they_were_sent_from_every_client: 120,
    only_the_right_secret_connects,
    a_peer_that_roams_keeps_its_connections,
    peers_reach_each_other_unless_it_is_forbidden,
    a_peer_reaches_nothing_but_its_network,
    a_peer_reaches_the_listeners_of_its_network,
];

const NAME: &str = "blue.example";
const PORT: u16 = 50_000;

/// A network and its only peer.
type Pair = (Network, Peer);

/// A gateway with one network for each client, each with one peer, over either family outside.
fn one_for_each(lab: &mut Lab, is_v6: bool) -> Result<(Arc<Gateway>, Vec<Pair>)> {
    let mut pairs = Vec::new();
    for (port, client) in (PORT..).zip(Client::ALL) {
        let peer = lab.peer(client)?;
        let mut network = Network::new(port)?;
        network.invite(&peer, 2)?;
        network.publish(&format!("v4-{port}.example"), "10.0.0.2:443");
        network.publish(&format!("v6-{port}.example"), "[fd00::2]:443");
        pairs.push((network, peer));
    }
    let document = network::state(pairs.iter().map(|(network, _)| network));
    let gateway = lab.gateway(tls(json!({})), document)?;
    for (network, peer) in &pairs {
        let host = if is_v6 { peer.host_v6() } else { peer.host() };
        let endpoint = SocketAddr::new(host, network.port);
        peer.connect_to(endpoint, network.uplink())?;
        peer.wait_for_ping("10.0.0.1")?;
    }
    Ok((gateway, pairs))
}

fn end(gateway: &Gateway) -> Result<()> {
    gateway.api().apply(&json!({}))?;
    nothing_is_left(gateway)
}

fn every_client_serves_https_over_both_families(lab: &mut Lab) -> Result<()> {
    let (gateway, pairs) = one_for_each(lab, false)?;
    let config = lab.authority().client()?;
    for (network, peer) in &pairs {
        for family in ["v4", "v6"] {
            let name = format!("{family}-{}.example", network.port);
            let site = client::site(lab.authority().server(&name)?, &name);
            let server = Server::start(peer.listen(443)?, site)?;
            let said = client::get(&config, &name, stream::connect(GATEWAY)?)?;
            ensure!(said == name, "{said} instead of {name}");
            let from = server.next()?.ip().to_canonical();
            let own = if family == "v4" {
                "10.0.0.1"
            } else {
                "fd00::1"
            };
            ensure!(from.to_string() == own, "{name} was asked by {from}");
        }
    }
    end(&gateway)
}

fn fifty_megabytes_arrive_as_they_were_sent_from_every_client(lab: &mut Lab) -> Result<()> {
    const BYTES: u64 = 50_000_000;
    let (gateway, pairs) = one_for_each(lab, true)?;
    let pattern = Pattern::new(&mut Random::from_environment());
    for (network, peer) in &pairs {
        let name = format!("v4-{}.example", network.port);
        let hello = client::hello(&name)?;
        let (sent, length) = (pattern.clone(), hello.len());
        let _server = Server::start(peer.listen(443)?, move |mut stream, _| {
            stream::skip(&mut stream, length)?;
            sent.send(&mut stream, BYTES, 64 * 1024)?;
            stream::half_close(&stream)?;
            stream::read_to_end(&mut stream)
        })?;
        let mut stream = stream::connect(GATEWAY)?;
        stream.write_all(&hello)?;
        let count = pattern.receive(&mut stream, |_| {})?;
        ensure!(count == BYTES, "{count} bytes came from {:?}", peer.client);
    }
    end(&gateway)
}

fn only_the_right_secret_connects(lab: &mut Lab) -> Result<()> {
    let mut network = Network::new(PORT)?;
    let (secret, other) = (Keys::preshared()?, Keys::preshared()?);
    let mut peers = Vec::new();
    // One client for each case: some take no second configuration.
    let cases = [None, Some(&other), Some(&secret)].map(|told| Client::ALL.map(|c| (told, c)));
    for (number, (told, client)) in (2..).zip(cases.into_iter().flatten()) {
        let peer = lab.peer(client)?;
        network.invite(&peer, number)?;
        network.document["peers"][&peer.keys.public]["preshared_key"] = secret.as_str().into();
        peers.push((told, peer));
    }
    let gateway = lab.gateway(tls(json!({})), network.state())?;
    for (told, peer) in &peers {
        peer.connect(Uplink {
            preshared_key: told.map(String::as_str),
            ..network.uplink()
        })?;
    }
    for (told, peer) in &peers {
        if *told == Some(&secret) {
            peer.wait_for_ping("10.0.0.1")?;
        } else {
            let is_let_in = peer.pings("10.0.0.1")?;
            ensure!(!is_let_in, "{:?} is let in with {told:?}", peer.client);
        }
    }
    eventually("the status knows who shook hands", || {
        let status = gateway.api().get("/api/v1/status").ok()?;
        let shown = &status["networks"]["50000"]["peers"];
        let mut peers = peers.iter();
        let is_right = peers.all(|(told, peer)| {
            let has_shaken = shown[&peer.keys.public]["last_handshake"].is_u64();
            has_shaken == (*told == Some(&secret))
        });
        is_right.then_some(())
    })?;
    end(&gateway)
}

fn a_peer_that_roams_keeps_its_connections(lab: &mut Lab) -> Result<()> {
    for client in Client::ALL {
        let peer = lab.peer(client)?;
        let _server = Server::start(peer.listen(443)?, server::echo)?;
        let mut network = Network::new(PORT)?;
        network.invite(&peer, 2)?;
        network.publish(NAME, "10.0.0.2:443");
        let gateway = lab.gateway(tls(json!({})), network.state())?;
        network.meet(&peer)?;
        let mut flow = Flow::open(NAME)?;
        let mut events = gateway.api().events(Some(0))?;
        let is_connected = |event: &Value| event["kind"] == "peer_connected";
        events.wait_for("the peer is connected", is_connected)?;
        let key = &peer.keys.public;
        for roam in [Peer::roam_away, Peer::roam_home] {
            let before = network.endpoint(key)?;
            roam(&peer)?;
            peer.wait_for_ping("10.0.0.1")?;
            let now = eventually("the peer speaks from elsewhere", || {
                let now = network.endpoint(key).ok()?;
                (now != before).then_some(now)
            })?;
            flow.still_lives()?;
            let has_moved = |event: &Value| {
                event["kind"] == "endpoint_changed" && event["endpoint"] == now.to_string()
            };
            events.wait_for(&format!("the peer is at {now}"), has_moved)?;
        }
        flow.end()?;
        drop(events);
        end(&gateway)?;
        gateway.stop()?;
    }
    Ok(())
}

fn peers_reach_each_other_unless_it_is_forbidden(lab: &mut Lab) -> Result<()> {
    let mut network = Network::new(PORT)?;
    let left = lab.peer(Client::WireGuardGo)?;
    let right = lab.peer(Client::GotaTun)?;
    network.invite(&left, 2)?;
    network.invite(&right, 3)?;
    let gateway = lab.gateway(tls(json!({})), network.state())?;
    network.meet(&left)?;
    network.meet(&right)?;
    let _server = Server::start(right.listen(80)?, server::greet("right"))?;
    let reaches = || {
        let tcp = ["10.0.0.3:80", "[fd00::3]:80"]
            .map(|to| to.parse().is_ok_and(|to| left.dial(to).is_ok()));
        anyhow::Ok([
            left.pings("10.0.0.3")?,
            right.pings("fd00::2")?,
            tcp[0],
            tcp[1],
        ])
    };
    ensure!(reaches()? == [true; 4], "{:?}", reaches()?);
    network.document["peer_to_peer"] = false.into();
    gateway.api().apply(&network.state())?;
    ensure!(reaches()? == [false; 4], "{:?}", reaches()?);
    ensure!(left.pings("10.0.0.1")? && right.pings("fd00::1")?);
    network.document["peer_to_peer"] = true.into();
    gateway.api().apply(&network.state())?;
    ensure!(reaches()? == [true; 4], "{:?}", reaches()?);
    end(&gateway)
}

/// An address of the lab's own namespace that a peer can only ask for through its tunnel.
const HOST: &str = "203.0.113.7";

fn a_peer_reaches_nothing_but_its_network(lab: &mut Lab) -> Result<()> {
    let (mut blue, mut green) = (Network::new(PORT)?, Network::new(PORT + 1)?);
    green.document["address"] = json!(["10.7.0.1/24"]);
    let (ours, others) = (lab.peer(Client::BoringTun)?, lab.peer(Client::WireGuardGo)?);
    blue.invite(&ours, 2)?;
    green.admit(&others.keys.public, &["10.7.0.2/32"]);
    others.add_address("10.7.0.2/24")?;
    Tool::new("ip", &format!("address add {HOST}/32 dev lo")).run()?;
    let mut boot = tls(json!({ "bind": "0.0.0.0:8443" }));
    boot["api"] = json!({ "listen": "0.0.0.0:8080", "token": "a-token-of-sixteen-bytes-at-least" });
    let gateway = lab.gateway(boot, network::state([&blue, &green]))?;
    ours.connect(Uplink {
        allowed_ips: "0.0.0.0/0, ::/0",
        ..blue.uplink()
    })?;
    others.connect(Uplink {
        allowed_ips: "10.7.0.0/24",
        ..green.uplink()
    })?;
    others.wait_for_ping("10.7.0.1")?;
    ours.wait_for_ping("10.0.0.1")?;
    ensure!(ours.pings("fd00::1")?);
    // All that is not the outer link leads into the tunnel.
    let device = ours.device();
    for prefix in ["0.0.0.0/1", "128.0.0.0/1"] {
        Tool::new("ip", &format!("route add {prefix} dev {device}")).run_in(&ours.netns)?;
    }
    // A server where the gateway dials from: what is refused is refused by the rules alone.
    let inside = blue.netns()?;
    let bind = || Ok(std::net::TcpListener::bind("[::]:80")?.into());
    let _inside = Server::start(inside.enter(bind)?.into(), server::greet("inside"))?;
    let _beside = Server::start(others.listen(80)?, server::greet("beside"))?;
    let dial = |to: &str| {
        let dial = || Ok(std::net::TcpStream::connect(to)?.into());
        inside.enter(dial)
    };
    dial("10.0.0.1:80")?;
    dial("[fd00::1]:80")?;
    for target in [
        "10.0.0.1:80".to_owned(),
        "[fd00::1]:80".to_owned(),
        "10.0.0.1:8443".to_owned(),
        "10.0.0.1:8080".to_owned(),
        format!("{HOST}:8443"),
        format!("{HOST}:8080"),
        "10.7.0.2:80".to_owned(),
        "10.7.0.1:8443".to_owned(),
    ] {
        ensure!(ours.dial(target.parse()?).is_err(), "{target} is reached");
    }
    for address in [HOST, "10.7.0.1", "10.7.0.2"] {
        ensure!(!ours.pings(address)?, "{address} answers");
    }
    ensure!(ours.pings("10.0.0.1")? && ours.pings("fd00::1")?);
    Tool::new("ip", &format!("address delete {HOST}/32 dev lo")).run()?;
    drop((_inside, inside));
    gateway.stop()?;
    ours_to_remove(lab, [&blue, &green]);
    Ok(())
}

/// Networks stay when their gateway ends; here the lab removes them.
fn ours_to_remove<'a>(lab: &mut Lab, networks: impl IntoIterator<Item = &'a Network>) {
    for network in networks {
        lab.remove_later(&std::path::Path::new("/run/netns").join(network.name()));
    }
}

fn a_peer_reaches_the_listeners_of_its_network(lab: &mut Lab) -> Result<()> {
    let peer = lab.peer(Client::BoringTun)?;
    let mut network = Network::new(PORT)?;
    network.invite(&peer, 2)?;
    let plain = network.state();
    let gateway = lab.gateway(tls(json!({})), plain.clone())?;
    network.meet(&peer)?;
    peer.wait_for_ping("10.0.0.1")?;
    let _server = Server::start(peer.listen(443)?, server::echo)?;
    let at: SocketAddr = "10.0.0.1:5432".parse()?;
    let mut with = plain.clone();
    let listener = json!({ "bind": at, "protocol": "tcp", "to": ["10.0.0.2:443"] });
    with["50000"]["listeners"] = json!({ "db": listener });
    let applied = gateway.api().apply(&with)?;
    ensure!(applied.get("degraded").is_none(), "{applied}");
    let mut stream = peer.dial(at)?;
    stream.write_all(b"hello")?;
    stream::expect(&mut stream, b"hello")?;
    let rules = || network.run("nft", "list table inet ringway");
    ensure!(rules()?.contains("tcp dport 5432 accept"), "{}", rules()?);
    // What the kernel shows of it is what was written.
    let again = gateway.api().apply(&with)?;
    ensure!(again["changed"] == false, "{again}");
    gateway.api().apply(&plain)?;
    ensure!(!rules()?.contains("5432"), "{}", rules()?);
    stream.write_all(b"still there?")?;
    stream::expect(&mut stream, b"still there?")?;
    end(&gateway)
}
