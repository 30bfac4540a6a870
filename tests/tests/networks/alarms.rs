//! A store that cannot be written: it is said, traffic goes on, and nothing is lost when it can be.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use rusqlite::Connection;
use serde_json::{Value, json};
use tests::{
    flow::Flow,
    gateway::Gateway,
    lab::{Lab, tls},
    leak::nothing_is_left,
    network::Network,
    peer::{Client, Peer},
    runner::Test,
    server::{self, Server},
    tests,
    wait::eventually,
};

pub(crate) const TESTS: &[Test] = tests![
    a_full_disk_is_an_alarm_and_nothing_more,
    a_locked_database_is_an_alarm_and_nothing_more,
];

const NAME: &str = "blue.example";

/// A file system of its own, of a few MiB. It is gone when this is dropped.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn mount(at: &'a Path) -> Result<Self> {
        fs::create_dir(at)?;
        let (tmpfs, none) = (Some("tmpfs"), MsFlags::empty());
        mount(tmpfs, at, tmpfs, none, Some("size=4m")).context("mounting a small disk")?;
        Ok(Self(at))
    }

    /// Takes every byte that is left.
    fn fill(&self) -> Result<()> {
        let mut file = fs::File::create(self.filler())?;
        let block = vec![0; 4096];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        Ok(())
    }

    fn free(&self) -> Result<()> {
        Ok(fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> std::path::PathBuf {
        self.0.join("filler")
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        // A gateway that still has files open there keeps the rest for itself.
        let _ = umount2(self.0, MntFlags::MNT_DETACH);
    }
}

struct Scene {
    network: Network,
    peer: Peer,
    _server: Server<u64>,
}

impl Scene {
    fn new(lab: &mut Lab) -> Result<Self> {
        let peer = lab.peer(Client::WireGuardGo)?;
        let mut network = Network::new(50_000)?;
        network.invite(&peer, 2)?;
        network.publish(NAME, "10.0.0.2:443");
        Ok(Self {
            _server: Server::start(peer.listen(443)?, server::echo)?,
            network,
            peer,
        })
    }

    /// Has the alarm raised while the store is kept from writing, and taken back after.
    fn alarm(
        &self,
        gateway: &Gateway,
        keep: impl FnOnce() -> Result<()>,
        release: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        gateway.expect_error("store");
        gateway.expect_error("accounts");
        let api = gateway.api();
        let mut flow = Flow::open(NAME)?;
        keep()?;
        eventually("the alarm is raised", || {
            flow.echo(&[1; 1000]).ok()?;
            let status = api.get("/api/v1/status").ok()?;
            let degraded = status["degraded"].to_string();
            (status["store"]["ok"] == false && degraded.contains("store")).then_some(())
        })?;
        ensure!(metric(gateway, "ringway_store_ok")? == 0.0);
        // Traffic goes on, and the state stays as it is.
        Flow::open(NAME)?.end()?;
        flow.still_lives()?;
        let mut other = self.network.clone();
        other.publish("green.example", "10.0.0.2:443");
        let refused = api.try_apply(&other.state().to_string())?;
        ensure!(
            refused.status == 503,
            "{}: {}",
            refused.status,
            refused.body
        );
        release()?;
        eventually("the alarm is over", || {
            let status = api.get("/api/v1/status").ok()?;
            (status["store"]["ok"] == true && status["degraded"] == json!([])).then_some(())
        })?;
        ensure!(metric(gateway, "ringway_store_ok")? == 1.0);
        let sent = flow.end()?;
        eventually("what was moved meanwhile is accounted", || {
            let routes = api.get("/api/v1/traffic/routes").ok()?;
            let network = &routes["networks"][&self.network.keys.public];
            let relayed = &network["routes"][NAME]["traffic"]["bytes_in"];
            (relayed.as_u64() > Some(sent)).then_some(())
        })?;
        api.apply(&other.state())?;
        Flow::open("green.example")?.end()?;
        Ok(())
    }
}

/// The value of a metric without labels.
fn metric(gateway: &Gateway, name: &str) -> Result<f64> {
    let text = gateway.api().ask("GET", "/metrics", None)?.body;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.with_context(|| format!("no {name}"))?.parse()?)
}

fn a_full_disk_is_an_alarm_and_nothing_more(lab: &mut Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let directory = lab.directory().join("disk");
    let disk = SmallDisk::mount(&directory)?;
    let mut boot = tls(json!({}));
    boot["store"] = Value::from(directory.join("ringway.db").to_string_lossy());
    let gateway = lab.gateway(boot, scene.network.state())?;
    scene.network.meet(&scene.peer)?;
    scene.alarm(&gateway, || disk.fill(), || disk.free())?;
    gateway.api().apply(&json!({}))?;
    nothing_is_left(&gateway)?;
    gateway.stop()?;
    drop(disk);
    Ok(())
}

fn a_locked_database_is_an_alarm_and_nothing_more(lab: &mut Lab) -> Result<()> {
    let scene = Scene::new(lab)?;
    let gateway = lab.gateway(tls(json!({})), scene.network.state())?;
    scene.network.meet(&scene.peer)?;
    let somebody = Connection::open(gateway.directory().join("ringway.db"))?;
    scene.alarm(
        &gateway,
        || Ok(somebody.execute_batch("BEGIN IMMEDIATE")?),
        || Ok(somebody.execute_batch("COMMIT")?),
    )?;
    drop(somebody);
    gateway.api().apply(&json!({}))?;
    nothing_is_left(&gateway)
}
