//! What was received ahead of its use, and what is not sent yet.

use std::{
    io::{BufReader, Read as _, Write as _},
    net::TcpStream,
    os::fd::AsFd as _,
    sync::mpsc::{Sender, channel},
};

use engine_sys::socket;

use crate::{
    edge::{Edge, PATIENCE, Speaks, upstream},
    marks::{answer, assert_same, marked},
    waits::{A, until_all_ended, until_held},
    wire::{head, serve},
};

/// Content of B's, each way.
const BYTES: usize = 2000;

/// More than all buffers on the way to a client hold.
const ENDLESS: usize = 64 << 20;

/// Answers what is asked by the bytes of whose host it is, B's together with what it was asked by.
fn respond(mut stream: &TcpStream, tell: &Sender<()>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Some(head) = head(&mut reader) {
        let response = match head.split(' ').nth(1).unwrap() {
            "/half" => "HTTP/1.1 200 OK\r\nX-Mark: AAAAAAAA".to_owned(),
            "/endless" => answer('A', ENDLESS),
            _ => {
                let mut content = vec![0; BYTES];
                reader.read_exact(&mut content).unwrap();
                assert_same(&content, &marked('B', BYTES), "the target");
                assert!(!head.contains("AAAA"), "{head}");
                answer('B', BYTES)
            }
        };
        // In pieces, so that little is received over what was there before.
        let (first, rest) = response.split_at(response.len().min(20));
        let sent = stream.write_all(first.as_bytes());
        let sent = sent.and_then(|()| stream.write_all(rest.as_bytes()));
        tell.send(()).unwrap();
        if sent.is_err() {
            return;
        }
    }
}

fn connect(edge: &Edge) -> TcpStream {
    let stream = TcpStream::connect(edge.address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Asks as B, in small pieces, and compares all that comes.
fn talk(edge: &Edge) {
    let content = marked('B', BYTES);
    let asked = format!(
        "POST / HTTP/1.1\r\nHost: b.example\r\nConnection: close\r\n\
         Content-Length: {BYTES}\r\n\r\n{content}"
    );
    let mut stream = connect(edge);
    for piece in asked.as_bytes().chunks(23) {
        stream.write_all(piece).unwrap();
    }
    let mut got = Vec::new();
    stream.read_to_end(&mut got).unwrap();
    let end = got.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let (head, got) = got.split_at(end + 4);
    assert!(
        head.starts_with(b"HTTP/1.1 200 "),
        "{}",
        head.escape_ascii()
    );
    assert!(!head.windows(4).any(|four| four == b"AAAA"));
    assert_same(got, &content, "the client");
}

/// Breaks A's connection when it has sent this and all is where it gets to, and asks as B.
fn nothing_is_left(asked: &str) {
    let (listener, address) = upstream();
    let (tell, told) = channel();
    serve(listener, move |stream| respond(&stream, &tell));
    let mut edge = Edge::between(address, Speaks::Http1);
    talk(&edge);
    told.recv_timeout(PATIENCE).unwrap();
    let mut left = connect(&edge);
    left.write_all(asked.as_bytes()).unwrap();
    if asked.contains(" /endless ") {
        until_held(&mut edge.engine, A, 0);
    } else if asked.contains(" /half ") {
        told.recv_timeout(PATIENCE).unwrap();
    }
    // Another one of B's beside it, before and after.
    talk(&edge);
    socket::reset_on_close(left.as_fd()).unwrap();
    drop(left);
    until_all_ended(&mut edge.engine);
    talk(&edge);
}

#[test]
fn half_a_head_of_a_client_that_left_is_in_front_of_no_other_request() {
    let half = format!(
        "GET / HTTP/1.1\r\nX-Mark: {}",
        marked('A', 4000).replace('\n', "")
    );
    nothing_is_left(&half);
}

#[test]
fn half_a_head_of_a_target_whose_client_left_is_in_front_of_no_other_response() {
    // With what is received of the next request meanwhile.
    let behind = marked('A', 4000);
    let asked = format!("GET /half HTTP/1.1\r\nHost: a.example\r\n\r\n{behind}");
    nothing_is_left(&asked);
}

#[test]
fn content_that_a_client_left_unread_goes_to_nobody() {
    nothing_is_left("GET /endless HTTP/1.1\r\nHost: a.example\r\n\r\n");
}
