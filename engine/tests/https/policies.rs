//! A policy of TLS holds wherever it is declared, on every connection, from when it is declared.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use engine::Protocol;
use engine_core::{ids::ListenerId, outcome::Outcome};
use engine_http::rules;
use engine_tls::policy::{Clients, MinVersion, Policy, UnknownName};
use rustls::{ClientConfig, version};

use crate::gateway::{
    Authority, Leaf, Setup, Upstream, ask, client, client_with, connect, provider, read_answer,
};

/// Asks for a host over a connection of its own, with the name in SNI or without it. `None` where
/// there was no connection to be had.
fn status(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    host: &str,
    sni: bool,
) -> Option<String> {
    let mut config = ClientConfig::clone(config);
    config.enable_sni = sni;
    let mut stream = connect(address, &Arc::new(config), host);
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"
    )
    .ok()?;
    stream.flush().ok()?;
    let mut head = [0; 12];
    stream.read_exact(&mut head).ok()?;
    Some(String::from_utf8_lossy(&head[9..]).into_owned())
}

/// A client that speaks TLS 1.2 alone.
fn old_client(authority: &Authority, identity: Option<&Leaf>) -> Arc<ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.der.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS12])
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match identity {
        None => builder.with_no_client_auth(),
        Some(leaf) => builder
            .with_client_auth_cert(vec![leaf.der.clone()], leaf.key())
            .unwrap(),
    })
}

#[test]
fn a_policy_holds_for_every_pattern_on_every_listener_with_sni_and_without() {
    let (authority, clients) = (Authority::new("one"), Authority::new("clients"));
    let upstream = Upstream::plain();
    let (leaf, identity) = (authority.leaf(&["a.example"]), clients.leaf(&["printer"]));
    let required = Policy {
        clients: Clients::Required(clients.roots()),
        unknown: UnknownName::Default,
        ..Policy::default()
    };
    let newest = Policy {
        version: MinVersion::Tls13,
        unknown: UnknownName::Default,
        ..Policy::default()
    };
    let (nobody, somebody) = (
        client(&authority, None),
        client(&authority, Some(&identity)),
    );
    let cases = [
        (required, nobody, somebody),
        (
            newest,
            old_client(&authority, None),
            client(&authority, None),
        ),
    ];
    for (policy, outsider, insider) in &cases {
        for protocol in [Protocol::Https, Protocol::Tls] {
            for pattern in [Some("a.example"), Some("*.example"), None] {
                let others = Policy {
                    unknown: UnknownName::Default,
                    ..Policy::default()
                };
                let mut setup = Setup::new(protocol).certificate(&leaf);
                setup.certificates.set_default(&[leaf.bundle()]);
                if pattern.is_some() {
                    setup = setup.terminate(None, others);
                }
                let gateway = setup
                    .terminate(pattern, policy.clone())
                    .proxy(None, upstream.address)
                    .start();
                for sni in [true, false] {
                    let cell = format!("{policy:?} {protocol:?} {pattern:?} {sni}");
                    let denied = status(gateway.address, outsider, "a.example", sni);
                    assert!(
                        matches!(denied.as_deref(), None | Some("421")),
                        "{cell}: {denied:?}"
                    );
                    let served = status(gateway.address, insider, "a.example", sni);
                    // Without SNI nobody knows yet that the host asks who a client is.
                    let expected = match (sni, pattern, &policy.clients) {
                        (false, Some(_), Clients::Required(_)) => "421",
                        _ => "200",
                    };
                    assert_eq!(served.as_deref(), Some(expected), "{cell}");
                }
            }
        }
    }
}

#[test]
fn a_verified_identity_goes_nowhere_that_did_not_ask_for_it_in_the_same_way() {
    let (authority, clients, others) = (
        Authority::new("one"),
        Authority::new("clients"),
        Authority::new("others"),
    );
    let upstream = Upstream::plain();
    let of = |clients| Policy {
        clients,
        ..Policy::default()
    };
    let names = [
        "asks.example",
        "same.example",
        "optional.example",
        "other.example",
        "not.example",
    ];
    let gateway = Setup::new(Protocol::Https)
        .certificate(&authority.leaf(&names))
        .terminate(Some("asks.example"), of(Clients::Required(clients.roots())))
        .terminate(Some("same.example"), of(Clients::Required(clients.roots())))
        .terminate(
            Some("optional.example"),
            of(Clients::Optional(clients.roots())),
        )
        .terminate(Some("other.example"), of(Clients::Required(others.roots())))
        .terminate(Some("not.example"), Policy::default())
        .proxy(None, upstream.address)
        .start();
    let config = client(&authority, Some(&clients.leaf(&["printer"])));
    let mut stream = connect(gateway.address, &config, "asks.example");
    for (host, expected) in [
        ("asks.example", "200"),
        ("same.example", "200"),
        ("optional.example", "421"),
        ("other.example", "421"),
        ("not.example", "421"),
        ("asks.example", "200"),
    ] {
        assert_eq!(ask(&mut stream, host, "").status(), expected, "{host}");
    }
    // Requests that name no host are for those who serve the undeclared ones, and did not ask.
    write!(stream, "GET / HTTP/1.0\r\n\r\n").unwrap();
    let answer = read_answer(&mut stream);
    assert_eq!(answer.status(), "421", "{}", answer.text());
    // Who showed nothing has nothing to be told.
    let mut stream = connect(
        gateway.address,
        &client(&authority, None),
        "optional.example",
    );
    assert_eq!(ask(&mut stream, "not.example", "").status(), "200");
    assert_eq!(ask(&mut stream, "asks.example", "").status(), "421");
}

#[test]
fn a_kept_connection_serves_no_further_request_once_its_terms_ask_for_more() {
    let (authority, clients) = (Authority::new("one"), Authority::new("clients"));
    let upstream = Upstream::plain();
    let required = Policy {
        clients: Clients::Required(clients.roots()),
        ..Policy::default()
    };
    let setup = || Setup::new(Protocol::Https).certificate(&authority.leaf(&["a.example"]));
    let mut gateway = setup()
        .terminate(Some("a.example"), Policy::default())
        .proxy(None, upstream.address)
        .start();
    let nobody = client(&authority, None);
    let mut idle = connect(gateway.address, &nobody, "a.example");
    assert_eq!(ask(&mut idle, "a.example", "").status(), "200");
    gateway.publish(
        Setup::new(Protocol::Https)
            .after(&gateway)
            .terminate(Some("a.example"), required)
            .proxy(None, upstream.address),
    );
    // It was idle, and ended in order; a request that was on its way then is answered 421.
    let mut rest = Vec::new();
    let _ = write!(idle, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").and_then(|()| idle.flush());
    let _ = idle.read_to_end(&mut rest);
    let rest = String::from_utf8_lossy(&rest);
    assert!(
        rest.is_empty() || rest.starts_with("HTTP/1.1 421 "),
        "{rest}"
    );
    assert_eq!(status(gateway.address, &nobody, "a.example", true), None);
    let identity = clients.leaf(&["printer"]);
    let somebody = client(&authority, Some(&identity));
    let mut kept = connect(gateway.address, &somebody, "a.example");
    assert_eq!(ask(&mut kept, "a.example", "").status(), "200");
    let other = Authority::new("other");
    let mut again = Setup::new(Protocol::Https).after(&gateway).terminate(
        Some("a.example"),
        Policy {
            clients: Clients::Required(other.roots()),
            ..Policy::default()
        },
    );
    again = again.proxy(None, upstream.address);
    gateway.publish(again);
    assert_eq!(status(gateway.address, &somebody, "a.example", true), None);
}

/// A target that begins an answer and never ends it.
pub(crate) fn endless() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let mut socket = socket.unwrap();
            thread::spawn(move || {
                let mut head = [0; 4096];
                let _ = socket.read(&mut head);
                let _ = socket.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
                // Until the gateway leaves.
                let _ = socket.read(&mut head);
            });
        }
    });
    address
}

#[test]
fn a_request_that_lasts_ends_when_it_would_be_let_in_no_longer() {
    let (authority, clients) = (Authority::new("one"), Authority::new("clients"));
    let target = endless();
    let required = Policy {
        clients: Clients::Required(clients.roots()),
        ..Policy::default()
    };
    let newest = Policy {
        version: MinVersion::Tls13,
        ..Policy::default()
    };
    let rule = rules::Policy::default;
    let prefixes = |prefix: &str| rules::Prefixes::new([prefix.parse().unwrap()]);
    let denied = rules::Policy {
        deny: prefixes("127.0.0.0/8"),
        ..rule()
    };
    let allowed = rules::Policy {
        allow: prefixes("127.0.0.0/8"),
        ..rule()
    };
    let hash = rules::Auth::hash("pw", b"saltsalt");
    let asked = rules::Policy {
        auth: Some(rules::Auth::new("here", &[("alice", &hash)]).unwrap()),
        ..rule()
    };
    let plain = Policy::default;
    for (what, terms, policy, ends) in [
        ("nothing", plain(), rule(), false),
        ("still allowed", plain(), allowed, false),
        ("still new enough", newest, rule(), false),
        ("certificates", required, rule(), true),
        ("denied", plain(), denied, true),
        ("passwords", plain(), asked, true),
    ] {
        let mut gateway = Setup::new(Protocol::Https)
            .certificate(&authority.leaf(&["a.example"]))
            .terminate(Some("a.example"), plain())
            .proxy_to(Some("a.example"), target, None, rule())
            .start();
        let config = client_with(&authority, None, &[b"http/1.1"]);
        let mut stream = connect(gateway.address, &config, "a.example");
        write!(stream, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        let mut begun = Vec::new();
        while !begun.ends_with(b"abc") {
            let mut piece = [0; 512];
            let count = stream.read(&mut piece).unwrap();
            assert!(count > 0, "{what}: {}", begun.escape_ascii());
            begun.extend(&piece[..count]);
        }
        gateway.publish(
            Setup::new(Protocol::Https)
                .after(&gateway)
                .terminate(Some("a.example"), terms)
                .proxy_to(Some("a.example"), target, None, policy),
        );
        if ends {
            gateway.outcomes(Outcome::AccessChanged, 1);
        } else {
            // Ended connections are counted in the turn in which the publication is answered, or soon.
            thread::sleep(std::time::Duration::from_millis(50));
            let counters = gateway.engine.counters();
            let ended: u64 = counters.listeners[&ListenerId(0)]
                .tally
                .outcomes
                .iter()
                .sum();
            assert_eq!(ended, 0, "{what}");
        }
    }
}

#[test]
fn requests_that_name_no_host_are_held_to_what_undeclared_hosts_ask() {
    let (authority, clients) = (Authority::new("one"), Authority::new("clients"));
    let upstream = Upstream::plain();
    let required = Policy {
        clients: Clients::Required(clients.roots()),
        ..Policy::default()
    };
    let gateway = Setup::new(Protocol::Https)
        .certificate(&authority.leaf(&["a.example"]))
        .terminate(None, required)
        .terminate(Some("a.example"), Policy::default())
        .proxy(None, upstream.address)
        .start();
    let nobody = client(&authority, None);
    let mut stream = connect(gateway.address, &nobody, "a.example");
    assert_eq!(ask(&mut stream, "a.example", "").status(), "200");
    write!(stream, "GET / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut stream).status(), "421");
}

#[test]
fn a_connection_without_a_name_ends_when_undeclared_hosts_ask_for_more() {
    let (authority, clients) = (Authority::new("one"), Authority::new("clients"));
    let upstream = Upstream::plain();
    let leaf = authority.leaf(&["a.example"]);
    let plain = || Policy {
        unknown: UnknownName::Default,
        ..Policy::default()
    };
    let mut gateway = {
        let setup = Setup::new(Protocol::Https).certificate(&leaf);
        setup.certificates.set_default(&[leaf.bundle()]);
        setup
            .terminate(None, plain())
            .proxy_to(
                Some("a.example"),
                upstream.address,
                None,
                rules::Policy::default(),
            )
            .start()
    };
    let mut nameless = ClientConfig::clone(&client(&authority, None));
    nameless.enable_sni = false;
    let mut stream = connect(gateway.address, &Arc::new(nameless), "a.example");
    // No rule lets it in, so that it is not ended with the rule's requests.
    assert_eq!(ask(&mut stream, "b.example", "").status(), "421");
    let required = Policy {
        clients: Clients::Required(clients.roots()),
        ..plain()
    };
    gateway.publish(
        Setup::new(Protocol::Https)
            .after(&gateway)
            .terminate(None, required)
            .proxy(Some("a.example"), upstream.address),
    );
    let answer = ask(&mut stream, "a.example", "");
    assert_eq!(answer.status(), "421");
    assert!(
        answer
            .head
            .to_ascii_lowercase()
            .contains("\r\nconnection: close\r\n"),
        "{}",
        answer.head
    );
}

#[test]
fn a_request_in_clear_ends_when_its_rule_asks_who_its_clients_are() {
    let (authority, clients) = (Authority::new("one"), Authority::new("clients"));
    let target = endless();
    let required = Policy {
        clients: Clients::Required(clients.roots()),
        ..Policy::default()
    };
    for (terms, ends) in [(Policy::default(), false), (required, true)] {
        let mut gateway = Setup::new(Protocol::Http)
            .certificate(&authority.leaf(&["a.example"]))
            .terminate(Some("a.example"), Policy::default())
            .proxy(Some("a.example"), target)
            .start();
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        write!(stream, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        let mut begun = Vec::new();
        while !begun.ends_with(b"abc") {
            let mut piece = [0; 512];
            let count = stream.read(&mut piece).unwrap();
            assert!(count > 0, "{}", begun.escape_ascii());
            begun.extend(&piece[..count]);
        }
        // Another scheme makes another rule of it.
        gateway.publish(
            Setup::new(Protocol::Http)
                .after(&gateway)
                .skip_ids(10)
                .terminate(Some("a.example"), terms)
                .proxy(Some("a.example"), target)
                .tls_alone(),
        );
        if ends {
            gateway.outcomes(Outcome::AccessChanged, 1);
        } else {
            thread::sleep(std::time::Duration::from_millis(50));
            let counters = gateway.engine.counters();
            let ended: u64 = counters.listeners[&ListenerId(0)]
                .tally
                .outcomes
                .iter()
                .sum();
            assert_eq!(ended, 0);
        }
    }
}
