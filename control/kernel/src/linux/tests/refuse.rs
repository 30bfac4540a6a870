//! What is somebody else's stays, and refusals say what to do.

use std::{collections::BTreeSet, process::Command};

use control_plan::{
    NamespaceSource,
    actual::{Backend, Firewall, NamespaceState},
    plan::Refused,
    step::{Action, Step},
};
use engine_sys::netns::Netns;
use serde_json::json;

use super::lab::*;
use crate::{Kernel as _, linux::Refusal};

fn wanted() -> control_api::state::Desired {
    desired(&json!({ "51820": gateway(51820, &json!({})) }))
}

fn refused(lab: &mut Lab, place: NamespaceSource, action: Action) -> String {
    let step = Step {
        network: port(51820),
        place,
        action,
    };
    let error = lab.linux.apply(&step, &mut lab.records).unwrap_err();
    format!("{error}: {}", error.source)
}

#[test]
fn a_foreign_namespace_is_refused_and_taken_over_only_when_asked_to() {
    on_each_backend(|lab| {
        let theirs = lab.somebody_makes("network-51820");
        let plan = lab.plan(&wanted());
        assert_eq!(plan.refused[&port(51820)], Refused::ForeignNamespace);
        assert_eq!(
            refused(
                lab,
                NamespaceSource::Made(port(51820)),
                Action::MakeNamespace
            ),
            "network 51820: make network-51820: something else made it, and it is left alone"
        );
        let mut adopting = gateway(51820, &json!({}));
        adopting["adopt"] = json!(true);
        lab.settle(&desired(&json!({ "51820": adopting })));
        assert_eq!(lab.netns(51820).identity(), theirs.identity());
        assert_eq!(lab.network(51820).namespace, NamespaceState::Owned);
    });
}

#[test]
fn no_step_touches_what_is_not_recorded_as_ringways() {
    on_each_backend(|lab| {
        lab.somebody_makes("network-51820");
        let made = NamespaceSource::Made(port(51820));
        lab.plan(&wanted());
        let firewall = Firewall {
            peer_to_peer: true,
            tcp_ports: BTreeSet::new(),
        };
        let backend = Some(lab.backend());
        for action in [
            Action::RaiseLoopback,
            Action::Forward,
            Action::WriteFirewall(firewall.clone()),
            Action::MakeDevice { backend, mtu: 1420 },
            Action::RemoveDevice,
            Action::SetMtu(1280),
        ] {
            let told = refused(lab, made.clone(), action.clone());
            assert!(told.ends_with("is left alone"), "{action:?}: {told}");
        }
        for action in [Action::Forward, Action::WriteFirewall(firewall)] {
            let told = refused(lab, NamespaceSource::Host, action.clone());
            assert!(told.ends_with("that Ringway makes"), "{action:?}: {told}");
        }
    });
}

#[test]
fn a_device_of_somebodys_is_neither_replaced_nor_removed() {
    on_each_backend(|lab| {
        let theirs = lab.somebody_makes("lab-a");
        let mut inside = space(&theirs);
        let name: control_api::place::NetnsName = "lab-a".parse().unwrap();
        let place = NamespaceSource::Existing(name);
        if lab.backend() == Backend::Kernel {
            inside
                .rtnl
                .make_wireguard("wg51820", 1420, &theirs)
                .unwrap();
        } else {
            make_veth(&theirs);
        }
        let backend = Some(lab.backend());
        lab.linux.namespace(&place).unwrap();
        for action in [
            Action::MakeDevice { backend, mtu: 1420 },
            Action::RemoveDevice,
        ] {
            let told = refused(lab, place.clone(), action.clone());
            assert!(told.ends_with("is left alone"), "{action:?}: {told}");
        }
        assert!(inside.rtnl.link("wg51820").unwrap().is_some());
        assert!(lab.records.owned.is_empty());
    });
}

#[test]
fn what_cannot_be_recorded_is_not_made() {
    on_each_backend(|lab| {
        lab.records.is_full = true;
        let told = refused(
            lab,
            NamespaceSource::Made(port(51820)),
            Action::MakeNamespace,
        );
        assert!(told.contains("recording what Ringway made"), "{told}");
        assert!(!lab.path(51820).exists());
        lab.records.is_full = false;
        lab.settle(&wanted());
    });
}

#[test]
fn a_port_that_another_program_has_is_named() {
    on_each_backend(|lab| {
        let _holder = std::net::UdpSocket::bind("0.0.0.0:51820").unwrap();
        let plan = lab.plan(&wanted());
        let error = plan
            .steps()
            .find_map(|step| lab.linux.apply(step, &mut lab.records).err())
            .expect("the port is taken");
        let told = error.to_string();
        assert!(
            told.contains("has the UDP port 51820"),
            "{told}: {:?}",
            error.source
        );
    });
}

#[test]
fn the_namespace_to_dial_from_is_ringways_or_there() {
    on_each_backend(|lab| {
        lab.somebody_makes("network-51820");
        let made = NamespaceSource::Made(port(51820));
        assert!(matches!(
            lab.linux.namespace(&made),
            Err(Refusal::NoNamespace)
        ));
        let missing = NamespaceSource::Existing("nowhere".parse().unwrap());
        assert!(matches!(
            lab.linux.namespace(&missing),
            Err(Refusal::NoNamespace)
        ));
        let theirs = lab.somebody_makes("lab-a");
        let there = NamespaceSource::Existing("lab-a".parse().unwrap());
        let opened = lab.linux.namespace(&there).unwrap();
        assert_eq!(opened.identity(), theirs.identity());
    });
}

#[test]
fn a_device_that_an_earlier_process_left_in_anothers_namespace_goes_with_its_record() {
    on_each_backend(|lab| {
        let theirs = lab.somebody_makes("lab-a");
        let mut shared = gateway(51820, &json!({}));
        shared["netns"] = json!("lab-a");
        lab.settle(&desired(&json!({ "51820": shared })));
        lab.restart();
        lab.settle(&desired(&json!({})));
        assert_eq!(rtnl(&theirs).link("wg51820").unwrap(), None);
        assert!(lab.records.owned.is_empty());
    });
}

/// Makes a link that has the name of a WireGuard device and is none.
fn make_veth(netns: &Netns) {
    let arguments = "link add wg51820 type veth peer name other";
    let made = netns.run(|| Command::new("ip").args(arguments.split(' ')).status());
    assert!(made.unwrap().success());
}
