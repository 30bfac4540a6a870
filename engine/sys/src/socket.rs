//! TCP sockets: non-blocking and close-on-exec from the start.

use std::{
    io,
    mem::MaybeUninit,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::Duration,
};

use nix::sys::socket::{
    self as sock, AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, SockaddrStorage, sockopt,
};

use crate::process::for_a_connection;

/// How a dead peer of an established connection is found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Liveness {
    /// Silence after which keep-alive probes start, and the time between them (tcp(7), TCP_KEEPIDLE
    /// and TCP_KEEPINTVL).
    pub keep_alive: Duration,
    /// How long sent bytes may stay unacknowledged (tcp(7), TCP_USER_TIMEOUT).
    pub user_timeout: Duration,
}

/// What a listening socket is made with.
#[derive(Clone, Copy, Debug)]
pub struct Listen {
    /// Longest queue of connections that were not accepted yet; the kernel caps it at
    /// `net.core.somaxconn`.
    pub backlog: i32,
    /// Wake up only when the client has sent something (tcp(7), TCP_DEFER_ACCEPT): for protocols in
    /// which the client speaks first.
    pub client_first: bool,
    /// Accepted sockets inherit it.
    pub liveness: Liveness,
}

/// Opens a listening socket with SO_REUSEPORT; an IPv6 wildcard takes IPv4 too.
///
/// What accepted sockets inherit is set here, once, instead of on each of them: TCP_NODELAY,
/// keep-alive and user timeout (net/ipv4/inet_connection_sock.c, `inet_csk_clone_lock`).
///
/// # Errors
/// `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES` for ports below `net.ipv4.ip_unprivileged_port_start`.
pub fn listen(address: SocketAddr, options: Listen) -> io::Result<OwnedFd> {
    let socket = tcp(address)?;
    sock::setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    sock::setsockopt(&socket, sockopt::ReusePort, &true)?;
    if address.is_ipv6() {
        sock::setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    }
    sock::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    prepare_listener(socket.as_fd(), options)?;
    sock::listen(&socket, sock::Backlog::new(options.backlog)?)?;
    Ok(socket)
}

/// Tries whether nobody listens at an address. [`listen`] would share it with whoever set
/// SO_REUSEPORT as well, and the kernel would give each some of the connections. The answer holds the
/// address until it is dropped, and does not listen.
///
/// # Errors
/// `EADDRINUSE` when somebody does; others of [`listen`].
pub fn probe(address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = tcp(address)?;
    // Connections that were closed a moment ago are in nobody's way.
    sock::setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    if address.is_ipv6() {
        sock::setsockopt(&socket, sockopt::Ipv6V6Only, &false)?;
    }
    sock::bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

/// Sets on a listening socket that was bound elsewhere (systemd) what [`listen`] sets.
///
/// # Errors
/// When it is not a TCP socket.
pub fn prepare_listener(socket: BorrowedFd<'_>, options: Listen) -> io::Result<()> {
    sock::setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
    set_liveness(socket, options.liveness)?;
    set_int(
        socket,
        libc::TCP_DEFER_ACCEPT,
        i32::from(options.client_first),
    )?;
    let flags = nix::fcntl::OFlag::O_NONBLOCK;
    nix::fcntl::fcntl(socket, nix::fcntl::FcntlArg::F_SETFL(flags))?;
    Ok(())
}

/// Takes one connection off a listener's queue.
///
/// # Errors
/// `WouldBlock` when the queue is empty; `EMFILE` and `ENFILE` when no descriptor is left, or none but
/// those that are kept back: then the connection is closed; errors
/// of the connection itself, after which the next call may succeed (accept(2), "Error handling").
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, SocketAddr)> {
    let mut address = MaybeUninit::<libc::sockaddr_storage>::zeroed();
    let mut len = size_of_u32::<libc::sockaddr_storage>();
    let flags = libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC;
    // SAFETY: `address` is writable for `len` bytes, and the kernel writes no more than that.
    let fd = unsafe {
        libc::accept4(
            listener.as_raw_fd(),
            address.as_mut_ptr().cast(),
            &raw mut len,
            flags,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor; nobody else has it.
    let socket = for_a_connection(unsafe { OwnedFd::from_raw_fd(fd) })?;
    // SAFETY: it was zeroed, which is a valid sockaddr_storage, and then written by the kernel.
    let address = unsafe { address.assume_init() };
    Ok((socket, read_address(&address)?))
}

/// Opens a socket to dial `target` with, in the namespace that the thread is in.
///
/// # Errors
/// When no descriptor is left, or the address family is not supported.
pub fn dialer(target: SocketAddr, liveness: Liveness) -> io::Result<OwnedFd> {
    let socket = for_a_connection(tcp(target)?)?;
    sock::setsockopt(&socket, sockopt::TcpNoDelay, &true)?;
    set_liveness(socket.as_fd(), liveness)?;
    Ok(socket)
}

/// Opens a UDP socket that speaks with `server` alone, in the namespace that the thread is in: the kernel
/// passes on no datagram of anybody else's. Its own port is drawn by the kernel.
///
/// # Errors
/// When no descriptor is left, the address family is not supported, or there is no way to the server.
pub fn asker(server: SocketAddr) -> io::Result<OwnedFd> {
    let socket = UdpSocket::bind(unspecified(server.ip()))?;
    socket.set_nonblocking(true)?;
    socket.connect(server)?;
    Ok(socket.into())
}

/// Whether the namespace that the thread is in has an address itself: whoever goes there from here leaves
/// from that address. Nothing is sent.
///
/// # Errors
/// When no descriptor is left, the address family is not supported, or there is no way there.
pub fn is_own(ip: IpAddr) -> io::Result<bool> {
    let socket = UdpSocket::bind(unspecified(ip))?;
    // The discard service's: any port would do.
    socket.connect((ip, 9))?;
    Ok(socket.local_addr()?.ip() == ip)
}

fn unspecified(like: IpAddr) -> SocketAddr {
    match like {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// Starts to connect. It goes on in the background: writability tells its end, [`take_error`] or
/// the first [`send`] tells which.
///
/// # Errors
/// Those that are known at once: no route (`ENETUNREACH`), a local refusal (`EACCES`, `EPERM`).
pub fn connect(socket: BorrowedFd<'_>, target: SocketAddr) -> io::Result<()> {
    match sock::connect(socket.as_raw_fd(), &SockaddrStorage::from(target)) {
        Ok(()) | Err(nix::Error::EINPROGRESS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The pending error of a socket, if any, which this clears (socket(7), SO_ERROR).
///
/// # Errors
/// The pending error.
pub fn take_error(socket: BorrowedFd<'_>) -> io::Result<()> {
    match sock::getsockopt(&socket, sockopt::SocketError)? {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// Reads what has arrived. 0 is the end of the stream.
///
/// # Errors
/// `WouldBlock` when nothing has; `ConnectionReset`; others of recv(2).
pub fn recv(socket: BorrowedFd<'_>, into: &mut [u8]) -> io::Result<usize> {
    Ok(sock::recv(
        socket.as_raw_fd(),
        into,
        MsgFlags::MSG_DONTWAIT,
    )?)
}

/// Looks at the next byte without taking it: how many there are, 0 or 1. 0 is the end of the
/// stream.
///
/// # Errors
/// As [`recv`].
pub fn peek(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK;
    Ok(sock::recv(socket.as_raw_fd(), &mut [0], flags)?)
}

/// Throws away what has arrived, up to the size of `room`, whose bytes mean nothing afterwards:
/// nothing is copied (tcp(7), MSG_TRUNC). Gives how much that was; 0 is the end of the stream.
///
/// # Errors
/// As [`recv`].
pub fn discard(socket: BorrowedFd<'_>, room: &mut [u8]) -> io::Result<usize> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC;
    Ok(sock::recv(socket.as_raw_fd(), room, flags)?)
}

/// What the other side has said of the connection so far, whether its bytes were read or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// It has ended its stream.
    pub end: bool,
    /// It has reset the connection, or the connection broke.
    pub reset: bool,
}

/// Looks at what the other side has said of a connection that this side has not ended (poll(2)).
pub fn heard(socket: BorrowedFd<'_>) -> Heard {
    let mut polled = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLRDHUP,
        revents: 0,
    };
    // SAFETY: `polled` is one pollfd, and is there until the call is over, which does not wait.
    let count = unsafe { libc::poll(&raw mut polled, 1, 0) };
    let seen = if count == 1 { polled.revents } else { 0 };
    Heard {
        end: seen & libc::POLLRDHUP != 0,
        reset: seen & (libc::POLLERR | libc::POLLHUP) != 0,
    }
}

/// How many of the bytes that were sent the other side has not acknowledged (tcp(7), SIOCOUTQ).
///
/// # Errors
/// When the descriptor is not a TCP socket.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<usize> {
    let mut count: libc::c_int = 0;
    // SAFETY: SIOCOUTQ, which has the number of TIOCOUTQ, writes one c_int to where `count` is.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Writes as much as the socket takes now. Never raises SIGPIPE.
///
/// # Errors
/// `WouldBlock` when it takes nothing; `BrokenPipe`, `ConnectionReset`; others of send(2).
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    Ok(sock::send(socket.as_raw_fd(), bytes, flags)?)
}

/// Sends the end of the stream; reading goes on.
///
/// # Errors
/// `NotConnected` when the connection is already gone.
pub fn shutdown_write(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(sock::shutdown(socket.as_raw_fd(), Shutdown::Write)?)
}

/// Makes the coming close a reset instead of an orderly end (socket(7), SO_LINGER with 0).
///
/// # Errors
/// When the descriptor is not a socket.
pub fn reset_on_close(socket: BorrowedFd<'_>) -> io::Result<()> {
    let linger = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    Ok(sock::setsockopt(&socket, sockopt::Linger, &linger)?)
}

/// The address that a socket is bound to; for an accepted socket, the one that the client dialed.
///
/// # Errors
/// When the socket is not an internet socket.
pub fn local_address(socket: BorrowedFd<'_>) -> io::Result<SocketAddr> {
    let address: SockaddrStorage = sock::getsockname(socket.as_raw_fd())?;
    if let Some(v4) = address.as_sockaddr_in() {
        return Ok(SocketAddr::V4((*v4).into()));
    }
    match address.as_sockaddr_in6() {
        Some(v6) => Ok(SocketAddr::V6((*v6).into())),
        None => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not an internet socket",
        )),
    }
}

/// Whether a descriptor is a listening TCP socket (systemd may hand over others).
pub fn is_tcp_listener(socket: BorrowedFd<'_>) -> bool {
    sock::getsockopt(&socket, sockopt::SockType) == Ok(SockType::Stream)
        && sock::getsockopt(&socket, sockopt::AcceptConn) == Ok(true)
        && local_address(socket).is_ok()
}

fn tcp(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::Inet,
        SocketAddr::V6(_) => AddressFamily::Inet6,
    };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    Ok(sock::socket(
        family,
        SockType::Stream,
        flags,
        sock::SockProtocol::Tcp,
    )?)
}

fn set_liveness(socket: BorrowedFd<'_>, liveness: Liveness) -> io::Result<()> {
    let seconds = i32::try_from(liveness.keep_alive.as_secs().max(1)).unwrap_or(i32::MAX);
    let millis = i32::try_from(liveness.user_timeout.as_millis()).unwrap_or(i32::MAX);
    sock::setsockopt(&socket, sockopt::KeepAlive, &true)?;
    set_int(socket, libc::TCP_KEEPIDLE, seconds)?;
    set_int(socket, libc::TCP_USER_TIMEOUT, millis)
}

fn set_int(socket: BorrowedFd<'_>, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let len = size_of_u32::<libc::c_int>();
    // SAFETY: the option's value is a c_int that lives through the call, and `len` is its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            option,
            (&raw const value).cast(),
            len,
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn read_address(storage: &libc::sockaddr_storage) -> io::Result<SocketAddr> {
    let raw: *const libc::sockaddr_storage = storage;
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says sockaddr_in, which fits in and is aligned as the storage.
            let v4 = unsafe { &*raw.cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            Ok(SocketAddrV4::new(ip, u16::from_be(v4.sin_port)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says sockaddr_in6, which fits in and is aligned as the storage.
            let v6 = unsafe { &*raw.cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            Ok(match ip.to_ipv4_mapped() {
                Some(ip) => SocketAddrV4::new(ip, port).into(),
                None => SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into(),
            })
        }
        _ => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "not an internet address",
        )),
    }
}

fn size_of_u32<T>() -> u32 {
    const { assert!(size_of::<T>() <= 128) };
    #[allow(clippy::cast_possible_truncation, reason = "asserted above")]
    let size = size_of::<T>() as u32;
    size
}

#[cfg(test)]
mod tests {
    use std::{io::Read, net::TcpStream};

    use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};

    use super::*;

    const LIVENESS: Liveness = Liveness {
        keep_alive: Duration::from_secs(60),
        user_timeout: Duration::from_secs(60),
    };
    const LISTEN: Listen = Listen {
        backlog: 16,
        client_first: false,
        liveness: LIVENESS,
    };

    fn pair(address: &str) -> (OwnedFd, OwnedFd, SocketAddr) {
        let listener = listen(address.parse().unwrap(), LISTEN).unwrap();
        let target = local_address(listener.as_fd()).unwrap();
        let client = dialer(target, LIVENESS).unwrap();
        connect(client.as_fd(), target).unwrap();
        let (accepted, peer) = accept(listener.as_fd()).unwrap();
        (client, accepted, peer)
    }

    #[test]
    fn accepted_sockets_are_cloexec_nonblocking_and_inherit_options() {
        let (client, accepted, peer) = pair("127.0.0.1:0");
        assert_eq!(local_address(client.as_fd()).unwrap(), peer);
        for socket in [&client, &accepted] {
            let fd_flags = FdFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFD).unwrap());
            assert!(fd_flags.contains(FdFlag::FD_CLOEXEC));
            let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL).unwrap());
            assert!(flags.contains(OFlag::O_NONBLOCK));
            assert!(sock::getsockopt(socket, sockopt::TcpNoDelay).unwrap());
            assert!(sock::getsockopt(socket, sockopt::KeepAlive).unwrap());
        }
    }

    #[test]
    fn an_ipv4_client_of_an_ipv6_listener_is_seen_as_ipv4() {
        let listener = listen("[::]:0".parse().unwrap(), LISTEN).unwrap();
        let port = local_address(listener.as_fd()).unwrap().port();
        let _client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let (_, peer) = accept(listener.as_fd()).unwrap();
        assert_eq!(peer.ip(), Ipv4Addr::LOCALHOST);
    }

    #[test]
    fn a_reset_reaches_the_other_side_as_a_reset() {
        let (client, accepted, _) = pair("[::1]:0");
        reset_on_close(accepted.as_fd()).unwrap();
        drop(accepted);
        let mut client = TcpStream::from(client);
        client.set_nonblocking(false).unwrap();
        let error = client.read(&mut [0; 8]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn an_end_is_told_from_a_reset_before_anything_is_read() {
        let heard_of = |socket: &OwnedFd| heard(socket.as_fd());
        let quiet = Heard {
            end: false,
            reset: false,
        };
        let (client, accepted, _) = pair("127.0.0.1:0");
        assert_eq!(heard_of(&accepted), quiet);
        assert_eq!(send(client.as_fd(), b"unread").unwrap(), 6);
        assert_eq!(heard_of(&accepted), quiet);
        shutdown_write(client.as_fd()).unwrap();
        assert_eq!(heard_of(&accepted), Heard { end: true, ..quiet });
        // It reads no more, and says so when something is sent to it.
        drop(client);
        assert!(!heard_of(&accepted).reset);
        send(accepted.as_fd(), b"are you there").unwrap();
        assert!(heard_of(&accepted).reset);
    }

    #[test]
    fn what_is_thrown_away_is_gone_and_what_is_not_read_is_still_acknowledged() {
        let (client, accepted, _) = pair("127.0.0.1:0");
        assert_eq!(send(client.as_fd(), b"unwanted, wanted").unwrap(), 16);
        assert_eq!(unacknowledged(client.as_fd()).unwrap(), 0);
        assert_eq!(discard(accepted.as_fd(), &mut [0; 10]).unwrap(), 10);
        let mut rest = [0; 16];
        assert_eq!(recv(accepted.as_fd(), &mut rest).unwrap(), 6);
        assert_eq!(&rest[..6], b"wanted");
    }

    #[test]
    fn an_empty_queue_would_block() {
        let listener = listen("127.0.0.1:0".parse().unwrap(), LISTEN).unwrap();
        let error = accept(listener.as_fd()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(is_tcp_listener(listener.as_fd()));
    }
}
