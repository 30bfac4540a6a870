//! Rules for the requests of a host: the items of a network's `routes`.
//!
//! A rule is found by its host, path, methods and headers, and says what becomes of the requests:
//! they go to targets, somewhere else, or are answered with "maintenance". With
//! `"tls": "passthrough"` it says where the TLS connections of a host go, unread.

mod access;
mod balance;
mod check;
mod headers;
mod health;
mod id;
mod redirect;
mod secrets;
mod text;
mod timing;
mod to;
mod upstream;

pub use access::{Auth, ClientCertificates, ClientMode, Hsts, Sticky, USERS_MAX, Users};
use engine_core::hostname::HostPattern;
use engine_http::{method::Scheme, rules::Match};
pub use headers::{Conditions, HeaderEdits, HeaderValues};
pub use health::{Ejection, Health, HealthKind, Statuses};
pub use id::{RuleId, RuleIdError};
use ipnet::IpNet;
pub use redirect::Redirect;
pub use secrets::Secret;
pub(super) use secrets::resolve;
use serde_json::Value;
pub use text::{CookieName, HeaderName, MethodName, PathPrefix, RouteHost};
pub use timing::{Retries, Timeouts};
pub use to::{Speaks, To};
pub use upstream::{OriginHost, Rewrite, ServerName, UpstreamTls};

use super::{
    Owner,
    part::{List, part},
    secret::Secrets,
};
use crate::{
    field::{Field as _, words},
    unit::ByteSize,
};

/// Most rules of one host in a network.
pub const ROUTES_PER_HOST_MAX: usize = 1000;
// `proxy` may add one for each scheme.
const _: () = assert!(ROUTES_PER_HOST_MAX + 2 <= engine_http::rules::RULES_PER_HOST_MAX);
/// Most methods, or headers that are looked at, of one rule.
pub(super) const CONDITIONS_MAX: usize = 32;
/// Most prefixes of one `allow` or `deny`.
pub(super) const PREFIXES_MAX: usize = 1024;

part! {
    /// A rule for requests, or for the TLS connections of a host.
    pub struct Route {
        /// Its name, unique in the gateway: `/api/v1/networks/{port}/routes/{id}` changes this rule
        /// alone.
        id: Option<RuleId>, r#""shop-api""#;
        /// Who the rule belongs to. Written and shown with `?owners=all` only.
        owner: Owner = "api", r#""api""#;
        /// The host: a name, `*.domain` for every name below a domain, or `*` as the catch-all for
        /// hosts that no network declares.
        host: RouteHost, r#""shop.example.com""#;
        /// The path: this one and those below it. A path with a slash at its end also matches
        /// without it, unless a rule has exactly that path.
        path: PathPrefix = "/", r#""/api""#;
        /// The methods; by default all. `GET` includes `HEAD`, unless an equally specific rule
        /// names `HEAD`.
        methods: List<MethodName, CONDITIONS_MAX>, r#"["GET", "HEAD"]"#;
        /// Conditions on headers, all of which must hold: `true` means present, a string is the
        /// value, `{"prefix": …}` is what the value starts with. `_` and `-` in names are the same.
        headers: Conditions, r#"{"x-beta": true, "x-version": {"prefix": "2."}}"#;
        /// `passthrough` forwards TLS connections of the host unread. `terminate` terminates TLS
        /// with a certificate for the host; the rule then takes requests with TLS only. Without
        /// this key the rule takes requests without TLS, and also those with TLS if TLS of the host
        /// is terminated.
        tls: Option<RouteTls>, r#""terminate""#;
        /// The targets, from 1 to 256, as in `proxy`. A scheme in front says what they speak, and
        /// is the same for all: `http://` (HTTP/1.1, the default), `https://`, `h2://` (HTTP/2 in
        /// TLS, otherwise HTTP/1.1) or `h2c://` (HTTP/2 without TLS).
        to: Option<To>, r#"["10.0.0.2:8080", {"to": "10.0.0.3:8080", "weight": 2}]"#;
        /// How requests are balanced over the targets.
        balance: Option<engine_core::balance::Balance>, r#""hash:cookie:session""#;
        /// Active health checks of the targets.
        health: Option<Health>, r#"{"kind": "http", "path": "/healthz"}"#;
        /// Ejection of targets that fail requests (outlier detection).
        ejection: Option<Ejection>, r#"{"failures": 3}"#;
        /// A redirect. `https` redirects requests without TLS to the same address with TLS.
        /// Otherwise a location, with `{host}`, `{path}` and `{query}` of the request.
        redirect: Option<Redirect>, r#"{"to": "https://www.example.com{path}{query}", "status": 301}"#;
        /// Changes path and host of forwarded requests.
        rewrite: Option<Rewrite>, r#"{"prefix": "/", "host": "shop.internal"}"#;
        /// Changes request headers, after all changes of the gateway itself. Setting or removing a
        /// header covers all spellings with `_` for `-`. The API shows values of headers that carry
        /// secrets (`Authorization`, `Cookie`, `X-Api-Key`) as `(kept)`; `(kept)` in a document
        /// keeps the value.
        request_headers: Option<HeaderEdits>, r#"{"set": {"x-tenant": "blue"}, "remove": ["cookie"]}"#;
        /// Changes response headers.
        response_headers: Option<HeaderEdits>, r#"{"add": {"x-frame-options": "DENY"}}"#;
        /// Timeouts. The default of each is the listener's.
        timeouts: Option<Timeouts>, r#"{"answer": "10s"}"#;
        /// Maximum bytes of a request body; by default unlimited.
        body_max: Option<ByteSize>, r#""10MiB""#;
        /// Retries after a target failed. Only requests that are safe to repeat are retried.
        retries: Option<Retries>, r#"{"max": 2}"#;
        /// Requires a user name and a password (HTTP Basic authentication, RFC 7617).
        auth: Option<Auth>, r#"{"users": {"alice": "{SSHA256}/ns6zJE/32NE8cKSZF9az8X5lArEIFIDTnq8kcJ5W2k3YjBkNGYxYzlhMmU2ODM1"}}"#;
        /// Client addresses that are allowed; by default all. Behind a trusted proxy the client's
        /// address is the last one in `X-Forwarded-For` that is not a trusted proxy.
        allow: List<IpNet, PREFIXES_MAX>, r#"["192.0.2.0/24"]"#;
        /// Client addresses that are denied, even if they are allowed.
        deny: List<IpNet, PREFIXES_MAX>, r#"["192.0.2.66"]"#;
        /// Sticky sessions: a cookie keeps a client with its target.
        sticky: Option<Sticky>, r#"{"cookie": "at"}"#;
        /// Answers 503 to every request.
        maintenance: bool = "false", r#"true"#;
        /// Tells browsers to use TLS only for the host (RFC 6797).
        hsts: Option<Hsts>, r#"{"max_age": "365d"}"#;
        /// Requests client certificates (mutual TLS). All rules of a host that have this key must
        /// agree. If a certificate is `required`, all rules of the host take requests with TLS
        /// only. With the host `*` it applies to catch-all hosts, and to clients that send no host
        /// name. A verified identity is passed on only to targets of hosts with the same setting;
        /// requests for other hosts on the connection are answered 421. A change also applies to
        /// open connections.
        client_certificates: Option<ClientCertificates>, r#"{"mode": "optional", "roots": "-----BEGIN CERTIFICATE-----\nMIHCMHYCAQEwBQYDK2VwMA0xCzAJBgNVBAMMAmNhMCAXDTI2MTEyMTE2MDE0NFoY\nDzIxMjYxMDI4MTYwMTQ0WjANMQswCQYDVQQDDAJjYTAqMAUGAytlcAMhAIBOAt37\nr8zd9jUqNWMHKgxLwAGAk1miTVV49Wuyeek7MAUGAytlcANBAL3ngogn80D1pUlQ\nmPqvqXSEC2wjW7J1vM1REeFIGUky1Kx6ghWyCI+Xmze/Nl/lIBvVELbocsH6o6Xt\nEuKYSAM=\n-----END CERTIFICATE-----\n"}"#;
        /// TLS towards `https://` and `h2://` targets.
        upstream_tls: Option<UpstreamTls>, r#"{"server_name": "shop.internal"}"#;
    }
}

words! {
    /// What becomes of a host's TLS.
    pub enum RouteTls {
        /// It goes to the targets, unread.
        Passthrough = "passthrough",
        /// It ends here.
        Terminate = "terminate",
    }
}

impl Route {
    /// What stands in the list of rules of a document, with [`super::KEPT`] in the place of each secret.
    pub fn render_masked(&self) -> Value {
        self.render(Secrets::Kept)
    }

    pub(super) fn render(&self, secrets: Secrets) -> Value {
        let mut route = self.write();
        if secrets == Secrets::Kept {
            secrets::mask(&mut route);
        }
        route
    }

    /// What requests are found by; what passes through unread is not found by requests.
    pub fn found_by(&self) -> Match {
        Match {
            scheme: self.scheme(),
            host: self.host.pattern().cloned(),
            path: self.path.as_str().to_owned(),
            methods: self.methods.iter().map(ToString::to_string).collect(),
            fields: self.headers.list().to_vec(),
        }
    }

    /// Whether it is for requests with TLS, or without it, alone.
    pub fn scheme(&self) -> Option<Scheme> {
        match self.tls {
            Some(RouteTls::Terminate) => Some(Scheme::Https),
            _ if self.redirect.as_ref().is_some_and(Redirect::is_to_https) => Some(Scheme::Http),
            _ => None,
        }
    }

    /// Whether it is about TLS connections that are not read.
    pub fn passes_through(&self) -> bool {
        self.tls == Some(RouteTls::Passthrough)
    }

    /// The name that its targets are known by, where TLS is spoken with them; `None` where that is the
    /// host of each request.
    pub fn upstream_name(&self) -> Option<&str> {
        let said = self.upstream_tls.as_ref();
        match (
            said.and_then(|said| said.server_name.as_ref()),
            self.host.pattern(),
        ) {
            (Some(name), _) => Some(name.as_str()),
            (None, Some(HostPattern::Exact(name))) => Some(name.as_str()),
            (None, Some(HostPattern::Wildcard(_)) | None) => None,
        }
    }

    /// Its name in logs, metrics and accounts: what it is found by, and so no other rule's.
    pub fn label(&self) -> String {
        if self.passes_through() {
            return self.host.to_string();
        }
        let methods: Vec<&str> = self.methods.iter().map(MethodName::as_str).collect();
        let mut label = methods.join(",");
        if !label.is_empty() {
            label.push(' ');
        }
        if let Some(scheme) = self.scheme() {
            label.push_str(scheme.as_str());
            label.push_str("://");
        }
        label.push_str(&format!("{}{}", self.host, self.path));
        for condition in self.headers.list() {
            label.push_str(&headers::said(condition));
        }
        label
    }
}

#[cfg(test)]
mod tests;
