//! What can go wrong in a demo.

use std::{io, path::PathBuf};

use control_kernel::{links::LinkError, namespaces::EnsureError};

/// Why the demo did not come up, or did not show what it is to show.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    /// No mount namespace.
    #[error("the demo makes network namespaces, so it needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN)")]
    Isolate(#[source] io::Error),
    /// A tenant's namespace was not to be had.
    #[error(transparent)]
    Namespace(#[from] EnsureError),
    /// A machine's namespace was not to be had.
    #[error("making the namespace of the machine of {0}")]
    Machine(&'static str, #[source] io::Error),
    /// A tenant's link was not to be had.
    #[error("linking the machine of {0} to its tenant's namespace")]
    Link(&'static str, #[source] LinkError),
    /// No certificate.
    #[error("certifying {0}")]
    Certify(String, #[source] rcgen::Error),
    /// rustls would not take the certificate.
    #[error("setting up TLS")]
    Tls(#[source] rustls::Error),
    /// A machine does not listen.
    #[error("starting the server of {0}")]
    Serve(&'static str, #[source] io::Error),
    /// The certificate for curl was not written.
    #[error("writing {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
    /// All ports in reach are taken.
    #[error("no free port from {0} on")]
    Port(u16, #[source] io::Error),
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
}
