//! Asking whether a name that nobody declared may have a certificate.

use std::time::Duration;

use control_api::boot::AskUrl;
use engine_core::hostname::Hostname;
use http::StatusCode;

use crate::client::{Client, ClientError, RequestError};

/// Why a name gets no certificate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// It was not agreed to.
    #[error("{url} answered {status} for {name}: only 200 agrees")]
    Refused {
        /// Who was asked.
        url: String,
        /// About which name.
        name: Hostname,
        /// What was said.
        status: StatusCode,
    },
    /// There was no answer.
    #[error("asking about {name}")]
    Request {
        /// About which name.
        name: Hostname,
        /// What is wrong.
        source: RequestError,
    },
}

/// Who is asked.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    url: AskUrl,
    client: Client,
}

impl Ask {
    /// Asks there.
    pub(crate) fn new(url: AskUrl, timeout: Duration) -> Result<Self, ClientError> {
        let client = Client::new()?.within(timeout);
        Ok(Self { url, client })
    }

    /// Asks about a name. A hostname has no character that a query would have to escape.
    pub(crate) async fn about(&self, name: &Hostname) -> Result<(), AskError> {
        let url = format!("{}?domain={name}", self.url);
        let status = self.client.look(&url).await;
        match status {
            Ok(StatusCode::OK) => Ok(()),
            Ok(status) => Err(AskError::Refused {
                url: self.url.to_string(),
                name: name.clone(),
                status,
            }),
            Err(source) => Err(AskError::Request {
                name: name.clone(),
                source,
            }),
        }
    }
}
