//! TLS sessions with targets, which later connections resume.

use std::{
    io::{BufReader, Write as _},
    net::{TcpListener, TcpStream},
    os::fd::AsFd as _,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
};

use engine::{Origin, Protocol};
use engine_http::rules;
use engine_sys::socket;
use engine_tls::origin::{Settings, Trust};
use rustls::{HandshakeKind, ServerConfig, ServerConnection, StreamOwned};

use crate::{
    gateway::{Authority, PATIENCE, Setup, ask, provider},
    marks::{answer, marked},
    wire::{head, serve},
};

/// Content of every response.
const BYTES: usize = 10_000;

/// A target that both networks have at one address, by one name. It closes each connection behind its
/// response, so that the next request needs a handshake; one for `/fault` is cut.
fn target(authority: &Authority) -> (std::net::SocketAddr, Receiver<(String, HandshakeKind)>) {
    let leaf = authority.leaf(&["target.example"]);
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth();
    let config = builder.with_single_cert(vec![leaf.der.clone()], leaf.key());
    let config = Arc::new(config.unwrap());
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
        while socket::unacknowledged(stream.sock.as_fd()).is_ok_and(|count| count > 0) {
            std::thread::yield_now();
        }
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
    let origin = || {
        let settings = Settings {
            trust: Trust::Own(authority.roots()),
            ..Settings::default()
        };
        Origin::tls(&settings, Some("target.example")).unwrap()
    };
    let policy = rules::Policy::default;
    let gateway = Setup::new(Protocol::Http)
        .proxy_to(Some("a.example"), address, Some(origin()), policy())
        .network(2)
        .proxy_to(Some("b.example"), address, Some(origin()), policy())
        .start();
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
