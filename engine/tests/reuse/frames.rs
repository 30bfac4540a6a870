//! The buffer that frames of HTTP/2 are gathered in.

use std::{
    io::{BufReader, Write as _},
    net::TcpStream,
    os::fd::AsFd as _,
};

use engine_sys::socket;

use crate::{
    edge::{Edge, PATIENCE, Speaks, upstream},
    marks::{answer, assert_same, marked},
    waits::{A, bytes_out, until_all_ended, until_held},
    wire::{
        frames::{
            DATA, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, WINDOW_UPDATE, frame, next,
        },
        head, serve,
    },
};

/// More than all buffers on the way to a client hold.
const ENDLESS: usize = 64 << 20;

/// SETTINGS_INITIAL_WINDOW_SIZE, as large as it may be: what a client does not read waits in sockets
/// and buffers, and not for its window.
const WIDE: &[u8] = b"\x00\x04\x7f\xff\xff\xff";

/// A client that asks for `/` of a host.
fn client(edge: &Edge, host: &str) -> TcpStream {
    let mut stream = TcpStream::connect(edge.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // `GET /` of `http`, by the static table (RFC 7541 appendix A).
    let mut block = b"\x82\x84\x86\x41".to_vec();
    block.push(u8::try_from(host.len()).unwrap());
    block.extend(host.as_bytes());
    let begin = [
        PREFACE.to_vec(),
        frame(SETTINGS, 0, 0, WIDE),
        frame(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes()),
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &block),
    ];
    stream.write_all(&begin.concat()).unwrap();
    stream
}

#[test]
fn frames_that_a_client_left_unsent_are_sent_to_nobody() {
    let (listener, address) = upstream();
    serve(listener, |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(head) = head(&mut reader) {
            let answer = match head.contains("\r\nHost: a.example\r\n") {
                true => answer('A', ENDLESS),
                false => answer('B', 100_000),
            };
            // Of A's, the gateway takes a part.
            if (&stream).write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    });
    let mut edge = Edge::between(address, Speaks::Http1);
    for _ in 0..2 {
        let before = bytes_out(&mut edge.engine, A);
        let left = client(&edge, "a.example");
        until_held(&mut edge.engine, A, before);
        socket::reset_on_close(left.as_fd()).unwrap();
        drop(left);
        until_all_ended(&mut edge.engine);
        let mut reader = BufReader::new(client(&edge, "b.example"));
        let mut content = Vec::new();
        let mut count = 0;
        loop {
            let came = next(&mut reader).unwrap();
            count += 1;
            // What every server says first (RFC 9113 section 3.4).
            assert_eq!(came.kind == SETTINGS && came.flags == 0, count == 1);
            if came.kind == DATA {
                content.extend(came.payload);
            }
            if matches!(came.kind, DATA | HEADERS) && came.flags & END_STREAM != 0 {
                break;
            }
        }
        assert_same(&content, &marked('B', 100_000), "b.example");
    }
}
