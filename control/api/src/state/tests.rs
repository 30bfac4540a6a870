use std::{collections::BTreeSet, net::SocketAddr};

use engine_core::{balance::Balance, hostname::HostPattern, proxy_protocol::Version};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::problem::Severity;

/// A key as WireGuard writes it, made of one byte.
pub(super) fn key(byte: u8) -> String {
    let hex = format!("{byte:02x}").repeat(32);
    hex.parse::<PublicKey>().unwrap().to_string()
}

pub(super) fn good(document: &Value) -> Desired {
    match parse(&document.to_string()) {
        Ok(valid) => valid.value,
        Err(problems) => panic!("{problems:?}"),
    }
}

fn found(text: &str) -> Vec<String> {
    let problems = match parse(text) {
        Ok(valid) => valid.warnings,
        Err(problems) => problems,
    };
    problems.iter().map(ToString::to_string).collect()
}

/// The only problem of a document.
fn refusal(document: &Value) -> String {
    let Err(found) = parse(&document.to_string()) else {
        panic!("accepted: {document}");
    };
    let errors: Vec<_> = found
        .iter()
        .filter(|problem| problem.severity == Severity::Error)
        .collect();
    assert_eq!(errors.len(), 1, "{document}: {errors:?}");
    errors[0].to_string()
}

fn network(port: u16, desired: &Desired) -> &Network {
    &desired.networks[&NetworkKey::new(port).unwrap()]
}

fn pools(network: &Network) -> Vec<(String, Vec<String>)> {
    let pools = network.proxy.iter();
    pools
        .map(|(key, pool)| {
            let targets = pool
                .targets
                .iter()
                .map(|target| target.endpoint.to_string());
            (key.to_string(), targets.collect())
        })
        .collect()
}

/// A network in a namespace of its own that serves `proxy`.
fn serving(proxy: &Value) -> Value {
    json!({ "51820": { "netns": "blue", "proxy": proxy } })
}

/// A network with a device, changed by `change`.
pub(super) fn device(change: impl FnOnce(&mut Value)) -> Value {
    let mut network = json!({
        "private_key": key(1),
        "address": ["10.0.0.1/16", "fd00::1/64"],
        "peers": { (key(2)): { "allowed_ips": ["10.0.0.2/32"], "endpoint": "192.0.2.1:41213" } },
        "proxy": {},
    });
    change(&mut network);
    json!({ "51820": network })
}

#[test]
fn the_networks_may_stand_under_a_member() {
    let bare = device(|_| ());
    assert_eq!(good(&json!({ "networks": bare })), good(&bare));
    assert_eq!(good(&json!({ "networks": {} })), Desired::default());
    assert_eq!(
        refusal(&json!({ "networks": { "0": {} } })),
        "/networks/0: `0` is not a port (networks are keyed by their public WireGuard port, from 1 to 65535)"
    );
    assert_eq!(
        refusal(&json!({ "networks": {}, "51820": {} })),
        "/51820: `51820` is not a key here (known: networks)"
    );
}

#[test]
fn a_document_of_the_first_generation_is_read() {
    let (private, public, shared) = (key(1), key(2), key(3));
    let peer = json!({
        "public_key": public, "preshared_key": shared,
        "endpoint": "192.0.2.1:41213", "allowed_ips": ["10.0.0.1/32"],
    });
    let document = json!({ "12312": {
        "private_key": private,
        "listen_port": 0,
        "peers": [peer, peer, {
            "public_key": key(4), "preshared_secret": shared,
            "endpoint": "192.0.2.2:24231", "allowed_ips": ["10.0.0.2/32"],
        }],
        "proxy": {
            "gitlab.example.com": ["10.0.0.1:8000", "10.0.0.2:5000"],
            "chat.example.com": ["10.0.0.2:7000"],
        },
    }});
    let desired = good(&document);
    let network = network(12312, &desired);
    assert_eq!(network.namespace, Namespace::Own);
    assert_eq!(network.name().to_string(), "network-12312");
    let wireguard = network.wireguard.as_ref().unwrap();
    assert_eq!((wireguard.mtu, wireguard.listen_port.get()), (1420, 12312));
    assert_eq!((wireguard.address.len(), wireguard.peers.len()), (0, 2));
    assert_eq!(
        wireguard.peers[&public.parse().unwrap()].preshared_key,
        Some(shared.parse().unwrap())
    );
    let both = vec!["10.0.0.1:8000".to_owned(), "10.0.0.2:5000".to_owned()];
    let chat = vec!["10.0.0.2:7000".to_owned()];
    assert_eq!(
        pools(network),
        [
            ("http://chat.example.com".to_owned(), chat.clone()),
            ("http://gitlab.example.com".to_owned(), both.clone()),
            ("https://chat.example.com".to_owned(), chat),
            ("https://gitlab.example.com".to_owned(), both),
        ]
    );
    assert_eq!(
        found(&document.to_string()),
        [
            "/12312/peers/2/preshared_secret: warning: `preshared_secret` has no effect; write `preshared_key`".to_owned(),
            format!("/12312/peers: warning: peer {public} is declared twice: the last one counts"),
        ]
    );
}

#[test]
fn a_document_of_the_last_generation_is_read_with_its_duplicate_peers() {
    let (private, public) = (key(1), key(2));
    let text = format!(
        r#"{{
  "12312": {{
    "private_key": "{private}",
    "address": ["10.0.0.1/16"],
    "mtu": 1380,
    "peers": {{
      "{public}": {{ "endpoint": "192.0.2.1:41213", "allowed_ips": ["10.0.0.1/32"] }},
      "{public}": {{ "endpoint": "192.0.2.2:41213", "allowed_ips": ["10.0.0.9/32"] }}
    }},
    "proxy": {{
      "https://gitlab.example.com": ["10.0.0.1:8000"],
      "http://chat.example.com": ["10.0.0.3:7000"],
      "ssh://git.example.com": ["10.0.0.1:2020"]
    }}
  }}
}}"#
    );
    let valid = parse(&text).unwrap();
    let lines: Vec<_> = valid
        .warnings
        .iter()
        .map(|problem| problem.line.unwrap())
        .collect();
    assert_eq!(lines, [7, 13], "{:?}", valid.warnings);
    let network = network(12312, &valid.value);
    let wireguard = network.wireguard.as_ref().unwrap();
    assert_eq!(wireguard.mtu, 1380);
    let peer = &wireguard.peers[&public.parse().unwrap()];
    assert_eq!(
        peer.endpoint.unwrap().to_string(),
        "192.0.2.2:41213",
        "the last one counts"
    );
    assert_eq!(network.proxy.len(), 3);
}

#[test]
fn a_network_may_bring_its_namespace_and_then_needs_nothing_else() {
    let desired = good(&json!({
        "1": { "netns": "blue" }, "2": { "netns": null }, "3": { "netns": "network-3", "proxy": {} },
    }));
    let namespace = |port| network(port, &desired).namespace.clone();
    assert_eq!(namespace(1), Namespace::Existing("blue".parse().unwrap()));
    assert_eq!(namespace(2), Namespace::Host);
    assert!(
        desired
            .networks
            .values()
            .all(|network| network.wireguard.is_none())
    );
    assert_eq!(good(&json!({})), Desired::default());
}

#[test]
fn targets_say_everything_about_themselves() {
    let desired = good(&serving(&json!({
        "a.example": [{ "to": "[fd00::2]:443", "proxy_protocol": "v2", "weight": 256, "backup": true }, "10.0.0.2:443"],
        "*.b.example": { "targets": ["10.0.0.3:443"], "balance": "least_connections" },
    })));
    let pool = |scheme, pattern| {
        let pattern = HostPattern::parse(pattern).unwrap();
        &network(51820, &desired).proxy[&ProxyKey { scheme, pattern }]
    };
    let target = &pool(Scheme::Https, "a.example").targets[0];
    assert_eq!(
        (target.weight, target.backup, target.proxy_protocol),
        (256, true, Some(Version::V2))
    );
    assert_eq!(
        pool(Scheme::Http, "*.b.example").balance,
        Balance::LeastConnections
    );
    assert_eq!(pool(Scheme::Http, "a.example").balance, Balance::RoundRobin);
}

#[test]
fn the_keys_of_one_host_merge_within_a_network() {
    let desired = good(&serving(&json!({
        "a.example": ["10.0.0.2:443"],
        "https://A.example.": { "targets": ["10.0.0.3:443", "10.0.0.2:443"], "balance": "least_connections" },
        "http://a.example": ["10.0.0.4:80"],
    })));
    let targets = |targets: &[&str]| targets.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        pools(network(51820, &desired)),
        [
            (
                "http://a.example".to_owned(),
                targets(&["10.0.0.2:443", "10.0.0.4:80"])
            ),
            (
                "https://a.example".to_owned(),
                targets(&["10.0.0.2:443", "10.0.0.3:443"])
            ),
        ]
    );
    for other in [
        json!([{ "to": "10.0.0.2:443", "weight": 2 }]),
        json!({ "targets": ["10.0.0.2:443"], "balance": "round_robin" }),
    ] {
        let least = json!({ "targets": ["10.0.0.2:443"], "balance": "least_connections" });
        let document = serving(&json!({ "https://a.example": other, "https://A.example": least }));
        assert!(refusal(&document).starts_with("/51820/proxy/https:~1~1"));
    }
}

#[test]
fn no_network_takes_the_name_of_another() {
    for (one, other) in [
        ("a.example", "a.example"),
        ("http://a.example", "https://A.EXAMPLE"),
        ("*.a.example", "https://*.a.example"),
    ] {
        let document = json!({
            "2": { "netns": null, "proxy": { (other): ["10.0.0.2:1"] } },
            "1": { "netns": null, "proxy": { (one): ["10.0.0.2:1"] } },
        });
        assert!(
            refusal(&document).contains("a name belongs to one network"),
            "{one} {other}"
        );
    }
    // A name below somebody's wildcard is another name: the exact one is looked up first.
    good(&json!({
        "1": { "netns": null, "proxy": { "*.a.example": ["10.0.0.2:1"] } },
        "2": { "netns": null, "proxy": { "b.a.example": ["10.0.0.2:1"] } },
    }));
}

/// Values of `proxy`, and how what is said of each starts.
const WRONG_PROXIES: &[(&str, &str)] = &[
    ("[]", ": a map is expected, not a list"),
    (r#"{"a.example": []}"#, "/a.example: at least one target"),
    (
        r#"{"a.example": "10.0.0.1:1"}"#,
        "/a.example: a list is expected",
    ),
    (
        r#"{"a.example": ["10.0.0.1"]}"#,
        "/a.example/0: `10.0.0.1` is no target",
    ),
    (
        r#"{"a.example": ["x..example:1"]}"#,
        "/a.example/0: `x..example:1` is no target",
    ),
    (
        r#"{"a.example": ["10.0.0.1:0"]}"#,
        "/a.example/0: `10.0.0.1:0` is no target",
    ),
    (
        r#"{"a.example": ["10.0.0.1:1", null]}"#,
        "/a.example/1: a string is expected",
    ),
    (r#"{"a.example": [{}]}"#, "/a.example/0: `to` is missing"),
    (
        r#"{"a.example": [{"to": "10.0.0.1:1", "weight": 0}]}"#,
        "/a.example/0/weight: ",
    ),
    (
        r#"{"a.example": [{"to": "10.0.0.1:1", "weight": 257}]}"#,
        "/a.example/0/weight: ",
    ),
    (
        r#"{"a.example": [{"to": "10.0.0.1:1", "weight": "1"}]}"#,
        "/a.example/0/weight: ",
    ),
    (
        r#"{"a.example": [{"to": "10.0.0.1:1", "backup": 1}]}"#,
        "/a.example/0/backup: ",
    ),
    (
        r#"{"a.example": [{"to": "10.0.0.1:1", "proxy_protocol": "v3"}]}"#,
        "/a.example/0/proxy_protocol: `v3` is none of: v1, v2",
    ),
    (
        r#"{"a.example": [{"to": "10.0.0.1:1", "wieght": 1}]}"#,
        "/a.example/0/wieght: `wieght` is not a key here (did you mean `weight`?)",
    ),
    (
        r#"{"a.example": ["10.0.0.1:1", {"to": "10.0.0.1:1", "weight": 2}]}"#,
        "/a.example/1: target 10.0.0.1:1 of this host is declared twice",
    ),
    (
        r#"{"a.example": {"balance": "round_robin"}}"#,
        "/a.example: `targets` is missing",
    ),
    (
        r#"{"a.example": {"targets": ["10.0.0.1:1"], "balance": "random"}}"#,
        "/a.example/balance: `random` is none of",
    ),
    (
        r#"{"ftp://a.example": ["10.0.0.1:1"]}"#,
        "/ftp:~1~1a.example: the scheme",
    ),
    (
        r#"{"https://a.example/": ["10.0.0.1:1"]}"#,
        "/https:~1~1a.example~1: ",
    ),
    (r#"{"a.example:443": ["10.0.0.1:1"]}"#, "/a.example:443: "),
    (r#"{"a.*.example": ["10.0.0.1:1"]}"#, "/a.*.example: "),
    (
        r#"{"10.0.0.1": ["10.0.0.1:1"]}"#,
        "/10.0.0.1: an IP address",
    ),
    (r#"{"": ["10.0.0.1:1"]}"#, "/: the name is empty"),
];

#[test]
fn a_wrong_proxy_is_refused_with_its_place() {
    for (proxy, message) in WRONG_PROXIES {
        let proxy: Value = serde_json::from_str(proxy).unwrap();
        let (found, message) = (refusal(&serving(&proxy)), format!("/51820/proxy{message}"));
        assert!(found.starts_with(&message), "{found}, not {message}");
    }
    let many: Vec<String> = (1..=257).map(|port| format!("10.0.0.1:{port}")).collect();
    assert!(refusal(&serving(&json!({ "a.example": many }))).contains("more than 256"));
}

/// Fields that are wrong in an otherwise good network, and how what is said of each starts. `PEER`
/// stands for a good key.
const WRONG_DEVICES: &[(&str, &str)] = &[
    (
        r#"{"private_key": "x"}"#,
        "/private_key: a WireGuard key is expected",
    ),
    (r#"{"private_key": null}"#, ": `private_key` is missing"),
    (r#"{"mtu": 1279}"#, "/mtu: `1279`: a number from 1280"),
    (r#"{"mtu": 65536}"#, "/mtu: `65536`: a number from 1280"),
    (r#"{"mtu": 1420.5}"#, "/mtu: `1420.5`: a number from 1280"),
    (
        r#"{"mtu": "1420"}"#,
        "/mtu: a number from 1280 to 65535 is expected, not a string",
    ),
    (r#"{"listen_port": -1}"#, "/listen_port: "),
    (r#"{"address": []}"#, "/address: at least one"),
    (
        r#"{"address": ["10.0.0.1/33"]}"#,
        "/address/0: `10.0.0.1/33`: a prefix",
    ),
    (r#"{"address": null}"#, ": `address` is missing"),
    (r#"{"peers": "none"}"#, "/peers: a map"),
    (r#"{"peers": null}"#, ": `peers` is missing"),
    (
        r#"{"peers": {"x": {"allowed_ips": []}}}"#,
        "/peers/x: a WireGuard key is expected",
    ),
    (
        r#"{"peers": [{"allowed_ips": []}]}"#,
        "/peers/0: `public_key` is missing",
    ),
    (
        r#"{"peers": {"PEER": {}}}"#,
        "/peers/PEER: `allowed_ips` is missing",
    ),
    (
        r#"{"peers": {"PEER": {"allowed_ips": ["10.0.0.0/"]}}}"#,
        "/peers/PEER/allowed_ips/0: `10.0.0.0/`: a prefix",
    ),
    (
        r#"{"peers": {"PEER": {"allowed_ips": [], "endpoint": "vpn.example:1"}}}"#,
        "/peers/PEER/endpoint: `vpn.example:1`: `ip:port`",
    ),
    (
        r#"{"peers": {"PEER": {"allowed_ips": [], "preshared_key": "c2hvcnQ="}}}"#,
        "/peers/PEER/preshared_key: a WireGuard key is expected",
    ),
    (
        r#"{"peers": {"PEER": {"allowed_ips": [], "public_key": "PEER"}}}"#,
        "/peers/PEER/public_key: `public_key` is not a key here",
    ),
    (r#"{"dnss": []}"#, "/dnss: `dnss` is not a key here"),
    (
        r#"{"dns": ["ns.example"]}"#,
        "/dns/0: `ns.example` is no name server",
    ),
    (r#"{"netns": "a/b"}"#, "/netns: "),
    (r#"{"netns": ""}"#, "/netns: "),
    (
        r#"{"netns": ["blue"]}"#,
        "/netns: a string is expected, not a list",
    ),
];

#[test]
fn a_wrong_device_is_refused_with_its_place() {
    let public = "aa".repeat(32);
    for (fields, message) in WRONG_DEVICES {
        let fields: Value = serde_json::from_str(&fields.replace("PEER", &public)).unwrap();
        let document = device(|network| {
            for (field, value) in fields.as_object().unwrap() {
                network[field] = value.clone();
            }
        });
        let message = format!("/51820{}", message.replace("PEER", &public));
        let found = refusal(&document);
        assert!(found.starts_with(&message), "{found}, not {message}");
    }
    // With a namespace of its own, half a device is still half a device.
    let half = json!({ "1": { "netns": "blue", "private_key": key(1) } });
    assert_eq!(
        found(&half.to_string()),
        ["/1: `peers` is missing", "/1: `address` is missing"]
    );
    assert_eq!(found(r#"{"51820": {}}"#).len(), 3);
}

#[test]
fn a_wrong_document_is_refused_with_its_place() {
    for (text, message) in [
        ("", "/: not JSON: EOF"),
        ("[]", "/: a map is expected, not a list"),
        ("{\"0\": {\"netns\": null}}", "/0: `0` is not a port"),
        ("{\"01\": {\"netns\": null}}", "/01: `01` is not a port"),
        ("{\"65536\": {\"netns\": null}}", "/65536: "),
        ("{\"wg0\": {\"netns\": null}}", "/wg0: "),
        ("{\"1\": null}", "/1: a map is expected, not nothing"),
        (
            "{\"1\": {\"netns\": null}, \"1\": {\"netns\": null}}",
            "/1: this key is written again",
        ),
        (
            "{\"1\": {\"netns\": null, \"netns\": null}}",
            "/1/netns: this key is written again",
        ),
        (
            "{\"1\": {\"netns\": null, \"proxy\": {\"a.b\": [\"1.1.1.1:1\"], \"a.b\": [\"1.1.1.1:1\"]}}}",
            "/1/proxy/a.b: this key",
        ),
        ("51820: {netns: blue}", "/: not JSON"),
    ] {
        let found = found(text);
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].starts_with(message), "{text}: {found:?}");
    }
}

#[test]
fn every_problem_of_a_document_is_reported_at_once() {
    let document = json!({
        "x": {},
        "1": { "netns": "", "proxy": { "a b": ["10.0.0.1"], "c.example": ["10.0.0.1:1"] } },
        "2": { "netns": null, "proxy": { "c.example": ["10.0.0.1:1"] }, "mtu": 1 },
    });
    let text = serde_json::to_string_pretty(&document).unwrap();
    let found = parse(&text).unwrap_err();
    assert_eq!(found.iter().count(), 9, "{found:#?}");
    assert!(found.iter().all(|problem| problem.line.is_some()));
    let first = found.iter().next().unwrap();
    assert_eq!((first.pointer.as_str(), first.line), ("/1/netns", Some(3)));
}

#[test]
fn a_million_problems_are_counted_and_a_thousand_listed() {
    let keys: Vec<String> = (0..5000).map(|index| format!("\"x{index}\": 1")).collect();
    let found = parse(&format!("{{{}}}", keys.join(","))).unwrap_err();
    assert_eq!(found.iter().count(), crate::PROBLEMS_MAX);
    assert_eq!(found.unlisted(), 4000);
}

#[test]
fn odd_values_that_were_always_accepted_are_warned_of() {
    for (document, message) in [
        (
            device(|network| network["listen_port"] = json!(7)),
            "its port is 51820",
        ),
        (
            device(|network| network["peers"][key(2)]["allowed_ips"] = json!(["10.0.7.7/16"])),
            "10.0.7.7/16 is taken as 10.0.0.0/16",
        ),
        (
            device(|network| {
                network["peers"] = json!([
                    { "public_key": key(2), "allowed_ips": ["10.0.0.0/24", "10.0.0.2/32"] },
                    { "public_key": key(3), "allowed_ips": ["10.0.0.2/32"] },
                ]);
            }),
            "10.0.0.2/32 goes to two peers",
        ),
    ] {
        let valid = parse(&document.to_string()).unwrap();
        let found: Vec<String> = valid.warnings.iter().map(ToString::to_string).collect();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(message), "{found:?}");
    }
    let silent = device(|network| network["listen_port"] = json!(51820));
    assert!(found(&silent.to_string()).is_empty());
}

#[test]
fn a_prefix_belongs_to_its_last_peer_only() {
    let peers = |last: &str| {
        json!([
            { "public_key": key(2), "allowed_ips": ["10.0.0.2/32", "fd00::/64"] },
            { "public_key": key(3), "allowed_ips": ["10.0.0.2/32"] },
            { "public_key": key(2), "allowed_ips": [last] },
        ])
    };
    let allowed = |last| {
        let desired = good(&device(|network| network["peers"] = peers(last)));
        let wireguard = network(51820, &desired).wireguard.clone().unwrap();
        let texts = |peer: &Peer| {
            peer.allowed_ips
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        wireguard.peers.values().map(texts).collect::<Vec<_>>()
    };
    assert_eq!(
        allowed("fd00::/64"),
        [vec!["fd00::/64"], vec!["10.0.0.2/32"]]
    );
    assert_eq!(allowed("10.0.0.2/32"), [vec!["10.0.0.2/32"], vec![]]);
}

#[test]
fn no_secret_is_in_a_message_or_a_debug_output() {
    let secret = key(0x5a);
    let document = device(|network| {
        network["private_key"] = json!(secret);
        network["peers"][key(2)]["preshared_key"] = json!(secret);
    });
    let shown = format!("{:?}", good(&document));
    assert!(
        !shown.contains(&secret) && !shown.contains("90, 90"),
        "{shown}"
    );
    let broken = &secret[1..];
    let document = device(|network| {
        network["private_key"] = json!(broken);
        network["peers"][key(2)]["preshared_key"] = json!(broken);
    });
    let shown = format!("{:?}", parse(&document.to_string()).unwrap_err());
    assert!(!shown.contains(broken), "{shown}");
}

fn target() -> impl Strategy<Value = Value> {
    (
        any::<SocketAddr>(),
        1..=256u16,
        any::<bool>(),
        prop::option::of(prop::sample::select(vec!["v1", "v2"])),
        any::<bool>(),
    )
        .prop_map(|(mut address, weight, backup, version, plain)| {
            address.set_port(address.port().max(1));
            if let SocketAddr::V6(v6) = &mut address {
                v6.set_flowinfo(0);
                v6.set_scope_id(0);
            }
            let to = address.to_string();
            if plain {
                return json!(to);
            }
            json!({ "to": to, "weight": weight, "backup": backup, "proxy_protocol": version })
        })
}

pub(super) fn arbitrary_network(port: u16) -> impl Strategy<Value = (String, Value)> {
    let netns = prop::sample::select(vec![None, Some(Value::Null), Some(json!("blue"))]);
    let hosts = prop::collection::btree_map(
        "(https://|http://|ssh://|)(\\*\\.)?[a-z]{1,4}",
        prop::collection::vec(target(), 1..4),
        0..4,
    );
    let peers = prop::collection::vec((1..9u8, any::<[u8; 4]>(), 0..=32u8, any::<bool>()), 0..6);
    (netns, hosts, peers, 1280..=u16::MAX, any::<bool>(), any::<bool>()).prop_map(move |(netns, hosts, peers, mtu, listed, least)| {
        let mut network = json!({ "private_key": key(1), "mtu": mtu });
        if let Some(netns) = netns {
            network["netns"] = netns;
        }
        let hosts = hosts.into_iter().map(|(host, targets)| {
            let targets = json!(targets);
            let host = format!("{host}.n{port}");
            if least { (host, json!({ "targets": targets, "balance": "least_connections" })) } else { (host, targets) }
        });
        network["proxy"] = Value::Object(hosts.collect());
        let prefix = |ip: [u8; 4], length: u8| format!("{}/{length}", std::net::Ipv4Addr::from(ip));
        if listed {
            let peers = peers.into_iter().map(|(id, ip, length, _)| json!({ "public_key": key(id), "allowed_ips": [prefix(ip, length)] }));
            network["peers"] = peers.collect();
        } else {
            network["address"] = json!(["10.0.0.1/8"]);
            let peers = peers.into_iter().map(|(id, ip, length, shared)| {
                (key(id), json!({ "allowed_ips": [prefix(ip, length)], "preshared_key": shared.then(|| key(7)) }))
            });
            network["peers"] = Value::Object(peers.collect());
        }
        (port.to_string(), network)
    })
}

proptest! {
    #[test]
    fn what_is_rendered_is_read_again(one in arbitrary_network(1), other in arbitrary_network(65_535)) {
        let document = Value::Object([one, other].into_iter().collect());
        // Merging may contradict itself by chance; all else is valid.
        let desired = match parse(&document.to_string()) {
            Ok(valid) => valid.value,
            Err(problems) => {
                prop_assert!(problems.iter().all(|problem| problem.message.contains("declared twice")
                    || problem.severity == Severity::Warning), "{:?}", problems);
                return Ok(());
            }
        };
        let rendered = desired.render_with_secrets().to_string();
        let again = parse(&rendered);
        prop_assert!(again.is_ok(), "{rendered}: {again:?}");
        prop_assert_eq!(again.map(|valid| valid.value), Ok(desired));
    }

    #[test]
    fn no_document_panics(words in prop::collection::vec(prop::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"1\"", "\"peers\"", "\"proxy\"", "\"netns\"", "\"a.b\"", "\"to\"", "null", "1", "\"10.0.0.1:1\"", "\n",
    ]), 0..40), text in "\\PC{0,60}") {
        let _ = (parse(&words.concat()), parse(&text));
    }

    /// Every value of the right grammar, in every place: an answer, and each problem once.
    #[test]
    fn no_value_panics(value in prop::sample::select(vec!["null", "true", "0", "-1", "1e9", "\"\"", "\"x\"", "[]", "[[]]", "{}", "{\"a\":{}}", "[{}]", "\"10.0.0.1:1\""]),
        key in prop::sample::select(vec!["netns", "proxy", "private_key", "listen_port", "mtu", "address", "peers", "x"])) {
        let text = format!("{{\"1\": {{\"{key}\": {value}}}}}");
        if let Err(problems) = parse(&text) {
            let lines: BTreeSet<String> = problems.iter().map(ToString::to_string).collect();
            prop_assert_eq!(lines.len(), problems.iter().count());
        }
    }
}
