//! When a directory wants a certificate to be renewed (RFC 9773).

use instant_acme::{Account, CertificateIdentifier, Error};

use super::{account::AccountError, patience};

/// What a directory suggests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suggestion {
    /// Unix times between which it wants it.
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// After how many seconds it wants to be asked again.
    pub(crate) again: u64,
}

/// Why a directory suggests nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookError {
    /// It never does.
    #[error("the directory does not say when to renew")]
    Unsupported,
    /// There is no account to ask with.
    #[error("asking when to renew")]
    Account(#[source] Box<AccountError>),
    /// It did not this time.
    #[error("asking when to renew")]
    Ask(#[source] Error),
}

impl LookError {
    /// For how many seconds the directory asks to be left alone.
    pub(crate) fn patience(&self) -> Option<u64> {
        match self {
            Self::Unsupported => None,
            Self::Account(error) => error.patience(),
            Self::Ask(error) => patience(error),
        }
    }
}

/// Asks about one certificate.
pub(crate) async fn look(
    account: &Account,
    certificate: &CertificateIdentifier<'_>,
) -> Result<Suggestion, LookError> {
    match account.renewal_info(certificate).await {
        Ok((info, again)) => {
            let window = info.suggested_window;
            let seconds = |time: i64| u64::try_from(time).unwrap_or(0);
            Ok(Suggestion {
                start: seconds(window.start.unix_timestamp()),
                end: seconds(window.end.unix_timestamp()),
                again: again.as_secs(),
            })
        }
        Err(Error::Unsupported(_)) => Err(LookError::Unsupported),
        Err(error) => Err(LookError::Ask(error)),
    }
}
