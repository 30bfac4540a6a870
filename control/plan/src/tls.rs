//! What a state document says of TLS, before certificates and keys come to it.

use std::sync::Arc;

use control_api::state::{
    MinVersion, Network, Route,
    route::{ClientCertificates, Speaks, UpstreamTls},
};
use engine_core::{hostname::HostPattern, ids::RouteId};
use engine_tls::{Policy, origin::Settings, policy};

/// Whose TLS ends here, and how targets are spoken with.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// The names whose TLS ends here, and on what terms. All others are passed through, or ended on
    /// the terms for others.
    pub names: Vec<(HostPattern, Policy)>,
    /// On what terms TLS ends for names that nobody declared, where a network says so.
    pub others: Option<Policy>,
    /// The names whose TLS is refused.
    pub refused: Vec<HostPattern>,
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

/// On what terms TLS of a host ends; without one, of every host that nobody declared.
pub(crate) fn terms(network: &Network, host: Option<&HostPattern>) -> Policy {
    // All rules of a host that say anything of its clients say the same.
    let mut rules = network.routes.iter();
    let of_host =
        |route: &&Arc<Route>| route.host.pattern() == host && route.client_certificates.is_some();
    let clients = rules.find(of_host);
    let clients = clients.and_then(|route| route.client_certificates.as_ref());
    Policy {
        protocols: policy::Protocols::Http2,
        version: match network.tls.as_ref().map(|tls| tls.min_version) {
            Some(MinVersion::Tls13) => policy::MinVersion::Tls13,
            Some(MinVersion::Tls12) | None => policy::MinVersion::Tls12,
        },
        clients: clients.map(ClientCertificates::clients).unwrap_or_default(),
        unknown: policy::UnknownName::Default,
    }
}

/// How the targets of a rule are spoken with, if not in plain HTTP/1.
pub(crate) fn origin(route: &Route) -> Option<Origin> {
    let speaks = route.to.as_ref()?.speaks;
    match speaks {
        Speaks::Http => None,
        Speaks::H2c => Some(Origin::Http2),
        Speaks::Https | Speaks::H2 => {
            let said = route.upstream_tls.as_ref();
            let settings = said.map_or_else(
                || UpstreamTls::unsaid_settings(speaks),
                |said| said.settings(speaks),
            );
            let name = route.upstream_name().map(Into::into);
            Some(Origin::Tls { settings, name })
        }
    }
}
