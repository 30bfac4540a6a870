//! One port for names that pass through and names whose TLS ends here.

use std::io::Write;

use engine::Protocol;
use engine_core::{
    hostname::Hostname,
    outcome::{Fault, Outcome},
};
use engine_tls::policy::{ACME_PROTOCOL, Policy};

use crate::gateway::{Authority, Setup, Upstream, ask, client, client_with, connect};

#[test]
fn names_that_pass_and_names_that_end_share_a_port() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let plain = Upstream::plain();
    let tenant = Upstream::tls(&theirs.leaf(&["b.example", "x.a.example"]), None);
    let mut gateway = Setup::new(Protocol::Tls)
        .certificate(&ours.leaf(&["*.a.example"]))
        .terminate(Some("*.a.example"), Policy::default())
        .pass("b.example", tenant.address)
        .pass("x.a.example", tenant.address)
        .proxy(Some("y.a.example"), plain.address)
        .start();
    for (name, authority, forwarded) in [
        ("y.a.example", &ours, true),
        ("b.example", &theirs, false),
        ("x.a.example", &theirs, false),
    ] {
        let mut stream = connect(gateway.address, &client(authority, None), name);
        let answer = ask(&mut stream, name, "");
        assert_eq!(answer.status(), "200");
        assert_eq!(
            answer.text().contains("X-Forwarded-For"),
            forwarded,
            "{name}"
        );
    }
    let mut stream = connect(gateway.address, &client(&ours, None), "c.example");
    let error = stream.write(b"x").unwrap_err().to_string();
    assert!(error.contains("UnrecognisedName"), "{error}");
    gateway.outcomes(Outcome::UnknownName, 1);
}

/// A certificate of the gateway is good for both, so a client may ask for one over a connection to the
/// other (RFC 9113 section 9.1.1).
#[test]
fn a_name_that_passes_through_is_no_wildcard_rules_of_another_network() {
    let authority = Authority::new("ours");
    let (first, second) = (Upstream::plain(), Upstream::plain());
    for protocol in [Protocol::Tls, Protocol::Https] {
        let gateway = Setup::new(protocol)
            .certificate(&authority.leaf(&["*.a.example", "*.b.example"]))
            .terminate(Some("*.a.example"), Policy::default())
            .terminate(None, Policy::default())
            .proxy(Some("*.a.example"), first.address)
            .pass("own.a.example", first.address)
            .proxy(None, first.address)
            .network(2)
            .pass("x.a.example", second.address)
            .pass("*.deep.a.example", second.address)
            .pass("*.b.example", second.address)
            .start();
        let mut stream = connect(gateway.address, &client(&authority, None), "y.a.example");
        for (host, status) in [
            ("y.a.example", "200"),
            ("x.a.example", "421"),
            ("z.deep.a.example", "421"),
            // The network's own name, and one above both.
            ("own.a.example", "200"),
            ("y.a.example", "200"),
            ("c.b.example", "421"),
        ] {
            assert_eq!(ask(&mut stream, host, "").status(), status, "{host}");
        }
    }
    let gateway = Setup::new(Protocol::Https)
        .certificate(&authority.leaf(&["*.a.example"]))
        .terminate(Some("*.a.example"), Policy::default())
        .terminate(None, Policy::default())
        .proxy(Some("*.a.example"), first.address)
        .network(2)
        .pass("x.a.example", second.address)
        .start();
    let mut stream = connect(gateway.address, &client(&authority, None), "x.a.example");
    assert_eq!(ask(&mut stream, "x.a.example", "").status(), "421");
}

#[test]
fn a_declared_name_without_a_certificate_is_the_gateways_fault() {
    let authority = Authority::new("one");
    let mut gateway = Setup::new(Protocol::Tls)
        .certificate(&authority.leaf(&["a.example"]))
        .terminate(Some("a.example"), Policy::default())
        .terminate(Some("b.example"), Policy::default())
        .terminate(None, Policy::default())
        .start();
    for name in ["b.example", "c.example"] {
        let mut stream = connect(gateway.address, &client(&authority, None), name);
        let error = stream.write(b"x").unwrap_err().to_string();
        assert!(error.contains("UnrecognisedName"), "{name}: {error}");
    }
    gateway.outcomes(Outcome::NoCertificate, 1);
    gateway.outcomes(Outcome::UnknownName, 1);
    assert_eq!(Outcome::NoCertificate.fault(), Fault::Gateway);
}

#[test]
fn proofs_for_acme_are_ours_where_they_are_up_and_else_the_tenants() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let tenant = Upstream::tls(&theirs.leaf(&["b.example"]), None);
    let mut gateway = Setup::new(Protocol::Tls)
        .terminate(None, Policy::default())
        .pass("b.example", tenant.address)
        .pass("c.example", tenant.address)
        .start();
    let proven = Hostname::parse(b"c.example").unwrap();
    let proof = ours.leaf(&["c.example"]);
    gateway.certificates.set_challenge(&proven, proof.bundle());
    let config = client_with(&ours, None, &[ACME_PROTOCOL]);
    let mut stream = connect(gateway.address, &config, "c.example");
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).unwrap();
    }
    assert_eq!(stream.conn.alpn_protocol(), Some(ACME_PROTOCOL));
    assert_eq!(stream.conn.peer_certificates().unwrap()[0], proof.der);
    gateway.outcomes(Outcome::Done, 1);
    assert_eq!(tenant.connections(), 0);

    // No proof of ours is up for this one: the tenant's server hears of it.
    let config = client_with(&theirs, None, &[ACME_PROTOCOL]);
    let mut stream = connect(gateway.address, &config, "b.example");
    let _ = stream.conn.complete_io(&mut stream.sock);
    assert_eq!(tenant.connections(), 1);
    gateway.certificates.remove_challenge(&proven);
    let mut stream = connect(gateway.address, &config, "c.example");
    let _ = stream.conn.complete_io(&mut stream.sock);
    assert_eq!(tenant.connections(), 2);
}

#[test]
fn a_certificate_that_changes_is_in_force_for_the_next_connection() {
    let authority = Authority::new("one");
    let upstream = Upstream::plain();
    let (before, after) = (
        authority.leaf(&["a.example"]),
        authority.leaf(&["a.example"]),
    );
    let gateway = Setup::new(Protocol::Https)
        .certificate(&before)
        .terminate(None, Policy::default())
        .proxy(None, upstream.address)
        .start();
    let shown = |leaf: &crate::gateway::Leaf| {
        let mut stream = connect(gateway.address, &client(&authority, None), "a.example");
        assert_eq!(ask(&mut stream, "a.example", "").status(), "200");
        assert_eq!(stream.conn.peer_certificates().unwrap()[0], leaf.der);
        stream
    };
    let mut old = shown(&before);
    let now = std::time::SystemTime::now();
    gateway.certificates.add(&after.bundle(), now);
    shown(&after);
    assert_eq!(ask(&mut old, "a.example", "").status(), "200");
}

/// The gateway has a certificate for the other network's name, which its clients would believe.
#[test]
fn a_listener_of_one_network_has_no_clients_of_another() {
    let authority = Authority::new("ours");
    let (own, others) = (Upstream::plain(), Upstream::plain());
    for protocol in [Protocol::Tls, Protocol::Https] {
        let mut gateway = Setup::new(protocol)
            .certificate(&authority.leaf(&["a.example", "b.example"]))
            .terminate(Some("a.example"), Policy::default())
            .terminate(None, Policy::default())
            .proxy(Some("a.example"), own.address)
            .only(1, own.address)
            .network(2)
            .terminate(Some("b.example"), Policy::default())
            .proxy(Some("b.example"), others.address)
            .start();
        let trust = client(&authority, None);
        let mut stream = connect(gateway.address, &trust, "a.example");
        assert_eq!(ask(&mut stream, "a.example", "").status(), "200");
        let mut stream = connect(gateway.address, &trust, "a.example");
        assert_eq!(ask(&mut stream, "b.example", "").status(), "421");
        let mut stream = connect(gateway.address, &trust, "b.example");
        let error = stream.write(b"x").unwrap_err().to_string();
        assert!(error.contains("UnrecognisedName"), "{protocol:?}: {error}");
        gateway.outcomes(Outcome::UnknownName, 1);
    }
}
