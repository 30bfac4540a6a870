//! Upstreams that are spoken with in TLS.

use std::{io::Write as _, net::TcpStream, time::Duration};

use engine::{Failure, Origin, Protocol};
use engine_http::{
    health::{Check, Probe},
    rules,
};
use engine_tls::{
    Cause,
    origin::{Settings, Trust},
};

use crate::gateway::{Authority, Gateway, PATIENCE, Setup, Upstream, ask, read_answer};

fn gateway(upstream: &Upstream, settings: &Settings, name: Option<&str>) -> Gateway {
    let origin = Origin::tls(settings, name).unwrap();
    Setup::new(Protocol::Http)
        .proxy_to(
            None,
            upstream.address,
            Some(origin),
            rules::Policy::default(),
        )
        .start()
}

fn trusting(authority: &Authority) -> Settings {
    Settings {
        trust: Trust::Own(authority.roots()),
        ..Settings::default()
    }
}

fn connect(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn a_verified_upstream_answers_over_a_session_that_is_kept() {
    let authority = Authority::new("tenant");
    let upstream = Upstream::tls(&authority.leaf(&["inner.example"]), None);
    let gateway = gateway(&upstream, &trusting(&authority), Some("inner.example"));
    for _ in 0..2 {
        let mut stream = connect(&gateway);
        for _ in 0..3 {
            assert_eq!(ask(&mut stream, "a.example", "").status(), "200");
        }
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn an_upstream_without_a_name_is_verified_by_the_host_of_each_request() {
    let authority = Authority::new("tenant");
    let leaf = authority.leaf(&["a.example", "b.example", "127.0.0.1"]);
    let upstream = Upstream::tls(&leaf, None);
    let gateway = gateway(&upstream, &trusting(&authority), None);
    let mut stream = connect(&gateway);
    for (host, status) in [
        ("a.example", "200"),
        ("A.Example.:80", "200"),
        ("b.example", "200"),
        ("a.example", "200"),
        ("c.example", "502"),
        ("127.0.0.1", "200"),
        ("127.0.0.2", "502"),
        // No certificate can be for it.
        ("-a.example", "400"),
    ] {
        assert_eq!(ask(&mut stream, host, "").status(), status, "{host}");
    }
    // One for each of the five hosts that there can be: what proved to be one is not another.
    assert_eq!(upstream.connections(), 5);
    let snapshot = gateway.engine.snapshot();
    let mut targets = snapshot.routes().flat_map(|route| &route.targets);
    let failed = targets.find_map(Failure::last_of);
    assert_eq!(
        failed, None,
        "clients make up hosts, and the target is fine"
    );
}

#[test]
fn a_request_that_names_no_host_has_its_upstream_verified_by_the_address() {
    let authority = Authority::new("tenant");
    let upstream = Upstream::tls(&authority.leaf(&["127.0.0.1"]), None);
    let gateway = gateway(&upstream, &trusting(&authority), None);
    let mut stream = connect(&gateway);
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    assert_eq!(read_answer(&mut stream).status(), "200");
}

#[test]
fn an_upstream_that_does_not_prove_who_it_is_gets_no_request() {
    let (authority, other) = (Authority::new("tenant"), Authority::new("other"));
    let upstream = Upstream::tls(&authority.leaf(&["inner.example"]), None);
    for (settings, name, cause) in [
        (
            trusting(&authority),
            "another.example",
            Cause::CertificateName,
        ),
        (trusting(&other), "inner.example", Cause::CertificateIssuer),
        (
            Settings::default(),
            "inner.example",
            Cause::CertificateIssuer,
        ),
    ] {
        let mut gateway = gateway(&upstream, &settings, Some(name));
        let answer = ask(&mut connect(&gateway), "a.example", "");
        assert_eq!(answer.status(), "502");
        assert!(answer.text().contains("BACKEND_DOWN"), "{}", answer.text());
        let untrusted = engine_core::outcome::Outcome::UpstreamUntrusted;
        gateway.until("untrusted", |counters| {
            let fault = untrusted.fault().index();
            counters
                .routes
                .values()
                .any(|route| route.tally.faults[fault] == 1)
        });
        let snapshot = gateway.engine.snapshot();
        let mut targets = snapshot.routes().flat_map(|route| &route.targets);
        let (last, _) = targets.find_map(Failure::last_of).unwrap();
        assert_eq!((last.outcome, last.cause), (untrusted, Some(cause)));
    }
    let anyone = Settings {
        trust: Trust::Anyone,
        ..Settings::default()
    };
    let gateway = gateway(&upstream, &anyone, Some("another.example"));
    assert_eq!(ask(&mut connect(&gateway), "a.example", "").status(), "200");
}

#[test]
fn an_upstream_that_does_not_speak_tls_is_down() {
    let authority = Authority::new("tenant");
    let upstream = Upstream::plain();
    let gateway = gateway(&upstream, &trusting(&authority), Some("inner.example"));
    let status = ask(&mut connect(&gateway), "a.example", "")
        .status()
        .to_owned();
    assert!(["502", "504"].contains(&&*status), "{status}");
}

#[test]
fn the_gateway_shows_its_own_certificate_where_it_is_asked_for_one() {
    let (authority, clients) = (Authority::new("tenant"), Authority::new("clients"));
    let upstream = Upstream::tls(&authority.leaf(&["inner.example"]), Some(&clients));
    let identity = clients.leaf(&["gateway.example"]).bundle();
    let known = Settings {
        identity: Some(identity),
        ..trusting(&authority)
    };
    let knowing = gateway(&upstream, &known, Some("inner.example"));
    assert_eq!(ask(&mut connect(&knowing), "a.example", "").status(), "200");
    let nameless = gateway(&upstream, &trusting(&authority), Some("inner.example"));
    assert_eq!(
        ask(&mut connect(&nameless), "a.example", "").status(),
        "502"
    );
    let snapshot = nameless.engine.snapshot();
    let mut targets = snapshot.routes().flat_map(|route| &route.targets);
    let (last, _) = targets.find_map(Failure::last_of).unwrap();
    assert_eq!(last.cause, Some(Cause::CertificateMissing));
}

#[test]
fn a_session_that_was_verified_for_one_name_is_not_used_for_another() {
    let authority = Authority::new("tenant");
    let upstream = Upstream::tls(&authority.leaf(&["a.inner.example"]), None);
    let origin = |name| Some(Origin::tls(&trusting(&authority), Some(name)).unwrap());
    let (address, policy) = (upstream.address, rules::Policy::default);
    let gateway = Setup::new(Protocol::Http)
        .proxy_to(
            Some("a.example"),
            address,
            origin("a.inner.example"),
            policy(),
        )
        .proxy_to(
            Some("b.example"),
            address,
            origin("b.inner.example"),
            policy(),
        )
        .start();
    let mut stream = connect(&gateway);
    assert_eq!(ask(&mut stream, "a.example", "").status(), "200");
    assert_eq!(ask(&mut stream, "b.example", "").status(), "502");
    assert_eq!(ask(&mut stream, "a.example", "").status(), "200");
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn checks_are_asked_over_the_session_that_requests_would_have() {
    let (authority, other) = (Authority::new("tenant"), Authority::new("other"));
    let upstream = Upstream::tls(&authority.leaf(&["inner.example"]), None);
    let checked = |authority| {
        let origin = Origin::tls(&trusting(authority), Some("inner.example")).unwrap();
        let probe = Probe::Http {
            path: "/".into(),
            host: None,
            statuses: 200..=200,
        };
        let check = Check {
            probe,
            interval: Duration::from_millis(10),
            timeout: PATIENCE,
            rise: 1,
            fall: 1,
        };
        let policy = rules::Policy {
            check: Some(check),
            ..rules::Policy::default()
        };
        Setup::new(Protocol::Http)
            .proxy_to(None, upstream.address, Some(origin), policy)
            .start()
    };
    let mut trusts = checked(&authority);
    // The third one begins when two have said what they found.
    trusts.until("three checks", |_| upstream.connections() >= 3);
    assert_eq!(trusts.engine.counters().targets_down, []);
    drop(trusts);
    let mut distrusts = checked(&other);
    distrusts.until("down", |counters| counters.targets_down.len() == 1);
    let answer = ask(&mut connect(&distrusts), "a.example", "");
    assert_eq!(answer.status(), "503");
    assert!(answer.text().contains("NO_BACKEND"), "{}", answer.text());
}
