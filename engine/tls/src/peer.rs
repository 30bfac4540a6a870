//! What a client's certificate says, for the headers that tell upstreams.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// A verified client certificate.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a>(pub &'a CertificateDer<'static>);

impl Peer<'_> {
    /// The certificate as PEM, percent-encoded for a header: what nginx calls
    /// `$ssl_client_escaped_cert`.
    pub fn escaped_pem(&self) -> String {
        let mut escaped = String::with_capacity(self.0.len() * 3 / 2 + 128);
        escaped.push_str("-----BEGIN%20CERTIFICATE-----%0A");
        // 48 bytes are the 64 characters of one line (RFC 7468 section 3).
        for line in self.0.chunks(48) {
            push_base64(&mut escaped, line);
            escaped.push_str("%0A");
        }
        escaped.push_str("-----END%20CERTIFICATE-----%0A");
        escaped
    }

    /// The subject as text, as in `CN=printer, O=Example`. None when it is no X.509 or has control
    /// characters, which no header may carry.
    pub fn subject(&self) -> Option<String> {
        let (_, leaf) = X509Certificate::from_der(self.0).ok()?;
        let subject = leaf.subject().to_string();
        (!subject.chars().any(char::is_control)).then_some(subject)
    }

    /// The certificate's SHA-256 in lower-case hexadecimal.
    pub fn sha256(&self) -> String {
        let digest = digest::digest(&digest::SHA256, self.0);
        let bytes = digest.as_ref().iter();
        bytes.fold(String::with_capacity(64), |mut text, byte| {
            // Writing to a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// Base64 (RFC 4648 section 4) with `+`, `/` and `=` percent-encoded.
fn push_base64(text: &mut String, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for position in 0..4 {
            if position > group.len() {
                text.push_str("%3D");
                continue;
            }
            match ALPHABET[(bits >> (18 - 6 * position) & 63) as usize] {
                b'+' => text.push_str("%2B"),
                b'/' => text.push_str("%2F"),
                other => text.push(char::from(other)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc_with_its_signs_escaped() {
        let encode = |bytes: &[u8]| {
            let mut text = String::new();
            push_base64(&mut text, bytes);
            text
        };
        assert_eq!(encode(b"foobar"), "Zm9vYmFy");
        assert_eq!(encode(b"foob"), "Zm9vYg%3D%3D");
        assert_eq!(encode(b"fooba"), "Zm9vYmE%3D");
        assert_eq!(encode(&[0xfb, 0xff, 0xfe]), "%2B%2F%2F%2B");
    }
}
