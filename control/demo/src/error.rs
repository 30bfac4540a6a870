//! What can go wrong in a demo.

use std::{io, path::PathBuf, process::ExitStatus, time::Duration};

use control_api::state::KeyError;

use super::api::ApiError;

/// Why the demo did not come up, or did not show what it is to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// No mount namespace.
    #[error("the demo makes network namespaces, so it needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN)")]
    Isolate(#[source] io::Error),
    /// No certificate.
    #[error("certifying {0}")]
    Certify(String, #[source] rcgen::Error),
    /// rustls would not take the certificate.
    #[error("setting up TLS")]
    Tls(#[source] rustls::Error),
    /// The kernel has no random numbers.
    #[error("making WireGuard keys: no random numbers are to be had")]
    Random,
    /// What was made is no key.
    #[error("making WireGuard keys")]
    Key(#[source] KeyError),
    /// A file was not written.
    #[error("writing {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
    /// All ports in reach are taken.
    #[error("no free port from {0} on")]
    Port(u16, #[source] io::Error),
    /// There is no process to be had.
    #[error("starting the process of {0}")]
    Start(&'static str, #[source] io::Error),
    /// What a process is told could not be written down.
    #[error("telling {0} what to be")]
    Tell(&'static str, #[source] serde_json::Error),
    /// A process ended that should not have.
    #[error("the process of {name} has ended: {status}\n{log}")]
    Ended {
        /// Whose it was.
        name: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// What it said last.
        log: String,
    },
    /// Something took too long.
    #[error("{what} took longer than {} s", .patience.as_secs())]
    Late {
        /// What was waited for.
        what: &'static str,
        /// How long.
        patience: Duration,
    },
    /// The gateway's API did not answer a question.
    #[error("asking the gateway: {0}")]
    Api(&'static str, #[source] ApiError),
    /// A request through the gateway failed.
    #[error("asking {0} through the gateway")]
    Ask(&'static str, #[source] io::Error),
    /// The answer is no HTTP.
    #[error("{0} does not answer as HTTP/1.1 with status 200")]
    Answer(&'static str),
    /// The output is gone.
    #[error("printing")]
    Print(#[source] io::Error),
    /// The process cannot wait for signals.
    #[error("waiting for a signal")]
    Signal(#[source] io::Error),
    /// The process cannot be made a part of the demo.
    #[error("tying a process to its demo")]
    Attach(#[source] io::Error),
    /// There is no demo to be a part of.
    #[error("this is a part of `ringway demo`, which starts it")]
    Orphan,
}
