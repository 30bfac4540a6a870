//! Plans over the real kernel.

use std::collections::BTreeSet;

use control_plan::{
    NamespaceSource,
    actual::{Firewall, FirewallState, NamespaceState},
    step::{Action, Step},
};
use serde_json::json;

use super::lab::*;

fn two_peers() -> serde_json::Value {
    let more = json!({
        "allowed_ips": ["10.0.0.3/32", "192.168.7.0/24", "fd00:7::/64"],
        "endpoint": "192.0.2.1:51820",
        "preshared_key": secret(9),
    });
    json!({ public(2): { "allowed_ips": ["10.0.0.2/32"] }, public(3): more })
}

#[test]
fn a_network_is_made_as_declared_and_planning_again_gives_nothing() {
    on_each_backend(|lab| {
        let wanted = desired(&json!({ "51820": gateway(51820, &two_peers()) }));
        lab.settle(&wanted);
        let network = lab.network(51820);
        assert_eq!(network.namespace, NamespaceState::Owned);
        assert!(network.is_loopback_up && network.is_forwarding);
        let firewall = Firewall {
            peer_to_peer: true,
            tcp_ports: BTreeSet::new(),
        };
        assert_eq!(network.firewall, FirewallState::Is(firewall));
        let device = network.device.unwrap();
        assert_eq!(device.backend, lab.backend());
        assert!(device.is_up);
        assert_eq!(device.listen_port, 51820);
        let routes: Vec<_> = device.routes.iter().map(ToString::to_string).collect();
        assert_eq!(routes, ["192.168.7.0/24", "fd00:7::/64"]);
        assert_eq!(device.peers.len(), 2);
        let inside = lab.netns(51820);
        let addresses = inside.run(|| std::fs::read_to_string("/proc/thread-self/net/if_inet6"));
        let addresses = addresses.unwrap();
        let is_link_local = |line: &str| line.starts_with("fe80");
        assert!(!addresses.lines().any(is_link_local), "{addresses}");
    });
}

#[test]
fn what_changes_is_changed_in_place() {
    on_each_backend(|lab| {
        let before = desired(&json!({ "51820": gateway(51820, &two_peers()) }));
        lab.settle(&before);
        let epoch = lab.device(51820).epoch;
        let mut changed = gateway(
            51820,
            &json!({ public(3): { "allowed_ips": ["10.0.0.2/32", "172.16.0.0/12"] } }),
        );
        changed["address"] = json!(["10.9.0.1/24"]);
        changed["mtu"] = json!(1280);
        changed["peer_to_peer"] = json!(false);
        lab.settle(&desired(&json!({ "51820": changed })));
        let device = lab.device(51820);
        assert_eq!(device.epoch, epoch, "it is the same device");
        assert_eq!(device.mtu, 1280);
        let [key] = device.peers.keys().copied().collect::<Vec<_>>()[..] else {
            panic!("{:?}", device.peers);
        };
        assert_eq!(key.to_string(), public(3));
        let peer = &device.peers[&key];
        assert_eq!(peer.preshared_key, None, "it was taken away");
        assert_eq!(peer.allowed_ips.len(), 2);
    });
}

#[test]
fn stopping_after_any_step_and_starting_again_converges() {
    on_each_backend(|lab| {
        let wanted = desired(&json!({ "51820": gateway(51820, &two_peers()) }));
        let nothing = desired(&json!({}));
        let count = lab.plan(&wanted).steps().count();
        assert!(count > 8, "{count}");
        for stop in 0..=count {
            let plan = lab.plan(&wanted);
            for step in plan.steps().take(stop) {
                lab.apply(step);
            }
            lab.restart();
            lab.settle(&wanted);
            lab.settle(&nothing);
            assert!(lab.records.owned.is_empty());
            assert!(!lab.path(51820).exists());
        }
    });
}

#[test]
fn what_is_no_longer_declared_is_removed_and_its_port_is_free_at_once() {
    on_each_backend(|lab| {
        let wanted = desired(&json!({ "51820": gateway(51820, &two_peers()) }));
        lab.settle(&wanted);
        let bound = std::net::UdpSocket::bind("0.0.0.0:51820");
        assert!(bound.is_err(), "the device listens in the host's namespace");
        lab.settle(&desired(&json!({})));
        assert!(!lab.path(51820).exists());
        std::net::UdpSocket::bind("0.0.0.0:51820").unwrap();
    });
}

#[test]
fn a_namespace_is_removed_with_its_device_and_the_port_is_free_at_once() {
    on_each_backend(|lab| {
        lab.settle(&desired(&json!({ "51820": gateway(51820, &two_peers()) })));
        // As a worker holds it that has not heard of the removal yet.
        let held = lab.netns(51820);
        lab.apply(&Step {
            network: port(51820),
            place: NamespaceSource::Made(port(51820)),
            action: Action::RemoveNamespace,
        });
        assert!(!lab.path(51820).exists());
        assert!(lab.records.owned.is_empty());
        std::net::UdpSocket::bind("0.0.0.0:51820").unwrap();
        drop(held);
    });
}

#[test]
fn a_restart_finds_everything_as_it_was() {
    on_each_backend(|lab| {
        let wanted = desired(&json!({ "51820": gateway(51820, &two_peers()) }));
        lab.settle(&wanted);
        let before = lab.device(51820);
        let identity = lab.netns(51820).identity();
        lab.restart();
        let plan = lab.plan(&wanted);
        if lab.backend() == control_plan::actual::Backend::Kernel {
            assert!(plan.is_empty(), "{plan:#?}");
            assert_eq!(lab.device(51820).epoch, before.epoch);
        } else {
            // The device ended with the process, and nothing else did.
            let made = |step: &Step| matches!(step.action, Action::MakeDevice { .. });
            assert!(plan.steps().next().is_some_and(made), "{plan:#?}");
            lab.settle(&wanted);
            assert_ne!(lab.device(51820).epoch, before.epoch);
        }
        assert_eq!(lab.netns(51820).identity(), identity);
    });
}

#[test]
fn a_network_moves_into_a_namespace_that_is_there_and_leaves_it_as_it_was() {
    on_each_backend(|lab| {
        lab.somebody_makes("lab-a");
        lab.settle(&desired(&json!({ "51820": gateway(51820, &two_peers()) })));
        let mut moved = gateway(51820, &two_peers());
        moved["netns"] = json!("lab-a");
        lab.settle(&desired(&json!({ "51820": moved })));
        assert!(!lab.path(51820).exists());
        let network = lab.network(51820);
        assert_eq!(network.namespace, NamespaceState::Foreign);
        assert!(network.device.is_some());
        lab.settle(&desired(&json!({})));
        assert!(lab.names().directory().join("lab-a").exists());
        assert!(lab.records.owned.is_empty());
    });
}

#[test]
fn a_network_lives_in_the_hosts_namespace_as_well() {
    on_each_backend(|lab| {
        let mut hosted = gateway(51820, &two_peers());
        hosted["netns"] = json!(null);
        lab.settle(&desired(&json!({ "51820": hosted })));
        assert!(lab.device(51820).is_up);
        lab.settle(&desired(&json!({})));
        let mut host = rtnl(&engine_sys::netns::Netns::current().unwrap());
        assert_eq!(host.link("wg51820").unwrap(), None);
    });
}

#[test]
fn a_device_of_the_other_backend_is_replaced_when_the_boot_file_says_so() {
    on_both_backends(|lab, other| {
        let wanted = desired(&json!({ "51820": gateway(51820, &two_peers()) }));
        lab.settle(&wanted);
        let identity = lab.netns(51820).identity();
        lab.set_backend(other);
        lab.settle(&wanted);
        assert_eq!(lab.device(51820).backend, other);
        assert_eq!(lab.netns(51820).identity(), identity);
    });
}
