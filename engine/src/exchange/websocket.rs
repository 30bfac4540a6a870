//! What HTTP/1 needs for a WebSocket whose other side is of HTTP/2 (RFC 8441 section 5).

use std::hash::{BuildHasher as _, RandomState};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha1::{Digest as _, Sha1};

/// What a server appends to the key that it accepts (RFC 6455 section 1.3).
const ACCEPTS: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A key: 16 bytes in Base64 that no other request had (RFC 6455 section 4.1). It keeps caches from
/// answering, and proves nothing: hashes with random keys are random enough.
pub(crate) fn key() -> String {
    let state = RandomState::new();
    let [low, high] = [0_u8, 1].map(|half| state.hash_one(half));
    BASE64_STANDARD.encode((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
}

/// What shows a client that its key was understood (RFC 6455 section 4.2.2).
pub(crate) fn accept(key: &[u8]) -> String {
    let digest = Sha1::new().chain_update(key).chain_update(ACCEPTS);
    BASE64_STANDARD.encode(digest.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_accepted_as_in_the_example_of_rfc_6455() {
        let accepted = accept(b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(accepted, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn keys_have_16_bytes_and_are_not_given_twice() {
        let (one, other) = (key(), key());
        assert_ne!(one, other);
        assert!(one.len() == 24 && one.ends_with("=="), "{one}");
    }
}
