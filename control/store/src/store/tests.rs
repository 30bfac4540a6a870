use std::thread;

use control_api::answer::Traffic;

use super::*;
use crate::{
    DesiredStore as _, NewGeneration, TrafficQuery,
    lab::{Lab, key, peer, peers, raw, relay, relays},
};

mod crash;
mod disk;

#[test]
fn a_restart_changes_no_total() {
    let lab = Lab::new();
    lab.store
        .accounts()
        .record_sample(&peers(1, &[peer(1, raw(1, 10, 1))]));
    lab.store
        .accounts()
        .record_sample(&peers(2, &[peer(1, raw(1, 15, 1))]));
    // Nothing was flushed: a store that ends well writes what it has.
    assert_eq!(
        lab.store.accounts().last_stamp(),
        0,
        "nothing was stamped before"
    );
    let lab = lab.restart();
    assert_eq!(lab.store.accounts().last_stamp(), 2);
    assert_eq!(lab.total(key(1)).rx, 15);
    // The device went on counting meanwhile.
    lab.store
        .accounts()
        .record_sample(&peers(9, &[peer(1, raw(1, 17, 1))]));
    lab.store.accounts().flush().wait().unwrap();
    assert_eq!((lab.total(key(1)).rx, lab.total(key(1)).tx), (17, 1));
    // Another device began at zero.
    let lab = lab.restart();
    lab.store
        .accounts()
        .record_sample(&peers(12, &[peer(1, raw(2, 20, 0))]));
    lab.store.accounts().flush().wait().unwrap();
    assert_eq!((lab.total(key(1)).rx, lab.total(key(1)).tx), (37, 1));
}

/// A device keeps its counters when it gets another key, and so a new account.
#[test]
fn a_network_that_gets_another_key_counts_no_byte_twice() {
    #[derive(Clone, Copy, Debug)]
    enum Between {
        Nothing,
        Flush,
        Restart,
    }
    const ALL: [Between; 3] = [Between::Nothing, Between::Flush, Between::Restart];
    let ways = ALL.map(|a| ALL.map(|b| ALL.map(|c| [a, b, c])));
    for way in ways.as_flattened().as_flattened() {
        let mut lab = Lab::new();
        // To another key and back, twice: the one that comes back has an account already.
        for (time, (network, rx)) in (1..).zip([(0, 10), (1, 17), (0, 20), (1, 28)]) {
            let mut sample = peer(1, raw(1, rx, 2 * rx));
            sample.network_key = key(2_000_000 + network);
            lab.store.accounts().record_sample(&peers(time, &[sample]));
            match way.get(usize::try_from(time - 1).unwrap()) {
                Some(Between::Nothing) => {}
                Some(Between::Restart) => lab = lab.restart(),
                Some(Between::Flush) | None => lab.store.accounts().flush().wait().unwrap(),
            }
        }
        let totals = lab.store.accounts().peer_totals().wait().unwrap();
        let totals: Vec<_> = totals.iter().map(|it| it.traffic).collect();
        let counted = |rx| Traffic { rx, tx: 2 * rx };
        assert_eq!(totals, [counted(10 + 3), counted(7 + 8)], "{way:?}");
        assert_eq!(lab.traffic_since(0).traffic, counted(28), "{way:?}");
    }
}

#[test]
fn a_network_that_is_made_anew_with_another_key_begins_at_zero() {
    for restarts in [false, true] {
        let mut lab = Lab::new();
        lab.store
            .accounts()
            .record_sample(&peers(1, &[peer(1, raw(1, 10, 1))]));
        if restarts {
            lab = lab.restart();
        }
        let mut anew = peer(1, raw(2, 12, 1));
        anew.network_key = key(2_000_000);
        lab.store.accounts().record_sample(&peers(2, &[anew]));
        lab.store.accounts().flush().wait().unwrap();
        assert_eq!(lab.traffic_since(0).traffic, Traffic { rx: 22, tx: 2 });
    }
}

#[test]
fn a_peer_keeps_what_it_was_seen_with_when_a_sample_knows_less() {
    let lab = Lab::new();
    let mut seen = peer(1, raw(1, 10, 1));
    seen.last_handshake = Some(90);
    seen.endpoint = Some("[2001:db8::1]:51820".parse().unwrap());
    lab.store.accounts().record_sample(&peers(100, &[seen]));
    lab.store.accounts().flush().wait().unwrap();
    lab.store
        .accounts()
        .record_sample(&peers(200, &[peer(1, raw(1, 11, 1))]));
    lab.store.accounts().flush().wait().unwrap();
    let totals = lab.store.accounts().peer_totals().wait().unwrap();
    let [total] = totals.as_slice() else {
        panic!("{totals:?}");
    };
    assert_eq!(total.first_seen, 100);
    assert_eq!(total.last_handshake, Some(90));
    assert_eq!(total.endpoint, seen.endpoint);
    assert_eq!(total.traffic.rx, 11);
}

#[test]
fn numbers_stop_at_63_bits_and_stay_numbers() {
    let lab = Lab::new();
    let most = u64::MAX;
    let big = relay("a", "192.0.2.1", most, most);
    for (time, tx) in [(1, 1), (2, 2)] {
        lab.store
            .accounts()
            .record_sample(&peers(time, &[peer(1, raw(most, most, tx))]));
        lab.store
            .accounts()
            .record_sample(&relays(time, &[big.clone(), big.clone()]));
        lab.store.accounts().flush().wait().unwrap();
    }
    assert_eq!(lab.total(key(1)).rx, u64::MAX >> 1);
    assert_eq!(lab.total(key(1)).tx, 2);
    let routes = lab.store.accounts().route_totals().wait().unwrap();
    assert_eq!(routes[0].traffic.bytes_in, u64::MAX >> 1);
    assert!(
        lab.store.accounts().health().ok,
        "{:?}",
        lab.store.accounts().health()
    );
}

#[test]
fn samples_wake_the_writer_by_themselves() {
    let lab = Lab::new();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    lab.store
        .accounts()
        .record_sample(&peers(1, &[peer(1, raw(1, 10, 1))]));
    while lab.total(key(1)).rx != 10 {
        assert!(std::time::Instant::now() < deadline);
        thread::yield_now();
    }
}

#[test]
fn answers_can_be_awaited() {
    let lab = Lab::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let (id, info) = runtime.block_on(async {
        let id = lab.store.desired().commit(NewGeneration::default()).await;
        (
            id,
            lab.store.accounts().traffic(TrafficQuery::default()).await,
        )
    });
    assert_eq!(id.unwrap(), 1);
    assert_eq!(info.unwrap(), control_api::answer::TrafficInfo::default());
}

#[test]
fn a_retention_that_is_changed_counts_from_then_on() {
    let lab = Lab::new();
    let retention = Retention {
        events_max: 1,
        ..Retention::default()
    };
    lab.store.set_retention(retention).wait().unwrap();
    for time in 1..=3 {
        let event = lab
            .store
            .audit()
            .append_event(time, String::new(), String::new());
        event.wait().unwrap();
    }
    assert_eq!(
        lab.store.audit().events_after(0, 9).wait().unwrap().len(),
        1
    );
}

#[test]
fn too_many_requests_are_refused_and_not_queued() {
    let lab = Lab::new();
    let (go, gate) = crossbeam_channel::bounded::<()>(0);
    let held = lab.store.threads.write(move |_| {
        let _ = gate.recv();
        Ok::<_, WriteError>(())
    });
    let mut answers = Vec::new();
    let refused = loop {
        let answer = lab
            .store
            .audit()
            .append_event(1, String::new(), String::new());
        answers.push(answer);
        if answers.len() > WRITES_WAITING_MAX + 1 {
            break answers.pop().unwrap();
        }
    };
    let refused = refused.wait().unwrap_err();
    assert!(matches!(refused, WriteError::Refused(crate::Refused::Busy)));
    drop(go);
    held.wait().unwrap();
    // Those that were taken are done.
    assert_eq!(answers.remove(0).wait().unwrap(), 1);
}
