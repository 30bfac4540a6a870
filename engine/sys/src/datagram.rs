//! UDP sockets, many datagrams at a time: several for each call, and several in each buffer where
//! the kernel cuts them up (UDP_SEGMENT) and puts them together (UDP_GRO, both udp(7)).

use std::{
    io,
    net::SocketAddr,
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
/// can do that.
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
    source: SocketAddr,
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
            header.msg_controllen = size_of::<Control>();
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
            self.arrivals[index] = names[index].read().map(|source| Arrival {
                len,
                segment: segment_of(&header.msg_hdr).unwrap_or(len).max(1),
                source,
            });
        }
        Ok(received)
    }

    /// What is in buffer `index`: where it came from, and the datagrams, which came in a row from
    /// there. Nothing beyond what [`Inbox::receive`] answered.
    pub fn arrival(&self, index: usize) -> Option<(SocketAddr, impl Iterator<Item = &[u8]>)> {
        let arrival = (*self.arrivals.get(index)?)?;
        let start = index * BUFFER_BYTES;
        let bytes = &self.bytes[start..start + arrival.len];
        Some((arrival.source, bytes.chunks(arrival.segment)))
    }
}

/// Sends one datagram, or, when `segment` is given, as many as that length divides `bytes` into, of
/// which the last may be shorter. At most [`SEGMENTS_MAX`] and 65,507 bytes.
///
/// # Errors
/// `WouldBlock` when the socket takes no more; with a segment, `EIO`, `EINVAL` or `EOPNOTSUPP`
/// where the kernel or the link cannot cut: [`send_each`] can. `EMSGSIZE`; `ENETUNREACH` and the
/// like. Nothing was sent then.
pub fn send(
    socket: BorrowedFd<'_>,
    bytes: &[u8],
    segment: Option<NonZeroU16>,
    to: SocketAddr,
) -> io::Result<()> {
    let to = SockaddrStorage::from(to);
    let mut piece = piece(bytes);
    let mut header = header_to(&to, &mut piece);
    let mut control = Control::EMPTY;
    if let Some(segment) = segment {
        header.msg_control = (&raw mut control).cast();
        header.msg_controllen = size_of::<SegmentControl>();
        // SAFETY: the header has a control area that is aligned for, and longer than, one cmsghdr.
        let first = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
        let message = SegmentControl {
            header: libc::cmsghdr {
                cmsg_len: SEGMENT_CONTROL_LEN,
                cmsg_level: libc::SOL_UDP,
                cmsg_type: libc::UDP_SEGMENT,
            },
            segment: segment.get(),
            padding: [0; 3],
        };
        // SAFETY: `first` is the start of `control`, which is aligned for and as long as this.
        unsafe { first.cast::<SegmentControl>().write(message) };
    }
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
    to: SocketAddr,
) -> io::Result<usize> {
    let to = SockaddrStorage::from(to);
    let mut pieces = [NO_PIECE; SEGMENTS_MAX];
    let mut headers = [NO_HEADER; SEGMENTS_MAX];
    let mut count: usize = 0;
    let datagrams = bytes.chunks(usize::from(segment.get()));
    for ((datagram, slot), header) in datagrams.zip(&mut pieces).zip(&mut headers) {
        *slot = piece(datagram);
        header.msg_hdr = header_to(&to, slot);
        count += 1;
    }
    // SAFETY: each of the first `count` headers points at an address and a buffer of the lengths
    // that it gives, which outlive the call; sending only reads them.
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

fn header_to(to: &SockaddrStorage, piece: &mut libc::iovec) -> libc::msghdr {
    let mut header = NO_HEADER.msg_hdr;
    header.msg_name = to.as_ptr().cast_mut().cast();
    header.msg_namelen = to.len();
    header.msg_iov = piece;
    header.msg_iovlen = 1;
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

/// Room for what the kernel says beside the bytes: one number, with its header.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; 32]);

impl Control {
    const EMPTY: Self = Self([0; 32]);
}

/// The control message of UDP_SEGMENT: a number of 16 bits, padded to the alignment of the header.
#[repr(C)]
struct SegmentControl {
    header: libc::cmsghdr,
    segment: u16,
    padding: [u16; 3],
}

const SEGMENT_CONTROL_LEN: usize = size_of::<libc::cmsghdr>() + size_of::<u16>();
const _: () = assert!(size_of::<SegmentControl>() <= size_of::<Control>());
const _: () = assert!(align_of::<SegmentControl>() <= align_of::<Control>());

/// The length of each datagram of a buffer that holds several (UDP_GRO).
fn segment_of(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the header is one that the kernel filled in; its control area is still alive.
    let first = unsafe { libc::CMSG_FIRSTHDR(header) };
    // SAFETY: null, or the start of a message that the kernel wrote into an aligned area.
    let message = unsafe { first.as_ref() }?;
    if message.cmsg_level != libc::SOL_UDP || message.cmsg_type != libc::UDP_GRO {
        return None;
    }
    // SAFETY: `first` is a message, so its data is within the area.
    let data = unsafe { libc::CMSG_DATA(first) };
    // SAFETY: UDP_GRO carries one int (`udp_cmsg_recv` in net/ipv4/udp.c).
    let segment = unsafe { data.cast::<libc::c_int>().read_unaligned() };
    usize::try_from(segment).ok()
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

    fn take(inbox: &mut Inbox, socket: &OwnedFd) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut taken = Vec::new();
        while let Ok(count) = inbox.receive(socket.as_fd()) {
            for index in 0..count {
                let (source, datagrams) = inbox.arrival(index).unwrap();
                taken.extend(datagrams.map(|datagram| (source, datagram.to_vec())));
            }
        }
        taken
    }

    #[test]
    fn datagrams_arrive_whole_with_their_source() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let (left, right, to) = pair(any);
            let source = local_address(left.as_fd()).unwrap();
            for len in [0, 1, 1_500, 65_507_usize] {
                send(left.as_fd(), &vec![7; len], None, to).unwrap();
                let taken = take(&mut Inbox::default(), &right);
                let expected = if len == 0 {
                    vec![]
                } else {
                    vec![(source, vec![7; len])]
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
            send(left.as_fd(), &bytes, Some(segment), to).unwrap();
            assert_eq!(
                send_each(left.as_fd(), &bytes, segment, to).unwrap(),
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
                to,
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
        let nowhere = "255.255.255.255:9".parse().unwrap();
        let error = send(left.as_fd(), b"x", None, nowhere).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    }
}
