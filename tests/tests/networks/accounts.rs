//! Every byte is known: what the engine relayed for whom, and what WireGuard counted for each peer.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::{
    api::Api,
    flow::Flow,
    lab::{Lab, tls},
    leak::nothing_is_left,
    network::Network,
    peer::{Client, Keys},
    random::Random,
    runner::Test,
    server::{self, Server},
    stream, tests,
    wait::{eventually, within},
};

pub(crate) const TESTS: &[Test] = tests![
    relayed_bytes_are_those_that_both_ends_counted,
    a_peers_counters_are_the_devices_own,
    what_only_one_side_sends_is_counted,
    a_device_that_is_made_again_loses_and_adds_nothing,
    what_moved_just_before_a_network_gets_another_key_is_the_old_keys,
    what_moves_while_a_change_is_made_is_whose_it_was_before: 60,
    a_poller_loses_and_doubles_nothing_while_states_come_and_go: 120,
];

const NAME: &str = "blue.example";
const PORT: u16 = 50_000;

/// Rows are written every second, so that a test need not wait for a minute.
fn boot() -> Value {
    let mut boot = tls(json!({}));
    boot["accounts"] = json!({ "row_interval": "1s" });
    boot
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}

/// A peer's received and sent bytes in the status.
fn total(api: &Api, network: &Network, peer: &str) -> Result<(u64, u64)> {
    let status = api.get("/api/v1/status")?;
    let peer = &status["networks"][network.port.to_string()]["peers"][peer];
    ensure!(peer.is_object(), "the status has no such peer");
    Ok((number(&peer["rx"]), number(&peer["tx"])))
}

fn relayed_bytes_are_those_that_both_ends_counted(lab: &mut Lab) -> Result<()> {
    let peer = lab.peer(Client::WireGuardGo)?;
    let server = Server::start(peer.listen(443)?, |mut stream, _| {
        let mut count = 0;
        let mut buffer = vec![0; 64 * 1024];
        // Until any end: the other side's reset is one.
        loop {
            match std::io::Read::read(&mut stream, &mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    count += length as u64;
                    std::io::Write::write_all(&mut stream, &buffer[..length])?;
                }
                Err(error) if stream::is_reset(&error) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(count)
    })?;
    let mut network = Network::new(PORT)?;
    network.invite(&peer, 2)?;
    network.publish(NAME, "10.0.0.2:443");
    let gateway = lab.gateway(boot(), network.state())?;
    network.meet(&peer)?;
    let mut random = Random::from_environment();
    let mut by_client: BTreeMap<IpAddr, (u64, u64)> = BTreeMap::new();
    for index in 0..12_u8 {
        let client = IpAddr::from(Ipv4Addr::new(127, 0, 1, index % 3 + 1));
        let mut flow = Flow::open_from(client, NAME)?;
        for _ in 0..4 {
            let length = 1 + random.index(100_000);
            flow.echo(&random.bytes(length))?;
        }
        let sent = flow.sent;
        // Nothing is on its way, so a reset loses nothing either.
        if index % 2 == 0 {
            flow.end()?;
        } else {
            stream::reset(flow.stream)?;
        }
        ensure!(server.next()? == sent, "the server counted otherwise");
        let counted = by_client.entry(client).or_default();
        *counted = (counted.0 + sent, counted.1 + 1);
    }
    let expected: u64 = by_client.values().map(|(bytes, _)| bytes).sum();
    let what = format!("{expected} bytes each way in the accounts");
    within(Duration::from_secs(4), &what, || {
        let routes = gateway.api().get("/api/v1/traffic/routes").ok()?;
        let sum = &routes["traffic"];
        (sum["bytes_in"] == expected && sum["bytes_out"] == expected).then_some(())
    })?;
    let routes = gateway.api().get("/api/v1/traffic/routes")?;
    let route = &routes["networks"][&network.keys.public]["routes"][NAME];
    for (client, (bytes, connections)) in by_client {
        let of_client = &route["clients"][client.to_string()];
        let expected = json!({
            "bytes_in": bytes, "bytes_out": bytes, "connections": connections,
        });
        ensure!(of_client["traffic"] == expected, "{of_client}: {expected}");
        ensure!(
            of_client["peers"][&peer.keys.public] == expected,
            "{of_client}"
        );
    }
    gateway.api().apply(&json!({}))?;
    nothing_is_left(&gateway)
}

fn a_peers_counters_are_the_devices_own(lab: &mut Lab) -> Result<()> {
    let peer = lab.peer(Client::BoringTun)?;
    let _server = Server::start(peer.listen(443)?, server::echo)?;
    let mut network = Network::new(PORT)?;
    network.invite(&peer, 2)?;
    network.publish(NAME, "10.0.0.2:443");
    let gateway = lab.gateway(boot(), network.state())?;
    network.meet(&peer)?;
    let mut flow = Flow::open(NAME)?;
    let payload = vec![7; 1 << 20];
    flow.echo(&payload)?;
    flow.end()?;
    let key = &peer.keys.public;
    let (rx, tx) = eventually("the status and the device say the same", || {
        let counted = network.transfer(key).ok()?;
        (total(&gateway.api(), &network, key).ok()? == counted).then_some(counted)
    })?;
    let payload = payload.len() as u64;
    ensure!(rx > payload && tx > payload, "{rx} and {tx} of {payload}");
    eventually("the rows say the same", || {
        let traffic = gateway.api().get("/api/v1/traffic?since=0").ok()?;
        let device = &traffic["networks"][&network.keys.public]["devices"][key];
        (device["traffic"] == json!({ "rx": rx, "tx": tx })).then_some(())
    })?;
    gateway.api().apply(&json!({}))?;
    nothing_is_left(&gateway)
}

fn what_only_one_side_sends_is_counted(lab: &mut Lab) -> Result<()> {
    const DATAGRAMS: u64 = 200;
    const BYTES: usize = 1000;
    let peer = lab.peer(Client::GotaTun)?;
    let mut network = Network::new(PORT)?;
    network.invite(&peer, 2)?;
    let gateway = lab.gateway(boot(), network.state())?;
    network.meet(&peer)?;
    let key = &peer.keys.public;
    let (rx, tx) = eventually("the pings are counted", || {
        let counted = network.transfer(key).ok()?;
        (total(&gateway.api(), &network, key).ok()? == counted).then_some(counted)
    })?;
    let socket = peer.datagrams()?;
    for _ in 0..DATAGRAMS {
        // Nobody answers: the network drops what is not for it.
        socket.send_to(&[9; BYTES], "10.0.0.1:9")?;
    }
    let sent = DATAGRAMS * BYTES as u64;
    within(Duration::from_secs(4), "the datagrams are counted", || {
        let (rx_now, tx_now) = total(&gateway.api(), &network, key).ok()?;
        // In between there is at most a packet that keeps the way open, or a handshake.
        (rx_now >= rx + sent && tx_now < tx + 1000).then_some(())
    })?;
    gateway.api().apply(&json!({}))?;
    nothing_is_left(&gateway)
}

/// Between two samples nobody has been told of it: the change tells first.
fn what_moved_just_before_a_network_gets_another_key_is_the_old_keys(lab: &mut Lab) -> Result<()> {
    let peer = lab.peer(Client::WireGuardGo)?;
    let _server = Server::start(peer.listen(443)?, server::echo)?;
    let mut network = Network::new(PORT)?;
    network.invite(&peer, 2)?;
    network.publish(NAME, "10.0.0.2:443");
    let gateway = lab.gateway(boot(), network.state())?;
    network.meet(&peer)?;
    let mut keys = vec![network.keys.public.clone()];
    let mut relayed = Vec::new();
    for _ in 0..6 {
        let mut flow = Flow::open(NAME)?;
        flow.echo(&[7; 100_000])?;
        relayed.push(flow.end()?);
        gateway.wait_for_records(relayed.len())?;
        network.keys = Keys::generate()?;
        network.document["private_key"] = network.keys.private.clone().into();
        gateway.api().apply(&network.state())?;
        network.meet(&peer)?;
        keys.push(network.keys.public.clone());
    }
    let of = |path: &str| -> Result<Value> { Ok(gateway.api().get(path)?["networks"].clone()) };
    eventually("all rows are there", || {
        let last = &relayed[relayed.len() - 1];
        let routes = of("/api/v1/traffic/routes").ok()?;
        let traffic = &routes[&keys[keys.len() - 2]]["routes"][NAME]["traffic"];
        (traffic["bytes_in"] == *last).then_some(())
    })?;
    let (routes, devices) = (
        of("/api/v1/traffic/routes")?,
        of("/api/v1/traffic?since=0")?,
    );
    for (key, bytes) in keys.iter().zip(&relayed) {
        let traffic = &routes[key]["routes"][NAME]["traffic"];
        ensure!(
            traffic["bytes_in"] == *bytes && traffic["connections"] == 1,
            "{traffic} of {bytes}"
        );
        let device = &devices[key]["devices"][&peer.keys.public]["traffic"];
        let rx = number(&device["rx"]);
        ensure!(
            (*bytes..*bytes + 30_000).contains(&rx),
            "{device} of {bytes}"
        );
    }
    gateway.api().apply(&json!({}))?;
    nothing_is_left(&gateway)
}

/// The network goes when all others are made, and its flow moves bytes until then.
fn what_moves_while_a_change_is_made_is_whose_it_was_before(lab: &mut Lab) -> Result<()> {
    const MADE: u16 = 24;
    let peer = lab.peer(Client::WireGuardGo)?;
    let _server = Server::start(peer.listen(443)?, server::echo)?;
    let mut network = Network::new(PORT)?;
    network.invite(&peer, 2)?;
    network.publish(NAME, "10.0.0.2:443");
    let gateway = lab.gateway(boot(), network.state())?;
    network.meet(&peer)?;
    let mut flow = Flow::open(NAME)?;
    // Until it is reset.
    let moving = thread::spawn(move || while flow.echo(&[7; 10_000]).is_ok() {});
    let others: Vec<Network> = (1..=MADE)
        .map(|offset| Network::new(PORT + offset))
        .collect::<Result<_>>()?;
    gateway.api().apply(&tests::network::state(&others))?;
    moving.join().ok().context("the flow's thread panicked")?;
    let record = &gateway.wait_for_records(1)?[0];
    let (bytes_in, bytes_out) = (number(&record["bytes_in"]), number(&record["bytes_out"]));
    ensure!(bytes_in > 10_000, "it moved nothing: {record}");
    let mut last = Value::Null;
    let found = eventually("all rows are there", || {
        last = gateway.api().get("/api/v1/traffic/routes").ok()?;
        let route = &last["networks"][&network.keys.public]["routes"][NAME];
        let of_peer = &route["clients"]["127.0.0.1"]["peers"][&peer.keys.public];
        (of_peer["bytes_in"] == bytes_in && of_peer["bytes_out"] == bytes_out).then_some(())
    });
    found.with_context(|| format!("{last} of {record}"))?;
    gateway.api().apply(&json!({}))?;
    nothing_is_left(&gateway)
}

fn a_device_that_is_made_again_loses_and_adds_nothing(lab: &mut Lab) -> Result<()> {
    let peer = lab.peer(Client::WireGuardGo)?;
    let _server = Server::start(peer.listen(443)?, server::echo)?;
    let mut network = Network::new(PORT)?;
    network.invite(&peer, 2)?;
    network.publish(NAME, "10.0.0.2:443");
    let gateway = lab.gateway(boot(), network.state())?;
    network.meet(&peer)?;
    let key = &peer.keys.public;
    let mut last = (0, 0);
    for _ in 0..3 {
        let mut flow = Flow::open(NAME)?;
        flow.echo(&vec![1; 300_000])?;
        flow.end()?;
        // Looked at before the device goes, or up to a second of it would not be known.
        let counted = eventually("the status knows what the device counted", || {
            let counted = network.transfer(key).ok()?;
            let total = total(&gateway.api(), &network, key).ok()?;
            (total.0 >= last.0 + counted.0 && total.1 >= last.1 + counted.1).then_some(total)
        })?;
        ensure!(counted.0 > last.0 + 300_000 && counted.1 > last.1 + 300_000);
        last = counted;
        network.run("ip", &format!("link delete {}", network.device()))?;
        eventually("the device is made again", || {
            let (rx, tx) = network.transfer(key).ok()?;
            (rx < 300_000 && tx < 300_000).then_some(())
        })?;
        let now = total(&gateway.api(), &network, key)?;
        ensure!(now.0 >= last.0 && now.1 >= last.1, "{last:?}, then {now:?}");
        last = eventually("both are one sum again", || {
            let counted = network.transfer(key).ok()?;
            let now = total(&gateway.api(), &network, key).ok()?;
            let grown = (now.0.checked_sub(last.0)?, now.1.checked_sub(last.1)?);
            (grown == counted).then_some(last)
        })?;
    }
    gateway.api().apply(&json!({}))?;
    nothing_is_left(&gateway)
}

/// Sums of what was answered bit by bit, by peer: received, sent.
type Sums = BTreeMap<String, (u64, u64)>;

/// Asks for what is new, and adds it up.
fn poll(api: &Api, since: &mut u64, sums: &mut Sums) -> Result<()> {
    loop {
        let answer = api.get(&format!("/api/v1/traffic?since={since}"))?;
        let networks = answer["networks"].as_object().context("no networks")?;
        let devices = networks.values().filter_map(|n| n["devices"].as_object());
        for (key, device) in devices.flatten() {
            let sum = sums.entry(key.clone()).or_default();
            sum.0 += number(&device["traffic"]["rx"]);
            sum.1 += number(&device["traffic"]["tx"]);
        }
        *since = number(&answer["stop_time"]);
        if answer["more"] != true {
            return Ok(());
        }
    }
}

/// What was answered at once for all time, by peer.
fn everything(api: &Api) -> Result<Sums> {
    let mut sums = Sums::new();
    poll(api, &mut 0, &mut sums)?;
    Ok(sums)
}

fn a_poller_loses_and_doubles_nothing_while_states_come_and_go(lab: &mut Lab) -> Result<()> {
    let peer = lab.peer(Client::WireGuardGo)?;
    let _server = Server::start(peer.listen(443)?, server::echo)?;
    let mut network = Network::new(PORT)?;
    network.invite(&peer, 2)?;
    network.publish(NAME, "10.0.0.2:443");
    let gateway = lab.gateway(boot(), network.state())?;
    network.meet(&peer)?;
    let api = gateway.api();
    let mut flow = Flow::open(NAME)?;
    let mut first = number(&api.get("/api/v1/status")?["generation"]["desired"]);
    let mut other = Network::new(PORT + 1)?;
    other.admit(&Keys::generate()?.public, &["10.0.0.2/32"]);
    let both = tests::network::state([&network, &other]);
    let mut random = Random::from_environment();
    let (mut since, mut sums) = (0, Sums::new());
    let until = Instant::now() + Duration::from_secs(20);
    let mut rounds = 0_u32;
    while Instant::now() < until {
        api.apply(&both)?;
        let length = 1 + random.index(200_000);
        flow.echo(&random.bytes(length))?;
        let rollback = format!("/api/v1/rollback/{first}?wait=true");
        let rolled_back = api.ask("POST", &rollback, Some(""))?.ok()?;
        // The one that was gone back to may be forgotten some day; its copy is younger.
        first = number(&rolled_back["generation"]);
        let length = 1 + random.index(200_000);
        flow.echo(&random.bytes(length))?;
        poll(&api, &mut since, &mut sums)?;
        rounds += 1;
    }
    ensure!(rounds > 5, "{rounds} rounds in all");
    let sent = flow.end()?;
    let key = &peer.keys.public;
    eventually(
        "the poller, the sum of all, the status and the device agree",
        || {
            poll(&api, &mut since, &mut sums).ok()?;
            let counted = network.transfer(key).ok()?;
            let agree = sums.get(key) == Some(&counted)
                && everything(&api).ok()?.get(key) == Some(&counted)
                && total(&api, &network, key).ok()? == counted;
            agree.then_some(())
        },
    )?;
    eventually("the relayed bytes are the flow's", || {
        let routes = api.get("/api/v1/traffic/routes").ok()?;
        let route = &routes["networks"][&network.keys.public]["routes"][NAME];
        let of_peer = &route["clients"]["127.0.0.1"]["peers"][key];
        (number(&of_peer["bytes_in"]) == sent && number(&of_peer["bytes_out"]) == sent)
            .then_some(())
    })?;
    api.apply(&json!({}))?;
    nothing_is_left(&gateway)
}
