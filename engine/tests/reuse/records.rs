//! The buffers that TLS records go through.

use std::{
    io::{Read as _, Write as _},
    os::fd::AsFd as _,
};

use engine::Protocol;
use engine_core::outcome::Outcome;
use engine_sys::socket;
use engine_tls::policy::Policy;

use crate::{
    gateway::{Authority, Gateway, Setup, Stream, Upstream, client, connect, read_answer},
    marks::{assert_same, marked},
    waits::{A, B, bytes_out, until_held},
};

/// What B sends, and gets back.
const BYTES: usize = 1 << 20;

/// More than all buffers on the way to a client hold.
const ENDLESS: usize = 24 << 20;

/// How A's session ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// In the middle of a record.
    Half,
    /// By a record that was tampered with.
    Tampered,
    /// With records that its client does not take.
    Unread,
}

/// The ciphertext of a request with so many bytes of a network's.
fn records(stream: &mut Stream, mark: char, count: usize) -> Vec<u8> {
    let host = mark.to_ascii_lowercase();
    let head =
        format!("POST / HTTP/1.1\r\nHost: {host}.example\r\nContent-Length: {count}\r\n\r\n");
    stream.conn.set_buffer_limit(None);
    let mut writer = stream.conn.writer();
    writer.write_all(head.as_bytes()).unwrap();
    writer.write_all(marked(mark, count).as_bytes()).unwrap();
    let mut records = Vec::new();
    while stream.conn.wants_write() {
        stream.conn.write_tls(&mut records).unwrap();
    }
    records
}

/// Breaks A's session so. The socket is reset where the gateway does not end it by itself.
fn break_off(gateway: &mut Gateway, mut stream: Stream, fault: Fault) {
    let count = match fault {
        Fault::Unread => ENDLESS,
        Fault::Half | Fault::Tampered => 40_000,
    };
    let mut records = records(&mut stream, 'A', count);
    match fault {
        Fault::Half => {
            stream
                .sock
                .write_all(&records[..records.len() - 100])
                .unwrap();
            gateway.until("the whole records", |counters| {
                let route = counters.routes.get(&A);
                route.is_some_and(|route| route.tally.bytes_in > 0)
            });
        }
        Fault::Tampered => {
            *records.last_mut().unwrap() ^= 1;
            stream.sock.write_all(&records).unwrap();
            let ended = stream.read_to_end(&mut Vec::new());
            assert!(ended.is_err(), "{ended:?}");
            return;
        }
        Fault::Unread => {
            stream.sock.write_all(&records).unwrap();
            until_held(&mut gateway.engine, A, 0);
        }
    }
    socket::reset_on_close(stream.sock.as_fd()).unwrap();
}

/// Compares what comes back of B's bytes.
fn compare(stream: &mut Stream, count: usize) {
    let answer = read_answer(stream);
    let mut fours = answer.content.windows(4);
    let end = fours.position(|four| four == b"\r\n\r\n").unwrap();
    let (head, got) = answer.content.split_at(end + 4);
    let is_own = head.starts_with(b"POST / HTTP/1.1\r\nHost: b.example\r\n");
    assert!(is_own, "{}", head.escape_ascii());
    assert!(!head.windows(4).any(|four| four == b"AAAA"));
    assert_same(got, &marked('B', count), "b.example");
}

/// Sends B's bytes, and reads nothing while there is room on the way.
fn talk(gateway: &mut Gateway, stream: &mut Stream, count: usize) {
    let before = bytes_out(&mut gateway.engine, B);
    let records = records(stream, 'B', count);
    stream.sock.write_all(&records).unwrap();
    if count == ENDLESS {
        until_held(&mut gateway.engine, B, before);
    }
    compare(stream, count);
}

fn nothing_is_left(fault: Fault) {
    let (authority, upstream) = (Authority::new("one"), Upstream::plain());
    let mut gateway = Setup::new(Protocol::Https)
        .certificate(&authority.leaf(&["a.example", "b.example"]))
        .terminate(None, Policy::default())
        .proxy(Some("a.example"), upstream.address)
        .network(2)
        .proxy(Some("b.example"), upstream.address)
        .start();
    let config = client(&authority, None);
    let count = match fault {
        Fault::Unread => ENDLESS,
        Fault::Half | Fault::Tampered => BYTES,
    };
    let mut kept = connect(gateway.address, &config, "b.example");
    kept.conn.complete_io(&mut kept.sock).unwrap();
    talk(&mut gateway, &mut kept, BYTES);
    // A session of B's is in the middle of a record when A's breaks.
    let begun = records(&mut kept, 'B', BYTES);
    let (begun, rest) = begun.split_at(begun.len() - 50);
    kept.sock.write_all(begun).unwrap();
    let mut broken = connect(gateway.address, &config, "a.example");
    broken.conn.complete_io(&mut broken.sock).unwrap();
    break_off(&mut gateway, broken, fault);
    let mut new = connect(gateway.address, &config, "b.example");
    new.conn.complete_io(&mut new.sock).unwrap();
    talk(&mut gateway, &mut new, count);
    kept.sock.write_all(rest).unwrap();
    compare(&mut kept, BYTES);
    for mut stream in [kept, new] {
        stream.conn.send_close_notify();
        stream.flush().unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.is_empty(), "{}", rest.escape_ascii());
    }
    gateway.outcomes(Outcome::Done, 2);
}

#[test]
fn half_a_record_of_a_session_that_was_reset_is_in_no_other_session() {
    nothing_is_left(Fault::Half);
}

#[test]
fn a_record_that_was_tampered_with_leaves_nothing_to_another_session() {
    nothing_is_left(Fault::Tampered);
}

#[test]
fn records_that_a_client_left_unread_are_in_no_other_session() {
    nothing_is_left(Fault::Unread);
}
