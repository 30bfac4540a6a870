use std::{
    collections::{BTreeMap, HashSet},
    num::NonZeroU32,
};

use proptest::prelude::*;
use serde_json::json;

use super::{reference::reference, *};
use crate::{field::Field, problem::Severity, section::Key};

const SMALLEST: &str = "listeners:\n  - { name: https, bind: \"[::]:443\", protocol: tls }\n";

fn no_variables() -> BTreeMap<String, String> {
    BTreeMap::new()
}

fn variables(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|&(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

fn good(text: &str) -> Boot {
    match parse(text, &no_variables()) {
        Ok(valid) => valid.value,
        Err(problems) => panic!("{problems:?}"),
    }
}

/// Every problem as `LINE POINTER: MESSAGE`.
fn problems(text: &str, source: &BTreeMap<String, String>) -> Vec<String> {
    let problems = match parse(text, source) {
        Ok(valid) => valid.warnings,
        Err(problems) => problems,
    };
    let line = |line: Option<u32>| line.map(|line| format!("{line} ")).unwrap_or_default();
    problems
        .iter()
        .map(|problem| format!("{}{problem}", line(problem.line)))
        .collect()
}

#[test]
fn an_almost_empty_file_has_all_the_defaults() {
    let boot = good(SMALLEST);
    assert_eq!(
        boot.render(),
        json!({
            "workers": "auto", "driver": "auto", "state": null, "drain_timeout": "30s",
            "listeners": [{
                "name": "https", "bind": "[::]:443", "protocol": "tls", "to": null, "default": null,
                "relay": "auto", "proxy_protocol": null, "connections_max": null,
                "hello_timeout": "5s", "connect_timeout": "3s", "idle_timeout": "15m",
                "keep_alive_timeout": "75s", "answer_timeout": "1m",
                "half_close": "respond", "trusted_proxies": null,
            }],
            "api": {
                "listen": "127.0.0.1:8080", "token": null, "token_file": null, "tokens": null,
                "limits": {
                    "connections_max": 256, "connections_per_source_max": 128,
                    "header_bytes_max": "16KiB", "headers_max": 64, "header_timeout": "10s",
                    "body_bytes_max": "32MiB", "body_timeout": "30s", "request_timeout": "1m",
                    "event_clients_max": 64, "failures_max": 10, "failures_window": "1m",
                },
                "metrics": {"peers_max": 1000, "routes_max": 1000, "networks_max": 1000, "certificates_max": 1000},
            },
            "store": "/var/lib/ringway/ringway.db",
            "wireguard": {"backend": "auto", "threads": "auto", "offload": "auto"},
            "tls": {"files": null, "default": null, "look_interval": "5s"},
            "acme": {
                "directories": null, "names": null, "challenge": "http-01",
                "dns": {
                    "zones": null, "hook": null, "hook_timeout": "2m", "propagation_wait": "10s",
                },
                "on_demand": {
                    "ask": null, "ask_timeout": "5s", "refused_for": "10m",
                    "source_names_per_hour": 10, "names_per_hour": 1000, "directory": null,
                    "challenge": null,
                },
                "orders_at_once_max": 8, "network_orders_per_hour": 50, "retry_wait": "1m",
            },
            "accounts": {
                "row_interval": "1m", "retention": "1d", "hours_retention": "35d",
                "days_retention": "400d", "clients_max": 100, "audit_max": 10_000,
                "events_max": 10_000, "generations_max": 100,
            },
            "log": {"format": "json", "level": "info", "file": "stdout", "requests": "none", "requests_format": "json", "queue_records_max": 65536},
            "limits": {
                "connections_max": null, "connections_per_network_max": null,
                "connections_per_source_max": null, "accept_rate_per_source": null,
                "hello_bytes_max": "16KiB", "http_head_bytes_max": "64KiB", "http_target_bytes_max": "8KiB",
                "http_fields_max": 128, "http2_streams_max": 128, "http2_stream_window": "256KiB",
                "http2_connection_window": "32MiB", "http2_upstream_window": "32MiB",
                "http2_control_frames_max": 1000, "http2_upstreams_max": 4, "upstreams_idle_max": 1024, "upstream_idle_timeout": "30s", "names_max": 4096, "accept_batch_max": 64, "backlog": 4096,
                "scratch_bytes": "1MiB", "held_bytes_max": "256MiB", "pipe_bytes": "512KiB",
                "pipes_idle_max": 64, "accounted_clients_max": 16_384, "keep_alive": "1m", "user_timeout": "1m",
            },
        })
    );
    // Keys without values, as when everything below them is commented out.
    assert_eq!(
        good(&format!(
            "{SMALLEST}log:\nlimits:\nstate:\napi:\naccounts:\n"
        )),
        boot
    );
}

/// Every key, and none with its default.
const EVERY_KEY: &str = r#"
workers: 2
driver: epoll
listeners:
  - name: https
    bind: "[::]:443"
    protocol: tls
    default: "netns:blue/[fd00::1]:443"
    relay: splice
    proxy_protocol: { accept_from: [10.0.0.0/8, "fd00::/8", 192.0.2.1] }
    connections_max: 7
    hello_timeout: 250ms
    connect_timeout: 1s
    idle_timeout: 1h
    keep_alive_timeout: 5s
    answer_timeout: 10s
    half_close: abort
    trusted_proxies: [192.0.2.0/24]
  - { name: db, bind: 127.0.0.1:5432, protocol: tcp, to: network-51820/10.0.0.2:5432 }
api:
  listen: "[::]:8443"
  token_file: token
  tokens:
    - { name: ci, role: operator, token: abcdefghijklmnopqrstuvwxyz }
    - { name: ops@example.com, role: reader, token_file: /etc/ringway/ops }
  limits:
    connections_max: 1000
    connections_per_source_max: 10
    header_bytes_max: 8KiB
    headers_max: 32
    header_timeout: 1s
    body_bytes_max: 1MiB
    body_timeout: 1s
    request_timeout: 1s
    event_clients_max: 1
    failures_max: 3
    failures_window: 5s
  metrics: { peers_max: 0, routes_max: 1, networks_max: 2, certificates_max: 3 }
store: ./ringway.db
wireguard: { backend: userspace, threads: 2, offload: off }
tls:
  files: [{ certificate: a.pem, key: a.key }]
  default: { certificate: d.pem, key: d.key }
  look_interval: 1s
acme:
  directories:
    - name: one
      url: https://acme.example/directory
      contact: [mailto:ops@example.com]
      roots: roots.pem
      eab_key_id: kid-1
      eab_key_file: eab
      orders_per_hour: 300
  names:
    - { name: "*.example.com", directory: one, challenge: dns-01 }
    - { name: www.example.org }
  challenge: tls-alpn-01
  dns:
    zones:
      - zone: example.com
        server: "[::1]:53"
        key_name: k.example.com
        key_algorithm: hmac-sha512
        key_file: tsig
    hook: ./hook
    hook_timeout: 1s
    propagation_wait: 0s
  on_demand:
    ask: "http://127.0.0.1:9000/ask"
    ask_timeout: 1s
    refused_for: 1m
    source_names_per_hour: 1
    names_per_hour: 2
    directory: one
    challenge: http-01
  orders_at_once_max: 1
  network_orders_per_hour: 7
  retry_wait: 10s
accounts:
  row_interval: 10s
  retention: 2h
  hours_retention: 2d
  days_retention: 40d
  clients_max: 5
  audit_max: 100
  events_max: 100
  generations_max: 2
state: ./state.json
drain_timeout: 0s
log: { format: json, level: debug, file: /var/log/ringway.log, requests: stdout, requests_format: common, queue_records_max: 1 }
limits:
  connections_max: 1000
  connections_per_network_max: 100
  connections_per_source_max: 10
  accept_rate_per_source: 5
  hello_bytes_max: 32KiB
  http_head_bytes_max: 32KiB
  http_target_bytes_max: 4KiB
  http_fields_max: 64
  http2_streams_max: 100
  http2_stream_window: 64KiB
  http2_connection_window: 64KiB
  http2_upstream_window: 1GiB
  http2_control_frames_max: 10
  http2_upstreams_max: 1
  upstreams_idle_max: 0
  upstream_idle_timeout: 5s
  accept_batch_max: 1
  backlog: 128
  scratch_bytes: 64KiB
  pipe_bytes: 65536
  held_bytes_max: 1MiB
  pipes_idle_max: 0
  names_max: 1
  accounted_clients_max: 0
  keep_alive: 5s
  user_timeout: 5s
"#;

#[test]
fn every_key_is_read() {
    let boot = good(EVERY_KEY);
    let rendered = boot.render();
    assert_eq!(
        rendered["listeners"][0]["proxy_protocol"]["accept_from"][2],
        "192.0.2.1/32"
    );
    assert_eq!(rendered["limits"]["pipe_bytes"], "64KiB");
    assert_eq!(
        boot.listeners[1].to.as_ref().unwrap().to_string(),
        "network-51820/10.0.0.2:5432"
    );
    // No key has its default: a parser that skipped one would show here.
    let defaults = good(SMALLEST).render();
    let mut same = Vec::new();
    equal_leaves(Boot::KEYS, &rendered, &defaults, &mut same);
    // There is one format only; a second way to say one token would be refused.
    assert_eq!(same, ["token", "format"]);
}

fn equal_leaves(
    keys: &[Key],
    one: &serde_json::Value,
    other: &serde_json::Value,
    same: &mut Vec<&'static str>,
) {
    for key in keys.iter().filter(|key| !key.list) {
        if key.keys.is_empty() {
            if one[key.name] == other[key.name] {
                same.push(key.name);
            }
        } else {
            equal_leaves(key.keys, &one[key.name], &other[key.name], same);
        }
    }
}

/// One wrong value for each key.
const WRONG: &[(&str, &str)] = &[
    ("workers", "0"),
    ("workers", "1025"),
    ("workers", "[auto]"),
    ("driver", "uring"),
    ("state", "\"\""),
    ("state", "{}"),
    ("drain_timeout", "30"),
    ("drain_timeout", "2d"),
    ("log", "json"),
    ("log.format", "text"),
    ("log.level", "loud"),
    ("log.file", "\"\""),
    ("log.queue_records_max", "0"),
    ("api", "off"),
    ("api.listen", "8080"),
    ("api.listen", "0.0.0.0"),
    ("api.token", "\"\""),
    ("api.token", "two words"),
    ("api.token_file", "\"\""),
    ("api.tokens", "[]"),
    ("api.limits.connections_max", "3"),
    ("api.limits.connections_per_source_max", "0"),
    ("api.limits.header_bytes_max", "4KiB"),
    ("api.limits.headers_max", "7"),
    ("api.limits.header_timeout", "0s"),
    ("api.limits.body_bytes_max", "1GiB"),
    ("api.limits.body_timeout", "6m"),
    ("api.limits.request_timeout", "1ms"),
    ("api.limits.event_clients_max", "0"),
    ("api.limits.failures_max", "1001"),
    ("api.limits.failures_window", "60"),
    ("api.metrics.peers_max", "1000001"),
    ("api.metrics.routes_max", "-1"),
    ("api.metrics.networks_max", "65536"),
    ("store", "\"\""),
    ("wireguard.backend", "module"),
    ("wireguard.threads", "0"),
    ("wireguard.offload", "maybe"),
    ("tls.files", "[]"),
    ("tls.default", "a.pem"),
    ("tls.look_interval", "1ms"),
    ("acme.directories", "[]"),
    ("acme.challenge", "http-02"),
    ("acme.names", "[]"),
    ("acme.dns.zones", "[]"),
    ("acme.dns.hook", "\"\""),
    ("acme.dns.hook_timeout", "0s"),
    ("acme.dns.propagation_wait", "2h"),
    ("acme.on_demand.ask", "ftp://ask"),
    ("acme.on_demand.ask_timeout", "2m"),
    ("acme.on_demand.refused_for", "8d"),
    ("acme.on_demand.source_names_per_hour", "0"),
    ("acme.on_demand.names_per_hour", "0"),
    ("acme.on_demand.directory", "\"a b\""),
    ("acme.on_demand.challenge", "dns"),
    ("acme.orders_at_once_max", "257"),
    ("acme.network_orders_per_hour", "0"),
    ("acme.retry_wait", "2d"),
    ("api.metrics.certificates_max", "1000001"),
    ("accounts.row_interval", "2h"),
    ("accounts.retention", "1m"),
    ("accounts.hours_retention", "35"),
    ("accounts.days_retention", "400"),
    ("accounts.clients_max", "0"),
    ("accounts.audit_max", "1"),
    ("accounts.events_max", "1"),
    ("accounts.generations_max", "1"),
    ("limits", "[]"),
    ("limits.connections_max", "0"),
    ("limits.connections_max", "\"1\""),
    ("limits.connections_max", "4294967296"),
    ("limits.connections_max", "1.5"),
    ("limits.connections_per_network_max", "-1"),
    ("limits.connections_per_source_max", "many"),
    ("limits.accept_rate_per_source", "0"),
    ("limits.hello_bytes_max", "1023"),
    ("limits.accept_batch_max", "4097"),
    ("limits.backlog", "1048577"),
    ("limits.scratch_bytes", "1KB"),
    ("limits.pipe_bytes", "1GiB"),
    ("limits.held_bytes_max", "0"),
    ("limits.pipes_idle_max", "65537"),
    ("limits.accounted_clients_max", "1048577"),
    ("limits.keep_alive", "0s"),
    ("limits.user_timeout", "60"),
];

#[test]
fn a_wrong_value_of_any_key_is_refused_with_its_place() {
    for (key, value) in WRONG {
        let mut text = SMALLEST.to_owned();
        for (depth, part) in key.split('.').enumerate() {
            text = format!("{}\n{}{part}:", text.trim_end(), "  ".repeat(depth));
        }
        text = format!("{text} {value}\n");
        let line = text.lines().count();
        let found = problems(&text, &no_variables());
        let place = format!("{line} /{}: ", key.replace('.', "/"));
        assert_eq!(found.len(), 1, "{key}: {value}: {found:?}");
        assert!(found[0].starts_with(&place), "{key}: {value}: {found:?}");
    }
}

#[test]
fn a_wrong_value_of_any_listener_key_is_refused_with_its_place() {
    for (key, value) in [
        ("name", "\"a b\""),
        ("name", "\"\""),
        ("bind", "\":443\""),
        ("bind", "localhost:443"),
        ("bind", "[]"),
        ("protocol", "spdy"),
        ("default", "10.0.0.2:443"),
        ("relay", "zero"),
        ("proxy_protocol", "true"),
        ("proxy_protocol/accept_from", "[]"),
        ("proxy_protocol/accept_from/1", "[10.0.0.0/8, 10.0.0.0/33]"),
        ("connections_max", "0"),
        ("hello_timeout", "1ms"),
        ("connect_timeout", "soon"),
        ("idle_timeout", "8d"),
        ("keep_alive_timeout", "0s"),
        ("answer_timeout", "2d"),
        ("trusted_proxies/0", "[10.0.0.0/33]"),
    ] {
        let mut listener = BTreeMap::from([
            ("name".to_owned(), "n".to_owned()),
            ("bind".to_owned(), "127.0.0.1:0".to_owned()),
            ("protocol".to_owned(), "tls".to_owned()),
        ]);
        match key.split_once('/') {
            Some((key @ "proxy_protocol", _)) => {
                listener.insert(key.into(), format!("{{accept_from: {value}}}"))
            }
            Some((key, _)) => listener.insert(key.into(), value.into()),
            None => listener.insert(key.into(), value.into()),
        };
        let keys: Vec<String> = listener
            .iter()
            .map(|(key, value)| format!("{key}: {value}"))
            .collect();
        let found = problems(
            &format!("listeners:\n- {{{}}}", keys.join(", ")),
            &no_variables(),
        );
        assert_eq!(found.len(), 1, "{key}: {value}: {found:?}");
        let place = format!("2 /listeners/0/{key}: ");
        assert!(found[0].starts_with(&place), "{key}: {value}: {found:?}");
    }
}

#[test]
fn every_problem_is_reported_at_once() {
    let text = "wrokers: 3\nworkers: none\nworkers: 2\nlisteners:\n- { bind: x, prot: tls }\nlog: { level: loud, colour: red }\n";
    assert_eq!(
        problems(
            text,
            &variables(&[("RINGWAY_DRIVER", "x"), ("RINGWAY_LIMIT", "1")])
        ),
        [
            "1 /wrokers: `wrokers` is not a key here (did you mean `workers`?)",
            "2 /workers: this key is written again further down",
            "5 /listeners/0/prot: `prot` is not a key here (known: name, bind, protocol, to, default, relay, proxy_protocol, connections_max, hello_timeout, connect_timeout, idle_timeout, keep_alive_timeout, answer_timeout, half_close, trusted_proxies)",
            "5 /listeners/0: `name` is missing",
            "5 /listeners/0/bind: `x`: `ip:port` or `[ip]:port` is expected, such as [::]:443",
            "5 /listeners/0: `protocol` is missing",
            "6 /log/colour: `colour` is not a key here (known: format, level, file, requests, requests_format, queue_records_max)",
            "6 /log/level: `loud` is none of: error, warn, info, debug, trace",
            "/: RINGWAY_LIMIT is not a variable of Ringway",
            "/driver: `x` is none of: auto, io_uring, epoll",
        ]
    );
}

#[test]
fn what_contradicts_itself_is_refused() {
    for (text, message) in [
        ("", "`listeners` is missing"),
        ("listeners: []", "at least one is needed"),
        ("[1]", "a map is expected, not a list"),
        (
            "listeners:\n- {name: a, bind: 0.0.0.0:1, protocol: tcp}",
            "`to` is missing",
        ),
        (
            "listeners:\n- {name: a, bind: 0.0.0.0:1, protocol: tcp, to: host/1.1.1.1:1, default: host/1.1.1.1:1}",
            "`default` has no effect",
        ),
        (
            "listeners:\n- {name: a, bind: 0.0.0.0:1, protocol: tls, to: host/1.1.1.1:1}",
            "`to` is for tcp listeners",
        ),
        (
            "listeners:\n- {name: a, bind: 0.0.0.0:1, protocol: tls}\n- {name: a, bind: 0.0.0.0:2, protocol: tls}",
            "two listeners have the name `a`",
        ),
        (
            "listeners:\n- {name: a, bind: 0.0.0.0:1, protocol: tls}\n- {name: b, bind: 0.0.0.0:1, protocol: tls}",
            "listeners `a` and `b` both bind 0.0.0.0:1",
        ),
    ] {
        let found = problems(text, &no_variables());
        assert_eq!(found.len(), 1, "{text}: {found:?}");
        assert!(found[0].contains(message), "{text}: {found:?}");
    }
    // The kernel chooses another port each time.
    good(
        "listeners:\n- {name: a, bind: 0.0.0.0:0, protocol: tls}\n- {name: b, bind: 0.0.0.0:0, protocol: tls}",
    );
}

#[test]
fn an_api_that_others_reach_needs_a_token() {
    for (api, message) in [
        (
            "listen: 0.0.0.0:8080",
            "no token is configured (write `token_file`",
        ),
        ("listen: \"[::]:8080\"", "no token is configured"),
        ("token: abcdefghijklmnop, token_file: x", "are both written"),
        (
            "tokens: [{name: a, role: admin}]",
            "either `token` or `token_file` is needed",
        ),
        (
            "tokens: [{name: a, role: admin, token_file: x, token: abcdefghijklmnop}]",
            "either `token` or `token_file` is needed",
        ),
        (
            "tokens: [{name: a, role: admin, token_file: x}, {name: a, role: reader, token_file: y}]",
            "two tokens have the name `a`",
        ),
        (
            "tokens: [{name: admin, role: admin, token_file: x}]",
            "two tokens have the name `admin`",
        ),
    ] {
        let text = format!("{SMALLEST}api: {{{api}}}");
        let found = problems(&text, &no_variables());
        assert_eq!(found.len(), 1, "{api}: {found:?}");
        assert!(found[0].contains(message), "{api}: {found:?}");
        assert!(!found[0].contains("abcdefghijklmnop"), "{found:?}");
    }
    for api in [
        "listen: off",
        "listen: \"unix:/run/api.sock\"",
        "listen: 127.0.0.1:1",
        "listen: 0.0.0.0:8080, token_file: x",
        "listen: 0.0.0.0:8080, tokens: [{name: a, role: admin, token_file: x}]",
    ] {
        good(&format!("{SMALLEST}api: {{{api}}}"));
    }
}

#[test]
fn tokens_come_from_the_file_and_the_environment_and_are_never_shown() {
    let text = format!(
        "{SMALLEST}api: {{token_file: a, tokens: [{{name: ci, role: reader, token: secret-of-the-reader}}]}}"
    );
    let boot = good(&text);
    let credentials: Vec<Credential> = boot.api.credentials().collect();
    let names = credentials.iter().map(|one| (one.name.as_str(), one.role));
    assert_eq!(
        names.collect::<Vec<_>>(),
        [("admin", Role::Admin), ("ci", Role::Reader)]
    );
    let Secret::Text(token) = &credentials[1].secret else {
        panic!("{credentials:?}");
    };
    assert_eq!(token.expose(), "secret-of-the-reader");
    let shown = format!("{boot:?}{}", boot.render());
    assert!(!shown.contains("secret-of"), "{shown}");
    // What is shown in a token's place is not taken for a token.
    let shown = boot.render().to_string();
    assert!(problems(&shown, &no_variables())[0].contains("(hidden)"));

    let source = variables(&[("RINGWAY_API__TOKEN", "secret-of-an-admin")]);
    let boot = parse(SMALLEST, &source).unwrap().value;
    assert_eq!(boot.api.credentials().count(), 1);
    // The client's own variables do not disturb a gateway beside it.
    parse(
        SMALLEST,
        &variables(&[("RINGWAY_TOKEN", "x"), ("RINGWAY_API", "y")]),
    )
    .unwrap();

    let weak = format!("{SMALLEST}api: {{token: abc}}");
    assert!(problems(&weak, &no_variables())[0].contains("may be guessed"));
}

#[test]
fn coarser_accounts_are_kept_for_longer() {
    let text = format!("{SMALLEST}accounts: {{retention: 40d}}");
    assert_eq!(
        problems(&text, &no_variables()),
        ["3 /accounts: `retention` is longer than `hours_retention`, the next coarser one"]
    );
}

#[test]
fn a_cap_that_is_never_reached_is_warned_of() {
    let text = format!("{SMALLEST}limits: {{connections_max: 5, connections_per_source_max: 6}}");
    let valid = parse(&text, &no_variables()).unwrap();
    let warnings: Vec<_> = valid.warnings.iter().collect();
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].severity, Severity::Warning);
    assert_eq!(warnings[0].pointer, "/limits");
}

#[test]
fn the_environment_wins_over_the_file() {
    let source = variables(&[
        ("RINGWAY_WORKERS", "3"),
        ("RINGWAY_LIMITS__CONNECTIONS_MAX", "9"),
        ("RINGWAY_LOG__LEVEL", ""),
        ("RINGWAY_CONFIG", "/etc/ringway.yaml"),
        ("RINGWAYS", "not ours"),
        (
            "RINGWAY_LISTENERS",
            r#"[{"name": "env", "bind": "127.0.0.1:0", "protocol": "tls"}]"#,
        ),
    ]);
    let text = format!("{SMALLEST}limits:\nlog: {{level: warn}}\nworkers: 1");
    let boot = parse(&text, &source).unwrap().value;
    assert_eq!(boot.workers.to_string(), "3");
    assert_eq!(boot.limits.connections_max.map(NonZeroU32::get), Some(9));
    assert_eq!(boot.log.level, LogLevel::Warn);
    assert_eq!(boot.listeners[0].name.as_str(), "env");
    // A file is not needed at all.
    assert_eq!(parse("", &source).unwrap().value.listeners, boot.listeners);
}

#[test]
fn every_value_has_a_variable() {
    for key in environment::settable(Boot::KEYS) {
        let source = variables(&[(&key.variable, "\u{1}")]);
        let Err(found) = parse(SMALLEST, &source) else {
            // A path may be nearly anything.
            let paths = [
                "STATE",
                "STORE",
                "LOG__FILE",
                "LOG__REQUESTS",
                "API__TOKEN_FILE",
                "ACME__DNS__HOOK",
            ];
            assert!(
                paths
                    .iter()
                    .any(|path| key.variable == format!("RINGWAY_{path}"))
            );
            continue;
        };
        let mut found = found.iter();
        let first = found.next().unwrap();
        assert_eq!(first.variable.as_deref(), Some(key.variable.as_str()));
        assert_eq!(first.line, None);
    }
}

#[test]
fn a_wrong_variable_is_refused_by_its_name() {
    for (name, value, message) in [
        ("RINGWAY_WORKER", "1", "did you mean RINGWAY_WORKERS?"),
        ("RINGWAY_LISTENERS", "[", "not JSON"),
        ("RINGWAY_LISTENERS", "[{}]", "`name` is missing"),
        ("RINGWAY_LISTENERS__0__NAME", "a", "is not a variable"),
        ("RINGWAY_LIMITS", "{}", "is not a variable"),
        ("RINGWAY_LIMITS__BACKLOG", "0", "expected"),
        ("RINGWAY_WORKERS", " 1", "expected"),
    ] {
        let Err(found) = parse(SMALLEST, &variables(&[(name, value)])) else {
            panic!("{name}={value} is accepted");
        };
        let first = found.iter().next().unwrap();
        assert_eq!(first.variable.as_deref(), Some(name), "{first:?}");
        assert!(first.to_string().contains(message), "{first}");
    }
}

#[test]
fn what_needs_a_restart_is_told_from_what_a_reload_takes() {
    let running = good(&format!("{SMALLEST}log: {{level: info}}"));
    let text = "listeners:\n  - { name: https, bind: \"[::]:444\", protocol: tls, default: host/1.1.1.1:1 }\nlog: {level: debug}\ndrain_timeout: 1s\nlimits: {backlog: 1}\nworkers: 2";
    assert_eq!(
        good(text).restart_needed(&running),
        ["/workers", "/limits/backlog"]
    );
    let two = format!("{SMALLEST}  - {{ name: b, bind: 0.0.0.0:2, protocol: tls }}");
    assert!(good(&two).restart_needed(&running).is_empty());
    assert!(running.restart_needed(&running).is_empty());
}

#[test]
fn what_acme_cannot_do_is_refused_with_the_reason() {
    let directory = "{ name: one, url: https://acme.example/dir }";
    for (acme, message) in [
        (
            "names: [{ name: a.example }]".to_owned(),
            "/acme: a.example: `acme.directories` is empty: there is no directory",
        ),
        (
            format!(
                "{{ directories: [{directory}], names: [{{ name: a.example, directory: two }}] }}"
            ),
            "/acme: a.example: `acme.directories` has none of the name `two`",
        ),
        (
            format!("{{ directories: [{directory}, {directory}] }}"),
            "/acme: two directories have the name `one`",
        ),
        (
            format!("{{ directories: [{directory}], names: [{{ name: \"*.a.example\" }}] }}"),
            "/acme: *.a.example: neither is *.a.example in one of `acme.dns.zones`",
        ),
        (
            format!(
                "{{ directories: [{directory}], dns: {{ hook: h }}, \
                 names: [{{ name: \"*.a.example\", challenge: http-01 }}] }}"
            ),
            "/acme: *.a.example: a name with a wildcard is proved by dns-01 alone",
        ),
        (
            format!(
                "{{ directories: [{directory}], names: [{{ name: a.example }}, {{ name: A.example }}] }}"
            ),
            "/acme: a.example is declared twice",
        ),
        (
            "{ on_demand: { ask: \"http://127.0.0.1/ask\" } }".to_owned(),
            "/acme: `on_demand` has no directory",
        ),
        (
            "{ directories: [{ name: one, url: https://a/b, eab_key_id: k }] }".to_owned(),
            "/acme/directories/0: `eab_key_id` and `eab_key_file` go together",
        ),
        (
            "{ directories: [{ name: one, url: http://a/b }] }".to_owned(),
            "/acme/directories/0/url: `http://a/b`: an https URL is expected",
        ),
        (
            "{ directories: [{ name: one, url: https://a/b, contact: [ops@a.example] }] }"
                .to_owned(),
            "/acme/directories/0/contact/0: `ops@a.example`: a contact is a `mailto:` URL",
        ),
    ] {
        let acme = if acme.starts_with('{') {
            acme
        } else {
            format!("{{ {acme} }}")
        };
        let found = problems(&format!("{SMALLEST}acme: {acme}\n"), &no_variables());
        assert!(
            found.len() == 1 && found[0].contains(message),
            "{acme}: {found:?}"
        );
    }
}

#[test]
fn the_most_specific_zone_takes_the_record() {
    let boot = good(&format!(
        "{SMALLEST}acme: {{ dns: {{ zones: [\
         {{ zone: example.com, server: 127.0.0.1:53, key_name: k, key_file: f }}, \
         {{ zone: a.example.com, server: 127.0.0.2:53, key_name: k, key_file: f }}] }} }}\n"
    ));
    let zone = |name: &str| {
        let name = name.parse::<CertificateName>().unwrap();
        boot.acme.dns.zone(&name).map(|zone| zone.zone.to_string())
    };
    assert_eq!(zone("*.a.example.com").as_deref(), Some("a.example.com"));
    assert_eq!(zone("ba.example.com").as_deref(), Some("example.com"));
    assert_eq!(zone("example.org"), None);
}

#[test]
fn every_default_and_every_bound_can_be_read() {
    fn check(keys: &[Key], seen: &mut HashSet<String>) {
        for key in keys {
            assert!(!key.meaning().is_empty(), "{}", key.name);
            assert!(key.meaning().ends_with('.'), "{}", key.meaning());
            seen.insert(key.name.to_owned());
            check(key.keys, seen);
        }
    }
    let mut seen = HashSet::new();
    check(Boot::KEYS, &mut seen);
    // Reading them asserts, in `from_literal`.
    good(SMALLEST);
    assert!(seen.contains("accept_from"));
}

#[test]
fn the_reference_page_is_up_to_date() {
    control_reference::compare("boot", &reference()).unwrap();
}

#[test]
fn a_problem_that_is_found_later_gets_its_line() {
    let text = "workers: 1\nlisteners:\n- name: a\n  bind: 0.0.0.0:1\n  to:\n    host/1.1.1.1:1\n";
    let mut problem = Problem {
        pointer: "/listeners/0/to".to_owned(),
        ..Problem::whole(Severity::Error, "x")
    };
    locate(text, &no_variables(), &mut problem);
    assert_eq!(problem.line, Some(5));
    let source = variables(&[("RINGWAY_LISTENERS", "[{\"to\": 1}]")]);
    locate(text, &source, &mut problem);
    assert_eq!(
        (problem.line, problem.variable.as_deref()),
        (None, Some("RINGWAY_LISTENERS"))
    );
}

fn listener() -> impl Strategy<Value = serde_json::Value> {
    (
        "[a-z]{1,9}",
        any::<std::net::SocketAddr>(),
        prop::option::of(1..9u32),
        10..300_000u64,
        prop::sample::select(vec!["auto", "copy", "splice"]),
        prop::option::of(any::<std::net::SocketAddrV6>()),
        any::<bool>(),
    )
        .prop_map(|(name, bind, max, hello, relay, to, tcp)| {
            let place =
                |to: std::net::SocketAddrV6| format!("host/[{}]:{}", to.ip(), to.port().max(1));
            let to = to.map(place);
            let tcp = tcp && to.is_some();
            json!({
                "name": name, "bind": bind.to_string(), "connections_max": max,
                "hello_timeout": format!("{hello}ms"), "relay": relay,
                "protocol": if tcp { "tcp" } else { "tls" },
                (if tcp { "to" } else { "default" }): to,
            })
        })
}

proptest! {
    #[test]
    fn what_is_rendered_is_read_again(listener in listener(), level in prop::sample::select(vec!["error", "trace"]), bytes in 65_536..1_000_000u64, workers in 1..=1024u16) {
        let text = json!({
            "listeners": [listener], "log": {"level": level}, "workers": workers,
            "limits": {"scratch_bytes": bytes},
        });
        let boot = good(&text.to_string());
        prop_assert_eq!(&good(&boot.render().to_string()), &boot);
        prop_assert!(boot.restart_needed(&boot).is_empty());
    }

    #[test]
    fn no_file_and_no_variable_panics(
        lines in "((workers|listeners|log|limits|state|name|bind): ?[a-z0-9\\[\\]{}\"':,. \\-]{0,12}\n {0,3}-? ?){0,9}",
        value in "\\PC{0,40}",
    ) {
        let _ = parse(&lines, &variables(&[("RINGWAY_LISTENERS", &value), ("RINGWAY_STATE", &value)]));
    }
}
