//! Goal: under a flood of handshakes, whoever proves where it is gets in, and nobody else costs
//! anything. Method: strangers who know the public key, which is all that a right mac1 takes.

use std::net::{IpAddr, Ipv4Addr};

use boringtun::noise::Tunn;

use super::*;
use crate::key::Key;

fn own() -> Key {
    Key::new([5; 32]).clamped()
}

fn gate() -> (Gate, Instant) {
    let gate = Gate::new(&own().public().point());
    (gate, Instant::now() + Duration::from_secs(3_600))
}

struct Stranger(Tunn);

impl Stranger {
    fn new() -> Self {
        let key = Key::new([6; 32]).secret();
        Self(Tunn::new(key, own().public().point(), None, None, 1, None))
    }

    fn initiation(&mut self) -> Vec<u8> {
        let mut room = [0; 148];
        let said = self.0.format_handshake_initiation(&mut room, true);
        let TunnResult::WriteToNetwork(message) = said else {
            panic!("{said:?}");
        };
        message.to_vec()
    }
}

fn source(number: u32) -> IpAddr {
    IpAddr::from(Ipv4Addr::from(0x0a00_0000 + number))
}

/// Fills a second with handshakes.
fn flood(gate: &mut Gate, now: Instant, message: &[u8]) -> usize {
    let mut admitted = 0;
    for number in 0..2 * QUIET_MAX {
        let mut cookie = [0; 64];
        let admission = gate.admit(now, source(number), message, &mut cookie);
        admitted += usize::from(matches!(admission, Admission::Admitted));
    }
    admitted
}

#[test]
fn a_wrong_mac1_meets_silence_and_is_not_counted() {
    let (mut gate, now) = gate();
    let mut message = Stranger::new().initiation();
    message[120] ^= 1;
    for number in 0..2 * QUIET_MAX {
        let mut room = [0; 64];
        let admission = gate.admit(now, source(number), &message, &mut room);
        assert!(matches!(admission, Admission::Refused));
    }
    assert_eq!(gate.in_second, 0);
}

#[test]
fn in_a_flood_whoever_proves_its_address_gets_in_and_others_get_cookies() {
    let (mut gate, now) = gate();
    let mut stranger = Stranger::new();
    let message = stranger.initiation();
    assert_eq!(flood(&mut gate, now, &message), QUIET_MAX as usize);
    let mut room = [0; 64];
    let admission = gate.admit(now, source(1), &message, &mut room);
    let Admission::Answered(cookie) = admission else {
        panic!("{admission:?}");
    };
    let cookie = cookie.to_vec();
    assert_eq!(
        cookie.len(),
        64,
        "less than what was sent: nothing is amplified"
    );
    let mut plain = [0; 148];
    let taken = stranger.0.decapsulate(None, &cookie, &mut plain);
    assert!(matches!(taken, TunnResult::Done), "{taken:?}");
    let proven = stranger.initiation();
    let elsewhere = gate.admit(now, source(2), &proven, &mut room);
    assert!(
        matches!(elsewhere, Admission::Answered(_)),
        "the cookie is for one address"
    );
    let there = gate.admit(now, source(1), &proven, &mut room);
    assert!(matches!(there, Admission::Admitted), "{there:?}");
}

#[test]
fn a_source_that_has_proven_its_address_gets_its_share_and_no_more() {
    let (mut gate, now) = gate();
    let mut stranger = Stranger::new();
    let message = stranger.initiation();
    flood(&mut gate, now, &message);
    let mut room = [0; 64];
    if let Admission::Answered(cookie) = gate.admit(now, source(1), &message, &mut room) {
        stranger.0.decapsulate(None, cookie, &mut [0; 148]);
    }
    let proven = stranger.initiation();
    let admitted = |_: &i32| {
        let admission = gate.admit(now, source(1), &proven, &mut room);
        matches!(admission, Admission::Admitted)
    };
    assert_eq!((0..100).filter(admitted).count(), 5);
}

#[test]
fn when_the_flood_is_over_everybody_gets_in_without_a_cookie_again() {
    let (mut gate, now) = gate();
    let message = Stranger::new().initiation();
    flood(&mut gate, now, &message);
    let later = now + 2 * BUSY;
    // And not only the first: the count starts anew every second.
    for second in 0..5 {
        let now = later + second * BUSY;
        for number in 0..QUIET_MAX / 2 {
            let mut room = [0; 64];
            let admission = gate.admit(now, source(number), &message, &mut room);
            assert!(matches!(admission, Admission::Admitted), "second {second}");
        }
    }
}
