//! What a client's certificate says, for the headers that tell upstreams.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

/// A verified client certificate.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a>(pub &'a CertificateDer<'static>);

impl Peer<'_> {
    /// The certificate as the value of `Client-Cert` (RFC 9440 section 2.1).
    pub fn client_cert(&self) -> String {
        let mut value = String::with_capacity(self.0.len().div_ceil(3) * 4 + 2);
        value.push(':');
        push_base64(&mut value, self.0);
        value.push(':');
        value
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

/// Base64 (RFC 4648 section 4).
fn push_base64(text: &mut String, bytes: &[u8]) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for group in bytes.chunks(3) {
        let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for position in 0..4 {
            if position > group.len() {
                text.push('=');
                continue;
            }
            let letter = ALPHABET[(bits >> (18 - 6 * position) & 63) as usize];
            text.push(char::from(letter));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let encode = |bytes: &[u8]| {
            let mut text = String::new();
            push_base64(&mut text, bytes);
            text
        };
        assert_eq!(encode(b"foobar"), "Zm9vYmFy");
        assert_eq!(encode(b"foob"), "Zm9vYg==");
        assert_eq!(encode(b"fooba"), "Zm9vYmE=");
        assert_eq!(encode(&[0xfb, 0xff, 0xfe]), "+//+");
    }
}
