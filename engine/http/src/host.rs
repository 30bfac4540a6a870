//! The host that a request asks for.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::Deref,
};

use engine_core::hostname::{HOSTNAME_BYTES_MAX, Hostname, LABEL_BYTES_MAX};

use crate::method::Scheme;

/// A host with at most a port, as in Host, `:authority` and targets in absolute form (RFC 9110
/// section 7.2, RFC 3986 section 3.2).
///
/// Stricter than the grammar: a name must be one that routes can be declared for, an address one
/// of IPv4 or IPv6, a port a number that exists. User information is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Host<'a> {
    written: &'a str,
    text: &'a str,
    kind: Kind,
    port: Option<u16>,
}

/// What a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A name.
    Name,
    /// An address.
    Ip(IpAddr),
}

impl<'a> Host<'a> {
    /// Parses `host` or `host:port`. `None` is what is neither. A port without digits is none (RFC
    /// 3986 section 3.2.3), and its colon is not passed on.
    pub fn parse(raw: &'a [u8]) -> Option<Self> {
        let written = std::str::from_utf8(raw).ok()?;
        let written = match written.strip_suffix(':') {
            Some(bare) if !bare.is_empty() && (bare.ends_with(']') || !bare.contains(':')) => bare,
            Some(_) | None => written,
        };
        let (text, port) = match written.rfind(']') {
            Some(end) => match &written[end + 1..] {
                "" => (written, None),
                rest => (&written[..=end], Some(rest.strip_prefix(':')?)),
            },
            None => match written.split_once(':') {
                Some((text, port)) => (text, Some(port)),
                None => (written, None),
            },
        };
        let port = match port {
            Some(port) => Some(parse_port(port)?),
            None => None,
        };
        let kind = if let Some(inner) = text.strip_prefix('[') {
            Kind::Ip(inner.strip_suffix(']')?.parse::<Ipv6Addr>().ok()?.into())
        } else if let Some(v4) = parse_ipv4(text) {
            Kind::Ip(v4.into())
        } else if is_hostname(text.as_bytes()) {
            Kind::Name
        } else {
            return None;
        };
        Some(Self {
            written,
            text,
            kind,
            port,
        })
    }

    /// As it was sent, with the port, if there is one.
    pub fn as_str(self) -> &'a str {
        self.written
    }

    /// As it was sent, without the port; an IPv6 address is in brackets.
    pub fn text(self) -> &'a str {
        self.text
    }

    /// What it is.
    pub fn kind(self) -> Kind {
        self.kind
    }

    /// The port, where one was sent.
    pub fn port(self) -> Option<u16> {
        self.port
    }

    /// What a certificate has to be for: the name, folded, or the address without brackets.
    pub fn to_proved(self) -> Option<Box<str>> {
        match self.kind {
            Kind::Ip(address) => Some(address.to_string().into()),
            Kind::Name => self.folded().map(|name| Box::from(&*name)),
        }
    }

    /// The name in the form that routes are looked up by; `None` for an address.
    pub fn folded(self) -> Option<Folded> {
        let text = match self.kind {
            Kind::Name => self.text.strip_suffix('.').unwrap_or(self.text),
            Kind::Ip(_) => return None,
        };
        let mut folded = Folded {
            bytes: [0; HOSTNAME_BYTES_MAX],
            len: text.len(),
        };
        let place = folded.bytes.get_mut(..text.len())?;
        place.copy_from_slice(text.as_bytes());
        place.make_ascii_lowercase();
        Some(folded)
    }

    /// The name as the type that routes are declared with; `None` for an address. Allocates.
    pub fn hostname(self) -> Option<Hostname> {
        match self.kind {
            Kind::Name => Hostname::parse(self.text.as_bytes()).ok(),
            Kind::Ip(_) => None,
        }
    }

    /// Whether two hosts are the same place, when what they do not say is filled in by the scheme.
    pub fn is_same(self, other: Host<'_>, scheme: Scheme) -> bool {
        let port = |host: Host<'_>| host.port.unwrap_or(scheme.default_port());
        let name = |host: Host<'_>| match host.kind {
            Kind::Name => None,
            Kind::Ip(ip) => Some(ip),
        };
        let bare = |text: &str| text.strip_suffix('.').map_or(text.len(), str::len);
        let (a, b) = (
            &self.text[..bare(self.text)],
            &other.text[..bare(other.text)],
        );
        port(self) == port(other)
            && name(self) == name(other)
            && (self.kind != Kind::Name || a.eq_ignore_ascii_case(b))
    }
}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.written)
    }
}

/// A hostname in lower case and without the final dot, on the stack.
#[derive(Clone, Copy, Debug)]
pub struct Folded {
    bytes: [u8; HOSTNAME_BYTES_MAX],
    len: usize,
}

impl Deref for Folded {
    type Target = str;

    fn deref(&self) -> &str {
        let bytes = self.bytes.get(..self.len).unwrap_or_default();
        std::str::from_utf8(bytes).unwrap_or_default()
    }
}

/// An IPv4 address, also with a dot at its end. Hardly any name ends in a digit.
fn parse_ipv4(text: &str) -> Option<Ipv4Addr> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let digit = text.as_bytes().last().is_some_and(u8::is_ascii_digit);
    digit.then(|| text.parse().ok()).flatten()
}

/// Digits without a sign, from 1 to 65,535.
fn parse_port(digits: &str) -> Option<u16> {
    let known =
        !digits.is_empty() && digits.len() <= 5 && digits.bytes().all(|b| b.is_ascii_digit());
    let port = known.then(|| digits.parse().ok()).flatten()?;
    (port != 0).then_some(port)
}

/// The rules of [`Hostname::parse`], without the name that it allocates.
fn is_hostname(raw: &[u8]) -> bool {
    let raw = raw.strip_suffix(b".").unwrap_or(raw);
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=HOSTNAME_BYTES_MAX).contains(&raw.len())
        && raw.split(|&byte| byte == b'.').all(|label| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && label.first() != Some(&b'-')
                && label.last() != Some(&b'-')
                && label.iter().all(known)
        })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_addresses_and_ports_are_told_apart() {
        let host = Host::parse(b"WWW.Example.COM.:8080").unwrap();
        assert_eq!(host.kind(), Kind::Name);
        assert_eq!(&*host.folded().unwrap(), "www.example.com");
        assert_eq!(host.hostname().unwrap().as_str(), "www.example.com");
        assert_eq!((host.text(), host.port()), ("WWW.Example.COM.", Some(8080)));
        let v6 = Host::parse(b"[2001:db8::1]:443").unwrap();
        assert_eq!(v6.kind(), Kind::Ip("2001:db8::1".parse().unwrap()));
        assert_eq!((v6.text(), v6.port()), ("[2001:db8::1]", Some(443)));
        let v4 = Host::parse(b"10.0.0.1").unwrap();
        assert_eq!(v4.kind(), Kind::Ip("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_host_is_refused() {
        for raw in [
            "",
            ":80",
            ":",
            "a::",
            "a:80:",
            "::1:",
            "a:b",
            "a:+80",
            "a:080808",
            "a:0",
            "a:65536",
            "a:80:80",
            "a b",
            "a/b",
            "user@a",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]::",
            "[fe80::1%25eth0]",
            "[10.0.0.1]",
            "a..b",
            ".a",
            "-a.b",
            "a,b",
            "a\\b",
            "a\tb",
            "ü",
            "a?b",
            "a#b",
            "*",
            "[v1.x]",
            "a]:80",
        ] {
            assert_eq!(Host::parse(raw.as_bytes()), None, "{raw}");
        }
    }

    #[test]
    fn a_port_without_digits_is_none_and_its_colon_goes() {
        for (raw, bare) in [
            ("a.test:", "a.test"),
            ("[::1]:", "[::1]"),
            ("10.0.0.1:", "10.0.0.1"),
        ] {
            let host = Host::parse(raw.as_bytes()).unwrap();
            assert_eq!((host.as_str(), host.text()), (bare, bare), "{raw}");
            assert_eq!(host.port(), None, "{raw}");
        }
    }

    #[test]
    fn the_same_host_may_be_written_in_several_ways() {
        let same = |a: &str, b: &str| {
            let (a, b) = (
                Host::parse(a.as_bytes()).unwrap(),
                Host::parse(b.as_bytes()).unwrap(),
            );
            a.is_same(b, Scheme::Http)
        };
        assert!(same("A.example", "a.example:80"));
        assert!(same("a.example.", "a.example"));
        assert!(same("[::1]", "[0:0::1]"));
        assert!(!same("a.example", "a.example:443"));
        assert!(!same("a.example", "b.example"));
        assert!(!same("10.0.0.1", "10.0.0.2"));
    }

    proptest! {
        #[test]
        fn a_name_is_what_routes_can_be_declared_for(raw in "[-a-cA-C0-9_.]{0,70}") {
            let host = Host::parse(raw.as_bytes());
            let name = Hostname::parse(raw.as_bytes());
            prop_assert_eq!(
                host.is_some_and(|host| host.kind() == Kind::Name),
                name.is_ok()
            );
        }
    }
}
