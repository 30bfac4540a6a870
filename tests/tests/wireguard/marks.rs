//! Marks of congestion: what a tenant allows is seen outside, and what routers marked there reaches
//! the tenant (RFC 6040).

use std::{
    io::IoSliceMut,
    net::{SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use tests::{
    lab::Lab,
    peer::Client,
    runner::Test,
    tests,
    tool::Tool,
    wait::{PATIENCE, eventually},
};

use crate::scene::{self, Family, PORT, Tunnel};

pub(crate) const TESTS: &[Test] = tests![marks_of_congestion_cross_the_tunnel_both_ways];

/// The two bits (RFC 3168, section 5).
const NOT_CAPABLE: u8 = 0b00;
const CAPABLE_1: u8 = 0b01;
const CAPABLE_0: u8 = 0b10;
const CONGESTED: u8 = 0b11;

/// A socket that hears how its datagrams were marked.
struct Ear(UdpSocket);

impl Ear {
    fn open(tunnel: &Tunnel, inside: Family, number: u8) -> Result<Self> {
        let address = SocketAddr::new(inside.inside(number), 0);
        let bind = || Ok(UdpSocket::bind(address)?.into());
        let socket = if number == 1 {
            tunnel.network.netns()?.enter(bind)?
        } else {
            tunnel.peer.netns.enter(bind)?
        };
        let socket = UdpSocket::from(socket);
        socket.set_read_timeout(Some(PATIENCE))?;
        match inside {
            Family::V4 => setsockopt(&socket, sockopt::IpRecvTos, &true)?,
            Family::V6 => setsockopt(&socket, sockopt::Ipv6RecvTClass, &true)?,
        }
        Ok(Self(socket))
    }

    /// Sends one datagram that is marked so.
    fn say(&self, mark: u8, to: &Self) -> Result<()> {
        match to.0.local_addr()? {
            SocketAddr::V4(_) => setsockopt(&self.0, sockopt::Ipv4Tos, &i32::from(mark))?,
            SocketAddr::V6(_) => setsockopt(&self.0, sockopt::Ipv6TClass, &i32::from(mark))?,
        }
        self.0.send_to(b"marked", to.0.local_addr()?)?;
        Ok(())
    }

    /// How the next one is marked.
    fn hear(&self) -> Result<u8> {
        let mut bytes = [0; 16];
        let mut pieces = [IoSliceMut::new(&mut bytes)];
        let mut space = nix::cmsg_space!(i32);
        let fd = self.0.as_raw_fd();
        let none = MsgFlags::empty();
        let message = recvmsg::<SockaddrStorage>(fd, &mut pieces, Some(&mut space), none)
            .context("waiting for a datagram")?;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::Ipv4Tos(marks) = control {
                return Ok(marks & 0b11);
            }
            if let ControlMessageOwned::Ipv6TClass(class) = control {
                return Ok(class.to_le_bytes()[0] & 0b11);
            }
        }
        bail!("the kernel tells no marks")
    }
}

/// Has the peer's end of the cable count what the gateway sends with each mark, and mark everything
/// as congested, both ways, where `congested`.
fn route(tunnel: &Tunnel, congested: bool) -> Result<()> {
    let counted = |mark| {
        format!(
            "udp sport {PORT} ip ecn {mark} counter name marked_{mark}
             udp sport {PORT} ip6 ecn {mark} counter name marked_{mark}"
        )
    };
    let marking = if congested {
        format!(
            "udp sport {PORT} ip ecn set ce
             udp sport {PORT} ip6 ecn set ce"
        )
    } else {
        String::new()
    };
    let rules = format!(
        "table inet marks
         delete table inet marks
         table inet marks {{
             counter marked_0 {{}}
             counter marked_1 {{}}
             counter marked_2 {{}}
             chain in {{
                 type filter hook prerouting priority -300;
                 {}
                 {}
                 {}
                 {marking}
             }}
             chain out {{
                 type filter hook postrouting priority 300;
                 {}
             }}
         }}",
        counted(0),
        counted(1),
        counted(2),
        marking.replace("sport", "dport"),
    );
    Tool::new("nft", "-f -").run_in_on(&tunnel.peer.netns, &rules)?;
    Ok(())
}

/// How many of the gateway's datagrams have had that mark.
fn counted(tunnel: &Tunnel, mark: u8) -> Result<u64> {
    let list = format!("-j list counter inet marks marked_{mark}");
    let listed = Tool::new("nft", &list).run_in(&tunnel.peer.netns)?;
    let listed: serde_json::Value = serde_json::from_str(&listed)?;
    let objects = listed["nftables"].as_array().context("no answer")?;
    let packets = objects
        .iter()
        .find_map(|it| it["counter"]["packets"].as_u64());
    packets.context("no counter")
}

fn marks_of_congestion_cross_the_tunnel_both_ways(lab: &mut Lab) -> Result<()> {
    for outside in Family::BOTH {
        let tunnels = [Tunnel::new(lab, Client::OURS, PORT)?];
        let gateway = scene::start(lab, serde_json::json!({}), &tunnels)?;
        let [tunnel] = tunnels;
        tunnel.meet(outside)?;
        for inside in Family::BOTH {
            cross(&tunnel, inside)
                .with_context(|| format!("{inside:?} inside, {outside:?} outside"))?;
        }
        scene::end(&gateway)?;
        gateway.stop()?;
    }
    Ok(())
}

fn cross(tunnel: &Tunnel, inside: Family) -> Result<()> {
    let (near, far) = (Ear::open(tunnel, inside, 1)?, Ear::open(tunnel, inside, 2)?);
    route(tunnel, false)?;
    for mark in [NOT_CAPABLE, CAPABLE_1, CAPABLE_0] {
        for (from, to) in [(&near, &far), (&far, &near)] {
            from.say(mark, to)?;
            let heard = to.hear()?;
            ensure!(
                heard == mark,
                "{heard:#b} arrives as which {mark:#b} was sent"
            );
        }
        eventually(&format!("a datagram outside with {mark:#b}"), || {
            (counted(tunnel, mark).ok()? > 0).then_some(())
        })?;
    }
    route(tunnel, true)?;
    // Who does not understand the mark is not given it: RFC 6040 would have the packet dropped, and
    // the kernel's device passes it on as it is (`IP_ECN_set_ce`), which loses less.
    let crossings = [
        (NOT_CAPABLE, NOT_CAPABLE),
        (CAPABLE_1, CONGESTED),
        (CAPABLE_0, CONGESTED),
    ];
    for (sent, expected) in crossings {
        for (from, to, way) in [(&near, &far, "up"), (&far, &near, "down")] {
            from.say(sent, to)?;
            let heard = to.hear()?;
            ensure!(heard == expected, "{way}: {sent:#b} arrives as {heard:#b}");
        }
    }
    Ok(())
}
