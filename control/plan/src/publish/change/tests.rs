//! A chain of changes leads to what is made from nothing.

use std::collections::{BTreeMap, BTreeSet};

use control_api::{
    boot,
    state::{Change, Desired, Scope, Whose, edit},
};
use engine_core::{
    hostname::{HostPattern, Hostname},
    ids::{Generation, ListenerId, RouteId},
    snapshot::Snapshot,
};
use engine_http::rules::Table;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{Gone, Input, Planned, Planner, Running};

/// All that publications so far came to.
#[derive(Default)]
struct World {
    planner: Planner,
    generation: u64,
    snapshot: Option<Snapshot>,
    http: Table,
    names: BTreeMap<HostPattern, String>,
    others: Option<String>,
    origins: BTreeMap<RouteId, String>,
    name_servers: BTreeMap<u32, String>,
    namespaces: BTreeMap<u32, String>,
    listeners: Vec<(ListenerId, String)>,
    /// Whether the last one went on from the one before.
    went_on: bool,
}

impl World {
    fn publish(&mut self, desired: &Desired, listeners: &[boot::Listener]) {
        self.generation += 1;
        let running = self.snapshot.as_ref().map(|snapshot| Running {
            snapshot,
            http: &self.http,
        });
        let (planned, next) = self
            .planner
            .plan(Input {
                desired,
                held: &[],
                listeners,
                generation: Generation(self.generation),
                running,
            })
            .unwrap();
        self.planner = next;
        self.take_up(planned);
    }

    fn take_up(&mut self, planned: Planned) {
        self.went_on = planned.gone.is_some();
        let whole = planned.gone.is_none();
        let gone = planned.gone.unwrap_or_else(|| {
            *self = Self {
                planner: self.planner.clone(),
                generation: self.generation,
                went_on: self.went_on,
                ..Self::default()
            };
            Gone::default()
        });
        gone.names
            .iter()
            .for_each(|name| drop(self.names.remove(name)));
        gone.origins
            .iter()
            .for_each(|id| drop(self.origins.remove(id)));
        for id in &gone.name_servers {
            self.name_servers.remove(&id.0);
        }
        for id in &gone.namespaces {
            self.namespaces.remove(&id.0);
        }
        if whole || gone.others || planned.tls.others.is_some() {
            self.others = planned.tls.others.map(|policy| format!("{policy:?}"));
        }
        let names = planned.tls.names.into_iter();
        self.names
            .extend(names.map(|(name, policy)| (name, format!("{policy:?}"))));
        let origins = planned.tls.origins.into_iter();
        self.origins
            .extend(origins.map(|(id, origin)| (id, format!("{origin:?}"))));
        let servers = planned.name_servers.into_iter();
        self.name_servers
            .extend(servers.map(|(id, it)| (id.0, format!("{it:?}"))));
        let namespaces = planned.namespaces.into_iter();
        self.namespaces
            .extend(namespaces.map(|(id, it)| (id.0, format!("{it:?}"))));
        let listeners = planned.listeners.iter();
        self.listeners = listeners.map(|it| (it.id, it.name.to_string())).collect();
        self.snapshot = Some(planned.snapshot);
        self.http = planned.http;
    }

    fn label(&self, id: RouteId) -> String {
        let mut rules = self.http.rules();
        let rule = rules.find(|rule| rule.id == id).map(|rule| &rule.route);
        let route = rule.or_else(|| self.snapshot.as_ref().unwrap().route_of(id));
        route.map_or_else(
            || "gone".to_owned(),
            |route| format!("{} {}", route.network.name, route.label),
        )
    }

    /// All of it, without numbers that are given in the order of what came.
    fn described(&self) -> BTreeSet<String> {
        let snapshot = self.snapshot.as_ref().unwrap();
        let mut told = BTreeSet::new();
        for route in snapshot.routes() {
            let targets: Vec<_> = route
                .targets
                .iter()
                .map(|it| it.endpoint.to_string())
                .collect();
            let network = &route.network;
            let netns = &self.namespaces[&network.netns.0];
            told.insert(format!(
                "route {} {} {netns} {targets:?} {:?}",
                network.name, route.label, route.balance
            ));
        }
        told.insert(format!("{} routes", snapshot.len()));
        told.insert(format!(
            "networks {:?}",
            snapshot.networks().collect::<BTreeSet<_>>()
        ));
        for host in HOSTS {
            let name = Hostname::parse(host.replace('*', "x").as_bytes()).unwrap();
            let route = snapshot.route((ListenerId(9), None), Some(&name));
            told.insert(format!(
                "{name} {:?}",
                route.map(|route| route.label.to_string())
            ));
        }
        for (id, name) in &self.listeners {
            let fixed = snapshot
                .fixed(*id)
                .map(|route| format!("{} {}", route.network.name, route.label));
            told.insert(format!("listener {name} {fixed:?}"));
        }
        for placed in self.http.placed() {
            let rule = placed.rule;
            let same = snapshot.route_of(rule.id);
            let is_snapshots = same.is_none_or(|same| std::sync::Arc::ptr_eq(same, &rule.route));
            told.insert(format!(
                "rule {:?} {} {} {:?} {is_snapshots}",
                placed.place.host, rule.route.network.name, rule.route.label, rule.action,
            ));
        }
        told.insert(format!("{} rules", self.http.rules().count()));
        told.insert(format!("tls {:?} {:?}", self.names, self.others));
        let origins = self
            .origins
            .iter()
            .map(|(id, origin)| format!("{} {origin}", self.label(*id)));
        told.insert(format!("origins {:?}", origins.collect::<BTreeSet<_>>()));
        told.insert(format!("servers {:?}", self.name_servers));
        told.insert(format!(
            "namespaces {:?}",
            self.namespaces.values().collect::<BTreeSet<_>>()
        ));
        told
    }
}

const HOSTS: [&str; 6] = [
    "a.example",
    "b.example",
    "*.example",
    "c.b.example",
    "*.b.example",
    "d.test",
];

fn rule() -> impl Strategy<Value = (usize, Value)> {
    let host = 0..HOSTS.len() + 1;
    let to = prop::sample::select(vec![
        json!(["10.0.0.2:80"]),
        json!(["10.0.0.3:81", "10.0.0.2:80"]),
        json!(["name.test:80"]),
    ]);
    let path = prop::sample::select(vec!["/", "/x", "/y"]);
    let tls = prop::sample::select(vec![Value::Null, json!("terminate"), json!("passthrough")]);
    let speaks = prop::sample::select(vec![Value::Null, json!("h2c"), json!("https")]);
    (host, to, path, tls, speaks).prop_map(|(host, to, path, tls, speaks)| {
        let named = HOSTS.get(host).copied().unwrap_or("*");
        let passes = tls == "passthrough" && named != "*";
        let mut rule = json!({ "host": named, "to": to });
        if passes {
            rule["tls"] = tls;
            return (host, rule);
        }
        rule["path"] = path.into();
        if tls == "terminate" {
            rule["tls"] = tls;
        }
        if !speaks.is_null() {
            rule["to"] = json!({ "targets": to, "protocol": speaks });
        }
        (host, rule)
    })
}

/// Each host belongs to one network, whoever has it in the document.
fn document() -> impl Strategy<Value = Value> {
    let rules = prop::collection::vec(rule(), 0..10);
    let shift = 0..3usize;
    let netns = prop::collection::vec(
        prop::sample::select(vec![Value::Null, json!("blue"), json!("red")]),
        3,
    );
    let listener = any::<bool>();
    (rules, shift, netns, listener).prop_map(|(rules, shift, netns, listener)| {
        let mut document = json!({});
        for (key, netns) in ["1", "2", "3"].iter().zip(netns) {
            document[*key] = json!({ "netns": netns, "routes": [], "dns": ["10.0.0.53"] });
        }
        for (host, rule) in rules {
            let key = ["1", "2", "3"][(host + shift) % 3];
            let list = document[key]["routes"].as_array_mut().unwrap();
            list.push(rule);
        }
        if listener {
            document["2"]["listeners"] = json!({ "db": { "bind": "127.0.0.1:5", "in": "host", "protocol": "tcp", "to": ["10.0.0.9:5"] } });
        }
        document
    })
}

fn listeners() -> Vec<boot::Listener> {
    let text = json!({ "listeners": [
        { "name": "tls", "bind": "[::]:0", "protocol": "tls" },
        { "name": "http", "bind": "[::]:0", "protocol": "http" },
        { "name": "one", "bind": "[::]:0", "protocol": "tcp", "to": "network-1/10.0.0.7:1" },
    ] });
    let none = BTreeMap::<String, String>::new();
    boot::parse(&text.to_string(), &none)
        .unwrap()
        .value
        .listeners
}

/// The state that a document leads to, sharing with the one before; `None` where it contradicts itself.
fn after(current: &Desired, document: &Value) -> Option<Desired> {
    let change = Change::Replace {
        text: document.to_string(),
    };
    let scope = Scope {
        whose: Whose::All,
        cascade: false,
    };
    edit(current, &change, &scope).ok().map(|valid| valid.value)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn changes_lead_to_what_is_made_from_nothing(documents in prop::collection::vec(document(), 2..6)) {
        let listeners = listeners();
        let mut world = World::default();
        let mut current = Desired::default();
        for document in documents {
            let Some(desired) = after(&current, &document) else { continue };
            current = desired;
            world.publish(&current, &listeners);
            let mut anew = World::default();
            anew.publish(&current, &listeners);
            let (told, expected) = (world.described(), anew.described());
            let missing: Vec<_> = expected.difference(&told).collect();
            let more: Vec<_> = told.difference(&expected).collect();
            prop_assert!(missing.is_empty() && more.is_empty(), "missing {missing:#?}, more {more:#?}");
        }
    }
}

#[test]
fn a_rule_that_changes_costs_no_other_host_anything() {
    let rule = |host: usize, port: u16| json!({ "host": format!("h{host}.example"), "to": [format!("10.0.0.2:{port}")] });
    let state = |changed: u16| {
        let rules: Vec<Value> = (0..50)
            .map(|host| rule(host, if host == 7 { changed } else { 80 }))
            .collect();
        json!({ "1": { "netns": null, "routes": rules } })
    };
    let before = after(&Desired::default(), &state(80)).unwrap();
    let changed = after(&before, &state(81)).unwrap();
    let listeners = listeners();
    let mut world = World::default();
    world.publish(&before, &listeners);
    let first = world.snapshot.clone().unwrap();
    world.publish(&changed, &listeners);
    assert!(world.went_on);
    let second = world.snapshot.clone().unwrap();
    let routes = first.changed_routes(&second);
    assert_eq!(routes.len(), 1, "{routes:?}");
}

#[test]
fn the_terms_for_names_that_nobody_declared_go_with_the_rule_that_said_them() {
    let with = json!({ "1": { "netns": null, "routes": [{ "host": "*", "tls": "terminate", "to": ["10.0.0.2:80"] }] } });
    let without = json!({ "1": { "netns": null } });
    let listeners = listeners();
    let mut world = World::default();
    let before = after(&Desired::default(), &with).unwrap();
    world.publish(&before, &listeners);
    assert!(world.others.is_some());
    world.publish(&after(&before, &without).unwrap(), &listeners);
    assert!(world.went_on);
    assert_eq!(world.others, None);
}
