//! The PROXY protocol: read from trusted sources, written to targets that ask for it.
//!
//! Sections are those of HAProxy's doc/proxy-protocol.txt (2020/03/05 and later).
//!
//! Both directions are written here rather than taken from the proxy-header crate, which serves the
//! tests as a second opinion. Its reader judges a text header by how it was cut (one of more than
//! 107 bytes passes when it comes at once), takes `+80` for a port and any byte for the first
//! space, refuses LOCAL headers of an unknown family, checks no CRC32C, and waits for as many as
//! 65,551 bytes.

mod crc32c;
#[cfg(test)]
mod tests;
mod v1;
mod v2;
mod write;

use std::net::SocketAddr;

pub use v1::V1_BYTES_MAX;
pub use v2::V2_BYTES_MAX;
pub use write::{Outgoing, VALUE_BYTES_MAX, write, write_local};

/// Which form of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Version {
    /// The text form.
    V1,
    /// The binary form, with TLVs.
    V2,
}

/// What the bytes so far amount to. Everything but [`Reading::NeedMore`] is final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading {
    /// The beginning of a header.
    NeedMore,
    /// A whole header; the protocol follows it.
    Header(Header),
    /// No header: told at the first byte that makes it certain.
    NotProxy,
    /// A header that breaks the rules. The connection must end: to take its bytes for the protocol's
    /// would let the sender choose who it seems to be (section 2).
    Bad(BadHeader),
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the header: how many to skip.
    pub len: usize,
    /// The client and the address it dialed, or None where the socket's own addresses count: for
    /// LOCAL and UNKNOWN (health checks of the sender), and for what is no TCP connection over IP.
    pub endpoints: Option<(SocketAddr, SocketAddr)>,
    /// The host that the client named to the sender, as it was sent (`PP2_TYPE_AUTHORITY`, section
    /// 2.2.2).
    pub authority: Option<Box<str>>,
    /// What the sender calls the connection (`PP2_TYPE_UNIQUE_ID`, section 2.2.5): at most 128
    /// bytes.
    pub unique_id: Option<Box<[u8]>>,
}

/// Which rule a header breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadHeader {
    /// More bytes than [`V1_BYTES_MAX`] or [`V2_BYTES_MAX`].
    #[error("the header is too long")]
    TooLong,
    /// A text header that does not end in CR LF (section 2.1).
    #[error("the line does not end in CR LF")]
    LineEnd,
    /// Neither TCP4, TCP6 nor UNKNOWN; for v2 a family or transport without meaning.
    #[error("the header names an unknown protocol")]
    Protocol,
    /// Too few or too many fields, or more than one space between two (section 2.1).
    #[error("the line has not the fields of its protocol")]
    Fields,
    /// Not an address of the family named (section 2.1).
    #[error("an address of the header is malformed")]
    Address,
    /// Not a port in decimal without leading zeros (section 2.1).
    #[error("a port of the header is malformed")]
    Port,
    /// Another version than 2 behind the binary signature (section 2.2).
    #[error("the version of the header is unknown")]
    Version,
    /// Neither LOCAL nor PROXY (section 2.2).
    #[error("the command of the header is unknown")]
    Command,
    /// Shorter than the addresses of its family (section 2.2).
    #[error("the header is too short for its addresses")]
    TooShort,
    /// TLVs that do not fill the rest exactly, or a value that its type cannot have (section 2.2).
    #[error("a TLV of the header is malformed")]
    Tlv,
    /// The bytes are not those that the CRC32C was made of (section 2.2.3).
    #[error("the CRC32C of the header does not match")]
    Checksum,
}

/// Judges `seen`: all bytes of the connection so far.
///
/// The reading depends on the bytes alone and never on how they were cut, and once final it stays
/// the same however much follows. Nothing is allocated but the values of [`Header`]'s last two
/// fields.
pub fn read(seen: &[u8]) -> Reading {
    if let Some(body) = seen.strip_prefix(v1::SIGNATURE) {
        return v1::read(body).into();
    }
    if seen.starts_with(v2::SIGNATURE) {
        return v2::read(seen).into();
    }
    if v1::SIGNATURE.starts_with(seen) || v2::SIGNATURE.starts_with(seen) {
        return Reading::NeedMore;
    }
    Reading::NotProxy
}

/// Ok(None) is a header that is not whole.
impl From<Result<Option<Header>, BadHeader>> for Reading {
    fn from(header: Result<Option<Header>, BadHeader>) -> Self {
        match header {
            Ok(Some(header)) => Self::Header(header),
            Ok(None) => Self::NeedMore,
            Err(bad) => Self::Bad(bad),
        }
    }
}
