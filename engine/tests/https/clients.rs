//! Clients that say who they are.

use std::io::Read;

use engine::Protocol;
use engine_core::{ids::ListenerId, outcome::Outcome};
use engine_tls::{
    Cause,
    policy::{Clients, Policy},
};

use crate::gateway::{Authority, Setup, Upstream, ask, client, connect};

fn policy(clients: Clients) -> Policy {
    Policy {
        clients,
        ..Policy::default()
    }
}

#[test]
fn a_required_certificate_is_verified_and_told_to_the_upstream() {
    let (authority, clients, upstream) = (
        Authority::new("one"),
        Authority::new("clients"),
        Upstream::plain(),
    );
    let mut gateway = Setup::new(Protocol::Https)
        .certificate(&authority.leaf(&["a.example"]))
        .terminate(None, policy(Clients::Required(clients.roots())))
        .proxy(None, upstream.address)
        .start();
    let identity = clients.leaf(&["printer.example"]);
    let config = client(&authority, Some(&identity));
    // The second time the session is resumed, and the certificate comes with it.
    for _ in 0..2 {
        let mut stream = connect(gateway.address, &config, "a.example");
        let answer = ask(
            &mut stream,
            "a.example",
            "X-Client-Cert-Subject: CN=root\r\n",
        );
        let text = answer.text();
        assert!(text.contains("Client-Cert: :MII"), "{text}");
        assert!(
            text.contains("X-Client-Cert-Subject: CN=leaf\r\n"),
            "{text}"
        );
        assert!(!text.contains("CN=root"), "{text}");
    }

    let mut nameless = connect(gateway.address, &client(&authority, None), "a.example");
    let mut byte = [0];
    let error = nameless.read(&mut byte).unwrap_err().to_string();
    assert!(error.contains("CertificateRequired"), "{error}");
    gateway.outcomes(Outcome::HandshakeFailed, 1);
    gateway.until("its cause", |counters| {
        counters.listeners[&ListenerId(0)]
            .tally
            .tls
            .failed
            .get(&Cause::CertificateMissing)
            == Some(&1)
    });
}

#[test]
fn without_a_certificate_nothing_is_told_whatever_the_client_says() {
    let (authority, clients, upstream) = (
        Authority::new("one"),
        Authority::new("clients"),
        Upstream::plain(),
    );
    let gateway = Setup::new(Protocol::Https)
        .certificate(&authority.leaf(&["a.example"]))
        .terminate(None, policy(Clients::Optional(clients.roots())))
        .proxy(None, upstream.address)
        .start();
    let mut stream = connect(gateway.address, &client(&authority, None), "a.example");
    let answer = ask(
        &mut stream,
        "a.example",
        "Client-Cert: :eA==:\r\nclient_cert: x\r\n",
    );
    assert_eq!(answer.status(), "200");
    assert!(
        !answer.text().to_lowercase().contains("client"),
        "{}",
        answer.text()
    );
}

#[test]
fn a_host_that_asks_for_more_is_not_reached_over_a_connection_that_gave_less() {
    let (authority, clients, upstream) = (
        Authority::new("one"),
        Authority::new("clients"),
        Upstream::plain(),
    );
    let gateway = Setup::new(Protocol::Https)
        .certificate(&authority.leaf(&["a.example", "b.example"]))
        .terminate(Some("a.example"), Policy::default())
        .terminate(
            Some("b.example"),
            policy(Clients::Required(clients.roots())),
        )
        .proxy(None, upstream.address)
        .start();
    let mut stream = connect(gateway.address, &client(&authority, None), "a.example");
    assert_eq!(ask(&mut stream, "a.example", "").status(), "200");
    assert_eq!(ask(&mut stream, "b.example", "").status(), "421");
    let identity = clients.leaf(&["printer.example"]);
    let mut stream = connect(
        gateway.address,
        &client(&authority, Some(&identity)),
        "b.example",
    );
    assert_eq!(ask(&mut stream, "b.example", "").status(), "200");
    assert_eq!(ask(&mut stream, "a.example", "").status(), "421");
}
