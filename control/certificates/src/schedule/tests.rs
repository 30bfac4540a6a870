use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

fn name(text: &str) -> CertificateName {
    text.parse().unwrap()
}

fn directory(text: &str) -> DirectoryName {
    text.parse().unwrap()
}

fn terms(network: u16, at: &str) -> IssuePolicy {
    IssuePolicy {
        network: Some(network),
        directory: directory(at),
        challenge: Challenge::Http01,
        on_demand: false,
    }
}

fn at(order: u64) -> Due {
    Due { order, look: None }
}

fn schedule(at_once_max: usize, network_per_hour: u32, per_hour: u32) -> Schedule {
    let bounds = Bounds {
        at_once_max,
        network_per_hour,
        retry_wait: 60,
    };
    Schedule::new(
        bounds,
        [(directory("one"), per_hour), (directory("two"), per_hour)],
    )
}

/// The names that are started at `now`.
fn started(schedule: &mut Schedule, now: u64) -> Vec<String> {
    std::iter::from_fn(|| schedule.next(now))
        .map(|(name, ..)| name.to_string())
        .collect()
}

const CALM: Chance = Chance(1 << 63);

#[test]
fn what_is_due_is_started_in_its_order_and_so_many_at_once() {
    let mut schedule = schedule(2, 100, 100);
    for (text, due) in [
        ("c.example", 5),
        ("a.example", 9),
        ("b.example", 7),
        ("d.example", 50),
    ] {
        schedule.want(name(text), terms(1, "one"), at(due), 0);
    }
    assert_eq!(schedule.wake(0), Some(5));
    assert_eq!(started(&mut schedule, 4), [""; 0]);
    assert_eq!(started(&mut schedule, 10), ["c.example", "b.example"]);
    assert_eq!(schedule.wake(10), None);
    schedule.done(&name("c.example"), at(100));
    assert_eq!(started(&mut schedule, 10), ["a.example"]);
    schedule.done(&name("a.example"), at(100));
    schedule.done(&name("b.example"), at(100));
    assert_eq!(schedule.wake(10), Some(50));
}

#[test]
fn a_network_that_wants_too_much_holds_up_no_other() {
    let mut schedule = schedule(100, 2, 100);
    for n in 0..10 {
        schedule.want(name(&format!("a{n}.example")), terms(1, "one"), at(1), 0);
    }
    schedule.want(name("z.example"), terms(2, "one"), at(2), 0);
    assert_eq!(
        started(&mut schedule, 1000),
        ["a0.example", "a1.example", "z.example"]
    );
    assert_eq!(schedule.wake(1000), Some(1000 + 1800));
    assert_eq!(started(&mut schedule, 2800), ["a2.example"]);
}

#[test]
fn the_budget_of_one_directory_is_not_that_of_another() {
    let mut schedule = schedule(100, 100, 1);
    for n in 0..3 {
        schedule.want(name(&format!("a{n}.example")), terms(1, "one"), at(1), 0);
    }
    schedule.want(name("b.example"), terms(1, "two"), at(1), 0);
    assert_eq!(started(&mut schedule, 1), ["a0.example", "b.example"]);
    assert_eq!(schedule.wake(1), Some(3601));
}

#[test]
fn orders_before_a_restart_count() {
    let mut schedule = schedule(100, 100, 2);
    schedule.remember(1000, &directory("one"), Some(1));
    schedule.remember(1000, &directory("one"), Some(2));
    schedule.want(name("a.example"), terms(1, "one"), at(1), 0);
    assert_eq!(started(&mut schedule, 1001), [""; 0]);
    assert_eq!(schedule.wake(1001), Some(2800));
}

#[test]
fn a_failed_order_waits_ever_longer_and_a_good_one_starts_anew() {
    let mut schedule = schedule(1, 1000, 1000);
    let it = name("a.example");
    schedule.want(it.clone(), terms(1, "one"), at(0), 0);
    let mut now = 0;
    let mut waits = Vec::new();
    for before in 0..3 {
        let (_, _, turn) = schedule.next(now).unwrap();
        assert_eq!(turn, Turn::Order { failures: before });
        let (failures, again) = schedule.failed(&it, now, None, CALM).unwrap();
        assert_eq!(failures, before + 1);
        waits.push(again - now);
        assert_eq!(schedule.next(again - 1), None);
        now = again;
    }
    assert_eq!(waits, [60, 120, 240]);
    schedule.next(now).unwrap();
    schedule.done(&it, at(now + 1));
    let (_, _, turn) = schedule.next(now + 1).unwrap();
    assert_eq!(turn, Turn::Order { failures: 0 });
}

#[test]
fn a_directory_that_asks_for_it_is_left_alone_for_a_while() {
    let mut schedule = schedule(5, 1000, 1000);
    schedule.want(name("a.example"), terms(1, "one"), at(0), 0);
    schedule.want(name("b.example"), terms(1, "one"), at(1), 0);
    schedule.want(name("c.example"), terms(1, "two"), at(1), 0);
    schedule.next(0).unwrap();
    let (_, again) = schedule
        .failed(&name("a.example"), 0, Some(7200), CALM)
        .unwrap();
    assert!(again >= 7200);
    assert_eq!(started(&mut schedule, 2), ["c.example"]);
    assert_eq!(schedule.wake(2), Some(PAUSE_MAX));
    assert_eq!(started(&mut schedule, PAUSE_MAX), ["b.example"]);
}

#[test]
fn a_look_comes_before_its_order_and_may_move_it() {
    let mut schedule = schedule(5, 1, 1);
    let it = name("a.example");
    let due = Due {
        order: 1000,
        look: Some(10),
    };
    schedule.want(it.clone(), terms(1, "one"), due, 0);
    assert_eq!(schedule.next(10).unwrap().2, Turn::Look);
    schedule.looked(&it, Some(500), Some(700));
    assert_eq!(schedule.due(&it).unwrap().order, 500);
    assert_eq!(schedule.next(499), None);
    assert_eq!(schedule.next(500).unwrap().2, Turn::Order { failures: 0 });
}

#[test]
fn what_is_forgotten_while_it_runs_goes_when_it_has_ended() {
    let mut schedule = schedule(5, 100, 100);
    let it = name("a.example");
    schedule.want(it.clone(), terms(1, "one"), at(0), 0);
    schedule.next(0).unwrap();
    schedule.forget(&it);
    assert!(schedule.is_leaving(&it));
    schedule.done(&it, at(10));
    assert!(!schedule.has(&it));
    assert_eq!(schedule.wake(0), None);
    assert_eq!(schedule.running(), 0);
}

#[derive(Clone, Debug)]
enum Event {
    Want(u8, u16, bool, u64),
    Forget(u8),
    Pass(u64),
    End(bool, Option<u64>),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..12_u8, 0..3_u16, any::<bool>(), 0..5000_u64)
            .prop_map(|(name, network, two, due)| Event::Want(name, network, two, due)),
        1 => (0..12_u8).prop_map(Event::Forget),
        3 => (0..4000_u64).prop_map(Event::Pass),
        4 => (any::<bool>(), prop::option::of(0..4000_u64))
            .prop_map(|(good, asked)| Event::End(good, asked)),
    ]
}

proptest! {
    #[test]
    fn bounds_hold_whatever_happens(events in prop::collection::vec(event(), 0..150), chance: u64) {
        let mut schedule = schedule(3, 4, 6);
        let mut now = 1_u64;
        let mut running: Vec<CertificateName> = Vec::new();
        let mut orders: HashMap<Option<u16>, Vec<u64>> = HashMap::new();
        for event in events {
            match event {
                Event::Want(n, network, two, due) => {
                    let at_directory = if two { "two" } else { "one" };
                    let name = name(&format!("n{n}.example"));
                    schedule.want(name, terms(network, at_directory), at(now + due), 0);
                }
                Event::Forget(n) => schedule.forget(&name(&format!("n{n}.example"))),
                Event::Pass(seconds) => now += seconds,
                Event::End(good, asked) => {
                    if let Some(name) = running.pop() {
                        if good {
                            schedule.done(&name, at(now + 100));
                        } else if let Some((_, again)) =
                            schedule.failed(&name, now, asked, Chance(chance))
                        {
                            prop_assert!(again > now);
                        }
                    }
                }
            }
            while let Some((name, terms, turn)) = schedule.next(now) {
                prop_assert!(!running.contains(&name), "{name} twice");
                prop_assert_eq!(turn, Turn::Order { failures: match turn {
                    Turn::Order { failures } => failures,
                    Turn::Look => 0,
                } });
                running.push(name);
                orders.entry(terms.network).or_default().push(now);
            }
            prop_assert!(running.len() <= 3);
            prop_assert_eq!(schedule.running(), running.len());
            for times in orders.values() {
                let of_late = times.iter().filter(|at| **at + 3600 > now).count();
                prop_assert!(of_late <= 8);
            }
            if running.len() < 3 && let Some(wake) = schedule.wake(now) {
                // Nothing was startable, so there is nothing to wake for by now.
                prop_assert!(wake > now);
            }
            let distinct: HashSet<_> = running.iter().collect();
            prop_assert_eq!(distinct.len(), running.len());
        }
    }
}
