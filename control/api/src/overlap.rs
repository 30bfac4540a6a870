//! Which addresses cannot be listened at side by side.

use std::net::SocketAddr;

/// Whether two addresses of one namespace have connections in common, so that only one of them can be
/// a listener's. `[::]` takes IPv4 as well; port 0 is another port each time.
pub fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let takes = |one: SocketAddr, other: SocketAddr| {
        one.ip().is_unspecified() && (one.is_ipv6() || other.is_ipv4())
    };
    let same_ip = one.ip() == other.ip();
    let is_fixed = one.port() != 0 && one.port() == other.port();
    is_fixed && (same_ip || takes(one, other) || takes(other, one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_overlap_by_port_and_by_what_they_stand_for() {
        for (one, other, expected) in [
            ("10.0.0.1:80", "10.0.0.1:80", true),
            ("10.0.0.1:80", "10.0.0.1:81", false),
            ("10.0.0.1:80", "10.0.0.2:80", false),
            ("0.0.0.0:80", "10.0.0.2:80", true),
            ("[::]:80", "10.0.0.2:80", true),
            ("[::]:80", "[fd00::1]:80", true),
            ("[::]:80", "0.0.0.0:80", true),
            ("0.0.0.0:80", "[fd00::1]:80", false),
            ("0.0.0.0:0", "0.0.0.0:0", false),
        ] {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }
}
