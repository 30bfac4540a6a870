//! What a certificate says of itself.

use engine_core::hostname::HostPattern;
use instant_acme::CertificateIdentifier;
use rustls::pki_types::CertificateDer;
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

/// Longest name of an issuer that is kept.
const ISSUER_BYTES_MAX: usize = 256;

/// What is read of a leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    /// Who issued it.
    pub(crate) issuer: String,
    /// Unix time from which it is good.
    pub(crate) not_before: u64,
    /// Unix time until which it is good.
    pub(crate) not_after: u64,
    /// What it is for.
    pub(crate) names: Vec<HostPattern>,
}

/// Reads a leaf in DER; nothing, where it is no certificate.
pub(crate) fn read(der: &[u8]) -> Option<Leaf> {
    let (_, leaf) = X509Certificate::from_der(der).ok()?;
    let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
    let alternative = leaf.subject_alternative_name().ok()?;
    let names = alternative
        .iter()
        .flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| {
        let GeneralName::DNSName(name) = name else {
            return None;
        };
        HostPattern::parse(name).ok()
    });
    Some(Leaf {
        issuer: issuer(&leaf),
        not_before: seconds(leaf.validity().not_before.timestamp()),
        not_after: seconds(leaf.validity().not_after.timestamp()),
        names: names.collect(),
    })
}

/// The common name, else all of it; cut, and without what a log should not have.
fn issuer(leaf: &X509Certificate<'_>) -> String {
    let name = leaf.issuer();
    let common = name.iter_common_name().find_map(|name| name.as_str().ok());
    let text = common.map_or_else(|| name.to_string(), str::to_owned);
    let visible = text.chars().filter(|char| !char.is_control());
    let mut issuer = String::new();
    for char in visible {
        if issuer.len() + char.len_utf8() > ISSUER_BYTES_MAX {
            break;
        }
        issuer.push(char);
    }
    issuer
}

/// What a directory calls a certificate that it is asked about (RFC 9773 section 4.1); nothing,
/// where the certificate does not name its issuer's key.
pub(crate) fn identifier(der: &[u8]) -> Option<CertificateIdentifier<'static>> {
    let der = CertificateDer::from(der);
    let identifier = CertificateIdentifier::try_from(&der).ok()?;
    Some(identifier.into_owned())
}
