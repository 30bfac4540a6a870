//! Where a connection comes from.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

/// The other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// As in the audit log.
    pub(crate) text: Arc<str>,
    /// What attempts and connections are counted by.
    pub(crate) prefix: Prefix,
}

/// Who is taken for one: an IPv4 address, an IPv6 /64 (the smallest that a site gets, RFC 6177), or
/// a user of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Prefix {
    Ip(IpAddr),
    User(u32),
}

impl Source {
    pub(crate) fn tcp(address: SocketAddr) -> Self {
        let ip = address.ip().to_canonical();
        let prefix = match ip {
            IpAddr::V4(_) => ip,
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        };
        Self {
            text: ip.to_string().into(),
            prefix: Prefix::Ip(prefix),
        }
    }

    pub(crate) fn unix(user: u32) -> Self {
        Self {
            text: format!("unix:uid={user}").into(),
            prefix: Prefix::User(user),
        }
    }

    /// Whether a web page in a browser could be behind it: browsers do not speak over unix sockets.
    pub(crate) fn may_be_browser(&self) -> bool {
        matches!(self.prefix, Prefix::Ip(_))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_one_ipv6_network_count_as_one() {
        let prefix = |text: &str| Source::tcp(text.parse().unwrap()).prefix;
        assert_eq!(prefix("[2001:db8::1]:1"), prefix("[2001:db8::2]:2"));
        assert_ne!(prefix("[2001:db8::1]:1"), prefix("[2001:db8:0:1::1]:1"));
        assert_ne!(prefix("192.0.2.1:1"), prefix("192.0.2.2:1"));
        assert_eq!(prefix("[::ffff:192.0.2.1]:1"), prefix("192.0.2.1:9"));
    }
}
