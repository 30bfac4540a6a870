//! Ends of every kind: what was desired is so again, what was counted stays counted.

use std::{
    fs,
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::{
    api::Api,
    flow::Flow,
    gateway::Gateway,
    lab::{Lab, tls},
    leak::nothing_is_left,
    network::{self, Network},
    peer::{Client, Keys, Peer},
    runner::Test,
    server::{self, Server},
    tests,
    wait::{PATIENCE, eventually, within},
};

pub(crate) const TESTS: &[Test] = tests![
    after_an_orderly_end_everything_is_as_before,
    after_a_kill_everything_is_as_before,
    a_kill_in_the_middle_of_an_apply_is_made_good: 120,
    a_store_has_one_gateway,
];

const NAME: &str = "blue.example";

fn after_an_orderly_end_everything_is_as_before(lab: &mut Lab) -> Result<()> {
    comes_back(lab, Signal::SIGTERM)
}

fn after_a_kill_everything_is_as_before(lab: &mut Lab) -> Result<()> {
    comes_back(lab, Signal::SIGKILL)
}

/// One network for each client, the first of them with a server.
struct Scene {
    networks: Vec<Network>,
    peers: Vec<Peer>,
    _server: Server<u64>,
}

impl Scene {
    fn new(lab: &mut Lab) -> Result<Self> {
        let mut networks = Vec::new();
        let mut peers = Vec::new();
        for (port, client) in (50_000..).zip(Client::ALL) {
            let peer = lab.peer(client)?;
            let mut network = Network::new(port)?;
            network.invite(&peer, 2)?;
            network.publish(&format!("tenant-{port}.example"), "10.0.0.2:443");
            networks.push(network);
            peers.push(peer);
        }
        networks[0].publish(NAME, "10.0.0.2:443");
        Ok(Self {
            _server: Server::start(peers[0].listen(443)?, server::echo)?,
            networks,
            peers,
        })
    }

    /// Everything that was ever counted of the first network: relayed in and out, and received and
    /// sent by its device.
    fn totals(&self, api: &Api) -> Result<[u64; 4]> {
        let status = api.get("/api/v1/status")?;
        let network = &status["networks"][self.networks[0].port.to_string()];
        let peer = &network["peers"][&self.peers[0].keys.public];
        let relayed = &api.get("/api/v1/traffic/routes")?["traffic"];
        let counted = [
            &relayed["bytes_in"],
            &relayed["bytes_out"],
            &peer["rx"],
            &peer["tx"],
        ];
        Ok(counted.map(|value| value.as_u64().unwrap_or_default()))
    }

    fn is_as_declared(&self, api: &Api) -> Result<()> {
        let config = api.get("/api/v1/config?secrets=true")?;
        for network in &self.networks {
            let part = &config[network.port.to_string()];
            for key in ["private_key", "address"] {
                ensure!(part[key] == network.document[key], "{key}: {config}");
            }
        }
        let again = api.apply(&network::state(&self.networks))?;
        ensure!(again["changed"] == false, "{again}");
        Ok(())
    }

    fn has_shaken_hands(&self) -> bool {
        self.networks.iter().all(|network| {
            let shown = network.show("latest-handshakes");
            shown.is_ok_and(|shown| !shown.is_empty() && !shown.ends_with("\t0\n"))
        })
    }
}

/// Has counters move until what was counted by now is on disk: they are written every second, and
/// the log of the database is as young as its last write.
fn wait_until_written(gateway: &Gateway, peer: &Peer) -> Result<()> {
    let now = SystemTime::now();
    let log = gateway.directory().join("ringway.db-wal");
    eventually("what was counted is written", || {
        peer.pings("10.0.0.1").ok()?;
        let written = fs::metadata(&log).ok()?.modified().ok()?;
        (written > now + Duration::from_millis(1100)).then_some(())
    })
}

fn comes_back(lab: &mut Lab, end: Signal) -> Result<()> {
    let scene = Scene::new(lab)?;
    let gateway = lab.gateway(tls(json!({})), json!({}))?;
    gateway.api().apply(&network::state(&scene.networks))?;
    for (network, peer) in scene.networks.iter().zip(&scene.peers) {
        network.meet(peer)?;
    }
    let mut flow = Flow::open(NAME)?;
    flow.echo(&vec![3; 500_000])?;
    let sent = flow.end()?;
    let key = &scene.peers[0].keys.public;
    let before = eventually("the flow is counted", || {
        let totals = scene.totals(&gateway.api()).ok()?;
        let counted = scene.networks[0].transfer(key).ok()?;
        let is_known = (totals[2], totals[3]) == counted;
        (is_known && totals[..2] == [sent, sent]).then_some(totals)
    })?;
    let status = gateway.api().get("/api/v1/status")?;
    wait_until_written(&gateway, &scene.peers[0])?;
    gateway.signal(end)?;
    gateway.wait_for_exit(PATIENCE)?;
    let gateway = lab.restart(&gateway)?;
    within(
        Duration::from_secs(2),
        "every peer shook hands again",
        || scene.has_shaken_hands().then_some(()),
    )?;
    let restarted = gateway.api().get("/api/v1/status")?;
    ensure!(
        restarted["generation"] == status["generation"],
        "{restarted}"
    );
    for peer in &scene.peers {
        peer.wait_for_ping("10.0.0.1")?;
    }
    // The kernel's device goes on by itself, with what it counted.
    let is_new = restarted["wireguard"]["backend"] == "userspace";
    let base = eventually(
        "the device's counters are added to those of the one before",
        || {
            let counted = scene.networks[0].transfer(key).ok()?;
            let now = scene.totals(&gateway.api()).ok()?;
            let new = if is_new { counted } else { (0, 0) };
            let base = [
                now[0],
                now[1],
                now[2].checked_sub(new.0)?,
                now[3].checked_sub(new.1)?,
            ];
            // Two looks that agree: the device did not count on between the two questions.
            (scene.networks[0].transfer(key).ok()? == counted).then_some(base)
        },
    )?;
    ensure!(
        base[..2] == before[..2],
        "relayed {before:?}, then {base:?}"
    );
    for (base, before) in base.iter().zip(before) {
        // The pings of the meantime are all that comes on top.
        let expected = before..before + 50_000;
        ensure!(expected.contains(base), "{before} before, {base} after");
    }
    Flow::open(NAME)?.end()?;
    scene.is_as_declared(&gateway.api())?;
    gateway.api().apply(&json!({}))?;
    nothing_is_left(&gateway)
}

fn a_kill_in_the_middle_of_an_apply_is_made_good(lab: &mut Lab) -> Result<()> {
    let mut networks = Vec::new();
    let peer = lab.peer(Client::WireGuardGo)?;
    for port in 50_000..50_040 {
        let mut network = Network::new(port)?;
        network.admit(&Keys::generate()?.public, &["10.0.0.3/32"]);
        networks.push(network);
    }
    networks[39].invite(&peer, 2)?;
    let mut gateway = lab.gateway(tls(json!({})), json!({}))?;
    for steps in [1, 60, 150] {
        let api = gateway.api();
        api.apply(&json!({}))?;
        let document = network::state(&networks).to_string();
        let asking = std::thread::spawn(move || api.try_apply(&document));
        let taken = |line: &&Value| line["message"] == "step" && line["op"] != "remove";
        let before = gateway.log()?.iter().filter(taken).count();
        eventually("some steps are taken", || {
            let now = gateway.log().ok()?.iter().filter(taken).count();
            (now >= before + steps).then_some(())
        })?;
        gateway.kill()?;
        // Whoever asked has no answer, or had it just before.
        drop(asking.join());
        gateway = lab.restart(&gateway)?;
        let status = gateway.api().get("/api/v1/status")?;
        for network in &networks {
            let shown = &status["networks"][network.port.to_string()];
            ensure!(
                shown["state"] == "ok" && shown["device"]["up"] == true,
                "{shown}"
            );
        }
        networks[39].meet(&peer)?;
        let again = gateway.api().apply(&network::state(&networks))?;
        ensure!(again["changed"] == false, "{again}");
    }
    gateway.api().apply(&json!({}))?;
    nothing_is_left(&gateway)
}

fn a_store_has_one_gateway(lab: &mut Lab) -> Result<()> {
    let mut network = Network::new(50_000)?;
    let peer = lab.peer(Client::BoringTun)?;
    network.invite(&peer, 2)?;
    let gateway = lab.gateway(tls(json!({})), network.state())?;
    network.meet(&peer)?;
    let boot = gateway.directory().join("ringway.yaml");
    let mut second = Command::new(lab.ringway());
    second.arg("serve").arg("--config").arg(&boot);
    let output = second.current_dir(gateway.directory()).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "{said}");
    ensure!(said.contains("another ringway uses the store"), "{said}");
    peer.wait_for_ping("10.0.0.1")?;
    gateway.api().apply(&json!({}))?;
    nothing_is_left(&gateway)
}
