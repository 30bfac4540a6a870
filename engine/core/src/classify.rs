//! What the first bytes of a connection say: the ClientHello, read without consuming it.
//!
//! ```text
//!   segments ─► records (RFC 8446 section 5.1) ─► handshake message (section 4) ─► ClientHello
//!               this file                         this file                        message.rs
//! ```
//!
//! A hello may be cut anywhere by TCP, and once more by the client into records of any size down to
//! one byte. Post-quantum key shares make hellos longer than one segment, so both happen to honest
//! clients. The verdict depends on the bytes alone and never on how they were cut.

mod alert;
mod message;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow::{self, Break, Continue};

pub use alert::{UNRECOGNIZED_NAME, alert_for};

use crate::hostname::{Hostname, HostnameError};

/// Record type, version and length (RFC 8446 section 5.1).
const RECORD_HEADER_BYTES: usize = 5;
/// Longest payload of a plaintext record (RFC 8446 section 5.1).
const RECORD_PAYLOAD_BYTES_MAX: usize = 1 << 14;
/// The record type `handshake` (RFC 8446 section 5.1).
const RECORD_HANDSHAKE: u8 = 22;
/// First byte of the version of every record since SSL 3.0. The second byte is not looked at: it
/// "MUST be ignored for all purposes" (RFC 8446 section 5.1).
const RECORD_VERSION_MAJOR: u8 = 3;

/// Message type and length (RFC 8446 section 4).
const MESSAGE_HEADER_BYTES: usize = 4;
/// The handshake type `client_hello` (RFC 8446 section 4).
const MESSAGE_CLIENT_HELLO: u8 = 1;

/// Reads one ClientHello out of the first bytes of a connection.
///
/// It remembers how far it walked, so a hello that arrives byte by byte costs time in proportion to
/// its length, whatever the size of its records. As long as the hello fits one record, which all
/// common clients see to, nothing is copied; otherwise the payloads of the records are joined, at
/// most `bytes_max` bytes.
#[derive(Debug)]
pub struct HelloReader {
    bytes_max: usize,
    /// Where the first record begins that was not whole when last seen.
    record_at: usize,
    /// The payloads of all records before that one.
    joined: Vec<u8>,
}

/// What the bytes so far amount to. Everything but [`Verdict::NeedMore`] is final.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A ClientHello so far, and not whole yet.
    NeedMore,
    /// A whole ClientHello.
    ClientHello(ClientHello),
    /// No TLS: told at the first byte that makes it certain, so that an HTTP request on a TLS port
    /// does not wait for a timeout.
    ///
    /// A hello in SSL 2.0 framing is counted here: it has no room for a server name, no TLS client
    /// may send it (RFC 6176 section 3), and its first byte is no record type.
    NotTls,
    /// TLS that breaks the rules.
    Bad(BadHello),
    /// The hello does not end within the limit.
    TooLong,
}

/// What a ClientHello says that routing and the log use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHello {
    /// Whom the client wants to reach. With ECH this is the outer, public name.
    pub name: ServerName,
    /// The first protocol that the client offers (RFC 7301 section 3.1), GREASE values (RFC 8701
    /// section 2) left out.
    pub alpn: Option<Box<[u8]>>,
    /// The hello carries an outer `encrypted_client_hello` extension (RFC 9849 section 5).
    ///
    /// Browsers send one filled with random bytes to servers of which they know no ECH key (section
    /// 6.2, GREASE ECH), and nobody but the holder of the key can tell the two apart: this counts
    /// who could use ECH, not who does.
    pub ech: bool,
}

/// The server name of a hello (RFC 6066 section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServerName {
    /// A hostname, in the form that routes are looked up by.
    Host(Hostname),
    /// None: no extension, or none of its names is a hostname.
    Absent,
    /// An IPv4 or IPv6 address. RFC 6066 section 3 does not permit it, yet clients send it.
    IpLiteral,
    /// Something that no host can be called.
    Invalid(HostnameError),
}

/// Which rule a hello breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BadHello {
    /// A record without payload (RFC 8446 section 5.1 forbids it for handshake messages).
    #[error("a handshake record is empty")]
    EmptyRecord,
    /// A record of more than 2^14 bytes (RFC 8446 section 5.1).
    #[error("a record is longer than {RECORD_PAYLOAD_BYTES_MAX} bytes")]
    RecordTooLong,
    /// Another kind of record before the hello was whole (RFC 8446 section 5.1).
    #[error("a record of another type cuts into the hello")]
    RecordType,
    /// A later record whose version is that of no TLS.
    #[error("a record's version is not of TLS")]
    RecordVersion,
    /// The first handshake message is not a ClientHello (RFC 8446 section 4).
    #[error("the first handshake message is not a ClientHello")]
    NotClientHello,
    /// The record goes on behind the hello, though nothing may be sent until the server answers.
    #[error("the record goes on behind the hello")]
    Trailing,
    /// The fields before the extensions do not add up (RFC 8446 section 4.1.2).
    #[error("the fields before the extensions are malformed")]
    Fields,
    /// The lengths of the extensions do not add up (RFC 8446 section 4.2).
    #[error("the extensions are malformed")]
    Extensions,
    /// An extension that routing or the log uses comes twice (RFC 8446 section 4.2). Which one
    /// counts would be a guess; other extensions are the upstream's to judge.
    #[error("an extension comes twice")]
    DuplicateExtension,
    /// The server name list does not add up (RFC 6066 section 3).
    #[error("the server name extension is malformed")]
    ServerName,
    /// Two hostnames (RFC 6066 section 3 allows one name of each type).
    #[error("the hello names several hosts")]
    SeveralHosts,
    /// The protocol name list does not add up (RFC 7301 section 3.1).
    #[error("the ALPN extension is malformed")]
    Alpn,
}

impl HelloReader {
    /// A reader that gives up on a hello of more than `bytes_max` bytes, record headers included.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            record_at: 0,
            joined: Vec::new(),
        }
    }

    /// Judges `seen`: all bytes of the connection so far, each time with those of before in front.
    ///
    /// Once final, the verdict stays the same however much follows.
    pub fn read(&mut self, seen: &[u8]) -> Verdict {
        let within = &seen[..seen.len().min(self.bytes_max)];
        loop {
            match self.read_record(within) {
                Continue(()) => {}
                Break(Verdict::NeedMore) if within.len() == self.bytes_max => {
                    return Verdict::TooLong;
                }
                Break(verdict) => return verdict,
            }
        }
    }

    /// Walks over one record that is whole and does not end the hello, or comes to a verdict.
    ///
    /// Checks go in the order of the bytes, and each happens as soon as its bytes are there: that
    /// is what makes the verdict independent of segmentation.
    fn read_record(&mut self, seen: &[u8]) -> ControlFlow<Verdict> {
        let rest = seen.get(self.record_at..).unwrap_or_default();
        let payload_len = self.check_record_header(rest)?;
        let arrived = &rest[RECORD_HEADER_BYTES..];
        let fragment = &arrived[..arrived.len().min(payload_len)];

        let message_len = self.check_message_header(fragment)?;
        let joined_len = self.joined.len() + payload_len;
        if message_len.is_some_and(|len| joined_len > len) {
            return Break(Verdict::Bad(BadHello::Trailing));
        }
        if fragment.len() < payload_len {
            return Break(Verdict::NeedMore);
        }
        if message_len == Some(joined_len) {
            return Break(self.read_message(fragment));
        }
        self.joined.extend_from_slice(fragment);
        self.record_at += RECORD_HEADER_BYTES + payload_len;
        Continue(())
    }

    /// Checks a record's header and gives the length of its payload.
    fn check_record_header(&self, rest: &[u8]) -> ControlFlow<Verdict, usize> {
        let refuse = |bad| match self.record_at {
            0 => Break(Verdict::NotTls),
            _ => Break(Verdict::Bad(bad)),
        };
        if rest.first().is_some_and(|&kind| kind != RECORD_HANDSHAKE) {
            return refuse(BadHello::RecordType);
        }
        if rest.get(1).is_some_and(|&it| it != RECORD_VERSION_MAJOR) {
            return refuse(BadHello::RecordVersion);
        }
        let Some(&[_, _, _, high, low]) = rest.first_chunk() else {
            return Break(Verdict::NeedMore);
        };
        match usize::from(u16::from_be_bytes([high, low])) {
            0 => Break(Verdict::Bad(BadHello::EmptyRecord)),
            len if len > RECORD_PAYLOAD_BYTES_MAX => Break(Verdict::Bad(BadHello::RecordTooLong)),
            len => Continue(len),
        }
    }

    /// Checks the message's header, which may itself be cut into records, and gives the length of
    /// the message with its header, once known.
    fn check_message_header(&self, fragment: &[u8]) -> ControlFlow<Verdict, Option<usize>> {
        let mut header = self.joined.iter().chain(fragment).copied();
        if header.next().is_some_and(|it| it != MESSAGE_CLIENT_HELLO) {
            return Break(Verdict::Bad(BadHello::NotClientHello));
        }
        let (Some(high), Some(middle), Some(low)) = (header.next(), header.next(), header.next())
        else {
            return Continue(None);
        };
        let body_len = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        let message_len = MESSAGE_HEADER_BYTES + body_len;
        if RECORD_HEADER_BYTES + message_len > self.bytes_max {
            return Break(Verdict::TooLong);
        }
        Continue(Some(message_len))
    }

    /// Reads the whole message, of which `last` is the end. What was joined stays as it was, so
    /// that a further call comes to the same verdict.
    fn read_message(&mut self, last: &[u8]) -> Verdict {
        if self.joined.is_empty() {
            return message::read(&last[MESSAGE_HEADER_BYTES..]).into();
        }
        let joined_len = self.joined.len();
        self.joined.extend_from_slice(last);
        let hello = message::read(&self.joined[MESSAGE_HEADER_BYTES..]);
        self.joined.truncate(joined_len);
        hello.into()
    }
}

impl From<Result<ClientHello, BadHello>> for Verdict {
    fn from(hello: Result<ClientHello, BadHello>) -> Self {
        match hello {
            Ok(hello) => Self::ClientHello(hello),
            Err(bad) => Self::Bad(bad),
        }
    }
}
