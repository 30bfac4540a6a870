use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use engine_core::{
    balance::{Balance, Load},
    hostname::HostPattern,
    ids::Generation,
    snapshot::{Network, Route, SnapshotBuilder, Target},
};
use engine_http::{
    health::Probe,
    rules::{Match, Policy, TableBuilder},
};
use proptest::prelude::*;

use super::*;
use crate::context::snapshot::Publication;

/// A host's rule: its targets, by the last byte of their addresses, and how it checks them.
type Declared = (BTreeSet<u8>, Option<u8>);

fn policy(interval: u8) -> Policy {
    let second = Duration::from_secs(1);
    Policy {
        check: Some(Check {
            probe: Probe::Tcp,
            interval: second * u32::from(interval),
            timeout: second,
            rise: 1,
            fall: 1,
        }),
        ..Policy::default()
    }
}

/// Declares the rules of hosts, in the place of what they had.
fn change(before: &Published, hosts: &BTreeMap<u32, Declared>) -> Publication {
    let generation = Generation(before.snapshot.generation().0 + 1);
    let mut snapshot = SnapshotBuilder::after(&before.snapshot, generation);
    for (host, (targets, _)) in hosts {
        snapshot.remove_route(RouteId(*host));
        if targets.is_empty() {
            continue;
        }
        let target = |last: &u8| Target::new(SocketAddr::from(([10, 0, 0, *last], 80)));
        snapshot.route(Route {
            id: RouteId(*host),
            label: format!("{host}.example").into(),
            network: Arc::new(Network {
                id: NetworkId(1),
                name: "network-1".into(),
                netns: NetnsId(0),
                live: Load::default(),
            }),
            targets: targets.iter().map(target).collect(),
            balance: Balance::default(),
        });
    }
    let snapshot = snapshot.build(None).unwrap();
    let mut table = TableBuilder::after(&before.http);
    for (host, (_, interval)) in hosts {
        let pattern = HostPattern::parse(&format!("{host}.example")).unwrap();
        table.clear(Some(&pattern));
        let Some(route) = snapshot.route_of(RouteId(*host)) else {
            continue;
        };
        let rule = Rule {
            id: route.id,
            route: Arc::clone(route),
            action: Action::Proxy,
            policy: Arc::new(interval.map_or_else(Policy::default, policy)),
        };
        let found_by = Match {
            scheme: None,
            host: Some(pattern),
            path: "/".into(),
            methods: Vec::new(),
            fields: Vec::new(),
        };
        table.rule(found_by, rule);
    }
    Publication {
        snapshot,
        http: table.build().unwrap(),
        ..Publication::default()
    }
}

fn keys(model: &BTreeMap<u32, Declared>) -> BTreeMap<(u32, u8), u8> {
    let checked = model.iter().filter_map(|(host, (targets, check))| {
        let check = (*check)?;
        Some(targets.iter().map(move |target| ((*host, *target), check)))
    });
    checked.flatten().collect()
}

fn key(checked: &Checked) -> (u32, u8) {
    let Some(SocketAddr::V4(address)) = checked.endpoint.address() else {
        panic!("{:?}", checked.endpoint);
    };
    (checked.key.0.0, address.ip().octets()[3])
}

proptest! {
    #[test]
    fn what_is_checked_follows_the_rules_that_change_and_no_other(
        steps in prop::collection::vec(
            prop::collection::btree_map(
                0..8_u32,
                (prop::collection::btree_set(1..5_u8, 0..4), prop::option::of(1..3_u8)),
                1..4,
            ),
            1..12,
        )
    ) {
        let (mut now, mut model) = (Published::default(), BTreeMap::new());
        for hosts in steps {
            let publication = change(&now, &hosts);
            let (after, difference) = now.after(publication, &HashMap::new(), |_| Load::default(), 3);
            let before = keys(&model);
            model.extend(hosts);
            let expected = keys(&model);
            let checks: BTreeMap<(u32, u8), &Arc<Checked>> =
                after.checks.values().map(|checked| (key(checked), checked)).collect();
            let declared: BTreeSet<(u32, u8)> = expected.keys().copied().collect();
            prop_assert_eq!(checks.keys().copied().collect::<BTreeSet<_>>(), declared);
            let came: BTreeSet<(u32, u8)> = difference.checks.iter().map(|it| key(it)).collect();
            for (key, checked) in &checks {
                let is_new = before.get(key) != expected.get(key);
                prop_assert_eq!(came.contains(key), is_new, "{:?}", key);
                prop_assert!(!checked.is_over());
                let route = after.snapshot.route_of(checked.key.0).unwrap();
                let mut targets = route.targets.iter();
                let target = targets.find(|target| target.id == checked.key.1).unwrap();
                // What the check says is what the route's targets go by.
                target.health.set_down(true);
                prop_assert!(checked.down().is_some());
                target.health.set_down(false);
            }
            for (key, old) in now.checks.iter() {
                let goes_on = after.checks.get(key).is_some_and(|it| Arc::ptr_eq(it, old));
                prop_assert_eq!(old.is_over(), !goes_on);
            }
            now = after;
        }
    }
}
