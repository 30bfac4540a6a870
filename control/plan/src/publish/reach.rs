//! Which requests any listener takes.

use control_api::{
    Problem, Severity,
    boot::{Listener, Protocol},
    place::NetworkKey,
    state::{self as declared, Network, ProxyKey, Route, Terminated},
};
use engine_http::method::Scheme;

/// What the listeners take, all together.
#[derive(Clone, Copy, Debug, Default)]
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
        let protocols = listeners.iter().map(|listener| listener.protocol);
        protocols.fold(Self::default(), Self::with)
    }

    /// With a network's own listeners.
    pub(super) fn beside(self, network: &Network) -> Self {
        let listeners = network.listeners.values();
        listeners.map(|it| it.protocol).fold(self, Self::with)
    }

    fn with(self, protocol: Protocol) -> Self {
        let is = |protocols: &[Protocol]| protocols.contains(&protocol);
        Self {
            http: self.http || is(&[Protocol::Http]),
            https: self.https || is(&[Protocol::Tls, Protocol::Https]),
            tls: self.tls || is(&[Protocol::Tls]),
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

/// Something that a state document serves and no listener leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unserved {
    /// The public port of its network.
    pub network: NetworkKey,
    /// Its name in logs, metrics and accounts.
    pub label: String,
    /// The protocol that a listener should have.
    pub protocol: &'static str,
    /// Where it stands in the document.
    pointer: String,
}

/// Everything in a network that no listener leads to. Keys of schemes that are not served at all are
/// not among them: reading the document warns of those.
pub fn unserved(network: &Network, listeners: &[Listener]) -> Vec<Unserved> {
    let port = network.port;
    let reach = Reach::of(listeners).beside(network);
    let terminated = Terminated::of(network);
    let mut found = Vec::new();
    let mut note = |protocol: Option<&'static str>, pointer: String, label: String| {
        found.extend(protocol.map(|protocol| Unserved {
            network: port,
            label,
            protocol,
            pointer,
        }));
    };
    for (key, pool) in network.proxy.iter() {
        let missing = reach.missing_for_key(key, &terminated);
        // A bare host stands for both schemes, and is served if one of them is.
        let other = key
            .other_scheme()
            .filter(|it| network.proxy.get(it) == Some(pool));
        let written = match &other {
            Some(other) if reach.missing_for_key(other, &terminated).is_none() => continue,
            Some(_) => key.pattern.to_string(),
            None => key.to_string(),
        };
        let token = written.replace('/', "~1");
        note(missing, format!("/{port}/proxy/{token}"), key.to_string());
    }
    for (index, route) in network.routes.iter().enumerate() {
        let missing = reach.missing_for_route(route, &terminated);
        note(missing, format!("/{port}/routes/{index}"), route.label());
    }
    found
}

impl Reach {
    /// The protocol of the listener that a key of `proxy` lacks.
    fn missing_for_key(self, key: &ProxyKey, terminated: &Terminated<'_>) -> Option<&'static str> {
        let (is_served, protocol) = match key.scheme {
            declared::Scheme::Https if terminated.passes(key) => (self.tls, "tls"),
            declared::Scheme::Https => (self.https, "https"),
            declared::Scheme::Http => (self.http, "http"),
            declared::Scheme::Ssh => return None,
        };
        (!is_served).then_some(protocol)
    }

    /// The protocol of the listener that a route lacks.
    fn missing_for_route(self, route: &Route, terminated: &Terminated<'_>) -> Option<&'static str> {
        let ends_here = terminated.has(route.host.pattern());
        let (is_served, protocol) = match (route.passes_through(), route.scheme()) {
            (true, _) => (self.tls, "tls"),
            (false, scheme @ Some(Scheme::Https)) => (self.has(scheme, ends_here), "https"),
            (false, scheme) => (self.has(scheme, ends_here), "http"),
        };
        (!is_served).then_some(protocol)
    }
}

impl From<&Unserved> for Problem {
    fn from(unserved: &Unserved) -> Self {
        Self {
            pointer: unserved.pointer.clone(),
            hint: Some(format!(
                "declare one with `protocol: {}`, in the network or in the boot file",
                unserved.protocol
            )),
            ..Self::whole(Severity::Warning, "no listener takes what this is for")
        }
    }
}
