//! What clients do.

use std::io::{ErrorKind, Read as _, Write as _};

use engine_http::rules::Policy;

use crate::front::http::tests::bench::{
    Gateway, Reply, Site, Upstream, body, eventually, ok, read_to_end, status,
};

#[test]
fn a_client_that_goes_while_the_upstream_thinks_is_noticed() {
    let upstream = Upstream::start(|_| Reply::Silence);
    let mut gateway = Gateway::start(Site::proxy(&[upstream.address], Policy::default()));
    let mut client = gateway.connect();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        .unwrap();
    eventually("the upstream is asked", || upstream.heads().len() == 1);
    drop(client);
    eventually("the upstream is let go", || upstream.ended() == 1);
    assert_eq!(gateway.record().outcome().label(), "client_reset");
    assert_eq!(gateway.counted().statuses[0], 1);
}

#[test]
fn a_client_that_is_ahead_of_its_answers_gets_them_in_order() {
    let upstream = Upstream::start(|head| ok(head.split(' ').nth(1).unwrap_or("")));
    let gateway = Gateway::start(Site::proxy(&[upstream.address], Policy::default()));
    let request =
        |path: &str, end: &str| format!("GET {path} HTTP/1.1\r\nHost: a.example\r\n{end}\r\n");
    let all: String = (0..20)
        .map(|index| request(&format!("/{index}"), ""))
        .collect();
    let answers = gateway.ask(&(all + &request("/last", "Connection: close\r\n")));
    let bodies: Vec<&str> = answers.split("HTTP/1.1 200 OK").skip(1).map(body).collect();
    let expected: Vec<String> = (0..20).map(|index| format!("/{index}")).collect();
    assert_eq!(bodies[..20], expected);
    assert_eq!(bodies[20..], ["/last"]);
}

#[test]
fn a_client_of_http_1_0_gets_neither_chunks_nor_interim_answers() {
    let upstream = Upstream::start(|_| {
        Reply::Bytes(
            "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\
             Transfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n\
             3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"
                .into(),
        )
    });
    let gateway = Gateway::start(Site::proxy(&[upstream.address], Policy::default()));
    let answer = gateway.ask("GET / HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!((status(&answer), body(&answer)), (200, "abc"));
    assert!(
        !answer.contains("X-T") && answer.contains("Connection: close"),
        "{answer}"
    );
    let answer = gateway.get("/", "");
    assert!(
        answer.starts_with("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"),
        "{answer}"
    );
    assert!(answer.ends_with("0\r\nX-T: 1\r\n\r\n"), "{answer}");
}

#[test]
fn a_client_that_asks_first_is_told_to_go_on() {
    let upstream = Upstream::start(|head| {
        if head.contains("100-continue") {
            return Reply::Bytes("HTTP/1.1 100 Continue\r\n\r\n".into());
        }
        ok("taken")
    });
    let gateway = Gateway::start(Site::proxy(&[upstream.address], Policy::default()));
    let mut client = gateway.connect();
    client
        .write_all(
            b"POST / HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\n\
              Connection: close\r\nContent-Length: 4\r\n\r\n",
        )
        .unwrap();
    let mut interim = [0; 25];
    client.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    // What the server takes for a head is the content.
    client.write_all(b"\r\n\r\n").unwrap();
    let answer = read_to_end(&mut client);
    assert_eq!((status(&answer), body(&answer)), (200, "taken"));
}

#[test]
fn what_is_upgraded_flows_both_ways() {
    let upstream = Upstream::start(|head| {
        if head.contains("Upgrade: chat") {
            let head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat";
            return Reply::Bytes(format!("{head}\r\nConnection: Upgrade\r\n\r\n"));
        }
        Reply::Bytes("pong".into())
    });
    let gateway = Gateway::start(Site::proxy(&[upstream.address], Policy::default()));
    let mut client = gateway.connect();
    // The first words of the other protocol come with the request.
    client
        .write_all(
            b"GET / HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n\
              ping\r\n\r\n",
        )
        .unwrap();
    let mut seen = String::new();
    let mut piece = [0; 256];
    while !seen.ends_with("pong") {
        let count = match client.read(&mut piece) {
            // A read with a timeout is not taken up again after a signal (signal(7)).
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            read => read.unwrap(),
        };
        assert!(count > 0, "{seen}");
        seen += std::str::from_utf8(&piece[..count]).unwrap();
    }
    assert_eq!(status(&seen), 101);
    assert_eq!(
        upstream.heads().last().map(String::as_str),
        Some("ping\r\n\r\n")
    );
}

#[test]
fn what_breaks_before_any_of_it_was_sent_is_answered_by_the_gateway() {
    let upstream = Upstream::start(|_| {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        Reply::Bytes(format!("{head}3\r\nfew\r\nzz\r\n"))
    });
    let gateway = Gateway::start(Site::proxy(&[upstream.address], Policy::default()));
    assert_eq!(status(&gateway.get("/", "")), 502);
}

#[test]
fn a_client_that_is_answered_before_it_has_sent_all_is_told_that_the_connection_ends() {
    let refuses = "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n";
    let upstream = Upstream::start(|_| Reply::Bytes(refuses.to_owned()));
    let gateway = Gateway::start(Site::proxy(&[upstream.address], Policy::default()));
    let answer =
        gateway.ask("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1000\r\n\r\nsome of it");
    assert_eq!(status(&answer), 413);
    assert!(answer.contains("Connection: close\r\n"), "{answer}");
}
