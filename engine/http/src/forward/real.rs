//! Whose request it is, behind proxies that are trusted.

use std::net::{IpAddr, SocketAddr};

use crate::{field::Fields, octet};

/// The client of a request that `peer` sent, a proxy that is trusted: the last address in
/// `X-Forwarded-For` that is not a trusted proxy's, as nginx's `real_ip_recursive` finds it. Each
/// proxy appends where it had the request from, so what a client wrote there itself stands before
/// that address, and is not looked at.
///
/// An element that is no address ends the search: the last proxy before it is the client then.
/// Without the field, `peer` is. The port is 0 where none is named.
pub fn real_client(
    peer: SocketAddr,
    fields: Fields<'_>,
    trusts: impl Fn(IpAddr) -> bool,
) -> SocketAddr {
    let lines: Vec<&[u8]> = fields.all("x-forwarded-for").collect();
    let elements = lines
        .iter()
        .rev()
        .flat_map(|line| line.rsplit(|&byte| byte == b','));
    let mut client = peer;
    for element in elements.map(octet::trim).filter(|it| !it.is_empty()) {
        let Some(before) = address(element) else {
            return client;
        };
        client = before;
        if !trusts(before.ip()) {
            return client;
        }
    }
    client
}

/// An address with or without a port; IPv6 also in brackets.
fn address(element: &[u8]) -> Option<SocketAddr> {
    let text = std::str::from_utf8(element).ok()?;
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    let of_ip = |ip: IpAddr| SocketAddr::new(ip, 0);
    let parsed = bare.parse().map(of_ip).or_else(|_| text.parse()).ok()?;
    Some(SocketAddr::new(parsed.ip().to_canonical(), parsed.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_address_that_is_not_a_proxys_is_the_client() {
        for (lines, expected) in [
            ("", "10.0.0.1:9"),
            ("x-forwarded-for: 192.0.2.7\r\n", "192.0.2.7:0"),
            ("X-Forwarded-For: 192.0.2.7:4711\r\n", "192.0.2.7:4711"),
            ("X-Forwarded-For: [2001:db8::7]\r\n", "[2001:db8::7]:0"),
            ("X-Forwarded-For: [2001:db8::7]:80\r\n", "[2001:db8::7]:80"),
            ("X-Forwarded-For: 2001:db8::7\r\n", "[2001:db8::7]:0"),
            ("X-Forwarded-For: ::ffff:192.0.2.7\r\n", "192.0.2.7:0"),
            // What a client wrote itself stands before what the proxies append.
            ("X-Forwarded-For: 127.0.0.1, 192.0.2.7\r\n", "192.0.2.7:0"),
            (
                "X-Forwarded-For: 127.0.0.1, 192.0.2.7, 10.0.0.2,\r\n",
                "192.0.2.7:0",
            ),
            (
                "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-For: 10.0.0.2\r\n",
                "192.0.2.7:0",
            ),
            ("X-Forwarded-For: 10.0.0.3, 10.0.0.2\r\n", "10.0.0.3:0"),
            // Nothing is known before what cannot be read.
            ("X-Forwarded-For: 192.0.2.7, unknown\r\n", "10.0.0.1:9"),
            (
                "X-Forwarded-For: 192.0.2.7, \u{ff}, 10.0.0.2\r\n",
                "10.0.0.2:0",
            ),
            ("X-Forwarded-For: , ,\r\n", "10.0.0.1:9"),
        ] {
            let fields = Fields::checked(lines.as_bytes());
            let trusts = |ip: IpAddr| ip.to_string().starts_with("10.");
            let client = real_client("10.0.0.1:9".parse().unwrap(), fields, trusts);
            assert_eq!(client.to_string(), expected, "{lines}");
        }
    }
}
