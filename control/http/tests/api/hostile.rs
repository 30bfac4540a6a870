//! Clients that mean harm, or are broken.
//!
//! Method: short deadlines and few places, so that what would be held up is seen at once.

use std::{sync::Arc, time::Duration};

use control_api::answer::Status;
use proptest::{prelude::*, test_runner::TestRunner};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use crate::{
    gateway::{Gateway, Wanted, document},
    wire::{Answer, PATIENCE, Request, exchange, read_all},
};

const SHORT: &str = "limits: {header_timeout: 200ms, body_timeout: 200ms, body_bytes_max: 4KiB}";

async fn short() -> Gateway {
    Gateway::start(Wanted {
        api: SHORT,
        ..Wanted::default()
    })
    .await
}

#[tokio::test]
async fn silent_and_slow_clients_are_cut_off() {
    let gateway = short().await;
    let mut silent = gateway.connect().await;
    assert!(read_all(&mut silent).await.is_empty());
    // One byte at a time, each well before the deadline.
    let (mut reading, mut writing) = gateway.connect().await.into_split();
    let drip = tokio::spawn(async move {
        let head = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(10_000));
        for byte in head.bytes() {
            if writing.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let ended = read_all(&mut reading).await;
    assert!(ended.is_empty(), "{}", String::from_utf8_lossy(&ended));
    drip.abort();
    // After an answer, too.
    let mut idle = gateway.connect().await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let answer = read_all(&mut idle).await;
    assert_eq!(Answer::parse(&answer).status, 200);
}

#[tokio::test]
async fn half_sent_requests_keep_nobody_out() {
    let gateway = Gateway::start(Wanted {
        api: "limits: {connections_max: 8, connections_per_source_max: 4, header_timeout: 5m, body_timeout: 5m}",
        ..Wanted::default()
    })
    .await;
    // Nothing, half a head, half a document; from here and from elsewhere.
    let halves: [&[u8]; 3] = [
        b"",
        b"GET /healthz HTTP/1.1\r\nHost: loc",
        b"POST /api/v1/apply HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
    ];
    let mut silent = Vec::new();
    for (turn, source) in ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
        .repeat(4)
        .iter()
        .enumerate()
    {
        let mut stream = gateway.connect_from(source).await;
        stream.write_all(halves[turn % 3]).await.unwrap();
        silent.push(stream);
    }
    for source in ["127.0.0.1", "127.0.0.9"] {
        let began = std::time::Instant::now();
        let probe = gateway.connect_from(source).await;
        let request = Request::new("GET", "/healthz").bytes();
        assert_eq!(exchange(probe, &request).await.status, 200);
        let took = began.elapsed();
        assert!(took < Duration::from_secs(1), "{source}: {took:?}");
    }
}

#[tokio::test]
async fn a_request_says_once_whom_it_is_for() {
    let gateway = Gateway::open().await;
    for (head, status) in [
        ("GET /healthz HTTP/1.1\r\n", 400),
        (
            "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n",
            400,
        ),
        (
            "GET /healthz HTTP/1.0\r\nHost: localhost\r\nHost: localhost\r\n",
            400,
        ),
        ("GET /nothing HTTP/1.1\r\n", 400),
        ("GET /healthz HTTP/1.0\r\n", 200),
        ("GET /healthz HTTP/1.1\r\nHost: localhost\r\n", 200),
    ] {
        let request = format!("{head}Connection: close\r\n\r\n");
        let answer = exchange(gateway.connect().await, request.as_bytes()).await;
        assert_eq!(answer.status, status, "{head}");
    }
}

#[tokio::test]
async fn one_source_has_only_so_many_connections() {
    let gateway = Gateway::start(Wanted {
        api: "limits: {connections_max: 16, connections_per_source_max: 3, header_timeout: 5m}",
        ..Wanted::default()
    })
    .await;
    // Idle ones would give way.
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = gateway.connect().await;
        stream
            .write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        held.push(stream);
    }
    let mut fourth = gateway.connect().await;
    assert!(
        read_all(&mut fourth).await.is_empty(),
        "closed without an answer"
    );
    let elsewhere = gateway.connect_from("127.0.0.2").await;
    let request = Request::new("GET", "/metrics").bytes();
    let metrics = exchange(elsewhere, &request).await;
    assert!(
        metrics
            .body
            .contains("ringway_api_connections_refused_total 1\n")
    );
    assert!(
        metrics.body.contains("ringway_api_connections 4"),
        "{}",
        metrics.body
    );
}

#[tokio::test]
async fn a_body_beyond_its_bound_is_refused_however_it_comes() {
    let gateway = short().await;
    let large = vec![b' '; 5000];
    let declared = Request::new("POST", "/api/v1/apply").body(&large);
    let answer = gateway.ask(declared).await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (413, "the body of a request has at most 4096 bytes")
    );
    let chunk = format!("400\r\n{}\r\n", " ".repeat(0x400));
    let chunked = format!(
        "POST /api/v1/apply HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n{}0\r\n\r\n",
        chunk.repeat(5)
    );
    let answer = exchange(gateway.connect().await, chunked.as_bytes()).await;
    assert_eq!(answer.status, 413);
    // One that would not even fit into memory, and never comes.
    let endless =
        "POST /api/v1/apply HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1099511627776\r\n\r\n";
    let answer = exchange(gateway.connect().await, endless.as_bytes()).await;
    assert_eq!(answer.status, 413, "{answer:?}");
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let gateway = short().await;
    let promised = "POST /api/v1/apply HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{";
    let answer = exchange(gateway.connect().await, promised.as_bytes()).await;
    assert_eq!(answer.status, 408);
    // One that breaks off is nobody's document.
    let mut stream = gateway.connect().await;
    stream.write_all(promised.as_bytes()).await.unwrap();
    drop(stream);
    assert_eq!(
        gateway.get("/api/v1/config").await.json(),
        serde_json::json!({})
    );
}

#[tokio::test]
async fn what_is_not_text_is_refused() {
    let gateway = short().await;
    let answer = gateway
        .ask(Request::new("POST", "/api/v1/apply").body(b"{\"\xff\": 1}"))
        .await;
    assert_eq!(
        (answer.status, answer.error().as_str()),
        (400, "the body is not UTF-8 from its byte 2 on")
    );
    for path in [
        "/api/v1/networks/%FF%FE",
        "/api/v1/networks/1/peers/%FF",
        "/api/v1/traffic?peer=%FF",
    ] {
        let status = gateway.ask(Request::new("DELETE", path)).await.status;
        assert!((400..500).contains(&status), "{path}: {status}");
    }
}

#[tokio::test]
async fn too_much_of_everything_in_a_head_is_refused() {
    let gateway = short().await;
    let many: String = (0..100).map(|n| format!("X-{n}: 1\r\n")).collect();
    let long = format!("X: {}\r\n", "x".repeat(100_000));
    for headers in [many, long] {
        let head = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        let answer = exchange(gateway.connect().await, head.as_bytes()).await;
        assert_eq!(answer.status, 431);
    }
    let path = format!("/{}", "a".repeat(100_000));
    let status = gateway.get(&path).await.status;
    assert!(status == 414 || status == 431, "{status}");
    // A path within the bound is cut in the log.
    let path = format!("/api/v1/rollback/{}", "9".repeat(4000));
    gateway.ask(Request::new("POST", &path)).await;
}

#[tokio::test]
async fn a_client_that_never_takes_its_answer_is_let_go() {
    let gateway = short().await;
    // Far more than the buffers of both sockets hold.
    gateway.view.send_modify(|view| {
        let view = Arc::make_mut(view);
        let mut status = Status::clone(&view.status);
        status.warnings = vec!["x".repeat(1 << 20); 64];
        view.status = status.into();
    });
    let mut stream = gateway.connect().await;
    let request = Request::new("GET", "/api/v1/status").bytes();
    stream.write_all(&request).await.unwrap();
    let alone = async {
        loop {
            let metrics = gateway.get("/metrics").await.body;
            if metrics.contains("ringway_api_connections 1.0\n") {
                return;
            }
        }
    };
    timeout(PATIENCE, alone).await.expect("its connection ends");
    let taken = read_all(&mut stream).await;
    assert!(taken.len() < 64 << 20, "the answer was broken off");
}

#[tokio::test]
async fn large_bodies_at_once_are_bounded_together() {
    let gateway = Gateway::start(Wanted {
        api: "limits: {body_bytes_max: 64KiB, body_timeout: 5m}",
        ..Wanted::default()
    })
    .await;
    // Four of the largest size are held in memory, each short of its last byte.
    let head = "POST /api/v1/apply HTTP/1.1\r\nHost: localhost\r\nContent-Length: 65536\r\n\r\n";
    let most = [head.as_bytes(), &[b' '; 65_535]].concat();
    let mut held = Vec::new();
    let full = async {
        loop {
            let mut stream = gateway.connect().await;
            stream.write_all(&most).await.unwrap();
            let mut answer = vec![0; 1024];
            let answered = timeout(Duration::from_millis(50), stream.read(&mut answer)).await;
            if let Ok(read) = answered {
                answer.truncate(read.unwrap());
                return Answer::parse(&answer);
            }
            held.push(stream);
        }
    };
    let refused = timeout(PATIENCE, full).await.expect("a bound");
    assert_eq!(refused.status, 503);
    assert!((4..=5).contains(&held.len()), "{}", held.len());
    // Small ones still find room when these are gone.
    held.clear();
    let body = document();
    let applied = async { while gateway.post("/api/v1/apply", &body).await.status != 200 {} };
    timeout(PATIENCE, applied)
        .await
        .expect("memory is given back");
}

/// Any bytes at all: an answer or a closed connection, and the next client is served.
#[test]
fn no_bytes_bring_it_down() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let gateway = runtime.block_on(short());
    let words = prop::sample::select(vec![
        "GET",
        "POST",
        " ",
        "/api/v1/apply",
        "/metrics",
        "HTTP/1.1",
        "\r\n",
        "\r\n\r\n",
        "Host: localhost",
        "Content-Length: 3",
        "Transfer-Encoding: chunked",
        "Token: x",
        "Authorization: Bearer",
        "0",
        "{}",
        "%00",
        "\0",
        ":",
        "Expect: 100-continue",
        "If-Match: \"",
        "Origin: null",
        "Upgrade: h2c",
        "PRI * HTTP/2.0",
    ]);
    let bytes = prop_oneof![
        prop::collection::vec(words, 0..20).prop_map(|words| words.concat().into_bytes()),
        prop::collection::vec(any::<u8>(), 0..200),
    ];
    let mut runner = TestRunner::new(ProptestConfig::with_cases(64));
    let served = runner.run(&bytes, |bytes| {
        runtime.block_on(async {
            let mut stream = gateway.connect().await;
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
            read_all(&mut stream).await;
        });
        Ok(())
    });
    served.unwrap();
    let answer = runtime.block_on(gateway.get("/healthz"));
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    assert!(!gateway.served.is_finished());
}

#[tokio::test]
async fn going_down_ends_idle_connections_and_answers_what_is_asked() {
    let mut gateway = Gateway::open().await;
    let mut idle = gateway.connect().await;
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut byte = [0];
    idle.read_exact(&mut byte).await.unwrap();
    gateway.close().await;
    read_all(&mut idle).await;
    let refused = tokio::net::TcpStream::connect(gateway.address()).await;
    assert!(refused.is_err(), "nobody listens any more");
}
