//! Rules and networks, changed one by one.

use serde_json::{Value, json};

use super::{OTHER, PORT, after, refusal, two};
use crate::{
    place::NetworkKey,
    state::{
        Change, Desired, EditError, RuleId, Scope, Whose, edit, parse,
        tests::{good, key},
    },
};

const HASH: &str = "{SSHA256}/ns6zJE/32NE8cKSZF9az8X5lArEIFIDTnq8kcJ5W2k3YjBkNGYxYzlhMmU2ODM1";

fn id(text: &str) -> RuleId {
    text.parse().unwrap()
}

fn put(name: &str, rule: &Value) -> Change {
    Change::PutRoute {
        port: OTHER,
        id: id(name),
        text: rule.to_string(),
    }
}

fn remove(name: &str) -> Change {
    let (port, id) = (OTHER, id(name));
    Change::RemoveRoute { port, id }
}

fn names(desired: &Desired) -> Vec<String> {
    let routes = desired.networks[&OTHER].routes.iter();
    let ids = routes.map(|route| route.id.as_ref().map(ToString::to_string));
    ids.map(Option::unwrap_or_default).collect()
}

/// The other network has three rules: one with an id, one without, one with an id.
fn three() -> Desired {
    let mut document = two().render_with_secrets();
    document["51821"]["routes"] = json!([
        { "id": "first", "host": "r.example", "path": "/first", "to": ["10.0.0.2:80"] },
        { "host": "r.example", "path": "/second", "to": ["10.0.0.2:80"] },
        { "id": "third", "host": "r.example", "path": "/third", "to": ["10.0.0.2:80"] },
    ]);
    good(&document)
}

#[test]
fn one_rule_is_put_at_the_end_replaced_in_its_place_and_removed() {
    let current = three();
    let rule = json!({ "host": "r.example", "path": "/new", "to": ["10.0.0.3:80"] });
    let added = after(&current, &put("new", &rule));
    assert_eq!(names(&added), ["first", "", "third", "new"]);
    assert_eq!(after(&added, &put("new", &rule)), added, "once more");
    let mut named = rule;
    named["id"] = "new".into();
    assert_eq!(after(&current, &put("new", &named)), added, "with its id");
    assert_eq!(added.networks[&PORT], current.networks[&PORT]);

    let moved = json!({ "host": "r.example", "path": "/elsewhere", "maintenance": true });
    let replaced = after(&added, &put("first", &moved));
    assert_eq!(names(&replaced), ["first", "", "third", "new"]);
    assert_eq!(
        replaced.networks[&OTHER].routes[0].path.as_str(),
        "/elsewhere"
    );

    let removed = after(&added, &remove("new"));
    assert_eq!(removed, current);
    assert_eq!(names(&after(&removed, &remove("first"))), ["", "third"]);
    // What is written reads as the same.
    assert_eq!(good(&added.render_with_secrets()), added);
}

#[test]
fn what_a_rule_is_put_beside_refuses_it_by_name() {
    let current = three();
    for (name, rule, said) in [
        (
            "new",
            json!({ "host": "r.example", "path": "/third", "to": ["10.0.0.2:80"] }),
            "/: rule `third` takes the same requests",
        ),
        (
            "first",
            json!({ "host": "r.example", "path": "/second", "to": ["10.0.0.2:80"] }),
            "/: the rule for r.example/second: rule `first` takes the same requests",
        ),
        (
            "new",
            json!({ "host": "a.example.com", "to": ["10.0.0.2:80"] }),
            "/: network-51820 already has a.example.com, and a name belongs to one network",
        ),
        (
            "new",
            json!({ "id": "other", "host": "r.example", "to": ["10.0.0.2:80"] }),
            "/: the id of the path is `new`, and this is another one",
        ),
        (
            "new",
            json!({ "host": "r.example", "to": ["10.0.0.2"] }),
            "/to/0: `10.0.0.2` is no target: a port from 1 to 65535 is missing (write `ip:port`, `[ip]:port` or `name:port`)",
        ),
    ] {
        assert_eq!(refusal(&current, &put(name, &rule)), said, "{rule}");
    }
}

#[test]
fn an_id_is_one_rules_in_the_whole_gateway() {
    let mut document = three().render_with_secrets();
    document["51821"]["routes"][1]["id"] = "first".into();
    let problems = parse(&document.to_string()).unwrap_err();
    let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        ["/51821/routes/1: network-51821 already has a rule with the id `first`"]
    );
    let elsewhere = Change::PutRoute {
        port: PORT,
        id: id("first"),
        text: json!({ "host": "p.example", "to": ["10.0.0.2:80"] }).to_string(),
    };
    assert_eq!(
        refusal(&three(), &elsewhere),
        "/: network-51821 already has a rule with the id `first`"
    );
}

#[test]
fn what_is_not_there_cannot_be_changed() {
    let current = three();
    assert_eq!(
        refusal(&current, &remove("second")),
        "network 51821 has no route second"
    );
    let (port, id) = (NetworkKey::new(9).unwrap(), id("first"));
    let nowhere = Change::RemoveRoute { port, id };
    assert_eq!(refusal(&current, &nowhere), "there is no network 9");
}

/// A state that could not be read again would not be served after a restart.
#[test]
fn a_rule_that_another_one_needs_stays() {
    let mut document = three().render_with_secrets();
    document["51821"]["routes"] = json!([
        { "id": "tls", "host": "r.example", "tls": "terminate", "to": ["10.0.0.2:80"] },
        { "id": "asks", "host": "r.example", "path": "/asks", "to": ["10.0.0.2:80"],
          "client_certificates": { "mode": "optional", "roots": certificate() } },
    ]);
    let current = good(&document);
    assert_eq!(
        refusal(&current, &remove("tls")),
        "/: rule `asks`: `client_certificates` has no effect: TLS of r.example is not terminated"
    );
    let without = after(&current, &remove("asks"));
    assert!(
        after(&without, &remove("tls")).networks[&OTHER]
            .routes
            .is_empty()
    );
}

fn certificate() -> Value {
    let part = crate::state::schema_parts();
    let example = &part["Route"]["properties"]["client_certificates"]["examples"][0];
    example["roots"].clone()
}

#[test]
fn secrets_of_a_rule_are_kept_by_its_id_wherever_it_goes() {
    let mut document = three().render_with_secrets();
    document["51821"]["routes"][0]["auth"] = json!({ "users": { "alice": HASH } });
    let current = good(&document);
    let route = current.networks[&OTHER].route(&id("first")).unwrap();
    let mut masked = route.render_masked();
    assert_eq!(masked["auth"]["users"]["alice"], "(kept)");
    assert_eq!(after(&current, &put("first", &masked)), current);
    masked["path"] = "/moved".into();
    let moved = after(&current, &put("first", &masked));
    let written = moved.render_with_secrets();
    assert_eq!(
        written["51821"]["routes"][0]["auth"]["users"]["alice"],
        HASH
    );
    masked["id"] = "new".into();
    assert!(refusal(&current, &put("new", &masked)).contains("keeps the password of alice"));
}

#[test]
fn a_network_is_put_whole() {
    let current = three();
    let put = |port, network: &Value| {
        let text = network.to_string();
        Change::PutNetwork { port, text }
    };
    let masked = current.networks[&PORT].render_masked(&Whose::All).unwrap();
    assert_eq!(after(&current, &put(PORT, &masked)), current);
    let replaced = after(&current, &put(OTHER, &json!({ "netns": null })));
    assert!(replaced.networks[&OTHER].routes.is_empty());
    assert_eq!(replaced.networks[&PORT], current.networks[&PORT]);
    let third = NetworkKey::new(51822).unwrap();
    let mut new = json!({ "netns": "green", "proxy": { "c.example": ["10.0.0.2:443"] } });
    let added = after(&current, &put(third, &new));
    assert_eq!(added.networks.len(), 3);
    new["proxy"] = json!({ "b.example.com": ["10.0.0.2:443"] });
    assert_eq!(
        refusal(&current, &put(third, &new)),
        "/proxy/b.example.com: network-51821 already has b.example.com, and a name belongs to one network"
    );
    // There is nothing to keep a secret from.
    let mut kept = masked;
    kept["proxy"] = json!({});
    let change = put(third, &kept);
    let Err(EditError::Problems(problems)) = edit(&current, &change, &Scope::default()) else {
        panic!("accepted");
    };
    assert!(
        problems
            .iter()
            .all(|problem| problem.message.contains("none is stored"))
    );
    assert!(!format!("{change:?}").contains(&key(1)));
}

#[test]
fn what_one_object_needs_of_its_network_is_asked_for_when_it_is_put() {
    // A network in a namespace of its own that names no name server.
    let current = three();
    let named = json!({ "host": "n.example", "to": ["web.internal:80"] });
    let said = refusal(&current, &put("named", &named));
    assert!(said.contains("no name server"), "{said}");
}
