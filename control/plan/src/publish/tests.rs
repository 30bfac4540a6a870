use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use control_api::{boot, state};
use engine_core::{
    balance::Balance, hostname::Hostname, ids::NetworkId, proxy_protocol::Version, snapshot::Route,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn desired(document: &Value) -> Desired {
    state::parse(&document.to_string()).unwrap().value
}

fn listeners(list: &Value) -> Vec<Listener> {
    let text = json!({ "listeners": list }).to_string();
    let no_variables = BTreeMap::<String, String>::new();
    boot::parse(&text, &no_variables).unwrap().value.listeners
}

fn tls(default: Option<&str>) -> Value {
    json!({ "name": "tls", "bind": "[::]:0", "protocol": "tls", "default": default })
}

fn tcp(name: &str, to: &str) -> Value {
    json!({ "name": name, "bind": "[::]:0", "protocol": "tcp", "to": to })
}

fn plan(document: &Value, list: &Value, ids: &mut Ids) -> Planned {
    publish(
        &desired(document),
        &[],
        &listeners(list),
        ids,
        Generation(1),
        None,
    )
    .unwrap()
}

/// The route of a name: network, namespace and targets.
fn route(planned: &Planned, name: &str) -> Option<(String, u32, Vec<String>)> {
    let name = Hostname::parse(name.as_bytes()).ok();
    let route = planned
        .snapshot
        .route((ListenerId(0), None), name.as_ref())
        .ok()?;
    Some(described(route))
}

fn described(route: &Route) -> (String, u32, Vec<String>) {
    let targets = route
        .targets
        .iter()
        .map(|target| target.endpoint.to_string());
    (
        route.network.name.to_string(),
        route.network.netns.0,
        targets.collect(),
    )
}

#[test]
fn names_lead_to_their_network_from_its_namespace() {
    let document = json!({
        "1": { "netns": "blue", "proxy": { "a.example": ["10.0.0.2:443"], "http://b.example": ["10.0.0.2:80"] } },
        "2": { "netns": null, "proxy": { "*.c.example": ["10.0.0.2:443"] } },
        "3": { "private_key": "11".repeat(32), "peers": [], "proxy": { "d.example": ["10.0.0.2:443"] } },
        "4": { "netns": "unused" },
    });
    let planned = plan(&document, &json!([tls(None)]), &mut Ids::default());
    let target = vec!["10.0.0.2:443".to_owned()];
    let blue = 65_536;
    assert_eq!(
        route(&planned, "a.example"),
        Some(("network-1".into(), blue, target.clone()))
    );
    assert_eq!(
        route(&planned, "x.c.example"),
        Some(("network-2".into(), 0, target.clone()))
    );
    assert_eq!(
        route(&planned, "d.example"),
        Some(("network-3".into(), 3, target))
    );
    assert_eq!(route(&planned, "b.example"), None, "plain HTTP is not TLS");
    assert_eq!(route(&planned, "c.example"), None);
    let sources: Vec<_> = planned.namespaces.into_values().collect();
    let existing = |name: &str| NamespaceSource::Existing(name.parse().unwrap());
    let made = NamespaceSource::Made(NetworkKey::new(3).unwrap());
    assert_eq!(
        sources,
        [
            NamespaceSource::Host,
            made,
            existing("blue"),
            existing("unused")
        ]
    );
}

#[test]
fn a_target_is_taken_over_with_everything_it_says() {
    let target =
        json!({ "to": "10.0.0.2:443", "proxy_protocol": "v2", "weight": 7, "backup": true });
    let pool = json!({ "targets": [target, "10.0.0.3:1"], "balance": "least_connections" });
    let document = json!({ "1": { "netns": null, "proxy": { "a.example": pool } } });
    let planned = plan(&document, &json!([tls(None)]), &mut Ids::default());
    let route = planned.snapshot.routes().next().unwrap();
    let target = &route.targets[0];
    assert_eq!(
        (
            target.weight,
            target.backup,
            target.proxy_protocol,
            route.balance.clone()
        ),
        (7, true, Some(Version::V2), Balance::LeastConnections)
    );
    assert_eq!(&*route.label, "a.example");
}

#[test]
fn listeners_lead_to_their_places_and_share_the_same_one() {
    let list = json!([
        tls(Some("network-7/10.0.0.2:443")),
        tcp("a", "host/127.0.0.1:5432"),
        tcp("b", "host/127.0.0.1:5432"),
        tcp("c", "netns:blue/10.0.0.2:5432"),
        tcp("d", "network-7/10.0.0.2:443"),
    ]);
    let document = json!({ "7": { "netns": "blue", "proxy": { "a.example": ["10.0.0.9:1"] } } });
    let planned = plan(&document, &list, &mut Ids::default());
    let fixed = |listener| planned.snapshot.fixed(ListenerId(listener)).unwrap();
    assert_eq!(fixed(1).id, fixed(2).id);
    assert_eq!(
        described(fixed(3)),
        ("netns:blue".into(), 65_536, vec!["10.0.0.2:5432".into()])
    );
    assert_eq!(&*fixed(3).label, "10.0.0.2:5432");
    let default = planned.snapshot.route((ListenerId(0), None), None).unwrap();
    assert_eq!(default.id, fixed(4).id);
    assert_eq!(default.network.id, NetworkId(7));
    assert_eq!(
        (fixed(1).network.id, fixed(3).network.id),
        (NetworkId(0), NetworkId(65_536))
    );
    assert_eq!(planned.snapshot.len(), 4);
    // A listener without a place routes nothing.
    assert!(planned.snapshot.fixed(ListenerId(0)).is_none());
    assert_eq!(planned.namespaces.len(), 2);
}

#[test]
fn all_routes_of_a_network_share_one_count_of_live_connections() {
    let proxy = json!({ "a.example": ["10.0.0.2:1"], "b.example": ["10.0.0.2:1"] });
    let document = json!({ "1": { "netns": null, "proxy": proxy }, "2": { "netns": null, "proxy": { "c.example": ["10.0.0.2:1"] } } });
    let list = json!([tls(Some("network-1/10.0.0.2:443"))]);
    let planned = plan(&document, &list, &mut Ids::default());
    let of = |id| {
        planned
            .snapshot
            .routes()
            .filter(move |route| route.network.id == NetworkId(id))
    };
    let held = of(1).next().unwrap().network.live.occupy();
    assert_eq!(of(1).count(), 3);
    assert!(of(1).all(|route| route.network.live.live() == 1));
    assert!(of(2).all(|route| route.network.live.live() == 0));
    drop(held);
}

#[test]
fn every_listener_in_an_undeclared_network_is_reported_and_changes_nothing() {
    let mut ids = Ids::default();
    let list = json!([
        tls(Some("network-7/10.0.0.2:443")),
        tcp("a", "network-8/10.0.0.2:443"),
        tcp("b", "host/127.0.0.1:1")
    ]);
    let refused = publish(
        &Desired::default(),
        &[],
        &listeners(&list),
        &mut ids,
        Generation(1),
        None,
    );
    let found: Vec<String> = refused
        .unwrap_err()
        .iter()
        .map(ToString::to_string)
        .collect();
    let hint = "(declare it there, or write `host` or `netns:NAME`)";
    assert_eq!(
        found,
        [
            format!("/listeners/0/default: network-7 is not in the state document {hint}"),
            format!("/listeners/1/to: network-8 is not in the state document {hint}"),
        ]
    );
    let planned = plan(&json!({}), &json!([tcp("b", "host/127.0.0.1:2")]), &mut ids);
    assert_eq!(
        planned.snapshot.routes().next().unwrap().id,
        RouteId(0),
        "no id was taken"
    );
}

#[test]
fn an_id_is_never_given_to_anything_else() {
    let mut ids = Ids::default();
    let serving =
        |name: &str| json!({ "1": { "netns": null, "proxy": { (name): ["10.0.0.2:1"] } } });
    let mut seen = HashSet::new();
    for name in ["a.example", "b.example", "a.example", "c.example"] {
        let planned = plan(&serving(name), &json!([tls(None)]), &mut ids);
        assert!(
            seen.insert(planned.snapshot.routes().next().unwrap().id),
            "{name}"
        );
    }
}

/// A state document of a few networks and names, so that many stay and many change.
fn document() -> impl Strategy<Value = Value> {
    let netns = prop::sample::select(vec![Value::Null, json!("blue"), json!("red")]);
    let names = prop::collection::btree_set("[ab]|\\*\\.[ab]", 0..3);
    prop::collection::btree_map(1..4u16, (netns, names), 0..3).prop_map(|networks| {
        let networks = networks.into_iter().map(|(port, (netns, names))| {
            let proxy = names
                .into_iter()
                .map(|name| (format!("{name}.n{port}"), json!(["10.0.0.1:1"])));
            let proxy = Value::Object(proxy.collect());
            (port.to_string(), json!({ "netns": netns, "proxy": proxy }))
        });
        Value::Object(networks.collect())
    })
}

proptest! {
    #[test]
    fn what_stays_declared_keeps_its_ids(documents in prop::collection::vec(document(), 1..6)) {
        let mut ids = Ids::default();
        let mut before: BTreeMap<String, (u32, u32)> = BTreeMap::new();
        for document in documents {
            let planned = plan(&document, &json!([tls(Some("netns:blue/10.0.0.1:1"))]), &mut ids);
            let mut after = BTreeMap::new();
            let mut used = BTreeSet::new();
            for route in planned.snapshot.routes() {
                prop_assert!(used.insert(route.id), "one id, two routes");
                prop_assert!(planned.namespaces.contains_key(&route.network.netns));
                after.insert(format!("{} {}", route.network.name, route.label), (route.id.0, route.network.id.0));
            }
            for (name, ids) in &after {
                if let Some(earlier) = before.get(name) {
                    prop_assert_eq!(earlier, ids, "{}", name);
                }
            }
            before = after;
        }
    }

    #[test]
    fn publishing_the_same_again_changes_nothing(document in document()) {
        let mut ids = Ids::default();
        let list = json!([tls(None)]);
        let describe = |planned: &Planned| {
            let routes = planned.snapshot.routes();
            routes.map(|route| (route.id, route.network.id, described(route))).collect::<BTreeSet<_>>()
        };
        let first = plan(&document, &list, &mut ids);
        let second = plan(&document, &list, &mut ids);
        prop_assert_eq!(describe(&first), describe(&second));
        prop_assert_eq!(first.namespaces, second.namespaces);
    }
}

#[test]
fn the_terms_of_hosts_that_nobody_declared_are_those_of_the_network_that_serves_them() {
    let document = |more: Value| {
        let mut rule = json!({ "host": "*", "tls": "terminate", "to": ["10.0.0.2:80"] });
        for (key, value) in more.as_object().unwrap() {
            rule[key] = value.clone();
        }
        let tls = json!({ "acme": { "hosts": ["a.example"] }, "min_version": "1.3" });
        json!({ "51820": { "netns": null, "routes": [rule], "tls": tls } })
    };
    let list = json!([{ "name": "https", "bind": "127.0.0.1:1", "protocol": "https" }]);
    let planned = plan(&document(json!({})), &list, &mut Ids::default());
    let others = planned.tls.others.unwrap();
    assert_eq!(others.version, engine_tls::policy::MinVersion::Tls13);
    assert_eq!(others.clients, engine_tls::policy::Clients::Unasked);
    let asks = json!({ "client_certificates": { "roots": "-----BEGIN CERTIFICATE-----\nMIHCMHYCAQEwBQYDK2VwMA0xCzAJBgNVBAMMAmNhMCAXDTI2MTEyMTE2MDE0NFoY\nDzIxMjYxMDI4MTYwMTQ0WjANMQswCQYDVQQDDAJjYTAqMAUGAytlcAMhAIBOAt37\nr8zd9jUqNWMHKgxLwAGAk1miTVV49Wuyeek7MAUGAytlcANBAL3ngogn80D1pUlQ\nmPqvqXSEC2wjW7J1vM1REeFIGUky1Kx6ghWyCI+Xmze/Nl/lIBvVELbocsH6o6Xt\nEuKYSAM=\n-----END CERTIFICATE-----\n" } });
    let planned = plan(&document(asks), &list, &mut Ids::default());
    let clients = planned.tls.others.unwrap().clients;
    assert!(matches!(clients, engine_tls::policy::Clients::Required(_)));
    let none = json!({ "51820": { "netns": null } });
    assert_eq!(plan(&none, &list, &mut Ids::default()).tls.others, None);
}

#[test]
fn a_networks_live_connections_are_counted_on_over_publications() {
    let (mut ids, list) = (Ids::default(), json!([tls(None)]));
    let document = |proxy: Value| json!({ "7": { "netns": null, "proxy": proxy } });
    let routed = document(json!({ "a.example": ["10.0.0.2:443"] }));
    let first = plan(&routed, &list, &mut ids);
    let live = |planned: &Planned| {
        let mut routes = planned.snapshot.routes();
        routes.next().unwrap().network.live.clone()
    };
    let held = live(&first).occupy();
    let mut publish_after = |document: &Value, previous: &Planned| {
        let (desired, listeners) = (desired(document), listeners(&list));
        let previous = Some(&previous.snapshot);
        publish(&desired, &[], &listeners, &mut ids, Generation(2), previous).unwrap()
    };
    let unrouted = publish_after(&document(json!({})), &first);
    let is_declared = |planned: &Planned| planned.snapshot.networks().any(|id| id == NetworkId(7));
    assert!(is_declared(&unrouted), "although no route leads there");
    let again = publish_after(&routed, &unrouted);
    assert_eq!(live(&again).live(), 1);
    drop(held);
    assert_eq!(live(&again).live(), 0);
    assert!(!is_declared(&publish_after(&json!({}), &again)));
}

#[test]
fn hosts_of_http_are_routed_where_a_listener_takes_http() {
    let document = json!({ "51820": { "netns": null, "proxy": {
        "http://a.example": ["10.0.0.2:80"], "*.b.example": ["10.0.0.3:80"],
    } } });
    let tls = json!([{ "name": "https", "bind": "127.0.0.1:1", "protocol": "tls" }]);
    let without = plan(&document, &tls, &mut Ids::default());
    assert_eq!(without.snapshot.len(), 1);
    assert_eq!(without.http.rules().count(), 0);
    let http = json!([{ "name": "http", "bind": "127.0.0.1:1", "protocol": "http" }]);
    let with = plan(&document, &http, &mut Ids::default());
    assert_eq!(with.snapshot.len(), 3, "the names of TLS are there too");
    assert!(with.http.has_host("a.example") && with.http.has_host("x.b.example"));
    assert!(!with.http.has_host("b.example"));
    for rule in with.http.rules() {
        let mut routes = with.snapshot.routes();
        assert!(
            routes.any(|route| Arc::ptr_eq(route, &rule.route)),
            "one count of live connections"
        );
    }
}

#[test]
fn networks_with_names_say_who_is_asked_for_them() {
    let document = json!({
        "1": { "netns": null, "proxy": { "https://a.example": ["web.internal:443"] } },
        "2": { "netns": "blue", "dns": ["10.0.0.53"], "routes": [
            { "host": "b.example", "tls": "passthrough", "to": ["web.internal:443"] },
        ] },
        "3": { "netns": "red", "dns": ["10.0.0.53"], "proxy": { "c.example": ["10.0.0.2:443"] } },
    });
    let planned = plan(&document, &json!([tls(None)]), &mut Ids::default());
    let declared = NameServers::Declared(vec!["10.0.0.53:53".parse().unwrap()]);
    let servers: Vec<&NameServers> = planned.name_servers.values().collect();
    assert_eq!(
        servers,
        [&NameServers::Host, &declared],
        "a network of addresses asks nobody"
    );
    let mut routes = planned.snapshot.routes();
    let route = routes.find(|route| &*route.label == "b.example").unwrap();
    assert_eq!(route.targets[0].endpoint.to_string(), "web.internal:443");
}

#[test]
fn names_of_listeners_are_looked_up_with_the_servers_of_their_networks() {
    let document = json!({
        "1": { "netns": "blue", "dns": ["10.0.0.53"] },
        "2": { "netns": "red" },
        "3": { "netns": null },
    });
    let list = json!([
        tcp("a", "network-1/db.internal:5432"),
        tcp("b", "host/localhost:3000"),
        tcp("c", "network-3/localhost:3000"),
        tcp("d", "network-2/10.0.0.2:80"),
        tls(Some("network-1/web.internal:443")),
    ]);
    let mut ids = Ids::default();
    let planned = plan(&document, &list, &mut ids);
    let of = |planned: &Planned, listener: u32| {
        let fixed = planned.snapshot.fixed(ListenerId(listener)).unwrap();
        (fixed.id, described(fixed), fixed.network.id)
    };
    let (id, leads, network) = of(&planned, 0);
    assert_eq!(leads.2, ["db.internal:5432"]);
    assert_eq!(of(&planned, 1).1.2, ["localhost:3000"]);
    let declared = NameServers::Declared(vec!["10.0.0.53:53".parse().unwrap()]);
    assert_eq!(planned.name_servers[&network], declared);
    for listener in [1, 2] {
        let (.., network) = of(&planned, listener);
        assert_eq!(planned.name_servers[&network], NameServers::Host);
    }
    assert_eq!(planned.name_servers.len(), 3, "an address asks nobody");
    let again = plan(&document, &list, &mut ids);
    assert_eq!(of(&again, 0).0, id);
}

#[test]
fn a_listener_does_not_lead_to_a_name_that_nobody_is_asked_for() {
    let document = json!({ "2": { "netns": "red" } });
    let list = json!([
        tcp("a", "network-2/db.internal:5432"),
        tls(Some("network-2/web.internal:443")),
    ]);
    let mut ids = Ids::default();
    let refused = publish(
        &desired(&document),
        &[],
        &listeners(&list),
        &mut ids,
        Generation(1),
        None,
    );
    let problems = refused.unwrap_err();
    let found: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let hint = "(write for example \"dns\": [\"10.0.0.53:53\"] there)";
    assert_eq!(
        found,
        [
            format!(
                "/listeners/0/to: `db.internal:5432` is a name, and network-2 has no name server {hint}"
            ),
            format!(
                "/listeners/1/default: `web.internal:443` is a name, and network-2 has no name server {hint}"
            ),
        ]
    );
}

#[test]
fn a_networks_listener_leads_to_its_own_targets_and_keeps_its_id() {
    let document = json!({
        "1": { "netns": "blue", "listeners": {
            "db": { "bind": "10.0.0.1:5432", "protocol": "tcp", "to": ["10.0.0.2:5432", "10.0.0.3:5432"] },
            "web": { "bind": "0.0.0.0:80", "in": "host", "protocol": "http", "default": ["10.0.0.2:80"] },
        } },
        "2": { "private_key": "11".repeat(32), "peers": [], "listeners": {
            "own": { "bind": "10.0.0.1:80", "protocol": "http" },
        } },
    });
    let mut ids = Ids::default();
    let planned = plan(&document, &json!([tls(None)]), &mut ids);
    let listeners: Vec<(String, Option<u16>, NamespaceSource)> = planned
        .listeners
        .iter()
        .map(|it| {
            (
                it.name.to_string(),
                it.owner.map(NetworkKey::get),
                it.place.clone(),
            )
        })
        .collect();
    let blue = NamespaceSource::Existing("blue".parse().unwrap());
    assert_eq!(
        listeners,
        [
            ("tls".to_owned(), None, NamespaceSource::Host),
            ("db".to_owned(), Some(1), blue),
            ("web".to_owned(), Some(1), NamespaceSource::Host),
            (
                "own".to_owned(),
                Some(2),
                NamespaceSource::Made(NetworkKey::new(2).unwrap())
            ),
        ]
    );
    let id = |planned: &Planned, name: &str| {
        let mut listeners = planned.listeners.iter();
        listeners.find(|it| it.name.as_str() == name).unwrap().id
    };
    let db = planned.snapshot.fixed(id(&planned, "db")).unwrap();
    assert_eq!((&*db.label, db.targets.len()), ("listener:db", 2));
    assert_eq!(&*db.network.name, "network-1");
    let web = planned
        .snapshot
        .route((id(&planned, "web"), Some(NetworkId(1))), None);
    assert_eq!(&*web.unwrap().label, "listener:web");
    // Another order, and another listener before it.
    let mut after = document;
    after["1"]["listeners"]["aaa"] = json!({ "bind": "10.0.0.1:1", "protocol": "http" });
    let next = plan(&after, &json!([tls(None)]), &mut ids);
    assert_eq!(id(&next, "db"), id(&planned, "db"));
    assert_eq!(next.snapshot.fixed(id(&next, "db")).unwrap().id, db.id);
}

#[test]
fn what_a_networks_own_listener_takes_is_served_for_that_network() {
    let network = |bind: &str, host: &str| {
        json!({ "netns": null, "proxy": { format!("http://{host}"): ["10.0.0.2:80"] },
            "listeners": { host: { "bind": bind, "protocol": "http" } } })
    };
    let mut document = json!({
        "1": network("127.0.0.1:81", "a.example"),
        "2": network("127.0.0.1:82", "b.example"),
    });
    document["2"].as_object_mut().unwrap().remove("listeners");
    let list = listeners(&json!([tls(None)]));
    let desired = desired(&document);
    let networks = desired.networks.values();
    let missing: Vec<_> = networks.flat_map(|it| unserved(it, &list)).collect();
    assert_eq!(
        missing
            .iter()
            .map(|it| it.network.get())
            .collect::<Vec<_>>(),
        [2]
    );
    let planned = plan(&document, &json!([tls(None)]), &mut Ids::default());
    let served = planned
        .http
        .rules()
        .map(|rule| rule.route.label.to_string());
    assert_eq!(served.count(), 1);
}

#[test]
fn connections_through_a_listener_outlive_it_and_not_their_network() {
    let document = json!({ "1": { "netns": "blue" } });
    let mut ids = Ids::default();
    let list = json!([
        tcp("a", "netns:red/10.0.0.2:1"),
        tcp("b", "network-1/10.0.0.2:1")
    ]);
    let first = plan(&document, &list, &mut ids);
    let networks = |snapshot: &Snapshot| snapshot.networks().collect::<HashSet<_>>();
    let after = |document: &Value, ids: &mut Ids| {
        let (desired, previous) = (desired(document), Some(&first.snapshot));
        publish(&desired, &[], &[], ids, Generation(2), previous).unwrap()
    };
    let gone = after(&document, &mut ids.clone());
    assert_eq!(networks(&gone.snapshot), networks(&first.snapshot));
    assert_eq!(gone.snapshot.len(), 0);
    let gone = after(&json!({}), &mut ids);
    let left = networks(&first.snapshot)
        .difference(&networks(&gone.snapshot))
        .copied()
        .collect::<Vec<_>>();
    assert_eq!(left, [NetworkId(1)]);
}
