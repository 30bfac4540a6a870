//! Cookies that keep a client with its target.

use std::fmt;

use engine_core::{
    endpoint::Endpoint,
    ids::{NetworkId, TargetId},
};
use sha2::{Digest, Sha256};

use crate::{field, field::Fields, octet};

/// Digits of a target's mark: 128 bits, so that none is guessed.
const MARK_BYTES: usize = 32;

/// A cookie whose value marks a target.
///
/// The mark is a keyed hash of network and endpoint: it tells nothing about the target, cannot be made
/// without the secret, and stays the same over tables and, with the secret, over restarts. Rules of a
/// network that share a cookie and a target agree about it. All marks are made when the table is built.
#[derive(Clone)]
pub struct Sticky {
    name: Box<str>,
    attributes: Box<str>,
    marks: Box<[(TargetId, [u8; MARK_BYTES])]>,
}

/// Why a cookie is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StickyError {
    /// Not a token (RFC 6265 section 4.1.1).
    #[error("{name:?} cannot be the name of a cookie")]
    Name {
        /// As it was given.
        name: String,
    },
}

impl Sticky {
    /// Makes the cookie of a rule, for its targets. It lives as long as the
    /// browser's session, or for `max_age` seconds; `secure` is set where only TLS is spoken.
    ///
    /// # Errors
    /// Says why the name is not taken.
    pub fn new(
        name: &str,
        max_age: Option<u64>,
        secure: Secure,
        secret: &[u8; 32],
        (network, targets): (NetworkId, &[Endpoint]),
    ) -> Result<Self, StickyError> {
        if !octet::is_token(name.as_bytes()) {
            let name = name.into();
            return Err(StickyError::Name { name });
        }
        let age = max_age.map_or(String::new(), |seconds| format!("; Max-Age={seconds}"));
        let secure = match secure {
            Secure::Yes => "; Secure",
            Secure::No => "",
        };
        Ok(Self {
            name: name.into(),
            attributes: format!("; Path=/{age}; HttpOnly; SameSite=Lax{secure}").into(),
            marks: targets
                .iter()
                .map(|target| (target.id(), mark(secret, network, target)))
                .collect(),
        })
    }

    /// The target that a request's cookie marks.
    pub fn target(&self, fields: Fields<'_>) -> Option<TargetId> {
        let marked = |value| {
            let mut marks = self.marks.iter();
            marks.find(|(_, mark)| mark.as_slice() == value)
        };
        let (id, _) = field::cookies(fields, &self.name).find_map(marked)?;
        Some(*id)
    }

    /// Appends the value of the `Set-Cookie` that marks a target.
    pub fn write_cookie(&self, target: TargetId, out: &mut Vec<u8>) {
        let Some((_, mark)) = self.marks.iter().find(|(id, _)| *id == target) else {
            return;
        };
        out.extend_from_slice(self.name.as_bytes());
        out.push(b'=');
        out.extend_from_slice(mark);
        out.extend_from_slice(self.attributes.as_bytes());
    }
}

impl fmt::Debug for Sticky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sticky")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Whether a cookie is only sent with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secure {
    /// Only with TLS.
    Yes,
    /// Always.
    No,
}

/// The secret has a fixed length and half the hash is given out, so a plain hash is a sound keyed
/// one: there is nothing to extend.
fn mark(secret: &[u8; 32], network: NetworkId, target: &Endpoint) -> [u8; MARK_BYTES] {
    let mut sha256 = Sha256::new();
    sha256.update(secret);
    sha256.update(network.0.to_be_bytes());
    sha256.update(target.to_string().as_bytes());
    let hash = sha256.finalize();
    let mut mark = [0; MARK_BYTES];
    for (digits, byte) in mark.chunks_exact_mut(2).zip(hash) {
        digits.copy_from_slice(&octet::hex_digits(byte));
    }
    mark
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_leads_back_to_its_target_and_to_none_of_another_network() {
        let targets =
            ["10.0.0.2:80", "a.example:80"].map(|target| Endpoint::parse(target).unwrap());
        let make = |id| {
            Sticky::new(
                "at",
                Some(60),
                Secure::Yes,
                &[7; 32],
                (NetworkId(id), &targets),
            )
            .unwrap()
        };
        let (one, two) = (make(1), make(2));
        let mut cookie = Vec::new();
        one.write_cookie(targets[1].id(), &mut cookie);
        let cookie = String::from_utf8(cookie).unwrap();
        assert!(
            cookie.ends_with("; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"),
            "{cookie}"
        );
        assert!(!cookie.contains("10.0"), "{cookie}");
        let pair = cookie.split(';').next().unwrap();
        let lines = format!("Cookie: x=1; at=old; {pair}\r\n");
        let fields = Fields::checked(lines.as_bytes());
        assert_eq!(one.target(fields), Some(targets[1].id()));
        assert_eq!(two.target(fields), None);
        assert_eq!(one.target(Fields::default()), None);
    }
}
