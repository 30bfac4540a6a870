//! Packets of all sizes, many at once or one by one: what the kernel leaves to a device to cut and
//! put together, and what it does to the device's own datagrams, changes no byte and no order.

use std::{
    io::IoSlice,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg, setsockopt, sockopt};
use serde_json::json;
use tests::{
    lab::Lab,
    peer::Client,
    random::Random,
    runner::Test,
    tests,
    tool::Tool,
    underlay::{Underlay, Weather},
    wait::PATIENCE,
};

use crate::scene::{self, Family, PORT, Tunnel};

pub(crate) const TESTS: &[Test] = tests![
    every_offload_can_be_missing: 120,
    segments_and_packets_of_any_size_arrive: 120,
    a_stream_survives_loss_doubling_and_disorder: 120,
    an_underlay_that_carries_less_than_was_said_is_no_wall,
];

/// What the far device does without: the gateway's does without nothing, and gets whatever such a
/// device sends.
const WITHOUT: [&[&str]; 7] = [
    &[],
    &["no-datagrams"],
    &["no-segments"],
    &["no-link"],
    &["no-send"],
    &["no-receive"],
    &["no-link", "no-send", "no-receive"],
];

fn every_offload_can_be_missing(lab: &mut Lab) -> Result<()> {
    let mut random = Random::from_environment();
    let mut tunnels = Vec::new();
    for (port, without) in (PORT..).zip(WITHOUT) {
        tunnels.push(Tunnel::new(lab, Client::Ringway(without), port)?);
    }
    let gateway = scene::start(lab, json!({}), &tunnels)?;
    for tunnel in &tunnels {
        tunnel.meet(Family::V4)?;
        for inside in Family::BOTH {
            let what = || format!("{inside:?} inside, {:?}", tunnel.peer.client);
            let ends = tunnel.join(inside).with_context(what)?;
            ends.pass_both_ways(8 << 20, &mut random)
                .with_context(what)?;
            ends.end()?;
            bursts(tunnel, inside, &mut random).with_context(what)?;
        }
    }
    scene::end(&gateway)
}

fn segments_and_packets_of_any_size_arrive(lab: &mut Lab) -> Result<()> {
    let mut random = Random::from_environment();
    let mut tunnel = Tunnel::new(lab, Client::OURS, PORT)?;
    let gateway = lab.gateway(scene::boot(json!({})), tunnel.network.state())?;
    tunnel.meet(Family::V4)?;
    // The underlay's own MTU is 1,500: packets of 9,000 bytes cross it in pieces, and whole once it
    // carries them.
    for (mtu, underlay) in [
        (1_280, 1_500),
        (1_420, 1_500),
        (9_000, 1_500),
        (9_000, 9_200),
    ] {
        set_underlay(&tunnel, underlay)?;
        tunnel.network.document["mtu"] = mtu.into();
        gateway.api().apply(&tunnel.network.state())?;
        let device = tunnel.peer.device();
        Tool::new("ip", &format!("link set {device} mtu {mtu}")).run_in(&tunnel.peer.netns)?;
        for inside in Family::BOTH {
            let what = || format!("{inside:?}, packets of {mtu} bytes over {underlay}");
            for segment_bytes in [None, Some(1_001), Some(537)] {
                let ends = tunnel.join_with(inside, segment_bytes).with_context(what)?;
                ends.pass_both_ways(2 << 20, &mut random)
                    .with_context(what)?;
                ends.end()?;
            }
            bursts(&tunnel, inside, &mut random).with_context(what)?;
        }
    }
    scene::end(&gateway)
}

/// Sets the MTU of the cable between the peer and the gateway, at both of its ends.
fn set_underlay(tunnel: &Tunnel, mtu: u16) -> Result<()> {
    let (outer, set) = (tunnel.peer.link(), format!("mtu {mtu}"));
    Tool::new("ip", &format!("link set {outer} {set}")).run()?;
    Tool::new("ip", &format!("link set uplink {set}")).run_in(&tunnel.peer.netns)?;
    Ok(())
}

fn a_stream_survives_loss_doubling_and_disorder(lab: &mut Lab) -> Result<()> {
    let mut random = Random::from_environment();
    let tunnels = [Tunnel::new(lab, Client::OURS, PORT)?];
    let gateway = scene::start(lab, json!({}), &tunnels)?;
    let [tunnel] = tunnels;
    let weather = Weather {
        lost: 10,
        doubled: 10,
        swapped: 30,
    };
    let underlay = Underlay::before(PORT, weather, &mut random)?;
    tunnel.meet_at(Family::V4, underlay.port, tunnel.network.uplink())?;
    for inside in Family::BOTH {
        let ends = tunnel.join(inside)?;
        ends.pass_both_ways(8 << 20, &mut random)?;
        ends.end()?;
    }
    drop(underlay);
    scene::end(&gateway)
}

fn an_underlay_that_carries_less_than_was_said_is_no_wall(lab: &mut Lab) -> Result<()> {
    let mut random = Random::from_environment();
    for outside in Family::BOTH {
        let tunnels = [Tunnel::new(lab, Client::OURS, PORT)?];
        let gateway = scene::start(lab, json!({}), &tunnels)?;
        let [tunnel] = tunnels;
        set_underlay(&tunnel, 1_300)?;
        tunnel.meet(outside)?;
        for inside in Family::BOTH {
            let what = || format!("{inside:?} inside, {outside:?} outside");
            let ends = tunnel.join(inside).with_context(what)?;
            ends.pass_both_ways(4 << 20, &mut random)
                .with_context(what)?;
            ends.end()?;
            bursts(&tunnel, inside, &mut random).with_context(what)?;
        }
        scene::end(&gateway)?;
        gateway.stop()?;
    }
    Ok(())
}

/// Flows of datagrams at once.
const FLOWS: usize = 4;
/// Datagrams of one flow in a burst: what the kernel takes in one call (`UDP_MAX_SEGMENTS` of older
/// kernels).
const BURST: usize = 64;
/// What a burst in one call may be (`net/ipv4/udp.c`).
const BURST_BYTES_MAX: usize = 65_000;

/// One flow's two sockets, and how far it is.
struct Flow {
    near: UdpSocket,
    far: UdpSocket,
}

impl Flow {
    fn open(tunnel: &Tunnel, inside: Family) -> Result<Self> {
        let bind = |number| {
            let address = SocketAddr::new(inside.inside(number), 0);
            move || Ok(UdpSocket::bind(address)?.into())
        };
        let near = UdpSocket::from(tunnel.network.netns()?.enter(bind(1))?);
        let far = UdpSocket::from(tunnel.peer.netns.enter(bind(2))?);
        for (one, other) in [(&near, &far), (&far, &near)] {
            one.connect(other.local_addr()?)?;
            one.set_read_timeout(Some(PATIENCE))?;
            setsockopt(one, sockopt::RcvBufForce, &(8 << 20))?;
        }
        let flow = Self { near, far };
        // The gateway's rules let in what answers something.
        flow.far.set_read_timeout(Some(PATIENCE))?;
        pass(&flow.near, &flow.far, &[b"first".to_vec()], Cut::One)?;
        Ok(flow)
    }
}

/// How datagrams are handed to the kernel.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// One in each call.
    One,
    /// All in one call, cut after so many bytes (`UDP_SEGMENT`, udp(7)).
    After(u16),
}

fn send(from: &UdpSocket, datagrams: &[Vec<u8>], cut: Cut) -> Result<()> {
    match cut {
        Cut::One => {
            for datagram in datagrams {
                from.send(datagram)?;
            }
        }
        Cut::After(bytes) => {
            let pieces: Vec<IoSlice<'_>> = datagrams.iter().map(|it| IoSlice::new(it)).collect();
            let control = [ControlMessage::UdpGsoSegments(&bytes)];
            let (none, fd) = (MsgFlags::empty(), from.as_raw_fd());
            sendmsg::<SockaddrStorage>(fd, &pieces, &control, none, None)?;
        }
    }
    Ok(())
}

fn receive(at: &UdpSocket, datagrams: &[Vec<u8>]) -> Result<()> {
    let mut buffer = vec![0; 65_536];
    for (number, expected) in datagrams.iter().enumerate() {
        let length = at
            .recv(&mut buffer)
            .with_context(|| format!("datagram {number} of {}", datagrams.len()))?;
        let is_right = buffer[..length] == **expected;
        ensure!(
            is_right,
            "another datagram, of {length} bytes, in the place of {number}"
        );
    }
    Ok(())
}

fn pass(from: &UdpSocket, to: &UdpSocket, datagrams: &[Vec<u8>], cut: Cut) -> Result<()> {
    send(from, datagrams, cut)?;
    receive(to, datagrams)
}

/// Bursts of several flows at once, each whole and in order, both ways: of one length and cut by the
/// kernel, and of any length, with some that are longer than a packet.
fn bursts(tunnel: &Tunnel, inside: Family, random: &mut Random) -> Result<()> {
    const ROUNDS: usize = 6;
    let flows: Vec<Flow> = (0..FLOWS)
        .map(|_| Flow::open(tunnel, inside))
        .collect::<Result<_>>()?;
    for round in 0..ROUNDS {
        for is_up in [true, false] {
            let drawn: Vec<_> = flows.iter().map(|_| draw(round, random)).collect();
            for (flow, (datagrams, cut)) in flows.iter().zip(&drawn) {
                let from = if is_up { &flow.near } else { &flow.far };
                send(from, datagrams, *cut).with_context(|| format!("{cut:?}"))?;
            }
            for (flow, (datagrams, cut)) in flows.iter().zip(&drawn) {
                let to = if is_up { &flow.far } else { &flow.near };
                receive(to, datagrams).with_context(|| format!("{cut:?}, up: {is_up}"))?;
            }
        }
    }
    Ok(())
}

fn draw(round: usize, random: &mut Random) -> (Vec<Vec<u8>>, Cut) {
    let any = |random: &mut Random| {
        let length = match random.below(20) {
            0 => 0,
            1 => 1_420 + random.index(3_000),
            _ => random.index(1_373),
        };
        random.bytes(length)
    };
    if round.is_multiple_of(2) {
        let datagrams = (0..BURST / 4).map(|_| any(random)).collect();
        return (datagrams, Cut::One);
    }
    // A device's MTU is at least 1,280, and 48 of that are headers.
    let length = 1 + random.index(1_232);
    let count = (1 + random.index(BURST)).min(BURST_BYTES_MAX / length);
    let mut datagrams: Vec<Vec<u8>> = (0..count).map(|_| random.bytes(length)).collect();
    if let Some(last) = datagrams.last_mut() {
        last.truncate(1 + random.index(length));
    }
    let length = u16::try_from(length).unwrap_or(1);
    (datagrams, Cut::After(length))
}
