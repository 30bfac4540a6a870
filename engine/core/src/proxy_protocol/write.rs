//! Writing headers.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{
    Version,
    crc32c::Crc32c,
    v1,
    v2::{
        COMMAND_LOCAL, COMMAND_PROXY, FIXED_BYTES, SIGNATURE, TCP4, TCP6, TYPE_ALPN,
        TYPE_AUTHORITY, TYPE_CRC32C, TYPE_UNIQUE_ID, VERSION_2,
    },
};

/// Longest value of a TLV that is written: no hostname and no protocol name is longer.
///
/// With it a header has at most 594 bytes and goes out in one segment.
pub const VALUE_BYTES_MAX: usize = u8::MAX as usize;

/// What a header is to say. The text form carries the addresses alone.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// The client.
    pub source: SocketAddr,
    /// The address that the client dialed.
    pub destination: SocketAddr,
    /// The host that the client named (`PP2_TYPE_AUTHORITY`).
    pub authority: Option<&'a str>,
    /// The protocol that the client offers first (`PP2_TYPE_ALPN`).
    pub alpn: Option<&'a [u8]>,
    /// What the connection is called in logs (`PP2_TYPE_UNIQUE_ID`).
    pub unique_id: Option<[u8; 16]>,
    /// Whether to add a checksum (`PP2_TYPE_CRC32C`).
    pub crc32c: bool,
}

/// Appends a header to `out`.
///
/// IPv4 addresses that an IPv6 socket shows in mapped form are written as IPv4. Where only one of
/// the two is IPv4, a header has no place for both, and that one is written in mapped form (RFC
/// 4291 section 2.5.5.2). An authority or ALPN of more than [`VALUE_BYTES_MAX`] bytes, which TLS
/// does not produce, is left out: half a name would be another name.
pub fn write(version: Version, header: &Outgoing<'_>, out: &mut Vec<u8>) {
    match version {
        Version::V1 => write_v1(header, out),
        Version::V2 => write_v2(header, out),
    }
}

/// Appends the header of a connection that is the sender's own, such as a health check: LOCAL
/// (section 2.2), which has the receiver take the socket's own addresses. The text form has no such
/// command; `UNKNOWN` means the same there (section 2.1).
pub fn write_local(version: Version, out: &mut Vec<u8>) {
    match version {
        Version::V1 => {
            out.extend_from_slice(v1::SIGNATURE);
            out.extend_from_slice(b"UNKNOWN\r\n");
        }
        Version::V2 => {
            out.extend_from_slice(SIGNATURE);
            // Neither family nor transport, and nothing that follows.
            out.extend_from_slice(&[VERSION_2 | COMMAND_LOCAL, 0, 0, 0]);
        }
    }
}

fn write_v1(header: &Outgoing<'_>, out: &mut Vec<u8>) {
    let (source, destination) = same_family(header.source.ip(), header.destination.ip());
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let ports = (header.source.port(), header.destination.port());
    let line = format!(
        "{family} {source} {destination} {} {}\r\n",
        ports.0, ports.1
    );
    out.extend_from_slice(v1::SIGNATURE);
    out.extend_from_slice(line.as_bytes());
}

fn write_v2(header: &Outgoing<'_>, out: &mut Vec<u8>) {
    let start = out.len();
    let (source, destination) = same_family(header.source.ip(), header.destination.ip());
    let family = if source.is_ipv4() { TCP4 } else { TCP6 };
    out.extend_from_slice(SIGNATURE);
    out.extend_from_slice(&[VERSION_2 | COMMAND_PROXY, family]);
    let len_at = out.len();
    out.extend_from_slice(&[0, 0]);
    write_address(source, out);
    write_address(destination, out);
    out.extend_from_slice(&header.source.port().to_be_bytes());
    out.extend_from_slice(&header.destination.port().to_be_bytes());

    let authority = header.authority.map(str::as_bytes);
    let unique_id = header.unique_id.as_ref().map(<[u8; 16]>::as_slice);
    write_tlv(TYPE_ALPN, header.alpn, out);
    write_tlv(TYPE_AUTHORITY, authority, out);
    write_tlv(TYPE_UNIQUE_ID, unique_id, out);
    write_tlv(TYPE_CRC32C, header.crc32c.then_some(&[0; 4]), out);

    // Addresses and four bounded TLVs: always within 16 bits.
    let rest_len = u16::try_from(out.len() - start - FIXED_BYTES).unwrap_or(u16::MAX);
    out[len_at..len_at + 2].copy_from_slice(&rest_len.to_be_bytes());
    if header.crc32c {
        let sum = Crc32c::new().update(&out[start..]).finish();
        let sum_at = out.len() - 4;
        out[sum_at..].copy_from_slice(&sum.to_be_bytes());
    }
}

fn same_family(source: IpAddr, destination: IpAddr) -> (IpAddr, IpAddr) {
    let (source, destination) = (source.to_canonical(), destination.to_canonical());
    if source.is_ipv4() == destination.is_ipv4() {
        (source, destination)
    } else {
        (mapped(source).into(), mapped(destination).into())
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn write_address(address: IpAddr, out: &mut Vec<u8>) {
    match address {
        IpAddr::V4(address) => out.extend_from_slice(&address.octets()),
        IpAddr::V6(address) => out.extend_from_slice(&address.octets()),
    }
}

fn write_tlv(kind: u8, value: Option<&[u8]>, out: &mut Vec<u8>) {
    let Some(value) = value else { return };
    // The bound is what one byte holds, so the high byte of the length is zero.
    let Ok(value_len) = u8::try_from(value.len()) else {
        return;
    };
    out.extend_from_slice(&[kind, 0, value_len]);
    out.extend_from_slice(value);
}
