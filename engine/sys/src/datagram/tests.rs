use std::os::fd::AsFd as _;

use super::*;
use crate::socket::local_address;

fn pair(any: &str) -> (OwnedFd, OwnedFd, SocketAddr) {
    let any: SocketAddr = any.parse().unwrap();
    let (left, right) = (open(any, 1 << 20).unwrap(), open(any, 1 << 20).unwrap());
    let to = local_address(right.as_fd()).unwrap();
    (left, right, to)
}

fn take(inbox: &mut Inbox, socket: &OwnedFd) -> Vec<(Path, Vec<u8>)> {
    let mut taken = Vec::new();
    while let Ok(count) = inbox.receive(socket.as_fd(), BATCH) {
        for index in 0..count {
            let arrival = inbox.arrival(index).unwrap();
            taken.extend(arrival.datagrams().map(|it| (arrival.path, it.to_vec())));
        }
    }
    taken
}

#[test]
fn datagrams_arrive_whole_with_their_source() {
    for any in ["127.0.0.1:0", "[::1]:0"] {
        let (left, right, to) = pair(any);
        let from = Path {
            remote: local_address(left.as_fd()).unwrap(),
            local: Some(to.ip()),
        };
        for len in [0, 1, 1_500, 65_507_usize] {
            send(left.as_fd(), &vec![7; len], None, Path::to(to), 0).unwrap();
            let taken = take(&mut Inbox::default(), &right);
            let expected = if len == 0 {
                vec![]
            } else {
                vec![(from, vec![7; len])]
            };
            assert_eq!(taken, expected);
        }
    }
}

#[test]
fn what_one_call_sends_in_segments_arrives_as_the_same_datagrams_either_way() {
    let bytes: Vec<u8> = (0..=255).cycle().take(10_000).collect();
    let expected: Vec<Vec<u8>> = bytes.chunks(1_200).map(<[u8]>::to_vec).collect();
    let segment = NonZeroU16::new(1_200).unwrap();
    for any in ["127.0.0.1:0", "[::1]:0"] {
        let (left, right, to) = pair(any);
        send(left.as_fd(), &bytes, Some(segment), Path::to(to), 0).unwrap();
        assert_eq!(
            send_each(left.as_fd(), &bytes, segment, Path::to(to), 0).unwrap(),
            expected.len()
        );
        let taken = take(&mut Inbox::default(), &right);
        let taken: Vec<Vec<u8>> = taken.into_iter().map(|(_, bytes)| bytes).collect();
        assert_eq!(taken, [expected.clone(), expected.clone()].concat());
    }
}

#[test]
fn more_than_a_batch_is_taken_in_several_calls() {
    let (left, right, to) = pair("127.0.0.1:0");
    for number in 0..100_u8 {
        // Different lengths, so that the kernel keeps them apart.
        send(
            left.as_fd(),
            &vec![number; usize::from(number) + 1],
            None,
            Path::to(to),
            0,
        )
        .unwrap();
    }
    let taken = take(&mut Inbox::default(), &right);
    let numbers: Vec<u8> = taken.iter().map(|(_, bytes)| bytes[0]).collect();
    assert_eq!(numbers, (0..100).collect::<Vec<u8>>());
}

#[test]
fn an_empty_socket_would_block_and_a_refusal_is_told() {
    let (left, right, _) = pair("127.0.0.1:0");
    let error = Inbox::default().receive(right.as_fd(), BATCH).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    let nowhere = Path::to("255.255.255.255:9".parse().unwrap());
    let error = send(left.as_fd(), b"x", None, nowhere, 0).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EACCES));
}
#[test]
fn an_answer_leaves_from_the_address_that_was_spoken_to() {
    let client = open("127.0.0.1:0".parse().unwrap(), 1 << 20).unwrap();
    let host = open("0.0.0.0:0".parse().unwrap(), 1 << 20).unwrap();
    let port = local_address(host.as_fd()).unwrap().port();
    let second = SocketAddr::from(([127, 0, 0, 5], port));
    send(client.as_fd(), b"question", None, Path::to(second), 0).unwrap();
    let (path, _) = take(&mut Inbox::default(), &host).remove(0);
    assert_eq!(path.local, Some(second.ip()));
    let segment = NonZeroU16::new(4).unwrap();
    send(host.as_fd(), b"answer", Some(segment), path, 0).unwrap();
    send_each(host.as_fd(), b"answer", segment, path, 0).unwrap();
    let answers = take(&mut Inbox::default(), &client);
    assert_eq!(answers.len(), 4);
    assert!(answers.iter().all(|(path, _)| path.remote == second));
    let not_ours = Path {
        local: Some([192, 0, 2, 1].into()),
        ..path
    };
    assert!(send(host.as_fd(), b"answer", None, not_ours, 0).is_err());
}

#[test]
fn the_traffic_class_is_carried_and_datagrams_of_two_classes_are_told_apart() {
    let bytes = [7; 3_000];
    let segment = NonZeroU16::new(1_000).unwrap();
    for any in ["127.0.0.1:0", "[::1]:0"] {
        let (left, right, to) = pair(any);
        for class in [0, 1, 2, 3, 0x88] {
            send(left.as_fd(), &bytes, Some(segment), Path::to(to), class).unwrap();
            send_each(left.as_fd(), &bytes, segment, Path::to(to), class).unwrap();
        }
        let mut inbox = Inbox::default();
        let mut classes = Vec::new();
        while let Ok(count) = inbox.receive(right.as_fd(), 2) {
            for index in 0..count {
                let arrival = inbox.arrival(index).unwrap();
                classes.extend(arrival.datagrams().map(|_| arrival.class));
            }
        }
        let expected = [0, 1, 2, 3, 0x88].map(|class| [class; 6]).concat();
        assert_eq!(classes, expected);
    }
}

#[test]
fn a_socket_that_is_told_to_keeps_datagrams_apart() {
    let (left, right, to) = pair("127.0.0.1:0");
    keep_apart(right.as_fd()).unwrap();
    let segment = NonZeroU16::new(1_000).unwrap();
    send(left.as_fd(), &[7; 4_000], Some(segment), Path::to(to), 0).unwrap();
    let mut inbox = Inbox::default();
    assert_eq!(inbox.receive(right.as_fd(), BATCH).unwrap(), 4);
}

#[test]
fn a_route_that_is_too_narrow_refuses_to_cut_and_carries_fragments() {
    use crate::{netns::Netns, tun};
    let host = Netns::create().expect("needs CAP_SYS_ADMIN");
    let up = || {
        std::process::Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status()
    };
    assert!(host.run(up).unwrap().success());
    for any in ["127.0.0.1:0", "[::1]:0"] {
        let address: SocketAddr = any.parse().unwrap();
        let socket = || host.enter(|| open(any.parse().unwrap(), 1 << 20)).unwrap();
        let (left, right) = (socket(), socket());
        tun::set_mtu(left.as_fd(), "lo", 1_280).unwrap();
        let to = SocketAddr::new(address.ip(), local_address(right.as_fd()).unwrap().port());
        let bytes: Vec<u8> = (0..=255).cycle().take(5_000).collect();
        let segment = NonZeroU16::new(1_452).unwrap();
        let error = send(left.as_fd(), &bytes, Some(segment), Path::to(to), 0).unwrap_err();
        let refusals = [libc::EINVAL, libc::EMSGSIZE].map(Some);
        assert!(refusals.contains(&error.raw_os_error()), "{error:?}");
        let sent = send_each(left.as_fd(), &bytes, segment, Path::to(to), 0);
        assert_eq!(sent.unwrap(), 4);
        let taken = take(&mut Inbox::default(), &right);
        let taken: Vec<u8> = taken.into_iter().flat_map(|(_, bytes)| bytes).collect();
        assert!(taken == bytes, "{} bytes", taken.len());
    }
}
