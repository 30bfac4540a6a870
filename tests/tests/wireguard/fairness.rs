//! Tenants that share one thread: whoever floods his own device does not take it from the others.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Result, ensure};
use serde_json::json;
use tests::{
    digest::Direction,
    lab::Lab,
    peer::Client,
    random::Random,
    runner::{Test, say},
    tests,
};

use crate::{
    load::{Burner, WINDOWS, measure},
    scene::{self, Family, PORT, Tunnel},
};

pub(crate) const TESTS: &[Test] = tests![a_tenant_that_floods_leaves_the_others_their_share];

/// 64 bytes with their headers inside, padded, in a message.
const MESSAGE_BYTES: u64 = 96 + 32;
/// The share of its throughput that a tenant must be left with beside one that floods, both on one
/// thread. Two that share evenly have a half each; the rest is for a busy machine.
const SHARE: f64 = 0.2;

fn a_tenant_that_floods_leaves_the_others_their_share(lab: &mut Lab) -> Result<()> {
    let mut random = Random::from_environment();
    let tunnels = [
        Tunnel::new(lab, Client::OURS, PORT)?,
        Tunnel::new(lab, Client::OURS, PORT + 1)?,
    ];
    let gateway = scene::start(lab, json!({ "threads": 1 }), &tunnels)?;
    for tunnel in &tunnels {
        tunnel.meet(Family::V4)?;
    }
    let [loud, quiet] = &tunnels;
    let bind = || Ok(UdpSocket::bind("10.0.0.1:0")?.into());
    let socket = UdpSocket::from(loud.network.netns()?.enter(bind)?);
    let target = SocketAddr::new(Family::V4.inside(2), 9);
    let ends = quiet.join(Family::V4)?;
    let before = loud.network.transfer(&loud.peer.keys.public)?.1;
    for direction in [Direction::Up, Direction::Down] {
        measure(&ends, direction, &mut random, |_| ())?;
        let (mut beside_flood, mut beside_work, mut sent) = (0.0, 0.0, 0_u64);
        for _ in 0..WINDOWS {
            let flood = |stop: &AtomicBool| {
                let mut sent = 0;
                while !stop.load(Ordering::Relaxed) {
                    // A full queue loses it.
                    sent += u64::from(socket.send_to(&[9; 64], target).is_ok());
                }
                sent
            };
            let (gigabits, count) = measure(&ends, direction, &mut random, flood)?;
            beside_flood += gigabits;
            sent += count;
            let burn = |stop: &AtomicBool| Burner::new(1.0).run(stop);
            let (gigabits, ()) = measure(&ends, direction, &mut random, burn)?;
            beside_work += gigabits;
        }
        let share = beside_flood / beside_work;
        say(&format!(
            "  {direction:?}: {share:.2} left beside {sent} datagrams"
        ));
        ensure!(
            share > SHARE,
            "{share:.2} of its throughput is left, {direction:?}"
        );
    }
    // It was a flood for the device, and not for the queue before it alone.
    let through = loud.network.transfer(&loud.peer.keys.public)?.1 - before;
    let datagrams = through / MESSAGE_BYTES;
    say(&format!(
        "  {datagrams} datagrams of the flood went through"
    ));
    ensure!(
        datagrams > 50_000,
        "{datagrams} datagrams of the flood went through"
    );
    ends.end()?;
    scene::end(&gateway)
}
