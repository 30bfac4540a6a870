//! What is counted of routes that come and go.

use std::io::{Read, Write};

use engine::Protocol;
use engine_core::ids::RouteId;
use engine_tls::policy::Policy;

use crate::{
    gateway::{Authority, Setup, Upstream, client, connect},
    policies::endless,
};

#[test]
fn a_route_that_is_gone_is_counted_until_its_last_connection_ends_and_not_longer() {
    let (authority, target) = (Authority::new("one"), endless());
    let mut gateway = Setup::new(Protocol::Https)
        .certificate(&authority.leaf(&["a.example"]))
        .terminate(None, Policy::default())
        .proxy(Some("a.example"), target)
        .start();
    let mut stream = connect(gateway.address, &client(&authority, None), "a.example");
    write!(stream, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    let mut head = [0; 16];
    stream.read_exact(&mut head).unwrap();
    let gone = RouteId(1);
    gateway.until("the request", |counters| {
        counters
            .routes
            .get(&gone)
            .is_some_and(|route| route.tally.live() == 1)
    });
    let before = gateway.engine.counters().routes[&gone].tally.bytes_in;
    assert!(before > 0);
    // Another rule with another id, and none of the first.
    let other = Upstream::plain();
    let mut setup = Setup::new(Protocol::Https).after(&gateway).skip_ids(7);
    setup = setup
        .terminate(None, Policy::default())
        .proxy(Some("b.example"), other.address);
    gateway.publish(setup);
    let route = &gateway.engine.counters().routes[&gone];
    assert_eq!((route.tally.live(), route.tally.bytes_in), (1, before));
    drop(stream);
    gateway.until("its end", |counters| !counters.routes.contains_key(&gone));
}
