//! Peers that mean harm, or whose bytes were damaged on the way.

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::{Cause, testing::hello_of};

/// The session as far as a stranger takes it who sends `bytes` and then goes.
fn meet_stranger(terms: &ServerTlsConfig, bytes: &[u8]) -> Result<(), SessionError> {
    let config = a_config(terms);
    let mut far = End::default();
    let mut scratch = Scratch::default();
    far.inward.extend(bytes);
    far.cut = true;
    let mut session = ServerSession::accept(config, &[])?;
    session.handshake(&mut far, &mut scratch)
}

fn a_config(terms: &ServerTlsConfig) -> Arc<ServerConfig> {
    let bytes = hello_bytes(&Authority::new());
    terms.config_for(&hello_of(&bytes), &bytes).unwrap().clone()
}

fn hello_bytes(authority: &Authority) -> Vec<u8> {
    let mut near = End::default();
    let mut client = Client::new(authority).connect("a.example");
    let waits = client.handshake(&mut near, &mut Scratch::default());
    assert!(matches!(waits, Err(SessionError::WouldBlock)));
    near.outward.into()
}

#[test]
fn a_handshake_without_end_is_cut_at_its_limit() {
    let (_, terms) = certified();
    // A ClientHello of 65,520 bytes by its own word, one byte in each record.
    let mut bytes = vec![22, 3, 1, 0, 4, 1, 0, 0xff, 0xf0];
    (0..20_000).for_each(|_| bytes.extend([22, 3, 3, 0, 1, 0]));
    let end = meet_stranger(&terms, &bytes);
    assert!(
        matches!(end, Err(SessionError::HandshakeTooLong)),
        "{end:?}"
    );
}

#[test]
fn what_is_no_tls_is_malformed_and_answered_with_an_alert() {
    let (_, terms) = certified();
    let end = meet_stranger(&terms, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap_err();
    assert_eq!(end.cause(), Some(Cause::Malformed), "{end:?}");
}

#[test]
fn a_damaged_record_ends_the_session_and_its_sender_is_told() {
    let mut both = pair();
    both.client
        .send(&mut both.near, &mut both.scratch, b"good")
        .unwrap();
    *both.near.outward.back_mut().unwrap() ^= 1;
    carry(&mut both.near, &mut both.far);
    let end = both
        .server
        .recv(&mut both.far, &mut both.scratch, &mut [0; 9])
        .unwrap_err();
    assert_eq!(end.cause(), Some(Cause::Decrypt), "{end:?}");
    carry(&mut both.far, &mut both.near);
    let told = both
        .client
        .recv(&mut both.near, &mut both.scratch, &mut [0; 9])
        .unwrap_err();
    assert_eq!(told.cause(), Some(Cause::Alert), "{told:?}");
    let after = both
        .server
        .recv(&mut both.far, &mut both.scratch, &mut [0; 9]);
    assert!(matches!(after, Err(SessionError::NotOpen)), "{after:?}");
}

#[test]
fn what_came_before_a_damaged_record_is_the_readers() {
    let mut both = pair();
    let data = pattern(2 * RECORD_BYTES_MAX);
    both.client
        .send(&mut both.near, &mut both.scratch, &data)
        .unwrap();
    *both.near.outward.back_mut().unwrap() ^= 1;
    carry(&mut both.near, &mut both.far);
    let mut into = vec![0; 65_536];
    let count = both
        .server
        .recv(&mut both.far, &mut both.scratch, &mut into)
        .unwrap();
    assert!(into[..count] == data[..RECORD_BYTES_MAX]);
    let end = both
        .server
        .recv(&mut both.far, &mut both.scratch, &mut into)
        .unwrap_err();
    assert_eq!(end.cause(), Some(Cause::Decrypt), "{end:?}");
}

#[test]
fn records_without_content_do_not_keep_a_worker_busy() {
    let mut both = pair();
    let mut updates = 0;
    for _ in 0..FRUITLESS_READS_MAX + 1 {
        let status = both.client.side.process(&mut []);
        let Ok(ConnectionState::WriteTraffic(traffic)) = status.state else {
            panic!("{:?}", status.state);
        };
        traffic.refresh_traffic_keys().unwrap();
        both.client.take_in(&mut both.scratch, 0, &mut []).unwrap();
        both.client.flush(&mut both.near).unwrap();
        updates += 1;
    }
    both.far.piece = both.near.outward.len() / updates;
    carry(&mut both.near, &mut both.far);
    let end = both
        .server
        .recv(&mut both.far, &mut both.scratch, &mut [0; 512]);
    assert!(matches!(end, Err(SessionError::Flood)), "{end:?}");
}

#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Cut(Index, u8),
    Insert(Index, Vec<u8>),
}

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let one = prop_oneof![
        (any::<Index>(), 1..=255_u8).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, count)| Damage::Cut(at, count)),
        (any::<Index>(), vec(any::<u8>(), 1..40)).prop_map(|(at, new)| Damage::Insert(at, new)),
    ];
    vec(one, 1..4)
}

fn damage(bytes: &mut Vec<u8>, damages: &[Damage]) {
    for damage in damages {
        if bytes.is_empty() {
            return;
        }
        match damage {
            Damage::Flip(at, bits) => *at.get_mut(bytes) ^= bits,
            Damage::Cut(at, count) => {
                let at = at.index(bytes.len());
                let end = bytes.len().min(at + usize::from(*count));
                bytes.drain(at..end);
            }
            Damage::Insert(at, new) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, new.iter().copied());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_damaged_hello_never_ends_in_a_session(damages in damages(), piece in 1..2000_usize) {
        let (authority, terms) = certified();
        let mut bytes = hello_bytes(&authority);
        damage(&mut bytes, &damages);
        let config = a_config(&terms);
        let mut far = End { piece, cut: true, ..End::default() };
        far.inward.extend(bytes);
        let mut session = ServerSession::accept(config, &[]).unwrap();
        prop_assert!(session.handshake(&mut far, &mut Scratch::default()).is_err());
        prop_assert!(far.outward.len() < HANDSHAKE_BYTES_MAX);
    }

    #[test]
    fn a_damaged_second_flight_ends_in_no_other_session_than_was_meant(damages in damages(), tls12 in any::<bool>()) {
        let (authority, terms) = certified();
        let versions = [if tls12 { &TLS12 } else { &TLS13 }];
        let client = Client::new(&authority).versions(&versions).connect("a.example");
        let mut both = Both::meet(client, &terms).unwrap();
        let _ = both.server.handshake(&mut both.far, &mut both.scratch);
        carry(&mut both.far, &mut both.near);
        let _ = both.client.handshake(&mut both.near, &mut both.scratch);
        let mut bytes: Vec<u8> = both.near.outward.drain(..).collect();
        damage(&mut bytes, &damages);
        both.far.inward.extend(bytes);
        both.far.cut = true;
        // Not all of it is protected: TLS 1.3 ignores a change of cipher spec (RFC 8446 appendix
        // D.4). If the server is content, then with what the client has meant.
        if both.server.handshake(&mut both.far, &mut both.scratch).is_ok() {
            carry(&mut both.far, &mut both.near);
            let client = both.client.handshake(&mut both.near, &mut both.scratch);
            prop_assert!(client.is_ok(), "{client:?}");
            prop_assert_eq!(both.server.agreed(), both.client.agreed());
        }
        prop_assert!(both.far.outward.len() < HANDSHAKE_BYTES_MAX);
    }

    #[test]
    fn damaged_records_give_nothing_but_what_came_before_them(
        damages in damages(),
        piece in 1..4000_usize,
    ) {
        let mut both = pair();
        let data = pattern(3 * 16_384 + 100);
        both.client.send(&mut both.near, &mut both.scratch, &data).unwrap();
        let mut bytes: Vec<u8> = both.near.outward.drain(..).collect();
        damage(&mut bytes, &damages);
        both.far.inward.extend(bytes);
        (both.far.cut, both.far.piece) = (true, piece);
        let (mut received, mut into) = (Vec::new(), vec![0; 5000]);
        let end = loop {
            match both.server.recv(&mut both.far, &mut both.scratch, &mut into) {
                Ok(count) if count > 0 => received.extend_from_slice(&into[..count]),
                end => break end,
            }
        };
        // Whatever is damaged, it is not an end that the sender meant.
        prop_assert!(end.is_err());
        prop_assert!(data.starts_with(&received));
    }
}
