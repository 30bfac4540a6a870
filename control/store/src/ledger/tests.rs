use super::*;
use crate::lab::{key, network_key, peer, peers, port, raw, relay, relays};

fn id(number: u32) -> PeerId {
    PeerId {
        network: port(crate::lab::PORT),
        network_key: network_key(),
        peer: key(number),
    }
}

#[test]
fn a_peer_at_rest_costs_nothing() {
    let ledger = Ledger::new(10);
    let resting = peer(1, raw(1, 5, 5));
    ledger.record(&peers(1, &[resting]));
    assert_eq!(ledger.take().peers.len(), 1);
    ledger.record(&peers(2, &[resting]));
    assert!(ledger.take().is_empty());
    let handshake = PeerSample {
        last_handshake: Some(3),
        ..resting
    };
    ledger.record(&peers(3, &[handshake]));
    assert_eq!(ledger.take().peers[&id(1)].last_handshake, Some(3));
}

#[test]
fn samples_that_wait_together_count_as_if_written_one_by_one() {
    let ledger = Ledger::new(10);
    for (time, raw) in [(1, raw(1, 10, 0)), (2, raw(1, 4, 0)), (3, raw(2, 9, 1))] {
        ledger.record(&peers(time, &[peer(1, raw)]));
    }
    let mut waiting = ledger.take();
    ledger.record(&peers(4, &[peer(1, raw(2, 9, 3))]));
    waiting.append(ledger.take());
    let span = waiting.peers[&id(1)].span;
    let counted = span.after(Some(raw(1, 7, 0)));
    // 3 until the reset, 4 until the next, 9 and 3 since.
    assert_eq!((counted.rx, counted.tx), (3 + 4 + 9, 3));
    assert_eq!(waiting.time, 4);
}

#[test]
fn clients_beyond_the_bound_are_counted_together_until_the_next_hour() {
    let ledger = Ledger::new(1);
    let clients: Vec<_> = (1..=CLIENTS_HEADROOM + 2)
        .map(|client| relay("a", &format!("192.0.2.{client}"), 1, 10))
        .collect();
    ledger.record(&relays(3_600, &clients));
    // A client that is told apart stays so.
    ledger.record(&relays(3_601, &clients[..1]));
    let told = |ledger: &Ledger| {
        let mut told: Vec<_> = ledger
            .take()
            .relays
            .into_iter()
            .map(|(id, change)| (id.client.map(|client| client.to_string()), change.bytes_in))
            .collect();
        told.sort();
        told
    };
    let one = |client: &str, bytes| (Some(client.to_owned()), bytes);
    let expected = [
        (None, 2),
        one("192.0.2.1", 2),
        one("192.0.2.2", 1),
        one("192.0.2.3", 1),
        one("192.0.2.4", 1),
    ];
    assert_eq!(told(&ledger), expected);
    ledger.record(&relays(7_200, &clients[5..]));
    assert_eq!(told(&ledger), [one("192.0.2.6", 1)]);
}

#[test]
fn an_address_is_one_client_however_it_is_written() {
    let ledger = Ledger::new(1);
    let both = [
        relay("a", "192.0.2.1", 1, 0),
        relay("a", "::ffff:192.0.2.1", 1, 0),
    ];
    ledger.record(&relays(1, &both));
    assert_eq!(ledger.take().relays.len(), 1);
}

#[test]
fn what_waits_for_the_disk_is_bounded_and_nothing_of_it_is_lost() {
    let mut batch = Batch::default();
    let change = RelayChange {
        bytes_in: 1,
        ..RelayChange::default()
    };
    let beyond = 1000;
    for client in 0..RELAYS_WAITING_MAX + beyond {
        let route = RouteId {
            network: NetworkName::Host,
            network_key: None,
            route: String::new(),
        };
        let client = u32::try_from(client).unwrap();
        let id = RelayId {
            route,
            client: Some(IpAddr::from(client.to_be_bytes())),
            peer: None,
        };
        batch.add_relay(id, change);
    }
    assert_eq!(batch.relays.len(), RELAYS_WAITING_MAX + 1);
    let bytes: u64 = batch.relays.values().map(|change| change.bytes_in).sum();
    assert_eq!(bytes, u64::try_from(RELAYS_WAITING_MAX + beyond).unwrap());
}
