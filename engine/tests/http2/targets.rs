//! Upstreams that do what they should not, as frames.

use std::{
    io::{BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{Sender, channel},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use engine_http::{health::Ejection, refusal::Refusal, rules::Policy};
use h2::Reason;
use http::StatusCode;

use crate::{
    edge::{Edge, PATIENCE, Speaks, block_on, request, upstream},
    wire::{
        frames::{
            self, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, RST_STREAM, Reply,
            STATUS_200, frame,
        },
        head, send_all, serve, whole,
    },
};

/// `:status: 100`, without indexing.
const STATUS_100: &[u8] = b"\x08\x03100";

const REFUSED_STREAM: u32 = 7;
const INTERNAL_ERROR: u32 = 2;

/// Asks in HTTP/1 and gives all that comes.
fn ask(gateway: SocketAddr, request: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(gateway).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // It may be cut off.
    let _ = stream.read_to_end(&mut answer);
    answer
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n";

fn status_of(answer: &[u8]) -> &str {
    std::str::from_utf8(&answer[9..12]).unwrap()
}

/// Answers each request by `all`.
fn answers(asked: &Frame, all: &[u8]) -> Reply {
    Ok(match asked.kind {
        HEADERS => all.to_vec(),
        _ => Vec::new(),
    })
}

#[test]
fn a_flood_from_a_target_ends_its_connection() {
    let pings = frame(PING, 0, 0, &[0; 8]).repeat(5000);
    let interims = frame(HEADERS, END_HEADERS, 1, STATUS_100).repeat(5000);
    for (flood, reason) in [
        (pings, Refusal::FloodOfPings),
        (interims, Refusal::FloodOfInterims),
    ] {
        let (listener, address) = upstream();
        frames::serve(listener, move || {
            let flood = flood.clone();
            move |asked| answers(asked, &flood)
        });
        let mut edge = Edge::before(address, Speaks::Http2);
        let answer = ask(edge.address, GET);
        assert_eq!(status_of(&answer), "502", "{reason:?}");
        assert_eq!(
            answer
                .windows(12)
                .filter(|it| it == b"HTTP/1.1 100")
                .count(),
            0
        );
        edge.refuses(&[reason]);
    }
}

#[test]
fn a_target_that_floods_is_left_out() {
    let (flooding, flooder) = upstream();
    let (tell, told) = channel();
    let pings = frame(PING, 0, 0, &[0; 8]).repeat(5000);
    frames::serve(flooding, move || {
        let (flood, tell): (Vec<u8>, Sender<()>) = (pings.clone(), tell.clone());
        move |asked| {
            if asked.kind == HEADERS {
                tell.send(()).unwrap();
            }
            answers(asked, &flood)
        }
    });
    let (well, other) = upstream();
    frames::serve(well, || {
        |asked: &Frame| {
            let answer = frame(HEADERS, END_HEADERS | END_STREAM, asked.stream, STATUS_200);
            answers(asked, &answer)
        }
    });
    let ejection = Ejection {
        failures: 1,
        base: PATIENCE,
        max: PATIENCE,
        share_max: 50,
    };
    let policy = Policy {
        ejection,
        ..Policy::default()
    };
    let edge = Edge::among(&[flooder, other], Speaks::Http2, policy);
    let failed = (0..20).filter(|_| status_of(&ask(edge.address, GET)) == "502");
    assert_eq!(failed.count(), 1);
    assert_eq!(told.try_iter().count(), 1, "it was asked once");
}

#[test]
fn a_target_that_is_full_and_takes_no_connection_is_not_waited_for() {
    let (listener, address) = upstream();
    std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        drop(listener);
        // SETTINGS_MAX_CONCURRENT_STREAMS (3) is 1, and nothing is answered.
        let settings = frame(frames::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1]);
        (&stream).write_all(&settings).unwrap();
        let _ = std::io::copy(&mut &stream, &mut std::io::sink());
    });
    let mut edge = Edge::before(address, Speaks::Http2);
    let mut first = TcpStream::connect(edge.address).unwrap();
    first.write_all(GET.as_bytes()).unwrap();
    edge.route(|route| {
        route
            .tally
            .requests
            .as_ref()
            .is_some_and(|it| it.upstreams_opened == 1)
    });
    std::thread::sleep(Duration::from_millis(200));
    let asked_at = Instant::now();
    let status = ask(edge.address, GET);
    assert!(["502", "503"].contains(&status_of(&status)), "{status:?}");
    assert!(asked_at.elapsed() < Duration::from_secs(5));
    first
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let error = first.read(&mut [0; 1]).unwrap_err();
    assert_eq!(
        error.kind(),
        std::io::ErrorKind::WouldBlock,
        "the first goes on"
    );
}

#[test]
fn interim_responses_of_a_target_of_http_1_are_counted_too() {
    let (listener, address) = upstream();
    serve(listener, |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        head(&mut reader).unwrap();
        let flood = "HTTP/1.1 102 Processing\r\n\r\n".repeat(100_000);
        let _ = (&stream).write_all(flood.as_bytes());
    });
    let mut edge = Edge::before(address, Speaks::Http1);
    let answer = ask(edge.address, GET);
    let count = answer
        .windows(12)
        .filter(|it| it == b"HTTP/1.1 102")
        .count();
    assert!((1..100).contains(&count), "{count} of them were passed on");
    let end = String::from_utf8_lossy(&answer);
    assert!(end.contains("HTTP/1.1 502"), "{end}");
    edge.refuses(&[Refusal::FloodOfInterims]);
    block_on(async {
        let mut client = edge.client().await;
        let (mut response, _) = client.send_request(request("GET", "/"), true).unwrap();
        let mut count = 0;
        while let Some(Ok(_)) = std::future::poll_fn(|cx| response.poll_informational(cx)).await {
            count += 1;
        }
        assert!((1..100).contains(&count), "{count}");
        assert_eq!(response.await.unwrap().status(), StatusCode::BAD_GATEWAY);
    });
}

#[test]
fn a_continue_that_nobody_waits_for_is_left_out() {
    let (listener, address) = upstream();
    serve(listener, |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while head(&mut reader).is_some() {
            let answer = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n\
                          HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
            (&stream).write_all(answer.as_bytes()).unwrap();
        }
    });
    let edge = Edge::before(address, Speaks::Http1);
    let answer = String::from_utf8(ask(edge.address, GET)).unwrap();
    assert!(answer.starts_with("HTTP/1.1 103"), "{answer}");
    assert!(answer.contains("HTTP/1.1 200"), "{answer}");
    block_on(async {
        let mut client = edge.client().await;
        let (mut response, _) = client.send_request(request("GET", "/"), true).unwrap();
        let hint = std::future::poll_fn(|cx| response.poll_informational(cx)).await;
        assert_eq!(hint.unwrap().unwrap().status().as_u16(), 103);
        assert_eq!(response.await.unwrap().status(), StatusCode::OK);
    });
}

/// How a target breaks off.
#[derive(Clone, Copy, Debug)]
enum Break {
    Reset,
    Goodbye,
    Close,
}

const CONTENT: usize = 120_000;

/// The head of a response, content, and its end in the middle, all at once.
fn broken(stream: u32, way: Break) -> Vec<u8> {
    let mut bytes = frame(HEADERS, END_HEADERS, stream, STATUS_200);
    for _ in 0..CONTENT / 12_000 {
        bytes.extend(frame(DATA, 0, stream, &[b'x'; 12_000]));
    }
    match way {
        Break::Reset => bytes.extend(frame(RST_STREAM, 0, stream, &INTERNAL_ERROR.to_be_bytes())),
        Break::Goodbye => {
            let mut goodbye = [0; 8];
            goodbye[3] = 1;
            goodbye[7] = 2;
            bytes.extend(frame(GOAWAY, 0, 0, &goodbye));
        }
        Break::Close => {}
    }
    bytes
}

#[test]
fn what_a_target_of_http_2_sent_before_it_broke_off_is_delivered() {
    for way in [Break::Reset, Break::Goodbye, Break::Close] {
        let (listener, address) = upstream();
        frames::serve(listener, move || {
            move |asked: &Frame| match (asked.kind, way) {
                (HEADERS, Break::Reset) => Ok(broken(asked.stream, way)),
                (HEADERS, _) => Err(broken(asked.stream, way)),
                _ => Ok(Vec::new()),
            }
        });
        let edge = Edge::before(address, Speaks::Http2);
        let answer = ask(edge.address, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
        assert!(answer.starts_with(b"HTTP/1.1 200"), "{way:?}");
        let count = answer.iter().filter(|&&byte| byte == b'x').count();
        assert!(count >= CONTENT, "{way:?}: {count}");
        assert!(!answer.ends_with(b"0\r\n\r\n"), "{way:?}");
        block_on(delivered(&edge, "/"));
    }
}

/// All content that came reaches a client of HTTP/2, and then the error.
async fn delivered(edge: &Edge, path: &str) {
    let mut client = edge.client().await;
    let (response, _) = client.send_request(request("GET", path), true).unwrap();
    let response = response.await.expect("there is a status");
    assert_eq!(response.status(), StatusCode::OK);
    let mut content = response.into_body();
    let mut count = 0;
    let error = loop {
        match content.data().await.expect("it does not end well") {
            Ok(bytes) => {
                count += bytes.len();
                let flow = content.flow_control();
                flow.release_capacity(bytes.len()).unwrap();
            }
            Err(error) => break error,
        }
    };
    assert_eq!(count, CONTENT);
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
}

#[test]
fn what_a_target_of_http_1_sent_before_it_broke_off_is_delivered() {
    let (listener, address) = upstream();
    serve(listener, |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let framing = match head(&mut reader).unwrap().starts_with("GET /length") {
            true => "Content-Length: 999999\r\n\r\n",
            false => "Transfer-Encoding: chunked\r\n\r\nf0000\r\n",
        };
        let content = "x".repeat(CONTENT);
        let answer = format!("HTTP/1.1 200 OK\r\n{framing}{content}");
        (&stream).write_all(answer.as_bytes()).unwrap();
    });
    let edge = Edge::before(address, Speaks::Http1);
    block_on(async {
        for path in ["/length", "/chunks"] {
            delivered(&edge, path).await;
        }
    });
}

#[test]
fn a_refused_request_with_content_is_passed_on_as_refused() {
    let (listener, address) = upstream();
    frames::serve(listener, || {
        |asked: &Frame| {
            let is_end = asked.flags & END_STREAM != 0;
            let refused = REFUSED_STREAM.to_be_bytes();
            Ok(match asked.kind {
                DATA if is_end => frame(RST_STREAM, 0, asked.stream, &refused),
                _ => Vec::new(),
            })
        }
    });
    let edge = Edge::before(address, Speaks::Http2);
    block_on(async {
        let mut client = edge.client().await;
        let (response, mut stream) = client.send_request(request("POST", "/"), false).unwrap();
        send_all(&mut stream, Bytes::from_static(b"content")).await;
        stream.send_data(Bytes::new(), true).unwrap();
        let error = response.await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::REFUSED_STREAM));
    });
    let post = "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc";
    assert_eq!(status_of(&ask(edge.address, post)), "503");
}

/// Refuses the first request when all of its content is there, as `goodbye` says, and answers each other by
/// its content.
fn refuses_once(goodbye: bool) -> SocketAddr {
    let (listener, address) = upstream();
    let first = Arc::new(AtomicBool::new(true));
    frames::serve(listener, move || {
        let (first, mut content) = (Arc::clone(&first), Vec::new());
        move |asked: &Frame| {
            if asked.kind == DATA {
                content.extend_from_slice(&asked.payload);
            }
            if !matches!(asked.kind, HEADERS | DATA) || asked.flags & END_STREAM == 0 {
                return Ok(Vec::new());
            }
            let content = std::mem::take(&mut content);
            if !first.swap(false, Relaxed) {
                let mut answer = frame(HEADERS, END_HEADERS, asked.stream, STATUS_200);
                answer.extend(frame(DATA, END_STREAM, asked.stream, &content));
                return Ok(answer);
            }
            match goodbye {
                // Of stream 0 and of no other it has begun with.
                true => Err(frame(GOAWAY, 0, 0, &[0; 8])),
                false => Ok(frame(
                    RST_STREAM,
                    0,
                    asked.stream,
                    &REFUSED_STREAM.to_be_bytes(),
                )),
            }
        }
    });
    address
}

#[test]
fn a_refused_request_is_repeated_with_the_content_that_was_sent() {
    for goodbye in [false, true] {
        for framing in [
            "Content-Length: 7\r\n\r\ncontent",
            "Transfer-Encoding: chunked\r\n\r\n3\r\ncon\r\n4\r\ntent\r\n0\r\n\r\n",
        ] {
            let edge = Edge::before(refuses_once(goodbye), Speaks::Http2);
            let post =
                format!("POST / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n{framing}");
            let answer = String::from_utf8(ask(edge.address, &post)).unwrap();
            assert!(answer.starts_with("HTTP/1.1 200"), "{goodbye}: {answer}");
            assert!(answer.contains("content"), "{goodbye}: {answer}");
        }
        let edge = Edge::before(refuses_once(goodbye), Speaks::Http2);
        block_on(async {
            let mut client = edge.client().await;
            for count in [1, 2] {
                let (response, mut stream) =
                    client.send_request(request("POST", "/"), false).unwrap();
                for piece in ["con", "tent"] {
                    send_all(&mut stream, Bytes::from_static(piece.as_bytes())).await;
                }
                stream.send_data(Bytes::new(), true).unwrap();
                let (bytes, _) = whole(response.await.unwrap().into_body()).await;
                assert_eq!(bytes, b"content", "{goodbye}, request {count}");
            }
        });
    }
}

#[test]
fn a_refused_request_with_more_content_than_is_kept_is_given_back() {
    let edge = Edge::before(refuses_once(false), Speaks::Http2);
    // As much as fits the window.
    let content = "x".repeat(40_000);
    let post = format!(
        "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: {}\r\n\r\n{content}",
        content.len()
    );
    assert_eq!(status_of(&ask(edge.address, &post)), "503");
}

#[test]
fn a_request_that_was_refused_before_its_content_came_is_repeated() {
    let (listener, address) = upstream();
    let (tell, told) = channel();
    frames::serve(listener, move || {
        let tell: Sender<u32> = tell.clone();
        let mut count = 0;
        move |asked: &Frame| {
            if asked.kind != HEADERS {
                return Ok(Vec::new());
            }
            count += 1;
            tell.send(asked.stream).unwrap();
            let refused = REFUSED_STREAM.to_be_bytes();
            let answer = frame(HEADERS, END_HEADERS | END_STREAM, asked.stream, STATUS_200);
            Ok(match count {
                2 => frame(RST_STREAM, 0, asked.stream, &refused),
                _ => answer,
            })
        }
    });
    let edge = Edge::before(address, Speaks::Http2);
    block_on(async {
        let mut client = edge.client().await;
        // The second one goes over a connection that rested.
        for _ in 0..2 {
            let (response, mut stream) = client.send_request(request("POST", "/"), false).unwrap();
            assert_eq!(response.await.unwrap().status(), StatusCode::OK);
            let _ = stream.send_data(Bytes::new(), true);
        }
    });
    assert_eq!(told.try_iter().count(), 3);
}

#[test]
fn a_client_that_leaves_ends_its_request_at_a_target_of_http_2() {
    for asked in [HEADERS, DATA] {
        let (listener, address) = upstream();
        let (tell, told) = channel();
        frames::serve(listener, move || {
            let tell: Sender<u8> = tell.clone();
            move |frame_: &Frame| {
                if matches!(frame_.kind, HEADERS | RST_STREAM) {
                    tell.send(frame_.kind).unwrap();
                }
                // Before its answer, or in the middle of it.
                Ok(match (frame_.kind, asked) {
                    (HEADERS, DATA) => [
                        frame(HEADERS, END_HEADERS, frame_.stream, STATUS_200),
                        frame(DATA, 0, frame_.stream, b"some"),
                    ]
                    .concat(),
                    _ => Vec::new(),
                })
            }
        });
        let edge = Edge::before(address, Speaks::Http2);
        let mut stream = TcpStream::connect(edge.address).unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
            .unwrap();
        assert_eq!(told.recv_timeout(PATIENCE), Ok(HEADERS));
        if asked == DATA {
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).unwrap();
        }
        let left_at = Instant::now();
        drop(stream);
        assert_eq!(told.recv_timeout(PATIENCE), Ok(RST_STREAM));
        assert!(left_at.elapsed() < Duration::from_millis(2500));
    }
}
