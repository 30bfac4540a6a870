//! A gateway that may not do everything: as root without capabilities, as in a container.

use std::{net::TcpListener, path::Path, process::Stdio, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use control_kernel::names::DIRECTORY;
use serde_json::json;
use tests::{
    flow::Flow,
    gateway::Gateway,
    lab::{Lab, tls},
    network::Network,
    runner::Test,
    server::{self, Server},
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    without_any_privilege_it_serves_what_is_dialed_from_the_host: 120,
    without_a_way_into_namespaces_it_serves_what_is_dialed_from_the_host: 120,
    without_network_administration_it_serves_networks_without_a_device: 120,
];

/// The name of a network that is dialed from the host's own namespace.
const PLAIN: &str = "plain.example";
/// The name of one in a namespace that is there already.
const INSIDE: &str = "inside.example";
/// The network with a device.
const DEVICE: u16 = 50_000;
/// What a network that fails for want of a privilege is told.
const NEED: &str = "Ringway needs CAP_NET_ADMIN and CAP_SYS_ADMIN";

/// A network of each kind, and the gateway before them without some capabilities (setpriv(1)).
struct Scene {
    gateway: Arc<Gateway>,
    /// The network in a namespace that is there already.
    inside: u16,
    _servers: [Server<u64>; 2],
}

impl Scene {
    fn without(lab: &mut Lab, capabilities: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let target = listener.local_addr()?.to_string();
        let tenant = lab.tenant(51_820)?;
        let servers = [
            Server::start(listener, server::echo)?,
            Server::start(tenant.listen(443)?, server::echo)?,
        ];
        let mut state = tenant.state(json!({ INSIDE: ["10.0.0.2:443"] }));
        state["7"] = json!({ "netns": null, "proxy": { PLAIN: [target] } });
        let mut device = Network::new(DEVICE)?;
        device.publish("device.example", "10.0.0.2:443");
        state[DEVICE.to_string()] = device.document;
        let before = format!(
            "exec setpriv --bounding-set {capabilities} --inh-caps {capabilities} \"$0\" \"$@\""
        );
        let gateway = lab.gateway_after(&before, Stdio::null(), tls(json!({})), state)?;
        gateway.expect_error("CAP_NET_ADMIN");
        gateway.expect_error("the networks of this namespace cannot be reached");
        Ok(Self {
            gateway,
            inside: tenant.port,
            _servers: servers,
        })
    }

    /// Why a network is degraded.
    fn why(&self, port: u16) -> Result<String> {
        let status = self.gateway.api().get("/api/v1/status")?;
        let network = &status["networks"][port.to_string()];
        ensure!(network["state"] == "degraded", "{port}: {status}");
        let list = status["degraded"].as_array().context("no list")?.iter();
        let mut of_it = list.filter(|it| it["network"] == json!(port));
        let why = of_it.find_map(|it| it["why"].as_str());
        Ok(why
            .with_context(|| format!("no reason: {status}"))?
            .to_owned())
    }

    fn is_well(&self, port: u16) -> Result<()> {
        let status = self.gateway.api().get("/api/v1/status")?;
        let state = &status["networks"][port.to_string()]["state"];
        ensure!(*state == "ok", "{port}: {status}");
        Ok(())
    }

    /// What is dialed from the host is served, and a network with a device is not.
    fn is_proxy(&self) -> Result<()> {
        self.is_well(7)?;
        Flow::open(PLAIN)?.end()?;
        let why = self.why(DEVICE)?;
        ensure!(why.contains(NEED), "{why}");
        Ok(())
    }

    /// A state that can be had is taken up, and served.
    fn takes_changes(&self) -> Result<()> {
        let config = self.gateway.api().get("/api/v1/config")?;
        let alone = json!({ "7": config["7"] });
        let applied = self.gateway.api().apply(&alone)?;
        ensure!(applied.get("degraded").is_none(), "{applied}");
        let status = self.gateway.api().get("/api/v1/status")?;
        ensure!(status["degraded"] == json!([]), "{status}");
        Flow::open(PLAIN)?.end()?;
        Ok(())
    }
}

fn without_any_privilege_it_serves_what_is_dialed_from_the_host(lab: &mut Lab) -> Result<()> {
    let scene = Scene::without(lab, "-sys_admin,-net_admin")?;
    scene.gateway.wait_for_log("without CAP_")?;
    scene.is_proxy()?;
    let why = scene.why(scene.inside)?;
    ensure!(why.contains(NEED), "{why}");
    scene.takes_changes()
}

fn without_a_way_into_namespaces_it_serves_what_is_dialed_from_the_host(
    lab: &mut Lab,
) -> Result<()> {
    let scene = Scene::without(lab, "-sys_admin")?;
    scene.gateway.wait_for_log("without CAP_SYS_ADMIN")?;
    scene.is_proxy()?;
    let why = scene.why(scene.inside)?;
    ensure!(why.contains(NEED), "{why}");
    scene.takes_changes()
}

fn without_network_administration_it_serves_networks_without_a_device(lab: &mut Lab) -> Result<()> {
    let scene = Scene::without(lab, "-net_admin")?;
    scene.gateway.wait_for_log("without CAP_NET_ADMIN")?;
    scene.is_proxy()?;
    scene.is_well(scene.inside)?;
    Flow::open(INSIDE)?.end()?;
    // It could be made, and its rules could not.
    lab.remove_later(&Path::new(DIRECTORY).join(format!("network-{DEVICE}")));
    Ok(())
}
