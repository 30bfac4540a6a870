//! Upstream connections that rest, and which requests they are for.

use std::{io::Write as _, thread, time::Duration};

use engine_http::rules::Policy;

use crate::front::http::tests::bench::{
    Gateway, Reply, Site, Upstream, eventually, ok, read_to_end, status,
};

/// Two requests of one client, with a pause that is longer than an upstream needs to have closed a
/// connection without our knowing.
fn two(gateway: &Gateway, request: &str) -> String {
    let mut client = gateway.connect();
    let head = format!("{request} / HTTP/1.1\r\nHost: a.example\r\n");
    let content = "Content-Length: 3\r\n";
    let (first, last) = match request {
        "GET" => (
            format!("{head}\r\n"),
            format!("{head}Connection: close\r\n\r\n"),
        ),
        _ => (
            format!("{head}{content}\r\nabc"),
            format!("{head}{content}Connection: close\r\n\r\nabc"),
        ),
    };
    client.write_all(first.as_bytes()).unwrap();
    thread::sleep(Duration::from_millis(50));
    client.write_all(last.as_bytes()).unwrap();
    read_to_end(&mut client)
}

#[test]
fn only_what_may_be_repeated_goes_over_a_connection_that_has_rested() {
    for (method, connections) in [("GET", 1), ("POST", 2), ("PATCH", 2), ("PUT", 2)] {
        let upstream = Upstream::named("hello");
        let gateway = Gateway::start(Site::proxy(&[upstream.address], Policy::default()));
        let answers = two(&gateway, method);
        assert_eq!(answers.matches("200 OK").count(), 2, "{answers}");
        assert_eq!(upstream.connections(), connections, "{method}");
    }
}

#[test]
fn requests_that_may_not_be_repeated_leave_no_more_connections_than_they_need_at_once() {
    let upstream = Upstream::named("hello");
    let gateway = Gateway::start(Site::proxy(&[upstream.address], Policy::default()));
    for _ in 0..5 {
        assert_eq!(two(&gateway, "POST").matches("200 OK").count(), 2);
    }
    let kept = || upstream.connections() - upstream.ended();
    eventually("one is kept", || kept() == 1);
    assert!(upstream.connections() > 5, "{}", upstream.connections());
}

#[test]
fn an_upstream_that_keeps_its_connections_for_no_time_is_not_asked_over_them_again() {
    let upstream = Upstream::start(|_| {
        Reply::Bytes("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nKeep-Alive: timeout=0\r\n\r\n".into())
    });
    let gateway = Gateway::start(Site::proxy(&[upstream.address], Policy::default()));
    assert_eq!(two(&gateway, "GET").matches("200 OK").count(), 2);
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn every_response_has_a_date_and_no_request_without_content_an_expectation() {
    let upstream = Upstream::named("hello");
    let gateway = Gateway::start(Site::proxy(&[upstream.address], Policy::default()));
    let answer = gateway.get("/", "Expect: 100-continue\r\n");
    assert_eq!(status(&answer), 200);
    assert!(
        answer.contains("\r\nDate: ") && answer.contains(" GMT\r\n"),
        "{answer}"
    );
    assert!(
        !upstream.heads()[0].contains("Expect"),
        "{:?}",
        upstream.heads()
    );
    let own = gateway.ask("GET / HTTP/1.1\r\n\r\n");
    assert_eq!(status(&own), 400);
    assert!(own.contains("\r\nDate: "), "{own}");
}

#[test]
fn what_no_rule_is_for_may_have_no_other_path_than_what_a_rule_is_for() {
    let upstream = Upstream::start(|head| ok(head.split(' ').nth(1).unwrap_or("")));
    let gateway = Gateway::start(Site {
        is_default: true,
        ..Site::proxy(&[upstream.address], Policy::default())
    });
    let ask = |path: &str| {
        gateway.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: nobody.example\r\nConnection: close\r\n\r\n"
        ))
    };
    let answer = ask("/a/./b/../%63");
    assert!(answer.ends_with("\r\n\r\n/a/c"), "{answer}");
    for path in ["/..", "/%00", "/%", "/a\\b"] {
        assert_eq!(status(&ask(path)), 400, "{path}");
    }
    assert_eq!(upstream.heads().len(), 1);
}

#[test]
fn a_target_that_there_is_no_way_to_is_down_at_once() {
    // A broadcast address, which no connection leads to.
    let nowhere = "255.255.255.255:80".parse().unwrap();
    let gateway = Gateway::start(Site::proxy(&[nowhere], Policy::default()));
    let answer = gateway.get("/", "");
    assert_eq!(status(&answer), 502, "{answer}");
    assert!(answer.contains("BACKEND_DOWN"), "{answer}");
    let record = gateway.record();
    assert_eq!(record.outcome().label(), "unreachable");
    let reason = record.line().reason.unwrap();
    assert!(
        ["network_unreachable", "forbidden_locally"].contains(&reason),
        "{reason}"
    );
}

#[test]
fn the_record_of_a_connection_says_what_moved_on_it() {
    let upstream = Upstream::named("hello");
    let gateway = Gateway::start(Site::proxy(&[upstream.address], Policy::default()));
    let answers = two(&gateway, "GET");
    let record = gateway
        .connections
        .recv_timeout(super::bench::PATIENCE)
        .unwrap();
    let asked: usize = upstream.heads().iter().map(String::len).sum();
    assert_eq!(record.bytes_in, asked as u64);
    assert!(record.bytes_out > 0 && record.bytes_out < answers.len() as u64);
    assert_eq!(record.outcome.label(), "done");
    let own = gateway.ask("GET / HTTP/1.1\r\n\r\n");
    let record = gateway
        .connections
        .recv_timeout(super::bench::PATIENCE)
        .unwrap();
    assert_eq!((record.bytes_in, record.bytes_out), (0, own.len() as u64));
    assert_eq!(record.outcome.label(), "bad_request");
}
