//! Why a verb did not do what it was asked for.

use std::{error::Error, io, path::PathBuf};

use crate::{
    api::{ApiError, TokenError},
    exit::Exit,
};

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VerbError {
    /// The API was not reached, or refused.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// No token to use.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The document cannot be read.
    #[error("reading {}", .path.display())]
    Document {
        /// The file, or `-`.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// More than the API takes.
    #[error("{} is longer than {limit} bytes, which is the most that a state document may have", .path.display())]
    DocumentLong {
        /// The file, or `-`.
        path: PathBuf,
        /// Bytes.
        limit: usize,
    },
    /// No such network in the desired state.
    #[error("no network {0} is declared: `ringway status` lists them")]
    Network(String),
    /// No certificate that is, or is to be, for such a name.
    #[error("no certificate is for {0}, and none is to be had: `ringway certificates` lists them")]
    Certificate(String),
    /// Output could not be written.
    #[error("writing the output")]
    Output(#[source] io::Error),
    /// A manual page or completion could not be written.
    #[error("writing the manual pages to {}", .path.display())]
    Manual {
        /// The folder.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The runtime could not be made.
    #[error("making the client's runtime")]
    Runtime(#[source] io::Error),
    /// The terminal could not be used.
    #[error("using the terminal (`ringway status --watch` needs none)")]
    Terminal(#[source] io::Error),
}

impl VerbError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Api(error) => error.exit(),
            // Whoever read the output has seen enough, as `head` does.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::Token(_)
            | Self::Document { .. }
            | Self::DocumentLong { .. }
            | Self::Network(_)
            | Self::Certificate(_)
            | Self::Output(_)
            | Self::Manual { .. }
            | Self::Runtime(_)
            | Self::Terminal(_) => Exit::Failed,
        }
    }
}

/// An error with everything behind it.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}
