//! What Ringway did not make is not Ringway's.

use std::path::Path;

use anyhow::{Result, ensure};
use control_kernel::name::NamespaceName;
use serde_json::json;
use tests::{
    lab::{Lab, tls},
    leak::nothing_is_left,
    namespaces::Namespaces,
    network::{self, Network},
    peer::Client,
    runner::Test,
    tests,
    tool::Tool,
    wait::eventually,
};

pub(crate) const TESTS: &[Test] = tests![
    a_foreign_namespace_is_refused_until_it_is_given,
    what_is_foreign_is_never_touched,
];

fn a_foreign_namespace_is_refused_until_it_is_given(lab: &mut Lab) -> Result<()> {
    let (foreign, own) = (lab.peer(Client::WireGuardGo)?, lab.peer(Client::GotaTun)?);
    let (mut blue, mut green) = (Network::new(50_000)?, Network::new(50_001)?);
    blue.invite(&foreign, 2)?;
    green.invite(&own, 2)?;
    let mut somebody = Namespaces::default();
    let theirs = somebody.ensure(&NamespaceName::of_network(50_000))?;
    blue.run("ip", "link add theirs type veth peer name theirs-too")?;
    let before = blue.run("ip", "-brief address")?;
    let gateway = lab.gateway(tls(json!({})), json!({}))?;
    gateway.expect_error("a network is not as desired");
    let api = gateway.api();
    let applied = api.apply(&network::state([&blue, &green]))?;
    ensure!(
        applied["degraded"][0]["object"] == "network-50000",
        "{applied}"
    );
    let status = api.get("/api/v1/status")?;
    let shown = &status["networks"]["50000"];
    ensure!(shown["state"] == "degraded", "{shown}");
    let reasons = shown["reasons"].to_string();
    ensure!(
        reasons.contains("not made by Ringway") && reasons.contains("adopt"),
        "{reasons}"
    );
    ensure!(status["networks"]["50001"]["state"] == "ok", "{status}");
    green.meet(&own)?;
    ensure!(
        blue.run("ip", "-brief address")? == before,
        "it was touched"
    );
    blue.document["adopt"] = true.into();
    api.apply(&network::state([&blue, &green]))?;
    ensure!(
        blue.netns()?.identity() == theirs.identity(),
        "another was made"
    );
    ensure!(
        blue.run("ip", "-brief address")?.contains("theirs"),
        "it was emptied"
    );
    blue.meet(&foreign)?;
    eventually("the status says so", || {
        let status = api.get("/api/v1/status").ok()?;
        (status["networks"]["50000"]["state"] == "ok" && status["degraded"] == json!([]))
            .then_some(())
    })?;
    api.apply(&json!({}))?;
    nothing_is_left(&gateway)
}

fn what_is_foreign_is_never_touched(lab: &mut Lab) -> Result<()> {
    let mut somebody = Namespaces::default();
    let names = ["network-x", "somebody"].map(str::parse::<NamespaceName>);
    let mut others = Vec::new();
    for name in names {
        let name = name?;
        let netns = somebody.ensure(&name)?;
        Tool::new("ip", "link add wg50000 type veth peer name wg50001").run_in(&netns)?;
        Tool::new("nft", "add table inet ringway").run_in(&netns)?;
        others.push((name, netns));
    }
    Tool::new("ip", "link add foreign type veth peer name foreign-too").run()?;
    Tool::new("nft", "add table inet ringway").run()?;
    let look = || {
        let mut seen = vec![Tool::new("sh", "-c").argument(LOOK).run()?];
        for (_, netns) in &others {
            seen.push(Tool::new("sh", "-c").argument(LOOK).run_in(netns)?);
        }
        anyhow::Ok(seen)
    };
    let peer = lab.peer(Client::BoringTun)?;
    let before = look()?;
    let mut network = Network::new(50_000)?;
    network.invite(&peer, 2)?;
    let mut gateway = lab.gateway(tls(json!({})), network.state())?;
    network.meet(&peer)?;
    Tool::new("ip", &format!("netns delete {}", network.name())).run()?;
    eventually("the name is made again", || network.netns().ok())?;
    gateway.kill()?;
    gateway = lab.restart(&gateway)?;
    network.meet(&peer)?;
    ensure!(look()? == before, "{:?}, then {:?}", before, look()?);
    gateway.api().apply(&json!({}))?;
    ensure!(look()? == before, "{:?}, then {:?}", before, look()?);
    ensure!(!Path::new("/run/netns/network-50000").exists());
    Tool::new("ip", "link delete foreign").run()?;
    Tool::new("nft", "delete table inet ringway").run()?;
    for (name, _) in &others {
        somebody.remove(name)?;
    }
    nothing_is_left(&gateway)
}

/// Shows what a namespace has.
const LOOK: &str = "ip -brief link; ip -brief address; ip route; nft list ruleset";
