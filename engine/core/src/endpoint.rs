//! Where a target is: an address, or a name that has to be looked up.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use crate::{
    hash::{fold, mix},
    hostname::{Hostname, HostnameError},
    ids::TargetId,
};

/// Where a target is, in the network's own namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// There.
    Address(SocketAddr),
    /// Wherever the network's name servers say.
    Name {
        /// Looked up as it is written: no domain is tried behind it.
        host: Hostname,
        /// From 1 to 65535.
        port: u16,
    },
}

/// Why a text is no endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// No port behind the last colon, or port 0.
    #[error("a port from 1 to 65535 is missing")]
    Port,
    /// What is in front of the port is neither an address nor a hostname.
    #[error(transparent)]
    Host(#[from] HostnameError),
}

impl Endpoint {
    /// Reads `ip:port`, `[ip]:port` or `name:port`.
    ///
    /// # Errors
    /// Says what is wrong with it. A name that ends in a number is none: it is a mistyped IPv4 address.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return match address.port() {
                0 => Err(EndpointError::Port),
                _ => Ok(Self::Address(address)),
            };
        }
        let (host, port) = text.rsplit_once(':').ok_or(EndpointError::Port)?;
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        let port = port.parse().ok().filter(|port| is_number && *port != 0);
        let port = port.ok_or(EndpointError::Port)?;
        let host = Hostname::parse(host.as_bytes())?;
        let last = host.as_str().rsplit('.').next().unwrap_or_default();
        if last.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(HostnameError::IpLiteral.into());
        }
        Ok(Self::Name { host, port })
    }

    /// The number that stands for it, whatever its position among other targets.
    pub fn id(&self) -> TargetId {
        let (host, port) = match self {
            Self::Address(address) => (of_ip(address.ip()), address.port()),
            Self::Name { host, port } => (fold(host.as_str().as_bytes()), *port),
        };
        TargetId(mix(host ^ u64::from(port)))
    }

    /// Its address, where that needs no lookup.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Address(address) => Some(*address),
            Self::Name { .. } => None,
        }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Name { port, .. } => *port,
        }
    }
}

/// Why a name led to no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Unresolved {
    /// The name servers say that there is no such name, or that it has no address.
    Unknown,
    /// No name server answered, or none was able to.
    Unanswered,
    /// It leads only to where no client is led: to a listener of the gateway, or from a tenant's namespace
    /// to loopback or link-local addresses.
    Forbidden,
    /// The network names no name server.
    NoServer,
    /// The worker looks up, or knows, as many names as it may.
    Busy,
}

impl Unresolved {
    /// All of them, in the order of [`Unresolved::index`].
    pub const ALL: [Self; 5] = [
        Self::Unknown,
        Self::Unanswered,
        Self::Forbidden,
        Self::NoServer,
        Self::Busy,
    ];

    /// The position in [`Unresolved::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The word in logs, records and the status.
    pub fn label(self) -> &'static str {
        match self {
            Self::Unknown => "name_unknown",
            Self::Unanswered => "name_unanswered",
            Self::Forbidden => "name_forbidden",
            Self::NoServer => "no_name_server",
            Self::Busy => "names_busy",
        }
    }
}

fn of_ip(ip: IpAddr) -> u64 {
    match ip {
        IpAddr::V4(v4) => fold(&v4.octets()),
        IpAddr::V6(v6) => fold(&v6.octets()),
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_are_read_as_they_are_written() {
        for text in [
            "10.0.0.2:80",
            "[fd00::2]:80",
            "a.example:443",
            "localhost:1",
        ] {
            let endpoint = Endpoint::parse(text).unwrap();
            assert_eq!(endpoint.to_string(), text);
            assert_eq!(
                endpoint.address().is_some(),
                text.parse::<SocketAddr>().is_ok()
            );
        }
        assert_eq!(
            Endpoint::parse("A.Example.:443").unwrap().to_string(),
            "a.example:443"
        );
    }

    #[test]
    fn what_is_mistyped_is_no_name() {
        for text in [
            "10.0.0.2",
            "10.0.0.2:0",
            "10.0.0:80",
            "10.0.0.256:80",
            "a.example",
            "a.example:",
            "a.example:0",
            "a.example:+80",
            "a.example:65536",
            ":80",
            "fd00::2:80",
            "a b:80",
        ] {
            assert!(Endpoint::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_endpoint_has_one_id_and_another_has_another() {
        let id = |text| Endpoint::parse(text).unwrap().id();
        assert_eq!(id("a.example:80"), id("A.EXAMPLE.:80"));
        let others = [
            "a.example:80",
            "a.example:81",
            "b.example:80",
            "10.0.0.2:80",
        ];
        for (index, one) in others.iter().enumerate() {
            for other in &others[..index] {
                assert_ne!(id(one), id(other), "{one} {other}");
            }
        }
    }
}
