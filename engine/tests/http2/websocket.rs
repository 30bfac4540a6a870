//! WebSockets towards targets of HTTP/2 (RFC 8441), from clients of either version.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use bytes::Bytes;
use engine_http::rules::Policy;
use h2::{RecvStream, ext::Protocol, server};
use http::{Method, StatusCode};

use crate::edge::{Edge, PATIENCE, Speaks, block_on, request, upstream};

/// What a target does with requests.
#[derive(Clone, Copy)]
enum Target {
    /// It takes protocols inside streams, and says `hello` and what it hears.
    Takes,
    /// It takes them, but not from this client.
    Forbids,
    /// It does not know of them.
    Ignorant,
}

fn serve(listener: std::net::TcpListener, target: Target) {
    listener.set_nonblocking(true).unwrap();
    tokio::task::spawn_local(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((socket, _)) = listener.accept().await {
            let mut builder = server::Builder::new();
            if !matches!(target, Target::Ignorant) {
                builder.enable_connect_protocol();
            }
            tokio::task::spawn_local(async move {
                let handshake = builder.handshake::<_, Bytes>(socket);
                let mut connection = handshake.await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::task::spawn_local(answer(target, request, respond));
                }
            });
        }
    });
}

async fn answer(
    target: Target,
    request: http::Request<RecvStream>,
    mut respond: server::SendResponse<Bytes>,
) {
    let (parts, mut content) = request.into_parts();
    assert!(!parts.headers.contains_key("upgrade"), "{parts:?}");
    assert!(!parts.headers.contains_key("connection"), "{parts:?}");
    let mut response = http::Response::new(());
    if matches!(target, Target::Ignorant) {
        assert_eq!(parts.method, Method::GET);
        let mut stream = respond.send_response(response, false).unwrap();
        stream
            .send_data(Bytes::from_static(b"plain"), true)
            .unwrap();
        return;
    }
    assert_eq!(parts.method, Method::CONNECT);
    let protocol = parts.extensions.get::<Protocol>().unwrap();
    assert_eq!(protocol.as_str(), "websocket");
    assert_eq!(parts.uri.path(), "/chat");
    assert!(!parts.headers.contains_key("sec-websocket-key"));
    assert_eq!(parts.headers["sec-websocket-version"], "13");
    if matches!(target, Target::Forbids) {
        *response.status_mut() = StatusCode::FORBIDDEN;
        let mut stream = respond.send_response(response, false).unwrap();
        stream.send_data(Bytes::from_static(b"no"), true).unwrap();
        return;
    }
    let chosen = "chat".parse().unwrap();
    response
        .headers_mut()
        .insert("sec-websocket-protocol", chosen);
    let mut stream = respond.send_response(response, false).unwrap();
    stream
        .send_data(Bytes::from_static(b"hello"), false)
        .unwrap();
    while let Some(heard) = content.data().await {
        let heard = heard.unwrap();
        let taken = content.flow_control().release_capacity(heard.len());
        taken.unwrap();
        stream.send_data(heard, false).unwrap();
    }
    stream.send_data(Bytes::new(), true).unwrap();
}

/// Opens a WebSocket as a client of HTTP/1, says something if it is open, and gives the head and all
/// that followed it.
fn over_http1(gateway: SocketAddr) -> (String, Vec<u8>) {
    let mut client = TcpStream::connect(gateway).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
        .write_all(
            b"GET /chat HTTP/1.1\r\nHost: a.example\r\nContent-Length: 0\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .unwrap();
    let mut reader = BufReader::new(client.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
    }
    if head.starts_with("HTTP/1.1 101 ") {
        let mut first = [0; 5];
        reader.read_exact(&mut first).unwrap();
        assert_eq!(&first, b"hello");
        client.write_all(b" and good").unwrap();
        let mut echoed = [0; 9];
        reader.read_exact(&mut echoed).unwrap();
        assert_eq!(&echoed, b" and good");
        client.write_all(b" bye").unwrap();
    }
    client.shutdown(Shutdown::Write).unwrap();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    (head, rest)
}

/// What opens a WebSocket in HTTP/2.
fn chat() -> http::Request<()> {
    let mut asked = request("CONNECT", "/chat");
    let version = "13".parse().unwrap();
    asked.headers_mut().insert("sec-websocket-version", version);
    let protocol = Protocol::from_static("websocket");
    asked.extensions_mut().insert(protocol);
    asked
}

/// The same as a client of HTTP/2: the status, and what followed.
async fn over_http2(edge: &Edge) -> (StatusCode, Vec<u8>) {
    let mut client = edge.client().await;
    // The settings say that it is possible.
    while !client.is_extended_connect_protocol_enabled() {
        tokio::task::yield_now().await;
    }
    let (response, mut stream) = client.send_request(chat(), false).unwrap();
    let (parts, mut content) = response.await.unwrap().into_parts();
    assert!(!parts.headers.contains_key("sec-websocket-accept"));
    if parts.status.is_success() {
        let said = Bytes::from_static(b" and good bye");
        stream.send_data(said, true).unwrap();
    }
    let mut heard = Vec::new();
    while let Some(piece) = content.data().await {
        heard.extend_from_slice(&piece.unwrap());
    }
    (parts.status, heard)
}

/// Runs a client of HTTP/1 beside the target.
async fn ask(edge: &Edge) -> (String, Vec<u8>) {
    let gateway = edge.address;
    let asked = tokio::task::spawn_blocking(move || over_http1(gateway));
    asked.await.unwrap()
}

#[test]
fn a_websocket_of_http1_opens_in_a_stream_of_its_target() {
    block_on(async {
        let (listener, address) = upstream();
        serve(listener, Target::Takes);
        let mut edge = Edge::before(address, Speaks::Http2);
        let (head, rest) = ask(&edge).await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        for field in [
            "Connection: Upgrade\r\n",
            "Upgrade: websocket\r\n",
            "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n",
            "sec-websocket-protocol: chat\r\n",
        ] {
            assert_eq!(head.matches(field).count(), 1, "{field} in {head}");
        }
        assert!(
            !head.to_ascii_lowercase().contains("content-length"),
            "{head}"
        );
        assert_eq!(rest, b" bye");
        edge.route(|route| route.tally.bytes_in > 13 && route.tally.bytes_out > 18);
    });
}

#[test]
fn a_websocket_in_a_stream_opens_in_a_stream_of_its_target() {
    block_on(async {
        let (listener, address) = upstream();
        serve(listener, Target::Takes);
        let edge = Edge::before(address, Speaks::Http2);
        let (status, heard) = over_http2(&edge).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(heard, b"hello and good bye");
    });
}

#[test]
fn a_target_that_refuses_a_websocket_says_why() {
    block_on(async {
        let (listener, address) = upstream();
        serve(listener, Target::Forbids);
        let edge = Edge::before(address, Speaks::Http2);
        let (head, rest) = ask(&edge).await;
        assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
        assert!(String::from_utf8_lossy(&rest).contains("no"), "{rest:?}");
        let (status, heard) = over_http2(&edge).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
        assert_eq!(heard, b"no");
    });
}

#[test]
fn a_target_that_knows_of_no_protocols_gets_the_request_without() {
    block_on(async {
        let (listener, address) = upstream();
        serve(listener, Target::Ignorant);
        let edge = Edge::before(address, Speaks::Http2);
        let (head, rest) = ask(&edge).await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert!(String::from_utf8_lossy(&rest).contains("plain"), "{rest:?}");
        // Success would tell a client of HTTP/2 that the protocol was switched.
        let (status, _) = over_http2(&edge).await;
        assert_eq!(status, StatusCode::BAD_GATEWAY);
    });
}

#[test]
fn a_silent_websocket_ends_when_its_rule_says() {
    let mut policy = Policy::default();
    policy.timeouts.upgraded_idle = Some(Duration::from_secs(1));
    block_on(async {
        let (listener, address) = upstream();
        serve(listener, Target::Takes);
        let edge = Edge::under(address, Speaks::Http2, policy);
        let mut client = edge.client().await;
        while !client.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        let (response, _stream) = client.send_request(chat(), false).unwrap();
        let mut content = response.await.unwrap().into_body();
        let hello = content.data().await.unwrap().unwrap();
        assert_eq!(hello, b"hello"[..]);
        let begun = Instant::now();
        assert!(content.data().await.unwrap().is_err(), "it is reset");
        let waited = begun.elapsed();
        assert!(waited < Duration::from_secs(5), "{waited:?}");
    });
}
