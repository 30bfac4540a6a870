//! Active checks of targets.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use engine_http::{
    health::{Check, Probe},
    rules::Policy,
};

use crate::front::http::tests::bench::{
    Gateway, Reply, Site, Upstream, body, eventually, ok, status,
};

fn checked(probe: Probe) -> Policy {
    Policy {
        check: Some(Check {
            probe,
            interval: Duration::from_millis(20),
            timeout: Duration::from_secs(1),
            rise: 2,
            fall: 2,
        }),
        ..Policy::default()
    }
}

fn by_http() -> Policy {
    checked(Probe::Http {
        path: "/health".into(),
        host: Some("a.example".into()),
        statuses: 200..=299,
    })
}

/// A server whose health can be switched.
fn patient(name: &'static str) -> (Upstream, Arc<AtomicBool>) {
    let is_well = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&is_well);
    let upstream = Upstream::start(move |head| {
        if !head.starts_with("GET /health ") {
            return ok(name);
        }
        match asked.load(SeqCst) {
            true => Reply::Bytes("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No\r\n\r\n".into()),
            false => Reply::Bytes("HTTP/1.1 500 Ill\r\nContent-Length: 0\r\n\r\n".into()),
        }
    });
    (upstream, is_well)
}

#[test]
fn a_target_that_fails_its_checks_gets_no_requests_until_it_is_well() {
    let ((one, one_is_well), (two, two_is_well)) = (patient("one"), patient("two"));
    let targets = [one.address, two.address];
    let mut gateway = Gateway::start(Site::proxy(&targets, by_http()));
    one_is_well.store(false, SeqCst);
    eventually("one is down", || {
        let down = &gateway.engine.counters().targets_down;
        down.iter().any(|down| down.target == one.address.into())
    });
    for _ in 0..6 {
        assert_eq!(body(&gateway.get("/", "")), "two");
    }
    two_is_well.store(false, SeqCst);
    eventually("all are down", || {
        gateway.engine.counters().targets_down.len() == 2
    });
    let answer = gateway.get("/", "");
    assert_eq!(status(&answer), 503);
    assert!(body(&answer).contains("\"NO_BACKEND\""), "{answer}");
    one_is_well.store(true, SeqCst);
    eventually("one is back", || status(&gateway.get("/", "")) == 200);
    let head = &one.heads()[0];
    assert!(head.contains("Host: a.example\r\n"), "{head}");
    assert!(head.contains("User-Agent: ringway-health\r\n"), "{head}");
}

#[test]
fn a_target_that_is_not_checked_any_more_is_well() {
    let (one, is_well) = patient("one");
    is_well.store(false, SeqCst);
    let mut gateway = Gateway::start(Site::proxy(&[one.address], by_http()));
    eventually("it is down", || status(&gateway.get("/", "")) == 503);
    gateway.publish(Site::proxy(&[one.address], by_http()));
    assert_eq!(
        status(&gateway.get("/", "")),
        503,
        "its health outlives a publication"
    );
    gateway.publish(Site::proxy(&[one.address], Policy::default()));
    assert_eq!(status(&gateway.get("/", "")), 200);
}

#[test]
fn a_check_by_tcp_asks_for_no_more_than_a_connection() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut gateway = Gateway::start(Site::proxy(&[address], checked(Probe::Tcp)));
    // Two probes have connected: the first of them was judged before the second began.
    drop((listener.accept().unwrap(), listener.accept().unwrap()));
    assert_eq!(gateway.engine.counters().targets_down, []);
    drop(listener);
    eventually("it is down", || {
        gateway.engine.counters().targets_down.len() == 1
    });
}
