//! What HTTP/1 needs for a WebSocket that HTTP/2 opened (RFC 8441 section 5).

use std::hash::{BuildHasher as _, RandomState};

/// A key: 16 bytes in Base64 that no other request had (RFC 6455 section 4.1). It keeps caches from
/// answering, and proves nothing: hashes with random keys are random enough.
pub(crate) fn key() -> String {
    let state = RandomState::new();
    let [low, high] = [0_u8, 1].map(|half| state.hash_one(half));
    base64(&(u128::from(high) << 64 | u128::from(low)).to_be_bytes())
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for three in bytes.chunks(3) {
        let at = |index: usize| u32::from(three.get(index).copied().unwrap_or(0));
        let bits = at(0) << 16 | at(1) << 8 | at(2);
        for place in 0..4 {
            let digit = usize::try_from(bits >> (18 - 6 * place) & 63).unwrap_or(0);
            text.push(if place <= three.len() {
                char::from(DIGITS[digit])
            } else {
                '='
            });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_as_in_rfc_4648() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }

    #[test]
    fn keys_have_16_bytes_and_are_not_given_twice() {
        let (one, other) = (key(), key());
        assert_ne!(one, other);
        assert!(one.len() == 24 && one.ends_with("=="), "{one}");
    }
}
