//! Showing a directory that a name is ours.

use std::sync::Arc;

use control_api::boot::{CertificateName, Challenge};
use engine::Challenges;
use engine_core::hostname::HostPattern;
use engine_tls::{Bundle, Certificates, bundle::ContentError};
use instant_acme::KeyAuthorization;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use zeroize::Zeroizing;

use crate::dns::{RecordError, Records};

/// Why a proof cannot be put up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProofError {
    /// A wildcard has no host that could answer.
    #[error("{name} has a wildcard, which dns-01 alone can prove")]
    Wildcard {
        /// The name.
        name: String,
    },
    /// The certificate of tls-alpn-01 cannot be made.
    #[error("making the certificate that proves {name}")]
    Make {
        /// The name.
        name: String,
        /// What is wrong.
        source: rcgen::Error,
    },
    /// The certificate of tls-alpn-01 cannot be served.
    #[error("serving the certificate that proves {name}")]
    Serve {
        /// The name.
        name: String,
        /// What is wrong.
        source: ContentError,
    },
    /// The record of dns-01 cannot be added.
    #[error("adding the record that proves {name}")]
    Record {
        /// The name.
        name: String,
        /// What is wrong.
        source: Box<RecordError>,
    },
}

/// Where proofs are put up.
#[derive(Clone, Debug)]
pub(crate) struct Proofs {
    /// http-01: what HTTP listeners answer.
    pub(crate) challenges: Challenges,
    /// tls-alpn-01: what TLS listeners answer.
    pub(crate) certificates: Certificates,
    /// dns-01: where records go.
    pub(crate) records: Records,
}

/// A proof that is up.
#[derive(Debug)]
#[must_use = "what is put up has to be taken down"]
pub(crate) struct Up {
    name: CertificateName,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Http { token: String },
    Tls,
    Dns { text: String },
}

impl Proofs {
    /// Puts a proof up.
    pub(crate) async fn put_up(
        &self,
        name: &CertificateName,
        challenge: Challenge,
        token: &str,
        authorization: &KeyAuthorization,
    ) -> Result<Up, ProofError> {
        let kind = match (challenge, &name.0) {
            (Challenge::Dns01, _) => {
                let text = authorization.dns_value();
                // Before it is tried: a record may be there although the server's answer is not.
                let up = Up {
                    name: name.clone(),
                    kind: Kind::Dns { text: text.clone() },
                };
                if let Err(source) = self.records.add(name, &text).await {
                    self.take_down(up).await;
                    return Err(ProofError::Record {
                        name: name.to_string(),
                        source: Box::new(source),
                    });
                }
                return Ok(up);
            }
            (Challenge::Http01 | Challenge::TlsAlpn01, HostPattern::Wildcard(_)) => {
                return Err(ProofError::Wildcard {
                    name: name.to_string(),
                });
            }
            (Challenge::Http01, HostPattern::Exact(host)) => {
                self.challenges.put(host, token, authorization.as_str());
                Kind::Http {
                    token: token.to_owned(),
                }
            }
            (Challenge::TlsAlpn01, HostPattern::Exact(host)) => {
                let bundle = certificate(name, authorization.digest().as_ref())?;
                self.certificates.set_challenge(host, Arc::new(bundle));
                Kind::Tls
            }
        };
        Ok(Up {
            name: name.clone(),
            kind,
        })
    }

    /// Takes a proof down. A record that cannot be removed does no harm, but for being there.
    pub(crate) async fn take_down(&self, up: Up) {
        let Up { name, kind } = up;
        match kind {
            Kind::Http { token } => self.challenges.remove(name.domain(), &token),
            Kind::Tls => self.certificates.remove_challenge(name.domain()),
            Kind::Dns { text } => {
                if let Err(error) = self.records.remove(&name, &text).await {
                    let error = crate::reason::of(&error);
                    tracing::warn!(%name, error, "the record of a proof is not removed");
                }
            }
        }
    }
}

/// A certificate that says what was asked for, in an extension that is critical (RFC 8737 section 3).
fn certificate(name: &CertificateName, digest: &[u8]) -> Result<Bundle, ProofError> {
    let make = |source| ProofError::Make {
        name: name.to_string(),
        source,
    };
    let mut params = CertificateParams::new([name.to_string()]).map_err(make)?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate().map_err(make)?;
    let certificate = params.self_signed(&key).map_err(make)?;
    let chain = vec![Arc::from(certificate.der().as_ref())];
    let key = Zeroizing::new(key.serialize_der());
    Bundle::from_stored(chain, key).map_err(|source| ProofError::Serve {
        name: name.to_string(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

    use super::*;

    #[test]
    fn the_certificate_of_a_proof_has_the_digest_in_a_critical_extension() {
        let name: CertificateName = "a.example".parse().unwrap();
        let mut params = CertificateParams::new([name.to_string()]).unwrap();
        params.custom_extensions = vec![CustomExtension::new_acme_identifier(&[7; 32])];
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().to_vec();
        let (_, leaf) = X509Certificate::from_der(&der).unwrap();
        let extension = leaf
            .extensions()
            .iter()
            .find(|extension| extension.oid.to_id_string() == "1.3.6.1.5.5.7.1.31")
            .unwrap();
        assert!(extension.critical);
        assert_eq!(extension.value[..2], [4, 32]);
        let bundle = certificate(&name, &[7; 32]).unwrap();
        assert_eq!(bundle.names()[0].to_string(), "a.example");
    }
}
