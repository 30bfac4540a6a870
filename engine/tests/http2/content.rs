//! Requests and responses between clients of HTTP/2 and upstreams of HTTP/1.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    sync::{Arc, Mutex, mpsc::channel},
    time::Duration,
};

use bytes::Bytes;
use engine_http::{edit::FieldEdits, rules::Policy};
use http::{HeaderMap, StatusCode};

use crate::{
    edge::{Edge, PATIENCE, Speaks, block_on, request, upstream},
    wire::{head, send_all, serve, whole},
};

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

/// Answers a request with its head, content and trailers as they came.
fn mirror(stream: &std::net::TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while head(&mut reader).is_some() {
        let mut came = String::new();
        while !came.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut came).unwrap(), 0, "{came}");
        }
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{came}");
        let mut stream = stream;
        stream.write_all(answer.as_bytes()).unwrap();
    }
}

/// Whoever merges trailers into the head would take them for what the rule says.
#[test]
fn trailers_that_a_rule_removes_do_not_pass_in_either_direction() {
    let policy = || Policy {
        request_edits: FieldEdits::new(&[("x-tenant", "own")], &[], &[]).unwrap(),
        response_edits: FieldEdits::new(&[], &[], &["x-inner"]).unwrap(),
        ..Policy::default()
    };
    let (listener, http1) = upstream();
    serve(listener, |stream| mirror(&stream));
    let edge = Edge::under(http1, Speaks::Http1, policy());
    let mut stream = std::net::TcpStream::connect(edge.address).unwrap();
    let asked = "POST / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\nTE: trailers\r\n\
         Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nX-Sum: 7\r\nX_Tenant: other\r\nX-Inner: 1\r\n\r\n";
    stream.write_all(asked.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.ends_with("1\r\na\r\n0\r\nX-Sum: 7\r\n\r\n"),
        "{answer}"
    );
    block_on(async {
        let (listener, http2) = upstream();
        let _connections = crate::upstream::serve(listener);
        let edges = [edge, Edge::under(http2, Speaks::Http2, policy())];
        for edge in edges {
            let mut client = edge.client().await;
            let mut asked = request("POST", "/");
            asked
                .headers_mut()
                .insert("te", "trailers".parse().unwrap());
            let (response, mut stream) = client.send_request(asked, false).unwrap();
            send_all(&mut stream, Bytes::from_static(b"a")).await;
            let mut trailers = HeaderMap::new();
            for name in ["x-sum", "x-tenant", "x-inner"] {
                trailers.insert(name, "7".parse().unwrap());
            }
            stream.send_trailers(trailers).unwrap();
            let (_, trailers) = whole(response.await.unwrap().into_body()).await;
            let trailers = trailers.unwrap();
            assert_eq!(trailers["x-sum"], "7");
            assert!(!trailers.contains_key("x-tenant"), "{trailers:?}");
            assert!(!trailers.contains_key("x-inner"), "{trailers:?}");
        }
    });
}
