use serde_json::{Value, json};

use super::*;
use crate::state::{Change, Desired, EditError, Scope, edit, parse};

const PORT: NetworkKey = NetworkKey::new(1).unwrap();

fn tcp(bind: &str) -> Value {
    json!({ "bind": bind, "protocol": "tcp", "to": ["10.0.0.2:5432"] })
}

fn problems(document: &Value) -> Vec<String> {
    match parse(&document.to_string()) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.iter().map(ToString::to_string).collect(),
    }
}

fn good(document: &Value) -> Desired {
    parse(&document.to_string()).unwrap().value
}

/// Two networks, each in a namespace of its own.
fn two(first: &Value, second: &Value) -> Value {
    json!({
        "1": { "netns": "blue", "listeners": first },
        "2": { "netns": "red", "listeners": second },
    })
}

#[test]
fn a_listener_is_in_its_networks_namespace_unless_written() {
    let web = json!({
        "bind": "[::]:80", "in": "host", "protocol": "http", "default": ["10.0.0.2:80"],
        "idle_timeout": "1h", "proxy_protocol": { "accept_from": ["192.0.2.0/24"] },
    });
    let document = two(
        &json!({ "db": tcp("10.0.0.1:5432"), "web": web }),
        &json!({}),
    );
    let desired = good(&document);
    let network = &desired.networks[&PORT];
    let listeners: Vec<&Listener> = network.listeners.values().collect();
    assert_eq!(
        [listeners[0].r#in, listeners[1].r#in],
        [Where::Network, Where::Host]
    );
    assert_eq!(network.own_ports().into_iter().collect::<Vec<_>>(), [5432]);
    let terms = listeners[1].terms();
    assert_eq!(terms.idle_timeout, Duration::from_secs(3600));
    assert_eq!(terms.accept_proxy_from.len(), 1);
    let rendered = desired.render_with_secrets();
    assert_eq!(rendered["1"]["listeners"]["db"], tcp("10.0.0.1:5432"));
    assert_eq!(rendered["1"]["listeners"]["web"]["in"], "host");
    assert_eq!(good(&rendered), desired);
    assert!(rendered["2"].get("listeners").is_none());
}

#[test]
fn what_is_wrong_with_a_listener_is_told_with_its_place() {
    for (listener, expected) in [
        (
            json!({ "bind": "10.0.0.1:1", "protocol": "tcp" }),
            "/1/listeners/a: `to` is missing: a tcp listener needs a destination",
        ),
        (
            json!({ "bind": "10.0.0.1:0", "protocol": "http" }),
            "/1/listeners/a: `bind` needs a port: clients could not know it",
        ),
        (
            json!({ "protocol": "http" }),
            "/1/listeners/a: `bind` is missing",
        ),
        (
            json!({ "bind": "10.0.0.1:1", "protocol": "http", "in": "here" }),
            "/1/listeners/a/in: `here`",
        ),
        (
            json!({ "bind": "10.0.0.1:1", "protocol": "tcp", "to": ["network-1/10.0.0.2:1"] }),
            "/1/listeners/a/to/0: ",
        ),
        (
            json!({ "bind": "10.0.0.1:1", "protocol": "http", "name": "b" }),
            "/1/listeners/a/name: `name` is not a key here",
        ),
        (
            json!({ "bind": "10.0.0.1:1", "protocol": "http", "hello_timeout": "1h" }),
            "/1/listeners/a/hello_timeout: `1h` is not from 10ms to 5m",
        ),
    ] {
        let found = problems(&two(&json!({ "a": listener }), &json!({})));
        let is_told = found.iter().any(|it| it.contains(expected));
        assert!(is_told, "{expected}: {found:?}");
    }
    let odd = problems(&two(&json!({ "a b": tcp("10.0.0.1:1") }), &json!({})));
    assert!(
        odd[0].contains("a name has from 1 to 64 letters"),
        "{odd:?}"
    );
}

#[test]
fn names_are_unique_and_addresses_of_a_namespace_are_had_once() {
    let same = two(
        &json!({ "db": tcp("10.0.0.1:1") }),
        &json!({ "db": tcp("10.0.0.1:2") }),
    );
    let found = problems(&same);
    assert_eq!(found.len(), 1, "{found:?}");
    let taken = "/2/listeners/db: network 1 has a listener `db`: names are unique in the gateway";
    assert!(found[0].contains(taken), "{found:?}");
    let within = json!({ "a": tcp("10.0.0.1:1"), "b": tcp("0.0.0.0:1") });
    let found = problems(&two(&within, &json!({})));
    let taken = "/1/listeners/b: the listener `a` has connections of 0.0.0.0:1 already";
    assert!(found[0].contains(taken), "{found:?}");
    // In namespaces of their own, both may have it.
    let apart = two(
        &json!({ "a": tcp("10.0.0.1:1") }),
        &json!({ "b": tcp("10.0.0.1:1") }),
    );
    assert!(problems(&apart).is_empty());
    let mut shared = apart.clone();
    shared["2"]["netns"] = "blue".into();
    assert_eq!(problems(&shared).len(), 1);
    let mut host = apart;
    for network in ["1", "2"] {
        for listener in host[network]["listeners"]
            .as_object_mut()
            .unwrap()
            .values_mut()
        {
            listener["in"] = "host".into();
        }
    }
    assert_eq!(problems(&host).len(), 1);
}

#[test]
fn one_listener_is_put_replaced_and_removed() {
    let current = good(&two(
        &json!({ "a": tcp("10.0.0.1:1") }),
        &json!({ "z": tcp("10.0.0.1:1") }),
    ));
    let put = |name: &str, listener: &Value| Change::PutListener {
        port: PORT,
        name: name.parse().unwrap(),
        text: listener.to_string(),
    };
    let after = |change: &Change| edit(&current, change, &Scope::default()).map(|it| it.value);
    let added = after(&put("b", &tcp("10.0.0.1:2"))).unwrap();
    assert_eq!(added.networks[&PORT].listeners.len(), 2);
    // Where it was itself is no obstacle.
    let moved = after(&put("a", &tcp("0.0.0.0:1"))).unwrap();
    assert_eq!(moved.networks[&PORT].listeners.len(), 1);
    for (name, bind, expected) in [
        (
            "z",
            "10.0.0.1:3",
            ": network 2 has a listener `z`: names are unique in the gateway",
        ),
        (
            "b",
            "0.0.0.0:1",
            ": the listener `a` has connections of 0.0.0.0:1 already",
        ),
    ] {
        let Err(EditError::Problems(found)) = after(&put(name, &tcp(bind))) else {
            panic!("{name} is taken");
        };
        let found: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert!(found[0].ends_with(expected), "{found:?}");
    }
    let remove = |name: &str| Change::RemoveListener {
        port: PORT,
        name: name.parse().unwrap(),
    };
    assert!(
        after(&remove("a")).unwrap().networks[&PORT]
            .listeners
            .is_empty()
    );
    assert!(matches!(
        after(&remove("z")),
        Err(EditError::UnknownListener { .. })
    ));
}
