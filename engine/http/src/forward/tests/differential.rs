//! What leaves, read by others: hyper, and tiny_http, which shares no code with it.

use std::{
    convert::Infallible,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::mpsc,
    time::Duration,
};

use http_body_util::{BodyExt as _, Empty};
use hyper::{body::Bytes, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use proptest::prelude::*;

use super::*;
use crate::chunked::{CHUNK_END, write_end, write_size};

/// What somebody took a request for.
#[derive(Debug, PartialEq, Eq)]
struct Meaning {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    content: Vec<u8>,
}

/// What we took for it: read off the bytes that left, by plain splitting.
fn expected(head: &str, content: &[u8]) -> Meaning {
    let (line, lines) = head.trim_end().split_once("\r\n").unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let fields = lines.split("\r\n").map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_lowercase(), value.trim().to_string())
    });
    Meaning {
        method: words[0].into(),
        target: words[1].into(),
        fields: sorted(fields),
        content: content.into(),
    }
}

fn sorted(fields: impl Iterator<Item = (String, String)>) -> Vec<(String, String)> {
    let mut fields: Vec<_> = fields.collect();
    fields.sort();
    fields
}

fn by_hyper(bytes: &[u8]) -> Vec<Meaning> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let (sender, receiver) = mpsc::channel();
    runtime.unwrap().block_on(async {
        let (mut ours, theirs) = tokio::io::duplex(1 << 20);
        tokio::io::AsyncWriteExt::write_all(&mut ours, bytes)
            .await
            .unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut ours).await.unwrap();
        let service = service_fn(|request: hyper::Request<Incoming>| {
            let sender = sender.clone();
            async move {
                let (head, body) = request.into_parts();
                let fields = head.headers.iter().map(|(name, value)| {
                    let value = String::from_utf8_lossy(value.as_bytes());
                    (name.to_string(), value.into_owned())
                });
                let meaning = Meaning {
                    method: head.method.to_string(),
                    target: head.uri.to_string(),
                    fields: sorted(fields),
                    content: body.collect().await.unwrap().to_bytes().to_vec(),
                };
                sender.send(meaning).unwrap();
                Ok::<_, Infallible>(hyper::Response::new(Empty::<Bytes>::new()))
            }
        });
        let served = http1::Builder::new()
            .half_close(true)
            .serve_connection(TokioIo::new(theirs), service);
        // The connection's end may be an error; what counts is what was understood before.
        let _ = served.await;
    });
    drop(sender);
    receiver.iter().collect()
}

fn by_tiny_http(server: &tiny_http::Server, bytes: &[u8], count: usize) -> Vec<Meaning> {
    let address = server.server_addr().to_ip().unwrap();
    let mut ours = TcpStream::connect(address).unwrap();
    ours.write_all(bytes).unwrap();
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    let meanings = (0..count).map_while(|_| {
        let mut request = server.recv_timeout(Duration::from_secs(5)).unwrap()?;
        let mut content = Vec::new();
        request.as_reader().read_to_end(&mut content).unwrap();
        let fields = request.headers().iter().map(|header| {
            let name = header.field.as_str().as_str().to_lowercase();
            (name, header.value.as_str().to_string())
        });
        let meaning = Meaning {
            method: request.method().to_string(),
            target: request.url().to_string(),
            fields: sorted(fields),
            content,
        };
        let _ = request.respond(tiny_http::Response::empty(204));
        Some(meaning)
    });
    let meanings = meanings.collect();
    let _ = ours.read_to_end(&mut Vec::new());
    meanings
}

/// Lines of a client, harmless and otherwise; whatever is refused never leaves.
fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,8}: [!-~]{0,12}",
        "X-[A-Z]{1,3}:[ \t]{0,2}[ -~]{0,12}",
        proptest::sample::select(vec![
            "Connection: close",
            "Connection: X-A, keep-alive",
            "Content-Length: 5",
            "Transfer-Encoding: chunked",
            "Transfer-Encoding : chunked",
            "Transfer_Encoding: chunked",
            "X-Forwarded-For: 1.2.3.4",
            "Forwarded: for=x",
            "TE: trailers",
            "Expect: 100-continue",
            "Upgrade: h2c",
            "Cookie: a=b; c=d",
            "X: y\r\n z",
            "X: y\nContent-Length: 5",
        ])
        .prop_map(String::from),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn what_leaves_means_the_same_to_others(
        lines in proptest::collection::vec(line(), 0..6),
        method in proptest::sample::select(vec!["GET", "POST", "PUT", "DELETE", "PATCH"]),
        path in "/[a-z0-9/._~%;=-]{0,12}",
        query in proptest::option::of("[a-z=&?/%]{0,8}"),
        trusted in any::<bool>(),
    ) {
        thread_local! {
            static SERVER: tiny_http::Server = tiny_http::Server::http("127.0.0.1:0").unwrap();
        }
        let query = query.map_or(String::new(), |query| format!("?{query}"));
        let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let head = format!("{method} {path}{query} HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n");
        let Some(request) = read(head.as_bytes()) else {
            return Ok(());
        };
        if Path::read(request.target.path).is_err() {
            return Ok(());
        }
        let content: &[u8] = match request.framing {
            Framing::None => b"",
            Framing::Length(_) | Framing::Chunked => b"GET /",
        };
        let framing = match request.framing {
            Framing::Length(_) => Framing::Length(content.len() as u64),
            other @ (Framing::None | Framing::Chunked) => other,
        };
        let way = Way { trusted, framing: Some(framing), expect: false, ..Way::default() };
        let mut bytes = pass(&request, &way);
        let head = String::from_utf8(bytes.clone()).unwrap();
        match framing {
            Framing::None => {}
            Framing::Length(_) => bytes.extend_from_slice(content),
            Framing::Chunked => {
                write_size(content.len() as u64, &mut bytes);
                bytes.extend_from_slice(content);
                bytes.extend_from_slice(CHUNK_END);
                write_end(b"", &mut bytes);
            }
        }
        // Two of them, one behind the other: who sees another end sees another second request.
        let twice = [bytes.as_slice(), &bytes].concat();
        let ours = vec![expected(&head, content), expected(&head, content)];
        prop_assert_eq!(&by_hyper(&twice), &ours);
        let theirs = SERVER.with(|server| by_tiny_http(server, &twice, 2));
        prop_assert_eq!(&theirs, &ours);
    }
}
