//! What may go wrong between a verb and the API, in words that say what to do.

use std::{error::Error, io, time::Duration};

use control_api::answer::{Refused, RefusedProblem};
use hyper::{StatusCode, body::Bytes};

use super::{Address, connection::Cause};
use crate::exit::Exit;

/// Why a request has no answer to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// Nothing listens there, or it may not be reached.
    #[error(
        "no connection to {address} ({} --api or RINGWAY_API names another place)",
        advice(.source)
    )]
    Connect {
        /// Where.
        address: Address,
        /// The system's answer.
        source: Cause,
    },
    /// No answer in time.
    #[error(
        "{address} gave no answer within {}: --timeout allows more",
        humantime::format_duration(*.timeout)
    )]
    Late {
        /// Where.
        address: Address,
        /// How long was waited.
        timeout: Duration,
    },
    /// The connection ended before the answer's head, or what came is not HTTP.
    #[error("asking {address}")]
    Exchange {
        /// Where.
        address: Address,
        /// What hyper says.
        source: Cause,
    },
    /// The connection ended within the answer.
    #[error("the answer of {address} broke off")]
    Broken {
        /// Where.
        address: Address,
        /// What hyper says.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The answer is longer than a client keeps.
    #[error("the answer is longer than {} MiB: ask for less", .limit / 1024 / 1024)]
    Long {
        /// Bytes.
        limit: usize,
    },
    /// The answer has another form: another version, or another program listens there.
    #[error("the answer has an unexpected form (is the gateway of the same version?)")]
    Form(#[source] serde_json::Error),
    /// The request cannot be written.
    #[error("the request cannot be written")]
    Ask(#[source] hyper::http::Error),
    /// The API answered, and refuses.
    #[error("{}", .0.sentence())]
    Refused(Refusal),
}

/// An answer with another status than 2xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    /// What the API says about it.
    pub(crate) error: Option<String>,
    pub(crate) problems: Vec<RefusedProblem>,
    /// The answer as it came.
    pub(crate) body: Bytes,
}

impl Refusal {
    pub(super) fn read(status: StatusCode, body: Bytes) -> Self {
        // What is not of that form comes from something between, and its status says enough.
        let refused: Option<Refused> = serde_json::from_slice(&body).ok();
        let (error, problems) = refused.map_or((None, Vec::new()), |refused| {
            (Some(refused.error), refused.problems)
        });
        Self {
            status,
            error,
            problems,
            body,
        }
    }

    /// What happened, and what helps.
    fn sentence(&self) -> String {
        let said = self.error.as_deref().unwrap_or_else(|| {
            self.status
                .canonical_reason()
                .unwrap_or("an unknown status")
        });
        let status = self.status.as_u16();
        match self.status {
            StatusCode::UNAUTHORIZED => {
                format!("{said} ({status}): name a token with --token-file or RINGWAY_TOKEN_FILE")
            }
            StatusCode::FORBIDDEN => {
                format!("{said} ({status}): the token's role does not allow this")
            }
            StatusCode::CONFLICT | StatusCode::PRECONDITION_FAILED => {
                format!("{said} ({status}): look at `ringway diff`, then apply with the new number")
            }
            _ => format!("{said} ({status})"),
        }
    }
}

impl ApiError {
    /// The status that the process ends with.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Connect { .. }
            | Self::Late { .. }
            | Self::Exchange { .. }
            | Self::Broken { .. } => Exit::Unreachable,
            Self::Long { .. } | Self::Form(_) | Self::Ask(_) => Exit::Failed,
            // The gateway is starting, or its changes wait: the same request may succeed later.
            Self::Refused(refusal) if refusal.status == StatusCode::SERVICE_UNAVAILABLE => {
                Exit::Unreachable
            }
            Self::Refused(_) => Exit::Failed,
        }
    }
}

/// What to look at when there is no connection.
fn advice(source: &Cause) -> &'static str {
    let kind = source.system().map(io::Error::kind);
    if kind == Some(io::ErrorKind::PermissionDenied) {
        "its owner and group may open it."
    } else {
        "does `ringway serve` run, and is that its api.listen?"
    }
}
