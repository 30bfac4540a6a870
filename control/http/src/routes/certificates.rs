//! The certificates that the gateway has.

use std::sync::Arc;

use axum::{Json, extract::State};
use control_api::answer::{CertificateState, CertificateStatus, Certificates};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::{access::Reader, ask::Asked, shared::Shared};

/// Certificates in one answer when nothing is asked for, and the most.
const LIMIT_DEFAULT: usize = 1000;
const LIMIT_MAX: usize = 100_000;

/// Which certificates are asked for.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// Only those of the network of this port.
    network: Option<u16>,
    /// Only those that are, or are to be, for this host or `*.domain`, or that are in the file of
    /// this path.
    name: Option<String>,
    /// Only those in this state.
    #[param(inline)]
    state: Option<CertificateState>,
    /// Only those whose names come after this one: for the next page.
    after: Option<String>,
    /// The number of certificates; 1,000 by default, 100,000 at most.
    limit: Option<usize>,
}

impl Which {
    fn takes(&self, certificate: &CertificateStatus) -> bool {
        let name = self.name.as_deref();
        self.network
            .is_none_or(|port| certificate.network == Some(port))
            && self.state.is_none_or(|state| certificate.state == state)
            && name.is_none_or(|name| certificate.source == name || is_for(certificate, name))
    }
}

/// Whether a certificate is for a name: as one of its own, or by a wildcard for the domain above.
fn is_for(certificate: &CertificateStatus, name: &str) -> bool {
    let own = [&certificate.name].into_iter();
    let mut own = own.chain(&certificate.names).chain(&certificate.hosts);
    own.any(|own| {
        let below = own.strip_prefix("*.").zip(name.split_once('.'));
        let is_below =
            |(domain, (_, above)): (&str, (&str, &str))| domain.eq_ignore_ascii_case(above);
        own.eq_ignore_ascii_case(name) || below.is_some_and(is_below)
    })
}

/// Lists the certificates.
#[utoipa::path(
    get,
    path = "/api/v1/certificates",
    tag = "state",
    summary = "List certificates",
    description = "Those that are served, and those that are to be obtained; never their keys.",
    params(Which),
    responses(
        (status = 200, description = "By name, as of a second ago at most", body = Certificates),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn list(
    State(shared): State<Arc<Shared>>,
    _: Reader,
    Asked(which): Asked<Which>,
) -> Json<Certificates> {
    let view = Arc::clone(&shared.front.certificates.borrow());
    let limit = which.limit.unwrap_or(LIMIT_DEFAULT).min(LIMIT_MAX);
    let asked = view.certificates.iter().filter(|it| which.takes(it));
    let total = asked.clone().count();
    let after = which.after.as_deref().unwrap_or_default();
    let page = asked.skip_while(|certificate| !after.is_empty() && *certificate.name <= *after);
    Json(Certificates {
        total,
        certificates: page.take(limit).cloned().collect(),
    })
}
