use std::sync::Arc;

use engine_core::balance::{Balance, HashOn};
use engine_http::method::Scheme;
use serde_json::{Value, json};

use crate::{
    Problems,
    state::{Desired, KEPT, Route, Terminated, parse, parse_over},
};

const HASH: &str = "{SSHA256}/ns6zJE/32NE8cKSZF9az8X5lArEIFIDTnq8kcJ5W2k3YjBkNGYxYzlhMmU2ODM1";

fn network(fields: &Value) -> Value {
    let mut network = json!({ "netns": "blue" });
    for (key, value) in fields.as_object().unwrap() {
        network[key] = value.clone();
    }
    json!({ "1": network })
}

fn good(fields: &Value) -> Desired {
    match parse(&network(fields).to_string()) {
        Ok(valid) => valid.value,
        Err(problems) => panic!("{fields}: {problems:?}"),
    }
}

fn routes(desired: &Desired) -> &[Arc<Route>] {
    &desired.networks.values().next().unwrap().routes
}

/// A rule for everything of a host, changed by `change`.
fn rule(change: Value) -> Value {
    let mut rule = json!({ "host": "a.example", "to": ["10.0.0.2:80"] });
    for (key, value) in change.as_object().unwrap() {
        if value.is_null() {
            drop(rule.as_object_mut().unwrap().remove(key));
        } else {
            rule[key] = value.clone();
        }
    }
    rule
}

fn said(problems: &Problems) -> Vec<String> {
    problems.iter().map(ToString::to_string).collect()
}

fn refused(fields: &Value) -> Vec<String> {
    match parse(&network(fields).to_string()) {
        Ok(_) => panic!("accepted: {fields}"),
        Err(problems) => said(&problems),
    }
}

#[test]
fn a_rule_says_everything_and_is_written_as_it_was_read() {
    let document = json!({ "routes": [rule(json!({
        "host": "*.a.example", "path": "/api", "methods": ["GET", "POST"],
        "headers": { "x-beta": true, "x-version": { "prefix": "2." }, "x-who": "me" },
        "tls": "terminate",
        "to": ["https://10.0.0.2:8443", { "to": "https://[fd00::2]:8443", "weight": 3 }],
        "balance": "hash:header:x-user",
        "health": { "kind": "http", "path": "/up?deep=1", "statuses": "200-299", "interval": "1s" },
        "ejection": { "failures": 3 },
        "rewrite": { "prefix": "/", "host": "a.internal:8443" },
        "request_headers": { "set": { "x-a": "1" }, "remove": ["cookie"] },
        "response_headers": { "add": { "x-b": "2" } },
        "timeouts": { "connect": "1s", "whole": "1m" },
        "body_max": "10MiB",
        "retries": { "max": 3 },
        "auth": { "realm": "Staff", "users": { "alice": HASH } },
        "allow": ["10.0.0.0/8"], "deny": ["10.1.0.0/16"],
        "sticky": { "cookie": "at", "max_age": "1h" },
        "maintenance": true,
        "hsts": { "max_age": "365d", "preload": true },
        "upstream_tls": { "server_name": "a.internal" },
    }))] });
    let desired = good(&document);
    let written = desired.render_with_secrets();
    assert_eq!(written["1"]["routes"], document["routes"]);
    let route = &routes(&desired)[0];
    assert_eq!(
        route.balance,
        Some(Balance::Consistent(HashOn::Field("x-user".into())))
    );
    assert_eq!(
        route.hsts.as_ref().unwrap().to_string(),
        "max-age=31536000; preload"
    );
    assert_eq!(
        route.label(),
        "GET,POST https://*.a.example/api [x-beta] [x-version=2.*] [x-who=me]"
    );
    assert_eq!(good(&document), desired);
}

#[test]
fn what_says_nothing_is_left_out() {
    let document = json!({ "routes": [rule(json!({
        "path": "/", "maintenance": false, "methods": null, "timeouts": {},
        "health": { "kind": "tcp", "interval": "5s", "rise": 2 },
        "redirect": null,
    }))] });
    let written = good(&document).render_with_secrets();
    assert_eq!(
        written["1"]["routes"],
        json!([rule(json!({ "timeouts": {}, "health": { "kind": "tcp" } }))])
    );
}

/// Changes of a good rule, and how what is said of each starts.
const WRONG: &[(&str, &str)] = &[
    (r#"{"host": null}"#, ": `host` is missing"),
    (
        r#"{"host": "a/b"}"#,
        "/host: `a/b`: the name has a character",
    ),
    (
        r#"{"host": 5}"#,
        "/host: a string is expected, not a plain value",
    ),
    (
        r#"{"hots": "x"}"#,
        "/hots: `hots` is not a key here (did you mean `host`?)",
    ),
    (
        r#"{"path": "api"}"#,
        "/path: `api`: a path is expected that begins",
    ),
    (r#"{"path": "/a?b"}"#, "/path: `/a?b`: a path is expected"),
    (r#"{"path": "/.."}"#, "/path: `/..`: a path is expected"),
    (
        r#"{"methods": []}"#,
        "/methods: at least one is needed (leave the key out)",
    ),
    (
        r#"{"methods": ["get"]}"#,
        "/methods/0: `get`: methods are written in capitals",
    ),
    (
        r#"{"methods": ["G T"]}"#,
        "/methods/0: `G T`: from 1 to 128",
    ),
    (
        r#"{"headers": {"x y": "1"}}"#,
        "/headers/x y: `x y`: from 1 to 128",
    ),
    (
        r#"{"headers": {"x": false}}"#,
        "/headers/x: true, a value or",
    ),
    (
        r#"{"headers": {"x": "1", "X": "2"}}"#,
        "/headers: `x` is declared twice",
    ),
    (
        r#"{"headers": {"x": {"prefx": "2"}}}"#,
        "/headers/x/prefx: `prefx` is not a key here",
    ),
    (
        r#"{"headers": {"x": "a\nb"}}"#,
        "/headers/x: a value has no control characters",
    ),
    (
        r#"{"tls": "end"}"#,
        "/tls: `end` is none of: passthrough, terminate",
    ),
    (r#"{"to": []}"#, "/to: at least one target"),
    (r#"{"to": null}"#, ": `to` is missing, or `redirect`"),
    (
        r#"{"to": ["ftp://10.0.0.2:80"]}"#,
        "/to/0: `ftp` is no scheme of a target",
    ),
    (
        r#"{"to": ["10.0.0.2:80", "h2c://10.0.0.3:80"]}"#,
        "/to/1: all targets of a rule have one scheme",
    ),
    (
        r#"{"to": ["10.0.0.2:80", {"to": "10.0.0.2:80", "weight": 2}]}"#,
        "/to/1: target 10.0.0.2:80",
    ),
    (
        r#"{"balance": "hash"}"#,
        "/balance: `hash` is no way to spread",
    ),
    (
        r#"{"balance": "hash:cookie:a b"}"#,
        "/balance: `hash:cookie:a b` is no way",
    ),
    (r#"{"health": {}}"#, "/health: `kind` is missing"),
    (
        r#"{"health": {"kind": "tcp", "path": "/"}}"#,
        "/health: `path`, `host` and `statuses` are for",
    ),
    (
        r#"{"health": {"kind": "http", "interval": "1ms"}}"#,
        "/health/interval: `1ms` is not from 500ms",
    ),
    (
        r#"{"health": {"kind": "http", "fall": 0}}"#,
        "/health/fall: ",
    ),
    (
        r#"{"health": {"kind": "http", "statuses": "100"}}"#,
        "/health/statuses: `100`: a status",
    ),
    (
        r#"{"ejection": {"base": "2h"}}"#,
        "/ejection/base: `2h` is not from",
    ),
    (
        r#"{"ejection": {"base": "1m", "max": "1s"}}"#,
        "/ejection: `max` is less than `base`",
    ),
    (
        r#"{"redirect": "https"}"#,
        ": a rule has `to` or `redirect`",
    ),
    (
        r#"{"to": null, "redirect": "{nowhere}"}"#,
        "/redirect: a location has {host}",
    ),
    (
        r#"{"to": null, "redirect": {"to": "/x", "status": 200}}"#,
        "/redirect/status: a redirect has status",
    ),
    (
        r#"{"to": null, "redirect": {"to": "/x", "port": 8443}}"#,
        "/redirect: `port` is for",
    ),
    (
        r#"{"to": null, "redirect": "https", "tls": "terminate"}"#,
        ": a redirect to https is for",
    ),
    (
        r#"{"to": null, "redirect": "/x", "balance": "round_robin"}"#,
        ": `balance` has no effect without `to`",
    ),
    (
        r#"{"rewrite": {"prefix": "x"}}"#,
        "/rewrite/prefix: `x`: a path",
    ),
    (
        r#"{"rewrite": {"host": "a/b"}}"#,
        "/rewrite/host: `a/b`: a host",
    ),
    (
        r#"{"request_headers": {"set": {"content-length": "1"}}}"#,
        "/request_headers: content-length is written by",
    ),
    (
        r#"{"request_headers": {"remove": ["connection"]}}"#,
        "/request_headers: connection is written by",
    ),
    (
        r#"{"response_headers": {"add": {"x": " y"}}}"#,
        "/response_headers: the value of x",
    ),
    (
        r#"{"timeouts": {"answer": "5"}}"#,
        "/timeouts/answer: `5`: the unit",
    ),
    (
        r#"{"timeouts": {"answer": "2d"}}"#,
        "/timeouts/answer: `2d` is not from 10ms to 1d",
    ),
    (r#"{"body_max": "10MB"}"#, "/body_max: `10MB`: the unit"),
    (
        r#"{"retries": {"max": 11}}"#,
        "/retries/max: `11` is not from 0 to 10",
    ),
    (r#"{"auth": {}}"#, "/auth: `users` is missing"),
    (
        r#"{"auth": {"users": {}}}"#,
        "/auth/users: from 1 to 256 users",
    ),
    (
        r#"{"auth": {"users": {"a": "s3cret"}}}"#,
        "/auth/users/a: a hashed password is expected",
    ),
    (
        r#"{"auth": {"users": {"a:b": "(kept)"}}}"#,
        "/auth/users/a:b: \"a:b\" cannot be a user name",
    ),
    (
        r#"{"auth": {"users": {"a": "(kept)"}}}"#,
        ": `(kept)` keeps the password of a that is stored",
    ),
    (
        r#"{"auth": {"realm": "a\"b", "users": {"a": "x"}}}"#,
        "/auth/realm: ",
    ),
    (
        r#"{"allow": ["10.0.0.0/33"]}"#,
        "/allow/0: `10.0.0.0/33`: a prefix",
    ),
    (r#"{"deny": []}"#, "/deny: at least one is needed"),
    (
        r#"{"sticky": {"cookie": "a b"}}"#,
        "/sticky/cookie: `a b`: ",
    ),
    (
        r#"{"maintenance": "yes"}"#,
        "/maintenance: true or false is expected",
    ),
    (r#"{"hsts": {}}"#, "/hsts: `max_age` is missing"),
    (
        r#"{"client_certificates": {"roots": "x"}}"#,
        "/client_certificates/roots: there is no CERTIFICATE",
    ),
    (
        r#"{"upstream_tls": {"verify": false}}"#,
        ": `upstream_tls` has no effect: the targets",
    ),
    (
        r#"{"host": "*.example", "to": ["https://10.0.0.2:443"], "health": {"kind": "http"}}"#,
        ": `health` does not know the server name of the targets' certificates",
    ),
    (
        r#"{"to": ["https://10.0.0.2:443"], "upstream_tls": {"private_key": "x"}}"#,
        "/upstream_tls: `certificate` and `private_key` go together",
    ),
    (
        r#"{"tls": "passthrough", "path": "/x"}"#,
        ": `path` has no effect with TLS passthrough",
    ),
    (
        r#"{"tls": "passthrough", "balance": "power_of_two"}"#,
        ": connections are spread by",
    ),
    (r#"{"tls": "passthrough", "to": null}"#, ": `to` is missing"),
    (
        r#"{"tls": "passthrough", "host": "*"}"#,
        ": `*` is for requests",
    ),
];

#[test]
fn a_wrong_rule_is_refused_with_its_place() {
    for (change, message) in WRONG {
        let change: Value = serde_json::from_str(change).unwrap();
        let found = refused(&json!({ "routes": [rule(change.clone())] }));
        let message = format!("/1/routes/0{message}");
        assert!(
            found.iter().any(|found| found.starts_with(&message)),
            "{change}: {found:?}, not {message}"
        );
    }
}

#[test]
fn rules_that_take_the_same_requests_are_refused() {
    let api = rule(json!({ "path": "/api" }));
    for (one, other, message) in [
        (
            json!({}),
            json!({ "to": ["10.0.0.3:80"] }),
            "a rule before this one",
        ),
        (
            json!({ "path": "/a%2Fb" }),
            json!({ "path": "/a%2fb" }),
            "a rule before this one",
        ),
        (
            json!({}),
            json!({ "tls": "terminate" }),
            "a rule before this one",
        ),
        (
            json!({ "tls": "passthrough" }),
            json!({ "tls": "passthrough" }),
            "another rule already says",
        ),
        (
            json!({ "tls": "passthrough" }),
            json!({ "tls": "terminate" }),
            "cannot pass through",
        ),
    ] {
        let found = refused(&json!({ "routes": [rule(one), rule(other.clone()), api] }));
        assert!(
            found.iter().any(|found| found.contains(message)),
            "{other}: {found:?}"
        );
    }
    for (host, key) in [
        ("a.example", "http://a.example"),
        ("a.example", "a.example"),
    ] {
        let found = refused(&json!({
            "routes": [rule(json!({ "host": host }))], "proxy": { (key): ["10.0.0.2:80"] },
        }));
        assert!(
            found[0].contains("of `proxy` takes the same requests"),
            "{found:?}"
        );
    }
    good(&json!({
        "proxy": { "a.example": ["10.0.0.2:80"] },
        "routes": [api, rule(json!({ "to": null, "redirect": "https", "path": "/old" }))],
    }));
    good(&json!({ "routes": [
        rule(json!({ "to": null, "redirect": "https" })), rule(json!({ "tls": "terminate" })),
    ] }));
}

#[test]
fn a_host_belongs_to_one_network_however_it_is_declared() {
    let ways = |host: &str| {
        let terminated = json!({ "acme": { "hosts": [host] } });
        [
            json!({ "routes": [rule(json!({ "host": host }))] }),
            json!({ "proxy": { (host): ["10.0.0.2:80"] } }),
            json!({ "tls": terminated }),
        ]
    };
    for host in ["a.example", "*.a.example"] {
        for one in ways(host) {
            for other in ways(&host.to_uppercase()) {
                let mut document = network(&one);
                document["2"] = network(&other)["1"].clone();
                let problems = parse(&document.to_string()).unwrap_err();
                let found = said(&problems);
                assert!(
                    found[0].contains("a name belongs to one network"),
                    "{found:?}"
                );
            }
        }
    }
    let any = json!({ "routes": [rule(json!({ "host": "*" }))] });
    let mut document = network(&any);
    document["2"] = network(&any)["1"].clone();
    let problems = parse(&document.to_string()).unwrap_err();
    assert!(said(&problems)[0].contains("network-1 already has *"));
}

#[test]
fn a_secret_is_not_shown_and_is_kept_by_its_rule() {
    let document = json!({ "routes": [
        rule(json!({ "auth": { "users": { "alice": HASH } } })),
        rule(json!({ "path": "/b", "auth": { "users": { "bob": HASH } } })),
    ] });
    let before = good(&document);
    let masked = before.render_masked();
    assert!(!masked.to_string().contains("SSHA256"), "{masked}");
    assert!(!format!("{before:?}").contains("SSHA256"));
    assert_eq!(masked["1"]["routes"][0]["auth"]["users"]["alice"], KEPT);
    let again = parse_over(&masked.to_string(), &before).unwrap().value;
    assert_eq!(again, before);
    // In another order, and with something else changed, they are the same rules.
    let mut moved = masked.clone();
    moved["1"]["routes"].as_array_mut().unwrap().reverse();
    moved["1"]["routes"][0]["maintenance"] = true.into();
    let after = parse_over(&moved.to_string(), &before).unwrap().value;
    assert_eq!(routes(&after)[0].auth, routes(&before)[1].auth);
    for (place, value) in [("path", json!("/c")), ("host", json!("b.example"))] {
        let mut other = masked.clone();
        other["1"]["routes"][0][place] = value;
        let problems = parse_over(&other.to_string(), &before).unwrap_err();
        assert!(
            said(&problems)[0].starts_with("/1/routes/0: `(kept)` keeps the password of alice")
        );
    }
    assert!(routes(&before)[0].auth.as_ref().unwrap().auth().is_some());
}

#[test]
fn headers_that_open_something_are_not_shown_and_are_kept() {
    let document = json!({ "routes": [rule(json!({
        "request_headers": {
            "set": { "Authorization": "Bearer open-sesame", "x-tenant": "blue" },
            "add": { "X_Api_Key": "open-sesame" },
        },
        "response_headers": { "add": { "set-cookie": "open-sesame" } },
    }))] });
    let before = good(&document);
    let masked = before.render_masked();
    assert!(!masked.to_string().contains("sesame"), "{masked}");
    assert!(!format!("{before:?}").contains("sesame"));
    let set = &masked["1"]["routes"][0]["request_headers"]["set"];
    assert_eq!(
        (&set["Authorization"], &set["x-tenant"]),
        (&json!(KEPT), &json!("blue"))
    );
    let again = parse_over(&masked.to_string(), &before).unwrap().value;
    assert_eq!(again, before);
    // Nothing is to be kept in another place, or in a new rule.
    let mut moved = masked.clone();
    moved["1"]["routes"][0]["request_headers"]["set"]["x-token"] = json!(KEPT);
    let problems = parse_over(&moved.to_string(), &before).unwrap_err();
    let found = said(&problems);
    assert!(
        found.len() == 1 && found[0].contains("`(kept)` keeps `x-token` of `request_headers.set`"),
        "{found:?}"
    );
    assert!(!refused(&masked["1"]).is_empty());
}

#[test]
fn the_key_for_targets_is_checked_against_its_certificate_and_kept() {
    let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let with = |key: &str| {
        json!({ "routes": [rule(json!({
            "to": ["https://10.0.0.2:443"],
            "upstream_tls": { "certificate": chain, "private_key": key },
        }))] })
    };
    let before = good(&with(&key));
    let masked = before.render_masked();
    assert!(!masked.to_string().contains("PRIVATE"), "{masked}");
    assert_eq!(
        parse_over(&masked.to_string(), &before).unwrap().value,
        before
    );
    let other = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    let other = other.signing_key.serialize_pem();
    let found = refused(&with(&other));
    assert!(
        found[0].starts_with("/1/routes/0/upstream_tls: the key is not"),
        "{found:?}"
    );
    let mut moved = masked;
    moved["1"]["routes"][0]["upstream_tls"]["certificate"] =
        rcgen::generate_simple_self_signed(vec!["b.example".to_owned()])
            .unwrap()
            .cert
            .pem()
            .into();
    let problems = parse_over(&moved.to_string(), &before).unwrap_err();
    assert!(
        said(&problems)[0].contains("the key is not"),
        "{problems:?}"
    );
}

#[test]
fn tls_ends_where_a_rule_or_a_certificate_says_so() {
    let desired = good(&json!({
        "proxy": {
            "https://a.example": ["10.0.0.2:443"], "https://x.a.example": ["10.0.0.2:443"],
            "https://y.x.a.example": ["10.0.0.2:443"], "https://b.example": ["10.0.0.2:443"],
            "https://c.example": ["10.0.0.2:443"],
        },
        "routes": [rule(json!({ "host": "c.example", "path": "/c", "tls": "terminate" }))],
        "tls": { "acme": { "hosts": ["b.example", "*.a.example"] } },
    }));
    let network = desired.networks.values().next().unwrap();
    let terminated = Terminated::of(network);
    let passes: Vec<String> = network
        .proxy
        .keys()
        .filter(|key| terminated.passes(key))
        .map(|key| key.pattern.to_string())
        .collect();
    assert_eq!(passes, ["a.example", "y.x.a.example"]);
}

/// An authority, in PEM.
const ROOTS: &str = "-----BEGIN CERTIFICATE-----\nMIHCMHYCAQEwBQYDK2VwMA0xCzAJBgNVBAMMAmNhMCAXDTI2MTEyMTE2MDE0NFoY\nDzIxMjYxMDI4MTYwMTQ0WjANMQswCQYDVQQDDAJjYTAqMAUGAytlcAMhAIBOAt37\nr8zd9jUqNWMHKgxLwAGAk1miTVV49Wuyeek7MAUGAytlcANBAL3ngogn80D1pUlQ\nmPqvqXSEC2wjW7J1vM1REeFIGUky1Kx6ghWyCI+Xmze/Nl/lIBvVELbocsH6o6Xt\nEuKYSAM=\n-----END CERTIFICATE-----\n";

#[test]
fn rules_of_a_host_that_asks_its_clients_who_they_are_take_requests_with_tls_alone() {
    let required = json!({ "roots": ROOTS });
    let optional = json!({ "mode": "optional", "roots": ROOTS });
    let schemes = |rules: Value, tls: Value| {
        let document = good(&json!({ "routes": rules, "tls": tls }));
        let schemes = routes(&document).iter().map(|route| route.scheme());
        schemes.collect::<Vec<_>>()
    };
    let https = Some(Scheme::Https);
    let acme = json!({ "acme": { "hosts": ["a.example", "b.example"] } });
    let found = schemes(
        json!([
            rule(json!({ "client_certificates": required })),
            rule(json!({ "path": "/open" })),
            rule(json!({ "to": null, "redirect": "https", "path": "/old" })),
            rule(json!({ "host": "b.example", "client_certificates": optional })),
            rule(json!({ "host": "c.example" })),
        ]),
        acme,
    );
    assert_eq!(found, [https, https, Some(Scheme::Http), None, None]);
    let newest = json!({ "acme": { "hosts": ["a.example"] }, "min_version": "1.3" });
    let found = schemes(
        json!([
            rule(json!({})),
            rule(json!({ "host": "c.example" })),
            rule(json!({ "host": "d.example", "tls": "passthrough" })),
            rule(json!({ "host": "d.example" })),
        ]),
        newest,
    );
    assert_eq!(found, [https, https, None, None]);
    let refused = refused(&json!({
        "tls": { "acme": { "hosts": ["a.example"] } },
        "proxy": { "http://a.example": ["10.0.0.2:80"] },
        "routes": [rule(json!({ "path": "/api", "client_certificates": required }))],
    }));
    assert!(
        refused
            .iter()
            .any(|problem| problem.contains("serves it without TLS")),
        "{refused:?}"
    );
}

#[test]
fn a_wrong_source_of_certificates_is_refused() {
    for (tls, message) in [
        (json!({}), "/1/tls: `files` or `acme` is missing"),
        (json!({ "acme": {} }), "/1/tls/acme: `hosts` is missing"),
        (
            json!({ "acme": { "hosts": [] } }),
            "/1/tls/acme/hosts: at least one",
        ),
        (
            json!({ "acme": { "hosts": ["*.a.example"], "challenge": "http-01" } }),
            "/1/tls/acme: *.a.example can be proved by dns-01 alone",
        ),
        (
            json!({ "files": [{ "hosts": ["a.example"], "certificate": "a.pem", "key": "/a.key" }] }),
            "/1/tls/files/0: `certificate`: an absolute path",
        ),
        (
            json!({
                "files": [{ "hosts": ["a.example"], "certificate": "/a.pem", "key": "/a.key" }],
                "acme": { "hosts": ["a.example"] },
            }),
            "/1/tls: a.example has two sources",
        ),
        (
            json!({ "files": [
                { "hosts": ["a.example"], "certificate": "/a.pem", "key": "/a.key" },
                { "hosts": ["a.example"], "certificate": "/b.pem", "key": "/b.key" },
                { "hosts": ["a.example"], "certificate": "/c.pem", "key": "/c.key" },
            ] }),
            "/1/tls: a.example has 3 certificates in files",
        ),
        (
            json!({ "acme": { "hosts": ["a.example"] }, "min_version": "1.1" }),
            "/1/tls/min_version: `1.1` is none of",
        ),
    ] {
        let found = refused(&json!({ "tls": tls }));
        assert!(found[0].starts_with(message), "{found:?}, not {message}");
    }
}

#[test]
fn error_pages_are_for_what_the_gateway_answers() {
    let pages =
        json!({ "404": "<h1>?</h1>", "503": { "content_type": "text/plain", "body": "soon" } });
    let desired = good(&json!({ "error_pages": pages }));
    assert_eq!(desired.render_masked()["1"]["error_pages"], pages);
    for (pages, message) in [
        (
            json!({ "200": "x" }),
            "/1/error_pages/200: the gateway never answers `200`",
        ),
        (
            json!({ "404": 5 }),
            "/1/error_pages/404: a string is expected",
        ),
        (
            json!({ "404": { "body": "x", "content_type": "html" } }),
            "/1/error_pages/404: `content_type`",
        ),
        (
            json!({ "404": "x".repeat(70_000) }),
            "/1/error_pages/404: a body has at most 65536",
        ),
    ] {
        let found = refused(&json!({ "error_pages": pages }));
        assert!(found[0].starts_with(message), "{found:?}");
    }
}

#[test]
fn a_host_has_a_bounded_number_of_rules() {
    let rules = |count: usize| -> Value {
        (0..count)
            .map(|at| rule(json!({ "path": format!("/{at}") })))
            .collect()
    };
    good(&json!({ "routes": rules(super::ROUTES_PER_HOST_MAX) }));
    let found = refused(&json!({ "routes": rules(super::ROUTES_PER_HOST_MAX + 1) }));
    assert_eq!(
        found,
        ["/1/routes/1000: a.example has more than 1000 rules"]
    );
}
