use std::collections::BTreeMap;

use control_api::{
    Problem, Severity, boot,
    place::{NetworkKey, NetworkName},
    state,
};
use engine_core::{balance::Balance, hostname::HostPattern, ids::Generation};
use engine_http::{
    field::Fields,
    host::Host,
    method::Method,
    reading::Reading,
    request,
    rules::{Denied, Found},
};
use serde_json::{Value, json};

use super::*;
use crate::{Held, Ids, Planned, Unserved, publish, unserved};

const HASH: &str = "{SSHA256}/ns6zJE/32NE8cKSZF9az8X5lArEIFIDTnq8kcJ5W2k3YjBkNGYxYzlhMmU2ODM1";

fn unserved_in(desired: &state::Desired, listeners: &[boot::Listener]) -> Vec<Unserved> {
    let networks = desired.networks.values();
    networks
        .flat_map(|network| unserved(network, listeners))
        .collect()
}

fn listeners(protocols: &[&str]) -> Vec<boot::Listener> {
    let list: Vec<Value> = protocols
        .iter()
        .map(|protocol| json!({ "name": protocol, "bind": "[::]:0", "protocol": protocol }))
        .collect();
    let text = json!({ "listeners": list }).to_string();
    boot::parse(&text, &BTreeMap::<String, String>::new())
        .unwrap()
        .value
        .listeners
}

fn desired(network: &Value) -> state::Desired {
    let mut network = network.clone();
    network["netns"] = "blue".into();
    state::parse(&json!({ "1": network }).to_string())
        .unwrap()
        .value
}

fn plan(network: &Value, protocols: &[&str], ids: &mut Ids) -> Planned {
    publish(
        &desired(network),
        &[],
        &listeners(protocols),
        ids,
        Generation(1),
        None,
    )
    .unwrap()
}

fn find<'t>(planned: &'t Planned, scheme: Scheme, host: &str, path: &str) -> Option<&'t Arc<Rule>> {
    let host = Host::parse(host.as_bytes());
    match planned
        .http
        .find_parts((scheme, host), path, Method::Get, Fields::NONE)
    {
        Found::Rule(matched) => Some(matched.rule),
        Found::NoRule(_) | Found::Refused(_) => None,
    }
}

#[test]
fn hosts_of_a_network_that_is_not_served_are_nobodys() {
    let desired = desired(&json!({
        "proxy": {
            "*.a.example": ["10.0.0.2:80"], "own.a.example": ["10.0.0.3:80"],
            "x.below.a.example": ["10.0.0.4:80"],
        },
    }));
    let hosts = ["secret.a.example", "own.a.example", "*.below.a.example"];
    let hosts = hosts.iter().map(|host| HostPattern::parse(host).unwrap());
    let held = Held {
        network: NetworkName::Port(NetworkKey::new(2).unwrap()),
        hosts: hosts.collect(),
    };
    // Two of them may claim one host.
    let held = [held.clone(), held];
    let listeners = listeners(&["http", "https"]);
    let planned = publish(
        &desired,
        &held,
        &listeners,
        &mut Ids::default(),
        Generation(1),
        None,
    );
    let planned = planned.unwrap();
    for (host, network) in [
        ("secret.a.example", "network-2"),
        ("y.below.a.example", "network-2"),
        ("own.a.example", "network-1"),
        ("x.below.a.example", "network-1"),
        ("other.a.example", "network-1"),
    ] {
        let rule = find(&planned, Scheme::Http, host, "/x").unwrap();
        assert_eq!(&*rule.route.network.name, network, "{host}");
        let is_refused = matches!(rule.action, Action::Maintenance);
        assert_eq!(is_refused, network == "network-2", "{host}");
    }
    let refused: Vec<String> = planned
        .tls
        .refused
        .iter()
        .map(ToString::to_string)
        .collect();
    let mut expected = ["secret.a.example", "*.below.a.example"].map(str::to_owned);
    expected.sort_by_key(|host| refused.iter().position(|it| it == host));
    assert_eq!(refused, expected);
}

#[test]
fn a_rule_treats_its_requests_as_it_is_declared() {
    let network = json!({
        "error_pages": { "503": "soon" },
        "routes": [
            {
                "host": "a.example", "to": ["10.0.0.2:80", "10.0.0.3:80"], "balance": "hash:path",
                "request_headers": { "set": { "x-a": "1" } }, "rewrite": { "host": "b.example" },
                "timeouts": { "whole": "3s" }, "body_max": "1KiB", "retries": { "max": 3 },
                "auth": { "users": { "alice": HASH } }, "deny": ["10.0.0.0/8"],
                "sticky": { "cookie": "at" }, "health": { "kind": "tcp" },
                "hsts": { "max_age": "1d" },
            },
            { "host": "a.example", "path": "/old", "redirect": "/new" },
            { "host": "*", "maintenance": true },
        ],
    });
    let planned = plan(&network, &["http"], &mut Ids::default());
    let rule = find(&planned, Scheme::Http, "a.example", "/x").unwrap();
    assert_eq!(&*rule.route.label, "a.example/");
    assert_eq!(rule.route.targets.len(), 2);
    assert!(
        planned
            .snapshot
            .routes()
            .any(|route| Arc::ptr_eq(route, &rule.route))
    );
    let policy = &rule.policy;
    assert!(policy.request_edits.removes(b"X-A"));
    assert_eq!(policy.rewrite.host(), Some("b.example"));
    assert_eq!(policy.timeouts.whole.map(|whole| whole.as_secs()), Some(3));
    assert_eq!(policy.body_max, Some(1024));
    assert_eq!(policy.retries.max, 3);
    assert!(matches!(rule.route.balance, Balance::Consistent(_)));
    assert!(policy.sticky.is_some() && policy.check.is_some() && policy.pages.is_some());
    assert_eq!(policy.hsts.as_deref(), Some("max-age=86400"));
    let denied = |address: &str| policy.admit(address.parse().unwrap(), Fields::NONE);
    assert_eq!(denied("10.0.0.9"), Err(Denied::Address));
    assert_eq!(denied("192.0.2.1"), Err(Denied::Unauthorized));
    // alice:wonderland
    let head =
        b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Basic YWxpY2U6d29uZGVybGFuZA==\r\n\r\n";
    let (limits, mut scan) = Default::default();
    let Reading::Head(request) = request::read(head, &limits, &mut scan) else {
        panic!("a good request");
    };
    let admitted = policy.admit("192.0.2.1".parse().unwrap(), request.fields);
    assert_eq!(admitted, Ok(Some("alice")));
    let old = find(&planned, Scheme::Http, "a.example", "/old/x").unwrap();
    assert!(matches!(old.action, Action::Redirect(_)));
    let other = find(&planned, Scheme::Http, "unknown.example", "/").unwrap();
    assert!(matches!(other.action, Action::Maintenance));
    assert!(other.policy.pages.is_some());
}

#[test]
fn tls_that_ends_here_makes_rules_of_names() {
    let network = json!({
        "proxy": { "https://a.example": ["10.0.0.2:443"], "b.example": ["10.0.0.2:80"] },
        "routes": [{ "host": "c.example", "tls": "passthrough", "to": ["10.0.0.4:443"] }],
        "tls": { "acme": { "hosts": ["b.example"] } },
    });
    let planned = plan(&network, &["http", "tls"], &mut Ids::default());
    let mut labels: Vec<String> = planned
        .snapshot
        .routes()
        .map(|route| route.label.to_string())
        .collect();
    labels.sort();
    assert_eq!(
        labels,
        [
            "a.example",
            "c.example",
            "http://b.example",
            "https://b.example"
        ]
    );
    let label = |scheme| find(&planned, scheme, "b.example", "/").map(|rule| &*rule.route.label);
    assert_eq!(label(Scheme::Http), Some("http://b.example"));
    assert_eq!(label(Scheme::Https), Some("https://b.example"));
    assert!(find(&planned, Scheme::Https, "a.example", "/").is_none());
}

#[test]
fn a_rule_keeps_its_id_as_long_as_it_takes_the_same_requests() {
    let rule = |more: Value| {
        let mut rule = json!({ "host": "a.example", "path": "/a", "to": ["10.0.0.2:80"] });
        for (key, value) in more.as_object().unwrap() {
            rule[key] = value.clone();
        }
        json!({ "routes": [{ "host": "a.example", "redirect": "https" }, rule] })
    };
    let mut ids = Ids::default();
    let mut id = |more| {
        let planned = plan(&rule(more), &["http"], &mut ids);
        find(&planned, Scheme::Http, "a.example", "/a").map(|rule| rule.id)
    };
    let first = id(json!({}));
    assert_eq!(id(json!({ "body_max": 5, "to": ["10.0.0.3:80"] })), first);
    assert_ne!(id(json!({ "methods": ["GET"] })), first);
}

#[test]
fn a_rule_that_no_listener_leads_to_is_warned_of() {
    let network = json!({
        "routes": [
            { "host": "a.example", "to": ["10.0.0.2:80"] },
            { "host": "b.example", "to": ["10.0.0.2:80"], "tls": "terminate" },
            { "host": "c.example", "to": ["10.0.0.2:443"], "tls": "passthrough" },
            { "host": "d.example", "redirect": "https" },
            { "host": "e.example", "to": ["10.0.0.2:80"] },
        ],
        "tls": { "acme": { "hosts": ["e.example"] } },
    });
    for (protocols, rules) in [
        (&["http", "tls"][..], &[][..]),
        (&["http"], &[1, 2]),
        (&["tls"], &[0, 3]),
    ] {
        let found = unserved_in(&desired(&network), &listeners(protocols));
        let problems: Vec<Problem> = found.iter().map(Problem::from).collect();
        let pointers = problems.iter().map(|problem| problem.pointer.clone());
        let places: Vec<String> = pointers.collect();
        let expected: Vec<String> = rules.iter().map(|at| format!("/1/routes/{at}")).collect();
        assert_eq!(places, expected, "{protocols:?}");
        assert!(problems.iter().all(|it| it.severity == Severity::Warning));
        // Nothing that cannot be reached takes up room.
        let planned = plan(&network, protocols, &mut Ids::default());
        let made = planned.http.rules().count();
        let passing = usize::from(protocols.contains(&"tls"));
        assert!(made + passing + rules.len() >= 5, "{protocols:?}: {made}");
    }
}

#[test]
fn a_name_that_no_listener_leads_to_is_warned_of() {
    let network = json!({
        "proxy": {
            "http://a.example": ["10.0.0.2:80"],
            "https://b.example": ["10.0.0.2:443"],
            "https://c.example": ["10.0.0.2:80"],
            "ssh://d.example": ["10.0.0.2:22"],
            "bare.example": ["10.0.0.2:80"],
        },
        "tls": { "acme": { "hosts": ["c.example"] } },
    });
    for (protocols, expected) in [
        (&["http", "tls"][..], &[][..]),
        (&["http"], &["tls", "https"]),
        // Neither half of the bare host.
        (&["https"], &["http", "http", "tls", "tls"]),
        (&["tls"], &["http"]),
    ] {
        let found = unserved_in(&desired(&network), &listeners(protocols));
        let missing: Vec<&str> = found.iter().map(|it| it.protocol).collect();
        assert_eq!(missing, expected, "{protocols:?}");
    }
    let found = unserved_in(&desired(&network), &listeners(&["tls"]));
    let problem = Problem::from(&found[0]);
    assert_eq!(problem.pointer, "/1/proxy/http:~1~1a.example");
    assert_eq!(found[0].label, "http://a.example");
}

#[test]
fn a_rule_without_its_route_is_refused_and_not_left_out() {
    let network = json!({ "routes": [{ "host": "a.example", "to": ["10.0.0.2:80"] }] });
    let planned = plan(&network, &["http"], &mut Ids::default());
    let draft = Draft {
        id: RouteId(77),
        found_by: Match {
            scheme: None,
            host: None,
            path: "/".to_owned(),
            methods: Vec::new(),
            fields: Vec::new(),
        },
        action: Action::Proxy,
        policy: Policy::default(),
        aside: None,
    };
    let refused = table(TableBuilder::new(), vec![draft], &planned.snapshot).unwrap_err();
    assert_eq!(refused.len(), 1, "{refused:?}");
}

#[test]
fn requests_of_a_host_without_a_certificate_are_not_left_to_the_names_around_it() {
    let network = json!({ "routes": [
        { "host": "a.example", "to": ["10.0.0.2:80"], "deny": ["0.0.0.0/0"] },
        { "host": "*", "to": ["10.0.0.3:80"] },
    ] });
    for protocol in ["http", "https", "tls"] {
        let planned = plan(&network, &[protocol], &mut Ids::default());
        let rule = find(&planned, Scheme::Https, "a.example", "/").unwrap();
        assert_eq!(&*rule.route.label, "a.example/", "{protocol}");
    }
}
