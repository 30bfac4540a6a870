//! The life of an HTTP listener: two tenants, changes, the drain, the accounts.

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tests::{
    http::{self, Message, Then, Upstream, Wire, reply},
    lab::{self, Lab},
    runner::Test,
    tests,
    wait::{PATIENCE, eventually},
};

use crate::{NAME, serve};

pub(crate) const TESTS: &[Test] = tests![
    two_tenants_at_the_same_address_never_mix,
    hosts_are_found_as_names_are,
    the_next_target_is_asked_when_one_refuses,
    requests_follow_a_change_at_once,
    requests_of_a_removed_network_end_and_no_others,
    a_drain_lets_requests_end_and_takes_no_new_ones,
    every_byte_of_every_request_is_accounted,
];

fn two_tenants_at_the_same_address_never_mix(lab: &mut Lab) -> Result<()> {
    let (blue, green) = (lab.tenant(51_820)?, lab.tenant(51_821)?);
    let of_blue = Upstream::saying(blue.listen(80)?, "I am blue")?;
    let of_green = Upstream::saying(green.listen(80)?, "I am green")?;
    let state = json!({
        "51820": blue.network(json!({ "http://blue.example": ["10.0.0.2:80"] })),
        "51821": green.network(json!({ "http://green.example": ["10.0.0.2:80"] })),
    });
    lab.gateway(lab::http(json!({})), state)?;
    // One client asks both in turn, over one connection, from one pool.
    let mut client = http::dial()?;
    for _ in 0..30 {
        for (host, text) in [
            ("blue.example", "I am blue"),
            ("green.example", "I am green"),
        ] {
            let answer = client.ask(http::request("GET", host, "/", ""))?;
            ensure!(answer.text() == text, "{host}: {answer:?}");
        }
    }
    for upstream in [&of_blue, &of_green] {
        ensure!(upstream.connections() == 1 && upstream.asked().len() == 30);
    }
    Ok(())
}

fn hosts_are_found_as_names_are(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _upstreams = [
        Upstream::saying(tenant.listen(1)?, "exact")?,
        Upstream::saying(tenant.listen(2)?, "wildcard")?,
        Upstream::saying(tenant.listen(3)?, "default")?,
        Upstream::saying(tenant.listen(4)?, "both")?,
    ];
    let state = tenant.state(json!({
        "http://blue.example": ["10.0.0.2:1"],
        "http://*.example": ["10.0.0.2:2"],
        "bare.test": ["10.0.0.2:4"],
        "https://secret.test": ["10.0.0.2:1"],
    }));
    lab.gateway(
        lab::http(json!({ "default": "network-51820/10.0.0.2:3" })),
        state,
    )?;
    for (host, text) in [
        ("blue.example", "exact"),
        ("BLUE.Example", "exact"),
        ("blue.example:8443", "exact"),
        ("blue.example.", "exact"),
        ("red.example", "wildcard"),
        ("a.b.example", "wildcard"),
        ("bare.test", "both"),
        ("example", "default"),
        ("other.test", "default"),
        // What passes TLS through is not served in clear.
        ("secret.test", "default"),
        ("127.0.0.1:8443", "default"),
        ("[::1]", "default"),
    ] {
        let answer = http::get(host, "/")?;
        ensure!(answer.text() == text, "{host}: {answer:?}");
    }
    let mut old = http::dial()?;
    old.send("GET / HTTP/1.0\r\n\r\n")?;
    ensure!(old.answer("GET")?.text() == "default");
    Ok(())
}

fn the_next_target_is_asked_when_one_refuses(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let upstream = Upstream::saying(tenant.listen(80)?, "up")?;
    let targets = json!(["10.0.0.2:9", "10.0.0.99:80", "10.0.0.2:80"]);
    let state = tenant.state(json!({ format!("http://{NAME}"): targets }));
    lab.gateway(lab::http(json!({ "connect_timeout": "200ms" })), state)?;
    for _ in 0..9 {
        // Nothing was sent to those that were not there: any request can go on to the next.
        let request = format!("POST / HTTP/1.1\r\nHost: {NAME}\r\nContent-Length: 2\r\n\r\nok");
        ensure!(http::ask(request)?.text() == "up");
    }
    ensure!(
        upstream
            .asked()
            .iter()
            .all(|asked| asked.is_whole && asked.request.body == b"ok")
    );
    Ok(())
}

fn requests_follow_a_change_at_once(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _upstreams = [
        Upstream::saying(tenant.listen(1)?, "old")?,
        Upstream::saying(tenant.listen(2)?, "new")?,
    ];
    let state =
        |port: u16| tenant.state(json!({ format!("http://{NAME}"): [format!("10.0.0.2:{port}")] }));
    let gateway = lab.gateway(lab::http(json!({})), state(1))?;
    let mut client = http::dial()?;
    for round in 0..6 {
        let (port, text) = if round % 2 == 0 {
            (1, "old")
        } else {
            (2, "new")
        };
        gateway.api().apply(&state(port))?;
        let answer = client.ask(http::request("GET", NAME, "/", ""))?;
        ensure!(answer.text() == text, "{round}: {answer:?}");
    }
    // A network without routes is nobody's: connections that it was asked over end with it.
    gateway.api().apply(&tenant.state(json!({})))?;
    http::get(NAME, "/")?.expect(404)?;
    Ok(())
}

/// Says when it was asked, and answers once it is told to.
struct Gate {
    go_on: mpsc::Sender<()>,
    wait: Arc<Mutex<mpsc::Receiver<()>>>,
}

impl Gate {
    fn new() -> Self {
        let (go_on, wait) = mpsc::channel();
        Self {
            go_on,
            wait: Arc::new(Mutex::new(wait)),
        }
    }

    fn answer(&self) -> impl Fn(&Message, &mut Wire) -> Result<Then> + Clone + Send + use<> {
        let wait = Arc::clone(&self.wait);
        move |request, wire| {
            if request.target() == "/wait" {
                let wait = wait.lock().map_err(|_| anyhow::anyhow!("poisoned"))?;
                // The test may be over.
                let _ = wait.recv_timeout(Duration::from_secs(20));
            }
            wire.send(reply("200 OK", "", "done"))?;
            Ok(Then::Next)
        }
    }
}

fn requests_of_a_removed_network_end_and_no_others(lab: &mut Lab) -> Result<()> {
    let (blue, green) = (lab.tenant(51_820)?, lab.tenant(51_821)?);
    let gate = Gate::new();
    let of_blue = Upstream::start(blue.listen(80)?, gate.answer())?;
    let of_green = Upstream::start(green.listen(80)?, Gate::new().answer())?;
    let green = green.network(json!({ "http://green.example": ["10.0.0.2:80"] }));
    let both = json!({
        "51820": blue.network(json!({ format!("http://{NAME}"): ["10.0.0.2:80"] })),
        "51821": green,
    });
    let gateway = lab.gateway(lab::http(json!({})), both)?;
    let mut staying = http::dial()?;
    staying
        .ask(http::request("GET", "green.example", "/", ""))?
        .expect(200)?;
    let mut resting = http::dial()?;
    resting
        .ask(http::request("GET", NAME, "/", ""))?
        .expect(200)?;
    let mut waiting = http::dial()?;
    waiting.send(http::request("GET", NAME, "/wait", ""))?;
    of_blue.wait_for(2)?;
    gateway.api().apply(&json!({ "51821": green }))?;
    let ended = waiting.answer("GET");
    ensure!(ended.is_err() || ended.is_ok_and(|answer| answer.status().is_ok_and(|it| it >= 500)));
    // Nothing of the network is kept, whoever asks.
    staying
        .ask(http::request("GET", NAME, "/", ""))?
        .expect(404)?;
    staying
        .ask(http::request("GET", "green.example", "/", ""))?
        .expect(200)?;
    ensure!(of_green.connections() == 1);
    let sockets = tests::leak::sockets(gateway.process())?;
    gate.go_on.send(())?;
    eventually("the upstream's connections are closed", || {
        let ended = of_blue.next();
        ended.is_ok().then_some(())
    })?;
    ensure!(tests::leak::sockets(gateway.process())? <= sockets);
    Ok(())
}

fn a_drain_lets_requests_end_and_takes_no_new_ones(lab: &mut Lab) -> Result<()> {
    let gate = Gate::new();
    let (upstream, gateway) = serve(lab, json!({}), gate.answer())?;
    let mut resting = http::dial()?;
    resting
        .ask(http::request("GET", NAME, "/", ""))?
        .expect(200)?;
    let mut waiting = http::dial()?;
    waiting.send(http::request("GET", NAME, "/wait", ""))?;
    upstream.wait_for(2)?;
    gateway.signal(Signal::SIGTERM)?;
    gateway.wait_for_notice("STOPPING=1")?;
    eventually("new connections are refused", || {
        http::dial().is_err().then_some(())
    })?;
    // A connection at rest has nothing to lose.
    resting.expect_end().context("the resting connection")?;
    gate.go_on.send(())?;
    let answer = waiting.answer("GET")?;
    ensure!(answer.text() == "done" && answer.closes(), "{answer:?}");
    waiting.expect_end()?;
    ensure!(gateway.wait_for_exit(PATIENCE)?.success());
    Ok(())
}

fn every_byte_of_every_request_is_accounted(lab: &mut Lab) -> Result<()> {
    let (upstream, gateway) = serve(lab, json!({}), |request, wire| {
        wire.send(reply("200 OK", "X: y\r\n", request.target().repeat(100)))?;
        Ok(Then::Next)
    })?;
    let mut staying = http::dial()?;
    for number in 0..40 {
        let path = format!("/{}", "x".repeat(number * 50));
        let (fields, content) = match number % 4 {
            0 => ("", ""),
            1 => ("Content-Length: 5\r\n", "hello"),
            2 => (
                "Transfer-Encoding: chunked\r\n",
                "5;a=b\r\nhello\r\n0\r\n\r\n",
            ),
            _ => ("Expect: 100-continue\r\nContent-Length: 5\r\n", "hello"),
        };
        let method = if content.is_empty() { "GET" } else { "PUT" };
        let request = http::request(method, NAME, &path, fields) + content;
        staying.ask(&request)?.expect(200)?;
        http::ask(&request)?.expect(200)?;
        // What the gateway answers itself is no tenant's.
        http::get("unknown.example", "/")?.expect(404)?;
    }
    let (received, sent) = upstream.counts();
    let what = format!("{received} bytes in and {sent} out in the accounts");
    let mut last = Value::Null;
    let same = eventually(&what, || {
        last = gateway.api().get("/api/v1/traffic/routes").ok()?["traffic"].clone();
        (last["bytes_in"] == received && last["bytes_out"] == sent).then_some(())
    });
    same.with_context(|| last.to_string())
}
