//! What operators do to a running gateway without meaning harm: many changes at once, files that move,
//! signals that other programs know, a second gateway, too few descriptors.

use std::{
    fs,
    io::Write as _,
    net::{TcpListener, TcpStream},
    process::{Command, Output, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use rusqlite::Connection;
use serde_json::{Value, json};
use tests::{
    api::Answer,
    gateway::{Gateway, SOCKET},
    http::{self, Wire},
    lab::{GATEWAY, Lab, tls},
    network::Network,
    runner::Test,
    server::{self, Server},
    stream, tests, tls as client,
    wait::{PATIENCE, eventually},
};

pub(crate) const TESTS: &[Test] = tests![
    fifty_changes_at_once_wait_their_turn,
    a_store_that_is_gone_acknowledges_nothing,
    signals_of_other_programs_do_no_harm,
    a_reload_says_what_came_of_it,
    a_stored_network_that_is_refused_is_degraded_until_it_is_replaced: 120,
    hosts_of_a_stored_network_that_is_refused_are_nobody_elses: 120,
    a_second_gateway_does_not_share_an_address,
    an_api_answers_when_clients_have_every_descriptor,
    there_are_as_many_connections_as_descriptors_for_both_their_ends,
];

/// A network without a device, with names that lead to this machine.
fn host_network(names: &[&str]) -> Value {
    let targets = names.iter().map(|name| {
        let target = json!(["127.0.0.1:9"]);
        ((*name).to_owned(), target)
    });
    json!({ "netns": null, "proxy": Value::Object(targets.collect()) })
}

fn fifty_changes_at_once_wait_their_turn(lab: &mut Lab) -> Result<()> {
    let gateway = lab.gateway(tls(json!({})), json!({ "7": host_network(&[]) }))?;
    let changes = (0..50).map(|number| {
        let api = gateway.api();
        thread::spawn(move || {
            let name = format!("n{number}.example");
            let patch = json!({ "proxy": { (name): ["127.0.0.1:9"] } }).to_string();
            api.ask("PATCH", "/api/v1/networks/7", Some(&patch))
        })
    });
    let changes: Vec<_> = changes.collect();
    for change in changes {
        let answer: Answer = change.join().ok().context("a panic")??;
        ensure!(answer.status == 200, "{}: {}", answer.status, answer.body);
    }
    // What is shown follows what is stored within a moment.
    eventually("all of them are shown", || {
        let config = gateway.api().get("/api/v1/config").ok()?;
        let names = config["7"]["proxy"].as_object()?.keys();
        let served = names.filter(|name| name.starts_with("https://"));
        (served.count() == 50).then_some(())
    })?;
    Ok(())
}

fn a_store_that_is_gone_acknowledges_nothing(lab: &mut Lab) -> Result<()> {
    let gateway = lab.gateway(tls(json!({})), json!({}))?;
    let (store, aside) = (
        gateway.directory().join("ringway.db"),
        gateway.directory().join("aside.db"),
    );
    gateway.expect_error("accounts cannot be");
    fs::rename(&store, &aside)?;
    fs::write(&store, "")?;
    let state = json!({ "7": host_network(&["a.example"]) }).to_string();
    let refused = gateway.api().try_apply(&state)?;
    ensure!(refused.status == 503, "{}", refused.body);
    ensure!(
        refused.body.contains("was deleted or replaced"),
        "{}",
        refused.body
    );
    // The list of what is degraded is made at the next look.
    eventually("the status says so", || {
        let status = gateway.api().get("/api/v1/status").ok()?;
        let is_told = status["degraded"][0]["object"] == "store";
        (status["store"]["ok"] == false && is_told).then_some(())
    })?;
    fs::rename(&aside, &store)?;
    ensure!(gateway.api().try_apply(&state)?.status == 200);
    gateway.kill()?;
    let next = lab.restart(&gateway)?;
    let config = next.api().get("/api/v1/config")?;
    ensure!(
        config["7"]["proxy"].get("https://a.example").is_some(),
        "{config}"
    );
    Ok(())
}

/// The reasons and objects of what is degraded.
fn degraded(gateway: &Gateway) -> Result<Vec<String>> {
    let status = gateway.api().get("/api/v1/status")?;
    let list = status["degraded"].as_array().context("no list")?;
    let words = list.iter().map(|it| {
        let word = |key: &str| it[key].as_str().unwrap_or_default();
        format!("{} {}", word("reason"), word("object"))
    });
    Ok(words.collect())
}

/// As a stricter version would find it: the document was good when it was stored.
fn a_stored_network_that_is_refused_is_degraded_until_it_is_replaced(lab: &mut Lab) -> Result<()> {
    let state = |refused: Value| json!({ "7": host_network(&["a.example"]), "8": refused });
    let mut boot = tls(json!({ "default": "network-8/127.0.0.1:9" }));
    let second = json!({ "name": "second", "bind": "127.0.0.1:8444", "protocol": "tls" });
    boot["listeners"]
        .as_array_mut()
        .context("no listeners")?
        .push(second);
    let first = lab.gateway(boot, state(host_network(&["b.example"])))?;
    first.stop()?;
    let store = Connection::open(first.directory().join("ringway.db"))?;
    let set = "UPDATE generations SET document = json_set(document, '$.8.unheard_of', 1)";
    ensure!(store.execute(set, [])? == 1);
    drop(store);
    let restart = |lab: &mut Lab, ended: &Gateway| -> Result<Arc<Gateway>> {
        let gateway = lab.restart(ended)?;
        for error in ["unheard_of", "network-8", "a listener is left out"] {
            gateway.expect_error(error);
        }
        Ok(gateway)
    };
    let left_out = ["network_refused network-8", "listener_not_bound https"];
    let gateway = restart(lab, &first)?;
    ensure!(degraded(&gateway)? == left_out, "{:?}", degraded(&gateway)?);
    let output = run(lab, &["status", "--api", &socket(&gateway)])?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(3), "{said}");
    ensure!(
        said.contains("degraded: network-8: /8/unheard_of: "),
        "{said}"
    );
    let metrics = gateway.api().ask("GET", "/metrics", None)?.body;
    let metric = r#"ringway_degraded_by_reason{reason="network_refused"} 1"#;
    ensure!(metrics.contains(metric), "{metrics}");
    let mut events = gateway.api().events(Some(0))?;
    events.wait_for("the refusal", |event| {
        event["kind"] == "degraded" && event["reason"] == "network_refused"
    })?;
    // What changes something else keeps it, over a restart, too.
    let patch = json!({ "proxy": { "c.example": ["127.0.0.1:9"] } }).to_string();
    let path = "/api/v1/networks/7?wait=true";
    gateway.api().ask("PATCH", path, Some(&patch))?.ok()?;
    ensure!(degraded(&gateway)? == left_out, "{:?}", degraded(&gateway)?);
    gateway.stop()?;
    let gateway = restart(lab, &gateway)?;
    ensure!(degraded(&gateway)? == left_out, "{:?}", degraded(&gateway)?);
    // What is served already, and is now all that is desired.
    let config = gateway.api().get("/api/v1/config")?;
    let mut events = gateway.api().events(None)?;
    let applied = gateway.api().apply(&config)?;
    ensure!(applied["changed"] == true, "{applied}");
    events.wait_for("the recovery", |event| {
        event["kind"] == "recovered" && event["reason"] == "network_refused"
    })?;
    ensure!(
        degraded(&gateway)? == left_out[1..],
        "{:?}",
        degraded(&gateway)?
    );
    gateway.api().apply(&state(host_network(&["b.example"])))?;
    gateway.stop()?;
    let gateway = lab.restart(&gateway)?;
    ensure!(degraded(&gateway)?.is_empty(), "{:?}", degraded(&gateway)?);
    Ok(())
}

/// Another network has a wildcard around them.
fn hosts_of_a_stored_network_that_is_refused_are_nobody_elses(lab: &mut Lab) -> Result<()> {
    const SECRET: &str = "secret.example";
    const OTHER: &str = "other.example";
    let wide = TcpListener::bind("127.0.0.1:0")?;
    let target = json!([wide.local_addr()?.to_string()]);
    let _wide = Server::start(wide, server::greet("wide"))?;
    let state = json!({
        "7": { "netns": null, "proxy": { "*.example": target } },
        "8": host_network(&[SECRET]),
    });
    let mut boot = tls(json!({}));
    let http = json!({ "name": "http", "bind": "127.0.0.1:8080", "protocol": "http" });
    let listeners = boot["listeners"].as_array_mut();
    listeners.context("no listeners")?.push(http);
    let first = lab.gateway(boot, state)?;
    first.stop()?;
    let store = Connection::open(first.directory().join("ringway.db"))?;
    let set = "UPDATE generations SET document = json_set(document, '$.8.unheard_of', 1)";
    ensure!(store.execute(set, [])? == 1);
    drop(store);
    let gateway = lab.restart(&first)?;
    for error in ["unheard_of", "network-8"] {
        gateway.expect_error(error);
    }
    let told = |name: &str| -> Result<Vec<u8>> {
        let mut stream = stream::connect(GATEWAY)?;
        std::io::Write::write_all(&mut stream, &client::hello(name)?)?;
        stream::half_close(&stream)?;
        stream::read_to_end(&mut stream)
    };
    let asked = |name: &str| -> Result<u16> {
        let mut wire = Wire::new(stream::connect("127.0.0.1:8080".parse()?)?);
        wire.ask(http::request("GET", name, "/", ""))?.status()
    };
    ensure!(told(OTHER)? == b"wide");
    let alert = told(SECRET)?;
    ensure!(alert == [21, 3, 3, 0, 2, 2, 80], "{alert:?}");
    ensure!(asked(SECRET)? == 503);
    // Nobody else may have it.
    let taking = json!({ "proxy": { (SECRET): ["127.0.0.1:9"] } }).to_string();
    let path = "/api/v1/networks/7?wait=true";
    let answer = gateway.api().ask("PATCH", path, Some(&taking))?;
    ensure!(
        answer.status == 400 && answer.body.contains("network-8"),
        "{} {}",
        answer.status,
        answer.body
    );
    let path = "/api/v1/networks/8?wait=true";
    gateway.api().ask("DELETE", path, None)?.ok()?;
    ensure!(told(SECRET)? == b"wide");
    Ok(())
}

fn socket(gateway: &Gateway) -> String {
    format!("unix:{}", gateway.directory().join(SOCKET).display())
}

fn signals_of_other_programs_do_no_harm(lab: &mut Lab) -> Result<()> {
    let mut boot = tls(json!({}));
    boot["log"] = json!({ "file": "records.log" });
    let gateway = lab.gateway(boot, json!({}))?;
    let (log, rotated) = (
        gateway.directory().join("records.log"),
        gateway.directory().join("records.log.1"),
    );
    fs::rename(&log, rotated)?;
    gateway.signal(Signal::SIGUSR2)?;
    gateway.signal(Signal::SIGUSR1)?;
    eventually("the log is opened again", || log.exists().then_some(()))?;
    gateway.api().get("/api/v1/status")?;
    gateway.signal(Signal::SIGQUIT)?;
    gateway.wait_for_notice("STOPPING=1")?;
    ensure!(gateway.wait_for_exit(PATIENCE)?.success());
    Ok(())
}

fn run(lab: &Lab, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(lab.ringway());
    let command = command.args(arguments).stdin(Stdio::null());
    command.env_clear().output().context("running ringway")
}

fn reload(lab: &Lab, gateway: &Gateway) -> Result<(Option<i32>, String)> {
    let pid = gateway.process().to_string();
    let output = run(lab, &["reload", "--pid", &pid])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.code(), said))
}

fn a_reload_says_what_came_of_it(lab: &mut Lab) -> Result<()> {
    let gateway = lab.gateway(tls(json!({})), json!({}))?;
    let (status, said) = reload(lab, &gateway)?;
    ensure!(
        (status, said.as_str()) == (Some(0), ""),
        "{status:?}: {said}"
    );
    let file = gateway.directory().join("ringway.yaml");
    let good: Value = serde_json::from_slice(&fs::read(&file)?)?;
    let mut other = good.clone();
    other["workers"] = json!(1);
    fs::write(&file, other.to_string())?;
    let (status, said) = reload(lab, &gateway)?;
    let waits = "these keys only change with a restart: /workers\n";
    ensure!(
        (status, said.as_str()) == (Some(0), waits),
        "{status:?}: {said}"
    );
    // What the file itself says wrong, and what does not fit the running state.
    let mut unknown = good.clone();
    unknown["workrs"] = json!(1);
    let mut stray = good.clone();
    stray["listeners"][0]["default"] = json!("network-9/10.0.0.2:1");
    gateway.expect_error("is not a key here");
    gateway.expect_error("network-9 is not in the state document");
    gateway.expect_error("the boot file is refused");
    for (wrong, why) in [
        (unknown, "/workrs: `workrs` is not a key here"),
        (stray, "/listeners/0/default: network-9"),
    ] {
        fs::write(&file, wrong.to_string())?;
        let (status, said) = reload(lab, &gateway)?;
        ensure!(
            status == Some(1) && said.contains(why),
            "{status:?}: {said}"
        );
        ensure!(said.contains("the running state stays"), "{said}");
    }
    fs::write(&file, good.to_string())?;
    let nobody = run(lab, &["reload", "--pid", "1"])?;
    ensure!(nobody.status.code() == Some(1));
    Ok(())
}

fn a_second_gateway_does_not_share_an_address(lab: &mut Lab) -> Result<()> {
    let gateway = lab.gateway(tls(json!({})), json!({}))?;
    let folder = lab.directory().join("second");
    fs::create_dir(&folder)?;
    let start = |boot: Value| {
        let file = folder.join("ringway.yaml");
        fs::write(&file, boot.to_string())?;
        run(lab, &["serve", "--config", &file.display().to_string()])
    };
    let mut boot = tls(json!({}));
    boot["store"] = json!("second.db");
    boot["api"] = json!({ "listen": "off" });
    let mut on_api = boot.clone();
    on_api["listeners"][0]["bind"] = json!("127.0.0.1:8444");
    on_api["api"] = json!({ "listen": GATEWAY });
    let holder = format!("ringway (process {})", gateway.process());
    for boot in [boot, on_api] {
        let output = start(boot)?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(1), "{said}");
        ensure!(
            said.contains(&holder) && said.contains("listens there"),
            "{said}"
        );
    }
    Ok(())
}

/// 300 less the quarter that is kept back, 64 and a sixteenth: 73 connections, and never one whose
/// target cannot be dialed.
fn there_are_as_many_connections_as_descriptors_for_both_their_ends(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(443)?, server::echo)?;
    let state = tenant.state(json!({ "blue.example": ["10.0.0.2:443"] }));
    let mut boot = tls(json!({}));
    boot["workers"] = json!(1);
    let gateway = lab.gateway_after("ulimit -n 300", Stdio::null(), boot, state)?;
    let hello = client::hello("blue.example")?;
    let mut served = Vec::new();
    let mut refused = 0;
    for _ in 0..150 {
        let mut stream = TcpStream::connect(GATEWAY)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&hello)?;
        match stream::expect(&mut stream, &hello) {
            Ok(()) => served.push(stream),
            Err(_) => refused += 1,
        }
    }
    ensure!(
        (served.len(), refused) == (73, 77),
        "{} and {refused}",
        served.len()
    );
    drop(served);
    let records = gateway.wait_for_records(150)?;
    let limited = records.iter().filter(|it| it["outcome"] == "gateway_limit");
    let (limited, done) = (
        limited.count(),
        records.iter().filter(|it| it["outcome"] == "done").count(),
    );
    ensure!((limited, done) == (77, 73), "{limited} and {done}");
    Ok(())
}

/// Without descriptors that are kept back, each of these takes until some client has ended.
fn an_api_answers_when_clients_have_every_descriptor(lab: &mut Lab) -> Result<()> {
    let mut boot = tls(json!({}));
    boot["workers"] = json!(2);
    boot["limits"] = json!({ "connections_max": 100_000 });
    let gateway = lab.gateway_after("ulimit -n 300", Stdio::null(), boot, json!({}))?;
    let clients = (0..800).map(|_| {
        let mut client = TcpStream::connect(GATEWAY)?;
        // Without a byte it would wait in the kernel (tcp(7), TCP_DEFER_ACCEPT).
        client.write_all(&[22, 3, 1]).map(|()| client)
    });
    let clients: Vec<TcpStream> = clients.collect::<Result<_, _>>()?;
    // Some wait in the queue, some were closed, and all descriptors of the workers are taken.
    let began = Instant::now();
    for number in 0..20 {
        ensure!(gateway.api().ask("GET", "/healthz", None)?.status == 200);
        let state = json!({ "7": host_network(&[&format!("n{number}.example")]) });
        let answer = gateway.api().try_apply(&state.to_string())?;
        ensure!(answer.status == 200, "{}", answer.body);
    }
    // A namespace and a device take some for good, and more for a moment.
    let network = Network::new(50_000)?;
    let applied = gateway.api().apply(&network.state())?;
    ensure!(applied.get("degraded").is_none(), "{applied}");
    let took = began.elapsed();
    ensure!(took < Duration::from_secs(5), "{took:?}");
    drop(clients);
    gateway.api().apply(&json!({}))?;
    Ok(())
}
