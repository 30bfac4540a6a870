//! PROXY protocol headers, read and written independently of the product (the specification is
//! HAProxy's `proxy-protocol.txt`).

use std::{
    collections::BTreeMap,
    io::Read,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use anyhow::{Context as _, Result, bail, ensure};

/// What every version 2 header starts with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// The type of the checksum.
const CRC32C: u8 = 3;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The client's address.
    pub source: SocketAddr,
    /// The address that the client connected to.
    pub destination: SocketAddr,
    /// The additions of a version 2 header, by type.
    pub additions: BTreeMap<u8, Vec<u8>>,
}

/// The type of the name that the client asked for.
pub const AUTHORITY: u8 = 2;
/// The type of the application protocol.
pub const ALPN: u8 = 1;
/// The type of the connection's own identity.
pub const UNIQUE_ID: u8 = 5;

/// Reads a version 1 header, and not a byte more.
///
/// # Errors
/// When it is none.
pub fn read_v1(from: &mut impl Read) -> Result<Header> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        ensure!(line.len() < 107, "longer than a version 1 header may be");
        line.push(read_array::<1>(from)?[0]);
    }
    let line = String::from_utf8(line)?;
    let words: Vec<&str> = line.trim_end().split(' ').collect();
    let [
        proxy,
        family,
        source,
        destination,
        source_port,
        destination_port,
    ] = words[..]
    else {
        bail!("not six words: {line:?}");
    };
    ensure!(proxy == "PROXY", "{line:?}");
    let source = SocketAddr::new(source.parse()?, source_port.parse()?);
    let destination = SocketAddr::new(destination.parse()?, destination_port.parse()?);
    let expected = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    ensure!(family == expected, "{line:?}");
    Ok(Header {
        source,
        destination,
        additions: BTreeMap::new(),
    })
}

/// Reads a version 2 header, and not a byte more; its checksum must be there and right.
///
/// # Errors
/// When it is none.
pub fn read_v2(from: &mut impl Read) -> Result<Header> {
    let head: [u8; 16] = read_array(from)?;
    ensure!(head[..12] == SIGNATURE, "no signature: {head:?}");
    ensure!(head[12] == 0x21, "version and command are {:#x}", head[12]);
    let mut rest = vec![0; u16::from_be_bytes([head[14], head[15]]).into()];
    from.read_exact(&mut rest)?;
    let mut addresses = &rest[..];
    let (source, destination) = match head[13] {
        0x11 => {
            let [from, to]: [Ipv4Addr; 2] = [
                read_array::<4>(&mut addresses)?.into(),
                read_array::<4>(&mut addresses)?.into(),
            ];
            (from.into(), to.into())
        }
        0x21 => {
            let [from, to]: [Ipv6Addr; 2] = [
                read_array::<16>(&mut addresses)?.into(),
                read_array::<16>(&mut addresses)?.into(),
            ];
            (std::net::IpAddr::from(from), std::net::IpAddr::from(to))
        }
        family => bail!("the family is {family:#x}"),
    };
    let mut port = || anyhow::Ok(u16::from_be_bytes(read_array(&mut addresses)?));
    let (source, destination) = (
        SocketAddr::new(source, port()?),
        SocketAddr::new(destination, port()?),
    );
    let mut additions = BTreeMap::new();
    while !addresses.is_empty() {
        let [kind] = read_array(&mut addresses)?;
        let mut value = vec![0; u16::from_be_bytes(read_array(&mut addresses)?).into()];
        addresses
            .read_exact(&mut value)
            .context("an addition is cut short")?;
        ensure!(
            additions.insert(kind, value).is_none(),
            "addition {kind} comes twice"
        );
    }
    check(
        &[&head[..], &rest].concat(),
        additions.remove(&CRC32C).context("no checksum")?,
    )?;
    Ok(Header {
        source,
        destination,
        additions,
    })
}

/// A version 1 header.
pub fn v1(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.ip(), destination.ip());
    let (source, destination) = (source.port(), destination.port());
    format!("PROXY {family} {from} {to} {source} {destination}\r\n").into_bytes()
}

/// A version 2 header for IPv4, with a stray addition that readers must skip.
pub fn v2(source: (Ipv4Addr, u16), destination: (Ipv4Addr, u16)) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend([0x21, 0x11, 0, 12 + 6]);
    header.extend(source.0.octets());
    header.extend(destination.0.octets());
    header.extend(source.1.to_be_bytes());
    header.extend(destination.1.to_be_bytes());
    header.extend([0xe0, 0, 3, b'a', b'b', b'c']);
    header
}

/// A version 2 header that speaks of no client: the proxy's own connection, as health checks make.
pub fn v2_local() -> Vec<u8> {
    [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat()
}

fn check(header: &[u8], sum: Vec<u8>) -> Result<()> {
    // The sum is taken with its own field at zero (2.2.5 of the specification).
    let mut zeroed = header.to_vec();
    let at = header
        .windows(7)
        .position(|window| window[..3] == [CRC32C, 0, 4] && window[3..] == sum);
    let at = at.context("the checksum has not four bytes")?;
    zeroed[at + 3..at + 7].fill(0);
    let found = u32::from_be_bytes(sum.try_into().unwrap_or_default());
    ensure!(crc32c(&zeroed) == found, "the checksum is wrong");
    Ok(())
}

/// CRC32C, bit by bit (RFC 4960, appendix B; reflected polynomial 0x82f63b78).
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |sum: u32, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0x82f6_3b78 * (sum & 1))
        })
    })
}

fn read_array<const N: usize>(from: &mut impl Read) -> Result<[u8; N]> {
    let mut array = [0; N];
    from.read_exact(&mut array)
        .context("reading a PROXY protocol header")?;
    Ok(array)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_standard() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn what_is_written_is_read_and_a_wrong_sum_is_seen() {
        let (source, destination): (SocketAddr, SocketAddr) = (
            "192.0.2.1:1".parse().unwrap(),
            "192.0.2.2:2".parse().unwrap(),
        );
        let header = read_v1(&mut &v1(source, destination)[..]).unwrap();
        assert_eq!((header.source, header.destination), (source, destination));

        let mut bytes = v2((Ipv4Addr::LOCALHOST, 1), (Ipv4Addr::LOCALHOST, 2));
        assert!(read_v2(&mut &bytes[..]).is_err(), "no checksum");
        bytes[15] += 7;
        bytes.extend([CRC32C, 0, 4, 0, 0, 0, 0]);
        let sum = crc32c(&bytes).to_be_bytes();
        let end = bytes.len() - 4;
        bytes[end..].copy_from_slice(&sum);
        assert_eq!(read_v2(&mut &bytes[..]).unwrap().additions[&0xe0], b"abc");
        bytes[20] ^= 1;
        assert!(read_v2(&mut &bytes[..]).is_err());
    }
}
