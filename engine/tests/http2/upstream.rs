//! Upstreams of HTTP/2.

use std::{
    cell::Cell,
    io::{Read as _, Write as _},
    net::TcpStream,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use engine_http::{
    health::{Check, Probe},
    rules::Policy,
};
use h2::server;
use http::{HeaderMap, StatusCode};

use crate::edge::{Edge, PATIENCE, Speaks, block_on, request, upstream};

/// Serves an upstream that echoes content and ends with trailers, as gRPC does. Gives how many
/// connections it was asked for.
pub(crate) fn serve(listener: std::net::TcpListener) -> Rc<Cell<usize>> {
    let connections = Rc::new(Cell::new(0));
    let counted = Rc::clone(&connections);
    listener.set_nonblocking(true).unwrap();
    tokio::task::spawn_local(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((socket, _)) = listener.accept().await {
            counted.set(counted.get() + 1);
            tokio::task::spawn_local(async move {
                let mut connection = server::handshake(socket).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::task::spawn_local(echo(request, respond));
                }
            });
        }
    });
    connections
}

async fn echo(request: http::Request<h2::RecvStream>, mut respond: server::SendResponse<Bytes>) {
    let (parts, mut content) = request.into_parts();
    assert_eq!(parts.uri.authority().unwrap(), "a.example");
    assert!(parts.headers.contains_key("x-forwarded-for"), "{parts:?}");
    assert!(!parts.headers.contains_key("connection"), "{parts:?}");
    let te = parts.headers.get("te").cloned();
    let mut response = http::Response::new(());
    response
        .headers_mut()
        .insert("content-type", "application/grpc".parse().unwrap());
    let mut stream = respond.send_response(response, false).unwrap();
    while let Some(piece) = content.data().await {
        let piece = piece.unwrap();
        content
            .flow_control()
            .release_capacity(piece.len())
            .unwrap();
        stream.send_data(piece, false).unwrap();
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", "0".parse().unwrap());
    if let Some(te) = te {
        trailers.insert("x-te", te);
    }
    if let Some(asked) = content.trailers().await.unwrap() {
        trailers.extend(asked);
    }
    stream.send_trailers(trailers).unwrap();
}

#[test]
fn a_call_of_grpc_passes_with_its_trailers() {
    block_on(async {
        let (listener, address) = upstream();
        let connections = serve(listener);
        let edge = Edge::before(address, Speaks::Http2);
        let mut client = edge.client().await;
        for _ in 0..20 {
            let mut asked = request("POST", "/a.Service/Call");
            asked
                .headers_mut()
                .insert("te", "trailers".parse().unwrap());
            let (response, mut stream) = client.send_request(asked, false).unwrap();
            stream
                .send_data(Bytes::from_static(b"message"), true)
                .unwrap();
            let (parts, mut content) = response.await.unwrap().into_parts();
            assert_eq!(parts.status, StatusCode::OK);
            assert_eq!(parts.headers["content-type"], "application/grpc");
            assert_eq!(content.data().await.unwrap().unwrap(), "message");
            assert!(content.data().await.is_none());
            let trailers = content.trailers().await.unwrap().unwrap();
            assert_eq!(trailers["grpc-status"], "0");
            assert_eq!(trailers["x-te"], "trailers");
        }
        assert_eq!(connections.get(), 1, "requests share a connection");
    });
}

#[test]
fn a_client_of_http_1_is_served_by_an_upstream_of_http_2() {
    block_on(async {
        let (listener, address) = upstream();
        let _connections = serve(listener);
        let edge = Edge::before(address, Speaks::Http2);
        let gateway = edge.address;
        let client = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(gateway).unwrap();
            let mut said = Vec::new();
            for framing in [
                "Content-Length: 7\r\n\r\nmessage",
                "Transfer-Encoding: chunked\r\n\r\n7\r\nmessage\r\n0\r\nX-Sum: 9\r\n\r\n",
            ] {
                let request = format!("POST / HTTP/1.1\r\nHost: a.example\r\n{framing}");
                stream.write_all(request.as_bytes()).unwrap();
                let before = said.len();
                while !said[before..].ends_with(b"\r\n\r\n")
                    || !said[before..].windows(11).any(|it| it == b"grpc-status")
                {
                    let mut piece = [0; 1024];
                    let count = stream.read(&mut piece).unwrap();
                    assert!(count > 0, "{}", String::from_utf8_lossy(&said));
                    said.extend_from_slice(&piece[..count]);
                }
            }
            String::from_utf8(said).unwrap()
        });
        let said = client.await.unwrap();
        assert_eq!(said.matches("HTTP/1.1 200 OK").count(), 2, "{said}");
        assert_eq!(
            said.matches("Transfer-Encoding: chunked").count(),
            2,
            "{said}"
        );
        assert_eq!(said.matches("7\r\nmessage\r\n").count(), 2, "{said}");
        assert!(said.contains("x-sum: 9"), "{said}");
    });
}

/// Serves an upstream of HTTP/2 that answers everything with a status, and checks what asks.
fn answer(listener: std::net::TcpListener, status: Rc<Cell<StatusCode>>) {
    listener.set_nonblocking(true).unwrap();
    tokio::task::spawn_local(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((socket, _)) = listener.accept().await {
            let status = Rc::clone(&status);
            tokio::task::spawn_local(async move {
                let mut connection = server::handshake(socket).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let uri = request.uri();
                    assert_eq!((uri.path(), uri.scheme_str()), ("/healthz", Some("http")));
                    assert_eq!(uri.authority().unwrap(), "health.example");
                    let mut response = http::Response::new(());
                    *response.status_mut() = status.get();
                    respond.send_response(response, true).unwrap();
                }
            });
        }
    });
}

#[test]
fn an_upstream_of_http_2_is_checked_in_http_2() {
    let (listener, address) = upstream();
    let check = Check {
        probe: Probe::Http {
            path: "/healthz".into(),
            host: Some("health.example".into()),
            statuses: 200..=299,
        },
        interval: Duration::from_millis(10),
        timeout: PATIENCE,
        rise: 1,
        fall: 1,
    };
    let policy = Policy {
        check: Some(check),
        ..Policy::default()
    };
    let mut edge = Edge::under(address, Speaks::Http2, policy);
    block_on(async {
        let status = Rc::new(Cell::new(StatusCode::SERVICE_UNAVAILABLE));
        answer(listener, Rc::clone(&status));
        for (said, down) in [(StatusCode::SERVICE_UNAVAILABLE, 1), (StatusCode::OK, 0)] {
            status.set(said);
            while edge.engine.counters().targets_down.len() != down {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    });
}
