use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use proptest::prelude::*;

use super::*;
use crate::hostname::HostPattern;

fn route(id: u32, label: &str) -> Route {
    let network = Network {
        id: NetworkId(1),
        name: "network-1".into(),
        netns: NetnsId(0),
        live: Load::default(),
    };
    let target = Target::new(Endpoint::parse("10.0.0.2:443").unwrap());
    Route {
        id: RouteId(id),
        label: label.into(),
        network: network.into(),
        targets: vec![target],
        balance: Balance::default(),
    }
}

fn snapshot(names: &[&str]) -> Snapshot {
    let mut builder = SnapshotBuilder::new(Generation(1));
    for (id, name) in (0..).zip(names) {
        builder.route(route(id, name));
        builder.name(HostPattern::parse(name).unwrap(), RouteId(id));
    }
    builder
        .route(route(1000, "default"))
        .default_route(ListenerId(1), RouteId(1000));
    builder.build(None).unwrap()
}

fn label(snapshot: &Snapshot, listener: u32, name: &str) -> Result<String, NoRoute> {
    let name = Hostname::parse(name.as_bytes()).ok();
    snapshot
        .route((ListenerId(listener), None), name.as_ref())
        .map(|route| route.label.to_string())
}

#[test]
fn a_network_keeps_its_count_over_snapshots_with_routes_and_without() {
    let mut first = SnapshotBuilder::new(Generation(1));
    first.route(route(1, "a"));
    let first = first.build(None).unwrap();
    let live = |snapshot: &Snapshot| snapshot.routes().next().unwrap().network.live.clone();
    let held = [live(&first).occupy(), live(&first).occupy()];
    let mut second = SnapshotBuilder::new(Generation(2));
    second.network(&route(1, "a").network);
    let second = second.build(Some(&first)).unwrap();
    assert_eq!(second.networks().collect::<Vec<_>>(), [NetworkId(1)]);
    let mut third = SnapshotBuilder::new(Generation(3));
    third.route(route(2, "b"));
    let third = third.build(Some(&second)).unwrap();
    assert_eq!(live(&third).live(), 2);
    drop(held);
    assert_eq!(live(&third).live(), 0);
}

#[test]
fn a_network_without_routes_keeps_its_count_where_it_is_taken_out_and_put_in_again() {
    let mut first = SnapshotBuilder::new(Generation(1));
    first.route(route(1, "a")).network(&route(1, "a").network);
    let first = first.build(None).unwrap();
    let held = first.routes().next().unwrap().network.live.occupy();
    let mut second = SnapshotBuilder::after(&first, Generation(2));
    second.remove_route(RouteId(1));
    let second = second.build(None).unwrap();
    let mut third = SnapshotBuilder::after(&second, Generation(3));
    let again = route(2, "b");
    third.remove_network(NetworkId(1)).network(&again.network);
    third.route(again);
    let third = third.build(None).unwrap();
    let live = |snapshot: &Snapshot| snapshot.routes().next().unwrap().network.live.live();
    assert_eq!(live(&third), 1);
    drop(held);
    assert_eq!(live(&third), 0);
}

#[test]
fn exact_wins_then_the_longest_wildcard_then_the_default() {
    let snapshot = snapshot(&["a.b.example", "*.example", "*.b.example"]);
    for (name, expected) in [
        ("a.b.example", "a.b.example"),
        ("c.b.example", "*.b.example"),
        ("d.c.b.example", "*.b.example"),
        ("b.example", "*.example"),
    ] {
        assert_eq!(label(&snapshot, 0, name).as_deref(), Ok(expected), "{name}");
    }
    let name = Hostname::parse(b"d.c.b.example").unwrap();
    assert_eq!(snapshot.pattern_of(&name), Some("b.example"));
    assert_eq!(label(&snapshot, 0, "example"), Err(NoRoute::UnknownName));
    assert_eq!(label(&snapshot, 0, ""), Err(NoRoute::NoName));
    assert_eq!(label(&snapshot, 1, "example").as_deref(), Ok("default"));
    assert_eq!(label(&snapshot, 1, "").as_deref(), Ok("default"));
}

#[test]
fn a_listener_of_one_network_does_not_have_the_names_of_another() {
    let snapshot = snapshot(&["a.example"]);
    let name = Hostname::parse(b"a.example").unwrap();
    let route = |listener, only| {
        let found = snapshot.route((ListenerId(listener), Some(NetworkId(only))), Some(&name));
        found.map(|route| route.label.to_string())
    };
    assert_eq!(route(0, 1).as_deref(), Ok("a.example"));
    assert_eq!(route(0, 2), Err(NoRoute::UnknownName));
    assert_eq!(route(1, 2).as_deref(), Ok("default"));
}

#[test]
fn contradictions_are_all_reported() {
    let mut builder = SnapshotBuilder::new(Generation(1));
    builder.route(route(1, "one")).route(route(1, "again"));
    builder.route(Route {
        targets: vec![],
        ..route(2, "two")
    });
    let name = HostPattern::parse("x.example").unwrap();
    builder
        .name(name.clone(), RouteId(1))
        .name(name, RouteId(2))
        .fixed(ListenerId(0), RouteId(9));
    assert_eq!(builder.build(None).unwrap_err().len(), 4);
}

#[test]
fn a_target_keeps_its_load_over_snapshots() {
    let before = snapshot(&["a.example"]);
    let held = before.route_of(RouteId(0)).unwrap().targets[0]
        .load
        .occupy();
    let mut builder = SnapshotBuilder::new(Generation(2));
    builder.route(route(0, "a.example"));
    let after = builder.build(Some(&before)).unwrap();
    assert_eq!(
        after.route_of(RouteId(0)).unwrap().targets[0].load.live(),
        1
    );
    drop(held);
    assert_eq!(
        after.route_of(RouteId(0)).unwrap().targets[0].load.live(),
        0
    );
}

/// What a snapshot is to come to, for edits at random.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    /// By id: the network, and the last byte of the target.
    routes: BTreeMap<u32, (u32, u8)>,
    names: BTreeMap<u8, u32>,
    fixed: BTreeMap<u32, u32>,
    declared: BTreeSet<u32>,
}

#[derive(Clone, Debug)]
enum Edit {
    Route(u32, u32, u8),
    Remove(u32),
    Name(u8, u32),
    Unname(u8),
    Fixed(u32, u32),
    Unfix(u32),
    Declare(u32),
    Undeclare(u32),
}

fn edit() -> impl Strategy<Value = Edit> {
    let (route, network) = (0..40_u32, 0..6_u32);
    prop_oneof![
        4 => (route.clone(), network.clone(), 1..9_u8).prop_map(|(a, b, c)| Edit::Route(a, b, c)),
        2 => route.clone().prop_map(Edit::Remove),
        3 => (0..60_u8, route.clone()).prop_map(|(a, b)| Edit::Name(a, b)),
        2 => (0..60_u8).prop_map(Edit::Unname),
        1 => (0..4_u32, route).prop_map(|(a, b)| Edit::Fixed(a, b)),
        1 => (0..4_u32).prop_map(Edit::Unfix),
        1 => network.clone().prop_map(Edit::Declare),
        1 => network.prop_map(Edit::Undeclare),
    ]
}

fn pattern(number: u8) -> HostPattern {
    let star = if number.is_multiple_of(3) { "*." } else { "" };
    HostPattern::parse(&format!("{star}n{number}.example")).unwrap()
}

fn of_model(id: u32, (network, target): (u32, u8)) -> Route {
    let made = route(id, &format!("route {id} {target}"));
    Route {
        network: Arc::new(Network {
            id: NetworkId(network),
            netns: NetnsId(network / 2),
            ..(*made.network).clone()
        }),
        targets: vec![Target::new(SocketAddr::from(([10, 0, 0, target], 80)))],
        ..made
    }
}

impl Model {
    /// What is left of the edits where each makes sense at its place.
    fn apply(&mut self, builder: &mut SnapshotBuilder, edits: &[Edit]) {
        let mut put = BTreeMap::new();
        for edit in edits {
            match *edit {
                Edit::Route(id, network, target) => {
                    self.routes.insert(id, (network, target));
                    put.insert(id, (network, target));
                }
                Edit::Remove(id) => {
                    let is_led_to = self.names.values().chain(self.fixed.values());
                    if !is_led_to.copied().any(|to| to == id) {
                        self.routes.remove(&id);
                        put.remove(&id);
                        builder.remove_route(RouteId(id));
                    }
                }
                Edit::Name(name, to) if self.routes.contains_key(&to) => {
                    builder.remove_name(&pattern(name));
                    builder.name(pattern(name), RouteId(to));
                    self.names.insert(name, to);
                }
                Edit::Unname(name) => {
                    builder.remove_name(&pattern(name));
                    self.names.remove(&name);
                }
                Edit::Fixed(listener, to) if self.routes.contains_key(&to) => {
                    builder.fixed(ListenerId(listener), RouteId(to));
                    self.fixed.insert(listener, to);
                }
                Edit::Unfix(listener) => {
                    builder.remove_fixed(ListenerId(listener));
                    self.fixed.remove(&listener);
                }
                Edit::Declare(network) => {
                    builder.network(&of_model(0, (network, 1)).network);
                    self.declared.insert(network);
                }
                Edit::Undeclare(network) => {
                    builder.remove_network(NetworkId(network));
                    self.declared.remove(&network);
                }
                Edit::Name(..) | Edit::Fixed(..) => {}
            }
        }
        for (id, route) in put {
            builder.route(of_model(id, route));
        }
    }

    fn whole(&self, generation: Generation, previous: &Snapshot) -> Snapshot {
        let mut builder = SnapshotBuilder::new(generation);
        for network in &self.declared {
            builder.network(&of_model(0, (*network, 1)).network);
        }
        for (id, made) in &self.routes {
            builder.route(of_model(*id, *made));
        }
        for (name, to) in &self.names {
            builder.name(pattern(*name), RouteId(*to));
        }
        for (listener, to) in &self.fixed {
            builder.fixed(ListenerId(*listener), RouteId(*to));
        }
        builder.build(Some(previous)).unwrap()
    }
}

/// All that can be asked of a snapshot.
fn answers(snapshot: &Snapshot) -> String {
    let mut all: Vec<String> = snapshot
        .routes()
        .map(|route| format!("{:?} {:?} {:?}", route.label, route.network, route.targets))
        .collect();
    let networks = snapshot.networks();
    all.extend(
        networks.map(|id| format!("{id} {} {:?}", snapshot.routes_to(id), snapshot.network(id))),
    );
    all.sort_unstable();
    for number in 0..60 {
        let name = Hostname::parse(format!("n{number}.example").as_bytes()).unwrap();
        let below = Hostname::parse(format!("x.n{number}.example").as_bytes()).unwrap();
        for name in [name, below] {
            let found = snapshot.route((ListenerId(0), None), Some(&name));
            all.push(format!("{name} {:?}", found.map(|route| route.id)));
        }
    }
    let fixed = (0..4).map(|id| snapshot.fixed(ListenerId(id)).map(|route| route.id));
    let used = (0..3).map(|id| snapshot.has_namespace(NetnsId(id)));
    format!(
        "{all:#?} {:?} {:?}",
        fixed.collect::<Vec<_>>(),
        used.collect::<Vec<_>>()
    )
}

proptest! {
    #[test]
    fn changes_of_changes_come_to_what_is_built_from_nothing(
        steps in prop::collection::vec(prop::collection::vec(edit(), 1..12), 1..25)
    ) {
        let (mut model, mut now) = (Model::default(), Snapshot::empty());
        for (step, edits) in (1..).zip(steps) {
            let (before, model_before) = (now.clone(), model.clone());
            let mut builder = SnapshotBuilder::after(&before, Generation(step));
            model.apply(&mut builder, &edits);
            now = builder.build(None).unwrap();
            prop_assert_eq!(now.generation(), Generation(step));
            prop_assert_eq!(answers(&now), answers(&model.whole(Generation(step), &now)));
            let changed = before.changed_routes(&now);
            for (id, made) in &model.routes {
                let (old, new) = (before.route_of(RouteId(*id)), now.route_of(RouteId(*id)));
                let is_put = edits.iter().any(|edit| matches!(edit, Edit::Route(put, ..) if put == id));
                let is_kept = old.zip(new).is_some_and(|(old, new)| Arc::ptr_eq(old, new));
                prop_assert_eq!(is_kept, !is_put, "route {}", id);
                prop_assert_eq!(changed.iter().any(|it| it.id == RouteId(*id)), is_put);
                if let Some(old) = old && model_before.routes.get(id) == Some(made) {
                    let is_same = |of: &Route, other: &Route| {
                        of.targets[0].load.is_same(&other.targets[0].load)
                            && of.network.live.is_same(&other.network.live)
                    };
                    prop_assert!(is_same(old, new.unwrap()));
                }
            }
        }
    }
}

#[test]
fn a_route_that_names_lead_to_cannot_be_taken_out_from_under_them() {
    let before = snapshot(&["a.example", "b.example"]);
    let edited = |edit: &dyn Fn(&mut SnapshotBuilder)| {
        let mut builder = SnapshotBuilder::after(&before, Generation(2));
        builder.remove_route(RouteId(0));
        edit(&mut builder);
        builder.build(None)
    };
    let refused = edited(&|_| {}).unwrap_err();
    assert_eq!(refused, [SnapshotError::UnknownRoute { route: RouteId(0) }]);
    let name = HostPattern::parse("a.example").unwrap();
    let without = edited(&|builder| {
        builder.remove_name(&name);
    })
    .unwrap();
    assert_eq!(label(&without, 0, "a.example"), Err(NoRoute::UnknownName));
    let elsewhere = edited(&|builder| {
        builder.remove_name(&name).name(name.clone(), RouteId(1));
    });
    assert_eq!(
        label(&elsewhere.unwrap(), 0, "a.example").as_deref(),
        Ok("b.example")
    );
    let taken = edited(&|builder| {
        builder.name(name.clone(), RouteId(1));
    });
    assert!(matches!(
        &taken.unwrap_err()[..],
        [SnapshotError::DuplicateName { .. }]
    ));
}

#[test]
fn one_change_among_many_touches_nothing_else() {
    let mut builder = SnapshotBuilder::new(Generation(1));
    for id in 0..20_000 {
        let name = format!("n{id}.example");
        builder
            .route(route(id, &name))
            .name(HostPattern::parse(&name).unwrap(), RouteId(id));
    }
    let before = builder.build(None).unwrap();
    let mut builder = SnapshotBuilder::after(&before, Generation(2));
    builder.route(route(7, "other")).route(route(20_000, "new"));
    let after = builder.build(None).unwrap();
    let mut changed: Vec<u32> = before
        .changed_routes(&after)
        .iter()
        .map(|it| it.id.0)
        .collect();
    changed.sort_unstable();
    assert_eq!(changed, [7, 20_000]);
    assert!(before.changed_networks(&after).is_empty());
    assert_eq!(label(&after, 0, "n7.example").as_deref(), Ok("other"));
    let is_shared = |id| {
        let both = before
            .route_of(RouteId(id))
            .zip(after.route_of(RouteId(id)));
        both.is_some_and(|(one, other)| Arc::ptr_eq(one, other))
    };
    assert_eq!((0..20_000).filter(|id| !is_shared(*id)).count(), 1);
    assert!(before.exact.is_same(&after.exact), "no name was touched");
}
