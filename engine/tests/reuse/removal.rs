//! Connections to targets of a network that goes, and comes back.

use std::{
    io::{BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc::{Receiver, Sender, channel},
    },
};

use engine::{Origin, Protocol};
use engine_http::rules::Policy;

use crate::{
    gateway::{Gateway, PATIENCE, Setup, ask},
    marks::{answer, marked},
    wire::{
        frames::{self, DATA, END_HEADERS, END_STREAM, Frame, HEADERS, STATUS_200, frame},
        head, serve,
    },
};

/// Content of every response.
const BYTES: usize = 10_000;

/// What was said between a target and its test.
struct Talk {
    /// The number of the connection that was asked on.
    tell: Sender<usize>,
    /// Waited for before the second half of the response to `/half`.
    go: Mutex<Receiver<()>>,
}

/// A target that both networks have at one address.
struct Target {
    address: SocketAddr,
    asked: Receiver<usize>,
    go: Sender<()>,
}

impl Target {
    fn in_http_1() -> Self {
        Self::start(|listener, talk| {
            let count = AtomicUsize::new(0);
            let shared = Arc::new((talk, count));
            serve(listener, move |stream| {
                let number = shared.1.fetch_add(1, SeqCst);
                respond(&stream, number, &shared.0);
            });
        })
    }

    /// The second connection is B's, and all others are A's.
    fn in_http_2() -> Self {
        Self::start(|listener, talk| {
            let count = AtomicUsize::new(0);
            let talk = Arc::new(talk);
            frames::serve(listener, move || {
                let (number, talk) = (count.fetch_add(1, SeqCst), Arc::clone(&talk));
                let mark = match number {
                    1 => 'B',
                    _ => 'A',
                };
                move |asked: &Frame| {
                    if asked.kind != HEADERS {
                        return Ok(Vec::new());
                    }
                    let _ = talk.tell.send(number);
                    let content = marked(mark, BYTES);
                    let length = format!("\x0f\x0d\x05{BYTES}");
                    let block = [STATUS_200, length.as_bytes()].concat();
                    let head = frame(HEADERS, END_HEADERS, asked.stream, &block);
                    let data = frame(DATA, END_STREAM, asked.stream, content.as_bytes());
                    Ok([head, data].concat())
                }
            });
        })
    }

    fn start(serve: impl FnOnce(TcpListener, Talk)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ((tell, asked), (go, gone)) = (channel(), channel());
        let go_on = Mutex::new(gone);
        serve(listener, Talk { tell, go: go_on });
        Self { address, asked, go }
    }

    /// A gateway before both networks, or before B's alone.
    fn setup(
        &self,
        has_a: bool,
        before: Option<&Gateway>,
        http2: Option<&[Arc<Origin>; 2]>,
    ) -> Setup {
        let mut setup = Setup::new(Protocol::Http);
        if let Some(gateway) = before {
            setup = setup.after(gateway);
        }
        for (number, host) in [(1, "a.example"), (2, "b.example")] {
            if number == 1 && !has_a {
                setup = setup.skip_ids(1);
                continue;
            }
            setup = setup.network(number);
            setup = setup.proxy_to(Some(host), self.address, None, Policy::default());
            if let Some(origins) = http2 {
                setup = setup.speaking(&origins[usize::from(number == 2)]);
            }
        }
        setup
    }

    /// Asks by a client of its own, and gives the number of the connection that the target was asked on.
    fn ask(&self, gateway: &Gateway, mark: char) -> usize {
        let host = format!("{}.example", mark.to_ascii_lowercase());
        let answer = ask(&mut connect(gateway), &host, "");
        assert_eq!(answer.status(), "200", "{host}: {}", answer.head);
        assert_eq!(answer.text(), marked(mark, BYTES), "{host}");
        self.asked.recv_timeout(PATIENCE).unwrap()
    }
}

fn respond(mut stream: &TcpStream, number: usize, talk: &Talk) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(head) = head(&mut reader) {
        let mark = match head.contains("\r\nHost: a.example\r\n") {
            true => 'A',
            false => 'B',
        };
        let response = answer(mark, BYTES);
        let (first, rest) = response.split_at(BYTES / 2);
        let mut sent = stream.write_all(first.as_bytes());
        talk.tell.send(number).unwrap();
        if head.contains(" /half ") {
            talk.go.lock().unwrap().recv().unwrap();
        }
        sent = sent.and_then(|()| stream.write_all(rest.as_bytes()));
        if sent.is_err() {
            return;
        }
    }
}

fn connect(gateway: &Gateway) -> TcpStream {
    let stream = TcpStream::connect(gateway.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

#[test]
fn a_response_that_was_cancelled_with_its_network_is_not_gone_on_with_when_that_comes_back() {
    let target = Target::in_http_1();
    let mut gateway = target.setup(true, None, None).start();
    assert_eq!(target.ask(&gateway, 'A'), 0);
    let mut cancelled = connect(&gateway);
    write!(cancelled, "GET /half HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    assert_eq!(target.asked.recv_timeout(PATIENCE), Ok(0));
    assert_eq!(target.ask(&gateway, 'B'), 1);
    let without = target.setup(false, Some(&gateway), None);
    gateway.publish(without);
    // It ends in the middle.
    let mut got = Vec::new();
    let _ = cancelled.read_to_end(&mut got);
    assert!(got.len() < BYTES, "{} bytes", got.len());
    target.go.send(()).unwrap();
    assert_eq!(target.ask(&gateway, 'B'), 1);
    let with = target.setup(true, Some(&gateway), None);
    gateway.publish(with);
    assert_eq!(target.ask(&gateway, 'A'), 2);
    assert_eq!(target.ask(&gateway, 'B'), 1);
    assert_eq!(target.ask(&gateway, 'A'), 2);
}

#[test]
fn a_shared_connection_of_a_network_that_went_is_not_used_when_that_comes_back() {
    let target = Target::in_http_2();
    let origins = [(); 2].map(|()| Arc::new(Origin::http2()));
    let mut gateway = target.setup(true, None, Some(&origins)).start();
    assert_eq!(target.ask(&gateway, 'A'), 0);
    assert_eq!(target.ask(&gateway, 'B'), 1);
    assert_eq!(target.ask(&gateway, 'A'), 0);
    for has_a in [false, true] {
        let next = target.setup(has_a, Some(&gateway), Some(&origins));
        gateway.publish(next);
        assert_eq!(target.ask(&gateway, 'B'), 1);
    }
    assert_eq!(target.ask(&gateway, 'A'), 2);
    assert_eq!(target.ask(&gateway, 'B'), 1);
}
