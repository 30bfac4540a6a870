//! Content that nobody takes, and requests beside it.

use std::{
    cell::Cell,
    future::poll_fn,
    io::{BufReader, Read as _, Write as _},
    net::TcpStream,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use engine::Limits;
use h2::{RecvStream, client::Builder, client::SendRequest, server};
use http::Response;

use crate::{
    edge::{Edge, PATIENCE, Speaks, block_on, request, upstream},
    wire::{
        frames::{
            DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, STATUS_200, WINDOW_UPDATE,
            duty, frame, next, window,
        },
        head, send_all, whole,
    },
};

/// The longest that a request takes beside those whose content nobody takes.
const SOON: Duration = Duration::from_secs(2);

/// An upstream that answers `/small` shortly and everything else with more than all windows hold. Gives
/// how many bytes it has got rid of.
fn serve(listener: std::net::TcpListener, streams_max: u32) -> Rc<Cell<usize>> {
    let sent = Rc::new(Cell::new(0));
    let counted = Rc::clone(&sent);
    listener.set_nonblocking(true).unwrap();
    tokio::task::spawn_local(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        while let Ok((socket, _)) = listener.accept().await {
            let counted = Rc::clone(&counted);
            tokio::task::spawn_local(async move {
                let mut builder = server::Builder::new();
                builder.max_concurrent_streams(streams_max);
                let mut connection = builder.handshake::<_, Bytes>(socket).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::task::spawn_local(answer(request, respond, Rc::clone(&counted)));
                }
            });
        }
    });
    sent
}

async fn answer(
    request: http::Request<RecvStream>,
    mut respond: server::SendResponse<Bytes>,
    sent: Rc<Cell<usize>>,
) {
    let is_small = request.uri().path() == "/small";
    let mut stream = respond.send_response(Response::new(()), false).unwrap();
    if is_small {
        stream.send_data(Bytes::from_static(b"ok"), true).unwrap();
        return;
    }
    let piece = Bytes::from(vec![7; 16 << 10]);
    loop {
        stream.reserve_capacity(piece.len());
        let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else {
            return;
        };
        let part = piece.slice(..room.min(piece.len()));
        sent.set(sent.get() + part.len());
        if stream.send_data(part, false).is_err() {
            return;
        }
    }
}

/// A client whose own windows hold back one stream, and not the connection.
async fn client(edge: &Edge) -> SendRequest<Bytes> {
    let mut builder = Builder::new();
    builder
        .enable_push(false)
        .initial_connection_window_size(1 << 30);
    edge.client_of(&builder).await
}

/// Waits until nothing moves any more.
async fn rest(moved: impl Fn() -> usize) {
    let mut before = usize::MAX;
    while before != moved() {
        before = moved();
        tokio::time::sleep(Duration::from_millis(150)).await;
    }
}

async fn probe(client: &mut SendRequest<Bytes>, path: &str) {
    let (response, _) = client.send_request(request("GET", path), true).unwrap();
    let answered = async { whole(response.await.unwrap().into_body()).await };
    let answered = tokio::time::timeout(SOON, answered).await;
    assert_eq!(answered.expect("it does not wait for others").0, b"ok");
}

fn probe_in_http_1(gateway: std::net::SocketAddr) {
    let mut stream = TcpStream::connect(gateway).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
        .write_all(b"GET /small HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("ok"), "{answer}");
}

/// The time that 99 of 100 probes take at most.
async fn p99(client: &mut SendRequest<Bytes>) -> Duration {
    let mut times = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        probe(client, "/small").await;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    times[197]
}

/// So many readers that do not read, on so many connections, of an upstream with so many streams.
fn beside(readers: usize, connections: usize, streams_max: u32, limits: Limits) {
    block_on(async {
        let (listener, address) = upstream();
        let sent = serve(listener, streams_max);
        let edge = Edge::with(address, Speaks::Http2, limits);
        let mut other = client(&edge).await;
        let alone = p99(&mut other).await;
        let mut held = Vec::new();
        for connection in 0..connections {
            let mut client = client(&edge).await;
            for _ in (connection..readers).step_by(connections) {
                let asked = client.send_request(request("GET", "/large"), true);
                held.push(asked.unwrap().0.await.unwrap());
            }
        }
        rest(|| sent.get()).await;
        let beside = p99(&mut other).await;
        // Other tests run at the same time, and what is waited for would take seconds.
        assert!(
            beside < 3 * alone + Duration::from_millis(50),
            "{beside:?}, {alone:?}"
        );
        let gateway = edge.address;
        let probed = tokio::task::spawn_blocking(move || probe_in_http_1(gateway));
        probed.await.unwrap();
    });
}

#[test]
fn readers_that_do_not_read_stop_nobody_else() {
    beside(17, 1, 1000, Limits::default());
    beside(17, 17, 1000, Limits::default());
}

#[test]
fn many_readers_that_do_not_read_stop_nobody_else() {
    beside(80, 1, 1000, Limits::default());
    // The upstream allows few requests on a connection: there are more connections than are kept.
    beside(80, 20, 5, Limits::default());
}

#[test]
fn hundreds_of_readers_that_do_not_read_stop_nobody_else() {
    let mut limits = Limits::default();
    limits.http2.stream_window = 64 << 10;
    limits.http2.upstream_window = 1 << 20;
    beside(640, 5, 1000, limits);
}

/// Uploads that nobody takes, and then others beside them, on the same connection or another one.
fn upload_beside(limits: Limits, is_same_connection: bool) {
    let (listener, address) = upstream();
    crate::wire::serve(listener, |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let head = head(&mut reader).unwrap();
        if head.starts_with("POST /stalled") {
            std::thread::sleep(PATIENCE);
            return;
        }
        reader.read_exact(&mut vec![0; UPLOAD]).unwrap();
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
        (&stream).write_all(answer.as_bytes()).unwrap();
    });
    let edge = Edge::with(address, Speaks::Http1, limits);
    block_on(async {
        let mut client = edge.client().await;
        let sent = Rc::new(Cell::new(0));
        for _ in 0..6 {
            let (response, mut stream) = client
                .send_request(request("POST", "/stalled"), false)
                .unwrap();
            let sent = Rc::clone(&sent);
            tokio::task::spawn_local(async move {
                let _response = response;
                let piece = Bytes::from(vec![3; 16 << 10]);
                loop {
                    send_all(&mut stream, piece.clone()).await;
                    sent.set(sent.get() + piece.len());
                }
            });
        }
        rest(|| sent.get()).await;
        if !is_same_connection {
            client = edge.client().await;
        }
        for _ in 0..5 {
            let begun = Instant::now();
            let mut asked = request("POST", "/");
            asked.headers_mut().insert("content-length", UPLOAD.into());
            let (response, mut stream) = client.send_request(asked, false).unwrap();
            let answered = async {
                send_all(&mut stream, Bytes::from(vec![5; UPLOAD])).await;
                stream.send_data(Bytes::new(), true).unwrap();
                whole(response.await.unwrap().into_body()).await
            };
            let answered = tokio::time::timeout(SOON, answered).await;
            let (bytes, _) = answered.unwrap_or_else(|_| panic!("after {:?}", begun.elapsed()));
            assert_eq!(bytes, b"ok");
        }
    });
}

#[test]
fn uploads_that_nobody_takes_stop_no_other_upload() {
    upload_beside(Limits::default(), true);
}

#[test]
fn uploads_that_nobody_takes_stop_no_other_connection_when_there_is_no_room() {
    let limits = Limits {
        held_bytes_max: 512 << 10,
        ..Limits::default()
    };
    upload_beside(limits, false);
}

#[test]
fn a_request_takes_another_connection_when_those_that_are_kept_are_full() {
    let mut limits = Limits::default();
    limits.http2.connections_per_target_max = 1;
    beside(3, 3, 1, limits);
}

/// Connections, uploads on each, and their size.
const CONNECTIONS: usize = 48;
const UPLOADS: usize = 16;
const UPLOAD: usize = 256 << 10;

/// An upstream that takes no more of requests than windows are to begin with, until it is told to. It
/// answers what has come to its end.
#[derive(Default)]
struct Shut {
    is_open: AtomicBool,
    /// Bytes of content that it took.
    taken: AtomicUsize,
}

fn serve_shut(listener: std::net::TcpListener) -> Arc<Shut> {
    let shut = Arc::new(Shut::default());
    let served = Arc::clone(&shut);
    crate::wire::serve(listener, move |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        reader.read_exact(&mut vec![0; PREFACE.len()]).unwrap();
        (&stream).write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
        let (writer, shut) = (stream.try_clone().unwrap(), Arc::clone(&served));
        std::thread::spawn(move || {
            while !shut.is_open.load(Relaxed) {
                std::thread::sleep(Duration::from_millis(10));
            }
            let large = 1_u32 << 30;
            let settings = frame(SETTINGS, 0, 0, &window(large));
            let update = frame(WINDOW_UPDATE, 0, 0, &large.to_be_bytes());
            let _ = (&writer).write_all(&[settings, update].concat());
        });
        while let Ok(came) = next(&mut reader) {
            let mut answer = duty(&came);
            if came.kind == DATA {
                served.taken.fetch_add(came.payload.len(), Relaxed);
            }
            if matches!(came.kind, HEADERS | DATA) && came.flags & END_STREAM != 0 {
                let flags = END_HEADERS | END_STREAM;
                answer.extend(frame(HEADERS, flags, came.stream, STATUS_200));
            }
            if (&stream).write_all(&answer).is_err() {
                return;
            }
        }
    });
    shut
}

#[test]
fn what_a_worker_holds_of_uploads_that_nobody_takes_is_bounded_whenever_connections_began() {
    let (listener, address) = upstream();
    let upstream = serve_shut(listener);
    let limits = Limits {
        held_bytes_max: 4 << 20,
        ..Limits::default()
    };
    let most = limits.held_bytes_max + CONNECTIONS * UPLOAD;
    let edge = Edge::with(address, Speaks::Http2, limits);
    block_on(async {
        let mut clients = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut client = edge.client().await;
            // It has all of its windows.
            get(&mut client).await;
            clients.push(client);
        }
        let sent = Rc::new(Cell::new(0));
        let mut uploads = Vec::new();
        for _ in 0..UPLOADS {
            for client in &mut clients {
                let (response, stream) = client.send_request(request("POST", "/"), false).unwrap();
                let sent = Rc::clone(&sent);
                uploads.push(tokio::task::spawn_local(upload(response, stream, sent)));
            }
        }
        rest(|| sent.get()).await;
        let held = sent.get() - upstream.taken.load(Relaxed);
        assert!(held < most, "{held} bytes are held");
        // Others are served meanwhile.
        get(&mut edge.client().await).await;
        upstream.is_open.store(true, Relaxed);
        for upload in uploads {
            upload.await.unwrap();
        }
        assert_eq!(sent.get(), CONNECTIONS * UPLOADS * UPLOAD);
    });
}

#[test]
fn with_room_every_upload_has_a_window_of_its_own() {
    let (listener, address) = upstream();
    let upstream = serve_shut(listener);
    let edge = Edge::before(address, Speaks::Http2);
    block_on(async {
        let mut client = edge.client().await;
        let sent = Rc::new(Cell::new(0));
        let mut uploads = Vec::new();
        for _ in 0..UPLOADS {
            let (response, stream) = client.send_request(request("POST", "/"), false).unwrap();
            let sent = Rc::clone(&sent);
            uploads.push(tokio::task::spawn_local(upload(response, stream, sent)));
        }
        // Nobody takes them, and the gateway takes all that their windows are for.
        while sent.get() < UPLOADS * UPLOAD {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        upstream.is_open.store(true, Relaxed);
        for upload in uploads {
            upload.await.unwrap();
        }
    });
}

async fn get(client: &mut SendRequest<Bytes>) {
    let (response, _) = client.send_request(request("GET", "/"), true).unwrap();
    assert_eq!(response.await.unwrap().status(), http::StatusCode::OK);
}

async fn upload(
    response: h2::client::ResponseFuture,
    mut stream: h2::SendStream<Bytes>,
    sent: Rc<Cell<usize>>,
) {
    let piece = Bytes::from(vec![3; 16 << 10]);
    for _ in 0..UPLOAD / piece.len() {
        send_all(&mut stream, piece.clone()).await;
        sent.set(sent.get() + piece.len());
    }
    stream.send_data(Bytes::new(), true).unwrap();
    assert_eq!(response.await.unwrap().status(), http::StatusCode::OK);
}
