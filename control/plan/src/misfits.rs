//! What a boot file and a state document, each good by itself, do not come to together.

use control_api::{
    Problem, Problems, Severity,
    boot::{Acme, Boot, CertificateName, Challenge, DirectoryName, Protocol},
    state::{Network, Terminated},
};
use engine_core::hostname::HostPattern;

use crate::publish::unserved;

/// A name that a certificate is to be obtained for, and where it stands.
struct Ordered<'a> {
    name: CertificateName,
    directory: Option<&'a DirectoryName>,
    challenge: Option<Challenge>,
    pointer: String,
}

/// Warnings of everything that some networks declare and that is not served with a boot file:
/// routes without a listener, names that no certificate can be obtained for, and hosts whose TLS is
/// terminated without one. `covered` says of a host, or of those that nobody declared, whether there
/// is a certificate by other means than the document's.
pub fn misfits<'n>(
    networks: impl Iterator<Item = &'n Network>,
    boot: &Boot,
    covered: impl Fn(Option<&HostPattern>) -> bool,
) -> Problems {
    let mut problems = Problems::default();
    let networks: Vec<&Network> = networks.collect();
    for network in &networks {
        for unserved in unserved(network, &boot.listeners) {
            problems.push(Problem::from(&unserved));
        }
    }
    for network in networks {
        let port = network.port;
        let acme = network.tls.as_ref().and_then(|tls| tls.acme.as_ref());
        for (index, host) in acme.iter().flat_map(|acme| acme.hosts.iter().enumerate()) {
            let ordered = Ordered {
                name: CertificateName(host.clone()),
                directory: acme.and_then(|acme| acme.directory.as_ref()),
                challenge: acme.and_then(|acme| acme.challenge),
                pointer: format!("/{port}/tls/acme/hosts/{index}"),
            };
            note(unobtainable(boot, ordered), &mut problems);
        }
        let protocols = &[Protocol::Tls, Protocol::Https];
        let mut own = network.listeners.values();
        if has_listener(boot, protocols) || own.any(|it| protocols.contains(&it.protocol)) {
            uncertified(port.get(), network, &covered, &mut problems);
        }
    }
    problems
}

/// Warnings of the names in a boot file that no certificate can be obtained for.
pub fn own_misfits(boot: &Boot) -> Problems {
    let mut problems = Problems::default();
    for (index, own) in boot.acme.names.iter().flatten().enumerate() {
        let ordered = Ordered {
            name: own.name.clone(),
            directory: own.directory.as_ref(),
            challenge: own.challenge,
            pointer: format!("/acme/names/{index}"),
        };
        note(unobtainable(boot, ordered), &mut problems);
    }
    let on_demand = &boot.acme.on_demand;
    let challenge = on_demand.challenge.unwrap_or(boot.acme.challenge);
    if on_demand.ask.is_some() {
        note(
            unproved(boot, challenge, "/acme/on_demand".to_owned()),
            &mut problems,
        );
    }
    problems
}

fn note(problem: Option<Problem>, problems: &mut Problems) {
    if let Some(problem) = problem {
        problems.push(problem);
    }
}

fn has_listener(boot: &Boot, protocols: &[Protocol]) -> bool {
    let mut listeners = boot.listeners.iter();
    listeners.any(|listener| protocols.contains(&listener.protocol))
}

/// Why a certificate cannot be obtained.
fn unobtainable(boot: &Boot, ordered: Ordered<'_>) -> Option<Problem> {
    let Ordered {
        name,
        directory,
        challenge,
        pointer,
    } = ordered;
    let acme: &Acme = &boot.acme;
    if let Some(objection) = acme.objection(&name, directory, challenge) {
        let message = format!("no certificate can be obtained for {name}: {objection}");
        return Some(Problem {
            pointer,
            ..Problem::whole(Severity::Warning, message)
        });
    }
    unproved(boot, acme.challenge(&name, challenge), pointer)
}

/// Why the directory finds no proof.
fn unproved(boot: &Boot, challenge: Challenge, pointer: String) -> Option<Problem> {
    let (protocols, challenge, port, protocol) = match challenge {
        Challenge::Http01 => (&[Protocol::Http][..], "http-01", 80, "http"),
        Challenge::TlsAlpn01 => (
            &[Protocol::Tls, Protocol::Https][..],
            "tls-alpn-01",
            443,
            "https",
        ),
        Challenge::Dns01 => return None,
    };
    (!has_listener(boot, protocols)).then(|| Problem {
        pointer,
        hint: Some(format!(
            "declare a listener with `protocol: {protocol}` that clients reach at port {port}, or \
             another `challenge`"
        )),
        ..Problem::whole(
            Severity::Warning,
            format!("{challenge} cannot prove it: no listener answers the directory's question"),
        )
    })
}

/// Whether a certificate for a pattern stands for a host (RFC 9525 section 6.3).
pub fn covers(pattern: &HostPattern, host: &HostPattern) -> bool {
    let above = match host {
        HostPattern::Exact(name) => name.parents().next(),
        HostPattern::Wildcard(_) => None,
    };
    match pattern {
        HostPattern::Wildcard(domain) if above == Some(domain.as_str()) => true,
        HostPattern::Wildcard(_) | HostPattern::Exact(_) => pattern == host,
    }
}

/// Hosts whose TLS is terminated and that nothing gives a certificate.
fn uncertified(
    port: u16,
    network: &Network,
    covered: &impl Fn(Option<&HostPattern>) -> bool,
    problems: &mut Problems,
) {
    let sources: Vec<&HostPattern> = network.tls.iter().flat_map(|tls| tls.hosts()).collect();
    let terminated = Terminated::of(network);
    let mut known = std::collections::HashSet::new();
    for (index, route) in network.routes.iter().enumerate() {
        let host = route.host.pattern();
        let is_sourced = |host: &HostPattern| sources.iter().any(|source| covers(source, host));
        let is_fine = route.passes_through()
            || !terminated.has(host)
            || host.is_some_and(is_sourced)
            || covered(host);
        if !is_fine && known.insert(host) {
            let host = host.map_or_else(|| "*".to_owned(), ToString::to_string);
            problems.push(Problem {
                pointer: format!("/{port}/routes/{index}"),
                hint: Some(
                    "name the host in the network's `tls`, or a certificate in the boot file's"
                        .to_owned(),
                ),
                ..Problem::whole(
                    Severity::Warning,
                    format!("TLS of {host} is terminated, and there is no certificate for it"),
                )
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use control_api::{
        boot,
        state::{self, Desired},
    };
    use serde_json::{Value, json};

    use super::*;

    fn boot(protocols: &[&str], more: &str) -> Boot {
        let listeners: Vec<Value> = protocols
            .iter()
            .map(|protocol| json!({ "name": protocol, "bind": "[::]:0", "protocol": protocol }))
            .collect();
        let text = format!("listeners: {}\n{more}", Value::from(listeners));
        let none = BTreeMap::<String, String>::new();
        boot::parse(&text, &none).unwrap().value
    }

    fn desired(network: &Value) -> Desired {
        let mut network = network.clone();
        network["netns"] = "blue".into();
        let text = json!({ "1": network }).to_string();
        state::parse(&text).unwrap().value
    }

    fn told(problems: &Problems) -> Vec<String> {
        assert!(!problems.refuse());
        problems.iter().map(ToString::to_string).collect()
    }

    const DIRECTORY: &str = "acme: { directories: [{ name: one, url: https://one/d }] }";

    #[test]
    fn names_that_cannot_be_obtained_are_warned_of() {
        let network = json!({ "tls": { "acme": { "hosts": ["a.example"] } } });
        let of = |boot: &Boot| {
            told(&misfits(desired(&network).networks.values(), boot, |_| {
                false
            }))
        };
        let without = of(&boot(&["http", "https"], ""));
        assert!(
            without[0].starts_with("/1/tls/acme/hosts/0: "),
            "{without:?}"
        );
        assert!(without[0].contains("no directory to obtain"), "{without:?}");
        let unproved = of(&boot(&["https"], DIRECTORY));
        assert!(
            unproved[0].contains("http-01 cannot prove it"),
            "{unproved:?}"
        );
        assert!(of(&boot(&["http", "https"], DIRECTORY)).is_empty());
        let network =
            json!({ "tls": { "acme": { "hosts": ["a.example"], "challenge": "tls-alpn-01" } } });
        let of = |boot: &Boot| {
            told(&misfits(desired(&network).networks.values(), boot, |_| {
                false
            }))
        };
        let unproved = of(&boot(&["http"], DIRECTORY));
        assert!(
            unproved[0].contains("tls-alpn-01 cannot prove it"),
            "{unproved:?}"
        );
        assert!(of(&boot(&["tls"], DIRECTORY)).is_empty());
    }

    #[test]
    fn the_boot_files_own_names_need_a_proof_too() {
        let names = "acme: { names: [{ name: a.example }], directories: [{ name: one, url: https://one/d }], on_demand: { ask: http://127.0.0.1/ask } }";
        let problems = told(&own_misfits(&boot(&["https"], names)));
        assert!(problems[0].starts_with("/acme/names/0: "), "{problems:?}");
        assert!(problems[1].starts_with("/acme/on_demand: "), "{problems:?}");
        assert!(told(&own_misfits(&boot(&["http"], names))).is_empty());
    }

    #[test]
    fn terminated_hosts_without_a_certificate_are_warned_of() {
        let to = json!(["10.0.0.2:80"]);
        let network = json!({
            "routes": [
                { "host": "a.example", "to": to, "tls": "terminate" },
                { "host": "a.example", "path": "/x", "to": to, "tls": "terminate" },
                { "host": "b.example", "to": to },
                { "host": "c.below.example", "to": to, "tls": "terminate" },
            ],
            "tls": { "files": [{ "hosts": ["*.below.example"], "certificate": "/c", "key": "/k" }] },
        });
        let https = boot(&["http", "https"], "");
        let problems = told(&misfits(
            desired(&network).networks.values(),
            &https,
            |_| false,
        ));
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert!(problems[0].starts_with("/1/routes/0: "), "{problems:?}");
        assert!(
            told(&misfits(
                desired(&network).networks.values(),
                &https,
                |_| true
            ))
            .is_empty()
        );
    }
}
