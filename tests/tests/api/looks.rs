//! Everything that can only be looked at.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::TcpListener,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::{
    curl::Curl,
    flow::Flow,
    gateway::SOCKET,
    lab::{Lab, tls},
    network::Network,
    runner::Test,
    server::{self, Server},
    tests,
    wait::eventually,
};

pub(crate) const TESTS: &[Test] = tests![
    every_path_answers,
    events_go_on_where_they_were_left,
    the_audit_log_says_who_did_what,
    metrics_are_what_prometheus_reads,
    the_page_of_the_api_needs_nothing_from_outside,
    targets_that_take_no_connection_are_degraded_until_one_does,
    threads_that_decide_give_way_to_threads_that_carry,
];

/// Nobody checks them, and there are no requests: only connections tell.
fn targets_that_take_no_connection_are_degraded_until_one_does(lab: &mut Lab) -> Result<()> {
    const NAME: &str = "a.example";
    let nobody = TcpListener::bind("127.0.0.1:0")?;
    let target = nobody.local_addr()?;
    drop(nobody);
    let proxy = json!({ (NAME): [target.to_string()] });
    let state = json!({ "7": { "netns": null, "proxy": proxy } });
    let gateway = lab.gateway(tls(json!({})), state)?;
    let down = || -> Option<Option<Value>> {
        let status = gateway.api().get("/api/v1/status").ok()?;
        let mut list = status["degraded"].as_array()?.iter();
        Some(list.find(|it| it["reason"] == "targets_down").cloned())
    };
    // As many as eject a target.
    for _ in 0..5 {
        ensure!(Flow::open(NAME).is_err(), "somebody listens at {target}");
    }
    let told = eventually("it is degraded", || down().flatten())?;
    let why = told["why"].as_str().unwrap_or_default();
    ensure!(told["network"] == 7 && why.contains("refused"), "{told}");
    let _server = Server::start(TcpListener::bind(target)?, server::echo)?;
    Flow::open(NAME)?.end()?;
    eventually("it has recovered", || down()?.is_none().then_some(()))
}

fn every_path_answers(lab: &mut Lab) -> Result<()> {
    let gateway = lab.gateway(tls(json!({})), json!({}))?;
    let curl = Curl::through(&gateway.directory().join(SOCKET));
    let openapi = curl.get("/api/v1/openapi.json")?;
    let paths = openapi["paths"].as_object().context("no paths")?;
    ensure!(paths.len() > 15, "{} paths", paths.len());
    let route = json!({ "id": "a", "host": "a.example", "maintenance": true });
    let listener = json!({ "bind": "127.0.0.1:9081", "protocol": "http" });
    let network = json!({ "netns": null, "routes": [route], "listeners": { "b": listener } });
    let state = json!({ "50000": network });
    curl.change("POST", "/api/v1/apply?wait=true", Some(&state))?;
    for (path, methods) in paths {
        // Events have no end; the others are asked as they stand, or for what is there.
        if methods.get("get").is_none() || path == "/api/v1/events" {
            continue;
        }
        let path = path.replace("{port}", "50000").replace("{id}", "a");
        let path = path.replace("{name}", "b");
        let answer = curl.ask("GET", &path, None)?;
        ensure!(
            answer.status == 200,
            "{path}: {}: {}",
            answer.status,
            answer.body
        );
        let head = answer.head.to_ascii_lowercase();
        ensure!(head.contains("cache-control: no-store"), "{path}: {head}");
        ensure!(
            head.contains("x-content-type-options: nosniff"),
            "{path}: {head}"
        );
    }
    for path in [
        "status",
        "traffic",
        "traffic/routes",
        "config",
        "generations",
        "audit",
    ] {
        let plain = curl.get(&format!("/api/v1/{path}"))?;
        let named = curl.get(&format!("/api/v1/{path}.json"))?;
        let keys = |answer: &Value| -> BTreeSet<String> {
            let object = answer.as_object().into_iter().flatten();
            object.map(|(key, _)| key.clone()).collect()
        };
        ensure!(keys(&plain) == keys(&named), "{path}: {plain}, {named}");
    }
    ensure!(curl.ask("GET", "/healthz", None)?.body == "ok\n");
    ensure!(curl.ask("GET", "/readyz", None)?.body == "ready\n");
    curl.refuse(404, "GET", "/api/v1/nothing", None)?;
    curl.refuse(405, "DELETE", "/api/v1/status", None)?;
    curl.refuse(400, "GET", "/api/v1/traffic?since=yesterday", None)?;
    let traffic = curl.get("/api/v1/traffic?since=5")?;
    ensure!(
        traffic["start_time"] == 5 && traffic["stop_time"] == 5,
        "{traffic}"
    );
    // A test ends without a listener of a network.
    curl.change("POST", "/api/v1/apply?wait=true", Some(&json!({})))?;
    Ok(())
}

fn events_go_on_where_they_were_left(lab: &mut Lab) -> Result<()> {
    let gateway = lab.gateway(tls(json!({})), json!({}))?;
    let api = gateway.api();
    let applied = |event: &Value| event["kind"] == "state_applied";
    let mut events = api.events(None)?;
    let network = Network::new(50_000)?;
    api.apply(&network.state())?;
    let first = events.wait_for("the first state", applied)?;
    ensure!(
        first["generation"] == 2 && first["time"].is_u64(),
        "{first}"
    );
    drop(events);
    api.apply(&json!({}))?;
    let mut events = api.events(first["id"].as_u64())?;
    let second = events.wait_for("what came meanwhile", applied)?;
    ensure!(second["generation"] == 3, "{second}");
    ensure!(
        second["id"].as_u64() > first["id"].as_u64(),
        "{first}, {second}"
    );
    Ok(())
}

fn the_audit_log_says_who_did_what(lab: &mut Lab) -> Result<()> {
    let gateway = lab.gateway(tls(json!({})), json!({}))?;
    let curl = Curl::through(&gateway.directory().join(SOCKET));
    let network = Network::new(50_000)?;
    curl.change("POST", "/api/v1/apply?wait=true", Some(&network.state()))?;
    curl.refuse(400, "POST", "/api/v1/apply", Some("[]"))?;
    curl.change("DELETE", "/api/v1/networks/50000?wait=true", None)?;
    let entries = eventually("three entries", || {
        let audit = curl.get("/api/v1/audit").ok()?;
        let entries = audit["entries"].as_array()?.clone();
        (entries.len() >= 3).then_some(entries)
    })?;
    let shown = |entry: &Value| {
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        (text("action"), text("result"))
    };
    let shown: BTreeSet<_> = entries.iter().map(shown).collect();
    for (action, result) in [
        ("POST /api/v1/apply", "applied"),
        ("POST /api/v1/apply", "refused"),
        ("DELETE /api/v1/networks/50000", "applied"),
    ] {
        let expected = (action.to_owned(), result.to_owned());
        ensure!(shown.contains(&expected), "no {expected:?} in {entries:?}");
    }
    Ok(())
}

/// A series: its name without labels, and its value.
fn series(line: &str) -> Result<(&str, f64)> {
    let (head, value) = line.rsplit_once(' ').context("no value")?;
    let name = head.split('{').next().unwrap_or(head);
    if let Some((_, labels)) = head.split_once('{') {
        ensure!(labels.ends_with('}'), "labels without an end: {line}");
        ensure!(
            labels.matches('"').count() % 2 == 0,
            "a label without an end: {line}"
        );
    }
    Ok((name, value.parse().with_context(|| line.to_owned())?))
}

fn metrics_are_what_prometheus_reads(lab: &mut Lab) -> Result<()> {
    let gateway = lab.gateway(tls(json!({})), json!({}))?;
    let mut network = Network::new(50_000)?;
    network.admit(&tests::peer::Keys::generate()?.public, &["10.0.0.2/32"]);
    network.publish("blue.example", "10.0.0.2:443");
    gateway.api().apply(&network.state())?;
    let curl = Curl::through(&gateway.directory().join(SOCKET));
    let curl = curl.header("Accept: application/openmetrics-text; version=1.0.0");
    let text = curl.ask("GET", "/metrics", None)?.body;
    let (mut types, mut helped) = (BTreeMap::new(), BTreeSet::new());
    let mut seen = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').context("no type")?;
            ensure!(
                types.insert(name, kind).is_none(),
                "{name} is declared twice"
            );
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            helped.insert(rest.split(' ').next().unwrap_or_default());
        } else if !line.starts_with('#') {
            let (name, value) = series(line)?;
            ensure!(value >= 0.0, "{line}");
            ensure!(
                seen.insert(line.rsplit_once(' ').unwrap_or_default().0),
                "twice: {line}"
            );
            ensure!(name.starts_with("ringway_"), "{line}");
            let ends = ["_total", "_info", "_bucket", "_count", "_sum", "_created"];
            let family = ends.iter().find_map(|end| name.strip_suffix(end));
            let family = family
                .filter(|family| types.contains_key(family))
                .unwrap_or(name);
            let kind = types
                .get(family)
                .with_context(|| format!("no type of {name}"))?;
            ensure!(helped.contains(family), "no help for {family}");
            ensure!(
                *kind != "counter" || name.ends_with("_total"),
                "{name} is a counter"
            );
        }
    }
    ensure!(text.ends_with("# EOF\n"), "it has no end");
    ensure!(types.len() > 20, "{} families", types.len());
    for name in ["ringway_ready", "ringway_store_ok"] {
        ensure!(
            text.contains(&format!("\n{name} 1.0\n")),
            "{name} in {text}"
        );
    }
    gateway.api().apply(&json!({}))?;
    Ok(())
}

fn the_page_of_the_api_needs_nothing_from_outside(lab: &mut Lab) -> Result<()> {
    let gateway = lab.gateway(tls(json!({})), json!({}))?;
    let curl = Curl::through(&gateway.directory().join(SOCKET));
    let page = curl.ask("GET", "/api/docs", None)?;
    ensure!(
        page.status == 200 && page.head.contains("text/html"),
        "{}",
        page.head
    );
    for outside in ["src=\"http", "href=\"http", "@import", "//cdn"] {
        ensure!(!page.body.contains(outside), "the page asks for {outside}");
    }
    ensure!(page.body.contains("openapi.json"));
    ensure!(
        page.head
            .to_ascii_lowercase()
            .contains("content-security-policy")
    );
    Ok(())
}

fn threads_that_decide_give_way_to_threads_that_carry(lab: &mut Lab) -> Result<()> {
    let gateway = lab.gateway(tls(json!({})), json!({}))?;
    // What the reconcile thread starts has its priority: it makes a device.
    gateway.api().apply(&Network::new(50_000)?.state())?;
    let niceness = niceness(gateway.process())?;
    let of = |name: &str| -> BTreeSet<i32> {
        let threads = niceness.iter().filter(|(known, _)| known.starts_with(name));
        threads.map(|(_, nice)| *nice).collect()
    };
    // Whatever these tests themselves run with.
    let carry = of("worker-");
    ensure!(carry.len() == 1, "{niceness:?}");
    ensure!(of("wireguard-") == carry, "{niceness:?}");
    let give_way = carry.iter().map(|nice| (nice + 10).min(19)).collect();
    for name in ["ringway", "reconcile", "store-writer", "store-reader"] {
        ensure!(of(name) == give_way, "{name}: {niceness:?}");
    }
    gateway.api().apply(&json!({}))?;
    Ok(())
}

/// The nice value of each thread of a process, by name (proc_pid_stat(5), field 19).
fn niceness(process: u32) -> Result<Vec<(String, i32)>> {
    let mut threads = Vec::new();
    for task in fs::read_dir(format!("/proc/{process}/task"))? {
        let stat = fs::read_to_string(task?.path().join("stat"))?;
        let (head, rest) = stat.rsplit_once(") ").context("no name")?;
        let (_, name) = head.split_once('(').context("no name")?;
        // The first of the rest is field 3.
        let nice = rest.split(' ').nth(16).context("no nice value")?;
        threads.push((name.to_owned(), nice.parse()?));
    }
    Ok(threads)
}
