use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    place::NetworkKey,
    state::{
        Change, Desired, Scope, Whose, edit,
        tests::{good, key},
    },
};

/// Networks with rules, peers and listeners; the second one's peers are a list.
const NETWORKS: [u16; 3] = [1, 2, 3];

fn network(number: u16) -> Value {
    let mut network = json!({
        "private_key": key(1),
        "address": ["10.0.0.1/16"],
        "peers": {},
        "proxy": {},
        "routes": [{ "host": format!("n{number}.example"), "path": "/unnamed", "maintenance": true }],
    });
    if number == 2 {
        network["peers"] = json!([]);
        network.as_object_mut().unwrap().remove("address");
    }
    network
}

fn start() -> Desired {
    let networks = NETWORKS.map(|number| (number.to_string(), network(number)));
    good(&Value::Object(networks.into_iter().collect()))
}

/// One object that is put, with a number that makes it this one, or removed.
#[derive(Clone, Debug)]
enum Step {
    Network(u16, Option<u8>),
    Route(u16, u8, Option<u8>),
    Peer(u16, u8, Option<u8>),
    Listener(u16, u8, Option<u8>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let network = || prop::sample::select(NETWORKS.to_vec());
    let put = || prop::option::weighted(0.7, any::<u8>());
    let one = prop_oneof![
        1 => (network(), put()).prop_map(|(at, put)| Step::Network(at, put)),
        8 => (network(), 0..6_u8, put()).prop_map(|(at, id, put)| Step::Route(at, id, put)),
        4 => (network(), 2..8_u8, put()).prop_map(|(at, id, put)| Step::Peer(at, id, put)),
        3 => (network(), 0..3_u8, put()).prop_map(|(at, id, put)| Step::Listener(at, id, put)),
    ];
    prop::collection::vec(one, 1..60)
}

/// Whose the object with a number is that is written by everybody.
fn owned(mut object: Value, number: u8) -> Value {
    if let owner @ ("blue" | "green") = ["", "blue", "green"][usize::from(number) % 3] {
        object["owner"] = owner.into();
    }
    object
}

fn change(step: &Step) -> Change {
    let port = |number: u16| NetworkKey::new(number).unwrap();
    let text = |value: Value| value.to_string();
    match *step {
        Step::Network(at, Some(number)) => {
            let mut network = network(at);
            network["mtu"] = (1280 + u16::from(number)).into();
            let (port, text) = (port(at), text(network));
            Change::PutNetwork { port, text }
        }
        Step::Network(at, None) => Change::RemoveNetwork { port: port(at) },
        Step::Route(at, id, number) => {
            let (port, host) = (port(at), format!("n{at}.example"));
            let id = format!("r{at}-{id}").parse().unwrap();
            let Some(number) = number else {
                return Change::RemoveRoute { port, id };
            };
            let path = format!("/{id}/{number}");
            let rule = json!({ "host": host, "path": path, "maintenance": true });
            let text = text(owned(rule, number));
            Change::PutRoute { port, id, text }
        }
        Step::Peer(at, peer, number) => {
            let (port, key) = (port(at), key(peer).parse().unwrap());
            let Some(number) = number else {
                return Change::RemovePeer { port, key };
            };
            let address = format!("10.{number}.0.{peer}/32");
            let text = text(owned(json!({ "allowed_ips": [address] }), number));
            Change::PutPeer { port, key, text }
        }
        Step::Listener(at, name, number) => {
            let (port, name) = (port(at), format!("l{at}-{name}"));
            let bind = format!("10.0.0.1:{}", 1000 + u16::from(number.unwrap_or_default()));
            let name = name.parse().unwrap();
            match number {
                Some(_) => {
                    let text = text(json!({ "bind": bind, "protocol": "http" }));
                    Change::PutListener { port, name, text }
                }
                None => Change::RemoveListener { port, name },
            }
        }
    }
}

/// What a step did to the object that it names.
fn difference(step: &Step, after: &Value) -> Difference {
    let (at, object) = match *step {
        Step::Network(at, _) => (at, Object::Network),
        Step::Route(at, id, _) => (at, Object::Route(format!("r{at}-{id}"))),
        Step::Peer(at, peer, _) => (at, Object::Peer(key(peer))),
        Step::Listener(at, name, _) => (at, Object::Listener(format!("l{at}-{name}"))),
    };
    let network = &after[at.to_string()];
    let found = match &object {
        Object::Network => Some(network.clone()).filter(Value::is_object),
        Object::Route(id) => {
            let rules = network[ROUTES].as_array();
            let mut rules = rules.into_iter().flatten();
            rules.find(|rule| rule[ID].as_str() == Some(id)).cloned()
        }
        Object::Listener(name) => network[LISTENERS].get(name).cloned(),
        Object::Peer(peer) => match network[PEERS].as_array() {
            Some(peers) => {
                let mut peers = peers.iter();
                peers.find(|it| it[PUBLIC_KEY] == **peer).cloned()
            }
            None => network[PEERS].get(peer).cloned(),
        },
    };
    let network = at.to_string();
    [ObjectDifference {
        network,
        object,
        value: found,
    }]
    .into_iter()
    .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// One after the other, and all at once, after they were written and read.
    #[test]
    fn differences_applied_to_a_document_are_the_document_of_the_edited_state(steps in steps()) {
        let scope = Scope { whose: Whose::All, cascade: true };
        let mut desired = start();
        let mut document = desired.render_with_secrets();
        let mut composition = Composition::of(document.clone()).unwrap();
        for step in &steps {
            // What cannot be done is none.
            let Ok(edited) = edit(&desired, &change(step), &scope) else {
                continue;
            };
            desired = edited.value;
            let rendered = desired.render_with_secrets();
            let text = difference(step, &rendered).to_text();
            let difference = Difference::parse(&text).unwrap();
            apply(&mut document, &difference).unwrap();
            prop_assert_eq!(&document, &rendered, "{:?}", step);
            composition.apply(&difference).unwrap();
        }
        prop_assert_eq!(composition.finish(), document);
    }

    /// One after the other, and from the first to the last.
    #[test]
    fn what_is_between_two_states_leads_from_one_document_to_the_other(steps in steps()) {
        let scope = Scope { whose: Whose::All, cascade: true };
        let first = start();
        let mut desired = first.clone();
        let mut document = desired.render_with_secrets();
        for step in &steps {
            let Ok(edited) = edit(&desired, &change(step), &scope) else {
                continue;
            };
            let difference = Difference::between(&desired, &edited.value);
            apply(&mut document, &difference).unwrap();
            desired = edited.value;
            prop_assert_eq!(&document, &desired.render_with_secrets(), "{:?}", step);
        }
        let mut document = first.render_with_secrets();
        apply(&mut document, &Difference::between(&first, &desired)).unwrap();
        prop_assert_eq!(document, desired.render_with_secrets());
    }
}

fn route(network: &str, id: &str, value: Option<Value>) -> Difference {
    let object = ObjectDifference {
        network: network.to_owned(),
        object: Object::Route(id.to_owned()),
        value,
    };
    [object].into_iter().collect()
}

#[test]
fn a_difference_is_written_as_a_list_of_objects() {
    let mut difference = route("1", "a", Some(json!({ "id": "a" })));
    difference.push(ObjectDifference {
        network: "2".to_owned(),
        object: Object::Network,
        value: None,
    });
    let text = r#"[{"network":"1","route":"a","value":{"id":"a"}},{"network":"2"}]"#;
    assert_eq!(difference.to_text(), text);
    assert_eq!(Difference::parse(text), Ok(difference));
    assert_eq!(Difference::parse("[]"), Ok(Difference::default()));
    for wrong in [
        "",
        "{}",
        r#"[{"route":"a"}]"#,
        r#"[{"network":"1","route":"a","peer":"b"}]"#,
        r#"[{"network":"1","rule":"a"}]"#,
    ] {
        let refused = Difference::parse(wrong);
        assert_eq!(refused, Err(DifferenceError::Unreadable), "{wrong}");
    }
}

#[test]
fn a_difference_of_another_document_is_refused() {
    let mut document = json!({ "1": { "routes": [{ "id": "a" }] } });
    let before = document.clone();
    let refused = apply(&mut document, &route("2", "a", None));
    assert_eq!(refused, Err(DifferenceError::NoNetwork("2".to_owned())));
    assert_eq!(document, before);
    let peer = ObjectDifference {
        network: "1".to_owned(),
        object: Object::Peer(key(1)),
        value: None,
    };
    let refused = apply(&mut document, &[peer].into_iter().collect());
    assert_eq!(refused, Err(DifferenceError::NoPeers("1".to_owned())));
    let refused = apply(&mut json!([]), &Difference::default());
    assert_eq!(refused, Err(DifferenceError::NoDocument));
}

#[test]
fn no_debug_output_shows_what_an_object_is() {
    let shown = format!("{:?}", route("1", "a", Some(json!({ "id": "secret" }))));
    assert_eq!(shown, r#"[put Route("a") of 1]"#);
}

#[test]
fn a_state_that_differs_in_one_object_is_told_by_that_object() {
    let scope = Scope {
        whose: Whose::All,
        cascade: true,
    };
    let mut desired = start();
    let steps = [
        Step::Route(1, 3, Some(0)),
        Step::Route(1, 4, Some(0)),
        Step::Route(1, 3, Some(3)),
        Step::Route(1, 4, None),
        Step::Peer(1, 5, Some(0)),
        Step::Peer(1, 5, None),
        Step::Listener(1, 1, Some(0)),
        Step::Listener(1, 1, None),
    ];
    for step in &steps {
        let edited = edit(&desired, &change(step), &scope).unwrap().value;
        let difference = Difference::between(&desired, &edited);
        let objects: Vec<_> = difference.iter().map(|it| it.object.clone()).collect();
        assert_eq!(objects.len(), 1, "{step:?}: {objects:?}");
        assert_ne!(objects, [Object::Network], "{step:?}");
        desired = edited;
    }
}
