//! One order, from the request to the certificate.

use std::{sync::Arc, time::Duration};

use control_api::boot::{CertificateName, Challenge};
use engine_tls::{Bundle, bundle::ContentError};
use instant_acme::{
    Account, AuthorizationHandle, AuthorizationStatus, CertificateIdentifier, ChallengeStatus,
    ChallengeType, Identifier, NewOrder, Order, OrderStatus, RetryPolicy,
};
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::{
    is_problem, patience,
    proof::{ProofError, Proofs, Up},
    with_nonce,
};
use crate::leaf::{self, Leaf};

/// How long an order may take in all; a directory that asks for more patience gets it next time.
const ORDER_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a directory may take to look at the proof, and then to issue: it is asked after a
/// quarter of a second first, and then ever later, or when it says.
const POLLING: RetryPolicy = RetryPolicy::new()
    .initial_delay(Duration::from_millis(250))
    .backoff(1.5)
    .timeout(Duration::from_secs(240));

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OrderError {
    /// The directory refused something, or did not answer.
    #[error("{doing} {name}")]
    Acme {
        /// What was being done.
        doing: &'static str,
        /// To which name.
        name: String,
        /// What it says.
        source: instant_acme::Error,
    },
    /// It does not offer the way that the name is to be proved.
    #[error("the directory does not offer {} for {name}", challenge.word())]
    NotOffered {
        /// The way.
        challenge: Challenge,
        /// The name.
        name: String,
    },
    /// The proof cannot be put up.
    #[error("proving the name")]
    Proof(#[source] Box<ProofError>),
    /// The directory did not find the proof good.
    #[error("the proof for {name} was not accepted: {detail}")]
    NotProved {
        /// The name.
        name: String,
        /// What it says.
        detail: String,
    },
    /// The authorization is of no use, and not because of us.
    #[error("the authorization for {name} is {status:?}")]
    Authorization {
        /// The name.
        name: String,
        /// What it is.
        status: AuthorizationStatus,
    },
    /// It has none.
    #[error("the order for {name} has no authorization")]
    NoAuthorization {
        /// The name.
        name: String,
    },
    /// The request for the certificate cannot be written.
    #[error("writing the request for {name}")]
    Request {
        /// The name.
        name: String,
        /// What is wrong.
        source: rcgen::Error,
    },
    /// What was issued cannot be served.
    #[error("reading the certificate for {name}")]
    Certificate {
        /// The name.
        name: String,
        /// What is wrong.
        source: ContentError,
    },
    /// What was issued is for something else.
    #[error("the certificate that was issued is not for {name}")]
    OtherName {
        /// The name.
        name: String,
    },
    /// It took too long.
    #[error("the order for {name} took more than {} s", ORDER_TIMEOUT.as_secs())]
    Timeout {
        /// The name.
        name: String,
    },
}

impl OrderError {
    /// For how many seconds the directory asks to be left alone.
    pub(crate) fn patience(&self) -> Option<u64> {
        self.acme().and_then(patience)
    }

    /// What the directory said, where it is the reason.
    pub(crate) fn acme(&self) -> Option<&instant_acme::Error> {
        match self {
            Self::Acme { source, .. } => Some(source),
            Self::NotOffered { .. }
            | Self::Proof(_)
            | Self::NotProved { .. }
            | Self::Authorization { .. }
            | Self::NoAuthorization { .. }
            | Self::Request { .. }
            | Self::Certificate { .. }
            | Self::OtherName { .. }
            | Self::Timeout { .. } => None,
        }
    }
}

/// A certificate that was issued, and its key.
pub(crate) struct Obtained {
    /// What can be served.
    pub(crate) bundle: Arc<Bundle>,
    /// What the leaf says of itself.
    pub(crate) leaf: Leaf,
    /// The chain in DER, the leaf first.
    pub(crate) chain: Vec<Vec<u8>>,
    /// The key in PKCS#8.
    pub(crate) key: Zeroizing<Vec<u8>>,
}

/// Obtains a certificate for one name. Whatever was put up for that is taken down again.
pub(crate) async fn obtain(
    account: &Account,
    name: &CertificateName,
    challenge: Challenge,
    proofs: &Proofs,
    replaces: Option<CertificateIdentifier<'static>>,
) -> Result<Obtained, OrderError> {
    let mut up = None;
    let work = Work {
        account,
        name,
        challenge,
        proofs,
    };
    let ended = timeout(ORDER_TIMEOUT, work.run(replaces, &mut up)).await;
    if let Some(up) = up {
        proofs.take_down(up).await;
    }
    ended.unwrap_or_else(|_| {
        Err(OrderError::Timeout {
            name: name.to_string(),
        })
    })
}

struct Work<'a> {
    account: &'a Account,
    name: &'a CertificateName,
    challenge: Challenge,
    proofs: &'a Proofs,
}

impl Work<'_> {
    async fn run(
        &self,
        replaces: Option<CertificateIdentifier<'static>>,
        up: &mut Option<Up>,
    ) -> Result<Obtained, OrderError> {
        let mut order = self.order(replaces).await?;
        self.prove(&mut order, up).await?;
        let status = with_nonce!(order.poll_ready(&POLLING));
        match status {
            Ok(OrderStatus::Invalid) => return Err(self.disproved(&mut order).await),
            Ok(_) => {}
            // What the directory holds against the proof is said of the authorization.
            Err(error @ instant_acme::Error::Api(_)) => {
                let why = self.disproved(&mut order).await;
                return Err(if matches!(why, OrderError::NotProved { .. }) {
                    why
                } else {
                    self.failed("ordering a certificate for", error)
                });
            }
            Err(error) => return Err(self.failed("waiting for the proof of", error)),
        }
        let (request, key) = self.request()?;
        with_nonce!(order.finalize_csr(&request))
            .map_err(|error| self.failed("requesting the certificate for", error))?;
        let chain = with_nonce!(order.poll_certificate(&POLLING))
            .map_err(|error| self.failed("waiting for the certificate for", error))?;
        self.read(&chain, &key)
    }

    async fn order(
        &self,
        replaces: Option<CertificateIdentifier<'static>>,
    ) -> Result<Order, OrderError> {
        let names = [Identifier::Dns(self.name.to_string())];
        let mut new = NewOrder::new(&names);
        if let Some(replaces) = replaces {
            new = new.replaces(replaces);
        }
        let plain = NewOrder::new(&names);
        let ordered = with_nonce!(self.account.new_order(&new));
        let ordered = match ordered {
            // The certificate from before is another's business by now (RFC 9773 section 5).
            Err(error) if is_problem(&error, "alreadyReplaced") => {
                with_nonce!(self.account.new_order(&plain))
            }
            ordered => ordered,
        };
        ordered.map_err(|error| self.failed("ordering a certificate for", error))
    }

    /// Puts the proof up and says so, unless the directory has seen one of late. There is one name,
    /// so there is one authorization.
    async fn prove(&self, order: &mut Order, up: &mut Option<Up>) -> Result<(), OrderError> {
        let kind = match self.challenge {
            Challenge::Http01 => ChallengeType::Http01,
            Challenge::TlsAlpn01 => ChallengeType::TlsAlpn01,
            Challenge::Dns01 => ChallengeType::Dns01,
        };
        let name = || self.name.to_string();
        with_nonce!(first_authorization(order))
            .map_err(|error| self.failed("reading the authorization for", error))?;
        let mut authorizations = order.authorizations();
        let mut authorization: AuthorizationHandle<'_> = match authorizations.next().await {
            None => return Err(OrderError::NoAuthorization { name: name() }),
            Some(read) => {
                read.map_err(|error| self.failed("reading the authorization for", error))?
            }
        };
        match authorization.status {
            AuthorizationStatus::Valid => return Ok(()),
            AuthorizationStatus::Pending => {}
            status @ (AuthorizationStatus::Invalid
            | AuthorizationStatus::Revoked
            | AuthorizationStatus::Expired
            | AuthorizationStatus::Deactivated) => {
                return Err(OrderError::Authorization {
                    name: name(),
                    status,
                });
            }
        }
        let mut offered = authorization
            .challenge(kind)
            .ok_or_else(|| OrderError::NotOffered {
                challenge: self.challenge,
                name: name(),
            })?;
        let authorization = offered.key_authorization();
        let token = offered.token.clone();
        let proof = self
            .proofs
            .put_up(self.name, self.challenge, &token, &authorization);
        let proof = proof.await;
        *up = Some(proof.map_err(|error| OrderError::Proof(Box::new(error)))?);
        let Err(error) = with_nonce!(offered.set_ready()) else {
            return Ok(());
        };
        // A fast directory has looked already, and its answer is what it found.
        match self.refusal(order).await {
            Ok(Some(detail)) => Err(self.not_proved(Some(detail))),
            Ok(None) | Err(_) => Err(self.failed("announcing the proof of", error)),
        }
    }

    /// Why the directory did not find the proof good.
    async fn disproved(&self, order: &mut Order) -> OrderError {
        match self.refusal(order).await {
            Ok(detail) => self.not_proved(detail),
            Err(error) => error,
        }
    }

    fn not_proved(&self, detail: Option<String>) -> OrderError {
        OrderError::NotProved {
            name: self.name.to_string(),
            detail: detail.unwrap_or_else(|| "it does not say why".to_owned()),
        }
    }

    /// What the directory holds against the proof, if it does.
    async fn refusal(&self, order: &mut Order) -> Result<Option<String>, OrderError> {
        let mut authorizations = order.authorizations();
        let Some(Ok(mut authorization)) = authorizations.next().await else {
            return Err(OrderError::NoAuthorization {
                name: self.name.to_string(),
            });
        };
        with_nonce!(authorization.refresh())
            .map_err(|error| self.failed("reading the authorization for", error))?;
        let challenges = authorization.challenges.iter();
        let refused = challenges.filter(|challenge| challenge.status == ChallengeStatus::Invalid);
        let mut details = refused.filter_map(|challenge| challenge.error.as_ref());
        Ok(details.next().map(ToString::to_string))
    }

    /// A request for the name, and the key that it is for: P-256, which every client takes.
    fn request(&self) -> Result<(Vec<u8>, KeyPair), OrderError> {
        let request = || {
            let mut params = CertificateParams::new([self.name.to_string()])?;
            params.distinguished_name = DistinguishedName::new();
            let key = KeyPair::generate()?;
            let request = params.serialize_request(&key)?.der().to_vec();
            Ok((request, key))
        };
        request().map_err(|source| OrderError::Request {
            name: self.name.to_string(),
            source,
        })
    }

    fn read(&self, chain: &str, key: &KeyPair) -> Result<Obtained, OrderError> {
        let wrong = |source| OrderError::Certificate {
            name: self.name.to_string(),
            source,
        };
        let key_pem = Zeroizing::new(key.serialize_pem());
        let bundle = Bundle::from_pem(chain.as_bytes(), key_pem.as_bytes()).map_err(wrong)?;
        let certificates = CertificateDer::pem_slice_iter(chain.as_bytes());
        // All of them are good: the bundle is made of the same.
        let chain: Vec<Vec<u8>> = certificates
            .filter_map(|certificate| certificate.ok())
            .map(|certificate| certificate.to_vec())
            .collect();
        let leaf = chain.first().and_then(|leaf| leaf::read(leaf));
        let leaf = leaf.ok_or_else(|| wrong(ContentError::Certificate))?;
        if !leaf.names.contains(&self.name.0) {
            return Err(OrderError::OtherName {
                name: self.name.to_string(),
            });
        }
        Ok(Obtained {
            bundle: Arc::new(bundle),
            leaf,
            chain,
            key: Zeroizing::new(key.serialize_der()),
        })
    }

    fn failed(&self, doing: &'static str, source: instant_acme::Error) -> OrderError {
        OrderError::Acme {
            doing,
            name: self.name.to_string(),
            source,
        }
    }
}

/// Reads the first authorization; the order keeps it.
async fn first_authorization(order: &mut Order) -> Result<(), instant_acme::Error> {
    match order.authorizations().next().await {
        Some(Err(error)) => Err(error),
        Some(Ok(_)) | None => Ok(()),
    }
}
