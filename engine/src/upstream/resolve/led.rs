//! To which addresses a name may lead.

use std::net::IpAddr;

use engine_core::ids::NetworkId;

use crate::{context::snapshot::Bound, upstream::resolve::entry::Registration};

/// Whether a name may lead to an address at all: nowhere to all or to none, and from a tenant's namespace
/// not to what only that namespace has. `is_home`: the namespace is the one that the gateway runs in.
pub(super) fn may_be_used(ip: IpAddr, is_home: bool) -> bool {
    let is_broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    if ip.is_unspecified() || ip.is_multicast() || is_broadcast {
        return false;
    }
    is_home || !(ip.is_loopback() || is_link_local(ip))
}

/// Whether an address and a port are a listener of the gateway, dialed for a network. Beyond the gateway's own
/// namespace that can only be known of addresses that are the same machine's everywhere, since a private one is
/// another machine's there, and of the listeners of the network itself.
pub(super) fn is_listener<'a>(
    place: Registration,
    port: u16,
    (network, is_home): (NetworkId, bool),
    bound: impl Iterator<Item = &'a Bound>,
) -> bool {
    let mut same_port = bound.filter(|bound| bound.address.port() == port);
    same_port.any(|bound| {
        let own = bound.address.ip().to_canonical();
        let is_same = own == place.ip;
        let is_at_home = match own.is_unspecified() {
            true => place.is_at_home || place.ip.is_loopback(),
            false => is_same,
        };
        let is_here = is_same || own.is_unspecified() && place.is_here;
        (is_home || is_global(place.ip)) && is_at_home || bound.network == Some(network) && is_here
    })
}

/// Whether an address is one machine's, wherever it is dialed from.
pub(super) fn is_global(ip: IpAddr) -> bool {
    if ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || is_link_local(ip) {
        return false;
    }
    match ip {
        IpAddr::V4(v4) => {
            let [first, second, ..] = v4.octets();
            // Shared between carriers and their customers (RFC 6598).
            let is_shared = first == 100 && second & 0xc0 == 64;
            !(v4.is_private() || is_shared || v4.is_broadcast())
        }
        IpAddr::V6(v6) => !v6.is_unique_local(),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn loopback_and_link_local_are_for_the_hosts_networks_alone() {
        for text in [
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "169.254.169.254",
            "fe80::1",
        ] {
            assert!(may_be_used(ip(text), true), "{text}");
            assert!(!may_be_used(ip(text), false), "{text}");
        }
        for text in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255"] {
            assert!(!may_be_used(ip(text), true), "{text}");
        }
        for text in ["10.0.0.1", "198.51.100.1", "fd00::1", "2001:db8::1"] {
            assert!(may_be_used(ip(text), false), "{text}");
        }
    }

    #[test]
    fn a_listener_is_an_address_and_a_port() {
        let listeners = [
            ("198.51.100.1:443", None),
            ("0.0.0.0:80", None),
            ("127.0.0.1:8080", None),
            ("[::]:25", Some(NetworkId(1))),
        ];
        let bound = listeners.map(|(address, network)| Bound {
            address: address.parse().unwrap(),
            network,
        });
        let is = |text: &str, port, is_at_home, is_home| {
            let place = Registration {
                ip: ip(text),
                is_at_home,
                is_here: true,
            };
            is_listener(place, port, (NetworkId(1), is_home), bound.iter())
        };
        assert!(is("10.0.0.1", 25, false, false), "the network's own");
        assert!(is("198.51.100.1", 443, true, true));
        assert!(!is("198.51.100.1", 444, true, true));
        assert!(!is("198.51.100.2", 443, true, true));
        assert!(
            is("198.51.100.1", 443, true, false),
            "it is there from everywhere"
        );
        assert!(is("10.0.0.1", 80, true, true) && is("127.0.0.5", 80, false, true));
        assert!(!is("10.0.0.1", 80, false, true), "another machine's");
        assert!(!is("10.0.0.1", 80, true, false), "another machine's there");
        assert!(is("127.0.0.1", 8080, false, true));
        assert!(!is("127.0.0.1", 3000, false, true));
    }
}
