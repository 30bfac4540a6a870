use std::{
    net::UdpSocket,
    process::Command,
    time::{Duration, Instant},
};

use etherparse::PacketBuilder;

use super::*;
use crate::superpacket::Merge;

/// How long the kernel may take for anything in here.
const PATIENCE: Duration = Duration::from_secs(10);

/// A link that is up and has 10.0.0.1.
fn up(most: Offload) -> (Netns, Border) {
    let tenant = Netns::create().expect("needs CAP_SYS_ADMIN");
    let border = Border::open(&tenant, "wg7", most, false).unwrap();
    for arguments in ["addr add 10.0.0.1/24 dev wg7", "link set wg7 up"] {
        let run = || Command::new("ip").args(arguments.split(' ')).status();
        assert!(tenant.run(run).unwrap().success(), "{arguments}");
    }
    (tenant, border)
}

fn listen(tenant: &Netns) -> UdpSocket {
    let bind = || Ok(UdpSocket::bind("10.0.0.1:9")?.into());
    let socket = UdpSocket::from(tenant.enter(bind).unwrap());
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Puts three datagrams together and hands them over as one.
fn put_three(border: &mut Border, alter: fn(Super<'_>) -> Super<'_>) {
    let build = |number: u8| {
        let mut bytes = Vec::new();
        let packet = PacketBuilder::ipv4([10, 0, 0, 2], [10, 0, 0, 1], 64).udp(7, 9);
        packet.write(&mut bytes, &[number; 100]).unwrap();
        bytes
    };
    let packets = [1, 2, 3].map(build);
    let (arena, len) = (packets.concat(), packets[0].len());
    let both = Kinds {
        tcp: true,
        udp: true,
    };
    let mut merge = Merge::default();
    let mut handed_over = 0;
    let mut put = |packets: &Super<'_>| {
        handed_over += 1;
        border.put(&alter(packets.clone())).unwrap();
    };
    for start in [0, len, 2 * len] {
        merge.add(both, &arena, start..start + len, &mut put);
    }
    merge.close(&arena, &mut put);
    assert_eq!(handed_over, 1);
}

fn heard(socket: &UdpSocket) -> Vec<u8> {
    let mut bytes = [0; 200];
    let next = || {
        let len = socket.recv(&mut bytes).unwrap();
        assert_eq!(len, 100);
        bytes[0]
    };
    iter::repeat_with(next).take(3).collect()
}

#[test]
fn what_is_handed_over_as_one_arrives_as_several() {
    let (tenant, mut border) = up(Offload::TcpUdp);
    let socket = listen(&tenant);
    put_three(&mut border, |it| it);
    assert_eq!(heard(&socket), [1, 2, 3]);
    assert!(border.kinds.udp);
}

#[test]
fn a_kind_that_the_kernel_refuses_goes_one_by_one_from_then_on() {
    let (tenant, mut border) = up(Offload::TcpUdp);
    let socket = listen(&tenant);
    put_three(&mut border, |it| it.spoiled());
    assert_eq!(heard(&socket), [1, 2, 3]);
    assert!(!border.kinds.udp && border.kinds.tcp, "of that kind only");
}

#[test]
fn a_link_that_is_down_refuses_nothing_for_good() {
    let tenant = Netns::create().expect("needs CAP_SYS_ADMIN");
    let mut border = Border::open(&tenant, "wg7", Offload::TcpUdp, false).unwrap();
    put_three(&mut border, |it| it);
    assert!(border.kinds.udp);
}

#[test]
fn what_a_tenant_sends_is_taken_with_or_without_headers() {
    for most in [Offload::None, Offload::Header, Offload::TcpUdp] {
        let (tenant, border) = up(most);
        listen(&tenant).send_to(b"hello", "10.0.0.2:9").unwrap();
        let mut bytes = [0; 2_000];
        let deadline = Instant::now() + PATIENCE;
        // The kernel has things to say of its own.
        let packet = loop {
            assert!(Instant::now() < deadline, "{most:?}");
            if let Some((_, len)) = border.take(&mut bytes).unwrap()
                && bytes[0] == 0x45
            {
                break &bytes[..len];
            }
        };
        assert!(packet.ends_with(b"hello"), "{most:?}: {packet:02x?}");
    }
}
