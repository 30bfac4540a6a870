//! Where a listener sends connections: a network, and an address or a name in it.

use std::{fmt, net::SocketAddr, num::NonZeroU16, str::FromStr};

use engine_core::endpoint::{Endpoint, EndpointError};

use crate::field::text_field;

/// Longest name of a network namespace: a file name (NAME_MAX in `limits.h`).
pub const NETNS_NAME_BYTES_MAX: usize = 255;

/// The key of a network in the state document: its public WireGuard port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetworkKey(NonZeroU16);

impl NetworkKey {
    /// The network with this public port; `None` for port 0.
    pub const fn new(port: u16) -> Option<Self> {
        match NonZeroU16::new(port) {
            Some(port) => Some(Self(port)),
            None => None,
        }
    }

    /// Its public port.
    pub const fn port(self) -> NonZeroU16 {
        self.0
    }

    /// Its public port, as a number.
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl FromStr for NetworkKey {
    type Err = PlaceError;

    /// The key as a document has it: from 1 to 65535, without sign or leading zeros.
    fn from_str(text: &str) -> Result<Self, PlaceError> {
        parse_port(text).map(Self).ok_or(PlaceError::Port)
    }
}

impl From<NonZeroU16> for NetworkKey {
    fn from(port: NonZeroU16) -> Self {
        Self(port)
    }
}

impl fmt::Display for NetworkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A network as the boot file, logs and metrics name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum NetworkName {
    /// `host`: the namespace that Ringway runs in.
    Host,
    /// `network-<port>`: a network of the state document, by its key.
    Port(NetworkKey),
    /// `netns:NAME`: an existing namespace, declared or not.
    Netns(NetnsName),
}

/// The name of a network namespace: a file in `/run/netns` (ip-netns(8)).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NetnsName(Box<str>);

/// `NETWORK/ip:port` or `NETWORK/name:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// Whose namespace connections are dialed from.
    pub network: NetworkName,
    /// Where it is there. In `netns:NAME` it is an address: nobody says who is asked for names.
    pub endpoint: Endpoint,
}

/// Why a text names no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// No slash.
    #[error(
        "`NETWORK/ip:port` or `NETWORK/name:port` is expected, such as network-51820/10.0.0.2:5432 \
         or host/[::1]:80"
    )]
    Shape,
    /// What is before the slash.
    #[error("the network has to be `host`, `network-PORT` or `netns:NAME`")]
    Network,
    /// The port of `network-PORT`.
    #[error("the port of the network has to be from 1 to 65535, without leading zeros")]
    Port,
    /// The name of `netns:NAME`.
    #[error("{0}")]
    Netns(#[from] NetnsNameError),
    /// What is after the slash.
    #[error("after the network, `ip:port`, `[ip]:port` or `name:port` is expected: {0}")]
    Target(EndpointError),
    /// A name in `netns:NAME`.
    #[error(
        "`netns:NAME` has no name servers: an address is expected, or `network-PORT` and its `dns`"
    )]
    NetnsTarget,
}

/// Why a text is not the name of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetnsNameError {
    /// Empty, or longer than a file name.
    #[error("the name of a namespace has from 1 to {NETNS_NAME_BYTES_MAX} bytes")]
    Length,
    /// Something that a file name cannot have, or that logs should not.
    #[error("the name of a namespace has no slash, no space and no control character")]
    Character,
    /// It would be hidden, or lead to another folder.
    #[error("the name of a namespace does not start with a dot")]
    Dot,
}

impl NetnsName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NetnsName {
    type Err = NetnsNameError;

    fn from_str(text: &str) -> Result<Self, NetnsNameError> {
        if !(1..=NETNS_NAME_BYTES_MAX).contains(&text.len()) {
            return Err(NetnsNameError::Length);
        }
        if text.starts_with('.') {
            return Err(NetnsNameError::Dot);
        }
        let wrong = |char: char| char == '/' || char.is_whitespace() || char.is_control();
        if text.contains(wrong) {
            return Err(NetnsNameError::Character);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for NetnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NetworkName {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        if text == "host" {
            return Ok(Self::Host);
        }
        if let Some(port) = text.strip_prefix("network-") {
            return port.parse().map(Self::Port);
        }
        let name = text.strip_prefix("netns:").ok_or(PlaceError::Network)?;
        Ok(Self::Netns(name.parse()?))
    }
}

impl fmt::Display for NetworkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host => f.write_str("host"),
            Self::Port(port) => write!(f, "network-{port}"),
            Self::Netns(name) => write!(f, "netns:{name}"),
        }
    }
}

/// A port as a document's key has it: from 1 to 65535, without sign or leading zeros.
fn parse_port(text: &str) -> Option<NonZeroU16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    plain.then(|| text.parse().ok()).flatten()
}

/// An address that can be connected to.
pub(crate) fn parse_target(text: &str) -> Option<SocketAddr> {
    let address: SocketAddr = text.parse().ok()?;
    (address.port() != 0).then_some(address)
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        // A namespace's name has no slash, and neither has an address or a name.
        let (network, endpoint) = text.split_once('/').ok_or(PlaceError::Shape)?;
        let network = network.parse()?;
        let endpoint = Endpoint::parse(endpoint).map_err(PlaceError::Target)?;
        if matches!(network, NetworkName::Netns(_)) && endpoint.address().is_none() {
            return Err(PlaceError::NetnsTarget);
        }
        Ok(Self { network, endpoint })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.endpoint)
    }
}

text_field!(Place, "`NETWORK/ip:port` or `NETWORK/name:port`");

#[cfg(test)]
mod tests {
    use engine_core::hostname::HostnameError;

    use super::*;

    #[test]
    fn places_are_read_and_written() {
        for text in [
            "host/127.0.0.1:80",
            "network-51820/10.0.0.2:5432",
            "network-1/[fd00::2]:443",
            "netns:blue/10.0.0.2:1",
            "host/localhost:3000",
            "network-51820/db.example:5432",
        ] {
            assert_eq!(
                text.parse::<Place>()
                    .map(|place| place.to_string())
                    .as_deref(),
                Ok(text)
            );
        }
    }

    #[test]
    fn what_names_no_place_is_refused() {
        let long = format!("netns:{}/10.0.0.1:1", "n".repeat(256));
        for (text, error) in [
            ("10.0.0.1:80", PlaceError::Shape),
            ("blue/10.0.0.1:80", PlaceError::Network),
            ("network-0/10.0.0.1:80", PlaceError::Port),
            ("network-01/10.0.0.1:80", PlaceError::Port),
            ("network-+1/10.0.0.1:80", PlaceError::Port),
            ("network-65536/10.0.0.1:80", PlaceError::Port),
            (
                "netns:/10.0.0.1:80",
                PlaceError::Netns(NetnsNameError::Length),
            ),
            (
                "netns:../10.0.0.1:80",
                PlaceError::Netns(NetnsNameError::Dot),
            ),
            (
                "netns:a b/10.0.0.1:80",
                PlaceError::Netns(NetnsNameError::Character),
            ),
            ("host/localhost", PlaceError::Target(EndpointError::Port)),
            ("host/10.0.0.1", PlaceError::Target(EndpointError::Port)),
            ("host/10.0.0.1:0", PlaceError::Target(EndpointError::Port)),
            (
                "host/10.0.0:80",
                PlaceError::Target(EndpointError::Host(HostnameError::IpLiteral)),
            ),
            ("netns:blue/db.example:5432", PlaceError::NetnsTarget),
            (&long, PlaceError::Netns(NetnsNameError::Length)),
        ] {
            assert_eq!(text.parse::<Place>(), Err(error), "{text}");
        }
    }
}
