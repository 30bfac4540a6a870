//! What a client's certificate says, for the headers that tell upstreams.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate,
    objects::{oid_registry, oid2abbrev},
    prelude::FromDer,
    x509::AttributeTypeAndValue,
};

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

    /// The subject as text (RFC 4514), as in `CN=printer,O=Example`: in the order of the certificate,
    /// with `\` before what would end a value or begin another one. None when it is no X.509, when it
    /// is empty, and when it has control characters, which no header may carry.
    pub fn subject(&self) -> Option<String> {
        let (_, leaf) = X509Certificate::from_der(self.0).ok()?;
        let mut text = String::new();
        for name in leaf.subject().iter_rdn() {
            for (position, attribute) in name.iter().enumerate() {
                let separator = if position == 0 { "," } else { "+" };
                if !text.is_empty() {
                    text.push_str(separator);
                }
                push_attribute(&mut text, attribute)?;
            }
        }
        (!text.is_empty() && !text.chars().any(char::is_control)).then_some(text)
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

/// Appends `TYPE=value`. Types without a short name are their numbers, and values that are no text
/// `#` and their hexadecimal encoding (RFC 4514 sections 2.3 and 2.4).
fn push_attribute(text: &mut String, attribute: &AttributeTypeAndValue<'_>) -> Option<()> {
    let kind = attribute.attr_type();
    let short = oid2abbrev(kind, oid_registry()).ok();
    let name = short.map_or_else(|| kind.to_id_string(), str::to_owned);
    text.push_str(&name);
    text.push('=');
    match attribute.as_str() {
        Ok(value) => push_escaped(text, value),
        Err(_) => {
            text.push('#');
            for byte in attribute.attr_value().data {
                write!(text, "{byte:02x}").ok()?;
            }
        }
    }
    Some(())
}

/// Appends a value with what is special in it escaped (RFC 4514 section 2.4).
fn push_escaped(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (position, letter) in value.chars().enumerate() {
        let is_special = matches!(letter, '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=')
            || position == 0 && matches!(letter, ' ' | '#')
            || position == last && letter == ' ';
        if is_special {
            text.push('\\');
        }
        text.push(letter);
    }
}

/// Base64 (RFC 4648 section 4).
pub(crate) fn push_base64(text: &mut String, bytes: &[u8]) {
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

    fn subject(names: &[(rcgen::DnType, &str)]) -> Option<String> {
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in names {
            parameters.distinguished_name.push(kind.clone(), *value);
        }
        let key = rcgen::KeyPair::generate().unwrap();
        let made = parameters.self_signed(&key).unwrap();
        Peer(made.der()).subject()
    }

    #[test]
    fn a_subject_is_written_so_that_no_value_reads_as_another_name() {
        use rcgen::DnType::{CommonName, OrganizationName};
        for (value, written) in [
            ("alice", "alice"),
            ("alice,CN=admin", r"alice\,CN\=admin"),
            ("a+b;c<d>e\"f", r#"a\+b\;c\<d\>e\"f"#),
            (r"back\slash", r"back\\slash"),
            (" both ", r"\ both\ "),
            ("#1", r"\#1"),
            ("1 #2", "1 #2"),
            ("Zoë", "Zoë"),
        ] {
            let found = subject(&[(CommonName, value)]);
            assert_eq!(found.as_deref(), Some(&*format!("CN={written}")));
        }
        let two = subject(&[(CommonName, "a"), (OrganizationName, "b")]);
        assert_eq!(two.as_deref(), Some("CN=a,O=b"));
        assert_eq!(subject(&[]), None, "nothing to be told");
        assert_eq!(subject(&[(CommonName, "a\r\nb")]), None);
    }

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
