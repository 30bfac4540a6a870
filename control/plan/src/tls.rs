//! What a state document says of TLS, before certificates and keys come to it.

use engine_core::{hostname::HostPattern, ids::RouteId};
use engine_tls::{Policy, origin::Settings};

/// Whose TLS ends here, and how targets are spoken with.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// The names whose TLS ends here, and on what terms. All others are passed through.
    pub names: Vec<(HostPattern, Policy)>,
    /// How the targets of routes are spoken with; those that are not here in plain HTTP/1.
    pub origins: Vec<(RouteId, Origin)>,
}

/// How the targets of a route are spoken with.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// With HTTP/2 and without TLS.
    Http2,
    /// With TLS.
    Tls {
        /// Whom to believe, whom to be, and what to speak.
        settings: Settings,
        /// The name that targets must have a certificate for; without one it is their address.
        name: Option<Box<str>>,
    },
}
