//! The text form (section 2.1): `PROXY TCP4 192.0.2.1 198.51.100.7 56324 443`, CR, LF.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    str::{self, FromStr},
};

use super::{BadHeader, Header};

/// Longest header with its CR LF (section 2.1).
pub const V1_BYTES_MAX: usize = 107;

/// What every text header begins with.
pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// Reads what follows the signature.
pub(super) fn read(body: &[u8]) -> Result<Option<Header>, BadHeader> {
    let body_max = V1_BYTES_MAX - SIGNATURE.len();
    let within = &body[..body.len().min(body_max)];
    let not_whole = if within.len() == body_max {
        Err(BadHeader::TooLong)
    } else {
        Ok(None)
    };
    let Some(end) = within.iter().position(|byte| matches!(byte, b'\r' | b'\n')) else {
        return not_whole;
    };
    match &within[end..] {
        [b'\r', b'\n', ..] => {}
        [b'\r'] => return not_whole,
        _ => return Err(BadHeader::LineEnd),
    }
    Ok(Some(Header {
        len: SIGNATURE.len() + end + 2,
        endpoints: read_line(&within[..end])?,
        authority: None,
        unique_id: None,
    }))
}

fn read_line(line: &[u8]) -> Result<Option<(SocketAddr, SocketAddr)>, BadHeader> {
    let mut fields = line.split(|&byte| byte == b' ');
    let read_address = match fields.next().unwrap_or_default() {
        // Whatever follows on the line is to be ignored.
        b"UNKNOWN" => return Ok(None),
        b"TCP4" => address::<Ipv4Addr>,
        b"TCP6" => address::<Ipv6Addr>,
        _ => return Err(BadHeader::Protocol),
    };
    let mut field = || fields.next().ok_or(BadHeader::Fields);
    let (source, destination) = (field()?, field()?);
    let (source_port, destination_port) = (field()?, field()?);
    if fields.next().is_some() {
        return Err(BadHeader::Fields);
    }
    Ok(Some((
        SocketAddr::new(read_address(source)?, port(source_port)?),
        SocketAddr::new(read_address(destination)?, port(destination_port)?),
    )))
}

fn address<A: FromStr + Into<IpAddr>>(field: &[u8]) -> Result<IpAddr, BadHeader> {
    let address = str::from_utf8(field).ok().and_then(|it| it.parse().ok());
    address.map(A::into).ok_or(BadHeader::Address)
}

fn port(field: &[u8]) -> Result<u16, BadHeader> {
    let canonical = match field {
        [b'0'] => true,
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    let digits = str::from_utf8(field).ok().filter(|_| canonical);
    digits.and_then(|it| it.parse().ok()).ok_or(BadHeader::Port)
}
