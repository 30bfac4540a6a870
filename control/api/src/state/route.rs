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
use ipnet::IpNet;
pub use redirect::Redirect;
pub use secrets::Secret;
pub(super) use secrets::{mask, resolve};
pub use text::{CookieName, HeaderName, MethodName, PathPrefix, RouteHost};
pub use timing::{Retries, Timeouts};
pub use to::{Speaks, To};
pub use upstream::{OriginHost, Rewrite, ServerName, UpstreamTls};

use super::part::{List, part};
use crate::{field::words, unit::ByteSize};

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
        /// Whom it is for: a name, `*.domain` for every name below a domain, or `*` for every host
        /// that nobody declared.
        host: RouteHost, r#""shop.example.com""#;
        /// Which paths: this one, and those below it. With a slash at its end also the path
        /// without it, unless a rule has that very path.
        path: PathPrefix = "/", r#""/api""#;
        /// Which methods; all unless written. `GET` is also `HEAD`, unless a rule that is as
        /// specific names `HEAD`.
        methods: List<MethodName, CONDITIONS_MAX>, r#"["GET", "HEAD"]"#;
        /// Which requests, by header: `true` wants it there, a string is the value, and
        /// `{"prefix": …}` what the value begins with. All of them have to hold. A name with `_`
        /// for `-` is the same header.
        headers: Conditions, r#"{"x-beta": true, "x-version": {"prefix": "2."}}"#;
        /// `passthrough` sends the host's TLS connections to the targets, unread. `terminate` ends
        /// TLS here, with a certificate for the host, and the rule is for requests with TLS alone.
        /// Without it the rule is for requests without TLS, and for those with it where TLS ends
        /// here.
        tls: Option<RouteTls>, r#""terminate""#;
        /// Where the requests go: at least one target, and at most 256, as in `proxy`. In front of
        /// each may stand what all of them speak: `http://` (HTTP/1.1, as without it), `https://`,
        /// `h2://` (HTTP/2 in TLS, else HTTP/1.1) or `h2c://` (HTTP/2 without TLS).
        to: Option<To>, r#"["10.0.0.2:8080", {"to": "10.0.0.3:8080", "weight": 2}]"#;
        /// How requests are spread over the targets.
        balance: Option<engine_http::balance::Balance>, r#""hash:cookie:session""#;
        /// Asks the targets at intervals whether they are well.
        health: Option<Health>, r#"{"kind": "http", "path": "/healthz"}"#;
        /// When a target that fails requests is left out for a while.
        ejection: Option<Ejection>, r#"{"failures": 3}"#;
        /// Sends clients elsewhere: `https` is the same address with TLS, for requests without it
        /// alone; else a location in which `{host}`, `{path}` and `{query}` are the request's.
        redirect: Option<Redirect>, r#"{"to": "https://www.example.com{path}{query}", "status": 301}"#;
        /// Changes path and host of what is passed on.
        rewrite: Option<Rewrite>, r#"{"prefix": "/", "host": "shop.internal"}"#;
        /// Changes the headers of requests, after everything that the gateway does by itself. What
        /// is set or removed is so in every spelling with `_` for `-`. Values of headers whose names
        /// say that they open something (`Authorization`, `Cookie`, `X-Api-Key`) are shown as
        /// `(kept)`, and kept where that is written.
        request_headers: Option<HeaderEdits>, r#"{"set": {"x-tenant": "blue"}, "remove": ["cookie"]}"#;
        /// Changes the headers of answers.
        response_headers: Option<HeaderEdits>, r#"{"add": {"x-frame-options": "DENY"}}"#;
        /// How long to wait, each unless written as the listener says.
        timeouts: Option<Timeouts>, r#"{"answer": "10s"}"#;
        /// Longest content of a request; any unless written.
        body_max: Option<ByteSize>, r#""10MiB""#;
        /// What is repeated when a target fails: only what is safe to.
        retries: Option<Retries>, r#"{"max": 2}"#;
        /// Asks for a name and a password (RFC 7617).
        auth: Option<Auth>, r#"{"users": {"alice": "{SSHA256}/ns6zJE/32NE8cKSZF9az8X5lArEIFIDTnq8kcJ5W2k3YjBkNGYxYzlhMmU2ODM1"}}"#;
        /// Which clients are let in, by address; all unless written. Behind a trusted proxy the
        /// client is the last address in `X-Forwarded-For` that is not a trusted proxy's.
        allow: List<IpNet, PREFIXES_MAX>, r#"["192.0.2.0/24"]"#;
        /// Whose addresses are not, allowed or not.
        deny: List<IpNet, PREFIXES_MAX>, r#"["192.0.2.66"]"#;
        /// Keeps a client with its target by a cookie.
        sticky: Option<Sticky>, r#"{"cookie": "at"}"#;
        /// Answers 503 to everybody, whatever else is written.
        maintenance: bool = "false", r#"true"#;
        /// Has browsers use TLS for the host from now on (RFC 6797).
        hsts: Option<Hsts>, r#"{"max_age": "365d"}"#;
        /// Asks TLS clients of the host who they are; all rules of a host that have it agree.
        /// Where a certificate is `required`, all rules of the host are for requests with TLS
        /// alone. With `*` it is asked of all clients whose host nobody declared, and of those
        /// that name none. What it verified is told to the targets of hosts that ask in the same
        /// way, and to no others: their requests are answered 421. When it changes, open
        /// connections are held to it, too.
        client_certificates: Option<ClientCertificates>, r#"{"mode": "optional", "roots": "-----BEGIN CERTIFICATE-----\nMIHCMHYCAQEwBQYDK2VwMA0xCzAJBgNVBAMMAmNhMCAXDTI2MTEyMTE2MDE0NFoY\nDzIxMjYxMDI4MTYwMTQ0WjANMQswCQYDVQQDDAJjYTAqMAUGAytlcAMhAIBOAt37\nr8zd9jUqNWMHKgxLwAGAk1miTVV49Wuyeek7MAUGAytlcANBAL3ngogn80D1pUlQ\nmPqvqXSEC2wjW7J1vM1REeFIGUky1Kx6ghWyCI+Xmze/Nl/lIBvVELbocsH6o6Xt\nEuKYSAM=\n-----END CERTIFICATE-----\n"}"#;
        /// How TLS is spoken with `https://` and `h2://` targets.
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
