//! UDP sockets, many datagrams at a time: several for each call, and several in each buffer where
//! the kernel cuts them up (UDP_SEGMENT) and puts them together (UDP_GRO, both udp(7)).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroU16,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
    ptr,
};

use nix::sys::socket::{
    self as sock, AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, sockopt,
};

/// Buffers that one call fills at most.
pub const BATCH: usize = 32;

/// The longest that a buffer can be: the payload of one UDP datagram, or of several that came
/// together (`net/ipv4/udp_offload.c` keeps them under 64 KiB).
const BUFFER_BYTES: usize = 65_536;

/// Segments that the kernel takes in one call (`UDP_MAX_SEGMENTS`; 64 up to Linux 6.8, 128 since).
pub const SEGMENTS_MAX: usize = 64;

/// Opens a UDP socket that never blocks, in the namespace that the thread is in. An IPv6 socket
/// takes IPv6 only. `buffer_bytes` is asked for in both directions, beyond the host's limit where
/// the process may (`CAP_NET_ADMIN`), up to it otherwise. Arrivals come together where the kernel
/// can do that, and each tells which of the host's addresses it was sent to.
///
/// # Errors
/// `EADDRINUSE`; `EAFNOSUPPORT` on a host without IPv6.
pub fn open(address: SocketAddr, buffer_bytes: usize) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = sock::socket(family, SockType::Datagram, flags, None)?;
    if address.is_ipv6() {
        sock::setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    if sock::setsockopt(&socket, sockopt::RcvBufForce, &buffer_bytes).is_err() {
        sock::setsockopt(&socket, sockopt::RcvBuf, &buffer_bytes)?;
    }
    if sock::setsockopt(&socket, sockopt::SndBufForce, &buffer_bytes).is_err() {
        sock::setsockopt(&socket, sockopt::SndBuf, &buffer_bytes)?;
    }
    match address {
        SocketAddr::V4(_) => sock::setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?,
        SocketAddr::V6(_) => sock::setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?,
    }
    // Without it each datagram comes alone, which is slower and right.
    let _ = sock::setsockopt(&socket, sockopt::UdpGroSegment, &true);
    sock::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

/// Buffers for what arrives: [`BATCH`] of 64 KiB, of which the kernel touches only what it fills.
#[derive(Debug)]
pub struct Inbox {
    bytes: Box<[u8]>,
    arrivals: [Option<Arrival>; BATCH],
}

#[derive(Clone, Copy, Debug)]
struct Arrival {
    len: usize,
    segment: usize,
    path: Path,
}

/// Between which two addresses a datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The other end.
    pub remote: SocketAddr,
    /// The address of this host; `None` leaves the choice to the routes. A host with several
    /// addresses answers from the one that it was spoken to at, or what is between it and the other
    /// end (address translation, firewalls) may not let the answer through.
    pub local: Option<IpAddr>,
}

impl Path {
    /// A path from wherever the routes say.
    pub fn to(remote: SocketAddr) -> Self {
        Self {
            remote,
            local: None,
        }
    }
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            bytes: vec![0; BATCH * BUFFER_BYTES].into_boxed_slice(),
            arrivals: [None; BATCH],
        }
    }
}

impl Inbox {
    /// Takes what has arrived, up to [`BATCH`] buffers, in place of what was here before, and
    /// answers how many there are.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has arrived; an error that an earlier datagram met on its way
    /// (`ECONNREFUSED`, `EHOSTUNREACH`), which is told once.
    pub fn receive(&mut self, socket: BorrowedFd<'_>) -> io::Result<usize> {
        self.arrivals = [None; BATCH];
        let mut names = [Name::EMPTY; BATCH];
        let mut controls = [Control::EMPTY; BATCH];
        let mut pieces = [NO_PIECE; BATCH];
        let mut headers = [NO_HEADER; BATCH];
        for (piece, buffer) in pieces.iter_mut().zip(self.bytes.chunks_mut(BUFFER_BYTES)) {
            piece.iov_base = buffer.as_mut_ptr().cast();
            piece.iov_len = buffer.len();
        }
        for (index, header) in headers.iter_mut().enumerate() {
            let header = &mut header.msg_hdr;
            header.msg_name = (&raw mut names[index]).cast();
            header.msg_namelen = size_of_u32::<Name>();
            header.msg_iov = &raw mut pieces[index];
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut controls[index]).cast();
            header.msg_controllen = CONTROL_BYTES;
        }
        // SAFETY: each header points at a name, a buffer and a control area of the lengths that it
        // gives, all alive and borrowed by nothing else until the call returns.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                libc::c_uint::try_from(BATCH).unwrap_or(1),
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for (index, header) in headers.iter().enumerate().take(received) {
            let len = usize::try_from(header.msg_len)
                .unwrap_or(0)
                .min(BUFFER_BYTES);
            let control = controls[index].read(header.msg_hdr.msg_controllen);
            self.arrivals[index] = names[index].read().map(|remote| Arrival {
                len,
                segment: control.segment.unwrap_or(len).max(1),
                path: Path {
                    remote,
                    local: control.local,
                },
            });
        }
        Ok(received)
    }

    /// What is in buffer `index`: the way that it came, and the datagrams, which came that way in a
    /// row. Nothing beyond what [`Inbox::receive`] answered.
    pub fn arrival(&self, index: usize) -> Option<(Path, impl Iterator<Item = &[u8]>)> {
        let arrival = (*self.arrivals.get(index)?)?;
        let start = index * BUFFER_BYTES;
        let bytes = &self.bytes[start..start + arrival.len];
        Some((arrival.path, bytes.chunks(arrival.segment)))
    }
}

/// Sends one datagram, or, when `segment` is given, as many as that length divides `bytes` into, of
/// which the last may be shorter. At most [`SEGMENTS_MAX`] and 65,507 bytes.
///
/// # Errors
/// `WouldBlock` when the socket takes no more; with a segment, `EIO`, `EINVAL` or `EOPNOTSUPP`
/// where the kernel or the link cannot cut: [`send_each`] can. `EINVAL` or `EADDRNOTAVAIL` when the
/// local address is not this host's (any longer). `EMSGSIZE`; `ENETUNREACH` and the like. Nothing
/// was sent then.
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    segment: Option<NonZeroU16>,
    path: Path,
) -> io::Result<()> {
    let to = SockaddrStorage::from(path.remote);
    let mut control = Control::EMPTY;
    control.set_local(path.local);
    if let Some(segment) = segment {
        control.push(
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            &segment.get().to_ne_bytes(),
        );
    }
    let mut piece = piece(bytes);
    let header = header_to(&to, &mut piece, &mut control);
    // SAFETY: the header points at an address, a buffer and a control area of the lengths that it
    // gives, which all outlive the call; sending only reads them.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, SEND_FLAGS) };
    if sent < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Sends `bytes` as datagrams of `segment` bytes, of which the last may be shorter, without the
/// kernel's help in cutting. Answers how many it took; the rest was not sent.
///
/// # Errors
/// As [`send`], when not even the first was sent.
pub fn send_each(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    segment: NonZeroU16,
    path: Path,
) -> io::Result<usize> {
    let to = SockaddrStorage::from(path.remote);
    let mut control = Control::EMPTY;
    control.set_local(path.local);
    let mut pieces = [NO_PIECE; SEGMENTS_MAX];
    let mut headers = [NO_HEADER; SEGMENTS_MAX];
    let mut count: usize = 0;
    let datagrams = bytes.chunks(usize::from(segment.get()));
    for ((datagram, slot), header) in datagrams.zip(&mut pieces).zip(&mut headers) {
        *slot = piece(datagram);
        header.msg_hdr = header_to(&to, slot, &mut control);
        count += 1;
    }
    // SAFETY: each of the first `count` headers points at an address, a buffer and a control area of
    // the lengths that it gives, which outlive the call; sending only reads them.
    let sent = unsafe {
        libc::sendmmsg(
            socket.as_raw_fd(),
            headers.as_mut_ptr(),
            libc::c_uint::try_from(count).unwrap_or(1),
            SEND_FLAGS,
        )
    };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

const SEND_FLAGS: libc::c_int = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

const NO_PIECE: libc::iovec = libc::iovec {
    iov_base: ptr::null_mut(),
    iov_len: 0,
};

// SAFETY: integers and pointers; zero is a value of each.
const NO_HEADER: libc::mmsghdr = unsafe { std::mem::zeroed() };

fn piece(bytes: &[u8]) -> libc::iovec {
    libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    }
}

fn header_to(to: &SockaddrStorage, piece: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    let mut header = NO_HEADER.msg_hdr;
    header.msg_name = to.as_ptr().cast_mut().cast();
    header.msg_namelen = to.len();
    header.msg_iov = piece;
    header.msg_iovlen = 1;
    if control.len > 0 {
        header.msg_control = (&raw mut *control).cast();
        header.msg_controllen = control.len;
    }
    header
}

/// Room for the address of a sender.
#[derive(Clone, Copy)]
struct Name(libc::sockaddr_storage);

impl Name {
    // SAFETY: integers; zero is a value of each.
    const EMPTY: Self = Self(unsafe { std::mem::zeroed() });

    fn read(&self) -> Option<SocketAddr> {
        let address = (&raw const self.0).cast::<libc::sockaddr>();
        // SAFETY: a whole sockaddr_storage that the kernel wrote an address of its family into.
        let address = unsafe { SockaddrStorage::from_raw(address, Some(size_of_u32::<Self>())) }?;
        let v4 = address
            .as_sockaddr_in()
            .map(|v4| SocketAddr::V4((*v4).into()));
        v4.or_else(|| {
            address
                .as_sockaddr_in6()
                .map(|v6| SocketAddr::V6((*v6).into()))
        })
    }
}

/// What is said beside the bytes: control messages (cmsg(3)), each a header of its length, level and
/// type, and its data, padded to the alignment of the header.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control {
    bytes: [u8; CONTROL_BYTES],
    len: usize,
}

/// Room for the length of segments (24 bytes) and the longer form of a local address (40), twice.
const CONTROL_BYTES: usize = 128;
const CONTROL_HEADER: usize = size_of::<libc::cmsghdr>();
const _: () = assert!(align_of::<Control>() >= align_of::<libc::cmsghdr>());
const _: () = assert!(
    CONTROL_HEADER == 16,
    "length, level and type follow each other"
);

/// What the kernel said beside a buffer.
#[derive(Default)]
struct Said {
    /// The length of each of several datagrams (UDP_GRO).
    segment: Option<usize>,
    /// The address that they were sent to.
    local: Option<IpAddr>,
}

impl Control {
    const EMPTY: Self = Self {
        bytes: [0; CONTROL_BYTES],
        len: 0,
    };

    /// Has the datagram leave from an address (IP_PKTINFO in ip(7), IPV6_PKTINFO in ipv6(7)).
    fn set_local(&mut self, local: Option<IpAddr>) {
        match local {
            None => {}
            Some(IpAddr::V4(local)) => {
                // The interface, which is any; the address to send from; one that only counts when
                // receiving.
                let mut data = [0; 12];
                data[4..8].copy_from_slice(&local.octets());
                self.push(libc::IPPROTO_IP, libc::IP_PKTINFO, &data);
            }
            Some(IpAddr::V6(local)) => {
                // The address to send from; the interface, which is any.
                let mut data = [0; 20];
                data[..16].copy_from_slice(&local.octets());
                self.push(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &data);
            }
        }
    }

    /// Adds a message. What is added here fits by far.
    fn push(&mut self, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        let len = CONTROL_HEADER + data.len();
        let Some(rest) = self
            .bytes
            .get_mut(self.len..)
            .filter(|rest| rest.len() >= len)
        else {
            return;
        };
        rest[..8].copy_from_slice(&len.to_ne_bytes());
        rest[8..12].copy_from_slice(&level.to_ne_bytes());
        rest[12..16].copy_from_slice(&kind.to_ne_bytes());
        rest[16..len].copy_from_slice(data);
        self.len = (self.len + len.next_multiple_of(8)).min(CONTROL_BYTES);
    }

    /// Reads the messages in the first `len` bytes.
    fn read(&self, len: usize) -> Said {
        let mut said = Said::default();
        let mut rest = &self.bytes[..len.min(CONTROL_BYTES)];
        while let Some((header, _)) = rest.split_first_chunk::<CONTROL_HEADER>() {
            let number = |at: usize| {
                header[at..]
                    .first_chunk()
                    .map_or(0, |n| i32::from_ne_bytes(*n))
            };
            let len = header
                .first_chunk()
                .map_or(0, |len| usize::from_ne_bytes(*len));
            let Some(data) = rest.get(CONTROL_HEADER..len) else {
                break;
            };
            match (number(8), number(12)) {
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    // One int (`udp_cmsg_recv` in net/ipv4/udp.c).
                    let segment = data.first_chunk().map(|n| i32::from_ne_bytes(*n));
                    said.segment = segment.and_then(|segment| usize::try_from(segment).ok());
                }
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    let local = data.get(4..).and_then(<[u8]>::first_chunk::<4>);
                    said.local = local.map(|local| Ipv4Addr::from(*local).into());
                }
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                    let local = data.first_chunk::<16>().map(|local| Ipv6Addr::from(*local));
                    // An address of one link says nothing without the link.
                    let local = local.filter(|local| !local.is_unicast_link_local());
                    said.local = local.map(IpAddr::from);
                }
                _ => {}
            }
            rest = rest.get(len.next_multiple_of(8)..).unwrap_or(&[]);
        }
        said
    }
}

fn size_of_u32<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
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
        while let Ok(count) = inbox.receive(socket.as_fd()) {
            for index in 0..count {
                let (path, datagrams) = inbox.arrival(index).unwrap();
                taken.extend(datagrams.map(|datagram| (path, datagram.to_vec())));
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
                send(left.as_fd(), &vec![7; len], None, Path::to(to)).unwrap();
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
            send(left.as_fd(), &bytes, Some(segment), Path::to(to)).unwrap();
            assert_eq!(
                send_each(left.as_fd(), &bytes, segment, Path::to(to)).unwrap(),
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
        let error = Inbox::default().receive(right.as_fd()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let nowhere = Path::to("255.255.255.255:9".parse().unwrap());
        let error = send(left.as_fd(), b"x", None, nowhere).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    }
    #[test]
    fn an_answer_leaves_from_the_address_that_was_spoken_to() {
        let client = open("127.0.0.1:0".parse().unwrap(), 1 << 20).unwrap();
        let host = open("0.0.0.0:0".parse().unwrap(), 1 << 20).unwrap();
        let port = local_address(host.as_fd()).unwrap().port();
        let second = SocketAddr::from(([127, 0, 0, 5], port));
        send(client.as_fd(), b"question", None, Path::to(second)).unwrap();
        let (path, _) = take(&mut Inbox::default(), &host).remove(0);
        assert_eq!(path.local, Some(second.ip()));
        let segment = NonZeroU16::new(4).unwrap();
        send(host.as_fd(), b"answer", Some(segment), path).unwrap();
        send_each(host.as_fd(), b"answer", segment, path).unwrap();
        let answers = take(&mut Inbox::default(), &client);
        assert_eq!(answers.len(), 4);
        assert!(answers.iter().all(|(path, _)| path.remote == second));
        let not_ours = Path {
            local: Some([192, 0, 2, 1].into()),
            ..path
        };
        assert!(send(host.as_fd(), b"answer", None, not_ours).is_err());
    }
}
