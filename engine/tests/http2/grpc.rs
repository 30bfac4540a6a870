//! What libraries of gRPC send besides messages.

use std::{
    io::{BufReader, Write as _},
    net::TcpStream,
};

use crate::{
    edge::{Edge, PATIENCE, Speaks, upstream},
    wire::frames::{
        DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, Reply,
        SETTINGS, STATUS_200, WINDOW_UPDATE, duty, frame, next, serve,
    },
};

/// Messages each way, and how many of them are under way at once.
const MESSAGES: usize = 20_000;
const AT_ONCE: usize = 100;

/// `POST /` of `http://a.example`.
const POST: &[u8] = b"\x83\x84\x86\x41\x09a.example";

/// What grpcio and grpc-go send for each frame of content: its bytes back to both windows, and a ping
/// that measures the path.
fn thanks(content: &Frame) -> Vec<u8> {
    let size = u32::try_from(content.payload.len()).unwrap().to_be_bytes();
    let mut frames = frame(WINDOW_UPDATE, 0, content.stream, &size);
    frames.extend(frame(WINDOW_UPDATE, 0, 0, &size));
    frames.extend(frame(PING, 0, 0, &[7; 8]));
    frames
}

/// Gives all messages back.
fn echo(asked: &Frame) -> Reply {
    Ok(match asked.kind {
        HEADERS => frame(HEADERS, END_HEADERS, asked.stream, STATUS_200),
        DATA if asked.payload.is_empty() => frame(DATA, END_STREAM, asked.stream, &[]),
        DATA => [
            thanks(asked),
            frame(DATA, asked.flags, asked.stream, &asked.payload),
        ]
        .concat(),
        _ => Vec::new(),
    })
}

#[test]
fn many_small_messages_both_ways_are_no_flood() {
    let (listener, address) = upstream();
    serve(listener, || echo);
    let edge = Edge::before(address, Speaks::Http2);
    let mut stream = TcpStream::connect(edge.address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let begin = [
        PREFACE.to_vec(),
        frame(SETTINGS, 0, 0, &[]),
        frame(HEADERS, END_HEADERS, 1, POST),
    ];
    stream.write_all(&begin.concat()).unwrap();
    let message = frame(DATA, 0, 1, b"sixteen bytes of");
    let mut bytes = 0;
    for round in 1..=MESSAGES / AT_ONCE {
        stream.write_all(&message.repeat(AT_ONCE)).unwrap();
        let mut answers = Vec::new();
        while bytes < round * AT_ONCE * 16 {
            let came = next(&mut reader).unwrap();
            assert!(
                !matches!(came.kind, GOAWAY | RST_STREAM),
                "ended after {bytes} bytes: {:?}",
                came.payload
            );
            answers.extend(duty(&came));
            if came.kind == DATA {
                bytes += came.payload.len();
                answers.extend(thanks(&came));
            }
        }
        stream.write_all(&answers).unwrap();
    }
    assert_eq!(bytes, MESSAGES * 16);
}
