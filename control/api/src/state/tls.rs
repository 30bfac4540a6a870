//! Where TLS ends for a network's hosts, and where their certificates come from.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
};

use engine_core::hostname::HostPattern;
use serde_json::{Value, json};

use super::{
    Network, ProxyKey, Route, Scheme,
    part::{List, part, quoted},
    route::RouteTls,
};
use crate::{
    boot::{Challenge, DirectoryName},
    document::Spot,
    field::{Field, words},
    problem::Problems,
    section::Check,
    word::printable,
};

/// Most pairs of files of one network.
const FILES_MAX: usize = 10_000;

part! {
    /// Where the certificates of a network's hosts come from. TLS ends at the gateway for every
    /// host that is named here.
    pub struct Tls {
        /// Certificates in files, which are read again when they change.
        files: List<CertificateFiles, FILES_MAX>, r#"[{"hosts": ["mail.example.com"], "certificate": "/etc/ringway/mail.pem", "key": "/etc/ringway/mail.key"}]"#;
        /// Certificates from an ACME directory (RFC 8555), renewed in time.
        acme: Option<Acme>, r#"{"hosts": ["www.example.com"]}"#;
        /// The minimum TLS version of the network's hosts, and of catch-all hosts if the network
        /// serves `*`. With `1.3`, rules take requests with TLS only, and TLS of their hosts is
        /// terminated unless it is passed through.
        min_version: MinVersion = "1.2", r#""1.3""#;
    }
}

part! {
    /// A certificate in files.
    pub struct CertificateFiles {
        /// The hosts of the certificate: names, and `*.domain` for every name one label below.
        hosts: Vec<HostPattern>, r#"["mail.example.com", "*.mail.example.com"]"#;
        /// The certificate chain in PEM, the leaf first; an absolute path.
        certificate: PathBuf, r#""/etc/ringway/mail.pem""#;
        /// The key in PEM, without a password; an absolute path.
        key: PathBuf, r#""/etc/ringway/mail.key""#;
    }
}

impl Check for CertificateFiles {
    fn check(&self, spot: &Spot<'_>, problems: &mut Problems) {
        for (key, path) in [("certificate", &self.certificate), ("key", &self.key)] {
            if !path.is_absolute() {
                spot.error(
                    problems,
                    format_args!("`{key}`: an absolute path is expected"),
                );
            }
        }
    }
}

part! {
    /// Certificates from a directory (RFC 8555).
    pub struct Acme {
        /// The hosts; each gets a certificate of its own. `*.domain` needs `dns-01`.
        hosts: Vec<HostPattern>, r#"["www.example.com"]"#;
        /// The directory, by its name in the boot file; by default its first one.
        directory: Option<DirectoryName>, r#""letsencrypt""#;
        /// The challenge; by default the boot file's.
        challenge: Option<Challenge>, r#""tls-alpn-01""#;
    }
}

impl Check for Acme {
    fn check(&self, spot: &Spot<'_>, problems: &mut Problems) {
        let is_wildcard = |host: &&HostPattern| matches!(host, HostPattern::Wildcard(_));
        let wildcard = self.hosts.iter().find(is_wildcard);
        if let (Some(host), Some(Challenge::Http01 | Challenge::TlsAlpn01)) =
            (wildcard, self.challenge)
        {
            let message = format_args!("{host} can be proved by dns-01 alone");
            spot.error(problems, message);
        }
    }
}

words! {
    /// The oldest version of TLS that is spoken.
    pub enum MinVersion {
        /// TLS 1.2, with forward secrecy and authenticated encryption alone.
        Tls12 = "1.2",
        /// TLS 1.3.
        Tls13 = "1.3",
    }
}

impl Field for HostPattern {
    const SYNTAX: &'static str = "host or `*.domain`";

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        let text = quoted(spot, problems)?;
        let wrong = |error| format!("`{}`: {error}", printable(text));
        Self::parse(text)
            .map_err(|error| spot.error(problems, wrong(error)))
            .ok()
    }

    fn write(&self) -> Value {
        self.to_string().into()
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": super::HOST_PATTERN })
    }
}

impl Check for Tls {
    fn check(&self, spot: &Spot<'_>, problems: &mut Problems) {
        if self.files.is_empty() && self.acme.is_none() {
            spot.error(problems, "`files` or `acme` is missing");
        }
        // One with a curve's key and one with RSA's, which is not known before they are read.
        let mut in_files: HashMap<&HostPattern, usize> = HashMap::new();
        for files in &*self.files {
            let hosts: HashSet<&HostPattern> = files.hosts.iter().collect();
            for host in hosts {
                *in_files.entry(host).or_default() += 1;
            }
        }
        let mut crowded: Vec<_> = in_files.iter().filter(|(_, count)| **count > 2).collect();
        crowded.sort();
        for (host, count) in crowded {
            let message = format_args!(
                "{host} has {count} certificates in files: it can have two, one with a curve's key \
                 and one with an RSA key"
            );
            spot.error(problems, message);
        }
        let mut known = HashSet::new();
        for host in self.acme.iter().flat_map(|acme| &acme.hosts) {
            if !known.insert(host) || in_files.contains_key(host) {
                let message = format_args!("{host} has two sources of certificates here");
                spot.error(problems, message);
            }
        }
    }
}

impl Tls {
    /// Every host with a certificate from here.
    pub fn hosts(&self) -> impl Iterator<Item = &HostPattern> {
        let files = self.files.iter().flat_map(|files| &files.hosts);
        files.chain(self.acme.iter().flat_map(|acme| &acme.hosts))
    }
}

/// The hosts of a network whose TLS ends at the gateway.
#[derive(Debug, Default)]
pub struct Terminated<'n> {
    hosts: HashSet<Option<&'n HostPattern>>,
}

impl<'n> Terminated<'n> {
    /// Those of a network: every host of a route that says so, and every one with a certificate.
    pub fn of(network: &'n Network) -> Self {
        let routes = network.routes.iter().map(|route| &**route);
        Self::among(routes, network.tls.as_ref())
    }

    /// The same, as far as it is about one host.
    pub fn around(network: &'n Network, host: Option<&HostPattern>) -> Self {
        let above = above(host);
        let routes = network.routes.iter().map(|route| &**route);
        let near = routes.filter(|route| {
            let other = route.host.pattern();
            other == host || (above.is_some() && other == above.as_ref())
        });
        Self::among(near, network.tls.as_ref())
    }

    pub(super) fn among(routes: impl IntoIterator<Item = &'n Route>, tls: Option<&'n Tls>) -> Self {
        let ending = routes
            .into_iter()
            .filter(|route| route.tls == Some(RouteTls::Terminate));
        let routed = ending.map(|route| route.host.pattern());
        let sourced = tls.into_iter().flat_map(Tls::hosts).map(Some);
        Self {
            hosts: routed.chain(sourced).collect(),
        }
    }

    /// All of them; `None` stands for those that nobody declared.
    pub fn hosts(&self) -> impl Iterator<Item = Option<&'n HostPattern>> {
        self.hosts.iter().copied()
    }

    /// Whether TLS of a host, or of all hosts that nobody declared, ends at the gateway. A
    /// certificate for `*.domain` is for names one label below (RFC 9525 section 6.3).
    pub fn has(&self, host: Option<&HostPattern>) -> bool {
        if self.hosts.is_empty() {
            return false;
        }
        let above = above(host);
        self.hosts.contains(&host) || above.is_some_and(|above| self.hosts.contains(&Some(&above)))
    }

    /// Whether connections that a key of `proxy` takes are passed through, unread.
    pub fn passes(&self, key: &ProxyKey) -> bool {
        key.scheme == Scheme::Https && !self.has(Some(&key.pattern))
    }
}

/// The pattern for all names beside a host, one label below the same domain.
fn above(host: Option<&HostPattern>) -> Option<HostPattern> {
    let domain = match host {
        Some(HostPattern::Exact(name)) => name.parents().next()?,
        Some(HostPattern::Wildcard(_)) | None => return None,
    };
    HostPattern::parse(&format!("*.{domain}")).ok()
}
