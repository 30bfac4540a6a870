use std::{collections::BTreeMap as Map, net::TcpListener, num::NonZeroU16};

use control_api::{
    boot::Boot,
    state::{self},
};
use control_plan::{Ids, publish};
use engine_core::ids::Generation;

use super::*;

fn boot(listeners: &[(&str, SocketAddr, &str)]) -> Boot {
    let listener = |(name, bind, protocol): &(&str, SocketAddr, &str)| serde_json::json!({ "name": name, "bind": bind.to_string(), "protocol": protocol });
    let listeners: Vec<serde_json::Value> = listeners.iter().map(listener).collect();
    let text = serde_json::json!({ "listeners": listeners }).to_string();
    boot::parse(&text, &Map::<String, String>::new())
        .unwrap()
        .value
}

fn planned(boot: &Boot, ids: &mut Ids) -> Vec<PlannedListener> {
    let desired = state::Desired::default();
    let planned = publish(&desired, &[], &boot.listeners, ids, Generation(1), None);
    planned.unwrap().listeners
}

fn opening() -> Opening {
    engine::Config {
        driver: engine::DriverChoice::Auto,
        workers: engine::Workers::Count(NonZeroU16::MIN),
        limits: engine::Limits::default(),
        records: None,
        requests: None,
        challenges: engine::Challenges::default(),
        strangers: None,
        reserved: Vec::new(),
    }
    .opening()
}

fn none(_: &NamespaceSource) -> Result<Arc<Netns>, String> {
    Err("there is none".to_owned())
}

/// An address that nobody listens at.
fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

#[test]
fn sockets_are_opened_once_and_again_for_another_address_or_protocol() {
    let (first, second) = (free(), free());
    let mut ids = Ids::default();
    let mut ports = Ports::start(opening(), &[], HashMap::new()).unwrap();
    let mut settle = |listeners: &[(&str, SocketAddr, &str)]| {
        let planned = planned(&boot(listeners), &mut ids);
        let (listeners, sockets) = ports.settle(&planned, none);
        let opened = listeners.iter().filter(|it| sockets.contains_key(&it.id));
        let opened: Vec<String> = opened.map(|it| it.name.to_string()).collect();
        (listeners.len(), opened)
    };
    let of = |names: &[&str]| {
        names
            .iter()
            .map(|name| (*name).to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(settle(&[("a", first, "http")]), (1, of(&["a"])));
    assert_eq!(settle(&[("a", first, "http")]), (1, of(&[])));
    assert_eq!(
        settle(&[("a", first, "tls")]),
        (1, of(&["a"])),
        "it waits for clients"
    );
    assert_eq!(settle(&[("a", first, "https")]), (1, of(&[])));
    assert_eq!(settle(&[("a", second, "https")]), (1, of(&["a"])));
    // What another listener has is its to give up.
    assert_eq!(settle(&[("b", second, "https")]), (1, of(&["b"])));
}

#[test]
fn a_port_of_somebody_elses_is_left_out_until_it_is_free() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut ids = Ids::default();
    let mut ports = Ports::start(opening(), &[], HashMap::new()).unwrap();
    let both = boot(&[("a", address, "http"), ("b", free(), "http")]);
    let both = planned(&both, &mut ids);
    let (listeners, _) = ports.settle(&both, none);
    assert_eq!(listeners.len(), 1);
    let unbound: Vec<String> = ports
        .unbound()
        .map(|it| format!("{}: {}", it.name, it.why))
        .collect();
    let begin = format!("a: {address} cannot be bound: ");
    assert!(unbound[0].starts_with(&begin), "{unbound:?}");
    assert_eq!(unbound.len(), 1);
    assert!(!ports.has_freed(none));
    drop(taken);
    assert!(ports.has_freed(none));
    let (listeners, sockets) = ports.settle(&both, none);
    assert_eq!((listeners.len(), sockets.len()), (2, 1));
    assert_eq!(ports.unbound().count(), 0);
    assert!(!ports.has_freed(none));
}

#[test]
fn sockets_that_were_handed_over_stay_whatever_is_spoken() {
    let handed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = handed.local_addr().unwrap();
    let mut ids = Ids::default();
    let handed_over = HashMap::from([(0, OwnedFd::from(handed))]);
    let http = boot(&[("a", address, "http")]);
    let mut ports = Ports::start(opening(), &http.listeners, handed_over).unwrap();
    for (protocol, sockets) in [("http", 1), ("tls", 0), ("http", 0)] {
        let planned = planned(&boot(&[("a", address, protocol)]), &mut ids);
        let (listeners, opened) = ports.settle(&planned, none);
        assert_eq!((listeners.len(), opened.len()), (1, sockets), "{protocol}");
    }
}
