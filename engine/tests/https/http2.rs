//! HTTP/2 inside TLS, by ALPN: its frames, written and read by hand.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::TcpStream,
    thread,
    time::Duration,
};

use engine::{DriverChoice, Protocol};
use engine_tls::policy::Policy;

use crate::gateway::{Authority, Setup, Stream, Upstream, client_with, connect, connect_narrow};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

fn send_frame(stream: &mut Stream, (kind, flags, id): (u8, u8, u32), payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(id.to_be_bytes());
    frame.extend(payload);
    stream.write_all(&frame).unwrap();
}

/// Asks for `/` of a host, by the static table of RFC 7541, and gives the content of the answer.
fn ask(stream: &mut Stream, id: u32, host: &str) -> String {
    let mut head = b"\x82\x84\x87\x41".to_vec();
    head.push(u8::try_from(host.len()).unwrap());
    head.extend(host.as_bytes());
    send_frame(stream, (HEADERS, END_STREAM | END_HEADERS, id), &head);
    stream.flush().unwrap();
    let mut content = Vec::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).unwrap();
        if head[3] == DATA {
            assert_eq!(head[5..], id.to_be_bytes());
            content.extend(payload);
        }
        if matches!(head[3], DATA | HEADERS) && head[4] & END_STREAM != 0 {
            return String::from_utf8(content).unwrap();
        }
    }
}

#[test]
fn who_offers_http_2_gets_it_under_both_drivers_and_names_that_the_certificate_has() {
    for driver in [DriverChoice::IoUring, DriverChoice::Epoll] {
        let (authority, upstream) = (Authority::new("one"), Upstream::plain());
        let gateway = Setup::new(Protocol::Https)
            .driver(driver)
            .certificate(&authority.leaf(&["a.example", "b.example"]))
            .terminate(None, Policy::default())
            .proxy(None, upstream.address)
            .start();
        let config = client_with(&authority, None, &[b"h2", b"http/1.1"]);
        let mut stream = connect(gateway.address, &config, "a.example");
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .unwrap();
        send_frame(&mut stream, (SETTINGS, 0, 0), &[]);
        for (id, host) in [(1, "a.example"), (3, "a.example"), (5, "b.example")] {
            let answer = ask(&mut stream, id, host);
            assert!(answer.contains(&format!("Host: {host}\r\n")), "{answer}");
            assert!(answer.contains("X-Forwarded-Proto: https\r\n"), "{answer}");
        }
        assert_eq!(stream.conn.alpn_protocol(), Some(&b"h2"[..]));
        let answer = ask(&mut stream, 7, "c.example");
        assert!(answer.contains("MISDIRECTED"), "{answer}");
        assert_eq!(upstream.connections(), 1);
    }
}

/// What the upstream gives before it breaks off.
const PART: usize = 300_000;

/// Streams that are sent without an end: more than the gateway's socket takes at once.
const ENDLESS: u32 = 16;

/// Answers the paths below `/endless` without an end, and breaks everything else off behind a part.
fn endless_and_broken(mut socket: TcpStream) {
    let mut reader = BufReader::new(socket.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).unwrap();
    }
    let framing = b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n";
    socket.write_all(framing).unwrap();
    if !head.starts_with("GET /endless") {
        socket.write_all(&vec![b'x'; PART]).unwrap();
        return;
    }
    while socket.write_all(&[b'x'; 64 << 10]).is_ok() {}
}

#[test]
fn a_slow_client_gets_all_that_came_before_its_upstream_broke_off() {
    let upstream = Upstream::start(endless_and_broken);
    let authority = Authority::new("one");
    let gateway = Setup::new(Protocol::Https)
        .certificate(&authority.leaf(&["a.example"]))
        .terminate(None, Policy::default())
        .proxy(None, upstream.address)
        .start();
    let config = client_with(&authority, None, &[b"h2"]);
    let mut stream = connect_narrow(gateway.address, &config, "a.example");
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .unwrap();
    let large = 1_u32 << 30;
    // SETTINGS_INITIAL_WINDOW_SIZE.
    let settings = [&[0, 4][..], &large.to_be_bytes()].concat();
    send_frame(&mut stream, (SETTINGS, 0, 0), &settings);
    send_frame(&mut stream, (WINDOW_UPDATE, 0, 0), &large.to_be_bytes());
    let ask = |stream: &mut Stream, number: u32, path: &[u8]| {
        let length = u8::try_from(path.len()).unwrap();
        let head = [b"\x82\x87\x41\x09a.example\x04", &[length][..], path].concat();
        send_frame(
            stream,
            (HEADERS, END_STREAM | END_HEADERS, number * 2 + 1),
            &head,
        );
    };
    for number in 0..ENDLESS {
        ask(&mut stream, number, b"/endless");
    }
    let (mut of_others, mut of_broken, mut is_asked, mut is_answered) = (0, 0, false, false);
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).unwrap();
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).unwrap();
        let is_broken = head[5..] == (ENDLESS * 2 + 1).to_be_bytes();
        match head[3] {
            HEADERS if is_broken => is_answered = true,
            DATA if is_broken => of_broken += payload.len(),
            DATA => of_others += payload.len(),
            RST_STREAM => break assert!(is_broken),
            _ => {}
        }
        if of_others > 8 << 20 && !std::mem::replace(&mut is_asked, true) {
            ask(&mut stream, ENDLESS, b"/broken");
        }
        // The gateway is faster: its socket stays full.
        thread::sleep(Duration::from_millis(1));
    }
    assert!(is_answered);
    assert_eq!(of_broken, PART);
}
