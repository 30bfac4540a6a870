//! Clients that want to cost more than they ask for (RFC 9113 section 10.5).

use std::{
    io::{BufReader, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use engine::Limits;
use engine_http::refusal::Refusal;

use crate::{
    edge::{Edge, PATIENCE, Speaks, upstream},
    wire::{
        frames,
        frames::{
            CONTINUATION, DATA, END_HEADERS, END_STREAM, Frame, GOAWAY, HEADERS, PING, PREFACE,
            RST_STREAM, SETTINGS, WINDOW_UPDATE, duty, frame, get, next, window,
        },
        head, serve,
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

/// A client that looks at each answer before it goes on.
struct Client(BufReader<TcpStream>);

impl Client {
    /// Begins with these settings.
    fn connect(edge: &Edge, settings: &[u8]) -> Self {
        let stream = TcpStream::connect(edge.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut client = Self(BufReader::new(stream));
        client.send(PREFACE);
        client.send(&frame(SETTINGS, 0, 0, settings));
        client
    }

    fn send(&mut self, bytes: &[u8]) {
        // Whatever is against it, the next answer says.
        let _ = self.0.get_mut().write_all(bytes);
    }

    /// The next frame of this kind, or the end.
    fn until(&mut self, kind: u8, is_it: impl Fn(&Frame) -> bool) -> Result<Frame, Frame> {
        loop {
            let came = next(&mut self.0).unwrap();
            if came.kind == GOAWAY {
                return Err(came);
            }
            if came.kind == kind && is_it(&came) {
                return Ok(came);
            }
            self.send(&duty(&came));
        }
    }
}

#[test]
fn answers_to_content_do_not_pay_for_requests_that_are_taken_back() {
    let (listener, address) = upstream();
    serve(listener, |stream| {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        if head(&mut reader).is_some_and(|head| head.starts_with("GET /much")) {
            let head = "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n";
            (&stream).write_all(head.as_bytes()).unwrap();
            let _ = (&stream).write_all(&[b'x'; 100_000]);
        }
        let _ = reader.read(&mut [0]);
    });
    let mut edge = Edge::before(address, Speaks::Http1);
    // Each byte of content is a frame, and asked for by one.
    let mut client = Client::connect(&edge, &window(1));
    let asked = frame(HEADERS, END_HEADERS | END_STREAM, 1, &get("/much"));
    client.send(&asked);
    for _ in 0..3000 {
        let came = client.until(DATA, |_| true).ok().expect("it is no flood");
        assert_eq!(came.payload.len(), 1);
        client.send(&frame(WINDOW_UPDATE, 0, 1, &1_u32.to_be_bytes()));
    }
    // So few at a time that each is seen before it is taken back.
    let mut ended = None;
    for round in 0..400 {
        let mut frames = Vec::new();
        for number in 0..10 {
            let stream = 3 + (round * 10 + number) * 2;
            frames.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &get("/x")));
            frames.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        }
        frames.extend(frame(PING, 0, 0, &[1; 8]));
        client.send(&frames);
        if let Err(goaway) = client.until(PING, |ping| ping.flags == END_STREAM) {
            ended = Some(goaway);
            break;
        }
    }
    let goaway = ended.expect("4000 requests were taken back");
    assert_eq!(goaway.payload[4..8], ENHANCE_YOUR_CALM.to_be_bytes());
    edge.refuses(&[Refusal::FloodOfResets]);
}

#[test]
fn content_in_tiny_frames_does_not_hold_more_than_its_bytes_say() {
    let (listener, address) = upstream();
    // It takes no content at all.
    frames::serve(listener, || {
        let mut is_told = false;
        move |_: &Frame| match std::mem::replace(&mut is_told, true) {
            false => Ok(frame(SETTINGS, 0, 0, &window(0))),
            true => Ok(Vec::new()),
        }
    });
    let limits = Limits {
        held_bytes_max: 1 << 20,
        ..Limits::default()
    };
    let mut edge = Edge::with(address, Speaks::Http2, limits);
    let code = flood(&edge, |number| match number {
        0 => frame(HEADERS, END_HEADERS, 1, b"\x83\x84\x86\x41\x09a.example"),
        // Less than the window of the connection together.
        1..2000 => frame(DATA, 0, 1, b"x").repeat(16),
        _ => {
            std::thread::sleep(Duration::from_millis(1));
            Vec::new()
        }
    });
    assert_eq!(code, ENHANCE_YOUR_CALM);
    edge.refuses(&[Refusal::FloodOfData]);
}
