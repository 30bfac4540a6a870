//! Directories, and our account at each of them.

use std::{
    io,
    path::{Path, PathBuf},
};

use base64::{
    Engine as _,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use control_api::boot;
use control_store::{CertificateStore, ReadError, WriteError};
use instant_acme::{Account, AccountCredentials, ExternalAccountKey, NewAccount};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::{is_problem, patience, with_nonce};
use crate::{
    client::{Client, ClientError},
    reading,
};

/// Keys are given out in base64url, by some with padding (RFC 8555 section 7.3.4).
const KEY_ENCODING: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why there is no account.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AccountError {
    /// The directory's server cannot be verified.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The key for external account binding cannot be read.
    #[error("reading the key in {}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// What is in it is no key.
    #[error("{} holds no key in base64url", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: base64::DecodeError,
    },
    /// The store does not tell.
    #[error("looking for the account")]
    Read(#[from] ReadError),
    /// The store does not keep it.
    #[error("keeping the account")]
    Write(#[from] WriteError),
    /// What the store has is no account.
    #[error("reading the account that was kept")]
    Kept(#[source] serde_json::Error),
    /// The directory does not make one.
    #[error("making an account at {directory}")]
    Make {
        /// Where.
        directory: String,
        /// What it says.
        source: instant_acme::Error,
    },
    /// The directory does not answer.
    #[error("opening the account at {directory}")]
    Open {
        /// Where.
        directory: String,
        /// What it says.
        source: instant_acme::Error,
    },
}

impl AccountError {
    /// For how many seconds the directory asks to be left alone.
    pub(crate) fn patience(&self) -> Option<u64> {
        match self {
            Self::Make { source, .. } | Self::Open { source, .. } => patience(source),
            Self::Client(_)
            | Self::KeyFile { .. }
            | Self::Key { .. }
            | Self::Read(_)
            | Self::Write(_)
            | Self::Kept(_) => None,
        }
    }
}

/// A directory, and our account there once it was needed.
#[derive(Debug)]
pub(crate) struct Directory {
    declared: boot::Directory,
    folder: PathBuf,
    store: CertificateStore,
    account: Mutex<Option<Opened>>,
}

/// An account, which has nothing to show.
#[derive(Clone)]
struct Opened(Account);

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opened(…)")
    }
}

impl Directory {
    /// One of the boot file's. Names of files begin at `folder`.
    pub(crate) fn new(declared: &boot::Directory, folder: &Path, store: CertificateStore) -> Self {
        Self {
            declared: declared.clone(),
            folder: folder.to_owned(),
            store,
            account: Mutex::new(None),
        }
    }

    /// Its name in answers and metrics.
    pub(crate) fn name(&self) -> &boot::DirectoryName {
        &self.declared.name
    }

    /// Where it is.
    pub(crate) fn url(&self) -> &str {
        self.declared.url.as_str()
    }

    /// Our account: the one that is open, that was kept, or a new one. Whoever asks meanwhile waits,
    /// so that there is never a second one.
    pub(crate) async fn account(&self) -> Result<Account, AccountError> {
        let mut account = self.account.lock().await;
        if let Some(Opened(account)) = &*account {
            return Ok(account.clone());
        }
        let kept = self.store.acme_account(self.url().to_owned()).await?;
        let opened = match kept {
            Some(kept) => self.open(&kept).await?,
            None => self.make().await?,
        };
        *account = Some(Opened(opened.clone()));
        Ok(opened)
    }

    /// Forgets the account if the directory says that it does not know it, so that the next order
    /// makes a new one. Directories for tests forget everything when they end.
    pub(crate) async fn doubt(&self, error: &instant_acme::Error) {
        if !is_problem(error, "accountDoesNotExist") {
            return;
        }
        let mut account = self.account.lock().await;
        *account = None;
        let forgotten = self.store.remove_acme_account(self.url().to_owned()).await;
        if let Err(error) = forgotten {
            tracing::warn!(%error, directory = %self.name(), "an account is not forgotten");
        }
    }

    async fn open(&self, kept: &str) -> Result<Account, AccountError> {
        let credentials: AccountCredentials =
            serde_json::from_str(kept).map_err(AccountError::Kept)?;
        let builder = Account::builder_with_http(Box::new(self.client().await?));
        let opened = builder.from_credentials(credentials).await;
        opened.map_err(|source| AccountError::Open {
            directory: self.url().to_owned(),
            source,
        })
    }

    async fn make(&self) -> Result<Account, AccountError> {
        let contact = self.declared.contact.iter().flatten();
        let contact: Vec<&str> = contact.map(boot::Contact::as_str).collect();
        let account = NewAccount {
            contact: &contact,
            terms_of_service_agreed: true,
            only_return_existing: false,
        };
        let binding = self.binding().await?;
        let client = self.client().await?;
        let url = self.url().to_owned();
        let made = with_nonce!(Account::builder_with_http(Box::new(client.clone())).create(
            &account,
            url.clone(),
            binding.as_ref()
        ));
        let (account, credentials) = made.map_err(|source| AccountError::Make {
            directory: url.clone(),
            source,
        })?;
        let kept = serde_json::to_string(&credentials).map_err(AccountError::Kept)?;
        self.store
            .put_acme_account(url, Zeroizing::new(kept))
            .await?;
        tracing::info!(directory = %self.name(), "an account was made");
        Ok(account)
    }

    /// What binds the account to one that the authority knows (RFC 8555 section 7.3.4).
    async fn binding(&self) -> Result<Option<ExternalAccountKey>, AccountError> {
        let declared = &self.declared;
        let Some((id, file)) = declared
            .eab_key_id
            .as_ref()
            .zip(declared.eab_key_file.as_ref())
        else {
            return Ok(None);
        };
        let path = self.folder.join(file);
        let text = reading::text(&path, reading::KEY_BYTES_MAX).await;
        let text = text.map_err(|source| AccountError::KeyFile {
            path: path.clone(),
            source,
        })?;
        let key = KEY_ENCODING.decode(text.trim()).map(Zeroizing::new);
        let key = key.map_err(|source| AccountError::Key { path, source })?;
        Ok(Some(ExternalAccountKey::new(id.to_string(), &key)))
    }

    async fn client(&self) -> Result<Client, ClientError> {
        match &self.declared.roots {
            Some(roots) => Client::trusting(&self.folder.join(roots)).await,
            None => Client::new(),
        }
    }
}
