//! TLS sessions with targets: those that later connections resume, and those of idle connections.

use std::{
    io::{BufReader, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    os::fd::AsFd as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use engine::{Origin, Protocol};
use engine_http::rules;
use engine_sys::socket;
use engine_tls::origin::{Settings, Trust};
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

use crate::{
    gateway::{Authority, Gateway, PATIENCE, Setup, ask, provider, read_answer},
    marks::{answer, marked},
    wire::{head, serve},
};

/// Content of every response.
const BYTES: usize = 10_000;

type Stream = StreamOwned<ServerConnection, TcpStream>;

fn config(authority: &Authority) -> Arc<ServerConfig> {
    let leaf = authority.leaf(&["target.example"]);
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    let config = builder.with_single_cert(vec![leaf.der.clone()], leaf.key());
    Arc::new(config.unwrap())
}

/// A gateway of two networks that have somebody at one address, by one name.
fn gateway(authority: &Authority, address: SocketAddr) -> Gateway {
    let origin = || {
        let settings = Settings {
            trust: Trust::Own(authority.roots()),
            ..Settings::default()
        };
        Origin::tls(&settings, Some("target.example")).unwrap()
    };
    let policy = rules::Policy::default;
    Setup::new(Protocol::Http)
        .proxy_to(Some("a.example"), address, Some(origin()), policy())
        .network(2)
        .proxy_to(Some("b.example"), address, Some(origin()), policy())
        .start()
}

/// Waits until what was sent is with the other side, or that one is gone.
fn until_arrived(socket: &TcpStream) {
    let is_under_way = || socket::unacknowledged(socket.as_fd()).is_ok_and(|count| count > 0);
    while is_under_way() && !socket::heard(socket.as_fd()).reset {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A target that closes each connection behind its
/// response, so that the next request needs a handshake; one for `/fault` is cut.
fn target(authority: &Authority) -> (SocketAddr, Receiver<(String, HandshakeKind)>) {
    let config = config(authority);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = channel();
    serve(listener, move |socket| respond(socket, &config, &tell));
    (address, told)
}

fn respond(socket: TcpStream, config: &Arc<ServerConfig>, tell: &Sender<(String, HandshakeKind)>) {
    let session = ServerConnection::new(Arc::clone(config)).unwrap();
    let mut stream = BufReader::new(StreamOwned::new(session, socket));
    let Some(asked) = head(&mut stream) else {
        return;
    };
    let mut stream = stream.into_inner();
    let kind = stream.conn.handshake_kind().unwrap();
    let mark = match asked.contains("\r\nHost: a.example\r\n") {
        true => 'A',
        false => 'B',
    };
    let closing = "200 OK\r\nConnection: close";
    let answer = answer(mark, BYTES).replacen("200 OK", closing, 1);
    let is_fault = asked.contains(" /fault ");
    let answer = match is_fault {
        true => &answer[..BYTES / 2],
        false => &answer,
    };
    stream.write_all(answer.as_bytes()).unwrap();
    stream.flush().unwrap();
    tell.send((asked, kind)).unwrap();
    if is_fault {
        // Not before the half of it has arrived: it would be thrown away.
        until_arrived(&stream.sock);
        socket::reset_on_close(stream.sock.as_fd()).unwrap();
        return;
    }
    stream.conn.send_close_notify();
    let _ = stream.flush();
}

#[test]
fn a_session_with_a_target_is_resumed_by_its_own_network_alone() {
    let authority = Authority::new("targets");
    let (address, told) = target(&authority);
    let gateway = gateway(&authority, address);
    let asks = |host: &str, mark| {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let answer = ask(&mut stream, host, "");
        assert_eq!(answer.text(), marked(mark, BYTES), "{host}");
        told.recv_timeout(PATIENCE).unwrap().1
    };
    assert_eq!(asks("a.example", 'A'), HandshakeKind::Full);
    assert_eq!(asks("a.example", 'A'), HandshakeKind::Resumed);
    let mut broken = TcpStream::connect(gateway.address).unwrap();
    write!(broken, "GET /fault HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    let (asked, kind) = told.recv_timeout(PATIENCE).unwrap();
    assert!(asked.starts_with("GET /fault "), "{asked}");
    assert_eq!(kind, HandshakeKind::Resumed);
    // B has not spoken with anybody yet, whoever has.
    assert_eq!(asks("b.example", 'B'), HandshakeKind::Full);
    assert_eq!(asks("a.example", 'A'), HandshakeKind::Resumed);
    assert_eq!(asks("b.example", 'B'), HandshakeKind::Resumed);
}

/// How much of A's late response arrives while its connection rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Late {
    /// All of its records.
    Whole,
    /// The beginning of its first record, which nobody can read yet.
    Begun,
}

/// What was said between a target and its test.
struct Talk {
    tell: Sender<(usize, String)>,
    arrive: Sender<()>,
    /// Waited for before the late response.
    go: Mutex<Receiver<()>>,
}

/// Responds on a connection of this number for as long as it lasts, and behind `/fault` once more.
fn respond_again(stream: Stream, number: usize, late: Late, talk: &Talk) {
    let mut stream = BufReader::new(stream);
    while let Some(asked) = head(&mut stream) {
        let mark = match asked.contains("\r\nHost: a.example\r\n") {
            true => 'A',
            false => 'B',
        };
        let response = answer(mark, BYTES);
        let out = stream.get_mut();
        let sent = out
            .write_all(response.as_bytes())
            .and_then(|()| out.flush());
        if sent.is_err() {
            return;
        }
        let is_fault = asked.contains(" /fault ");
        talk.tell.send((number, asked)).unwrap();
        if !is_fault {
            continue;
        }
        talk.go.lock().unwrap().recv().unwrap();
        out.conn.writer().write_all(response.as_bytes()).unwrap();
        let mut records = Vec::new();
        while out.conn.wants_write() {
            out.conn.write_tls(&mut records).unwrap();
        }
        let count = match late {
            Late::Whole => records.len(),
            Late::Begun => 100,
        };
        out.sock.write_all(&records[..count]).unwrap();
        until_arrived(&out.sock);
        talk.arrive.send(()).unwrap();
    }
}

fn goes_to_no_other_request(late: Late) {
    let authority = Authority::new("targets");
    let config = config(&authority);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let ((tell, told), (arrive, arrived), (go, gone)) = (channel(), channel(), channel());
    let talk = Talk {
        tell,
        arrive,
        go: Mutex::new(gone),
    };
    let shared = Arc::new((talk, AtomicUsize::new(0)));
    serve(listener, move |socket| {
        let session = ServerConnection::new(Arc::clone(&config)).unwrap();
        let number = shared.1.fetch_add(1, SeqCst);
        respond_again(StreamOwned::new(session, socket), number, late, &shared.0);
    });
    let gateway = gateway(&authority, address);
    let asks = |host: &str, path: &str, mark| {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").unwrap();
        let answer = read_answer(&mut stream);
        assert_eq!(answer.text(), marked(mark, BYTES), "{host}");
        let (number, asked) = told.recv_timeout(PATIENCE).unwrap();
        assert!(asked.starts_with(&format!("GET {path} ")), "{asked}");
        number
    };
    assert_eq!(asks("a.example", "/", 'A'), 0);
    assert_eq!(asks("a.example", "/fault", 'A'), 0, "it is used again");
    go.send(()).unwrap();
    arrived.recv_timeout(PATIENCE).unwrap();
    assert_eq!(asks("b.example", "/", 'B'), 1);
    assert_eq!(asks("a.example", "/", 'A'), 2);
    assert_eq!(asks("b.example", "/", 'B'), 1);
}

#[test]
fn records_that_come_while_a_connection_rests_go_to_no_other_request() {
    goes_to_no_other_request(Late::Whole);
}

#[test]
fn half_a_record_that_comes_while_a_connection_rests_goes_to_no_other_request() {
    goes_to_no_other_request(Late::Begun);
}
