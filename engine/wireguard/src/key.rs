//! Keys of Curve25519 (RFC 7748) and pre-shared keys: 32 bytes each.

use std::fmt;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use boringtun::x25519;
use zeroize::Zeroize as _;

/// A secret: a private key, or a pre-shared one. Never printed; wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// Thirty-two zeros, which stand for "no key" in the protocols that configure devices.
    pub const ZERO: Self = Self([0; 32]);

    /// Takes the bytes over.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, for the few that must have them: the handshake, and an administrator who asks.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Whether it stands for "no key".
    pub fn is_zero(&self) -> bool {
        *self == Self::ZERO
    }

    /// The same private key with the bits set that every scalar has (RFC 7748, section 5), which is
    /// how the kernel keeps and shows it.
    #[must_use]
    pub fn clamped(mut self) -> Self {
        self.0[0] &= 0b1111_1000;
        self.0[31] = (self.0[31] & 0b0111_1111) | 0b0100_0000;
        self
    }

    /// The public half of a private key.
    pub fn public(&self) -> PublicKey {
        PublicKey(x25519::PublicKey::from(&self.secret()).to_bytes())
    }

    pub(crate) fn secret(&self) -> x25519::StaticSecret {
        x25519::StaticSecret::from(self.0)
    }
}

impl From<[u8; 32]> for Key {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(hidden)")
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Who a peer is. Printed in base64, as `wg` prints it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Takes the bytes over.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn point(&self) -> x25519::PublicKey {
        x25519::PublicKey::from(self.0)
    }
}

impl From<[u8; 32]> for PublicKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&BASE64_STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_printed_and_a_public_key_is() {
        let key = Key::new([7; 32]);
        assert_eq!(format!("{key:?}"), "Key(hidden)");
        let shown = format!("{}", PublicKey::new([0; 32]));
        assert_eq!(shown, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    }

    #[test]
    fn clamping_changes_the_bytes_but_not_the_public_key() {
        let raw = Key::new([0xff; 32]);
        let clamped = raw.clone().clamped();
        assert_ne!(raw, clamped);
        assert_eq!(raw.public(), clamped.public());
        assert_eq!(clamped.clone().clamped(), clamped);
    }
}
