//! WireGuard keys between the kernel's bytes and the state document's types, which are made from
//! text alone so that nothing invalid becomes one.

use std::str::FromStr;

use control_api::state::{PresharedKey, PrivateKey, PublicKey};

/// Bytes of a key of Curve25519 (RFC 7748) and of a pre-shared one.
const KEY_BYTES: usize = 32;

/// Absent for the zeros that nobody has.
pub(crate) fn public(bytes: &[u8; KEY_BYTES]) -> Option<PublicKey> {
    parse(bytes)
}

/// Absent for zeros, the kernel's word for none.
pub(crate) fn private(bytes: &[u8; KEY_BYTES]) -> Option<PrivateKey> {
    parse(bytes)
}

/// Absent for zeros, the kernel's word for none.
pub(crate) fn preshared(bytes: &[u8; KEY_BYTES]) -> Option<PresharedKey> {
    if *bytes == [0; KEY_BYTES] {
        return None;
    }
    parse(bytes)
}

fn parse<K: FromStr>(bytes: &[u8; KEY_BYTES]) -> Option<K> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 2 * KEY_BYTES];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
        pair.copy_from_slice(&[digit(byte >> 4), digit(byte & 0xf)]);
    }
    std::str::from_utf8(&text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_the_key_that_has_them() {
        let bytes: [u8; 32] = std::array::from_fn(|at| u8::try_from(at * 8).unwrap());
        assert_eq!(public(&bytes).unwrap().as_bytes(), &bytes);
        assert_eq!(private(&bytes).unwrap().expose(), &bytes);
        assert_eq!(preshared(&bytes).unwrap().expose(), &bytes);
    }

    #[test]
    fn zeros_are_no_key() {
        assert!(public(&[0; 32]).is_none());
        assert!(private(&[0; 32]).is_none());
        assert!(preshared(&[0; 32]).is_none());
    }
}
