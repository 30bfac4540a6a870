//! Requests over TLS that ends at the gateway.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    thread,
    time::Duration,
};

use engine::{DriverChoice, Protocol};
use engine_core::{ids::ListenerId, outcome::Outcome};
use engine_http::rules;
use engine_tls::policy::{Policy, UnknownName};

use crate::gateway::{Authority, Setup, Upstream, ask, client, client_with, connect, read_answer};

#[test]
fn requests_go_on_over_one_connection_under_both_drivers() {
    for driver in [DriverChoice::IoUring, DriverChoice::Epoll] {
        let (authority, upstream) = (Authority::new("one"), Upstream::plain());
        let mut gateway = Setup::new(Protocol::Https)
            .driver(driver)
            .certificate(&authority.leaf(&["a.example"]))
            .terminate(None, Policy::default())
            .proxy(Some("a.example"), upstream.address)
            .start();
        let mut stream = connect(gateway.address, &client(&authority, None), "a.example");
        for _ in 0..3 {
            let answer = ask(&mut stream, "a.example", "");
            assert_eq!(answer.status(), "200");
            assert!(
                answer.text().contains("X-Forwarded-Proto: https\r\n"),
                "{}",
                answer.text()
            );
        }
        assert_eq!(upstream.connections(), 1);
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        gateway.outcomes(Outcome::Done, 1);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty());
    }
}

#[test]
fn large_contents_pass_both_ways_and_slow_readers_lose_nothing() {
    let (authority, upstream) = (Authority::new("one"), Upstream::plain());
    let mut gateway = Setup::new(Protocol::Https)
        .certificate(&authority.leaf(&["a.example"]))
        .terminate(None, Policy::default())
        .proxy(Some("a.example"), upstream.address)
        .start();
    let mut stream = connect(gateway.address, &client(&authority, None), "a.example");
    let content: Vec<u8> = (0..20_000_000_u32)
        .map(|number| number.to_le_bytes()[1])
        .collect();
    for _ in 0..2 {
        let head = format!(
            "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {}\r\n\r\n",
            content.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        if let Err(error) = stream.write_all(&content) {
            panic!("{error}: {:?}", gateway.engine.counters());
        }
        stream.flush().unwrap();
        let answer = read_answer(&mut stream);
        assert_eq!(answer.status(), "200");
        assert!(
            answer.content.ends_with(&content),
            "{} bytes",
            answer.content.len()
        );
    }
}

#[test]
fn sessions_are_resumed_and_handshakes_counted() {
    let (authority, upstream) = (Authority::new("one"), Upstream::plain());
    let mut gateway = Setup::new(Protocol::Https)
        .certificate(&authority.leaf(&["a.example"]))
        .terminate(None, Policy::default())
        .proxy(Some("a.example"), upstream.address)
        .start();
    let config = client(&authority, None);
    for _ in 0..2 {
        let mut stream = connect(gateway.address, &config, "a.example");
        assert_eq!(ask(&mut stream, "a.example", "").status(), "200");
    }
    gateway.until("a new session and a resumed one", |counters| {
        let done = &counters.listeners[&ListenerId(0)].tally.tls.done;
        let count = |resumed| {
            let counted = done.iter().filter(|(agreed, _)| {
                agreed.resumed == resumed
                    && agreed.version == "TLSv1.3"
                    && agreed.group == "X25519MLKEM768"
            });
            counted.map(|(_, count)| *count).sum::<u64>()
        };
        count(false) == 1 && count(true) == 1
    });
}

#[test]
fn a_host_that_the_certificate_is_not_for_is_misdirected() {
    let (authority, upstream) = (Authority::new("one"), Upstream::plain());
    let gateway = Setup::new(Protocol::Https)
        .certificate(&authority.leaf(&["a.example", "b.example"]))
        .certificate(&authority.leaf(&["c.example"]))
        .terminate(None, Policy::default())
        .proxy(None, upstream.address)
        .start();
    let mut stream = connect(gateway.address, &client(&authority, None), "a.example");
    assert_eq!(ask(&mut stream, "A.example:443", "").status(), "200");
    assert_eq!(ask(&mut stream, "b.example", "").status(), "200");
    for host in ["c.example", "unknown.example", "127.0.0.1"] {
        let answer = ask(&mut stream, host, "");
        assert_eq!(answer.status(), "421", "{host}");
        assert!(answer.text().contains("MISDIRECTED"), "{}", answer.text());
    }
}

#[test]
fn strict_transport_security_is_said_over_tls() {
    let (authority, upstream) = (Authority::new("one"), Upstream::plain());
    let policy = rules::Policy {
        hsts: Some("max-age=31536000".into()),
        ..rules::Policy::default()
    };
    let gateway = Setup::new(Protocol::Https)
        .certificate(&authority.leaf(&["a.example"]))
        .terminate(None, Policy::default())
        .proxy_to(Some("a.example"), upstream.address, None, policy)
        .start();
    let mut stream = connect(gateway.address, &client(&authority, None), "a.example");
    let answer = ask(&mut stream, "a.example", "");
    assert!(
        answer
            .head
            .contains("Strict-Transport-Security: max-age=31536000\r\n"),
        "{}",
        answer.head
    );
}

#[test]
fn unknown_names_get_the_alert_or_the_default_certificate() {
    let authority = Authority::new("one");
    let upstream = Upstream::plain();
    let default = authority.leaf(&["default.example"]);
    for (unknown, is_answered) in [(UnknownName::Refuse, false), (UnknownName::Default, true)] {
        let setup = Setup::new(Protocol::Https);
        setup.certificates.set_default(&[default.bundle()]);
        let policy = Policy {
            unknown,
            ..Policy::default()
        };
        let mut gateway = setup
            .terminate(None, policy)
            .proxy(None, upstream.address)
            .start();
        let mut stream = connect(gateway.address, &client(&authority, None), "x.example");
        let error = stream.write(b"x").unwrap_err().to_string();
        if is_answered {
            assert!(error.contains("not valid for name"), "{error}");
            gateway.outcomes(Outcome::HandshakeFailed, 1);
        } else {
            assert!(error.contains("UnrecognisedName"), "{error}");
            gateway.outcomes(Outcome::UnknownName, 1);
        }
    }
}

#[test]
fn a_client_that_is_silent_in_its_handshake_does_not_stay() {
    let authority = Authority::new("one");
    let mut gateway = Setup::new(Protocol::Https)
        .certificate(&authority.leaf(&["a.example"]))
        .terminate(None, Policy::default())
        .start();
    let mut stream = connect(gateway.address, &client(&authority, None), "a.example");
    let mut hello = Vec::new();
    stream.conn.write_tls(&mut hello).unwrap();
    stream.sock.write_all(&hello).unwrap();
    gateway.outcomes(Outcome::HandshakeTimeout, 1);
}

#[test]
fn protocols_that_are_not_in_common_end_the_handshake() {
    let authority = Authority::new("one");
    let mut gateway = Setup::new(Protocol::Https)
        .certificate(&authority.leaf(&["a.example"]))
        .terminate(None, Policy::default())
        .start();
    let config = client_with(&authority, None, &[b"imap"]);
    let mut stream = connect(gateway.address, &config, "a.example");
    let error = stream.write(b"x").unwrap_err().to_string();
    assert!(error.contains("NoApplicationProtocol"), "{error}");
    gateway.outcomes(Outcome::HandshakeFailed, 1);
    gateway.until("its cause", |counters| {
        counters.listeners[&ListenerId(0)]
            .tally
            .tls
            .failed
            .get(&engine_tls::Cause::Protocol)
            == Some(&1)
    });
}

#[test]
fn a_client_of_http_is_told_that_tls_is_spoken_here() {
    for protocol in [Protocol::Https, Protocol::Tls] {
        let (authority, upstream) = (Authority::new("one"), Upstream::plain());
        let mut gateway = Setup::new(protocol)
            .certificate(&authority.leaf(&["a.example"]))
            .terminate(Some("a.example"), Policy::default())
            .proxy(Some("a.example"), upstream.address)
            .start();
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
            "{answer}"
        );
        assert!(answer.contains("https://"), "{answer}");
        gateway.outcomes(Outcome::NotTls, 1);
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream.write_all(b"SSH-2.0-x\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.is_empty(), "{answer:?}");
    }
}

#[test]
fn a_client_in_tls_that_still_sends_gets_an_early_answer() {
    let (authority, upstream) = (Authority::new("one"), Upstream::plain());
    let mut gateway = Setup::new(Protocol::Https)
        .certificate(&authority.leaf(&["a.example"]))
        .terminate(None, Policy::default())
        .proxy(Some("a.example"), upstream.address)
        .start();
    let mut stream = connect(gateway.address, &client(&authority, None), "a.example");
    // Refused by its head; what follows is sent before anybody looks for an answer.
    let head =
        "POST / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\nContent-Length: 4000000\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..40 {
        stream.write_all(&[b'x'; 100_000]).unwrap();
        thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(read_answer(&mut stream).status(), "400");
    drop(stream);
    gateway.outcomes(Outcome::BadRequest, 1);
}

/// Whether an upstream that sends `begun` and no more is let go when its client leaves, by
/// `close_notify` and the end of its stream.
fn is_let_go(begun: &'static str) -> bool {
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listening.local_addr().unwrap();
    let (asked, is_asked) = mpsc::channel();
    let (ended, is_ended) = mpsc::channel();
    thread::spawn(move || {
        let (mut upstream, _) = listening.accept().unwrap();
        let _ = upstream.read(&mut [0; 4096]);
        upstream.write_all(begun.as_bytes()).unwrap();
        asked.send(()).unwrap();
        while upstream.read(&mut [0; 4096]).is_ok_and(|count| count > 0) {}
        ended.send(()).unwrap();
    });
    let authority = Authority::new("one");
    let gateway = Setup::new(Protocol::Https)
        .certificate(&authority.leaf(&["a.example"]))
        .terminate(None, Policy::default())
        .proxy(Some("a.example"), target)
        .start();
    let mut stream = connect(gateway.address, &client(&authority, None), "a.example");
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .unwrap();
    is_asked.recv_timeout(Duration::from_secs(5)).unwrap();
    thread::sleep(Duration::from_millis(300));
    stream.conn.send_close_notify();
    stream.flush().unwrap();
    drop(stream);
    is_ended.recv_timeout(Duration::from_millis(2500)).is_ok()
}

#[test]
fn a_client_in_tls_that_leaves_is_noticed() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    for begun in ["", chunked] {
        assert!(is_let_go(begun), "{begun:?}");
    }
}
