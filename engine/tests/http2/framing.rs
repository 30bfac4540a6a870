//! Responses without content: how a client learns that there is none (RFC 9112 section 6.3).

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
};

use h2::server;
use http::{Response, StatusCode};

use crate::{
    edge::{Edge, PATIENCE, Speaks, block_on, request, upstream},
    wire::{head, serve, whole},
};

/// What is asked, and the status that answers it.
const ASKED: &[(&str, &str, u16)] = &[
    ("GET", "/204", 204),
    ("GET", "/304", 304),
    ("HEAD", "/200", 200),
    ("GET", "/200", 200),
    ("POST", "/200", 200),
    ("GET", "/404", 404),
    // As gRPC fails at once: a head that ends the stream, with what trailers would say.
    ("POST", "/trailers-only", 200),
    // The end of the stream comes after the head.
    ("GET", "/200/later", 200),
    ("GET", "/204/later", 204),
];

fn status(path: &str) -> u16 {
    path[1..4].parse().unwrap_or(200)
}

/// Answers in HTTP/1, with all lengths that may be there.
fn in_http_1(listener: TcpListener) {
    serve(listener, |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(head) = head(&mut reader) {
            let status = status(head.split(' ').nth(1).unwrap());
            let length = match status {
                204 | 304 => "",
                _ => "Content-Length: 0\r\n",
            };
            let answer = format!("HTTP/1.1 {status} X\r\n{length}\r\n");
            (&stream).write_all(answer.as_bytes()).unwrap();
        }
    });
}

/// Answers in HTTP/2, without any length.
fn in_http_2(listener: TcpListener) {
    listener.set_nonblocking(true).unwrap();
    tokio::task::spawn_local(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((socket, _)) = listener.accept().await {
            tokio::task::spawn_local(async move {
                let mut connection = server::handshake(socket).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let path = request.uri().path();
                    let mut response = Response::new(());
                    *response.status_mut() = StatusCode::from_u16(status(path)).unwrap();
                    if path == "/trailers-only" {
                        let unimplemented = "12".parse().unwrap();
                        response.headers_mut().insert("grpc-status", unimplemented);
                    }
                    let is_later = path.ends_with("/later");
                    let mut stream = respond.send_response(response, !is_later).unwrap();
                    if is_later {
                        tokio::task::yield_now().await;
                        stream.send_data(bytes::Bytes::new(), true).unwrap();
                    }
                }
            });
        }
    });
}

/// Asks all of it at once on one connection: what is framed wrongly shifts the next answer.
fn pipelined(gateway: SocketAddr) {
    let mut stream = TcpStream::connect(gateway).unwrap();
    stream.set_read_timeout(Some(PATIENCE / 4)).unwrap();
    let mut asked = String::new();
    for (method, path, _) in ASKED.iter().chain([&("GET", "/404", 404)]) {
        asked += &format!("{method} {path} HTTP/1.1\r\nHost: a.example\r\n\r\n");
    }
    stream.write_all(asked.as_bytes()).unwrap();
    let mut reader = BufReader::new(stream);
    for (method, path, status) in ASKED {
        let head = head(&mut reader).unwrap_or_else(|| panic!("{method} {path} is not answered"));
        let told = head.to_ascii_lowercase();
        assert!(
            told.starts_with(&format!("http/1.1 {status} ")),
            "{method} {path}: {head}"
        );
        assert!(!told.contains("connection: close"), "{path}: {head}");
        let is_bare = *method == "HEAD" || matches!(status, 204 | 304);
        let is_chunked = told.contains("transfer-encoding: chunked");
        if *status == 204 {
            assert!(!told.contains("content-length") && !is_chunked, "{head}");
        }
        if is_bare {
            continue;
        }
        assert!(
            is_chunked != told.contains("content-length: 0\r\n"),
            "{method} {path} ends nowhere: {head}"
        );
        if is_chunked {
            let mut end = [0; 5];
            reader.read_exact(&mut end).unwrap();
            assert_eq!(&end, b"0\r\n\r\n");
        }
    }
    let mut last = String::new();
    reader.read_line(&mut last).unwrap();
    assert!(last.starts_with("HTTP/1.1 404"), "{last}");
}

async fn in_streams(edge: &Edge) {
    let mut client = edge.client().await;
    for (method, path, status) in ASKED {
        let asked = client.send_request(request(method, path), true);
        let response = asked.unwrap().0.await.unwrap();
        assert_eq!(response.status().as_u16(), *status, "{method} {path}");
        let (content, trailers) = whole(response.into_body()).await;
        assert!(content.is_empty() && trailers.is_none(), "{method} {path}");
    }
}

#[test]
fn what_has_no_content_says_so_whichever_way_it_came_and_goes() {
    for speaks in [Speaks::Http1, Speaks::Http2] {
        block_on(async {
            let (listener, address) = upstream();
            match speaks {
                Speaks::Http1 => in_http_1(listener),
                Speaks::Http2 => in_http_2(listener),
            }
            let edge = Edge::before(address, speaks);
            let gateway = edge.address;
            let asked = tokio::task::spawn_blocking(move || pipelined(gateway));
            asked.await.unwrap();
            in_streams(&edge).await;
        });
    }
}
