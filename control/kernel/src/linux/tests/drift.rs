//! What changes underneath is noticed, seen for what it is, and repaired.

use std::{
    collections::BTreeSet,
    fs::File,
    time::{Duration, Instant, SystemTime},
};

use control_plan::{
    actual::{Firewall, FirewallState, NamespaceState},
    plan::Refused,
};
use engine_sys::netns::Netns;
use nix::{
    errno::Errno,
    mount::{MntFlags, umount2},
};
use serde_json::json;

use super::lab::*;
use crate::{
    Kernel as _,
    linux::{Notice, nftables::TAMPERING},
    name::NamespaceName,
};

fn settled(lab: &mut Lab) -> control_api::state::Desired {
    let (key, peer) = peer(2);
    let mut gateway = gateway(51820, &json!({ key: peer }));
    gateway["peers"][public(2)]["allowed_ips"] = json!(["10.0.0.2/32", "172.16.0.0/12"]);
    let wanted = desired(&json!({ "51820": gateway }));
    lab.settle(&wanted);
    lab.wait_for_silence();
    wanted
}

fn about() -> Notice {
    Notice::Network(port(51820))
}

#[test]
fn a_removed_address_or_route_is_noticed_and_comes_back() {
    on_each_backend(|lab| {
        let wanted = settled(lab);
        let mut inside = rtnl(&lab.netns(51820));
        let link = inside.link("wg51820").unwrap().unwrap();
        inside
            .remove_address(link.index, "10.0.0.1/24".parse().unwrap())
            .unwrap();
        lab.wait_for(about());
        assert_eq!(lab.device(51820).addresses.len(), 1);
        lab.settle(&wanted);
        lab.wait_for_silence();
        inside
            .remove_route(link.index, "172.16.0.0/12".parse().unwrap())
            .unwrap();
        lab.wait_for(about());
        lab.settle(&wanted);
        lab.wait_for_silence();
        inside
            .add_route(link.index, "203.0.113.0/24".parse().unwrap())
            .unwrap();
        lab.wait_for(about());
        assert_eq!(lab.device(51820).routes.len(), 2);
        lab.settle(&wanted);
    });
}

#[test]
fn the_routes_of_an_address_are_noticed_when_they_go_and_come_back() {
    on_each_backend(|lab| {
        let (key, peer) = peer(2);
        let mut gateway = gateway(51820, &json!({ key: peer }));
        gateway["address"] = json!(["10.0.0.1/24", "fd00::1/64", "192.0.2.1/32"]);
        let wanted = desired(&json!({ "51820": gateway }));
        lab.settle(&wanted);
        lab.wait_for_silence();
        let whole = lab.device(51820);
        assert_eq!(whole.routed, whole.addresses);
        let mut inside = rtnl(&lab.netns(51820));
        let link = inside.link("wg51820").unwrap().unwrap();
        for address in whole.addresses.clone() {
            inside.take_routes(link.index, address).unwrap();
            lab.wait_for(about());
            assert!(!lab.device(51820).routed.contains(&address), "{address}");
            lab.settle(&wanted);
            lab.wait_for_silence();
            assert_eq!(lab.device(51820).routed, whole.addresses);
        }
        // They go with the address, as the kernel's own do.
        for address in whole.addresses {
            inside.remove_address(link.index, address).unwrap();
            lab.settle(&wanted);
        }
    });
}

#[test]
fn an_address_that_changes_within_its_network_is_never_missing() {
    on_each_backend(|lab| {
        let with = |address: serde_json::Value| {
            let mut gateway = gateway(51820, &json!({}));
            gateway["address"] = address;
            desired(&json!({ "51820": gateway }))
        };
        lab.settle(&with(json!(["10.0.0.1/24", "fd00::1/64"])));
        let changes = [
            json!(["10.0.0.9/24", "fd00::1/48"]),
            json!(["10.0.0.1/24", "10.0.0.9/24", "fd00::1/48"]),
            json!(["10.0.0.1/24", "fd00::1/64"]),
        ];
        for address in changes {
            let wanted = with(address.clone());
            let plan = lab.plan(&wanted);
            for step in plan.steps() {
                lab.linux.apply(step, &mut lab.records).unwrap();
            }
            let there = lab.device(51820);
            let declared = &wanted.networks[&port(51820)].wireguard;
            let declared = declared.as_ref().unwrap().address.iter().copied();
            assert_eq!(there.addresses, declared.collect(), "{address}");
            assert_eq!(there.routed, there.addresses, "{address}");
        }
    });
}

#[test]
fn a_deleted_device_is_noticed_and_made_again_as_another_one() {
    on_each_backend(|lab| {
        let wanted = settled(lab);
        let epoch = lab.device(51820).epoch;
        let mut inside = rtnl(&lab.netns(51820));
        let link = inside.link("wg51820").unwrap().unwrap();
        inside.remove_link(link.index).unwrap();
        lab.wait_for(about());
        assert!(lab.linux.sample(port(51820)).is_err());
        assert_eq!(lab.network(51820).device, None);
        lab.settle(&wanted);
        assert_ne!(lab.device(51820).epoch, epoch);
        assert_ne!(lab.linux.sample(port(51820)).unwrap().epoch, epoch);
    });
}

#[test]
fn a_changed_table_is_noticed_and_written_again() {
    on_each_backend(|lab| {
        let wanted = settled(lab);
        let netns = lab.netns(51820);
        let another_device = |lab: &mut Lab| {
            let firewall = Firewall {
                peer_to_peer: true,
                tcp_ports: BTreeSet::new(),
            };
            let mut nftables = space(&lab.netns(51820)).nftables;
            nftables.write("wg1", &firewall).unwrap();
        };
        another_device(lab);
        lab.wait_for(about());
        assert_eq!(lab.network(51820).firewall, FirewallState::Differs);
        lab.settle(&wanted);
        lab.wait_for_silence();
        for tampering in TAMPERING {
            space(&netns).nftables.tamper(tampering).unwrap();
            lab.wait_for(about());
            assert_ne!(
                lab.network(51820).firewall,
                FirewallState::Is(Firewall {
                    peer_to_peer: true,
                    tcp_ports: BTreeSet::new()
                }),
                "{tampering:?}"
            );
            lab.settle(&wanted);
            lab.wait_for_silence();
        }
    });
}

#[test]
fn a_deleted_name_is_noticed_and_made_again_for_the_same_namespace() {
    on_each_backend(|lab| {
        let wanted = settled(lab);
        let device = lab.device(51820);
        let network = NamespaceName::of_network(51820);
        lab.names().unbind(&network).unwrap();
        lab.wait_for(Notice::Names);
        let plan = lab.plan(&wanted);
        assert!(plan.is_empty(), "{plan:#?}");
        let named = Netns::open(&lab.path(51820)).unwrap();
        assert_eq!(named.identity(), lab.netns(51820).identity());
        assert_eq!(lab.device(51820).epoch, device.epoch);
    });
}

#[test]
fn a_namespace_that_is_gone_at_the_start_is_made_again() {
    on_each_backend(|lab| {
        let wanted = settled(lab);
        umount2(&lab.path(51820), MntFlags::MNT_DETACH).unwrap();
        lab.restart();
        assert_eq!(lab.network(51820).namespace, NamespaceState::Absent);
        // The kernel ends the old one, and what listens there, in its own time.
        let deadline = Instant::now() + Duration::from_secs(10);
        let port_is_taken = |lab: &mut Lab| {
            let plan = lab.plan(&wanted);
            let mut steps = plan.steps();
            steps.any(|step| match lab.linux.apply(step, &mut lab.records) {
                Ok(()) => false,
                Err(error) => {
                    assert_eq!(error.source.errno(), Some(Errno::EADDRINUSE), "{error}");
                    true
                }
            })
        };
        while port_is_taken(lab) {
            assert!(Instant::now() < deadline, "the port stays taken");
        }
        lab.settle(&wanted);
    });
}

#[test]
fn a_namespace_that_somebody_put_in_the_place_of_ringways_is_left_alone() {
    on_each_backend(|lab| {
        let wanted = settled(lab);
        let network = NamespaceName::of_network(51820);
        lab.names().unbind(&network).unwrap();
        let theirs = lab.somebody_makes("network-51820");
        lab.wait_for(Notice::Names);
        let plan = lab.plan(&wanted);
        assert_eq!(plan.refused[&port(51820)], Refused::ForeignNamespace);
        assert!(plan.is_empty());
        // Removing the network leaves it, too.
        let nothing = desired(&json!({}));
        lab.settle(&nothing);
        let named = Netns::open(&lab.path(51820)).unwrap();
        assert_eq!(named.identity(), theirs.identity());
        assert!(lab.records.owned.is_empty());
        std::net::UdpSocket::bind("0.0.0.0:51820").expect("Ringway's own is gone");
        // Once it goes, the network is made.
        lab.names().unbind(&network).unwrap();
        lab.settle(&wanted);
        assert_ne!(lab.netns(51820).identity(), theirs.identity());
    });
}

#[test]
fn ringways_own_steps_are_told_and_end() {
    on_each_backend(|lab| {
        let (key, peer) = peer(2);
        let wanted = desired(&json!({ "51820": gateway(51820, &json!({ key: peer })) }));
        lab.settle(&wanted);
        lab.wait_for(about());
        lab.wait_for_silence();
        for _ in 0..3 {
            assert!(lab.plan(&wanted).is_empty());
            lab.linux.sample(port(51820)).unwrap();
        }
        assert!(
            lab.linux
                .notices()
                .recv_timeout(Duration::from_millis(300))
                .is_err(),
            "looking is not changing"
        );
    });
}

#[test]
fn in_a_shared_namespace_only_what_is_about_the_device_is_told() {
    on_each_backend(|lab| {
        let theirs = lab.somebody_makes("lab-a");
        let mut shared = gateway(51820, &json!({}));
        shared["netns"] = json!("lab-a");
        lab.settle(&desired(&json!({ "51820": shared })));
        lab.wait_for_silence();
        let mut inside = rtnl(&theirs);
        let lo = inside.link("lo").unwrap().unwrap();
        inside.raise(lo.index).unwrap();
        inside
            .add_address(lo.index, "192.0.2.1/32".parse().unwrap())
            .unwrap();
        let notices = lab.linux.notices();
        let heard = notices.recv_timeout(Duration::from_millis(300));
        assert!(heard.is_err(), "{heard:?}");
        let link = inside.link("wg51820").unwrap().unwrap();
        inside
            .add_route(link.index, "203.0.113.0/24".parse().unwrap())
            .unwrap();
        lab.wait_for(about());
    });
}

#[test]
fn names_that_a_killed_process_left_empty_are_swept_at_the_start() {
    on_each_backend(|lab| {
        settled(lab);
        let old = SystemTime::now() - Duration::from_secs(2);
        let empty = |lab: &Lab, name: &str| {
            let file = File::create(lab.path(51820).with_file_name(name)).unwrap();
            file.set_modified(old).unwrap();
        };
        for name in ["network-7", "network-70000", "theirs"] {
            empty(lab, name);
        }
        File::create(lab.path(8)).unwrap();
        lab.restart();
        let is_there = |name: &str| lab.path(51820).with_file_name(name).exists();
        let names = [
            "network-7",
            "network-70000",
            "theirs",
            "network-8",
            "network-51820",
        ];
        assert_eq!(names.map(is_there), [false, true, true, true, true]);
    });
}
