//! What a network serves: the keys of `proxy`.

use std::fmt;

use engine_core::hostname::{HostPattern, HostnameError};

use crate::{document::Spot, problem::Problems};

/// What clients speak to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// HTTP, routed by the `Host` header.
    Http,
    /// TLS, routed by the name in the ClientHello.
    Https,
    /// SSH.
    Ssh,
}

impl Scheme {
    /// As in a key.
    pub fn word(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Ssh => "ssh",
        }
    }
}

/// One host, as one kind of clients reaches it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProxyKey {
    /// What the clients speak.
    pub scheme: Scheme,
    /// The host, or every host below a domain.
    pub pattern: HostPattern,
}

impl ProxyKey {
    /// The key that a bare host stands for beside this one.
    pub fn other_scheme(&self) -> Option<Self> {
        let scheme = match self.scheme {
            Scheme::Http => Scheme::Https,
            Scheme::Https => Scheme::Http,
            Scheme::Ssh => return None,
        };
        let pattern = self.pattern.clone();
        Some(Self { scheme, pattern })
    }
}

impl fmt::Display for ProxyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.word(), self.pattern)
    }
}

/// A key as it is written: a bare host stands for HTTP and for TLS.
pub(super) struct Hosts {
    scheme: Option<Scheme>,
    pub(super) pattern: HostPattern,
}

impl Hosts {
    pub(super) fn keys(&self) -> impl Iterator<Item = ProxyKey> {
        let (first, second) = match self.scheme {
            Some(scheme) => (scheme, None),
            None => (Scheme::Http, Some(Scheme::Https)),
        };
        let schemes = std::iter::once(first).chain(second);
        schemes.map(|scheme| ProxyKey {
            scheme,
            pattern: self.pattern.clone(),
        })
    }
}

/// Why a text is no key of `proxy`.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("the scheme has to be https, http or ssh, or be left out")]
    Scheme,
    #[error("{0}")]
    Host(HostnameError),
}

/// What is behind the scheme.
pub(super) fn host_of(key: &str) -> &str {
    key.split_once("://").map_or(key, |(_, host)| host)
}

/// Reads `host`, `https://host`, `http://host` or `ssh://host`, where the host may be `*.domain`.
pub(super) fn parse_key(key: &str) -> Result<Hosts, KeyError> {
    let (scheme, host) = match key.split_once("://") {
        None => (None, key),
        Some(("http", host)) => (Some(Scheme::Http), host),
        Some(("https", host)) => (Some(Scheme::Https), host),
        Some(("ssh", host)) => (Some(Scheme::Ssh), host),
        Some(_) => return Err(KeyError::Scheme),
    };
    let pattern = HostPattern::parse(host).map_err(KeyError::Host)?;
    Ok(Hosts { scheme, pattern })
}

/// Reads the key of an entry, and warns of what is not served.
pub(super) fn read_key(spot: &Spot<'_>, problems: &mut Problems) -> Option<Hosts> {
    let key = spot.key();
    let hosts = match parse_key(key) {
        Ok(hosts) => hosts,
        Err(KeyError::Host(error)) if host_of(key).contains(['/', ':']) => {
            let hint = "a key is a host without port and path";
            spot.error_with_hint(problems, error, hint);
            return None;
        }
        Err(error) => {
            spot.error(problems, error);
            return None;
        }
    };
    match hosts.scheme {
        Some(Scheme::Ssh) => spot.warning(problems, "ssh is not served yet"),
        Some(Scheme::Http | Scheme::Https) | None => {}
    }
    Some(hosts)
}
