//! HTTP/2 inside TLS, by ALPN: its frames, written and read by hand.

use std::io::{Read, Write};

use engine::{DriverChoice, Protocol};
use engine_tls::policy::Policy;

use crate::gateway::{Authority, Setup, Stream, Upstream, client_with, connect};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
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
