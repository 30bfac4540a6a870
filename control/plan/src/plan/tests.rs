//! The laws of planning, and what single plans have to say.

use std::collections::{BTreeMap, BTreeSet};

use control_api::place::NetworkKey;

use control_api::state::{self, Desired, PublicKey};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{fake::Fake, *};
use crate::{
    actual::{ActualDevice, FirewallState},
    step::{Action, DeviceChange, PeerChange},
};

const EXISTING: [&str; 2] = ["lab-a", "lab-b"];

fn desired(document: &Value) -> Desired {
    state::parse(&document.to_string()).unwrap().value
}

fn key(seed: u8) -> String {
    let digits = format!("{seed:02x}");
    digits.repeat(32)
}

fn port(port: u16) -> NetworkKey {
    NetworkKey::new(port).unwrap()
}

fn network(seed: u8, more: Value) -> Value {
    let mut network = json!({
        "private_key": key(seed),
        "address": ["10.0.0.1/24"],
        "peers": {},
        "proxy": {},
    });
    if let (Some(network), Value::Object(more)) = (network.as_object_mut(), more) {
        network.extend(more);
    }
    network
}

fn configured(action: &Action) -> Option<&DeviceChange> {
    if let Action::ConfigureDevice(change) = action {
        return Some(change);
    }
    None
}

/// A kernel, and what Ringway remembers.
#[derive(Clone, Debug)]
struct World {
    kernel: Fake,
    known: Known,
}

impl World {
    fn new() -> Self {
        Self {
            kernel: Fake::with(&EXISTING),
            known: Known::default(),
        }
    }

    fn plan(&self, desired: &Desired) -> Plan {
        let places = places(desired, &self.kernel.owned, None);
        plan(Input {
            desired,
            actual: &self.kernel.observe(&places),
            owned: &self.kernel.owned,
            known: &self.known,
            backend: None,
            only: None,
        })
    }

    /// Every step of one plan, until one fails.
    fn round(&mut self, desired: &Desired) -> Result<Plan, String> {
        let scope = places(desired, &self.kernel.owned, None);
        let plan = self.plan(desired);
        for step in plan.steps() {
            let failed = |refusal| format!("{} {}: {refusal}", step.op(), step.object());
            self.kernel.apply(step).map_err(failed)?;
        }
        self.known.settle(desired, scope.keys());
        Ok(plan)
    }

    /// Plans until a plan is whole; answers how many it took.
    fn settle(&mut self, desired: &Desired) -> usize {
        for rounds in 1..=3 {
            if !self.round(desired).unwrap().is_partial {
                return rounds;
            }
        }
        panic!("three plans are not enough");
    }
}

fn peers(choice: u8) -> Value {
    let peer = |host: u8, more: Value| {
        let mut peer = json!({ "allowed_ips": [format!("10.0.0.{host}/32")] });
        if let (Some(peer), Value::Object(more)) = (peer.as_object_mut(), more) {
            peer.extend(more);
        }
        peer
    };
    match choice {
        0 => json!({}),
        1 => json!({ key(101): peer(2, json!({ "endpoint": "192.0.2.1:1" })) }),
        2 => json!({
            key(101): peer(2, json!({ "endpoint": "192.0.2.9:1" })),
            key(102): peer(3, json!({ "preshared_key": key(7) })),
        }),
        // The prefixes change their owners, and one lies outside.
        _ => json!({
            key(101): peer(3, json!({})),
            key(102): { "allowed_ips": ["10.0.0.2/32", "10.9.0.0/16", "10.9.8.0/24", "fd00::/64"] },
        }),
    }
}

prop_compose! {
    fn a_network()(
        seed in 1_u8..3,
        place in 0_u8..6,
        peer in 0_u8..4,
        address in 0_u8..6,
        mtu in prop_oneof![Just(1420), Just(1280)],
        peer_to_peer in any::<bool>(),
    ) -> Value {
        let address = match address {
            0 => json!(["10.0.0.1/24"]),
            1 => json!(["10.0.0.1/24", "fd00::1/64"]),
            2 => json!(["10.0.0.9/24"]),
            3 => json!(["10.0.0.9/24", "10.0.0.1/24", "fd00::1/48"]),
            4 => json!(["10.0.0.1/16"]),
            _ => json!(["10.1.0.1/24"]),
        };
        let keys = json!({
            "address": address, "mtu": mtu, "peers": peers(peer), "peer_to_peer": peer_to_peer,
        });
        let mut network = network(seed, keys);
        match place {
            0 => network["netns"] = Value::Null,
            1 => network["netns"] = EXISTING[0].into(),
            2 => network["netns"] = EXISTING[1].into(),
            3 => return json!({ "netns": EXISTING[0], "proxy": {} }),
            _ => network["adopt"] = true.into(),
        }
        network
    }
}

fn a_document() -> impl Strategy<Value = Desired> {
    let networks = prop::collection::btree_map(1_u16..5, a_network(), 0..4);
    networks.prop_map(|networks| {
        let networks = networks.into_iter().map(|(port, n)| (port.to_string(), n));
        desired(&Value::Object(networks.collect::<Map<_, _>>()))
    })
}

proptest! {
    #[test]
    fn applying_a_plan_leaves_nothing_to_plan(documents in prop::collection::vec(a_document(), 1..4)) {
        let mut world = World::new();
        for desired in &documents {
            world.settle(desired);
            let again = world.plan(desired);
            prop_assert!(again.is_empty() && !again.is_partial, "{again:?}");
        }
    }

    #[test]
    fn stopping_after_any_step_converges_to_the_same_end(
        first in a_document(),
        second in a_document(),
        steps in 0_usize..40,
    ) {
        let mut undisturbed = World::new();
        undisturbed.settle(&first);
        let mut stopped = undisturbed.clone();
        undisturbed.settle(&second);
        stopped.kernel.fails_after = Some(steps);
        let _ = stopped.round(&second);
        stopped.kernel.fails_after = None;
        stopped.settle(&second);
        prop_assert!(stopped.plan(&second).is_empty());
        let places = places(&second, &stopped.kernel.owned, None);
        let ends = [&undisturbed, &stopped].map(|world| {
            let mut end = world.kernel.observe(&places);
            // How often a device was made is not part of what is desired.
            end.networks.values_mut().filter_map(|n| n.device.as_mut()).for_each(|d| d.epoch = 0);
            end
        });
        prop_assert_eq!(&ends[0], &ends[1]);
    }

    #[test]
    fn removing_everything_leaves_nothing_of_ringways(document in a_document()) {
        let mut world = World::new();
        world.settle(&document);
        world.settle(&Desired::default());
        prop_assert_eq!(&world.kernel.owned, &BTreeMap::new());
        let mut clean = Fake::with(&EXISTING);
        let mut left = world.kernel.clone();
        clean.forget_count();
        left.forget_count();
        prop_assert_eq!(left, clean);
    }
}

#[test]
fn the_first_plan_protects_a_namespace_before_anything_is_in_it() {
    let world = World::new();
    let desired = desired(&json!({ "51820": network(1, json!({ "peers": peers(3) })) }));
    let plan = world.plan(&desired);
    let steps: Vec<String> = plan
        .before
        .iter()
        .map(|step| format!("{} {} {}", step.op(), step.object(), step.detail()))
        .collect();
    let first: PublicKey = key(101).parse().unwrap();
    let second: PublicKey = key(102).parse().unwrap();
    assert_eq!(
        steps,
        [
            "make network-51820 ".to_owned(),
            "set network-51820/nftables peer to peer".to_owned(),
            "raise network-51820/lo ".to_owned(),
            "set network-51820/forwarding ".to_owned(),
            "make network-51820/wg51820 mtu 1420".to_owned(),
            format!(
                "set network-51820/wg51820 private key, port 51820, set peer {first} \
                 (keep-alive 25 s, 1 allowed ips), set peer {second} (keep-alive 25 s, 4 allowed ips)"
            ),
            "add network-51820/wg51820 address 10.0.0.1/24".to_owned(),
            "raise network-51820/wg51820 ".to_owned(),
            "add network-51820/wg51820 route 10.9.0.0/16".to_owned(),
            "add network-51820/wg51820 route fd00::/64".to_owned(),
        ]
    );
    assert!(plan.after.is_empty());
}

#[test]
fn a_key_that_the_device_clamped_is_still_the_same() {
    let mut world = World::new();
    let unclamped = json!({ "private_key": "ff".repeat(32) });
    let state = desired(&json!({ "1": network(1, unclamped) }));
    world.settle(&state);
    let clamped = format!("f8{}7f", "ff".repeat(30));
    world.kernel.meddle(port(1), |device| {
        device.private_key = clamped.parse().ok();
    });
    assert!(world.plan(&state).is_empty());
}

#[test]
fn a_changed_peer_is_one_step_that_touches_no_other() {
    let mut world = World::new();
    world.settle(&desired(
        &json!({ "1": network(1, json!({ "peers": peers(2) })) }),
    ));
    let mut changed = peers(2);
    changed[key(102)]["allowed_ips"] = json!(["10.0.0.77/32"]);
    let plan = world.plan(&desired(
        &json!({ "1": network(1, json!({ "peers": changed })) }),
    ));
    assert_eq!((plan.before.len(), plan.after.len()), (1, 0));
    let Action::ConfigureDevice(change) = &plan.before[0].action else {
        panic!("{plan:?}");
    };
    let touched: Vec<String> = change.peers.keys().map(ToString::to_string).collect();
    let changed: PublicKey = key(102).parse().unwrap();
    assert_eq!(touched, [changed.to_string()]);
    assert_eq!((&change.private_key, change.listen_port), (&None, None));
}

#[test]
fn a_removed_peer_goes_after_the_workers_are_told() {
    let mut world = World::new();
    world.settle(&desired(
        &json!({ "1": network(1, json!({ "peers": peers(2) })) }),
    ));
    let plan = world.plan(&desired(
        &json!({ "1": network(1, json!({ "peers": peers(1) })) }),
    ));
    let removes = |step: &Step| {
        configured(&step.action).is_some_and(|change| {
            change
                .peers
                .values()
                .any(|peer| *peer == PeerChange::Remove)
        })
    };
    assert!(!plan.before.iter().any(removes));
    assert!(plan.after.iter().any(removes));
}

#[test]
fn a_peer_that_roamed_is_left_where_it_is_until_its_declaration_changes() {
    let mut world = World::new();
    let at = |endpoint: &str| {
        let peers = json!({ key(101): { "allowed_ips": [], "endpoint": endpoint } });
        desired(&json!({ "1": network(1, json!({ "peers": peers })) }))
    };
    world.settle(&at("192.0.2.1:1"));
    let elsewhere = "198.51.100.1:9".parse().unwrap();
    let roam = |device: &mut ActualDevice| {
        for peer in device.peers.values_mut() {
            peer.endpoint = Some(elsewhere);
        }
    };
    world.kernel.meddle(port(1), roam);
    assert!(world.plan(&at("192.0.2.1:1")).is_empty());
    assert_eq!(world.plan(&at("192.0.2.2:1")).before.len(), 1);
}

#[test]
fn a_device_that_is_made_again_looks_for_its_peers_where_they_were_seen() {
    let mut world = World::new();
    let peer: PublicKey = key(101).parse().unwrap();
    let state = desired(&json!({ "1": network(1, json!({ "peers": peers(1) })) }));
    world.settle(&state);
    let seen = "198.51.100.1:9".parse().unwrap();
    world.known.see(port(1), &peer, seen);
    world.kernel.delete(&NamespaceSource::Made(port(1)));
    let endpoint = |plan: &Plan| {
        let mut changes = plan
            .before
            .iter()
            .filter_map(|step| configured(&step.action));
        match changes.next_back()?.peers.get(&peer)? {
            PeerChange::Set(settings) => settings.endpoint,
            PeerChange::Remove => None,
        }
    };
    assert_eq!(endpoint(&world.plan(&state)), Some(seen));
    let moved = desired(&json!({ "1": network(1, json!({ "peers": peers(2) })) }));
    assert_eq!(
        endpoint(&world.plan(&moved)),
        Some("192.0.2.9:1".parse().unwrap()),
        "a new declaration counts more than what was seen under the old one"
    );
}

#[test]
fn what_somebody_changed_underneath_is_repaired() {
    let mut world = World::new();
    let state = desired(&json!({ "1": network(1, json!({ "peers": peers(3) })) }));
    world.settle(&state);
    let meddlings: [fn(&mut ActualDevice); 6] = [
        |device| device.is_up = false,
        |device| device.routed.clear(),
        |device| device.routes.clear(),
        |device| device.mtu = 1300,
        |device| {
            device
                .peers
                .values_mut()
                .for_each(|peer| peer.allowed_ips.clear())
        },
        |device| {
            device
                .peers
                .insert(key(99).parse().unwrap(), Default::default());
        },
    ];
    for (index, meddling) in meddlings.into_iter().enumerate() {
        world.kernel.meddle(port(1), meddling);
        assert!(!world.plan(&state).is_empty(), "meddling {index}");
        world.settle(&state);
        assert!(world.plan(&state).is_empty(), "meddling {index}");
    }
}

#[test]
fn an_address_that_changes_within_its_network_is_there_from_the_first_step_to_the_last() {
    let address =
        |address: Value| desired(&json!({ "1": network(1, json!({ "address": address })) }));
    for (old, new) in [
        (json!(["10.0.0.1/24"]), json!(["10.0.0.9/24"])),
        (
            json!(["10.0.0.1/24", "10.0.0.9/24"]),
            json!(["10.0.0.9/24"]),
        ),
    ] {
        let mut world = World::new();
        world.settle(&address(old));
        let wanted = address(new);
        let plan = world.plan(&wanted);
        for step in plan.steps() {
            world.kernel.apply(step).unwrap();
        }
        let places = places(&wanted, &world.kernel.owned, None);
        let device = world.kernel.observe(&places).networks[&port(1)]
            .device
            .clone();
        let there = BTreeSet::from(["10.0.0.9/24".parse().unwrap()]);
        assert_eq!(device.unwrap().addresses, there, "{plan:#?}");
    }
}

#[test]
fn the_routes_of_an_address_that_somebody_deleted_are_put_back() {
    let mut world = World::new();
    let state = desired(&json!({ "1": network(1, json!({})) }));
    world.settle(&state);
    world.kernel.meddle(port(1), |device| device.routed.clear());
    let actions: Vec<Action> = world
        .plan(&state)
        .before
        .into_iter()
        .map(|s| s.action)
        .collect();
    assert_eq!(
        actions,
        [Action::RestoreRoutes("10.0.0.1/24".parse().unwrap())]
    );
}

#[test]
fn a_foreign_namespace_is_not_touched_unless_it_may_be_adopted() {
    let mut world = World::new();
    world.kernel.intrude(port(1));
    let plain = desired(&json!({ "1": network(1, json!({})), "2": network(2, json!({})) }));
    let plan = world.plan(&plain);
    assert_eq!(
        plan.refused,
        BTreeMap::from([(port(1), Refused::ForeignNamespace)])
    );
    assert!(plan.steps().all(|step| step.network == port(2)));
    let adopting = desired(&json!({ "1": network(1, json!({ "adopt": true })) }));
    assert_eq!(
        world.plan(&adopting).before[0].action,
        Action::AdoptNamespace
    );
}

#[test]
fn a_namespace_that_was_replaced_is_somebody_elses_and_is_let_go_of() {
    let mut world = World::new();
    world.settle(&desired(&json!({ "1": network(1, json!({})) })));
    world.kernel.intrude(port(1));
    let plan = world.plan(&Desired::default());
    let actions: Vec<&Action> = plan.steps().map(|step| &step.action).collect();
    assert_eq!(actions, [&Action::Disown]);
}

#[test]
fn a_tampered_firewall_is_written_again() {
    let mut world = World::new();
    let state = desired(&json!({ "1": network(1, json!({ "peer_to_peer": false })) }));
    world.settle(&state);
    let places = places(&state, &world.kernel.owned, None);
    for firewall in [FirewallState::Absent, FirewallState::Differs] {
        let mut actual = world.kernel.observe(&places);
        actual.networks.get_mut(&port(1)).unwrap().firewall = firewall;
        let plan = plan(Input {
            desired: &state,
            actual: &actual,
            owned: &world.kernel.owned,
            known: &world.known,
            backend: None,
            only: None,
        });
        assert_eq!(plan.before.len(), 1, "{plan:?}");
    }
}

#[test]
fn ten_thousand_peers_of_one_subnet_need_no_route() {
    let peers: Map<String, Value> = (0..10_000_u32)
        .map(|n| {
            let key = format!("{:064x}", n + 1);
            let host = format!("10.0.{}.{}/32", n / 250, n % 250 + 2);
            (key, json!({ "allowed_ips": [host] }))
        })
        .collect();
    let keys = json!({ "address": ["10.0.0.1/16"], "peers": peers });
    let state = desired(&json!({ "1": network(1, keys) }));
    let wireguard = state.networks[&port(1)].wireguard.as_ref().unwrap();
    assert!(wanted_routes(wireguard, true).is_empty());
}

#[test]
fn only_a_network_alone_in_its_namespace_gets_a_default_route() {
    let keys = json!({ "peers": { key(101): { "allowed_ips": ["0.0.0.0/0"] } } });
    let state = desired(&json!({ "1": network(1, keys) }));
    let wireguard = state.networks[&port(1)].wireguard.as_ref().unwrap();
    assert_eq!(wanted_routes(wireguard, true).len(), 1);
    assert!(wanted_routes(wireguard, false).is_empty());
}
