//! What is to be had, from what is declared.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
};

use control_api::{
    boot::{Acme, Boot, CertificateName, Challenge, DirectoryName},
    state::{Desired, Network},
};
use engine_core::{
    hostname::{HostPattern, Hostname},
    ids::NetworkId,
};
use engine_tls::certificates::Owners;

use crate::schedule::IssuePolicy;

/// Everything that there are to be certificates for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Names whose certificates are obtained, and how.
    pub names: BTreeMap<CertificateName, IssuePolicy>,
    /// Names that no certificate can be obtained for, and why.
    pub impossible: BTreeMap<CertificateName, Impossible>,
    /// Certificates in files.
    pub files: Vec<WantedFiles>,
    /// What is served where nothing else is.
    pub default: Option<WantedFiles>,
    /// Which network routes which of the hosts that a network's certificate could be for.
    pub owners: Owners,
}

/// A certificate in files, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct WantedFiles {
    /// The port of the network that it is for; none for the gateway's own.
    pub network: Option<u16>,
    /// Where the chain is.
    pub certificate: PathBuf,
    /// Where its key is.
    pub key: PathBuf,
    /// The hosts that its network declares it for.
    pub hosts: Vec<HostPattern>,
}

/// Why no certificate can be obtained for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Impossible {
    /// The port of the network that it is for; none for the gateway's own.
    pub network: Option<u16>,
    /// What stands against it.
    pub objection: String,
}

/// A name that a certificate is declared for.
struct Declared<'a> {
    name: CertificateName,
    network: Option<u16>,
    directory: Option<&'a DirectoryName>,
    challenge: Option<Challenge>,
}

impl Wants {
    /// What a boot file says, whose names of files begin at `folder`, and what the networks say. A
    /// name of the gateway's own is nobody else's.
    pub fn of(boot: &Boot, desired: &Desired, folder: &Path) -> Self {
        let mut wants = Self {
            default: boot.tls.default.as_ref().map(|files| WantedFiles {
                network: None,
                certificate: folder.join(&files.certificate),
                key: folder.join(&files.key),
                hosts: Vec::new(),
            }),
            ..Self::default()
        };
        for files in boot.tls.files.iter().flatten() {
            wants.files.push(WantedFiles {
                network: None,
                certificate: folder.join(&files.certificate),
                key: folder.join(&files.key),
                hosts: Vec::new(),
            });
        }
        for own in boot.acme.names.iter().flatten() {
            let declared = Declared {
                name: own.name.clone(),
                network: None,
                directory: own.directory.as_ref(),
                challenge: own.challenge,
            };
            wants.declare(&boot.acme, declared);
        }
        wants.add_networks(&boot.acme, desired);
        wants.owners = owners(desired);
        wants
    }

    fn add_networks(&mut self, acme: &Acme, desired: &Desired) {
        for (port, network) in desired.networks.iter() {
            let network_port = Some(port.get());
            let Some(tls) = &network.tls else { continue };
            for files in &*tls.files {
                self.files.push(WantedFiles {
                    network: network_port,
                    certificate: files.certificate.clone(),
                    key: files.key.clone(),
                    hosts: files.hosts.clone(),
                });
            }
            let Some(obtained) = &tls.acme else { continue };
            for host in &obtained.hosts {
                let declared = Declared {
                    name: CertificateName(host.clone()),
                    network: network_port,
                    directory: obtained.directory.as_ref(),
                    challenge: obtained.challenge,
                };
                self.declare(acme, declared);
            }
        }
    }

    fn declare(&mut self, acme: &Acme, declared: Declared<'_>) {
        let Declared {
            name,
            network,
            directory,
            challenge,
        } = declared;
        if self.names.contains_key(&name) {
            return;
        }
        let objection = acme.objection(&name, directory, challenge);
        match (objection, acme.directory(directory)) {
            (None, Some(directory)) => {
                let challenge = acme.challenge(&name, challenge);
                let terms = IssuePolicy {
                    network,
                    directory: directory.name.clone(),
                    challenge,
                    on_demand: false,
                };
                self.names.insert(name, terms);
            }
            (objection, _) => {
                let objection = objection.unwrap_or_default();
                let impossible = Impossible { network, objection };
                self.impossible.insert(name, impossible);
            }
        }
    }
}

/// Who routes the hosts that a network has a certificate for.
fn owners(desired: &Desired) -> Owners {
    let mut owners = Owners::default();
    let networks = desired.networks.values();
    let sourced = networks.filter_map(|network| network.tls.as_ref());
    let sourced: HashSet<&HostPattern> = sourced.flat_map(|tls| tls.hosts()).collect();
    if sourced.is_empty() {
        return owners;
    }
    let below: HashSet<&str> = sourced.iter().filter_map(|host| domain(host)).collect();
    let comes_into_question = |host: Option<&HostPattern>| match host {
        Some(host @ HostPattern::Exact(name)) => {
            sourced.contains(host) || parent(name).is_some_and(|parent| below.contains(parent))
        }
        Some(HostPattern::Wildcard(_)) | None => true,
    };
    for (port, network) in desired.networks.iter() {
        let id = NetworkId(u32::from(port.get()));
        for host in routed(network).filter(|host| comes_into_question(*host)) {
            owners.insert(host, id);
        }
    }
    owners
}

/// Every host that a network routes; none stands for those that nobody declared.
fn routed(network: &Network) -> impl Iterator<Item = Option<&HostPattern>> {
    let short = network.proxy.keys().map(|key| Some(&key.pattern));
    let rules = network.routes.iter();
    short.chain(rules.map(|route| route.host.pattern()))
}

fn parent(name: &Hostname) -> Option<&str> {
    name.parents().next()
}

fn domain(host: &HostPattern) -> Option<&str> {
    match host {
        HostPattern::Exact(_) => None,
        HostPattern::Wildcard(domain) => Some(domain.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use control_api::{boot, state};

    use super::*;

    fn wants(boot: &str, state: &str) -> Wants {
        let none = BTreeMap::<String, String>::new();
        let listeners = "listeners: [{ name: a, bind: 127.0.0.1:0, protocol: https }]\n";
        let boot = boot::parse(&format!("{listeners}{boot}"), &none)
            .unwrap()
            .value;
        let desired = state::parse(state).unwrap().value;
        Wants::of(&boot, &desired, Path::new("/etc/ringway"))
    }

    #[test]
    fn the_names_of_the_boot_file_and_of_networks_are_wanted_as_they_say() {
        let wants = wants(
            "tls: { files: [{ certificate: a.pem, key: /a.key }], default: { certificate: d, key: d } }\n\
             acme: { directories: [{ name: one, url: https://one/d }, { name: two, url: https://two/d }], \
             names: [{ name: own.example }] }",
            r#"{ "1": { "netns": null, "tls": {
                "files": [{ "hosts": ["f.example"], "certificate": "/f.pem", "key": "/f.key" }],
                "acme": { "hosts": ["a.example", "own.example"], "directory": "two", "challenge": "tls-alpn-01" } } } }"#,
        );
        let files: Vec<_> = wants
            .files
            .iter()
            .map(|files| {
                let path = files.certificate.display();
                (files.network, path.to_string())
            })
            .collect();
        assert_eq!(
            files,
            [
                (None, "/etc/ringway/a.pem".to_owned()),
                (Some(1), "/f.pem".to_owned())
            ]
        );
        assert_eq!(wants.files[0].key, Path::new("/a.key"));
        assert!(wants.default.is_some());
        let terms = |name: &str| wants.names[&name.parse().unwrap()].clone();
        let (network, own) = (terms("a.example"), terms("own.example"));
        assert_eq!(
            (
                network.network,
                network.directory.as_str(),
                network.challenge
            ),
            (Some(1), "two", Challenge::TlsAlpn01)
        );
        assert_eq!(
            (own.network, own.directory.as_str(), own.challenge),
            (None, "one", Challenge::Http01)
        );
        assert_eq!(wants.impossible.len(), 0);
    }

    #[test]
    fn what_cannot_be_obtained_is_said_with_the_reason() {
        let wants = wants(
            "",
            r#"{ "1": { "netns": null, "tls": { "acme": { "hosts": ["a.example"] } } } }"#,
        );
        assert!(wants.names.is_empty());
        let impossible = &wants.impossible[&"a.example".parse().unwrap()];
        assert_eq!(impossible.network, Some(1));
        assert!(impossible.objection.contains("`acme.directories` is empty"));
    }
}
