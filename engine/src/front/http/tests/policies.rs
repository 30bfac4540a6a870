//! What a rule says is done.

use std::{sync::Arc, time::Duration};

use engine_http::{
    answer::{Page, Pages},
    rules::{Action, Auth, Policy, Prefixes, Redirect, RedirectStatus, Timeouts},
};

use crate::front::http::tests::bench::{
    Gateway, Reply, Site, Upstream, body, ok, read_to_end, status,
};

fn from(prefix: &str) -> Prefixes {
    Prefixes::new([prefix.parse().unwrap()])
}

#[test]
fn addresses_and_passwords_are_asked_for_before_anything_is_passed_on() {
    let upstream = Upstream::named("in");
    let mut gateway = Gateway::start(Site::proxy(
        &[upstream.address],
        Policy {
            deny: from("127.0.0.0/8"),
            ..Policy::default()
        },
    ));
    let denied = gateway.get("/", "");
    assert_eq!(status(&denied), 403);
    assert!(body(&denied).contains("\"FORBIDDEN\""), "{denied}");
    let auth = Auth::new("here", &[("alice", &Auth::hash("pw", b"saltsalt"))]).unwrap();
    gateway.publish(Site::proxy(
        &[upstream.address],
        Policy {
            auth: Some(auth),
            allow: from("127.0.0.1/32"),
            ..Policy::default()
        },
    ));
    let asked = gateway.get("/", "");
    assert_eq!(status(&asked), 401);
    assert!(
        asked.contains("WWW-Authenticate: Basic realm=\"here\""),
        "{asked}"
    );
    assert!(upstream.heads().is_empty());
    // alice:pw
    let granted = gateway.get("/", "Authorization: Basic YWxpY2U6cHc=\r\n");
    assert_eq!((status(&granted), body(&granted)), (200, "in"));
    let counted = gateway.counted();
    assert_eq!(counted.statuses, [0, 0, 1, 0, 2, 0]);
}

#[test]
fn redirects_and_maintenance_answer_without_an_upstream() {
    let mut gateway = Gateway::start(Site {
        action: Action::Redirect(Redirect::to_https(RedirectStatus::PermanentRedirect, 443)),
        policy: Policy::default(),
        targets: Vec::new(),
        name_servers: Vec::new(),
        balance: engine_core::balance::Balance::default(),
        is_default: false,
    });
    let answer = gateway.get("/x?y=1", "");
    assert_eq!(status(&answer), 308);
    assert!(
        answer.contains("Location: https://a.example/x?y=1\r\n"),
        "{answer}"
    );
    gateway.publish(Site {
        action: Action::Maintenance,
        policy: Policy::default(),
        targets: Vec::new(),
        name_servers: Vec::new(),
        balance: engine_core::balance::Balance::default(),
        is_default: false,
    });
    let answer = gateway.get("/", "");
    assert_eq!(status(&answer), 503);
    assert!(answer.contains("Retry-After: "), "{answer}");
    assert!(body(&answer).contains("\"NO_BACKEND\""), "{answer}");
    let page = gateway.get("/", "Accept: text/html\r\n");
    assert!(body(&page).starts_with("<!doctype html>"), "{page}");
}

#[test]
fn a_network_has_pages_of_its_own() {
    let mut pages = Pages::default();
    let page = Page {
        content_type: "text/plain".into(),
        body: Arc::from(&b"gone fishing"[..]),
    };
    for status in [413, 502, 503] {
        pages.insert(status, page.clone()).unwrap();
    }
    let policy = Policy {
        pages: Some(Arc::new(pages)),
        body_max: Some(3),
        ..Policy::default()
    };
    let broken = Upstream::start(|_| Reply::Bytes("nonsense\r\n\r\n".into()));
    let mut gateway = Gateway::start(Site::proxy(&[broken.address], policy.clone()));
    let answer = gateway.get("/", "");
    assert_eq!((status(&answer), body(&answer)), (502, "gone fishing"));
    let answer = gateway.get("/", "Content-Length: 4\r\n");
    assert_eq!((status(&answer), body(&answer)), (413, "gone fishing"));
    gateway.publish(Site {
        action: Action::Maintenance,
        policy,
        targets: Vec::new(),
        name_servers: Vec::new(),
        balance: engine_core::balance::Balance::default(),
        is_default: false,
    });
    let answer = gateway.get("/", "");
    assert_eq!((status(&answer), body(&answer)), (503, "gone fishing"));
}

#[test]
fn content_beyond_the_bound_is_refused_however_it_is_framed() {
    let upstream = Upstream::start(|_| Reply::Silence);
    let policy = Policy {
        body_max: Some(5),
        ..Policy::default()
    };
    let gateway = Gateway::start(Site::proxy(&[upstream.address], policy));
    let head = "POST / HTTP/1.1\r\nHost: a.example\r\n";
    let answer = gateway.ask(&format!("{head}Content-Length: 6\r\n\r\n"));
    assert_eq!(status(&answer), 413);
    assert!(upstream.heads().is_empty());
    let chunks = "3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n";
    let answer = gateway.ask(&format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunks}"));
    assert_eq!(status(&answer), 413);
}

#[test]
fn an_upstream_that_thinks_for_too_long_is_given_up() {
    let upstream = Upstream::start(|_| Reply::Silence);
    for timeouts in [
        Timeouts {
            answer: Some(Duration::from_secs(1)),
            ..Timeouts::default()
        },
        Timeouts {
            whole: Some(Duration::from_secs(1)),
            ..Timeouts::default()
        },
    ] {
        let policy = Policy {
            timeouts,
            ..Policy::default()
        };
        let gateway = Gateway::start(Site::proxy(&[upstream.address], policy));
        let answer = gateway.get("/", "");
        assert_eq!(status(&answer), 504, "{timeouts:?}");
        assert!(body(&answer).contains("\"BACKEND_TIMEOUT\""), "{answer}");
    }
}

#[test]
fn a_client_that_stops_sending_its_content_is_told_so() {
    let upstream = Upstream::start(|_| Reply::Silence);
    let policy = Policy {
        timeouts: Timeouts {
            idle: Some(Duration::from_secs(1)),
            ..Timeouts::default()
        },
        ..Policy::default()
    };
    let gateway = Gateway::start(Site::proxy(&[upstream.address], policy));
    let answer = gateway.ask("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 9\r\n\r\nabc");
    assert_eq!(status(&answer), 408);
    assert_eq!(gateway.record().outcome().label(), "content_timeout");
}

#[test]
fn an_answer_that_stops_half_way_ends_the_connection() {
    let upstream =
        Upstream::start(|_| Reply::Bytes("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".into()));
    let policy = Policy {
        timeouts: Timeouts {
            idle: Some(Duration::from_secs(1)),
            ..Timeouts::default()
        },
        ..Policy::default()
    };
    let gateway = Gateway::start(Site::proxy(&[upstream.address], policy));
    let answer = gateway.get("/", "");
    assert_eq!((status(&answer), body(&answer)), (200, "abc"));
    assert_eq!(gateway.record().outcome().label(), "idle");
}

#[test]
fn an_upgraded_connection_has_an_idle_time_of_its_own() {
    let upstream = Upstream::start(|_| {
        let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade";
        Reply::Bytes(format!("{head}\r\n\r\nhello"))
    });
    let policy = Policy {
        timeouts: Timeouts {
            upgraded_idle: Some(Duration::from_secs(1)),
            whole: Some(Duration::from_secs(3600)),
            ..Timeouts::default()
        },
        ..Policy::default()
    };
    let gateway = Gateway::start(Site::proxy(&[upstream.address], policy));
    let mut client = gateway.connect();
    let request = "GET / HTTP/1.1\r\nHost: a.example\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n";
    std::io::Write::write_all(&mut client, request.as_bytes()).unwrap();
    let answer = read_to_end(&mut client);
    assert_eq!((status(&answer), body(&answer)), (101, "hello"));
    assert_eq!(gateway.record().outcome().label(), "idle");
}

#[test]
fn hsts_is_not_sent_without_tls() {
    let upstream = Upstream::start(|_| ok("x"));
    let policy = Policy {
        hsts: Some("max-age=60".into()),
        ..Policy::default()
    };
    let gateway = Gateway::start(Site::proxy(&[upstream.address], policy));
    let answer = gateway.get("/", "");
    assert!(!answer.contains("Strict-ByteStream"), "{answer}");
}
