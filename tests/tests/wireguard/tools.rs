//! The tool `wg` on a device of ours, as on any other: nothing of a gateway stands between.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use tests::{
    digest::Direction,
    lab::Lab,
    peer::{Client, Keys, Peer},
    random::Random,
    runner::Test,
    tests,
    tool::Tool,
};

use crate::scene::{self, Family};

pub(crate) const TESTS: &[Test] = tests![
    wg_shows_what_it_was_told,
    a_configuration_that_is_shown_can_be_set_again,
    a_stream_goes_on_while_another_peer_is_changed,
];

fn wg(peer: &Peer, arguments: &str) -> Result<String> {
    Tool::new("wg", arguments).run_in(&peer.netns)
}

fn wg_on(peer: &Peer, arguments: &str, input: &str) -> Result<String> {
    Tool::new("wg", arguments).run_in_on(&peer.netns, input)
}

fn wg_shows_what_it_was_told(lab: &mut Lab) -> Result<()> {
    let peer = lab.peer(Client::OURS)?;
    let (device, other) = (peer.device(), Keys::generate()?);
    let key = &other.public;
    let secret = Keys::preshared()?;
    wg_on(
        &peer,
        &format!("set {device} private-key /dev/stdin"),
        &peer.keys.private,
    )?;
    wg_on(
        &peer,
        &format!(
            "set {device} listen-port 50777 peer {key} preshared-key /dev/stdin \
             endpoint [2001:db8::1]:51820 persistent-keepalive 21 \
             allowed-ips 10.1.0.0/16,fd01::/64,192.0.2.7"
        ),
        &secret,
    )?;
    let shown = wg(&peer, &format!("show {device} dump"))?;
    let lines: Vec<Vec<&str>> = shown
        .lines()
        .map(|line| line.split('\t').collect())
        .collect();
    let [interface, shown_peer] = lines.as_slice() else {
        anyhow::bail!("{shown}");
    };
    ensure!(
        interface[..3] == [&peer.keys.private, &peer.keys.public, "50777"],
        "{shown}"
    );
    let mut allowed: Vec<&str> = shown_peer[3].split(',').collect();
    allowed.sort_unstable();
    ensure!(
        allowed == ["10.1.0.0/16", "192.0.2.7/32", "fd01::/64"],
        "{shown}"
    );
    let expected = [key.as_str(), &secret, "[2001:db8::1]:51820"];
    ensure!(shown_peer[..3] == expected, "{shown}");
    ensure!(shown_peer[4] == "0" && shown_peer[7] == "21", "{shown}");
    let told = wg(&peer, "show")?;
    for line in [
        format!("interface: {device}"),
        format!("peer: {key}"),
        "  preshared key: (hidden)".to_owned(),
        "  persistent keepalive: every 21 seconds".to_owned(),
    ] {
        ensure!(told.lines().any(|told| told == line), "{line} in {told}");
    }
    wg(
        &peer,
        &format!("set {device} peer {key} allowed-ips 10.2.0.0/16"),
    )?;
    let allowed = wg(&peer, &format!("show {device} allowed-ips"))?;
    ensure!(allowed.trim() == format!("{key}\t10.2.0.0/16"), "{allowed}");
    wg(&peer, &format!("set {device} peer {key} remove"))?;
    ensure!(wg(&peer, &format!("show {device} peers"))?.is_empty());
    Ok(())
}

fn a_configuration_that_is_shown_can_be_set_again(lab: &mut Lab) -> Result<()> {
    let (gateway, tunnel) = scene::one(lab, Client::OURS)?;
    let peer = &tunnel.peer;
    let device = peer.device();
    let shaken = wg(peer, &format!("show {device} latest-handshakes"))?;
    let shown = wg(peer, &format!("showconf {device}"))?;
    wg_on(peer, &format!("syncconf {device} /dev/stdin"), &shown)?;
    ensure!(wg(peer, &format!("showconf {device}"))? == shown);
    ensure!(tunnel.peer.pings("10.0.0.1")?, "the session is lost");
    let now = wg(peer, &format!("show {device} latest-handshakes"))?;
    ensure!(now == shaken, "{shaken}, then {now}: another session");
    // Setting replaces the peer, and with it the session: a new handshake follows.
    wg_on(peer, &format!("setconf {device} /dev/stdin"), &shown)?;
    ensure!(wg(peer, &format!("showconf {device}"))? == shown);
    peer.wait_for_ping("10.0.0.1")?;
    scene::end(&gateway)
}

fn a_stream_goes_on_while_another_peer_is_changed(lab: &mut Lab) -> Result<()> {
    const CHANGES: usize = 60;
    let mut random = Random::from_environment();
    let (gateway, tunnel) = scene::one(lab, Client::OURS)?;
    let peer = &tunnel.peer;
    let device = peer.device();
    let shaken = wg(peer, &format!("show {device} latest-handshakes"))?;
    let own = wg(peer, &format!("showconf {device}"))?;
    let (other, secret) = (Keys::generate()?.public, Keys::preshared()?);
    let others = [
        String::new(),
        format!("[Peer]\nPublicKey = {other}\nAllowedIPs = 10.3.0.0/16\n"),
        format!(
            "[Peer]\nPublicKey = {other}\nAllowedIPs = 10.4.0.0/16, fd04::/64\n\
             PresharedKey = {secret}\nEndpoint = 192.0.2.1:9\n"
        ),
    ];
    let ends = tunnel.join(Family::V4)?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let streaming = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for direction in [Direction::Up, Direction::Down] {
                    ends.pass(direction, 2 << 20, &mut random)?;
                }
            }
            anyhow::Ok(())
        });
        let changed = (1..=CHANGES).try_for_each(|turn| {
            let configuration = format!("{own}\n{}", others[turn % others.len()]);
            wg_on(
                peer,
                &format!("syncconf {device} /dev/stdin"),
                &configuration,
            )?;
            let peers = wg(peer, &format!("show {device} peers"))?;
            let expected = if turn % others.len() == 0 { 1 } else { 2 };
            ensure!(peers.lines().count() == expected, "{peers}");
            anyhow::Ok(())
        });
        done.store(true, Ordering::Relaxed);
        let streamed = streaming
            .join()
            .map_err(|_| anyhow!("the stream panicked"))?;
        changed.and(streamed.context("the stream"))
    })?;
    ends.end()?;
    let now = wg(peer, &format!("show {device} latest-handshakes"))?;
    ensure!(now == shaken, "{shaken}, then {now}: another session");
    scene::end(&gateway)
}
