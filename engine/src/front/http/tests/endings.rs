//! How connections end, and what reaches a client before.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    os::fd::AsFd as _,
    sync::atomic::{AtomicUsize, Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use engine_http::rules::Policy;
use engine_sys::socket;

use crate::{
    HalfClose,
    front::http::tests::bench::{
        Gateway, PATIENCE, Reply, Site, Upstream, eventually, listener, ok, read_to_end, status,
    },
};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";

/// The longest that it may take to notice that a client has left.
const NOTICED: Duration = Duration::from_millis(2500);

fn open(gateway: &Gateway, upstream: &Upstream) -> TcpStream {
    let before = upstream.heads().len();
    let mut client = gateway.connect();
    client.write_all(GET).unwrap();
    eventually("the upstream is asked", || upstream.heads().len() > before);
    client
}

/// Has clients leave, by an end or by a reset, and waits until each was noticed.
fn leave(clients: Vec<(TcpStream, Duration)>, upstream: &Upstream, ended: usize) {
    let count = clients.len();
    let begin = Instant::now();
    let last = clients.iter().map(|(_, after)| *after).max().unwrap();
    for (place, (client, after)) in clients.into_iter().enumerate() {
        thread::sleep((begin + after).saturating_duration_since(Instant::now()));
        if place % 3 == 0 {
            socket::reset_on_close(client.as_fd()).unwrap();
        }
    }
    let deadline = begin + last + NOTICED;
    while upstream.ended() < ended + count {
        let noticed = upstream.ended() - ended;
        assert!(
            Instant::now() < deadline,
            "{noticed} of {count} were noticed"
        );
        thread::sleep(Duration::from_millis(10));
    }
}

/// Clients of one upstream, which responds to none of them to the end, leave at random times.
fn come_and_leave(begun: Option<&'static str>) {
    const COUNT: u64 = 24;
    let upstream = Upstream::start(move |_| {
        begun.map_or(Reply::Silence, |bytes| Reply::Bytes(bytes.to_owned()))
    });
    let gateway = Gateway::start(Site::proxy(&[upstream.address], Policy::default()));
    let clients = (0..COUNT).map(|place| {
        thread::sleep(Duration::from_millis(place % 5));
        // Spread over the time between two looks, in another order than they came.
        let after = Duration::from_millis(place * 7919 % COUNT * 50);
        (open(&gateway, &upstream), after)
    });
    let mut clients: Vec<(TcpStream, Duration)> = clients.collect();
    clients.sort_by_key(|(_, after)| *after);
    leave(clients, &upstream, 0);
    for _ in 0..COUNT {
        assert_eq!(
            gateway.record().outcome().label(),
            "client_reset",
            "{begun:?}"
        );
    }
}

#[test]
fn all_clients_that_leave_are_noticed_whenever_they_do() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let closing = "HTTP/1.1 200 OK\r\n\r\nabc";
    thread::scope(|scope| {
        for begun in [None, Some(chunked), Some(closing)] {
            scope.spawn(move || come_and_leave(begun));
        }
    });
}

#[test]
fn a_client_is_watched_from_its_last_attempt_on() {
    let asked = AtomicUsize::new(0);
    let upstream = Upstream::start(move |_| match asked.fetch_add(1, SeqCst) {
        0 => {
            // Long enough for the exchange's first look at the time.
            thread::sleep(Duration::from_millis(1500));
            Reply::Close
        }
        _ => Reply::Silence,
    });
    let gateway = Gateway::start(Site::proxy(&[upstream.address], Policy::default()));
    let client = open(&gateway, &upstream);
    eventually("it is asked again", || upstream.heads().len() == 2);
    leave(vec![(client, Duration::from_millis(100))], &upstream, 0);
}

#[test]
fn a_client_that_left_with_its_next_request_sent_is_noticed() {
    let upstream = Upstream::start(|_| Reply::Silence);
    let gateway = Gateway::start(Site::proxy(&[upstream.address], Policy::default()));
    let mut client = open(&gateway, &upstream);
    for _ in 0..1000 {
        client.write_all(GET).unwrap();
    }
    leave(vec![(client, Duration::from_millis(100))], &upstream, 0);
}

#[test]
fn a_client_that_leaves_during_a_drain_is_not_waited_for() {
    let upstream = Upstream::start(|_| Reply::Silence);
    let gateway = Gateway::start(Site::proxy(&[upstream.address], Policy::default()));
    let client = open(&gateway, &upstream);
    let begin = Instant::now();
    let leaves = thread::spawn(move || {
        thread::sleep(Duration::from_millis(200));
        drop(client);
    });
    gateway.engine.drain(PATIENCE);
    let took = begin.elapsed();
    assert!(took < Duration::from_millis(200) + NOTICED, "{took:?}");
    leaves.join().unwrap();
}

/// What a client gets that sends one request and half-closes, from an upstream that takes its time.
fn half_closed(half_close: HalfClose, reply: impl Fn() -> Reply + Send + Sync + 'static) -> String {
    let upstream = Upstream::start(move |_| reply());
    let site = Site::proxy(&[upstream.address], Policy::default());
    let listener = crate::Listener {
        half_close,
        ..listener()
    };
    let gateway = Gateway::with_listener(site, 16, listener);
    let mut client = open(&gateway, &upstream);
    client.shutdown(Shutdown::Write).unwrap();
    read_to_end(&mut client)
}

#[test]
fn a_client_that_half_closes_gets_its_response_where_the_listener_responds() {
    let slow = || {
        thread::sleep(Duration::from_millis(2500));
        ok("at last")
    };
    let answer = half_closed(HalfClose::Respond, slow);
    let asked = "HTTP/1.1 100 Continue\r\n\r\n";
    let answer = answer.strip_prefix(asked).unwrap_or(&answer);
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(answer.ends_with("at last"), "{answer}");
    let quick = half_closed(HalfClose::Respond, || ok("at once"));
    assert!(quick.starts_with("HTTP/1.1 200 OK"), "{quick}");
    assert_eq!(half_closed(HalfClose::Abort, slow), "");
}

#[test]
fn a_client_that_half_closes_gets_chunks_that_take_their_time() {
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listening.local_addr().unwrap();
    thread::spawn(move || {
        let (mut upstream, _) = listening.accept().unwrap();
        let _ = upstream.read(&mut [0; 4096]);
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
        upstream.write_all(head.as_bytes()).unwrap();
        thread::sleep(Duration::from_secs(3));
        upstream.write_all(b"3\r\ndef\r\n0\r\n\r\n").unwrap();
    });
    let gateway = Gateway::start(Site::proxy(&[target], Policy::default()));
    let mut client = gateway.connect();
    client.write_all(GET).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let answer = read_to_end(&mut client);
    // The zero asked whether it is there.
    assert!(
        answer.ends_with("3\r\nabc\r\n03\r\ndef\r\n0\r\n\r\n"),
        "{answer}"
    );
}

/// What a client gets that looks for its response only when all of its content is sent.
fn after_sending_all(gateway: &Gateway) -> String {
    const CONTENT_BYTES: usize = 16 << 20;
    let mut client = gateway.connect();
    let head =
        format!("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {CONTENT_BYTES}\r\n\r\n");
    client.write_all(head.as_bytes()).unwrap();
    // Slower than the gateway answers, and in more time than it takes to read a response.
    for _ in 0..16 {
        client.write_all(&[b'x'; CONTENT_BYTES / 16]).unwrap();
        thread::sleep(Duration::from_millis(60));
    }
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_client_that_still_sends_gets_an_early_response() {
    let refuses = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig";
    let early = Upstream::start(|_| Reply::Bytes(refuses.to_owned()));
    let gateway = Gateway::start(Site::proxy(&[early.address], Policy::default()));
    let answer = after_sending_all(&gateway);
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("big"),
        "{answer}"
    );
    let small = Policy {
        body_max: Some(1000),
        ..Policy::default()
    };
    let own = Gateway::start(Site::proxy(&[early.address], small));
    let answer = after_sending_all(&own);
    assert!(answer.starts_with("HTTP/1.1 413 ") && answer.contains("BODY_TOO_LARGE"));
}

/// What a client that reads slowly gets of a response that its target breaks off by a reset, and
/// whether it gets a reset itself.
fn broken_off(head: &'static str) -> (Vec<u8>, bool) {
    const SENT_BYTES: usize = 500_000;
    let listening = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listening.local_addr().unwrap();
    let target_ends = thread::spawn(move || {
        let (mut upstream, _) = listening.accept().unwrap();
        let _ = upstream.read(&mut [0; 4096]);
        upstream.write_all(head.as_bytes()).unwrap();
        upstream.write_all(&[b'x'; SENT_BYTES]).unwrap();
        eventually("all of it is at the gateway", || {
            socket::unacknowledged(upstream.as_fd()).unwrap() == 0
        });
        socket::reset_on_close(upstream.as_fd()).unwrap();
    });
    let gateway = Gateway::start(Site::proxy(&[target], Policy::default()));
    let mut client = gateway.connect();
    client.write_all(GET).unwrap();
    target_ends.join().unwrap();
    thread::sleep(Duration::from_millis(100));
    let (mut got, mut piece) = (Vec::new(), [0; 20_000]);
    let is_reset = loop {
        thread::sleep(Duration::from_millis(2));
        match client.read(&mut piece) {
            Ok(0) => break false,
            Ok(count) => got.extend_from_slice(&piece[..count]),
            Err(_) => break true,
        }
    };
    drop(client);
    assert_eq!(gateway.record().outcome().label(), "upstream_reset");
    let record = gateway.connections.recv_timeout(PATIENCE).unwrap();
    assert_eq!(record.outcome.label(), "upstream_reset");
    let begin = got.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    assert_eq!(status(std::str::from_utf8(&got[..begin]).unwrap()), 200);
    let content = got.split_off(begin);
    assert_eq!(
        content.iter().filter(|byte| **byte == b'x').count(),
        SENT_BYTES
    );
    (content, is_reset)
}

#[test]
fn what_a_target_sent_before_it_broke_off_arrives_and_then_the_end_says_so() {
    let (_, is_reset) = broken_off("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n");
    assert!(!is_reset, "the length says that some is missing");
    let (content, is_reset) =
        broken_off("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nF4240\r\n");
    assert!(!is_reset && !content.ends_with(b"0\r\n\r\n"));
    let (_, is_reset) = broken_off("HTTP/1.1 200 OK\r\n\r\n");
    assert!(is_reset, "nothing else says that some is missing");
}
