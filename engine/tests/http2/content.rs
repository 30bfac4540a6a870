//! Requests and responses between clients of HTTP/2 and upstreams of HTTP/1.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex, mpsc::channel},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use engine_core::{ids::RouteId, outcome::Fault};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, StatusCode};

use crate::edge::{Edge, PATIENCE, Speaks, block_on, request, upstream};

/// Serves each connection of an upstream by a thread of its own.
fn serve(listener: TcpListener, each: impl Fn(TcpStream) + Clone + Send + 'static) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let each = each.clone();
            thread::spawn(move || each(stream));
        }
    });
}

/// Reads a head with its empty line; `None` at the end of the connection.
fn head(reader: &mut impl io::BufRead) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    Some(head)
}

/// All content of a response, and its trailers.
async fn whole(mut content: RecvStream) -> (Vec<u8>, Option<HeaderMap>) {
    let mut bytes = Vec::new();
    while let Some(piece) = content.data().await {
        let piece = piece.unwrap();
        bytes.extend_from_slice(&piece);
        content
            .flow_control()
            .release_capacity(piece.len())
            .unwrap();
    }
    (bytes, content.trailers().await.unwrap())
}

/// Sends all of it, as the windows allow.
async fn send_all(stream: &mut SendStream<Bytes>, mut bytes: Bytes) {
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        let room = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await;
        let room = room.unwrap().unwrap().min(bytes.len());
        stream.send_data(bytes.split_to(room), false).unwrap();
    }
}

#[test]
fn a_request_passes_with_its_content_and_its_trailers_both_ways() {
    let (listener, address) = upstream();
    serve(listener, |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(head) = head(&mut reader) {
            assert!(
                head.starts_with("POST /a?b HTTP/1.1\r\nHost: a.example\r\n"),
                "{head}"
            );
            assert!(head.contains("Transfer-Encoding: chunked"), "{head}");
            assert!(
                head.contains("cookie: a=b; c=d") || head.contains("Cookie: a=b; c=d"),
                "{head}"
            );
            let mut body = String::new();
            while !body.ends_with("0\r\nX-Sum: 7\r\n\r\n")
                && !body.ends_with("0\r\nx-sum: 7\r\n\r\n")
            {
                assert_ne!(reader.read_line(&mut body).unwrap(), 0, "{body}");
            }
            let answer = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n\
                          HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-End\r\n\
                          Connection: X-Hop\r\nX-Hop: 1\r\nX-Kept: 2\r\n\r\n\
                          4\r\nfour\r\n5;ext=1\r\n five\r\n0\r\nX-End: yes\r\nContent-Type: no\r\n\r\n";
            (&stream).write_all(answer.as_bytes()).unwrap();
        }
    });
    let edge = Edge::before(address, Speaks::Http1);
    block_on(async {
        let mut client = edge.client().await;
        let mut asked = request("POST", "/a?b");
        for crumb in ["a=b", "c=d"] {
            asked.headers_mut().append("cookie", crumb.parse().unwrap());
        }
        let (mut response, mut stream) = client.send_request(asked, false).unwrap();
        send_all(&mut stream, Bytes::from_static(b"some content")).await;
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        stream.send_trailers(trailers).unwrap();
        let hints = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
        let hints = hints.unwrap().unwrap();
        assert_eq!(hints.status().as_u16(), 103);
        assert_eq!(hints.headers()["link"], "</a.css>");
        let (parts, content) = response.await.unwrap().into_parts();
        assert_eq!(parts.status, StatusCode::OK);
        assert_eq!(parts.headers["x-kept"], "2");
        for hop in ["connection", "x-hop", "transfer-encoding"] {
            assert!(!parts.headers.contains_key(hop), "{hop}");
        }
        assert!(parts.headers.contains_key("x-request-id"));
        let (bytes, trailers) = whole(content).await;
        assert_eq!(bytes, b"four five");
        let trailers = trailers.unwrap();
        assert_eq!(trailers["x-end"], "yes");
        assert_eq!(trailers.len(), 1, "{trailers:?}");
    });
}

#[test]
fn a_hundred_requests_share_a_connection_and_their_upstreams_are_kept() {
    let (listener, address) = upstream();
    serve(listener, |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(head) = head(&mut reader) {
            let path = head.split(' ').nth(1).unwrap();
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}",
                path.len()
            );
            (&stream).write_all(answer.as_bytes()).unwrap();
        }
    });
    let mut edge = Edge::before(address, Speaks::Http1);
    block_on(async {
        let mut client = edge.client().await;
        for round in 0..3 {
            let mut responses = Vec::new();
            for number in 0..100 {
                let path = format!("/{round}/{number}");
                let (response, _) = client.send_request(request("GET", &path), true).unwrap();
                responses.push((path, response));
            }
            for (path, response) in responses {
                let (bytes, _) = whole(response.await.unwrap().into_body()).await;
                assert_eq!(bytes, path.as_bytes());
            }
        }
    });
    let route = edge.route(|route| route.tally.closed == 300);
    assert_eq!(route.tally.opened, 300);
}

#[test]
fn head_has_the_length_and_no_content() {
    let (listener, address) = upstream();
    serve(listener, |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while head(&mut reader).is_some() {
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n";
            (&stream).write_all(answer.as_bytes()).unwrap();
        }
    });
    let edge = Edge::before(address, Speaks::Http1);
    block_on(async {
        let mut client = edge.client().await;
        for _ in 0..2 {
            let (response, _) = client.send_request(request("HEAD", "/"), true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.headers()["content-length"], "1234");
            assert!(response.body().is_end_stream());
        }
    });
}

#[test]
fn a_client_that_does_not_read_holds_its_upstream_back_and_nobody_else() {
    const SIZE: usize = 64 << 20;
    let (listener, address) = upstream();
    serve(listener, |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let head = head(&mut reader).unwrap();
        if head.starts_with("GET /small") {
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            (&stream).write_all(answer.as_bytes()).unwrap();
            return;
        }
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {SIZE}\r\n\r\n");
        (&stream).write_all(answer.as_bytes()).unwrap();
        let piece = vec![7; 1 << 20];
        for _ in 0..SIZE / piece.len() {
            (&stream).write_all(&piece).unwrap();
        }
    });
    let mut edge = Edge::before(address, Speaks::Http1);
    block_on(async {
        let mut client = edge.client().await;
        let (response, _) = client.send_request(request("GET", "/large"), true).unwrap();
        let mut large = response.await.unwrap().into_body();
        let first = large.data().await.unwrap().unwrap();
        // The other one has the connection's window, as the first one used its own up.
        let mut other = edge.client().await;
        let (response, _) = other.send_request(request("GET", "/small"), true).unwrap();
        assert_eq!(whole(response.await.unwrap().into_body()).await.0, b"ok");
        let held = edge
            .route(|route| route.tally.bytes_out > 0)
            .tally
            .bytes_out;
        assert!(held < 4 << 20, "{held} bytes were taken for nobody");
        large.flow_control().release_capacity(first.len()).unwrap();
        let (rest, _) = whole(large).await;
        assert_eq!(first.len() + rest.len(), SIZE);
    });
}

#[test]
fn an_upload_waits_for_an_upstream_that_does_not_take_it() {
    const SIZE: usize = 32 << 20;
    let (listener, address) = upstream();
    let (go, gone) = channel::<()>();
    let gone = Arc::new(Mutex::new(gone));
    serve(listener, move |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let head = head(&mut reader).unwrap();
        assert!(
            head.contains(&format!("Content-Length: {SIZE}\r\n")),
            "{head}"
        );
        gone.lock().unwrap().recv().unwrap();
        let mut left = SIZE;
        let mut piece = vec![0; 1 << 20];
        while left > 0 {
            let count = reader.read(&mut piece).unwrap();
            assert!(count > 0 && piece[..count].iter().all(|&byte| byte == 3));
            left -= count;
        }
        let answer = "HTTP/1.1 204 No Content\r\n\r\n";
        (&stream).write_all(answer.as_bytes()).unwrap();
    });
    let mut edge = Edge::before(address, Speaks::Http1);
    block_on(async {
        let mut client = edge.client().await;
        let mut asked = request("PUT", "/");
        asked.headers_mut().insert("content-length", SIZE.into());
        let (response, mut stream) = client.send_request(asked, false).unwrap();
        let mut sent = 0;
        let piece = Bytes::from(vec![3; 16 << 10]);
        // It takes what the sockets' buffers hold, and then stops.
        loop {
            stream.reserve_capacity(piece.len());
            let room = std::future::poll_fn(|cx| stream.poll_capacity(cx));
            match tokio::time::timeout(Duration::from_millis(500), room).await {
                Ok(room) => {
                    let room = room.unwrap().unwrap().min(piece.len()).min(SIZE - sent);
                    stream.send_data(piece.slice(..room), false).unwrap();
                    sent += room;
                }
                Err(_) => break,
            }
        }
        assert!(sent < SIZE, "all of it was taken");
        go.send(()).unwrap();
        send_all(&mut stream, Bytes::from(vec![3; SIZE - sent])).await;
        stream.send_data(Bytes::new(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), StatusCode::NO_CONTENT);
    });
    let route = edge.route(|route| route.tally.closed == 1);
    assert!(route.tally.bytes_in > SIZE as u64);
}

#[test]
fn a_request_that_is_taken_back_ends_at_its_upstream() {
    let (listener, address) = upstream();
    let (tell, told) = channel();
    serve(listener, move |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        if head(&mut reader).is_none() {
            return;
        }
        tell.send("asked").unwrap();
        // The gateway hangs up.
        assert_eq!(reader.read(&mut [0]).unwrap_or(0), 0);
        tell.send("over").unwrap();
    });
    let mut edge = Edge::before(address, Speaks::Http1);
    block_on(async {
        let mut client = edge.client().await;
        let (_response, mut stream) = client.send_request(request("GET", "/"), true).unwrap();
        let asked = tokio::task::spawn_blocking(move || (told.recv_timeout(PATIENCE), told));
        let (asked, told) = asked.await.unwrap();
        assert_eq!(asked, Ok("asked"));
        stream.send_reset(Reason::CANCEL);
        let over = tokio::task::spawn_blocking(move || told.recv_timeout(PATIENCE));
        assert_eq!(over.await.unwrap(), Ok("over"));
    });
    let route = edge.route(|route| route.tally.closed == 1);
    assert_eq!(route.tally.faults[Fault::Client.index()], 1);
}

#[test]
fn an_upstream_that_breaks_off_resets_its_stream_alone() {
    let (listener, address) = upstream();
    let (go, gone) = channel::<()>();
    let gone = Arc::new(Mutex::new(gone));
    serve(listener, move |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(head) = head(&mut reader) {
            if head.starts_with("GET /broken") {
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfew";
                (&stream).write_all(answer.as_bytes()).unwrap();
                gone.lock().unwrap().recv().unwrap();
                return;
            }
            if head.starts_with("GET /nothing") {
                return;
            }
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            (&stream).write_all(answer.as_bytes()).unwrap();
        }
    });
    let edge = Edge::before(address, Speaks::Http1);
    block_on(async {
        let mut client = edge.client().await;
        let (broken, _) = client
            .send_request(request("GET", "/broken"), true)
            .unwrap();
        let mut content = broken.await.unwrap().into_body();
        assert_eq!(content.data().await.unwrap().unwrap(), "few");
        go.send(()).unwrap();
        let error = content.data().await.unwrap().unwrap_err();
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
        let (nothing, _) = client
            .send_request(request("GET", "/nothing"), true)
            .unwrap();
        let (parts, content) = nothing.await.unwrap().into_parts();
        assert_eq!(parts.status, StatusCode::BAD_GATEWAY);
        let (bytes, _) = whole(content).await;
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("BACKEND_DOWN"), "{text}");
        let (fine, _) = client.send_request(request("GET", "/"), true).unwrap();
        assert_eq!(whole(fine.await.unwrap().into_body()).await.0, b"ok");
    });
}

#[test]
fn what_breaks_a_rule_is_answered_and_the_connection_goes_on() {
    let (_listener, address) = upstream();
    let edge = Edge::before(address, Speaks::Http1);
    block_on(async {
        let mut client = edge.client().await;
        let unknown = http::Request::get("http://b.example/").body(()).unwrap();
        let mut mismatch = request("GET", "/");
        let host = "c.example".parse().unwrap();
        mismatch.headers_mut().insert("host", host);
        let above = request("GET", "/../x");
        for (asked, status) in [(unknown, 404), (mismatch, 400), (above, 400)] {
            let (response, _) = client.send_request(asked, true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status().as_u16(), status);
            assert!(response.headers().contains_key("x-request-id"));
        }
    });
}

#[test]
fn a_websocket_opens_inside_a_stream() {
    let (listener, address) = upstream();
    serve(listener, |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let head = head(&mut reader).unwrap();
        assert!(head.starts_with("GET /chat HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("Upgrade: websocket\r\n"), "{head}");
        assert!(head.contains("Connection: Upgrade\r\n"), "{head}");
        assert!(head.contains("Sec-WebSocket-Key: "), "{head}");
        let answer = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
                      Connection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\
                      Sec-WebSocket-Protocol: chat\r\n\r\nhello";
        (&stream).write_all(answer.as_bytes()).unwrap();
        let mut said = Vec::new();
        reader.read_to_end(&mut said).unwrap();
        (&stream).write_all(&said).unwrap();
    });
    let edge = Edge::before(address, Speaks::Http1);
    block_on(async {
        let mut client = edge.client().await;
        // The settings say that it is possible.
        while !client.is_extended_connect_protocol_enabled() {
            tokio::task::yield_now().await;
        }
        let mut asked = request("CONNECT", "/chat");
        let protocol = h2::ext::Protocol::from_static("websocket");
        asked.extensions_mut().insert(protocol);
        let (response, mut stream) = client.send_request(asked, false).unwrap();
        let (parts, content) = response.await.unwrap().into_parts();
        assert_eq!(parts.status, StatusCode::OK);
        assert_eq!(parts.headers["sec-websocket-protocol"], "chat");
        assert!(!parts.headers.contains_key("sec-websocket-accept"));
        send_all(&mut stream, Bytes::from_static(b" and good bye")).await;
        stream.send_data(Bytes::new(), true).unwrap();
        assert_eq!(whole(content).await.0, b"hello and good bye");
    });
}

#[test]
fn a_drain_says_goodbye_and_lets_requests_end() {
    let (listener, address) = upstream();
    let (go, gone) = channel::<()>();
    let gone = Arc::new(Mutex::new(gone));
    serve(listener, move |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let Some(_) = head(&mut reader) else { return };
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
        (&stream).write_all(answer.as_bytes()).unwrap();
        gone.lock().unwrap().recv().unwrap();
        (&stream).write_all(b"ok").unwrap();
    });
    let edge = Edge::before(address, Speaks::Http1);
    block_on(async {
        let _idle = edge.client().await;
        let mut client = edge.client().await;
        let (response, _) = client.send_request(request("GET", "/"), true).unwrap();
        let response = response.await.unwrap();
        let draining = edge.engine.begin_drain(Instant::now() + PATIENCE);
        // It takes no more requests from then on.
        let mut late = client.clone();
        while std::future::poll_fn(|cx| late.poll_ready(cx)).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(!draining.is_over(), "a request has not ended");
        go.send(()).unwrap();
        assert_eq!(whole(response.into_body()).await.0, b"ok");
        while !draining.is_over() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn what_the_upstream_counts_is_what_was_accounted() {
    let (listener, address) = upstream();
    let (tell, told) = channel();
    let answer = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                  4;ext=1\r\nfour\r\n0\r\nX-End: yes\r\n\r\n";
    serve(listener, move |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut got = head(&mut reader).unwrap();
        while !got.ends_with("0\r\n\r\n") {
            assert_ne!(reader.read_line(&mut got).unwrap(), 0, "{got}");
        }
        tell.send(got.len() as u64).unwrap();
        (&stream).write_all(answer.as_bytes()).unwrap();
    });
    let mut edge = Edge::before(address, Speaks::Http1);
    block_on(async {
        let mut client = edge.client().await;
        let (response, mut stream) = client.send_request(request("POST", "/"), false).unwrap();
        for piece in ["some ", "more ", "content\n"] {
            send_all(&mut stream, Bytes::from_static(piece.as_bytes())).await;
            tokio::task::yield_now().await;
        }
        stream.send_data(Bytes::new(), true).unwrap();
        assert_eq!(whole(response.await.unwrap().into_body()).await.0, b"four");
    });
    let route = edge.route(|route| route.tally.closed == 1);
    assert_eq!(route.tally.bytes_in, told.recv_timeout(PATIENCE).unwrap());
    assert_eq!(route.tally.bytes_out, answer.len() as u64);
}

#[test]
fn a_removed_network_ends_its_requests_and_leaves_the_connection() {
    let (listener, address) = upstream();
    serve(listener, |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        // It never answers.
        while head(&mut reader).is_some() {}
    });
    let mut edge = Edge::before(address, Speaks::Http1);
    block_on(async {
        let mut client = edge.client().await;
        let (response, _) = client.send_request(request("GET", "/"), true).unwrap();
        let has_asked = |edge: &mut Edge| {
            let route = edge.engine.counters().routes.get(&RouteId(1));
            route.is_some_and(|route| route.tally.bytes_in > 0)
        };
        while !has_asked(&mut edge) {
            tokio::task::yield_now().await;
        }
        edge.forget_everything();
        let error = response.await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::CANCEL));
        let (response, _) = client.send_request(request("GET", "/"), true).unwrap();
        assert_eq!(response.await.unwrap().status(), StatusCode::NOT_FOUND);
    });
}
