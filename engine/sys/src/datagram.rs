//! UDP sockets, many datagrams at a time: several for each call, and several in each buffer where
//! the kernel cuts them up (UDP_SEGMENT) and puts them together (UDP_GRO, both udp(7)).

use std::{
    io,
    net::{IpAddr, SocketAddr},
    num::NonZeroU16,
    os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd},
    ptr,
};

use nix::sys::socket::{
    self as sock, AddressFamily, SockFlag, SockType, SockaddrLike, SockaddrStorage, sockopt,
};

use self::control::Control;
pub use self::inbox::{BATCH, Inbox};

mod control;
mod inbox;

/// Segments that the kernel takes in one call (`UDP_MAX_SEGMENTS`; 64 up to Linux 6.8, 128 since).
pub const SEGMENTS_MAX: usize = 64;

/// Opens a UDP socket that never blocks, in the namespace that the thread is in. An IPv6 socket
/// takes IPv6 only. `buffer_bytes` is asked for in both directions, beyond the host's limit where
/// the process may (`CAP_NET_ADMIN`), up to it otherwise. Arrivals come together where the kernel
/// can do that ([`keep_apart`]), and each tells which of the host's addresses it was sent to, and its
/// traffic class.
///
/// What is sent may be fragmented on its way: path MTU discovery is off, as on the sockets of the
/// kernel's tunnels, so that no forged ICMP message narrows the path and a narrow one still carries.
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
        SocketAddr::V4(_) => {
            sock::setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            set_int(&socket, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
            let fragment = libc::IP_PMTUDISC_DONT;
            set_int(&socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, fragment)?;
        }
        SocketAddr::V6(_) => {
            sock::setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            set_int(&socket, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
            let fragment = libc::IPV6_PMTUDISC_DONT;
            set_int(
                &socket,
                libc::IPPROTO_IPV6,
                libc::IPV6_MTU_DISCOVER,
                fragment,
            )?;
        }
    }
    // Without it each datagram comes alone, which is slower and right.
    let _ = sock::setsockopt(&socket, sockopt::UdpGroSegment, &true);
    sock::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

/// Has every datagram arrive alone.
///
/// # Errors
/// `ENOPROTOOPT` on a kernel that never does otherwise (before 5.0).
pub fn keep_apart(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(sock::setsockopt(&socket, sockopt::UdpGroSegment, &false)?)
}

fn set_int(
    socket: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    // SAFETY: the option's value is a c_int that lives through the call, and the length is its size.
    let set = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of_u32::<libc::c_int>(),
        )
    };
    if set < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
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

/// Sends one datagram, or, when `segment` is given, as many as that length divides `bytes` into, of
/// which the last may be shorter. At most [`SEGMENTS_MAX`] and 65,507 bytes. `class` is the traffic
/// class: the byte of DSCP and ECN in the IP header (RFC 2474, RFC 3168).
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
    class: u8,
) -> io::Result<()> {
    let to = SockaddrStorage::from(path.remote);
    let mut control = Control::to(path, class);
    if let Some(segment) = segment {
        control.set_segment(segment);
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
    class: u8,
) -> io::Result<usize> {
    let to = SockaddrStorage::from(path.remote);
    let mut control = Control::to(path, class);
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

fn size_of_u32<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

#[cfg(test)]
mod tests;
