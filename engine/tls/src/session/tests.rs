mod hostile;

use rustls::version::{TLS12, TLS13};

use super::*;
use crate::{
    Certificates, Policy, ServerTlsConfig,
    testing::{Authority, Both, Client, End, carry, terms},
};

fn certified() -> (Authority, Arc<ServerTlsConfig>) {
    let authority = Authority::new();
    let certificates = Certificates::default();
    certificates.add(
        &authority.bundle(&["a.example"]),
        std::time::SystemTime::now(),
    );
    let terms = terms(&certificates, &Policy::default());
    (authority, terms)
}

fn pair() -> Both {
    let (authority, terms) = certified();
    Both::shaken(Client::new(&authority).connect("a.example"), &terms)
}

/// What `length` bytes of plaintext are in these tests.
fn pattern(length: usize) -> Vec<u8> {
    (0..=250).cycle().take(length).collect()
}

/// Receives until the wire is empty.
fn drain(
    session: &mut ServerSession,
    far: &mut End,
    scratch: &mut Scratch,
    room: usize,
) -> Vec<u8> {
    let (mut all, mut into) = (Vec::new(), vec![0; room]);
    loop {
        match session.recv(far, scratch, &mut into) {
            Ok(0) | Err(SessionError::WouldBlock) => return all,
            Ok(count) => all.extend_from_slice(&into[..count]),
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_client_may_send_any_amount_right_behind_its_handshake() {
    let (authority, terms) = certified();
    let mut both = Both::meet(Client::new(&authority).connect("a.example"), &terms).unwrap();
    let waits = both.server.handshake(&mut both.far, &mut both.scratch);
    assert!(matches!(waits, Err(SessionError::WouldBlock)), "{waits:?}");
    carry(&mut both.far, &mut both.near);
    both.client
        .handshake(&mut both.near, &mut both.scratch)
        .unwrap();
    let content = pattern(3 * HANDSHAKE_BYTES_MAX);
    let mut sent = 0;
    while sent < content.len() {
        let rest = &content[sent..];
        let part = both.client.send(&mut both.near, &mut both.scratch, rest);
        sent += part.unwrap();
    }
    carry(&mut both.near, &mut both.far);
    both.server
        .handshake(&mut both.far, &mut both.scratch)
        .unwrap();
    let received = drain(&mut both.server, &mut both.far, &mut both.scratch, 1 << 14);
    assert!(received == content, "{} bytes", received.len());
}

#[test]
fn the_hybrid_group_is_agreed_on_and_bytes_are_exchanged() {
    let mut both = pair();
    let agreed = both.server.agreed().unwrap();
    assert_eq!(agreed.version, "TLSv1.3");
    assert_eq!(agreed.group, Some("X25519MLKEM768"));
    assert_eq!(agreed.protocol, Some(b"http/1.1".as_slice()));
    assert!(!agreed.resumed);

    let sent = both.client.send(&mut both.near, &mut both.scratch, b"up");
    assert_eq!(sent.unwrap(), 2);
    carry(&mut both.near, &mut both.far);
    assert_eq!(
        drain(&mut both.server, &mut both.far, &mut both.scratch, 64),
        b"up"
    );

    both.server
        .send(&mut both.far, &mut both.scratch, b"down")
        .unwrap();
    carry(&mut both.far, &mut both.near);
    let mut into = [0; 64];
    let count = both
        .client
        .recv(&mut both.near, &mut both.scratch, &mut into);
    assert_eq!(&into[..count.unwrap()], b"down");
}

#[test]
fn both_versions_work_when_every_call_moves_one_byte() {
    for (version, label) in [(&TLS12, "TLSv1.2"), (&TLS13, "TLSv1.3")] {
        let (authority, terms) = certified();
        let client = Client::new(&authority)
            .versions(&[version])
            .connect("a.example");
        let mut both = Both::meet(client, &terms).unwrap();
        (both.near.piece, both.far.piece) = (1, 1);
        let (client, server) = both.shake();
        client.unwrap();
        server.unwrap();
        assert_eq!(both.server.agreed().unwrap().version, label);

        both.client
            .send(&mut both.near, &mut both.scratch, &pattern(20_000))
            .unwrap();
        carry(&mut both.near, &mut both.far);
        let received = drain(&mut both.server, &mut both.far, &mut both.scratch, 4096);
        assert!(received == pattern(20_000));
    }
}

#[test]
fn a_slow_wire_holds_the_sender_back_and_loses_nothing() {
    let mut both = pair();
    let (data, mut sent, mut received) = (pattern(1 << 20), 0, Vec::new());
    both.near.room = 10_000;
    let mut blocked = 0;
    while received.len() < data.len() {
        match both
            .client
            .send(&mut both.near, &mut both.scratch, &data[sent..])
        {
            Ok(count) => sent += count,
            Err(SessionError::WouldBlock) => {
                assert!(both.client.wants_write());
                blocked += 1;
            }
            Err(error) => panic!("{error}"),
        }
        assert!(both.client.outbound.bytes() <= SEND_BYTES_MAX + 4 * 22);
        carry(&mut both.near, &mut both.far);
        received.append(&mut drain(
            &mut both.server,
            &mut both.far,
            &mut both.scratch,
            16_384,
        ));
    }
    assert!(blocked > 50, "{blocked}");
    assert!(received == data);
}

#[test]
fn a_reader_with_little_room_gets_every_byte_in_order() {
    for room in [1, 7, 1000, 16_383, 16_384, 16_385, 70_000] {
        let mut both = pair();
        let data = pattern(50_000);
        assert_eq!(
            both.client
                .send(&mut both.near, &mut both.scratch, &data)
                .unwrap(),
            50_000
        );
        carry(&mut both.near, &mut both.far);
        let received = drain(&mut both.server, &mut both.far, &mut both.scratch, room);
        assert!(received == data, "{room}");
    }
}

#[test]
fn a_session_at_rest_keeps_no_buffer() {
    let mut both = pair();
    both.client
        .send(&mut both.near, &mut both.scratch, &pattern(50_000))
        .unwrap();
    carry(&mut both.near, &mut both.far);
    drain(&mut both.server, &mut both.far, &mut both.scratch, 16_384);
    both.server
        .send(&mut both.far, &mut both.scratch, &pattern(50_000))
        .unwrap();
    assert_eq!((both.server.held.len(), both.server.plain.len()), (0, 0));
    assert_eq!(both.server.outbound.bytes(), 0);
    assert!(
        size_of::<ServerSession>() <= 104,
        "{}",
        size_of::<ServerSession>()
    );
    assert!(!both.server.has_received());
}

#[test]
fn plaintext_that_was_not_read_yet_does_not_keep_from_sending() {
    let mut both = pair();
    both.client
        .send(&mut both.near, &mut both.scratch, &pattern(50_000))
        .unwrap();
    carry(&mut both.near, &mut both.far);
    let mut into = [0; 10];
    both.server
        .recv(&mut both.far, &mut both.scratch, &mut into)
        .unwrap();
    assert!(both.server.has_received());
    both.server
        .send(&mut both.far, &mut both.scratch, b"answer")
        .unwrap();
    let rest = drain(&mut both.server, &mut both.far, &mut both.scratch, 16_384);
    assert!([into.to_vec(), rest].concat() == pattern(50_000));
    carry(&mut both.far, &mut both.near);
    let count = both
        .client
        .recv(&mut both.near, &mut both.scratch, &mut into)
        .unwrap();
    assert_eq!(&into[..count], b"answer");
}

#[test]
fn close_notify_ends_one_direction_and_leaves_the_other_open() {
    let mut both = pair();
    both.client
        .send(&mut both.near, &mut both.scratch, b"last")
        .unwrap();
    both.client
        .close(&mut both.near, &mut both.scratch)
        .unwrap();
    let again = both.client.send(&mut both.near, &mut both.scratch, b"more");
    assert!(matches!(again, Err(SessionError::NotOpen)), "{again:?}");
    carry(&mut both.near, &mut both.far);
    both.far.cut = true;

    let mut into = [0; 64];
    let mut recv = |both: &mut Both| {
        both.server
            .recv(&mut both.far, &mut both.scratch, &mut into)
            .map(|count| into[..count].to_vec())
    };
    assert_eq!(recv(&mut both).unwrap(), b"last");
    assert_eq!(recv(&mut both).unwrap(), b"");
    assert_eq!(recv(&mut both).unwrap(), b"");

    both.server
        .send(&mut both.far, &mut both.scratch, b"answer")
        .unwrap();
    carry(&mut both.far, &mut both.near);
    let count = both
        .client
        .recv(&mut both.near, &mut both.scratch, &mut into)
        .unwrap();
    assert_eq!(&into[..count], b"answer");
}

#[test]
fn a_stream_that_is_cut_off_is_told_from_one_that_was_closed() {
    for piece in [0, 20] {
        let mut both = pair();
        both.client
            .send(&mut both.near, &mut both.scratch, b"a whole record")
            .unwrap();
        both.near.outward.truncate(both.near.outward.len() - piece);
        carry(&mut both.near, &mut both.far);
        both.far.cut = true;
        let mut into = [0; 64];
        if piece == 0 {
            assert_eq!(
                both.server
                    .recv(&mut both.far, &mut both.scratch, &mut into)
                    .unwrap(),
                14
            );
        }
        let end = both
            .server
            .recv(&mut both.far, &mut both.scratch, &mut into);
        assert!(matches!(end, Err(SessionError::Truncated)), "{end:?}");
    }
}

#[test]
fn a_client_that_goes_during_the_handshake_is_told() {
    let (authority, terms) = certified();
    let mut both = Both::meet(Client::new(&authority).connect("a.example"), &terms).unwrap();
    both.far.cut = true;
    let (_, server) = both.shake();
    assert!(
        matches!(server, Err(SessionError::HandshakeEof)),
        "{server:?}"
    );
}

#[test]
fn plaintext_waits_for_the_handshake() {
    let (authority, terms) = certified();
    let mut both = Both::meet(Client::new(&authority).connect("a.example"), &terms).unwrap();
    let sent = both.server.send(&mut both.far, &mut both.scratch, b"early");
    assert!(matches!(sent, Err(SessionError::NotOpen)), "{sent:?}");
    let received = both
        .server
        .recv(&mut both.far, &mut both.scratch, &mut [0; 9]);
    assert!(
        matches!(received, Err(SessionError::NotOpen)),
        "{received:?}"
    );
    assert!(both.server.agreed().is_none());
}
