//! What is written down of requests.

use engine_core::ids::{ListenerId, NetworkId};
use engine_http::rules::Policy;
use serde_json::Value;

use crate::{
    Listener,
    front::http::tests::bench::{Gateway, Site, Upstream, eventually, listener, ok, status},
};

pub(crate) fn line(gateway: &Gateway) -> Value {
    let record = gateway.record();
    let mut line = Vec::new();
    record.line().write_json(&mut line);
    serde_json::from_slice(&line).unwrap()
}

#[test]
fn a_request_leaves_one_line() {
    let upstream = Upstream::named("hello");
    let gateway = Gateway::start(Site::proxy(&[upstream.address], Policy::default()));
    let fields = "User-Agent: t/1\r\nReferer: http://b/\r\n";
    let answer = gateway.ask(&format!(
        "PUT /x?y HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\nConnection: close\r\n\
         {fields}\r\nabc"
    ));
    assert_eq!(status(&answer), 200);
    let line = line(&gateway);
    for (key, expected) in [
        ("method", "PUT"),
        ("target", "/x?y"),
        ("host", "a.example"),
        ("protocol", "HTTP/1.1"),
        ("user_agent", "t/1"),
        ("referer", "http://b/"),
        ("network", "network-1"),
        ("route", "a.example"),
        ("upstream_addr", &upstream.address.to_string()),
    ] {
        assert_eq!(line[key], expected, "{key}: {line}");
    }
    for (key, expected) in [
        ("status", 200),
        ("attempts", 1),
        ("body_bytes_received", 3),
        ("body_bytes_sent", 5),
    ] {
        assert_eq!(line[key], expected, "{key}: {line}");
    }
    let seconds = |key: &str| line[key].as_f64().unwrap();
    assert!(seconds("upstream_header_time") <= seconds("upstream_response_time"));
    assert!(seconds("upstream_response_time") <= seconds("request_time"));
    let id = line["request_id"].as_str().unwrap();
    assert!(
        answer.contains(&format!("X-Request-Id: {id}\r\n")),
        "{answer}"
    );
    // Whoever has no trace is given one, under the name that the line has.
    let trace_id = line["trace_id"].as_str().unwrap();
    let head = &upstream.heads()[0];
    assert!(
        head.contains(&format!("traceparent: 00-{trace_id}-")),
        "{head}"
    );
    assert_eq!(line["reason"], Value::Null);
}

#[test]
fn a_trace_is_passed_on_as_it_came() {
    let upstream = Upstream::named("x");
    let gateway = Gateway::start(Site::proxy(&[upstream.address], Policy::default()));
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    gateway.get(
        "/",
        &format!("Traceparent: {parent}\r\nTracestate: a=1\r\n"),
    );
    let head = upstream.heads()[0].to_lowercase();
    assert!(
        head.contains(&format!("traceparent: {parent}\r\ntracestate: a=1\r\n")),
        "{head}"
    );
    assert_eq!(
        line(&gateway)["trace_id"],
        "4bf92f3577b34da6a3ce929d0e0e4736"
    );
}

#[test]
fn what_is_refused_leaves_a_line_with_the_reason() {
    let upstream = Upstream::named("x");
    let mut gateway = Gateway::start(Site::proxy(&[upstream.address], Policy::default()));
    let answer = gateway.ask("GET / HTTP/1.1\r\nHost: a.example\r\nHost: b\r\n\r\n");
    assert_eq!(status(&answer), 400);
    let refused = line(&gateway);
    assert_eq!(
        (&refused["status"], &refused["reason"]),
        (&400.into(), &"several_hosts".into())
    );
    assert_eq!(
        status(&gateway.ask("GET / HTTP/1.1\r\nHost: b.example\r\n\r\n")),
        404
    );
    assert_eq!(line(&gateway)["reason"], "unknown_name");
    let listener = &gateway.engine.counters().listeners[&ListenerId(0)].tally;
    assert_eq!(listener.refusals.iter().sum::<u64>(), 1);
}

#[test]
fn records_that_find_no_room_are_counted_and_hold_nobody_up() {
    let upstream = Upstream::start(|_| ok("x"));
    let mut gateway = Gateway::with_queue(Site::proxy(&[upstream.address], Policy::default()), 1);
    for _ in 0..4 {
        assert_eq!(status(&gateway.get("/", "")), 200);
    }
    eventually("all have ended", || {
        gateway.engine.counters().requests_dropped == 3
    });
}

#[test]
fn requests_are_counted_by_status_and_time() {
    let upstream = Upstream::start(|head| match head.starts_with("GET /missing ") {
        true => super::bench::Reply::Bytes("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n".into()),
        false => ok("x"),
    });
    let mut gateway = Gateway::start(Site::proxy(&[upstream.address], Policy::default()));
    for path in ["/", "/", "/missing"] {
        gateway.get(path, "");
    }
    eventually("all have ended", || {
        gateway.counted().statuses.iter().sum::<u64>() == 3
    });
    let counted = gateway.counted();
    assert_eq!(counted.statuses, [0, 0, 2, 0, 1, 0]);
    assert_eq!(counted.durations.counts.iter().sum::<u64>(), 3);
    let route = gateway.engine.counters().routes.values().next().unwrap();
    assert_eq!((route.tally.opened, route.tally.closed), (3, 3));
    assert!(route.tally.first_byte.is_some());
}

#[test]
fn a_listener_of_one_network_does_not_serve_the_hosts_of_another() {
    let upstream = Upstream::named("hello");
    let ask = |network, is_default| {
        let site = Site {
            is_default,
            ..Site::proxy(&[upstream.address], Policy::default())
        };
        let listener = Listener {
            network: Some(NetworkId(network)),
            ..listener()
        };
        let gateway = Gateway::with_listener(site, 16, listener);
        let answer = status(&gateway.get("/", ""));
        let reason = line(&gateway)["reason"].clone();
        (answer, reason)
    };
    assert_eq!(ask(1, false).0, 200);
    assert_eq!(ask(2, false), (404, "unknown_name".into()));
    // As hosts that nobody declared, they are the default's.
    assert_eq!(ask(2, true).0, 200);
}
