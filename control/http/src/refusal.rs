//! Everything that is refused, as one answer: a status and `{"error", "problems"}`.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use control_api::{answer::Refused, state::EditError};
use control_store::{CommitError, ReadError};

use crate::front::ChangeRefused;

/// Why a request is not answered with what it asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    status: StatusCode,
    answer: Refused,
    retry_after: Option<u64>,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, error: impl Into<String>) -> Self {
        Self {
            status,
            answer: Refused::because(error),
            retry_after: None,
        }
    }

    pub(crate) fn bad_request(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, error)
    }

    /// Something is short for a moment; asking again may help.
    pub(crate) fn unavailable(error: impl Into<String>) -> Self {
        Self {
            retry_after: Some(1),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, error)
        }
    }

    pub(crate) fn too_many(error: impl Into<String>, retry_after: u64) -> Self {
        Self {
            retry_after: Some(retry_after),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, error)
        }
    }

    /// Whether the request is at fault, or the gateway.
    pub(crate) fn is_clients(&self) -> bool {
        self.status.is_client_error()
    }

    pub(crate) fn error(&self) -> &str {
        &self.answer.error
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.answer)).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            // RFC 9110 section 11.6.1.
            let challenge = HeaderValue::from_static("Bearer realm=\"ringway\"");
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<ChangeRefused> for Refusal {
    fn from(refused: ChangeRefused) -> Self {
        let error = refused.to_string();
        match refused {
            ChangeRefused::Edit(EditError::Problems(problems)) => Self {
                status: StatusCode::BAD_REQUEST,
                answer: Refused::with_problems(error, &problems),
                retry_after: None,
            },
            ChangeRefused::Edit(
                EditError::UnknownNetwork(_)
                | EditError::NoDevice(_)
                | EditError::UnknownRoute { .. }
                | EditError::UnknownPeer { .. }
                | EditError::UnknownListener { .. },
            ) => Self::new(StatusCode::NOT_FOUND, error),
            ChangeRefused::Edit(EditError::Foreign { .. })
            | ChangeRefused::Conflict { .. }
            | ChangeRefused::Unstored(CommitError::Conflict { .. }) => {
                Self::new(StatusCode::CONFLICT, error)
            }
            ChangeRefused::Unstored(CommitError::Write(cause)) => {
                Self::unavailable(format!("{error}: {}", chain(&cause)))
            }
            ChangeRefused::NotRunning { .. }
            | ChangeRefused::Withdrawn
            | ChangeRefused::ShuttingDown => Self::unavailable(error),
        }
    }
}

impl From<ReadError> for Refusal {
    fn from(error: ReadError) -> Self {
        Self::unavailable(chain(&error))
    }
}

/// An error with what caused it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    texts.join(": ")
}
