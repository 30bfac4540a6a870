//! What of a session a ticket's end goes by.
//!
//! rustls gives its ticketer the bytes that it keeps of a session, in an order of its own (its
//! `ServerSessionValue`). What reads otherwise than expected gets no ticket.

use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

/// A session's client, and when it was made.
#[derive(Debug)]
pub(super) struct Session<'a> {
    /// The client's certificates in DER, the leaf first; none if it has none.
    chain: Vec<&'a [u8]>,
    /// In seconds since the epoch.
    pub(super) created: u64,
}

/// Reads what rustls keeps of a session.
pub(super) fn read(plain: &[u8]) -> Option<Session<'_>> {
    let mut rest = Rest(plain);
    if rest.flag()? {
        // The name that was asked for.
        rest.vector(1)?;
    }
    // The version and the suite, the secret, and whether it is an extended one.
    rest.take(4)?;
    rest.vector(1)?;
    rest.take(1)?;
    let mut chain = Vec::new();
    if rest.flag()? {
        let mut certificates = Rest(rest.vector(3)?);
        while !certificates.0.is_empty() {
            chain.push(certificates.vector(3)?);
        }
    }
    if rest.flag()? {
        // The application protocol.
        rest.vector(1)?;
    }
    // What the application keeps, the time, and what ages are obscured with.
    rest.vector(2)?;
    let created = u64::from_be_bytes(rest.take(8)?.try_into().ok()?);
    rest.take(4)?;
    rest.0.is_empty().then_some(Session { chain, created })
}

impl Session<'_> {
    /// When the first certificate of the client's expires, in seconds since the epoch; never without
    /// any. None where one of them cannot be read.
    pub(super) fn expires(&self) -> Option<u64> {
        self.chain.iter().try_fold(u64::MAX, |first, der| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            let until = certificate.validity().not_after.timestamp();
            Some(first.min(u64::try_from(until).unwrap_or(0)))
        })
    }
}

/// What is still to be read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn flag(&mut self) -> Option<bool> {
        Some(self.take(1)? == [1])
    }

    /// Bytes whose count stands in front of them, in `width` bytes.
    fn vector(&mut self, width: usize) -> Option<&'a [u8]> {
        let count = self.take(width)?.iter();
        let count = count.fold(0, |count, byte| count << 8 | usize::from(*byte));
        self.take(count)
    }
}
