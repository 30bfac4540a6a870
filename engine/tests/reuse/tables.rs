//! The header tables of connections of HTTP/2 (RFC 7541 section 2.3.2): what one head leaves there,
//! another one may refer to.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc::{Sender, channel},
    },
};

use bytes::Bytes;
use h2::{Reason, client::SendRequest, server};
use http::{HeaderValue, Request, Response, StatusCode};

use crate::{
    edge::{Edge, PATIENCE, Speaks, block_on, upstream},
    wire::frames::{
        self, END_HEADERS, END_STREAM, Frame, HEADERS, RST_STREAM, Reply, STATUS_200, frame,
    },
};

/// Field of every head that says whose it is.
const MARK: &str = "x-mark";

/// The first entry of a dynamic table, by its number (RFC 7541 section 6.1).
const NEWEST: &[u8] = b"\xbe";

fn asked(host: &str, mark: &str) -> Request<()> {
    let asked = Request::get(format!("http://{host}/")).header(MARK, mark);
    asked.body(()).unwrap()
}

/// The mark of the answer.
async fn ask(client: &mut SendRequest<Bytes>, host: &str, mark: &str) -> String {
    let (response, _) = client.send_request(asked(host, mark), true).unwrap();
    let response = response.await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let marks: Vec<_> = response.headers().get_all(MARK).iter().collect();
    assert_eq!(marks.len(), 1, "{marks:?}");
    marks[0].to_str().unwrap().to_owned()
}

/// Enters a mark in the table of whoever reads it.
fn entered(mark: &str) -> Vec<u8> {
    let mut field = b"\x40".to_vec();
    for text in [MARK, mark] {
        field.push(u8::try_from(text.len()).unwrap());
        field.extend(text.as_bytes());
    }
    field
}

/// A target whose first connection is A's and whose second one is B's. It enters its mark with its
/// first head, and refers to it in all others. A's first head comes when its request was taken back.
fn by_number(listener: TcpListener, tell: Sender<u8>) -> Arc<AtomicUsize> {
    let connections = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&connections);
    frames::serve(listener, move || {
        let number = counted.fetch_add(1, SeqCst);
        let tell = tell.clone();
        let mut heads = 0;
        move |came: &Frame| -> Reply {
            let respond = |fields: &[u8]| {
                let block = [STATUS_200, fields].concat();
                frame(HEADERS, END_HEADERS | END_STREAM, came.stream, &block)
            };
            heads += usize::from(came.kind == HEADERS);
            if matches!(came.kind, HEADERS | RST_STREAM) {
                let _ = tell.send(came.kind);
            }
            Ok(match (number, came.kind, heads) {
                (0, RST_STREAM, 1) => respond(&entered("AAAA")),
                (1, HEADERS, 1) => respond(&entered("BBBB")),
                (0, HEADERS, 1) => Vec::new(),
                (_, HEADERS, _) => respond(NEWEST),
                _ => Vec::new(),
            })
        }
    });
    connections
}

fn connect(edge: &Edge, host: &str) -> TcpStream {
    let mut client = TcpStream::connect(edge.address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let asked = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    client.write_all(asked.as_bytes()).unwrap();
    client
}

#[test]
fn a_head_for_a_request_that_was_taken_back_is_referred_to_by_its_own_network_alone() {
    let (listener, address) = upstream();
    let (tell, told) = channel();
    let connections = by_number(listener, tell);
    let edge = Edge::between(address, Speaks::Http2);
    let left = connect(&edge, "a.example");
    assert_eq!(told.recv_timeout(PATIENCE), Ok(HEADERS));
    drop(left);
    assert_eq!(told.recv_timeout(PATIENCE), Ok(RST_STREAM));
    for (host, mark) in [
        ("b.example", "BBBB"),
        ("a.example", "AAAA"),
        ("b.example", "BBBB"),
        ("a.example", "AAAA"),
    ] {
        let mut answer = String::new();
        connect(&edge, host).read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        let marks: Vec<_> = answer.lines().filter(|line| line.contains(MARK)).collect();
        assert_eq!(marks, [format!("{MARK}: {mark}")], "{host}: {answer}");
    }
    assert_eq!(connections.load(SeqCst), 2);
}

/// Serves a target that gives each head's mark back. Notes it, with the host and the number of the
/// connection.
fn echo(listener: TcpListener) -> Rc<RefCell<Vec<(usize, String, String)>>> {
    let notes = Rc::<RefCell<Vec<(usize, String, String)>>>::default();
    let noted = Rc::clone(&notes);
    listener.set_nonblocking(true).unwrap();
    tokio::task::spawn_local(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        let mut number = 0;
        while let Ok((socket, _)) = listener.accept().await {
            let noted = Rc::clone(&noted);
            tokio::task::spawn_local(async move {
                let mut connection = server::handshake(socket).await.unwrap();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    let host = request.uri().host().unwrap().to_owned();
                    let mark = request.headers()[MARK].clone();
                    let text = mark.to_str().unwrap().to_owned();
                    noted.borrow_mut().push((number, host, text));
                    let response = Response::builder().header(MARK, mark).body(()).unwrap();
                    // Fails where the request was taken back.
                    let _ = respond.send_response(response, true);
                }
            });
            number += 1;
        }
    });
    notes
}

/// Requests of A's that come to nothing: one taken back at once, one too large, one malformed.
async fn in_vain(client: &mut SendRequest<Bytes>, number: usize) {
    let mark = format!("A-{number}");
    let (response, mut stream) = client
        .send_request(asked("a.example", &mark), false)
        .unwrap();
    stream.send_reset(Reason::CANCEL);
    drop(response);
    let mut large = asked("a.example", &mark);
    let filling = "A".repeat(1000).parse::<HeaderValue>().unwrap();
    for _ in 0..100 {
        large.headers_mut().append("x-filling", filling.clone());
    }
    let mut malformed = asked("a.example", &mark);
    malformed
        .headers_mut()
        .insert("host", "c.example".parse().unwrap());
    for refused in [large, malformed] {
        let (response, _) = client.send_request(refused, true).unwrap();
        // Refused by a response, or by the end of its stream.
        if let Ok(response) = response.await {
            assert!(response.status().is_client_error(), "{response:?}");
            assert!(!response.headers().contains_key(MARK));
        }
    }
}

#[test]
fn heads_keep_their_own_marks_beside_requests_that_come_to_nothing() {
    block_on(async {
        let (listener, address) = upstream();
        let notes = echo(listener);
        let edge = Edge::between(address, Speaks::Http2);
        // One client asks both networks, and another one each of them.
        let mut both = edge.client().await;
        for number in 0..20 {
            in_vain(&mut both, number).await;
            let (mut one, other) = (edge.client().await, edge.client().await);
            in_vain(&mut one, number).await;
            for (client, host, mark) in [
                (&both, "b.example", "B"),
                (&both, "a.example", "A"),
                (&other, "b.example", "B"),
                (&one, "a.example", "A"),
            ] {
                let mark = format!("{mark}-{number}");
                let got = ask(&mut client.clone(), host, &mark).await;
                assert_eq!(got, mark, "{host}");
            }
        }
        let notes = notes.borrow();
        let of = |host: &str, mark: &str| {
            let own = notes.iter().filter(|(_, asked, _)| asked == host);
            assert!(own.clone().all(|(_, _, noted)| noted.starts_with(mark)));
            own.map(|(number, ..)| *number).collect::<BTreeSet<_>>()
        };
        let (ones, others) = (of("a.example", "A-"), of("b.example", "B-"));
        assert_eq!((ones.len(), others.len()), (1, 1), "each has a connection");
        assert_ne!(ones, others, "of its own");
    });
}
