use proptest::prelude::*;
use serde_json::{Value, json};

use super::{super::KEPT, *};
use crate::state::tests::{arbitrary_network, device, good, key};

mod owners;
mod rules;

const PORT: NetworkKey = NetworkKey::new(51820).unwrap();
const OTHER: NetworkKey = NetworkKey::new(51821).unwrap();

fn public(byte: u8) -> PublicKey {
    key(byte).parse().unwrap()
}

fn replace(document: &Value) -> Change {
    let text = document.to_string();
    Change::Replace { text }
}

fn patch(port: NetworkKey, patch: &Value) -> Change {
    let text = patch.to_string();
    Change::PatchNetwork { port, text }
}

fn put(port: NetworkKey, byte: u8, peer: &Value) -> Change {
    let text = peer.to_string();
    Change::PutPeer {
        port,
        key: public(byte),
        text,
    }
}

fn after(current: &Desired, change: &Change) -> Desired {
    match edit(current, change, &Scope::default()) {
        Ok(valid) => valid.value,
        Err(error) => panic!("{change}: {error:?}"),
    }
}

/// The only error of a refused change, or what does not exist.
fn refusal(current: &Desired, change: &Change) -> String {
    match edit(current, change, &Scope::default()) {
        Ok(_) => panic!("{change} is accepted"),
        Err(EditError::Problems(problems)) => {
            let errors: Vec<String> = problems.errors().map(ToString::to_string).collect();
            assert_eq!(errors.len(), 1, "{errors:?}");
            errors[0].clone()
        }
        Err(error) => error.to_string(),
    }
}

/// Two networks; the first has two peers, one with a secret.
fn two() -> Desired {
    let mut document = device(|network| {
        network["peers"][key(3)] =
            json!({ "allowed_ips": ["10.0.0.3/32"], "preshared_key": key(9) });
        network["proxy"] = json!({ "a.example.com": ["10.0.0.2:443"] });
    });
    document["51821"] = json!({ "netns": "blue", "proxy": { "b.example.com": ["10.0.0.2:443"] } });
    good(&document)
}

#[test]
fn secrets_that_are_kept_stay_as_they_are() {
    let current = two();
    let masked = current.render_masked();
    assert_eq!(masked["51820"]["private_key"], KEPT);
    assert_eq!(masked["51820"]["peers"][key(3)]["preshared_key"], KEPT);
    assert_eq!(
        masked["51820"]["peers"][key(2)]["preshared_key"],
        Value::Null
    );
    assert!(!masked.to_string().contains(&key(9)));
    assert!(!masked.to_string().contains(&key(1)));
    assert_eq!(after(&current, &replace(&masked)), current);
}

#[test]
fn a_secret_that_is_not_there_cannot_be_kept() {
    let current = two();
    let moved = json!({ "51822": current.render_masked()["51820"] });
    let Err(EditError::Problems(problems)) = edit(&current, &replace(&moved), &Scope::default())
    else {
        panic!("accepted");
    };
    let errors: Vec<String> = problems.errors().map(ToString::to_string).collect();
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].contains("keeps the stored key, but none is stored"));
    let peer = json!({ "allowed_ips": [], "preshared_key": KEPT });
    assert!(refusal(&current, &put(PORT, 2, &peer)).starts_with("/preshared_key: "));
    assert!(crate::state::parse(&current.render_masked().to_string()).is_err());
}

#[test]
fn a_patch_changes_what_it_names_and_nothing_else() {
    let current = two();
    let changed = after(
        &current,
        &patch(
            PORT,
            &json!({ "mtu": 1400, "peers": { (key(2)): null, (key(4)): { "allowed_ips": ["10.0.0.4/32"] } } }),
        ),
    );
    let wireguard = changed.networks[&PORT].wireguard.as_ref().unwrap();
    assert_eq!(wireguard.mtu, 1400);
    let peers: Vec<PublicKey> = wireguard.peers.keys().copied().collect();
    assert_eq!(peers, [public(3), public(4)]);
    assert!(wireguard.peers[&public(3)].preshared_key.is_some());
    assert_eq!(changed.networks[&OTHER], current.networks[&OTHER]);
    assert_eq!(
        changed.networks[&PORT].public_key(),
        current.networks[&PORT].public_key()
    );
}

#[test]
fn a_patch_meets_the_keys_that_it_means() {
    let current = two();
    let hex = "02".repeat(32);
    let url_safe = key(3).replace('+', "-").replace('/', "_");
    let changed = after(
        &current,
        &patch(
            PORT,
            &json!({ "peers": { (hex): null, (url_safe): null }, "proxy": { "A.example.com": null } }),
        ),
    );
    let network = &changed.networks[&PORT];
    assert!(network.wireguard.as_ref().unwrap().peers.is_empty());
    assert!(network.proxy.is_empty());
    let replaced = patch(
        PORT,
        &json!({ "proxy": { "a.example.com": ["10.0.0.9:1"] } }),
    );
    let changed = after(&current, &replaced);
    for pool in changed.networks[&PORT].proxy.values() {
        assert_eq!(pool.targets.len(), 1, "the targets are replaced, not added");
        assert_eq!(pool.targets[0].endpoint.to_string(), "10.0.0.9:1");
    }
}

#[test]
fn a_patch_is_refused_with_the_place_inside_the_network() {
    let current = two();
    for (text, place) in [
        (r#"{"mtu": 5}"#, "/mtu: "),
        (r#"{"colour": "red"}"#, "/colour: "),
        (r#"{"private_key": null}"#, "/: `private_key` is missing"),
        (
            r#"{"proxy": {"b.example.com": ["10.0.0.1:1"]}}"#,
            "/proxy/http:~1~1b.example.com: network-51821 already has",
        ),
        ("null", "/: a map is expected"),
        ("{", "/: not JSON"),
        (
            r#"{"mtu": 1300, "mtu": 1400}"#,
            "/mtu: this key is written again",
        ),
        (
            r#"{"peers": {"x": {"allowed_ips": []}}}"#,
            "/peers/x: a WireGuard key is expected",
        ),
    ] {
        let change = Change::PatchNetwork {
            port: PORT,
            text: text.to_owned(),
        };
        let Err(EditError::Problems(problems)) = edit(&current, &change, &Scope::default()) else {
            panic!("{text} is accepted");
        };
        let first = problems.errors().next().unwrap().to_string();
        assert!(first.starts_with(place), "{text}: {first}");
    }
}

#[test]
fn what_does_not_exist_is_said_so() {
    let current = two();
    let nobody = NetworkKey::new(9).unwrap();
    let (port, key) = (nobody, public(2));
    let peer = json!({ "allowed_ips": [] });
    for change in [
        patch(nobody, &json!({})),
        put(nobody, 2, &peer),
        Change::RemoveNetwork { port },
        Change::RemovePeer { port, key },
    ] {
        assert_eq!(refusal(&current, &change), "there is no network 9");
    }
    let without = "network 51821 has no WireGuard device";
    assert_eq!(refusal(&current, &put(OTHER, 2, &peer)), without);
    let removal = Change::RemovePeer { port: OTHER, key };
    assert_eq!(refusal(&current, &removal), without);
    let (port, key) = (PORT, public(7));
    assert_eq!(
        refusal(&current, &Change::RemovePeer { port, key }),
        format!("network 51820 has no peer {key}")
    );
}

#[test]
fn one_peer_is_put_replaced_and_removed() {
    let current = two();
    let peer = json!({ "allowed_ips": ["10.0.0.5/32"], "endpoint": "192.0.2.5:1" });
    let added = after(&current, &put(PORT, 5, &peer));
    let peers = |desired: &Desired| desired.networks[&PORT].wireguard.clone().unwrap().peers;
    assert_eq!(peers(&added).len(), 3);
    assert_eq!(after(&added, &put(PORT, 5, &peer)), added);
    // What another peer had goes to the one that is put, as in a document.
    let greedy = edit(
        &added,
        &put(PORT, 5, &json!({ "allowed_ips": ["10.0.0.2/32"] })),
        &Scope::default(),
    )
    .unwrap();
    assert!(peers(&greedy.value)[&public(2)].allowed_ips.is_empty());
    assert_eq!(greedy.warnings.iter().count(), 1);
    // A replaced peer has nothing left of what it was.
    let replaced = after(&current, &put(PORT, 3, &json!({ "allowed_ips": [] })));
    assert!(peers(&replaced)[&public(3)].preshared_key.is_none());
    let kept = json!({ "allowed_ips": [], "preshared_key": KEPT });
    let kept = after(&current, &put(PORT, 3, &kept));
    assert!(peers(&kept)[&public(3)].preshared_key.is_some());

    let (port, key) = (PORT, public(5));
    assert_eq!(after(&added, &Change::RemovePeer { port, key }), current);
    let gone = after(&current, &Change::RemoveNetwork { port });
    assert_eq!(gone.networks.keys().collect::<Vec<_>>(), [&OTHER]);
}

#[test]
fn an_earlier_generation_comes_back_with_its_secrets() {
    let current = two();
    let text = current.render_with_secrets().to_string();
    let back = Change::Rollback {
        generation: 1,
        text,
    };
    assert_eq!(after(&Desired::default(), &back), current);
    assert_eq!(format!("{back:?}"), "Change(roll back to generation 1)");
}

proptest! {
    #[test]
    fn posting_the_masked_answer_back_changes_nothing(one in arbitrary_network(51820), other in arbitrary_network(51821)) {
        let document = Value::Object([one, other].into_iter().collect());
        let Ok(valid) = crate::state::parse(&document.to_string()) else {
            return Ok(());
        };
        let current = valid.value;
        let masked = current.render_masked();
        prop_assert_eq!(&after(&current, &replace(&masked)), &current);
        prop_assert_eq!(&after(&current, &patch(PORT, &json!({}))), &current);
        let mut network = masked["51820"].clone();
        // A patch has no word for null, which would be the host's namespace.
        if let Some(members) = network.as_object_mut() {
            members.retain(|key, value| !(key == "netns" && value.is_null()));
        }
        prop_assert_eq!(&after(&current, &patch(PORT, &network)), &current);
    }

    #[test]
    fn a_patch_applied_again_changes_nothing_more(
        network in arbitrary_network(51820),
        mtu in prop::option::of(1280..2000u16),
        peers in prop::collection::btree_map(1..9u8, prop::option::of(any::<[u8; 4]>()), 0..4),
    ) {
        let document = Value::Object([network].into_iter().collect());
        let Ok(valid) = crate::state::parse(&document.to_string()) else {
            return Ok(());
        };
        let peers: serde_json::Map<String, Value> = peers.into_iter().map(|(id, ip)| {
            let allowed = |ip| json!({ "allowed_ips": [std::net::Ipv4Addr::from(ip).to_string()] });
            (key(id), ip.map_or(Value::Null, allowed))
        }).collect();
        let change = patch(PORT, &json!({ "mtu": mtu, "peers": peers }));
        if let Ok(once) = edit(&valid.value, &change, &Scope::default()) {
            prop_assert_eq!(&after(&once.value, &change), &once.value);
        }
    }

    #[test]
    fn no_patch_and_no_peer_panics(words in prop::collection::vec(prop::sample::select(vec![
        "{", "}", "[", "]", ",", ":", "\"peers\"", "\"proxy\"", "\"a.b\"", "\"(kept)\"", "null", "1", "\"allowed_ips\"", "\"10.0.0.1\"",
    ]), 0..30)) {
        let current = two();
        let text = words.concat();
        for change in [
            Change::PatchNetwork { port: PORT, text: text.clone() },
            Change::PutRoute { port: PORT, id: "a".parse().unwrap(), text: text.clone() },
            Change::PutPeer { port: PORT, key: public(2), text },
        ] {
            let _ = edit(&current, &change, &Scope::default());
        }
    }
}
