//! Every key of a network in the state document, for the reference table and the schema.

use std::fmt::Write as _;

use super::{ErrorPages, Listener, Owner, Route, Tls};
use crate::{field::Field, section::Key};

const fn key(
    name: &'static str,
    syntax: &'static str,
    example: &'static str,
    doc: &'static [&'static str],
) -> Key {
    let mut key = Key::new(name, syntax, doc);
    key.example = Some(example);
    key
}

const fn with_default(mut key: Key, default: &'static str) -> Key {
    key.default = Some(default);
    key
}

const fn list(mut key: Key, keys: &'static [Key]) -> Key {
    key.list = true;
    key.keys = keys;
    key
}

const fn map(mut key: Key, keys: &'static [Key]) -> Key {
    key.keys = keys;
    key
}

/// The keys of a network, in the order of the documentation.
pub(super) const NETWORK: &[Key] = &[
    key(
        "proxy",
        "map of name to targets",
        r#"{"https://mail.example.org": ["10.0.0.2:443", {"to": "10.0.0.3:443", "backup": true}]}"#,
        &[
            "The short form of routes: names with their targets. A name is `host`, `*.host`,",
            "`https://host`, `http://host` or `ssh://host` (not served yet). Without a scheme it",
            "is both `https://` and `http://`. TLS is passed through unread unless `tls` or a",
            "rule terminates it. Targets are a list of at most 256, or `{\"targets\": […],",
            "\"balance\": \"least_connections\"}`. A target is `ip:port` or `name:port` (see `dns`), and",
            "may have `weight` (1 to 256), `backup` and `proxy_protocol` (`v1`, `v2`).",
        ],
    ),
    list(
        key(
            "routes",
            "list of rules",
            r#"[{"host": "shop.example.com", "path": "/api", "to": ["10.0.0.2:8080"]}]"#,
            &[
                "Routes by rule, at most 1000 for a host. The most specific host wins, then the",
                "longest path, then the rule with most conditions, then the first one.",
            ],
        ),
        Route::KEYS,
    ),
    map(
        key(
            "listeners",
            "map of name to listener",
            r#"{"database": {"bind": "10.0.0.1:5432", "protocol": "tcp", "to": ["10.0.0.2:5432"]}}"#,
            &[
                "Addresses at which the network's own clients come in, at most 256. Names are unique in",
                "the gateway, also among the listeners of the boot file.",
            ],
        ),
        Listener::KEYS,
    ),
    map(
        key(
            "tls",
            "map",
            r#"{"acme": {"hosts": ["shop.example.com"]}}"#,
            &["Certificates of the network's hosts. TLS of each host named here is terminated."],
        ),
        Tls::KEYS,
    ),
    key(
        "error_pages",
        ErrorPages::SYNTAX,
        r#"{"503": "<h1>Back soon</h1>", "404": {"content_type": "text/plain", "body": "nothing"}}"#,
        &["Error pages in place of the gateway's own; at most 64 KiB each."],
    ),
    key(
        "private_key",
        "WireGuard key",
        r#""(kept)""#,
        &[
            "The network's private key, in base64 or hex. The API shows `(kept)` in its place;",
            "`(kept)` in a document keeps the key.",
        ],
    ),
    key(
        "address",
        "list of CIDR",
        r#"["10.0.0.1/24", "fd00::1/64"]"#,
        &[
            "The addresses of the WireGuard device `wg<port>`. Its public UDP port is the",
            "network's key in the document.",
        ],
    ),
    with_default(
        key(
            "mtu",
            "number from 1280 to 65535",
            "1380",
            &["The MTU of the device."],
        ),
        "1420",
    ),
    key(
        "listen_port",
        "number from 0 to 65535",
        "0",
        &[
            "Has no effect: the network's key in the document is its port. Another value gives a",
            "warning.",
        ],
    ),
    key(
        "peers",
        "map of public key to peer",
        r#"{"2juzbPd8m9DomiILF0YL4JpF1QoENVUFanbDajGIit0=": {"allowed_ips": ["10.0.0.2/32"]}}"#,
        &[
            "The WireGuard peers, by public key: `allowed_ips`, `endpoint` (`ip:port`) and",
            "`preshared_key` of each. Keep-alives are sent to every peer every 25 s. A list of",
            "peers with `public_key` is an older form.",
        ],
    ),
    with_default(
        key(
            "peer_to_peer",
            "`true`, `false`",
            "false",
            &["Whether peers of the network reach each other through the device."],
        ),
        "true",
    ),
    key(
        "netns",
        "name or `null`",
        r#""blue""#,
        &[
            "The namespace from which targets are dialed. By default `network-<port>`, which",
            "Ringway makes and owns. A name is an existing namespace, `null` the host's. With a",
            "name or `null` the network needs no device.",
        ],
    ),
    key(
        "dns",
        "list of `ip:port`",
        r#"["10.0.0.53:53"]"#,
        &[
            "The name servers that are asked for targets that are names, at most 3, from inside",
            "the namespace; by default on port 53. Needed for names, except with `netns: null`:",
            "there the host's `/etc/resolv.conf` counts.",
        ],
    ),
    with_default(
        key(
            "owner",
            Owner::SYNTAX,
            r#""api""#,
            &["Who the network belongs to. Written and shown with `?owners=all` only."],
        ),
        "api",
    ),
    with_default(
        key(
            "adopt",
            "`true`, `false`",
            "true",
            &[
                "Takes over a namespace `network-<port>` that something else made. Without it such a",
                "namespace degrades the network.",
            ],
        ),
        "false",
    ),
];

/// The reference in Markdown: the keys of a network, then those of its sections, one row for each with an example.
pub fn reference() -> String {
    let mut text = format!("## Keys of a network\n\n{HEAD}");
    for key in NETWORK {
        row(key, &path(key, ""), &mut text);
    }
    for section in NETWORK.iter().filter(|key| !key.keys.is_empty()) {
        let path = path(section, "");
        // Writing to a string cannot fail.
        let _ = write!(text, "\n## `{path}`\n\n{}\n\n{HEAD}", section.meaning());
        rows(section.keys, &format!("{path}."), &mut text);
    }
    text
}

const HEAD: &str = "| Key | Value | Default | Example | Meaning |\n|---|---|---|---|---|\n";

fn path(key: &Key, above: &str) -> String {
    let each = match (key.list, key.syntax) {
        (true, _) => "[]",
        (false, "map of name to listener") => ".NAME",
        (false, _) => "",
    };
    format!("{above}{}{each}", key.name)
}

fn rows(keys: &[Key], above: &str, table: &mut String) {
    for key in keys {
        let path = path(key, above);
        row(key, &path, table);
        rows(key.keys, &format!("{path}."), table);
    }
}

fn row(key: &Key, path: &str, table: &mut String) {
    let syntax = match (key.range, key.syntax.split_once(" from ")) {
        // The range of the key is narrower than that of its type.
        (Some((min, max)), Some((what, _))) => format!("{what} from {min} to {max}"),
        (Some((min, max)), None) => format!("{}, {min} to {max}", key.syntax),
        (None, _) => key.syntax.to_owned(),
    };
    let default = key.default.map(|default| format!("`{default}`"));
    // A bar would end the cell.
    let example = shortened(key.example.unwrap_or_default()).replace('|', "\\|");
    let _ = writeln!(
        table,
        "| `{path}` | {syntax} | {} | `{example}` | {} |",
        default.unwrap_or_default(),
        key.meaning(),
    );
}

/// Without the lines of a certificate, which tell a reader nothing.
fn shortened(example: &str) -> String {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    match (example.split_once(BEGIN), example.split_once(END)) {
        (Some((before, _)), Some((_, after))) => format!("{before}{BEGIN}…{END}{after}"),
        _ => example.to_owned(),
    }
}
