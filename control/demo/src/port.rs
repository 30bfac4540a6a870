//! Ports that this demo has to itself.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr as UnixAddr, UnixListener},
    },
};

use nix::errno::Errno;

use super::error::DemoError;

/// Ports that are tried from the wanted one on.
const TRIES: u16 = 32;

/// What the port is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transport {
    /// A listener of the gateway, on 127.0.0.1.
    Tcp,
    /// A WireGuard device, on every address.
    Udp,
}

/// A port that nobody used when it was looked at, and that no other demo takes as long as this
/// lives.
///
/// Between the look and the gateway's own bind, two demos might agree on a port; on a TCP port,
/// which the gateway binds with SO_REUSEPORT, both would then get half of the connections. So each
/// marks its ports with an abstract socket (unix(7)): like a port, its name exists once in a network
/// namespace, and it is gone with its process.
#[derive(Debug)]
pub(super) struct Port {
    number: u16,
    _mark: UnixListener,
}

impl Port {
    /// Claims the wanted port, or the next free one; with 0, any.
    ///
    /// # Errors
    /// When all in reach are taken.
    pub(super) fn claim(transport: Transport, wanted: u16) -> Result<Self, DemoError> {
        let mut last = io::ErrorKind::AddrNotAvailable.into();
        for number in (0..TRIES).filter_map(|more| wanted.checked_add(more)) {
            match Self::try_claim(transport, number) {
                Ok(port) => return Ok(port),
                Err(error) => last = error,
            }
        }
        Err(DemoError::Port(wanted, last))
    }

    fn try_claim(transport: Transport, number: u16) -> io::Result<Self> {
        let (number, word) = match transport {
            Transport::Tcp => (look_tcp(number)?, "tcp"),
            Transport::Udp => (look_udp(number)?, "udp"),
        };
        let name = UnixAddr::from_abstract_name(format!("ringway-demo/{word}/{number}"))?;
        Ok(Self {
            number,
            _mark: UnixListener::bind_addr(&name)?,
        })
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }
}

/// Asks without SO_REUSEPORT, so that a gateway's listener counts as somebody.
fn look_tcp(number: u16) -> io::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, number))?;
    Ok(listener.local_addr()?.port())
}

/// A device binds both families. A host without IPv6 has one.
fn look_udp(number: u16) -> io::Result<u16> {
    let bind = |address: SocketAddr| UdpSocket::bind(address)?.local_addr();
    let number = bind((Ipv4Addr::UNSPECIFIED, number).into())?.port();
    match bind((Ipv6Addr::UNSPECIFIED, number).into()) {
        Err(error) if error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32) => Ok(number),
        bound => Ok(bound?.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claimed_port_is_passed_over_until_it_is_given_up() {
        for transport in [Transport::Tcp, Transport::Udp] {
            let first = Port::claim(transport, 0).unwrap();
            let wanted = first.number();
            assert_ne!(Port::claim(transport, wanted).unwrap().number(), wanted);
            drop(first);
            assert_eq!(Port::claim(transport, wanted).unwrap().number(), wanted);
        }
    }

    #[test]
    fn a_port_of_somebody_else_is_passed_over() {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let taken = tcp.local_addr().unwrap().port();
        assert_ne!(Port::claim(Transport::Tcp, taken).unwrap().number(), taken);
        let udp = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).unwrap();
        let taken = udp.local_addr().unwrap().port();
        assert_ne!(Port::claim(Transport::Udp, taken).unwrap().number(), taken);
    }
}
