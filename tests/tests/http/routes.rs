//! The rules of a state document: which one a request falls under, and what it does to it.

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tests::{
    http::{self, Message, Then, Upstream, Wire, reply},
    lab::{self, GATEWAY, Lab, Tenant},
    runner::Test,
    stream, tests,
};

use crate::NAME;

pub(crate) const TESTS: &[Test] = tests![
    the_longest_path_wins_and_then_the_most_conditions,
    no_way_of_writing_a_path_leads_around_a_rule,
    redirects_keep_what_they_are_told_to_keep,
    headers_are_set_added_and_removed_on_both_ways,
    path_and_host_are_rewritten,
    a_password_is_asked_for_and_never_shown,
    addresses_are_let_in_and_kept_out,
    content_beyond_a_rules_bound_is_refused,
    maintenance_and_pages_of_ones_own,
    who_takes_longer_than_a_rule_allows_is_given_up,
];

/// The state of a tenant with rules, and perhaps more keys.
fn state(tenant: &Tenant, routes: Value, more: Value) -> Value {
    let mut network = tenant.network(json!({}));
    network["routes"] = routes;
    if let (Some(network), Value::Object(more)) = (network.as_object_mut(), more) {
        network.extend(more);
    }
    json!({ tenant.port.to_string(): network })
}

fn rule(path: &str, port: u16, more: Value) -> Value {
    let mut rule = json!({ "host": NAME, "path": path, "to": [format!("10.0.0.2:{port}")] });
    if let (Some(rule), Value::Object(more)) = (rule.as_object_mut(), more) {
        rule.extend(more);
    }
    rule
}

fn ok(_: &Message, wire: &mut Wire) -> Result<Then> {
    wire.send(reply("200 OK", "", "ok"))?;
    Ok(Then::Next)
}

/// Who answers a request: each upstream says its name.
fn who(request: &str) -> Result<String> {
    let answer = http::ask(request)?;
    Ok(match answer.status()? {
        200 => answer.text(),
        status => status.to_string(),
    })
}

fn the_longest_path_wins_and_then_the_most_conditions(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let name = |port: u16| Upstream::saying(tenant.listen(port)?, &port.to_string());
    let _upstreams: Vec<Upstream> = (1..=7).map(name).collect::<Result<_>>()?;
    let routes = json!([
        rule("/", 1, json!({})),
        rule("/api", 2, json!({})),
        rule("/api/v2", 3, json!({})),
        rule("/api", 4, json!({ "methods": ["POST", "PUT"] })),
        rule("/api", 5, json!({ "methods": ["POST"], "headers": { "x-beta": true } })),
        { "host": "*.example", "to": ["10.0.0.2:6"] },
        { "host": "*", "path": "/open", "to": ["10.0.0.2:7"] },
    ]);
    lab.gateway(lab::http(json!({})), state(&tenant, routes, json!({})))?;
    for (request, expected) in [
        (http::request("GET", NAME, "/", ""), "1"),
        (http::request("GET", NAME, "/apis", ""), "1"),
        (http::request("GET", NAME, "/api", ""), "2"),
        (http::request("GET", NAME, "/api?x=/v2", ""), "2"),
        (http::request("GET", NAME, "/api/v2/x", ""), "3"),
        (http::request("GET", NAME, "/api/v21", ""), "2"),
        (http::request("POST", NAME, "/api/x", ""), "4"),
        (http::request("POST", NAME, "/api/x", "X-Beta: no\r\n"), "5"),
        (http::request("PUT", NAME, "/api/x", "X-Beta: no\r\n"), "4"),
        (
            http::request("POST", NAME, "/api/v2", "X-Beta: no\r\n"),
            "3",
        ),
        (http::request("GET", "red.example", "/api", ""), "6"),
        (http::request("GET", "other.test", "/open", ""), "7"),
        (http::request("GET", "other.test", "/api", ""), "404"),
    ] {
        let answered = who(&request).with_context(|| request.clone())?;
        ensure!(
            answered == expected,
            "{answered} instead of {expected}: {request}"
        );
    }
    Ok(())
}

fn no_way_of_writing_a_path_leads_around_a_rule(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let upstream = Upstream::start(tenant.listen(80)?, ok)?;
    let routes = json!([
        rule("/", 80, json!({})),
        rule("/admin", 80, json!({ "deny": ["0.0.0.0/0"] })),
    ]);
    lab.gateway(lab::http(json!({})), state(&tenant, routes, json!({})))?;
    for (path, status) in [
        ("/admin", 403),
        ("/admin/x", 403),
        ("/a/../admin", 403),
        ("/%61dmin", 403),
        ("/x/%2e%2e/admin", 403),
        ("/./admin", 403),
        ("http://blue.example/admin", 403),
        // What some upstreams take for it is refused, since others do not.
        ("//admin", 400),
        ("/admin;x", 400),
        ("/%2fadmin", 400),
        ("/x%2f..%2fadmin", 400),
        ("/x/..;/admin", 400),
        ("/a%64min%2fx", 400),
        ("/\\admin", 400),
        // What is passed on means one thing only.
        ("/x//../admin", 200),
        ("/administrator", 200),
        ("/x?/admin", 200),
    ] {
        let answer = http::ask(http::request("GET", NAME, path, ""))?;
        ensure!(answer.status()? == status, "{path}: {}", answer.line);
    }
    let reached: Vec<String> = upstream
        .asked()
        .iter()
        .map(|it| it.request.target().to_owned())
        .collect();
    ensure!(
        reached == ["/x/admin", "/administrator", "/x?/admin"],
        "{reached:?}"
    );
    Ok(())
}

fn redirects_keep_what_they_are_told_to_keep(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let routes = json!([
        { "host": NAME, "redirect": "https" },
        { "host": NAME, "path": "/port", "redirect": { "to": "https", "port": 8444, "status": 302 } },
        { "host": NAME, "path": "/old", "redirect": { "to": "http://new.example{path}{query}", "status": 301 } },
        { "host": "any.example", "redirect": { "to": "https://www.{host}/", "status": 307 } },
    ]);
    lab.gateway(lab::http(json!({})), state(&tenant, routes, json!({})))?;
    let mut client = http::dial()?;
    for (host, path, status, location) in [
        (NAME, "/a/b?c=d", 308, "https://blue.example/a/b?c=d"),
        ("blue.example:8443", "/", 308, "https://blue.example/"),
        (NAME, "/port", 302, "https://blue.example:8444/port"),
        (NAME, "/old/x?y", 301, "http://new.example/old/x?y"),
        ("any.example", "/z", 307, "https://www.any.example/"),
    ] {
        let answer = client.ask(http::request("GET", host, path, ""))?;
        ensure!(answer.status()? == status, "{host}{path}: {answer:?}");
        ensure!(
            answer.field("location") == Some(location),
            "{host}{path}: {answer:?}"
        );
        ensure!(
            !answer.closes() && answer.field("x-request-id").is_some(),
            "{answer:?}"
        );
    }
    Ok(())
}

fn headers_are_set_added_and_removed_on_both_ways(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let upstream = Upstream::start(tenant.listen(80)?, |_, wire| {
        let fields = "Server: mine\r\nX-Twice: 1\r\nCache-Control: public\r\n";
        wire.send(reply("200 OK", fields, "ok"))?;
        Ok(Then::Next)
    })?;
    let edits = json!({
        "request_headers": {
            "set": { "X-Tenant": "blue", "User-Agent": "gateway" },
            "add": { "X-Twice": "2" },
            "remove": ["Cookie", "X-Forwarded-For"],
        },
        "response_headers": {
            "set": { "Cache-Control": "private" },
            "add": { "X-Twice": "2" },
            "remove": ["server"],
        },
        "hsts": { "max_age": "1d" },
    });
    let state = state(&tenant, json!([rule("/", 80, edits)]), json!({}));
    lab.gateway(lab::http(json!({})), state)?;
    let fields = "X-Tenant: evil\r\nuser-agent: me\r\nCookie: a=b\r\nX-Twice: 1\r\n";
    let answer = http::ask(http::request("GET", NAME, "/", fields))?;
    let asked = upstream.last()?;
    ensure!(asked.all("x-tenant") == ["blue"] && asked.all("user-agent") == ["gateway"]);
    ensure!(asked.all("x-twice") == ["1", "2"], "{asked:?}");
    ensure!(asked.all("cookie").is_empty() && asked.all("x-forwarded-for").is_empty());
    ensure!(answer.all("cache-control") == ["private"] && answer.all("server").is_empty());
    ensure!(answer.all("x-twice") == ["1", "2"], "{answer:?}");
    Ok(())
}

fn path_and_host_are_rewritten(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let upstream = Upstream::start(tenant.listen(80)?, ok)?;
    let routes = json!([
        rule(
            "/api",
            80,
            json!({ "rewrite": { "prefix": "/", "host": "inner.example:81" } })
        ),
        rule("/v1", 80, json!({ "rewrite": { "prefix": "/v2" } })),
    ]);
    lab.gateway(lab::http(json!({})), state(&tenant, routes, json!({})))?;
    for (path, host, target) in [
        ("/api", "inner.example:81", "/"),
        ("/api/x?y=/api", "inner.example:81", "/x?y=/api"),
        ("/v1/x/../z", NAME, "/v2/z"),
    ] {
        http::ask(http::request("GET", NAME, path, ""))?.expect(200)?;
        let asked = upstream.last()?;
        ensure!(
            asked.target() == target && asked.field("host") == Some(host),
            "{path}: {asked:?}"
        );
        ensure!(asked.field("x-forwarded-host") == Some(NAME), "{asked:?}");
    }
    Ok(())
}

/// A password as a rule has it.
fn hashed(password: &str) -> String {
    let salt = b"12345678";
    let sum = Sha256::digest([password.as_bytes(), salt].concat());
    format!(
        "{{SSHA256}}{}",
        BASE64_STANDARD.encode([&sum[..], salt].concat())
    )
}

fn a_password_is_asked_for_and_never_shown(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let upstream = Upstream::start(tenant.listen(80)?, ok)?;
    let auth = json!({ "auth": { "realm": "Staff", "users": { "alice": hashed("open:sesame") } } });
    let state = state(&tenant, json!([rule("/", 80, auth)]), json!({}));
    let gateway = lab.gateway(lab::http(json!({})), state)?;
    let with = |credentials: &str| {
        let encoded = BASE64_STANDARD.encode(credentials);
        http::request(
            "GET",
            NAME,
            "/",
            &format!("Authorization: Basic {encoded}\r\n"),
        )
    };
    let refused = http::get(NAME, "/")?;
    refused.expect(401)?;
    let challenge = refused.field("www-authenticate").unwrap_or_default();
    ensure!(
        challenge.starts_with("Basic realm=\"Staff\""),
        "{challenge}"
    );
    for wrong in ["alice:open", "alice:", "bob:open:sesame", "alice", ":"] {
        http::ask(with(wrong))?
            .expect(401)
            .with_context(|| wrong.to_owned())?;
    }
    ensure!(upstream.asked().is_empty());
    http::ask(with("alice:open:sesame"))?.expect(200)?;
    let shown = gateway.api().ask("GET", "/api/v1/config", None)?.body;
    ensure!(!shown.contains("SSHA256"), "{shown}");
    Ok(())
}

fn addresses_are_let_in_and_kept_out(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let upstream = Upstream::start(tenant.listen(80)?, ok)?;
    let lists = json!({ "allow": ["127.0.0.0/29"], "deny": ["127.0.0.3"] });
    let state = state(&tenant, json!([rule("/", 80, lists)]), json!({}));
    lab.gateway(
        lab::http(json!({ "trusted_proxies": ["127.0.0.5"] })),
        state,
    )?;
    for (last, status) in [(1, 200), (3, 403), (8, 403), (7, 200)] {
        let client = stream::connect_from([127, 0, 0, last].into(), GATEWAY)?;
        let claim = "X-Forwarded-For: 127.0.0.1\r\n";
        let answer = Wire::new(client).ask(http::request("GET", NAME, "/", claim))?;
        ensure!(answer.status()? == status, "127.0.0.{last}: {answer:?}");
    }
    ensure!(upstream.asked().len() == 2);
    // Behind a trusted proxy it is whom the proxy names last, whatever the client wrote before.
    for (claim, status) in [
        ("127.0.0.1", 200),
        ("127.0.0.3", 403),
        ("127.0.0.1, 192.0.2.1", 403),
        ("192.0.2.1, 127.0.0.2", 200),
        ("127.0.0.2, 127.0.0.5", 200),
    ] {
        let client = stream::connect_from([127, 0, 0, 5].into(), GATEWAY)?;
        let claim = format!("X-Forwarded-For: {claim}\r\n");
        let answer = Wire::new(client).ask(http::request("GET", NAME, "/", &claim))?;
        ensure!(answer.status()? == status, "{claim}: {answer:?}");
    }
    Ok(())
}

fn content_beyond_a_rules_bound_is_refused(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let upstream = Upstream::start(tenant.listen(80)?, ok)?;
    let routes = json!([rule("/", 80, json!({ "body_max": "1KiB" }))]);
    lab.gateway(lab::http(json!({})), state(&tenant, routes, json!({})))?;
    let measured = |length: usize| {
        let fields = format!("Content-Length: {length}\r\n");
        http::request("POST", NAME, "/", &fields) + &"x".repeat(length)
    };
    let chunked = |length: usize| {
        let head = http::request("POST", NAME, "/", "Transfer-Encoding: chunked\r\n");
        let half = length / 2;
        let (first, second) = ("x".repeat(half), "x".repeat(length - half));
        format!(
            "{head}{half:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
            length - half
        )
    };
    for (within, beyond) in [
        (measured(1024), measured(1025)),
        (chunked(1024), chunked(1025)),
    ] {
        http::ask(within)?.expect(200)?;
        let refused = http::ask(beyond)?;
        refused.expect(413)?;
        ensure!(
            refused.json()?["code"] == "BODY_TOO_LARGE" && refused.closes(),
            "{refused:?}"
        );
    }
    let whole = upstream
        .asked()
        .iter()
        .filter(|asked| asked.is_whole)
        .count();
    ensure!(whole == 2, "{whole} came whole");
    Ok(())
}

fn maintenance_and_pages_of_ones_own(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let upstream = Upstream::start(tenant.listen(80)?, ok)?;
    let routes = json!([
        rule("/", 80, json!({})),
        rule("/closed", 80, json!({ "maintenance": true })),
        rule("/down", 9, json!({})),
    ]);
    let pages = json!({ "error_pages": { "503": "<h1>Back soon</h1>" } });
    lab.gateway(lab::http(json!({})), state(&tenant, routes, pages))?;
    let closed = http::get(NAME, "/closed")?;
    closed.expect(503)?;
    ensure!(closed.text() == "<h1>Back soon</h1>", "{closed:?}");
    ensure!(closed.field("retry-after").is_some(), "{closed:?}");
    let down = http::get(NAME, "/down")?;
    down.expect(502)?;
    ensure!(down.json()?["code"] == "BACKEND_DOWN");
    http::get(NAME, "/")?.expect(200)?;
    ensure!(upstream.asked().len() == 1);
    Ok(())
}

fn who_takes_longer_than_a_rule_allows_is_given_up(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    // It never answers on one path, and never comes to an end on the other.
    let _slow = Upstream::start(tenant.listen(80)?, |request: &Message, wire: &mut Wire| {
        if request.target() == "/whole" {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nsome")?;
        }
        wire.expect_end()?;
        Ok(Then::Close)
    })?;
    let steady = Upstream::saying(tenant.listen(81)?, "ok")?;
    let routes = json!([
        rule("/", 81, json!({})),
        rule(
            "/answer",
            80,
            json!({ "timeouts": { "answer": "300ms" }, "retries": { "max": 0 } })
        ),
        rule("/whole", 80, json!({ "timeouts": { "whole": "2s" } })),
    ]);
    lab.gateway(lab::http(json!({})), state(&tenant, routes, json!({})))?;
    let given_up = http::get(NAME, "/answer")?;
    given_up.expect(504)?;
    ensure!(
        given_up.json()?["code"] == "BACKEND_TIMEOUT",
        "{given_up:?}"
    );
    // What began cannot be taken back: the connection ends where content is missing.
    let mut client = http::dial()?;
    client.send(http::request("GET", NAME, "/whole", ""))?;
    client.head()?.context("no answer")?.expect(200)?;
    client.expect(b"some")?;
    ensure!(client.expect("x".as_bytes()).is_err(), "it goes on");
    http::get(NAME, "/")?.expect(200)?;
    ensure!(steady.asked().len() == 1);
    Ok(())
}
