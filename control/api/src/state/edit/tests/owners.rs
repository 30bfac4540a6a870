//! Several owners over one desired state.

use serde_json::{Value, json};

use super::{OTHER, PORT, patch, public, put as put_peer, replace, two};
use crate::{
    place::NetworkKey,
    state::{
        Change, Desired, EditError, OWNERS_MAX, Owner, Scope, Whose, changed_owners, edit,
        tests::{good, key},
    },
};

fn owner(name: &str) -> Owner {
    name.parse().unwrap()
}

fn of(name: &str) -> Whose {
    Whose::One(owner(name))
}

fn scope(name: &str) -> Scope {
    Scope {
        whose: of(name),
        cascade: false,
    }
}

const EVERYBODY: Scope = Scope {
    whose: Whose::All,
    cascade: false,
};

fn after_as(current: &Desired, change: &Change, scope: &Scope) -> Desired {
    match edit(current, change, scope) {
        Ok(valid) => valid.value,
        Err(error) => panic!("{change}: {error:?}"),
    }
}

/// All that is said against a change.
fn refusals(current: &Desired, change: &Change, scope: &Scope) -> Vec<String> {
    match edit(current, change, scope) {
        Ok(_) => panic!("{change} is accepted"),
        Err(EditError::Problems(problems)) => problems.errors().map(ToString::to_string).collect(),
        Err(error) => vec![error.to_string()],
    }
}

fn rule(path: &str) -> Value {
    json!({ "host": "b.example.com", "path": path, "to": ["10.0.0.2:80"] })
}

fn named(id: &str, path: &str) -> Value {
    let mut rule = rule(path);
    rule["id"] = id.into();
    rule
}

/// A rule of `blue` in one network of the base, a peer in the other, and a network of its own.
fn blues() -> Value {
    json!({
        "51820": { "peers": { (key(5)): { "allowed_ips": ["10.0.0.5/32"], "preshared_key": key(9) } } },
        "51821": { "routes": [named("blue-1", "/blue")] },
        "51900": { "netns": "blue", "proxy": { "blue.example": ["10.0.0.2:443"] } },
    })
}

fn both() -> Desired {
    after_as(&two(), &replace(&blues()), &scope("blue"))
}

#[test]
fn each_owner_replaces_what_it_has_and_leaves_the_others_alone() {
    let base = two();
    let current = both();
    assert_eq!(
        current.render_part_with_secrets(&of("api")),
        base.render_with_secrets()
    );
    let network = &current.networks[&OTHER];
    assert_eq!(network.owner, owner("api"));
    assert_eq!(network.routes[0].owner, owner("blue"));
    assert_eq!(
        current.owners().into_iter().collect::<Vec<_>>(),
        [&owner("api"), &owner("blue")]
    );
    // Each part can be written back as it is shown, and changes nothing.
    for name in ["api", "blue"] {
        let masked = current.render_part_masked(&of(name));
        assert!(!masked.to_string().contains(&key(9)));
        assert_eq!(after_as(&current, &replace(&masked), &scope(name)), current);
    }
    // The base changes beside it.
    let mut document = base.render_masked();
    document["51820"]["mtu"] = 1400.into();
    document["51821"]["routes"] = json!([rule("/base")]);
    let changed = after_as(&current, &replace(&document), &scope("api"));
    let part = |desired: &Desired| desired.render_part_with_secrets(&of("blue"));
    assert_eq!(part(&changed), part(&current));
    let paths = changed.networks[&OTHER].routes.iter();
    let paths: Vec<&str> = paths.map(|route| route.path.as_str()).collect();
    assert_eq!(paths, ["/base", "/blue"], "the base first");
    // And the other one goes beside it.
    let gone = after_as(&changed, &replace(&json!({})), &scope("blue"));
    assert_eq!(gone, after_as(&base, &replace(&document), &scope("api")));
    assert!(gone.owners().into_iter().eq([&owner("api")]));
}

#[test]
fn everything_is_shown_with_its_owners_and_read_so() {
    let current = both();
    let whole = current.render_with_secrets();
    assert_eq!(whole["51900"]["owner"], "blue");
    assert_eq!(whole["51821"]["routes"][0]["owner"], "blue");
    assert_eq!(whole["51820"]["peers"][key(5)]["owner"], "blue");
    assert_eq!(
        whole["51820"]["owner"],
        Value::Null,
        "the base says nothing"
    );
    assert_eq!(good(&whole), current);
    let masked = current.render_masked();
    assert_eq!(after_as(&current, &replace(&masked), &EVERYBODY), current);
    let emptied = after_as(&current, &replace(&json!({})), &EVERYBODY);
    assert_eq!(emptied, Desired::default());
    // Written by one owner, it would be taken from the others.
    let said = refusals(&current, &replace(&masked), &scope("api"));
    assert_eq!(
        said[0],
        format!(
            "/51820/peers/{}/owner: this is an object of `blue` (leave `owner` out, or ask for `?owners=all`)",
            key(5).replace('/', "~1")
        )
    );
}

#[test]
fn what_is_in_the_way_is_said_with_its_owner() {
    let current = both();
    let as_api = |document: Value| refusals(&current, &replace(&document), &scope("api"));
    let as_green = |document: Value| refusals(&current, &replace(&document), &scope("green"));
    assert_eq!(
        as_green(json!({ "51820": { "mtu": 1400 } })),
        [
            "/51820/mtu: network-51820 belongs to `api`, who alone writes this (others have `routes` and `peers` in it)"
        ]
    );
    assert_eq!(
        as_green(json!({ "51900": { "netns": "green" } })),
        [
            "/51900/netns: network-51900 belongs to `blue`, who alone writes this (others have `routes` and `peers` in it)"
        ]
    );
    assert_eq!(
        as_green(
            json!({ "51901": { "netns": null, "proxy": { "blue.example": ["10.0.0.2:1"] } } })
        ),
        [
            "/51901/proxy/blue.example: network-51900 of `blue` already has blue.example, and a name belongs to one network"
        ]
    );
    assert_eq!(
        as_green(json!({ "51900": { "routes": [
            { "id": "blue-1", "host": "c.example", "to": ["10.0.0.2:80"] },
            { "host": "d.example", "to": ["10.0.0.2:80"] },
        ] } })),
        [
            "/51900/routes/1: an `id` is missing: network-51900 of `blue` is not of `green`",
            "/51900/routes/0: network-51821 of `blue` already has a rule with the id `blue-1`",
        ]
    );
    let mut document = two().render_masked();
    document["51820"]["peers"][key(5)] = json!({ "allowed_ips": [] });
    document["51820"]["peers"][key(6)] = json!({ "allowed_ips": ["10.0.0.5/32"] });
    let mut said = as_api(document);
    said.sort();
    let five = key(5);
    let mut expected = [
        format!("/51820/peers: peer {five} belongs to `blue`"),
        format!("/51820/peers: 10.0.0.5/32 goes to peer {five}, which belongs to `blue`"),
    ];
    expected.sort();
    assert_eq!(said, expected);
    let no_device = json!({ "51821": { "peers": { (key(6)): { "allowed_ips": [] } } } });
    assert_eq!(
        as_green(no_device),
        ["/51821/peers: network-51821 has no WireGuard device"]
    );
}

#[test]
fn one_object_is_changed_by_its_owner_alone() {
    let current = both();
    let id = || "blue-1".parse().unwrap();
    let put = Change::PutRoute {
        port: OTHER,
        id: id(),
        text: rule("/moved").to_string(),
    };
    let remove = Change::RemoveRoute {
        port: OTHER,
        id: id(),
    };
    let put_peer = put_peer(PORT, 5, &json!({ "allowed_ips": [] }));
    let remove_peer = Change::RemovePeer {
        port: PORT,
        key: public(5),
    };
    let network = NetworkKey::new(51_900).unwrap();
    for (change, object) in [
        (&put, "route blue-1 of network-51821".to_owned()),
        (&remove, "route blue-1 of network-51821".to_owned()),
        (&put_peer, format!("peer {} of network-51820", key(5))),
        (&remove_peer, format!("peer {} of network-51820", key(5))),
        (&patch(network, &json!({})), "network-51900".to_owned()),
        (
            &Change::PutNetwork {
                port: network,
                text: json!({ "netns": null }).to_string(),
            },
            "network-51900".to_owned(),
        ),
        (
            &Change::RemoveNetwork { port: network },
            "network-51900".to_owned(),
        ),
    ] {
        let said = refusals(&current, change, &scope("api"));
        assert_eq!(said, [format!("{object} belongs to `blue`")]);
        // In everybody's document, what names no owner is the base's.
        let is_put = matches!(change, Change::PutNetwork { .. });
        let all = (!is_put).then_some(EVERYBODY);
        for scope in all.into_iter().chain([scope("blue")]) {
            let changed = after_as(&current, change, &scope);
            let owners = changed_owners(&current, &changed);
            let is_blues = owners.iter().all(|it| *it == owner("blue"));
            assert!(is_blues, "{change} as {:?}: {owners:?}", scope.whose);
        }
    }
}

#[test]
fn a_patch_of_a_network_leaves_what_others_have_in_it() {
    let current = both();
    let change = patch(PORT, &json!({ "mtu": 1400, "peers": { (key(2)): null } }));
    let changed = after_as(&current, &change, &scope("api"));
    assert_eq!(
        changed.render_part_with_secrets(&of("blue")),
        current.render_part_with_secrets(&of("blue"))
    );
    let peers = &changed.networks[&PORT].wireguard.as_ref().unwrap().peers;
    assert!(peers.contains_key(&public(5)) && !peers.contains_key(&public(2)));
    let without_device = json!({ "netns": null });
    let change = Change::PutNetwork {
        port: PORT,
        text: without_device.to_string(),
    };
    let said = refusals(&current, &change, &scope("api"));
    assert!(
        said[0]
            .starts_with("/: others have peers in the network, and it has no WireGuard device: "),
        "{said:?}"
    );
}

#[test]
fn a_network_that_others_are_in_goes_only_with_what_they_have() {
    let current = both();
    let five = key(5);
    let remove = Change::RemoveNetwork { port: PORT };
    let expected = format!(
        "network-51820 goes, and others have in it: peer {five} of `blue` (`?cascade=true` removes these with it)"
    );
    assert_eq!(
        refusals(&current, &remove, &scope("api")),
        [format!("/: {expected}")]
    );
    let mut document = two().render_masked();
    document.as_object_mut().unwrap().remove("51820");
    let apply = replace(&document);
    assert_eq!(
        refusals(&current, &apply, &scope("api")),
        [format!("/51820: {expected}")]
    );
    let cascade = Scope {
        cascade: true,
        ..scope("api")
    };
    for change in [&remove, &apply] {
        let changed = after_as(&current, change, &cascade);
        assert!(!changed.networks.contains_key(&PORT));
        let part = changed.render_part_with_secrets(&of("blue"));
        assert_eq!(part["51820"], Value::Null);
        assert!(part["51821"].is_object(), "what is elsewhere stays");
    }
}

#[test]
fn of_equal_rules_the_base_is_found_first_then_by_owner_and_id() {
    let mut current = two();
    for (name, id) in [("green", "a"), ("blue", "z"), ("blue", "b")] {
        let change = Change::PutRoute {
            port: OTHER,
            id: id.parse().unwrap(),
            text: rule("/same").to_string(),
        };
        let edited = edit(&current, &change, &scope(name));
        current = match edited {
            Ok(valid) => valid.value,
            // Of one owner only one matches.
            Err(EditError::Problems(problems)) => {
                let said: Vec<_> = problems.errors().map(ToString::to_string).collect();
                assert_eq!((id, said.len()), ("b", 1), "{said:?}");
                continue;
            }
            Err(error) => panic!("{error}"),
        };
    }
    let other = Change::PutRoute {
        port: OTHER,
        id: "b".parse().unwrap(),
        text: rule("/other").to_string(),
    };
    let current = after_as(&current, &other, &scope("blue"));
    let ids = |desired: &Desired, is_served: bool| -> Vec<String> {
        let network = &desired.networks[&OTHER];
        let served: Vec<_> = network.served_routes().collect();
        let routes = network.routes.iter().map(|route| &**route);
        let routes = routes.filter(|route| !is_served || served.contains(route));
        routes
            .map(|route| route.id.as_ref().unwrap().to_string())
            .collect()
    };
    assert_eq!(ids(&current, false), ["b", "z", "a"]);
    assert_eq!(ids(&current, true), ["b", "z"]);
    let base = Change::PutRoute {
        port: OTHER,
        id: "base".parse().unwrap(),
        text: rule("/same").to_string(),
    };
    let edited = edit(&current, &base, &scope("api")).unwrap();
    assert_eq!(ids(&edited.value, true), ["base", "b"]);
    let warnings: Vec<String> = edited.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "/: warning: rule `z`: rule `base` of `api` is before it: rule `base` takes the same requests",
            "/: warning: rule `a`: rule `base` of `api` is before it: rule `base` takes the same requests",
        ]
    );
    // Stored, it is read as the same.
    assert_eq!(good(&edited.value.render_with_secrets()), edited.value);
}

#[test]
fn what_one_owner_had_comes_back_beside_what_the_others_have_now() {
    let earlier = both();
    let text = earlier.render_with_secrets().to_string();
    let back = Change::Rollback {
        generation: 1,
        text,
    };
    let mut document = two().render_masked();
    document["51820"]["mtu"] = 1400.into();
    let now = after_as(&earlier, &replace(&document), &scope("api"));
    let now = after_as(&now, &replace(&json!({})), &scope("blue"));
    let blue_again = after_as(&now, &back, &scope("blue"));
    assert_eq!(
        blue_again.render_part_with_secrets(&of("blue")),
        earlier.render_part_with_secrets(&of("blue"))
    );
    assert_eq!(
        blue_again.networks[&PORT].wireguard.as_ref().unwrap().mtu,
        1400
    );
    assert_eq!(after_as(&blue_again, &back, &scope("api")), earlier);
    assert_eq!(after_as(&now, &back, &EVERYBODY), earlier);
}

#[test]
fn owners_whose_part_differs_are_found() {
    let (base, current) = (two(), both());
    let changed = |one: &Desired, other: &Desired| -> Vec<String> {
        let owners = changed_owners(one, other);
        owners.iter().map(ToString::to_string).collect()
    };
    assert!(changed(&current, &current).is_empty());
    assert_eq!(changed(&base, &current), ["blue"]);
    assert_eq!(changed(&current, &base), ["blue"]);
    let mut document = base.render_masked();
    document["51821"]["netns"] = "elsewhere".into();
    let moved = after_as(&current, &replace(&document), &scope("api"));
    assert_eq!(changed(&current, &moved), ["api"]);
    let both_changed = after_as(&moved, &replace(&json!({})), &scope("blue"));
    assert_eq!(changed(&current, &both_changed), ["api", "blue"]);
}

#[test]
fn only_so_many_owners_have_something_at_once() {
    let mut current = two();
    let put = |number: usize| Change::PutRoute {
        port: OTHER,
        id: format!("r{number}").parse().unwrap(),
        text: rule(&format!("/{number}")).to_string(),
    };
    for number in 1..OWNERS_MAX {
        current = after_as(&current, &put(number), &scope(&format!("o{number}")));
    }
    assert_eq!(
        refusals(&current, &put(OWNERS_MAX), &scope("more")),
        ["/: more than 64 owners have something in the desired state"]
    );
    drop(after_as(&current, &put(OWNERS_MAX), &scope("o1")));
}

/// What one owner takes away must not leave the rest in a state that cannot be read again.
#[test]
fn what_the_rules_of_others_need_stays() {
    let mut document = two().render_with_secrets();
    document["51821"]["routes"] = json!([{
        "id": "tls", "host": "b.example.com", "path": "/tls", "tls": "terminate", "to": ["10.0.0.2:80"],
    }]);
    document["51821"]["proxy"] = json!({});
    let base = good(&document);
    let part = crate::state::schema_parts();
    let example = &part["Route"]["properties"]["client_certificates"]["examples"][0];
    let mut asks = named("asks", "/asks");
    asks["client_certificates"] = json!({ "mode": "optional", "roots": example["roots"] });
    let asks = json!({ "51821": { "routes": [asks] } });
    let current = after_as(&base, &replace(&asks), &scope("blue"));
    document["51821"]["routes"] = json!([]);
    assert_eq!(
        refusals(&current, &replace(&document), &scope("api")),
        [
            "/51821: rule `asks`: `client_certificates` has no effect: TLS of b.example.com is not terminated"
        ]
    );
}

#[test]
fn a_secret_is_kept_for_its_owner_alone() {
    let put_rule = |id: &str, value: &str| {
        let mut rule = rule("/secret");
        rule["request_headers"] = json!({ "set": { "authorization": value } });
        Change::PutRoute {
            port: OTHER,
            id: id.parse().unwrap(),
            text: rule.to_string(),
        }
    };
    let (api, other) = (scope("api"), scope("zz"));
    let current = after_as(&two(), &put_rule("mine", "Bearer of-api"), &api);
    // Its rule is found by the same, and was written by somebody else.
    refusals(&current, &put_rule("theirs", "(kept)"), &other);
    assert_eq!(
        after_as(&current, &put_rule("mine", "(kept)"), &api),
        current
    );
    let both = after_as(&current, &put_rule("theirs", "Bearer of-zz"), &other);
    assert_eq!(after_as(&both, &put_rule("mine", "(kept)"), &api), both);
    assert_eq!(after_as(&both, &put_rule("theirs", "(kept)"), &other), both);
}
