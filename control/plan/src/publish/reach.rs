//! Which requests any listener takes.

use control_api::{
    Problem, Problems, Severity,
    boot::{Listener, Protocol},
    state::{Desired, Terminated},
};
use engine_http::method::Scheme;

/// What the listeners take, all together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// Some listener takes requests without TLS.
    http: bool,
    /// Some listener ends TLS.
    https: bool,
    /// Some listener passes TLS through.
    tls: bool,
}

impl Reach {
    pub(super) fn of(listeners: &[Listener]) -> Self {
        let some = |protocols: &[Protocol]| {
            let mut listeners = listeners.iter();
            listeners.any(|listener| protocols.contains(&listener.protocol))
        };
        Self {
            http: some(&[Protocol::Http]),
            https: some(&[Protocol::Tls, Protocol::Https]),
            tls: some(&[Protocol::Tls]),
        }
    }

    /// Whether requests of a scheme, or of either, come at all for a host whose TLS ends here or
    /// does not.
    pub(super) fn has(self, scheme: Option<Scheme>, ends_here: bool) -> bool {
        let (http, https) = (self.http, self.https && ends_here);
        match scheme {
            Some(Scheme::Http) => http,
            Some(Scheme::Https) => https,
            None => http || https,
        }
    }
}

/// A warning for each rule of a state document that no listener leads to.
pub fn unserved(desired: &Desired, listeners: &[Listener]) -> Problems {
    let reach = Reach::of(listeners);
    let mut problems = Problems::default();
    for (port, network) in &desired.networks {
        let terminated = Terminated::of(network);
        for (index, route) in network.routes.iter().enumerate() {
            let ends_here = terminated.has(route.host.pattern());
            let (is_served, protocols) = match (route.passes_through(), route.scheme()) {
                (true, _) => (reach.tls, "tls"),
                (false, scheme @ Some(Scheme::Https)) => (reach.has(scheme, ends_here), "https"),
                (false, scheme) => (reach.has(scheme, ends_here), "http"),
            };
            if !is_served {
                problems.push(Problem {
                    pointer: format!("/{port}/routes/{index}"),
                    hint: Some(format!(
                        "declare one with `protocol: {protocols}` in the boot file"
                    )),
                    ..Problem::whole(Severity::Warning, "no listener takes what this rule is for")
                });
            }
        }
    }
    problems
}
