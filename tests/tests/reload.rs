//! Changes while connections live, and the end: nothing that did not change is disturbed, and
//! nothing wrong is taken.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::{
    lab::{GATEWAY, Lab, TENANT, Tenant, tls},
    server::{self, Server},
    stream, tests,
    tls::{self as client, UNRECOGNIZED_NAME},
    wait::{PATIENCE, eventually},
};

fn main() -> ExitCode {
    tests::runner::main(tests![
        a_new_state_is_taken_and_live_connections_go_on,
        connections_of_a_removed_network_end_and_no_others,
        a_bad_state_is_refused_whole_and_the_running_one_stays,
        a_hundred_thousand_names_are_taken_under_load,
        a_drain_lets_connections_end_and_takes_no_new_ones,
        a_drain_resets_what_is_left_at_its_deadline,
        listening_sockets_may_be_handed_over,
        a_reload_opens_and_closes_ports,
        a_state_opens_and_closes_ports_of_the_host_and_of_a_tenant,
        a_port_of_somebody_elses_degrades_its_network_until_it_is_free,
    ])
}

/// Connects, sends a hello, and has a byte echoed: the connection lives.
fn live(name: &str) -> Result<TcpStream> {
    let mut stream = stream::connect(GATEWAY)?;
    let hello = client::hello(name)?;
    stream.write_all(&hello)?;
    stream::expect(&mut stream, &hello)?;
    Ok(stream)
}

fn still_lives(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"still there?")?;
    stream::expect(stream, b"still there?")
}

fn is_refused(name: &str) -> Result<bool> {
    let mut stream = stream::connect(GATEWAY)?;
    stream.write_all(&client::hello(name)?)?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    Ok(answer == UNRECOGNIZED_NAME)
}

fn a_new_state_is_taken_and_live_connections_go_on(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(443)?, server::echo)?;
    let state = |names: &[&str]| {
        let proxy = names
            .iter()
            .map(|name| ((*name).to_owned(), json!(["10.0.0.2:443"])));
        tenant.state(Value::Object(proxy.collect()))
    };
    let gateway = lab.gateway(tls(json!({})), state(&["old.example", "both.example"]))?;
    let mut old = live("old.example")?;
    let mut both = live("both.example")?;
    ensure!(is_refused("new.example")?);
    gateway
        .api()
        .apply(&state(&["both.example", "new.example"]))?;
    still_lives(&mut both)?;
    // Its network stays, so it goes on; only new connections are refused.
    still_lives(&mut old)?;
    ensure!(is_refused("old.example")?);
    let new = live("new.example")?;
    for _ in 0..20 {
        gateway
            .api()
            .apply(&state(&["both.example", "new.example"]))?;
        still_lives(&mut both)?;
    }
    drop((old, both, new));
    let records = gateway.wait_for_records(5)?;
    ensure!(
        records
            .iter()
            .filter(|record| record["outcome"] == "done")
            .count()
            == 3
    );
    Ok(())
}

fn connections_of_a_removed_network_end_and_no_others(lab: &mut Lab) -> Result<()> {
    let (blue, green) = (lab.tenant(51_820)?, lab.tenant(51_821)?);
    let _servers = [
        Server::start(blue.listen(443)?, server::echo)?,
        Server::start(green.listen(443)?, server::echo)?,
    ];
    let of_blue = blue.network(json!({ "blue.example": ["10.0.0.2:443"] }));
    let of_green = green.network(json!({ "green.example": ["10.0.0.2:443"] }));
    let both = json!({ "51820": of_blue, "51821": of_green });
    let gateway = lab.gateway(tls(json!({})), both)?;
    let mut blue = live("blue.example")?;
    let mut green = live("green.example")?;
    gateway.api().apply(&json!({ "51821": of_green }))?;
    stream::read_to_reset(&mut blue).context("the connection of the removed network")?;
    still_lives(&mut green)?;
    let record = &gateway.wait_for_records(1)?[0];
    ensure!(
        record["outcome"] == "network_removed" && record["fault"] == "gateway",
        "{record}"
    );
    ensure!(is_refused("blue.example")?);
    Ok(())
}

fn a_bad_state_is_refused_whole_and_the_running_one_stays(lab: &mut Lab) -> Result<()> {
    let (tenant, other) = (lab.tenant(51_820)?, lab.tenant(51_821)?);
    let _server = Server::start(tenant.listen(443)?, server::echo)?;
    let good = tenant.network(json!({ "blue.example": ["10.0.0.2:443"] }));
    let more = tenant.network(json!({
        "blue.example": ["10.0.0.2:443"],
        "more.example": ["10.0.0.2:443"],
    }));
    let thief = other.network(json!({ "more.example": ["10.0.0.2:443"] }));
    let gateway = lab.gateway(tls(json!({})), json!({ "51820": good }))?;
    let mut stream = live("blue.example")?;
    for bad in [
        "{".to_owned(),
        "[]".to_owned(),
        json!({ "51820": more, "70000": more }).to_string(),
        json!({ "51820": more, "51821": thief }).to_string(),
        json!({ "51820": tenant.network(json!({ "more.example": ["10.0.0.2"] })) }).to_string(),
    ] {
        let answer = gateway.api().try_apply(&bad)?;
        ensure!(answer.status == 400, "{bad}: {answer:?}");
        ensure!(
            answer.json()?["problems"][0]["message"].is_string(),
            "{answer:?}"
        );
        still_lives(&mut stream)?;
        ensure!(is_refused("more.example")?, "nothing of {bad} is taken");
        live("blue.example")?;
    }
    gateway.api().apply(&json!({ "51820": more }))?;
    live("more.example").context("a good one is taken after all")?;
    Ok(())
}

fn a_hundred_thousand_names_are_taken_under_load(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(443)?, server::echo)?;
    let names = |count: u32| {
        let name = |number| (format!("host-{number}.example"), json!(["10.0.0.2:443"]));
        tenant
            .state(Value::Object((0..count).map(name).collect()))
            .to_string()
    };
    let gateway = lab.gateway(tls(json!({})), serde_json::from_str(&names(1))?)?;
    let mut stream = live("host-0.example")?;
    ensure!(is_refused("host-99999.example")?);
    let (api, many) = (gateway.api(), names(100_000));
    let applying = std::thread::spawn(move || api.try_apply(&many)?.ok());
    let mut slowest = Duration::ZERO;
    let mut moving = stream.try_clone()?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let began = Instant::now();
        still_lives(&mut moving)?;
        slowest = slowest.max(began.elapsed());
        if !is_refused("host-99999.example")? {
            break;
        }
        ensure!(Instant::now() < deadline, "the names are not taken");
    }
    // Generous: two cores carry the reload and this test too.
    ensure!(
        slowest < Duration::from_millis(500),
        "a live connection stood still for {slowest:?}"
    );
    applying
        .join()
        .map_err(|_| anyhow::anyhow!("the client panicked"))??;
    for number in [0, 1, 50_000, 99_999] {
        live(&format!("host-{number}.example"))?;
    }
    ensure!(is_refused("host-100000.example")?);
    still_lives(&mut stream)
}

fn a_drain_lets_connections_end_and_takes_no_new_ones(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(443)?, server::echo)?;
    let state = tenant.state(json!({ "blue.example": ["10.0.0.2:443"] }));
    let gateway = lab.gateway(tls(json!({})), state)?;
    let mut stream = live("blue.example")?;
    gateway.signal(Signal::SIGTERM)?;
    gateway.wait_for_notice("STOPPING=1")?;
    eventually("new connections are refused", || {
        stream::connect(GATEWAY).is_err().then_some(())
    })?;
    // Whoever spreads clients over gateways is told, for as long as the last of them stays.
    let status = |path| gateway.api().ask("GET", path, None);
    eventually("it is not ready any more", || {
        (status("/readyz").ok()?.status == 503).then_some(())
    })?;
    let shown = status("/api/v1/status")?.ok()?;
    ensure!(shown["ready"] == false, "{shown}");
    still_lives(&mut stream)?;
    stream::half_close(&stream)?;
    ensure!(
        stream::read_to_end(&mut stream)?.is_empty(),
        "it ends in order"
    );
    ensure!(gateway.wait_for_exit(PATIENCE)?.success());
    // Looks of above that came before the listener was closed have records, too.
    let record = gateway.wait_for_record("its record", |it| it["name"] == "blue.example")?;
    ensure!(record["outcome"] == "done", "{record}");
    Ok(())
}

fn a_drain_resets_what_is_left_at_its_deadline(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let server = Server::start(tenant.listen(443)?, |mut stream: TcpStream, _| {
        let mut head = [0; 1];
        stream.read_exact(&mut head)?;
        stream.write_all(&head)?;
        stream::read_to_reset(&mut stream)
    })?;
    let mut boot = tls(json!({}));
    boot["drain_timeout"] = json!("700ms");
    let state = tenant.state(json!({ "blue.example": ["10.0.0.2:443"] }));
    let gateway = lab.gateway(boot, state)?;
    let mut stream = stream::connect(GATEWAY)?;
    stream.write_all(&client::hello("blue.example")?)?;
    stream::expect(&mut stream, &[22])?;
    let mut half = stream::connect(GATEWAY)?;
    half.write_all(&[22, 3, 1])?;
    let began = Instant::now();
    gateway.signal(Signal::SIGTERM)?;
    stream::read_to_reset(&mut stream).context("the client's side")?;
    server.next().context("the server's side")?;
    stream::read_to_any_end(&mut half)?;
    ensure!(gateway.wait_for_exit(PATIENCE)?.success());
    let took = began.elapsed();
    ensure!(
        (700..4000).contains(&took.as_millis()),
        "the drain took {took:?}"
    );
    let record = gateway.wait_for_record("the drained one", |r| r["outcome"] == "drained")?;
    ensure!(record["fault"] == "gateway", "{record}");
    Ok(())
}

fn listening_sockets_may_be_handed_over(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(443)?, server::echo)?;
    let state = tenant.state(json!({ "blue.example": ["10.0.0.2:443"] }));
    // The port of the boot file is another: the socket's own counts.
    let address: SocketAddr = "127.0.0.1:9443".parse()?;
    let listener = TcpListener::bind(address)?;
    let kept = listener.try_clone()?;
    // sd_listen_fds(3): from descriptor 3 on, for this process.
    let before = "exec 3<&0 0</dev/null; export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=https";
    let stdin = Stdio::from(std::os::fd::OwnedFd::from(listener));
    let gateway = lab.gateway_after(before, stdin, tls(json!({})), state)?;
    let hello = client::hello("blue.example")?;
    let greet = || {
        let mut stream = stream::connect(address)?;
        stream.write_all(&hello)?;
        anyhow::Ok(stream)
    };
    stream::expect(&mut greet()?, &hello)?;
    ensure!(stream::connect(GATEWAY).is_err(), "it binds nothing itself");
    gateway.signal(Signal::SIGTERM)?;
    ensure!(gateway.wait_for_exit(PATIENCE)?.success());
    // What comes between two gateways waits in the socket's queue.
    let mut waiting = greet()?;
    let stdin = Stdio::from(std::os::fd::OwnedFd::from(kept));
    let state = tenant.state(json!({ "blue.example": ["10.0.0.2:443"] }));
    let _next = lab.gateway_after(before, stdin, tls(json!({})), state)?;
    stream::expect(&mut waiting, &hello)
}

fn a_reload_opens_and_closes_ports(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(443)?, server::echo)?;
    let state = tenant.state(json!({ "blue.example": ["10.0.0.2:443"] }));
    let before = tls(json!({}));
    let gateway = lab.gateway(before.clone(), state)?;
    let mut kept = live("blue.example")?;
    // Somebody else has the port at first.
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?;
    let mut more = before.clone();
    let to = format!("netns:{}/10.0.0.2:443", tenant.name.as_str());
    let raw = json!({ "name": "raw", "bind": address, "protocol": "tcp", "to": to });
    more["listeners"]
        .as_array_mut()
        .context("no list")?
        .push(raw);
    gateway.expect_error("a listener cannot be bound");
    gateway.reload(&more)?;
    let unbound = || -> Result<bool> {
        let status = gateway.api().get("/api/v1/status")?;
        let list = status["degraded"].as_array().context("no list")?;
        let mut reasons = list.iter().map(|it| &it["reason"]);
        Ok(reasons.any(|reason| reason == "listener_not_bound"))
    };
    ensure!(unbound()?, "it is told");
    still_lives(&mut kept)?;
    drop(taken);
    let connect = || {
        let mut stream = stream::connect(address).ok()?;
        still_lives(&mut stream).ok()?;
        Some(stream)
    };
    let mut raw = eventually("the port is taken when it is free", connect)?;
    eventually("it is told no longer", || {
        unbound().is_ok_and(|is_told| !is_told).then_some(())
    })?;
    gateway.reload(&before)?;
    ensure!(stream::connect(address).is_err(), "it is closed");
    still_lives(&mut raw)?;
    still_lives(&mut kept)?;
    still_lives(&mut live("blue.example")?)
}

/// A TCP listener of a network, which leads to its machine.
fn raw(bind: SocketAddr, place: &str) -> Value {
    json!({ "bind": bind, "in": place, "protocol": "tcp", "to": ["10.0.0.2:443"] })
}

/// Where the listener of a tenant is, in its own namespace.
const INSIDE: SocketAddr = SocketAddr::new(IpAddr::V4(TENANT), 5432);

/// An address of the host that nobody has at the moment.
fn free() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

fn echoes(mut stream: TcpStream) -> Option<TcpStream> {
    still_lives(&mut stream).ok()?;
    Some(stream)
}

/// From the tenant's machine.
fn dial_inside(tenant: &Tenant) -> Option<TcpStream> {
    let dialed = tenant.machine.run(|| TcpStream::connect(INSIDE));
    dialed.ok().and_then(echoes)
}

fn a_state_opens_and_closes_ports_of_the_host_and_of_a_tenant(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(443)?, server::echo)?;
    let plain = tenant.state(json!({ "blue.example": ["10.0.0.2:443"] }));
    let gateway = lab.gateway(tls(json!({})), plain.clone())?;
    let outside = free()?;
    let with = |listeners: Value| {
        let mut state = plain.clone();
        state["51820"]["listeners"] = listeners;
        state
    };
    let both = json!({ "inside": raw(INSIDE, "network"), "outside": raw(outside, "host") });
    let applied = gateway.api().apply(&with(both))?;
    ensure!(applied.get("degraded").is_none(), "{applied}");
    let mut within = dial_inside(&tenant).context("the tenant's port is served")?;
    let mut without = echoes(stream::connect(outside)?).context("the host's port is served")?;
    // The names of the boot file's listeners and their addresses are taken.
    for wrong in [
        json!({ "https": raw(outside, "host") }),
        json!({ "x": raw(GATEWAY, "host") }),
    ] {
        let refused = gateway.api().try_apply(&with(wrong).to_string())?;
        ensure!(refused.status == 400, "{refused:?}");
    }
    gateway.api().apply(&plain)?;
    ensure!(stream::connect(outside).is_err() && dial_inside(&tenant).is_none());
    still_lives(&mut within)?;
    still_lives(&mut without)
}

fn a_port_of_somebody_elses_degrades_its_network_until_it_is_free(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(443)?, server::echo)?;
    let plain = tenant.state(json!({ "blue.example": ["10.0.0.2:443"] }));
    let gateway = lab.gateway(tls(json!({})), plain)?;
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let outside = taken.local_addr()?;
    gateway.expect_error("a listener cannot be bound");
    let change = |method: &str, name: &str, listener: Option<Value>| -> Result<Value> {
        let path = format!("/api/v1/networks/51820/listeners/{name}?wait=true");
        let body = listener.map(|it| it.to_string());
        gateway.api().ask(method, &path, body.as_deref())?.ok()
    };
    let put = change("PUT", "outside", Some(raw(outside, "host")))?;
    let degraded = &put["degraded"][0];
    ensure!(degraded["reason"] == "listener_not_bound", "{put}");
    ensure!(degraded["network"] == 51_820, "{put}");
    change("PUT", "inside", Some(raw(INSIDE, "network")))?;
    dial_inside(&tenant).context("what can be bound is served")?;
    let network = || -> Result<Value> {
        let status = gateway.api().get("/api/v1/status")?;
        Ok(status["networks"]["51820"]["state"].clone())
    };
    ensure!(network()? == "degraded");
    drop(taken);
    eventually("it is served", || {
        stream::connect(outside).ok().and_then(echoes)
    })?;
    eventually("nothing is degraded", || {
        (network().ok()? == "ok").then_some(())
    })?;
    change("DELETE", "inside", None)?;
    ensure!(dial_inside(&tenant).is_none(), "it is closed");
    change("DELETE", "outside", None)?;
    Ok(())
}
