//! Which of a rule's targets a request goes to, and what happens when one fails.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::{
    http::{self, Message, Then, Upstream, Wire, reply},
    lab::{self, Lab, Tenant},
    runner::Test,
    tests,
    wait::eventually,
};

use crate::NAME;

pub(crate) const TESTS: &[Test] = tests![
    a_cookie_keeps_a_client_with_its_target,
    a_hash_keeps_what_is_alike_together,
    two_choices_spread_requests,
    a_target_that_fails_its_checks_is_left_out_until_it_recovers,
    a_target_that_fails_requests_is_left_out_for_a_while,
    targets_that_all_fail_requests_are_degraded_until_one_answers,
    what_requests_showed_of_targets_does_not_move_with_their_network,
    what_is_safe_to_repeat_is_repeated_elsewhere,
    when_no_target_is_well_the_client_is_told,
    a_network_that_moves_leaves_no_connection_in_its_old_namespace,
];

/// A rule for [`NAME`] with these targets and more keys.
fn state(tenant: &Tenant, ports: &[u16], more: Value) -> Value {
    let to: Vec<String> = ports
        .iter()
        .map(|port| format!("10.0.0.2:{port}"))
        .collect();
    let mut rule = json!({ "host": NAME, "to": to });
    if let (Some(rule), Value::Object(more)) = (rule.as_object_mut(), more) {
        rule.extend(more);
    }
    let mut network = tenant.network(json!({}));
    network["routes"] = json!([rule]);
    json!({ tenant.port.to_string(): network })
}

/// Upstreams that say their port.
fn saying(tenant: &Tenant, ports: &[u16]) -> Result<Vec<Upstream>> {
    let start = |port: &u16| Upstream::saying(tenant.listen(*port)?, &port.to_string());
    ports.iter().map(start).collect()
}

fn answers(count: usize, request: &str) -> Result<BTreeMap<String, usize>> {
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        let answer = http::ask(request)?;
        let said = match answer.status()? {
            200 => answer.text(),
            status => status.to_string(),
        };
        *answers.entry(said).or_insert(0) += 1;
    }
    Ok(answers)
}

fn a_cookie_keeps_a_client_with_its_target(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let mut upstreams = saying(&tenant, &[1, 2, 3])?;
    let sticky = json!({ "sticky": { "cookie": "at" } });
    lab.gateway(lab::http(json!({})), state(&tenant, &[1, 2, 3], sticky))?;
    let mut seen = BTreeSet::new();
    let mut last = None;
    for _ in 0..6 {
        let first = http::get(NAME, "/")?;
        let cookie = first.field("set-cookie").context("no cookie")?;
        ensure!(
            cookie.starts_with("at=") && cookie.contains("HttpOnly"),
            "{cookie}"
        );
        ensure!(
            !cookie.contains("10.0.0.2"),
            "an address is shown: {cookie}"
        );
        let pair = cookie.split(';').next().unwrap_or_default().to_owned();
        let request = http::request("GET", NAME, "/", &format!("Cookie: x=y; {pair}\r\n"));
        let expected = BTreeMap::from([(first.text(), 5)]);
        ensure!(answers(5, &request)? == expected, "{expected:?}");
        seen.insert(first.text());
        last = Some((first.text(), request));
    }
    ensure!(seen.len() == 3, "not spread: {seen:?}");
    // Its target is gone: another one takes the client, and keeps it.
    let (port, request) = last.context("nobody")?;
    upstreams.remove(port.parse::<usize>()? - 1);
    let moved = http::ask(&request)?;
    moved.expect(200)?;
    ensure!(
        moved.text() != port && moved.field("set-cookie").is_some(),
        "{moved:?}"
    );
    // A cookie of nobody's is none.
    http::ask(http::request("GET", NAME, "/", "Cookie: at=evil\r\n"))?.expect(200)?;
    Ok(())
}

fn a_hash_keeps_what_is_alike_together(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _upstreams = saying(&tenant, &[1, 2, 3, 4])?;
    let hash = json!({ "balance": "hash:header:x-user" });
    let gateway = lab.gateway(
        lab::http(json!({})),
        state(&tenant, &[1, 2, 3, 4], hash.clone()),
    )?;
    let homes = || {
        let home = |user: usize| {
            let request = http::request("GET", NAME, "/", &format!("X-User: {user}\r\n"));
            let homes = answers(3, &request)?;
            ensure!(homes.len() == 1, "user {user} is everywhere: {homes:?}");
            homes.into_keys().next().context("nowhere")
        };
        (0..40).map(home).collect::<Result<Vec<String>>>()
    };
    let before = homes()?;
    let spread: BTreeSet<&String> = before.iter().collect();
    ensure!(spread.len() == 4, "{spread:?}");
    // Without one of them, only those who were there move.
    gateway.api().apply(&state(&tenant, &[1, 2, 3], hash))?;
    for (old, new) in before.iter().zip(homes()?) {
        ensure!(*old == new || old == "4", "{old} moved to {new}");
    }
    Ok(())
}

fn two_choices_spread_requests(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _upstreams = saying(&tenant, &[1, 2, 3])?;
    let two = json!({ "balance": "power_of_two" });
    lab.gateway(lab::http(json!({})), state(&tenant, &[1, 2, 3], two))?;
    let answers = answers(60, &http::request("GET", NAME, "/", ""))?;
    ensure!(
        answers.len() == 3 && answers.values().all(|count| *count >= 5),
        "{answers:?}"
    );
    Ok(())
}

fn a_target_that_fails_its_checks_is_left_out_until_it_recovers(lab: &mut Lab) -> Result<()> {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    };
    let tenant = lab.tenant(51_820)?;
    let ill = Arc::new(AtomicBool::new(false));
    let _steady = Upstream::saying(tenant.listen(1)?, "1")?;
    let asked_ill = Arc::clone(&ill);
    let other = Upstream::start(
        tenant.listen(2)?,
        move |request: &Message, wire: &mut Wire| {
            let is_check = request.target() == "/healthz";
            let status = match is_check && asked_ill.load(Relaxed) {
                true => "500 Internal Server Error",
                false => "200 OK",
            };
            wire.send(reply(status, "", "2"))?;
            Ok(Then::Next)
        },
    )?;
    let health = json!({ "health": {
        "kind": "http", "path": "/healthz", "interval": "500ms", "timeout": "5s", "rise": 1, "fall": 2,
    } });
    lab.gateway(lab::http(json!({})), state(&tenant, &[1, 2], health))?;
    let request = http::request("GET", NAME, "/", "");
    let spread = |what: &str, count: usize| {
        eventually(what, || {
            (answers(12, &request).ok()?.len() == count).then_some(())
        })
    };
    spread("both are asked", 2)?;
    ill.store(true, Relaxed);
    spread("the ill one is left out", 1)?;
    ensure!(answers(20, &request)?.into_keys().eq(["1".to_owned()]));
    ill.store(false, Relaxed);
    spread("it is back", 2)?;
    let checks = other.asked();
    let check = checks
        .iter()
        .find(|asked| asked.request.target() == "/healthz");
    let check = &check.context("no check")?.request;
    ensure!(
        check.method() == "GET" && check.field("host") == Some("10.0.0.2:2"),
        "{check:?}"
    );
    Ok(())
}

fn a_target_that_fails_requests_is_left_out_for_a_while(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _steady = Upstream::saying(tenant.listen(1)?, "1")?;
    let failing = Upstream::start(tenant.listen(2)?, |_, _| Ok(Then::Close))?;
    let ejection = json!({
        "ejection": { "failures": 3, "base": "8s", "share_max": 50 },
        "retries": { "max": 0 },
    });
    lab.gateway(lab::http(json!({})), state(&tenant, &[1, 2], ejection))?;
    let request = http::request("GET", NAME, "/", "");
    let early = answers(12, &request)?;
    ensure!(early.get("502") == Some(&3), "{early:?}");
    ensure!(
        answers(20, &request)?.into_keys().eq(["1".to_owned()]),
        "it is still asked"
    );
    ensure!(failing.asked().len() == 3);
    eventually("it is tried again", || {
        http::ask(&request).ok()?;
        (failing.asked().len() > 3).then_some(())
    })
}

/// Nobody checks them: only their requests tell.
fn targets_that_all_fail_requests_are_degraded_until_one_answers(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let failing = Upstream::start(tenant.listen(1)?, |_, _| Ok(Then::Close))?;
    let ejection = json!({ "ejection": { "failures": 3 } });
    let gateway = lab.gateway(lab::http(json!({})), state(&tenant, &[1, 2], ejection))?;
    let mut events = gateway.api().events(Some(0))?;
    let down = || {
        let status = gateway.api().get("/api/v1/status").ok()?;
        let list = status["degraded"].as_array()?.clone();
        let mut down = list.into_iter();
        Some(down.find(|it| it["reason"] == "targets_down"))
    };
    let request = http::request("GET", NAME, "/", "");
    answers(2, &request)?;
    ensure!(down().context("no status")?.is_none(), "two are not enough");
    answers(10, &request)?;
    let told = eventually("it is degraded", || down().flatten())?;
    let why = told["why"].as_str().unwrap_or_default();
    ensure!(
        told["network"] == 51_820
            && why.starts_with("all targets fail the last requests or connections: "),
        "{told}"
    );
    ensure!(why.contains("10.0.0.2:2 ("), "{why}");
    let of_targets = |kind: &'static str| {
        move |event: &Value| event["kind"] == kind && event["reason"] == "targets_down"
    };
    events.wait_for("it begins", of_targets("degraded"))?;
    drop(failing);
    let _steady = Upstream::saying(tenant.listen(1)?, "1")?;
    eventually("it has recovered", || {
        http::ask(&request).ok()?;
        down()?.is_none().then_some(())
    })?;
    events.wait_for("it ends", of_targets("recovered"))?;
    Ok(())
}

fn what_requests_showed_of_targets_does_not_move_with_their_network(lab: &mut Lab) -> Result<()> {
    // Nobody listens there.
    let (old, new) = (lab.tenant(51_820)?, lab.tenant(51_821)?);
    let rule = state(&old, &[1], json!({}));
    let gateway = lab.gateway(lab::http(json!({})), rule.clone())?;
    answers(6, &http::request("GET", NAME, "/", ""))?;
    let is_down = || {
        let status = gateway.api().get("/api/v1/status").ok()?;
        let mut list = status["degraded"].as_array()?.iter();
        Some(list.any(|it| it["reason"] == "targets_down"))
    };
    eventually("it is degraded", || is_down()?.then_some(()))?;
    let mut moved = rule;
    moved["51820"]["netns"] = new.network(json!({}))["netns"].clone();
    gateway.api().apply(&moved)?;
    ensure!(is_down() == Some(false), "they are other machines");
    Ok(())
}

fn what_is_safe_to_repeat_is_repeated_elsewhere(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _steady = Upstream::saying(tenant.listen(1)?, "1")?;
    let failing = Upstream::start(tenant.listen(2)?, |_, _| Ok(Then::Close))?;
    let retries = json!({
        "retries": { "max": 1, "percent": 100, "floor": 100 },
        "ejection": { "failures": 0 },
    });
    lab.gateway(lab::http(json!({})), state(&tenant, &[1, 2], retries))?;
    let get = answers(20, &http::request("GET", NAME, "/", ""))?;
    ensure!(
        get.into_keys().eq(["1".to_owned()]),
        "a client saw a failure"
    );
    ensure!(!failing.asked().is_empty());
    let post = http::request("POST", NAME, "/", "Content-Length: 2\r\n") + "ok";
    let post = answers(20, &post)?;
    ensure!(post.contains_key("502"), "a POST was repeated: {post:?}");
    Ok(())
}

fn when_no_target_is_well_the_client_is_told(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let health = json!({ "health": {
        "kind": "tcp", "interval": "500ms", "timeout": "300ms", "rise": 1, "fall": 1,
    } });
    lab.gateway(lab::http(json!({})), state(&tenant, &[1], health))?;
    eventually("it is known to be down", || {
        let answer = http::get(NAME, "/").ok()?;
        (answer.status().ok()? == 503 && answer.json().ok()?["code"] == "NO_BACKEND").then_some(())
    })?;
    let _up = Upstream::saying(tenant.listen(1)?, "1")?;
    eventually("it is back", || {
        (http::get(NAME, "/").ok()?.status().ok()? == 200).then_some(())
    })
}

fn a_network_that_moves_leaves_no_connection_in_its_old_namespace(lab: &mut Lab) -> Result<()> {
    // Two tenants with the same addresses.
    let (old, new) = (lab.tenant(51_820)?, lab.tenant(51_821)?);
    let before = Upstream::saying(old.listen(80)?, "old")?;
    let _after = Upstream::saying(new.listen(80)?, "new")?;
    let gateway = lab.gateway(lab::http(json!({})), state(&old, &[80], json!({})))?;
    let mut wire = Wire::new(tests::stream::connect(lab::GATEWAY)?);
    let request = http::request("GET", NAME, "/", "");
    for _ in 0..3 {
        ensure!(wire.ask(&request)?.text() == "old");
    }
    let mut moved = state(&old, &[80], json!({}));
    moved["51820"]["netns"] = new.network(json!({}))["netns"].clone();
    let applied = gateway
        .api()
        .ask("POST", "/api/v1/apply?wait=true", Some(&moved.to_string()))?;
    ensure!(applied.status == 200, "{applied:?}");
    for _ in 0..10 {
        ensure!(wire.ask(&request)?.text() == "new");
    }
    ensure!(before.asked().len() == 3, "{:?}", before.asked());
    Ok(())
}
