//! The ClientHello message (RFC 8446 section 4.1.2), joined and without its header.
//!
//! tls-parser reads the fields before the extensions. The extensions are walked here, since its own
//! reader of them stops silently at the first one it cannot read, decodes (into lists) many that
//! nobody here asks for, and takes every type of the form `xAyA` for GREASE.

use std::{net::IpAddr, str};

use tls_parser::parse_tls_handshake_client_hello;

use super::{BadHello, ClientHello, ServerName};
use crate::hostname::{Hostname, HostnameError};

/// `server_name` (RFC 6066 section 3).
const SERVER_NAME: u16 = 0;
/// `application_layer_protocol_negotiation` (RFC 7301 section 3.1).
const ALPN: u16 = 16;
/// `encrypted_client_hello` (RFC 9849 section 5).
const ENCRYPTED_CLIENT_HELLO: u16 = 0xfe0d;

/// The name type `host_name` (RFC 6066 section 3).
const NAME_TYPE_HOST: u8 = 0;
/// The ECH type `outer`; an `inner` one says only that ECH was already undone (RFC 9849 section 5).
const ECH_OUTER: u8 = 0;

/// Reads the message.
pub(super) fn read(message: &[u8]) -> Result<ClientHello, BadHello> {
    let (rest, fields) = parse_tls_handshake_client_hello(message).map_err(|_| BadHello::Fields)?;
    if fields.ciphers.is_empty() || fields.comp.is_empty() {
        return Err(BadHello::Fields);
    }
    // What cannot be an extension block, the parser leaves over. No block at all is a hello of
    // before TLS 1.3 (RFC 5246 section 7.4.1.2).
    if !rest.is_empty() {
        return Err(BadHello::Extensions);
    }
    read_extensions(fields.ext.unwrap_or_default())
}

fn read_extensions(block: &[u8]) -> Result<ClientHello, BadHello> {
    let (mut name, mut alpn, mut ech) = (None, None, None);
    let mut block = Cursor(block);
    while !block.is_empty() {
        let extension = block.u16().zip(block.prefixed_u16());
        let (kind, content) = extension.ok_or(BadHello::Extensions)?;
        let duplicate = match kind {
            SERVER_NAME => name.replace(read_server_name(content)?).is_some(),
            ALPN => alpn.replace(read_alpn(content)?).is_some(),
            ENCRYPTED_CLIENT_HELLO => ech.replace(content.first() == Some(&ECH_OUTER)).is_some(),
            _ => false,
        };
        if duplicate {
            return Err(BadHello::DuplicateExtension);
        }
    }
    Ok(ClientHello {
        name: name.unwrap_or(ServerName::Absent),
        alpn: alpn.flatten().map(Into::into),
        ech: ech.unwrap_or(false),
    })
}

/// Reads a `ServerNameList`. Names of other types are skipped: RFC 6066 section 3 binds all of them
/// to begin with a 16-bit length.
fn read_server_name(content: &[u8]) -> Result<ServerName, BadHello> {
    let mut content = Cursor(content);
    let list = content.prefixed_u16().filter(|list| !list.is_empty());
    let mut list = Cursor(list.ok_or(BadHello::ServerName)?);
    if !content.is_empty() {
        return Err(BadHello::ServerName);
    }
    let mut host = None;
    while !list.is_empty() {
        let entry = list.u8().zip(list.prefixed_u16());
        let (kind, name) = entry.ok_or(BadHello::ServerName)?;
        if kind != NAME_TYPE_HOST {
            continue;
        }
        if name.is_empty() {
            return Err(BadHello::ServerName);
        }
        if host.replace(name).is_some() {
            return Err(BadHello::SeveralHosts);
        }
    }
    Ok(host.map_or(ServerName::Absent, server_name))
}

fn server_name(raw: &[u8]) -> ServerName {
    // Hostname knows IPv4 addresses; those of IPv6 fail earlier there, at their colons.
    if str::from_utf8(raw).is_ok_and(|raw| raw.parse::<IpAddr>().is_ok()) {
        return ServerName::IpLiteral;
    }
    match Hostname::parse(raw) {
        Ok(name) => ServerName::Host(name),
        Err(HostnameError::IpLiteral) => ServerName::IpLiteral,
        Err(error) => ServerName::Invalid(error),
    }
}

/// Reads a `ProtocolNameList` and gives the first name that is not GREASE.
fn read_alpn(content: &[u8]) -> Result<Option<&[u8]>, BadHello> {
    let mut content = Cursor(content);
    let list = content.prefixed_u16().filter(|list| !list.is_empty());
    let mut list = Cursor(list.ok_or(BadHello::Alpn)?);
    if !content.is_empty() {
        return Err(BadHello::Alpn);
    }
    let mut first = None;
    while !list.is_empty() {
        let protocol = list.prefixed_u8().filter(|protocol| !protocol.is_empty());
        let protocol = protocol.ok_or(BadHello::Alpn)?;
        if !is_grease(protocol) {
            first = first.or(Some(protocol));
        }
    }
    Ok(first)
}

/// Whether an ALPN value is one of those that RFC 8701 section 2 reserves: `0A0A`, `1A1A` and so on.
fn is_grease(protocol: &[u8]) -> bool {
    matches!(protocol, &[a, b] if a == b && a & 0x0f == 0x0a)
}

/// Bytes not read yet. A read gives None where there are too few of them, and ends the reading.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn u8(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn u16(&mut self) -> Option<u16> {
        let (&bytes, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_be_bytes(bytes))
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    fn prefixed_u8(&mut self) -> Option<&'a [u8]> {
        let len = self.u8()?;
        self.take(len.into())
    }

    fn prefixed_u16(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(len.into())
    }
}
