//! How requests end early, and what is left of their connections.

use std::{
    io::{BufReader, Read as _, Write as _},
    sync::{Arc, Mutex, mpsc::channel},
    time::{Duration, Instant},
};

use bytes::Bytes;
use engine_core::{ids::RouteId, outcome::Fault};
use h2::Reason;
use http::StatusCode;

use crate::{
    edge::{Edge, PATIENCE, Speaks, block_on, narrow, request, upstream},
    wire::{
        frames::{
            DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
            duty, frame, get, next, window,
        },
        head, send_all, serve, whole,
    },
};

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
fn the_record_of_a_broken_connection_has_what_its_requests_moved() {
    let (listener, address) = upstream();
    serve(listener, |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while head(&mut reader).is_some() {
            let piece = vec![b'x'; 100_000];
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n";
            (&stream).write_all(answer).unwrap();
            (&stream).write_all(&piece).unwrap();
        }
    });
    let mut edge = Edge::before(address, Speaks::Http1);
    block_on(async {
        let mut builder = h2::client::Builder::new();
        builder.initial_connection_window_size(1 << 20);
        let mut client = edge.client_of(&builder).await;
        let mut held = Vec::new();
        for _ in 0..3 {
            let (response, _) = client.send_request(request("GET", "/"), true).unwrap();
            let mut content = response.await.unwrap().into_body();
            let mut length = 0;
            while length < 50_000 {
                let piece = content.data().await.unwrap().unwrap();
                content
                    .flow_control()
                    .release_capacity(piece.len())
                    .unwrap();
                length += piece.len();
            }
            held.push(content);
        }
    });
    // The runtime of the client is gone, and with it its connection.
    let record = edge.records.recv_timeout(PATIENCE).unwrap();
    assert!(record.bytes_out >= 150_000, "{record:?}");
    let counted = edge.route(|route| route.tally.closed == 3);
    assert_eq!(record.bytes_out, counted.tally.bytes_out);
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
        // What is malformed is no request, which the end of its stream says.
        let malformed = Some(Reason::PROTOCOL_ERROR);
        for (asked, status, ends_with) in [
            (unknown, 404, None),
            (mismatch, 400, malformed),
            (above, 400, None),
        ] {
            let (response, _) = client.send_request(asked, true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(response.status().as_u16(), status);
            assert!(response.headers().contains_key("x-request-id"));
            let mut content = response.into_body();
            let end = loop {
                match content.data().await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break error.reason(),
                    None => break None,
                }
            };
            assert_eq!(end, ends_with);
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
fn a_drain_that_is_over_resets_the_requests_that_are_left() {
    let (listener, address) = upstream();
    serve(listener, |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while head(&mut reader).is_some() {
            let answer = "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfew";
            (&stream).write_all(answer.as_bytes()).unwrap();
        }
    });
    let edge = Edge::before(address, Speaks::Http1);
    block_on(async {
        let mut client = edge.client().await;
        let (response, _) = client.send_request(request("GET", "/"), true).unwrap();
        let mut content = response.await.unwrap().into_body();
        assert_eq!(content.data().await.unwrap().unwrap(), "few");
        let soon = Instant::now() + Duration::from_millis(50);
        let _draining = edge.engine.begin_drain(soon);
        let error = content.data().await.unwrap().unwrap_err();
        assert!(error.is_remote() && error.is_reset(), "{error:?}");
    });
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

/// An upstream that answers `/endless` without an end, and breaks everything else off behind a part.
fn serve_endless_and_broken(listener: std::net::TcpListener) {
    serve(listener, |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let head = head(&mut reader).unwrap();
        let framing = "HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n";
        (&stream).write_all(framing.as_bytes()).unwrap();
        if !head.starts_with("GET /endless") {
            (&stream).write_all(PART).unwrap();
            return;
        }
        while (&stream).write_all(&[b'x'; 64 << 10]).is_ok() {}
    });
}

const PART: &[u8] = b"a part";

/// Streams that are sent without an end: more than the gateway's socket takes at once.
const ENDLESS: u32 = 16;

#[test]
fn a_stream_that_broke_off_ends_beside_others_that_keep_the_socket_full() {
    let (listener, address) = upstream();
    serve_endless_and_broken(listener);
    let edge = Edge::before(address, Speaks::Http1);
    let mut stream = narrow(edge.address);
    let mut reader = stream.try_clone().unwrap();
    let mut begin = PREFACE.to_vec();
    begin.extend(frame(SETTINGS, 0, 0, &window(1 << 30)));
    begin.extend(frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 30).to_be_bytes()));
    let ask = |number: u32, path| {
        let stream = number * 2 + 1;
        frame(HEADERS, END_HEADERS | END_STREAM, stream, &get(path))
    };
    for number in 0..ENDLESS {
        begin.extend(ask(number, "/endless"));
    }
    stream.write_all(&begin).unwrap();
    let (mut of_others, mut of_broken, mut is_asked) = (0, Vec::new(), false);
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE / 2, "it waits for the others");
        let came = next(&mut reader).unwrap();
        stream.write_all(&duty(&came)).unwrap();
        let is_broken = came.stream == ENDLESS * 2 + 1;
        match came.kind {
            RST_STREAM => assert!(is_broken),
            DATA if is_broken => of_broken.extend(came.payload),
            DATA => of_others += came.payload.len(),
            _ => {}
        }
        if came.kind == RST_STREAM {
            break;
        }
        if of_others > 8 << 20 && !std::mem::replace(&mut is_asked, true) {
            stream.write_all(&ask(ENDLESS, "/broken")).unwrap();
        }
        // The gateway is faster: its socket stays full.
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(of_broken, PART);
}
