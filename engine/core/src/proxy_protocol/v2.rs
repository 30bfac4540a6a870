//! The binary form (section 2.2): signature, version and command, family and transport, length,
//! addresses, TLVs.

use std::{
    net::{IpAddr, SocketAddr},
    str,
};

use super::{BadHeader, Header, crc32c::Crc32c};

/// Longest header that is read. The format allows 65,551 bytes, and asks receivers for 536 (section
/// 2.2); this leaves room for a client certificate's TLVs and bounds what a sender makes us keep.
pub const V2_BYTES_MAX: usize = 4096;

/// What every binary header begins with: no line of any text protocol.
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The signature, then version and command, family and transport, and the length of the rest.
pub(super) const FIXED_BYTES: usize = 16;

pub(super) const VERSION_2: u8 = 0x20;
pub(super) const COMMAND_LOCAL: u8 = 0;
pub(super) const COMMAND_PROXY: u8 = 1;
pub(super) const TCP4: u8 = 0x11;
pub(super) const TCP6: u8 = 0x21;

pub(super) const TYPE_ALPN: u8 = 0x01;
pub(super) const TYPE_AUTHORITY: u8 = 0x02;
pub(super) const TYPE_CRC32C: u8 = 0x03;
pub(super) const TYPE_UNIQUE_ID: u8 = 0x05;

/// Type and length of a TLV.
pub(super) const TLV_HEADER_BYTES: usize = 3;
/// Longest unique id (section 2.2.5).
const UNIQUE_ID_BYTES_MAX: usize = 128;

/// Reads a header from its signature on. The fixed part is judged byte by byte as it arrives.
pub(super) fn read(seen: &[u8]) -> Result<Option<Header>, BadHeader> {
    let Some(&command) = seen.get(SIGNATURE.len()) else {
        return Ok(None);
    };
    if command & 0xf0 != VERSION_2 {
        return Err(BadHeader::Version);
    }
    let local = match command & 0x0f {
        COMMAND_LOCAL => true,
        COMMAND_PROXY => false,
        _ => return Err(BadHeader::Command),
    };
    let Some(&family) = seen.get(SIGNATURE.len() + 1) else {
        return Ok(None);
    };
    // The family of a LOCAL header is to be ignored, and so is all that follows.
    let addresses_len = if local { 0 } else { addresses_len(family)? };
    let Some(fixed) = seen.first_chunk::<FIXED_BYTES>() else {
        return Ok(None);
    };
    let rest_len = usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
    let len = FIXED_BYTES + rest_len;
    if len > V2_BYTES_MAX {
        return Err(BadHeader::TooLong);
    }
    if rest_len < addresses_len {
        return Err(BadHeader::TooShort);
    }
    let Some(header) = seen.get(..len) else {
        return Ok(None);
    };
    if local {
        return Ok(Some(bare(len)));
    }
    let (addresses, _) = header[FIXED_BYTES..].split_at(addresses_len);
    let mut read = Header {
        endpoints: endpoints(family, addresses),
        ..bare(len)
    };
    read_tlvs(header, FIXED_BYTES + addresses_len, &mut read)?;
    Ok(Some(read))
}

fn bare(len: usize) -> Header {
    Header {
        len,
        endpoints: None,
        authority: None,
        unique_id: None,
    }
}

/// Bytes that the addresses of a family take, where the transport is one that exists.
fn addresses_len(family: u8) -> Result<usize, BadHeader> {
    if family & 0x0f > 2 {
        return Err(BadHeader::Protocol);
    }
    match family >> 4 {
        0 => Ok(0),
        1 => Ok(2 * (4 + 2)),
        2 => Ok(2 * (16 + 2)),
        // Two paths of UNIX sockets.
        3 => Ok(2 * 108),
        _ => Err(BadHeader::Protocol),
    }
}

/// The addresses of TCP over IP; those of datagrams and UNIX sockets say nothing here.
fn endpoints(family: u8, addresses: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    match family {
        TCP4 => pair::<4>(addresses),
        TCP6 => pair::<16>(addresses),
        _ => None,
    }
}

fn pair<const N: usize>(addresses: &[u8]) -> Option<(SocketAddr, SocketAddr)>
where
    [u8; N]: Into<IpAddr>,
{
    let (&source, rest) = addresses.split_first_chunk::<N>()?;
    let (&destination, rest) = rest.split_first_chunk::<N>()?;
    let (&source_port, rest) = rest.split_first_chunk()?;
    let &destination_port = rest.first_chunk()?;
    Some((
        SocketAddr::new(source.into(), u16::from_be_bytes(source_port)),
        SocketAddr::new(destination.into(), u16::from_be_bytes(destination_port)),
    ))
}

/// Reads the TLVs of a whole header, which begin at `at`, and checks the CRC32C.
fn read_tlvs(header: &[u8], mut at: usize, read: &mut Header) -> Result<(), BadHeader> {
    let mut checked = false;
    while let Some(rest) = header.get(at..).filter(|rest| !rest.is_empty()) {
        let Some((&[kind, high, low], rest)) = rest.split_first_chunk() else {
            return Err(BadHeader::Tlv);
        };
        at += TLV_HEADER_BYTES;
        let value_len = usize::from(u16::from_be_bytes([high, low]));
        let value = rest.get(..value_len).ok_or(BadHeader::Tlv)?;
        match kind {
            TYPE_AUTHORITY => {
                let authority = str::from_utf8(value).map_err(|_| BadHeader::Tlv)?;
                read.authority = Some(authority.into());
            }
            TYPE_UNIQUE_ID if value_len <= UNIQUE_ID_BYTES_MAX => {
                read.unique_id = Some(value.into());
            }
            TYPE_UNIQUE_ID => return Err(BadHeader::Tlv),
            // A second checksum could not have been made: each would cover the other.
            TYPE_CRC32C if checked => return Err(BadHeader::Tlv),
            TYPE_CRC32C => {
                checked = true;
                check_crc32c(header, at, value)?;
            }
            // Unknown types are to be ignored (section 2.2).
            _ => {}
        }
        at += value_len;
    }
    Ok(())
}

/// The checksum covers the whole header, with zeros in its own place (section 2.2.3).
fn check_crc32c(header: &[u8], at: usize, value: &[u8]) -> Result<(), BadHeader> {
    let claimed: [u8; 4] = value.try_into().map_err(|_| BadHeader::Tlv)?;
    let sum = Crc32c::new()
        .update(&header[..at])
        .update(&[0; 4])
        .update(&header[at + claimed.len()..]);
    if sum.finish() == u32::from_be_bytes(claimed) {
        Ok(())
    } else {
        Err(BadHeader::Checksum)
    }
}
