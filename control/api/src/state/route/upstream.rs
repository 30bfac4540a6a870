//! What is asked of targets: under which path and host, and by which TLS.

use std::{fmt, str::FromStr, sync::Arc};

use engine_core::hostname::Hostname;
use engine_http::edit;
use engine_tls::{
    Bundle,
    bundle::ContentError,
    origin::{self, Settings, Trust},
};
use serde_json::{Value, json};

use super::{PathPrefix, Secret, Speaks, text::string_field};
use crate::{
    document::Spot,
    field::Field,
    problem::Problems,
    section::Check,
    state::{
        part::part,
        pem::{Authorities, Chain},
    },
};

part! {
    /// What becomes of the path and host of a request.
    pub struct Rewrite {
        /// Replaces the rule's `path`: with `/`, a rule for `/api` forwards `/api/x` as `/x`.
        prefix: Option<PathPrefix>, r#""/""#;
        /// The host of forwarded requests, optionally with a port.
        host: Option<OriginHost>, r#""shop.internal""#;
    }
}

impl Check for Rewrite {
    fn check(&self, spot: &Spot<'_>, problems: &mut Problems) {
        if let Err(error) = self.checked() {
            spot.error(problems, error);
        }
    }
}

impl Rewrite {
    fn checked(&self) -> Result<edit::Rewrite, edit::RewriteError> {
        let prefix = self.prefix.as_ref().map(PathPrefix::as_str);
        let host = self.host.as_ref().map(|host| &*host.0);
        edit::Rewrite::new(prefix, host)
    }

    /// As the engine does it.
    pub fn rewrite(&self) -> edit::Rewrite {
        // Checked when it was read.
        self.checked().unwrap_or_default()
    }
}

/// A host, with a port if need be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginHost(Box<str>);

/// Why a text is no host of an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a host is expected, with a port if need be")]
pub struct OriginHostError;

impl FromStr for OriginHost {
    type Err = OriginHostError;

    fn from_str(text: &str) -> Result<Self, OriginHostError> {
        match engine_http::host::Host::parse(text.as_bytes()) {
            Some(_) => Ok(Self(text.into())),
            None => Err(OriginHostError),
        }
    }
}

impl fmt::Display for OriginHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_field!(OriginHost, "host", { "type": "string", "minLength": 1, "maxLength": 261 });

part! {
    /// How TLS is spoken with targets.
    pub struct UpstreamTls {
        /// `false` accepts any certificate of a target. Use it only if the network itself proves
        /// who the target is.
        verify: bool = "true", "false";
        /// The authorities that verify targets: certificates in PEM, at most 64. By default
        /// Mozilla's.
        roots: Option<Authorities>, r#""-----BEGIN CERTIFICATE-----\nMIHCMHYCAQEwBQYDK2VwMA0xCzAJBgNVBAMMAmNhMCAXDTI2MTEyMTE2MDE0NFoY\nDzIxMjYxMDI4MTYwMTQ0WjANMQswCQYDVQQDDAJjYTAqMAUGAytlcAMhAIBOAt37\nr8zd9jUqNWMHKgxLwAGAk1miTVV49Wuyeek7MAUGAytlcANBAL3ngogn80D1pUlQ\nmPqvqXSEC2wjW7J1vM1REeFIGUky1Kx6ghWyCI+Xmze/Nl/lIBvVELbocsH6o6Xt\nEuKYSAM=\n-----END CERTIFICATE-----\n""#;
        /// The server name that is sent and verified; by default the rule's host. For a wildcard or
        /// `*` it is the host of each request.
        server_name: Option<ServerName>, r#""shop.internal""#;
        /// The client certificate for targets that ask for one: a chain in PEM, the leaf first.
        certificate: Option<Chain>, r#""-----BEGIN CERTIFICATE-----\nMIHCMHYCAQEwBQYDK2VwMA0xCzAJBgNVBAMMAmNhMCAXDTI2MTEyMTE2MDE0NFoY\nDzIxMjYxMDI4MTYwMTQ0WjANMQswCQYDVQQDDAJjYTAqMAUGAytlcAMhAIBOAt37\nr8zd9jUqNWMHKgxLwAGAk1miTVV49Wuyeek7MAUGAytlcANBAL3ngogn80D1pUlQ\nmPqvqXSEC2wjW7J1vM1REeFIGUky1Kx6ghWyCI+Xmze/Nl/lIBvVELbocsH6o6Xt\nEuKYSAM=\n-----END CERTIFICATE-----\n""#;
        /// The key of `certificate` in PEM, without a password. The API shows `(kept)` in its
        /// place.
        private_key: Option<Secret>, r#""(kept)""#;
    }
}

impl Check for UpstreamTls {
    fn check(&self, spot: &Spot<'_>, problems: &mut Problems) {
        if !self.verify && self.roots.is_some() {
            spot.error(problems, "`roots` has no effect if `verify` is false");
        }
        if self.certificate.is_some() != self.private_key.is_some() {
            spot.error(problems, "`certificate` and `private_key` go together");
        }
        if let Some(error) = self.identity().err() {
            spot.error(problems, error);
        }
    }
}

impl UpstreamTls {
    /// The certificate to show; none while its key is still to be kept.
    pub(super) fn identity(&self) -> Result<Option<Bundle>, ContentError> {
        let key = self.private_key.as_ref().and_then(Secret::expose);
        let (Some(chain), Some(key)) = (&self.certificate, key) else {
            return Ok(None);
        };
        Bundle::of_client(chain.as_str().as_bytes(), key.as_bytes()).map(Some)
    }

    /// As the engine speaks it.
    pub fn settings(&self, speaks: Speaks) -> Settings {
        let trust = match (self.verify, &self.roots) {
            (false, _) => Trust::Anyone,
            (true, Some(roots)) => Trust::Own(roots.roots()),
            (true, None) => Trust::Public,
        };
        Settings {
            trust,
            // Checked when it was read.
            identity: self.identity().ok().flatten().map(Arc::new),
            speaks: spoken(speaks),
        }
    }

    /// What is spoken with targets of whose TLS nothing is said.
    pub fn unsaid_settings(speaks: Speaks) -> Settings {
        Settings {
            speaks: spoken(speaks),
            ..Settings::default()
        }
    }
}

fn spoken(speaks: Speaks) -> origin::Speaks {
    match speaks {
        Speaks::H2 => origin::Speaks::Http2,
        Speaks::Https | Speaks::Http | Speaks::H2c => origin::Speaks::Http1,
    }
}

/// The name that an origin is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerName(Box<str>);

/// Why a text is no name of an origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a hostname or an IP address is expected")]
pub struct ServerNameError;

impl ServerName {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServerName {
    type Err = ServerNameError;

    fn from_str(text: &str) -> Result<Self, ServerNameError> {
        if let Ok(address) = text.parse::<std::net::IpAddr>() {
            return Ok(Self(address.to_string().into()));
        }
        let name = Hostname::parse(text.as_bytes()).map_err(|_| ServerNameError)?;
        Ok(Self(name.as_str().into()))
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_field!(ServerName, "host or IP address", {
    "type": "string", "pattern": "^[A-Za-z0-9:._-]+$", "maxLength": 254,
});
