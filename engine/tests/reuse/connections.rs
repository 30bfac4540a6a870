//! Idle connections to targets.

use std::{
    collections::BTreeSet,
    io::{BufReader, Read as _, Write as _},
    net::TcpStream,
    os::fd::AsFd as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use engine_sys::socket;
use http::{Request, StatusCode};

use crate::{
    edge::{Edge, PATIENCE, Speaks, block_on, upstream},
    marks::{answer, assert_same, marked},
    waits::until_all_ended,
    wire::{head, serve, whole},
};

/// Content of every response.
const BYTES: usize = 100_000;

/// What is asked at `/fault`, and what the target does with it.
#[derive(Clone)]
struct Fault {
    method: &'static str,
    /// Fields, and what follows the head.
    rest: &'static str,
    /// What the target says at once.
    first: String,
    /// What it says when its response has arrived where it was to go.
    late: String,
    /// The response does not end: its client resets its connection behind the head.
    is_open: bool,
}

impl Fault {
    fn get(first: impl Into<String>, late: impl Into<String>) -> Self {
        Self {
            method: "GET",
            rest: "\r\n",
            first: first.into(),
            late: late.into(),
            is_open: false,
        }
    }

    fn head(first: impl Into<String>, late: impl Into<String>) -> Self {
        Self {
            method: "HEAD",
            ..Self::get(first, late)
        }
    }

    fn upgrade(first: impl Into<String>, late: impl Into<String>) -> Self {
        Self {
            rest: "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            ..Self::get(first, late)
        }
    }
}

/// Somebody whom both networks have at one address.
struct Target {
    edge: Edge,
    /// Heads, and the number of the connection that each came on.
    asked: Arc<Mutex<Vec<(usize, String)>>>,
    go: Sender<()>,
    arrived: Receiver<()>,
}

impl Target {
    fn new(fault: &Fault) -> Self {
        let (listener, address) = upstream();
        let (go, gone) = channel();
        let (arrive, arrived) = channel();
        let asked: Arc<Mutex<Vec<(usize, String)>>> = Arc::default();
        let (log, fault, gone) = (Arc::clone(&asked), fault.clone(), Mutex::new(gone));
        let context = Arc::new((log, fault, gone, AtomicUsize::new(0)));
        serve(listener, move |stream| {
            let (log, fault, gone, count) = &*context;
            let number = count.fetch_add(1, SeqCst);
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while let Some(head) = head(&mut reader) {
                log.lock().unwrap().push((number, head.clone()));
                if head.contains(" /fault ") {
                    send(&stream, &fault.first);
                    let _ = gone.lock().unwrap().recv();
                    send(&stream, &fault.late);
                    arrive.send(()).unwrap();
                    continue;
                }
                let mark = match head.contains("\r\nHost: a.example\r\n") {
                    true => 'A',
                    false => 'B',
                };
                send(&stream, &answer(mark, BYTES));
            }
        });
        Self {
            edge: Edge::between(address, Speaks::Http1),
            asked,
            go,
            arrived,
        }
    }

    /// Asks for `/` by a client of its own, which gets its network's bytes and nothing else. Gives the
    /// number of the connection that the target was asked on.
    fn ask(&self, near: Speaks, mark: char) -> usize {
        let host = format!("{}.example", mark.to_ascii_lowercase());
        let got = match near {
            Speaks::Http1 => {
                let asked = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
                let got = self.ask_raw(&asked);
                let end = got.windows(4).position(|four| four == b"\r\n\r\n");
                let (head, content) = got.split_at(end.unwrap() + 4);
                assert!(
                    head.starts_with(b"HTTP/1.1 200 "),
                    "{}",
                    head.escape_ascii()
                );
                content.to_vec()
            }
            Speaks::Http2 => block_on(async {
                let asked = Request::get(format!("http://{host}/")).body(()).unwrap();
                let (status, content) = in_stream(&self.edge, asked).await;
                assert_eq!(status, StatusCode::OK);
                content
            }),
        };
        assert_same(&got, &marked(mark, BYTES), &host);
        let asked = self.asked.lock().unwrap();
        let (number, head) = asked.last().unwrap();
        assert!(head.starts_with("GET / HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nHost: {host}\r\n")), "{head}");
        *number
    }

    fn ask_raw(&self, asked: &str) -> Vec<u8> {
        let mut client = self.connect();
        client.write_all(asked.as_bytes()).unwrap();
        let mut got = Vec::new();
        client.read_to_end(&mut got).unwrap();
        got
    }

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.edge.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    /// Has A's client ask what the fault is in the answer to.
    fn fault(&self, near: Speaks, fault: &Fault) {
        let (method, rest) = (fault.method, fault.rest);
        if near == Speaks::Http2 {
            block_on(async {
                let uri = "http://a.example/fault";
                let asked = Request::builder().method(method).uri(uri).body(()).unwrap();
                let (_, content) = in_stream(&self.edge, asked).await;
                assert!(content.iter().all(|byte| *byte != b'B'));
            });
            return;
        }
        let close = match fault.is_open {
            true => "",
            false => "Connection: close\r\n",
        };
        // An upgrade names Connection itself.
        let close = match rest.contains("Upgrade") {
            true => "",
            false => close,
        };
        let asked = format!("{method} /fault HTTP/1.1\r\nHost: a.example\r\n{close}{rest}");
        let mut client = self.connect();
        client.write_all(asked.as_bytes()).unwrap();
        head(&mut BufReader::new(&client)).expect("it is answered");
        if fault.is_open {
            socket::reset_on_close(client.as_fd()).unwrap();
            drop(client);
        } else if !close.is_empty() {
            client.read_to_end(&mut Vec::new()).unwrap();
        }
    }

    fn assert_used_again(&self, near: Speaks) {
        assert_eq!(self.ask(near, 'A'), 0);
        assert_eq!(self.ask(near, 'A'), 0, "{near:?}");
    }

    /// What is asked behind the fault goes over other connections, which are used again.
    fn assert_given_up(&self, near: Speaks, fault: &Fault) {
        let broken = self.number_of_fault();
        // What may not be repeated is not given a connection that has rested for long.
        assert!(broken == 0 || fault.method == "POST", "{near:?}");
        let (others, own) = (self.ask(near, 'B'), self.ask(near, 'A'));
        assert!(![others, own].contains(&broken), "{near:?}");
        assert_eq!(self.ask(near, 'B'), others, "{near:?}");
        assert_eq!(self.ask(near, 'A'), own, "{near:?}");
        self.assert_apart();
    }

    /// The number of the connection that the fault was on.
    fn number_of_fault(&self) -> usize {
        let asked = self.asked.lock().unwrap();
        let fault = asked.iter().find(|(_, head)| head.contains(" /fault "));
        fault.unwrap().0
    }

    /// No connection led both networks' requests.
    fn assert_apart(&self) {
        let asked = self.asked.lock().unwrap();
        let of = |host: &str| -> BTreeSet<usize> {
            let host = format!("\r\nHost: {host}\r\n");
            let own = asked.iter().filter(|(_, head)| head.contains(&host));
            own.map(|(number, _)| *number).collect()
        };
        assert!(of("a.example").is_disjoint(&of("b.example")), "{asked:?}");
    }

    /// Lets the late bytes go, and waits until they have arrived.
    fn arrive(&self) {
        self.go.send(()).unwrap();
        self.arrived.recv_timeout(PATIENCE).unwrap();
    }
}

/// Sends bytes, and waits until they are with the other side, or that one is gone.
fn send(mut stream: &TcpStream, bytes: &str) {
    if stream.write_all(bytes.as_bytes()).is_err() {
        return;
    }
    let deadline = Instant::now() + PATIENCE;
    while socket::unacknowledged(stream.as_fd()).is_ok_and(|count| count > 0) {
        assert!(Instant::now() < deadline, "the other side takes nothing");
        if socket::heard(stream.as_fd()).reset {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Asks on a connection of its own.
async fn in_stream(edge: &Edge, asked: Request<()>) -> (StatusCode, Vec<u8>) {
    let mut client = edge.client().await;
    let (response, _) = client.send_request(asked, true).unwrap();
    let (parts, content) = response.await.unwrap().into_parts();
    (parts.status, whole(content).await.0)
}

/// A's connection is used for A's requests and B's for B's, until the fault in A's. Then A's is used for
/// nobody's any longer.
fn leaves_nothing(nears: &[Speaks], fault: &Fault) {
    for near in nears {
        let target = Target::new(fault);
        target.assert_used_again(*near);
        target.fault(*near, fault);
        target.arrive();
        target.assert_given_up(*near, fault);
    }
}

const BOTH: &[Speaks] = &[Speaks::Http1, Speaks::Http2];

#[test]
fn bytes_behind_a_response_go_to_no_other_request() {
    let twice = answer('A', 10) + &answer('A', 20);
    leaves_nothing(BOTH, &Fault::get(twice, ""));
}

#[test]
fn bytes_that_come_while_a_connection_rests_go_to_no_other_request() {
    leaves_nothing(BOTH, &Fault::get(answer('A', 10), answer('A', 20)));
}

#[test]
fn content_of_a_response_to_head_goes_to_no_other_request() {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n");
    let content = answer('A', 20);
    leaves_nothing(BOTH, &Fault::head(format!("{head}{content}"), ""));
    leaves_nothing(BOTH, &Fault::head(head, content));
}

#[test]
fn content_of_a_response_that_has_none_goes_to_no_other_request() {
    let content = answer('A', 20);
    let length = content.len();
    for status in ["204 No Content", "304 Not Modified"] {
        for length in [String::new(), format!("Content-Length: {length}\r\n")] {
            let head = format!("HTTP/1.1 {status}\r\n{length}\r\n");
            leaves_nothing(BOTH, &Fault::get(format!("{head}{content}"), ""));
            // One that announces content is not used again at all.
            leaves_nothing(BOTH, &Fault::get(head, content.clone()));
        }
    }
}

#[test]
fn bytes_behind_a_refused_upgrade_go_to_no_other_request() {
    let refused = "HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n";
    let frames = answer('A', 20);
    leaves_nothing(&[Speaks::Http1], &Fault::upgrade(refused, frames.clone()));
    leaves_nothing(
        &[Speaks::Http1],
        &Fault::upgrade(format!("{refused}{frames}"), ""),
    );
}

#[test]
fn a_connection_that_was_upgraded_is_used_for_no_other_request() {
    let switched = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                    Upgrade: websocket\r\n\r\n";
    let fault = Fault {
        is_open: true,
        ..Fault::upgrade(switched, answer('A', 20))
    };
    leaves_nothing(&[Speaks::Http1], &fault);
}

#[test]
fn the_rest_of_a_response_whose_client_left_goes_to_no_other_request() {
    // Too much to be passed on before it shows that nobody takes it.
    let rest = answer('A', 8 << 20);
    let length = rest.len() + 5;
    let begun = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\nAAAAA");
    let fault = Fault {
        is_open: true,
        ..Fault::get(begun, rest)
    };
    let mut target = Target::new(&fault);
    target.assert_used_again(Speaks::Http1);
    target.fault(Speaks::Http1, &fault);
    // It is on its way while others ask: it ends when its connection does.
    target.go.send(()).unwrap();
    until_all_ended(&mut target.edge.engine);
    target.assert_given_up(Speaks::Http1, &fault);
    target.arrived.recv_timeout(PATIENCE).unwrap();
}

/// The target would take the next request's head for what is missing.
#[test]
fn a_request_whose_content_was_not_all_sent_is_followed_by_no_other_one() {
    let fault = Fault {
        method: "POST",
        rest: "Content-Length: 1000\r\n\r\n",
        ..Fault::get(answer('A', 10), "")
    };
    leaves_nothing(&[Speaks::Http1], &fault);
}

/// What a client sends before it is told that another protocol is spoken would be requests to the
/// target (RFC 8441 section 5).
#[test]
fn early_bytes_of_a_websocket_that_is_refused_in_a_stream_go_to_nobody() {
    let refused = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    let target = Target::new(&Fault::get(refused, ""));
    assert_eq!(target.ask(Speaks::Http2, 'A'), 0);
    block_on(async {
        let mut client = target.edge.client().await;
        while !client.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        let asked = Request::connect("http://a.example/fault");
        let protocol = h2::ext::Protocol::from_static("websocket");
        let asked = asked.extension(protocol).body(()).unwrap();
        let (response, mut stream) = client.send_request(asked, false).unwrap();
        let early = "GET /early HTTP/1.1\r\nHost: a.example\r\n\r\n";
        stream
            .send_data(Bytes::from_static(early.as_bytes()), false)
            .unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
    });
    target.arrive();
    for mark in ['B', 'A', 'B'] {
        target.ask(Speaks::Http2, mark);
    }
    target.assert_apart();
    let asked = target.asked.lock().unwrap();
    let is_early = |(_, head): &(usize, String)| head.contains("early");
    assert!(!asked.iter().any(is_early), "{asked:?}");
}
