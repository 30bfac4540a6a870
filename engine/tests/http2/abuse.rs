//! Clients that want to cost more than they ask for (RFC 9113 section 10.5).

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use engine_http::refusal::Refusal;

use crate::{
    edge::{Edge, PATIENCE, Speaks, upstream},
    wire::frames::{
        CONTINUATION, DATA, GOAWAY, HEADERS, PING, PREFACE, RST_STREAM, SETTINGS, WINDOW_UPDATE,
        frame,
    },
};

const ENHANCE_YOUR_CALM: u32 = 0xb;
const PROTOCOL_ERROR: u32 = 0x1;

/// `GET /` of `http://a.example`, by the static table (RFC 7541 appendix A).
const GET: &[u8] = b"\x82\x84\x86\x41\x09a.example";

/// Sends a flood, and gives the code of the GOAWAY that ends it.
fn flood(edge: &Edge, mut next: impl FnMut(u32) -> Vec<u8>) -> u32 {
    let mut stream = TcpStream::connect(edge.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(PREFACE).unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
    let mut reader = stream.try_clone().unwrap();
    let reader = std::thread::spawn(move || goaway(&mut reader));
    for number in 0..200_000 {
        if reader.is_finished() || stream.write_all(&next(number)).is_err() {
            break;
        }
    }
    reader.join().unwrap()
}

/// The code of the first GOAWAY that tells of an error.
fn goaway(stream: &mut TcpStream) -> u32 {
    let mut head = [0; 9];
    loop {
        stream
            .read_exact(&mut head)
            .expect("the connection ended without a word");
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).unwrap();
        if head[3] == GOAWAY {
            let code = u32::from_be_bytes(payload[4..8].try_into().unwrap());
            if code != 0 {
                return code;
            }
        }
    }
}

fn edge() -> Edge {
    let (listener, address) = upstream();
    std::thread::spawn(move || {
        // Takes connections, and never answers.
        let taken: Vec<_> = listener.incoming().flatten().collect();
        drop(taken);
    });
    Edge::before(address, Speaks::Http1)
}

/// The same for all of them: the connection ends because its client costs too much, that is counted under
/// one of these reasons (which limit is met first may depend on how the bytes come), and the next one is
/// served.
fn ends_as(reasons: &[Refusal], next: impl FnMut(u32) -> Vec<u8>) {
    let mut edge = edge();
    assert_eq!(flood(&edge, next), ENHANCE_YOUR_CALM);
    edge.refuses(reasons);
    let mut other = TcpStream::connect(edge.address).unwrap();
    other
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    other
        .write_all(b"GET / HTTP/1.1\r\nHost: b.example\r\n\r\n")
        .unwrap();
    let mut answer = [0; 12];
    other.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 404");
}

#[test]
fn a_flood_of_requests_that_are_taken_back_at_once_ends() {
    ends_as(&[Refusal::FloodOfResets, Refusal::Calm], |number| {
        let stream = number * 2 + 1;
        let mut frames = frame(HEADERS, 0x5, stream, GET);
        frames.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        frames
    });
}

#[test]
fn a_flood_of_pings_ends() {
    ends_as(&[Refusal::FloodOfPings], |_| {
        frame(PING, 0, 0, &[0; 8]).repeat(16)
    });
}

#[test]
fn a_flood_of_settings_ends() {
    ends_as(&[Refusal::FloodOfSettings], |_| {
        frame(SETTINGS, 0, 0, &[]).repeat(16)
    });
}

#[test]
fn a_flood_of_window_updates_ends() {
    ends_as(&[Refusal::FloodOfWindows], |_| {
        frame(WINDOW_UPDATE, 0, 0, &1_u32.to_be_bytes()).repeat(16)
    });
}

#[test]
fn a_flood_of_continuations_ends() {
    let mut begun = false;
    ends_as(&[Refusal::FloodOfContinuations, Refusal::Calm], move |_| {
        if !std::mem::replace(&mut begun, true) {
            return frame(HEADERS, 0, 1, GET);
        }
        // A field without indexing: `x-a: 1`.
        frame(CONTINUATION, 0, 1, b"\x00\x03x-a\x011").repeat(16)
    });
}

#[test]
fn a_flood_of_empty_content_ends() {
    let mut begun = false;
    ends_as(&[Refusal::FloodOfData, Refusal::Calm], move |_| {
        if !std::mem::replace(&mut begun, true) {
            return frame(HEADERS, 0x4, 1, b"\x83\x84\x86\x41\x09a.example");
        }
        frame(DATA, 0, 1, &[]).repeat(16)
    });
}

#[test]
fn frames_that_mean_nothing_end_the_connection() {
    let mut edge = edge();
    let code = flood(&edge, |_| frame(DATA, 0, 0, b"for no stream"));
    assert_eq!(code, PROTOCOL_ERROR);
    edge.refuses(&[Refusal::Http2]);
}
