//! The OpenAPI document held against what is answered.
//!
//! Method: every status that the document declares is provoked, and the answer is checked against
//! its content type and schema. A status that cannot be provoked is a failure, as is one that is
//! answered and not declared.

use std::collections::BTreeSet;

use control_store::{DesiredStore as _, NewGeneration};
use serde_json::{Value, json};

use crate::{
    gateway::{ADMIN, Gateway, OPERATOR, PEER, READER, Wanted, document, three_tokens},
    schema::violations,
    wire::{Answer, Request, exchange},
};

/// What a document says of one answer: method, path, status.
type Declared = (String, String, String);

/// Reading fails where the disk does; the store's own tests have broken disks.
const NOT_PROVOKED: [(&str, &str, &str); 4] = [
    ("get", "/api/v1/generations", "503"),
    ("get", "/api/v1/audit", "503"),
    ("get", "/api/v1/traffic", "503"),
    ("get", "/api/v1/traffic/routes", "503"),
];

async fn described(gateway: &Gateway) -> Value {
    let answer = gateway.get("/api/v1/openapi.json").await;
    assert_eq!(answer.status, 200);
    answer.json()
}

fn declared(openapi: &Value) -> BTreeSet<Declared> {
    let mut all = BTreeSet::new();
    for (path, operations) in openapi["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            for status in operation["responses"].as_object().unwrap().keys() {
                all.insert((method.clone(), path.clone(), status.clone()));
            }
        }
    }
    all
}

/// A request that works: its path filled in, and a body where one is taken.
fn working(method: &str, path: &str) -> (String, Option<String>) {
    let port = "51820";
    let filled = path
        .replace("{port}", port)
        .replace("{key}", &PEER.replace('/', "%2F"))
        .replace("{id}", "b")
        .replace("{name}", "c")
        .replace("{generation}", "1");
    let body = match (method, path) {
        ("post", "/api/v1/apply") => Some(document().to_string()),
        ("patch", _) => Some(json!({ "mtu": 1400 }).to_string()),
        ("put", "/api/v1/networks/{port}") => Some(document()[port].to_string()),
        ("put", "/api/v1/networks/{port}/routes/{id}") => {
            let rule = json!({ "host": "b.example.com", "to": ["10.0.0.2:80"] });
            Some(rule.to_string())
        }
        ("put", "/api/v1/networks/{port}/listeners/{name}") => {
            let listener = json!({ "bind": "10.0.0.1:80", "protocol": "http" });
            Some(listener.to_string())
        }
        ("put", _) => Some(json!({ "allowed_ips": ["10.0.0.2/32"] }).to_string()),
        _ => None,
    };
    (filled, body)
}

/// Checks one answer against the document.
struct Checker {
    openapi: Value,
    seen: BTreeSet<Declared>,
}

impl Checker {
    fn check(&mut self, method: &str, path: &str, answer: &Answer) {
        let status = answer.status.to_string();
        let place = format!("{method} {path} {status}");
        let responses = &self.openapi["paths"][path][method]["responses"];
        let response = &responses[&status];
        assert!(
            response.is_object(),
            "{place} is answered and not declared: {answer:?}"
        );
        let content = response["content"].as_object().expect(&place);
        let kind = answer.header("content-type").unwrap_or_default();
        let essence = |kind: &str| kind.split(';').next().unwrap_or_default().to_owned();
        let (_, media) = content
            .iter()
            .find(|(declared, _)| essence(declared) == essence(kind))
            .unwrap_or_else(|| panic!("{place}: {kind} is not declared"));
        if essence(kind) == "application/json" {
            let found = violations(&self.openapi, &media["schema"], &answer.json());
            assert!(found.is_empty(), "{place}: {found:#?}");
        }
        self.seen
            .insert((method.to_owned(), path.to_owned(), status));
    }
}

async fn ask(
    gateway: &Gateway,
    method: &str,
    path: &str,
    token: &str,
    body: Option<&str>,
) -> Answer {
    let method = method.to_uppercase();
    let mut request = Request::new(&method, path).bearer(token);
    if let Some(body) = body {
        request = request.body(body.as_bytes());
    }
    gateway.ask(request).await
}

#[tokio::test]
async fn everything_that_is_declared_is_answered_so_and_nothing_else() {
    let gateway = Gateway::guarded().await;
    let openapi = described(&gateway).await;
    let all = declared(&openapi);
    let mut checker = Checker {
        openapi,
        seen: BTreeSet::new(),
    };
    works(&mut checker, &all).await;
    refuses_strangers(&mut checker, &all).await;
    refuses_wrong_requests(&mut checker, &all).await;
    refuses_for_now(&mut checker, &all).await;
    let missing: Vec<&Declared> = all
        .difference(&checker.seen)
        .filter(|(method, path, status)| {
            !NOT_PROVOKED.contains(&(method.as_str(), path.as_str(), status.as_str()))
        })
        .collect();
    assert!(
        missing.is_empty(),
        "declared and never answered: {missing:#?}"
    );
}

/// What spectral ("spectral:oas") and redocly ("recommended") call errors, as far as any of it was ever
/// wrong here.
#[tokio::test]
async fn linters_find_no_error_in_the_document() {
    let openapi = described(&Gateway::open().await).await;
    let mut ids = BTreeSet::new();
    for (path, operations) in openapi["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let place = format!("{method} {path}");
            assert!(
                operation["security"].is_array(),
                "{place} says nothing of tokens"
            );
            let id = operation["operationId"].as_str().expect(&place);
            assert!(ids.insert(id.to_owned()), "{place}: {id} is there twice");
            let named = operation["parameters"].as_array().into_iter().flatten();
            let named: Vec<&str> = named
                .filter(|it| it["in"] == "path")
                .filter_map(|it| it["name"].as_str())
                .collect();
            for name in path.split('{').skip(1) {
                let name = name.split('}').next().unwrap();
                assert!(named.contains(&name), "{place}: {name} is not described");
            }
        }
    }
    let mut lists = Vec::new();
    find_lists(&openapi, "#", &mut lists);
    assert!(lists.is_empty(), "lists without `items`: {lists:?}");
}

#[tokio::test]
async fn the_reference_page_is_up_to_date() {
    let openapi = described(&Gateway::open().await).await;
    control_reference::compare("api", &reference(&openapi)).unwrap();
}

/// The requests in Markdown: a row for each, by tag and path.
fn reference(openapi: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().replace('\n', " ");
    let mut tables =
        String::from("| Request | Role | What it does | Parameters |\n|---|---|---|---|\n");
    let mut rows = BTreeSet::new();
    for (path, operations) in openapi["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let parameters: Vec<String> = parameters
                .map(|it| format!("`{}`: {}", text(&it["name"]), text(&it["description"])))
                .collect();
            let role = match operation["security"].as_array() {
                Some(security) if security.is_empty() => "none",
                _ if method == "get" => "reader",
                _ => "operator",
            };
            let (summary, about) = (text(&operation["summary"]), text(&operation["description"]));
            let meaning = format!("{summary}. {about}");
            rows.insert((
                text(&operation["tags"][0]) != "state",
                path,
                format!(
                    "| `{} {path}` | {role} | {} | {} |\n",
                    method.to_uppercase(),
                    meaning.trim(),
                    parameters.join("<br>")
                ),
            ));
        }
    }
    for (_, _, row) in rows {
        tables.push_str(&row);
    }
    tables
}

fn find_lists(part: &Value, place: &str, found: &mut Vec<String>) {
    match part {
        Value::Object(members) => {
            if members.get("type").is_some_and(|kind| kind == "array")
                && !members.contains_key("items")
            {
                found.push(place.to_owned());
            }
            for (key, member) in members {
                find_lists(member, &format!("{place}/{key}"), found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| find_lists(item, place, found)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn operations(all: &BTreeSet<Declared>) -> BTreeSet<(&str, &str)> {
    all.iter()
        .map(|(method, path, _)| (method.as_str(), path.as_str()))
        .collect()
}

fn has(all: &BTreeSet<Declared>, method: &str, path: &str, status: &str) -> bool {
    all.contains(&(method.to_owned(), path.to_owned(), status.to_owned()))
}

/// Everything once, in a gateway that has something to show.
async fn works(checker: &mut Checker, all: &BTreeSet<Declared>) {
    for (method, path) in operations(all) {
        if path == "/api/v1/events" {
            continue;
        }
        let gateway = Gateway::guarded().await;
        ask(
            &gateway,
            "post",
            "/api/v1/apply",
            ADMIN,
            Some(&document().to_string()),
        )
        .await;
        gateway.audit(1).await;
        let (filled, body) = working(method, path);
        let answer = ask(&gateway, method, &filled, ADMIN, body.as_deref()).await;
        assert_eq!(answer.status, 200, "{method} {path}: {answer:?}");
        checker.check(method, path, &answer);
    }
    // An answer without an end: its head, and the gateway's end.
    let mut gateway = Gateway::guarded().await;
    let request = Request::new("GET", "/api/v1/events").bearer(READER);
    let (stream, request) = (gateway.connect().await, request.bytes());
    let answer = tokio::spawn(async move { exchange(stream, &request).await });
    let followed = "ringway_api_event_clients 1.0\n";
    while !metrics(&gateway).await.contains(followed) {}
    gateway.close().await;
    let answer = answer.await.unwrap();
    checker.check("get", "/api/v1/events", &answer);
}

async fn metrics(gateway: &Gateway) -> String {
    let request = Request::new("GET", "/metrics").bearer(READER);
    gateway.ask(request).await.body
}

async fn refuses_strangers(checker: &mut Checker, all: &BTreeSet<Declared>) {
    let strict = Gateway::start(Wanted {
        api: "limits: {failures_max: 1}",
        tokens: three_tokens(),
        ..Wanted::default()
    })
    .await;
    ask(&strict, "get", "/api/v1/status", "a-guess", None).await;
    let gateway = Gateway::start(Wanted {
        api: "limits: {failures_max: 1000}",
        tokens: three_tokens(),
        ..Wanted::default()
    })
    .await;
    for (method, path) in operations(all) {
        let (filled, body) = working(method, path);
        let secrets = format!("{filled}?secrets=true");
        for (gateway, token, asked, status) in [
            (&gateway, "a-guess", &filled, "401"),
            (&strict, "a-guess", &filled, "429"),
            (&gateway, READER, &filled, "403"),
            (&gateway, OPERATOR, &secrets, "403"),
        ] {
            if !has(all, method, path, status)
                || (asked == &secrets) != (path == "/api/v1/config" && status == "403")
            {
                continue;
            }
            let answer = ask(gateway, method, asked, token, body.as_deref()).await;
            assert_eq!(answer.status.to_string(), status, "{method} {path}");
            checker.check(method, path, &answer);
        }
    }
}

async fn refuses_wrong_requests(checker: &mut Checker, all: &BTreeSet<Declared>) {
    let gateway = Gateway::start(Wanted {
        api: "limits: {body_bytes_max: 4KiB, body_timeout: 100ms}",
        ..Wanted::default()
    })
    .await;
    gateway.post("/api/v1/apply", &document()).await;
    let large = " ".repeat(5000);
    for (method, path) in operations(all) {
        let (filled, body) = working(method, path);
        let upper = method.to_uppercase();
        let nowhere = filled
            .replace("51820", "9")
            .replace("rollback/1", "rollback/99");
        let nowhere = if path == "/api/v1/status" {
            "/api/v1/status?network=9".to_owned()
        } else {
            nowhere
        };
        let wrong = format!("{filled}?colour=red");
        let request = |asked| {
            let request = Request::new(&upper, asked);
            match &body {
                Some(body) => request.body(body.as_bytes()),
                None => request,
            }
        };
        for (asked, status) in [
            (request(&wrong), "400"),
            (request(&nowhere), "404"),
            (request(&filled).header("If-Match", "77"), "409"),
            (Request::new(&upper, &filled).body(large.as_bytes()), "413"),
            (
                Request::new(&upper, &filled).header("Content-Length", "9"),
                "408",
            ),
        ] {
            if has(all, method, path, status) && !(path == "/metrics" && status == "400") {
                let answer = gateway.ask(asked).await;
                assert_eq!(
                    answer.status.to_string(),
                    status,
                    "{method} {path}: {answer:?}"
                );
                checker.check(method, path, &answer);
            }
        }
    }
}

async fn refuses_for_now(checker: &mut Checker, all: &BTreeSet<Declared>) {
    let gateway = Gateway::start(Wanted {
        is_stuck: true,
        api: "limits: {request_timeout: 100ms, body_timeout: 100ms, event_clients_max: 1}",
        ..Wanted::default()
    })
    .await;
    gateway
        .view
        .send_modify(|view| std::sync::Arc::make_mut(view).ready = false);
    let new = NewGeneration {
        document: Some("{}".to_owned()),
        ..NewGeneration::default()
    };
    gateway.store.desired().commit(new).await.unwrap();
    let mut follower = gateway.connect().await;
    let follow = Request::new("GET", "/api/v1/events").bytes();
    tokio::io::AsyncWriteExt::write_all(&mut follower, &follow)
        .await
        .unwrap();
    while !gateway
        .get("/metrics")
        .await
        .body
        .contains("ringway_api_event_clients 1.0\n")
    {}
    for (method, path) in operations(all) {
        let is_reading = NOT_PROVOKED.iter().any(|(_, known, _)| *known == path);
        if !has(all, method, path, "503") || is_reading {
            continue;
        }
        let (filled, body) = working(method, path);
        let upper = method.to_uppercase();
        let request = Request::new(&upper, &filled);
        let body = body.unwrap_or_default();
        let answer = gateway.ask(request.body(body.as_bytes())).await;
        assert_eq!(answer.status, 503, "{method} {path}: {answer:?}");
        checker.check(method, path, &answer);
    }
}

#[tokio::test]
async fn the_page_needs_nothing_from_outside_and_runs_nothing_but_itself() {
    let gateway = Gateway::guarded().await;
    let page = gateway.get("/api/docs").await;
    assert_eq!(page.status, 200);
    let policy = page.header("content-security-policy").unwrap();
    assert!(
        policy.starts_with("default-src 'none'; script-src 'sha256-"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"));
    // One script and one style, both inline and known to the policy; nothing is loaded.
    for (tag, times) in [
        ("<script>", 1),
        ("<style>", 1),
        ("<script ", 0),
        ("<link", 0),
        ("<img", 0),
        ("@import", 0),
        ("url(", 0),
        (" style=\"", 0),
        (" onclick=", 0),
        ("innerHTML", 0),
    ] {
        assert_eq!(page.body.matches(tag).count(), times, "{tag}");
    }
    for scheme in ["http://", "https://", "//cdn"] {
        assert!(!page.body.contains(scheme), "{scheme}");
    }
    assert!(page.body.contains("/api/v1/openapi.json"));
}

#[tokio::test]
async fn the_document_describes_every_operation() {
    let gateway = Gateway::open().await;
    let openapi = described(&gateway).await;
    let mut ids = BTreeSet::new();
    for (method, path) in operations(&declared(&openapi)) {
        let operation = &openapi["paths"][path][method];
        assert!(operation["summary"].is_string(), "{method} {path}");
        assert!(
            ids.insert(operation["operationId"].to_string()),
            "{method} {path}"
        );
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(
                parameter["description"].is_string(),
                "{method} {path}: {parameter}"
            );
        }
    }
    assert_eq!(openapi["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(ids.len() >= 18, "{ids:?}");
}
