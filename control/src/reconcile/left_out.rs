//! Networks of the stored state that were refused at the start, and so are not served.
//!
//! A generation keeps them until a document takes its place: what changes another network, or a peer,
//! writes them into the next generation as they are, so that nothing is lost without a word.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use control_api::{
    Problem, Severity,
    answer::{Degradation, Reason},
    boot::Listener,
    place::{NetworkKey, NetworkName},
    state::{Change, Claims, Desired, Owner, Scope},
};
use control_plan::Held;
use engine_core::hostname::HostPattern;
use serde_json::Value;

/// What is served of the generation that is begun with.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) generation: u64,
    /// The last generation that changed the part of each owner.
    pub(crate) owners: BTreeMap<Owner, u64>,
    pub(crate) desired: Desired,
    /// Networks that are refused.
    pub(crate) left_out: Vec<LeftOut>,
    /// Listeners that lead there.
    pub(crate) unbound: Vec<Listener>,
}

/// A network of the stored state that is refused.
#[derive(Clone)]
pub(crate) struct LeftOut {
    /// Its key in the document; none of a document that cannot be taken apart.
    pub(crate) key: Option<String>,
    /// What is wrong with it.
    pub(crate) why: String,
    /// Its part of the document, with its secrets.
    pub(crate) document: Value,
}

impl fmt::Debug for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeftOut({}: {})", self.object(), self.why)
    }
}

impl LeftOut {
    /// What it is called in logs and answers.
    pub(crate) fn object(&self) -> String {
        match &self.key {
            Some(key) => format!("network-{key}"),
            None => "state".to_owned(),
        }
    }

    /// What its clients are to be refused until it is served again.
    pub(super) fn held(&self) -> Held {
        let port = self.port();
        Held {
            network: port.map_or(NetworkName::Host, NetworkName::Port),
            hosts: Claims::of(&self.document).hosts,
        }
    }

    /// What of it a state takes though it is kept: its place, and those of its hosts that networks have
    /// and did not have before.
    pub(super) fn taken_by(&self, desired: &Desired, before: &Desired) -> Vec<Problem> {
        if let Some(port) = self.port().filter(|it| desired.networks.contains_key(it)) {
            let (object, owner) = (self.object(), self.owner());
            return vec![Problem {
                pointer: format!("/{port}"),
                ..Problem::whole(
                    Severity::Error,
                    format!("{object}, which is refused and kept, belongs to `{owner}`"),
                )
            }];
        }
        let own = Claims::of(&self.document).hosts;
        let had: BTreeSet<_> = claimed(before).collect();
        let hosts = claimed(desired).filter(|it| own.contains(it.1) && !had.contains(it));
        let hosts: BTreeSet<_> = hosts.collect();
        let object = self.object();
        let problems = hosts.into_iter().map(|(port, host)| Problem {
            pointer: format!("/{port}"),
            ..Problem::whole(
                Severity::Error,
                format!("{object}, which is refused and kept, already has {host}"),
            )
        });
        problems.collect()
    }

    fn port(&self) -> Option<NetworkKey> {
        self.key.as_ref()?.parse().ok()
    }

    /// What is said of it for as long as the generation keeps it.
    pub(super) fn degradation(&self) -> Degradation {
        let port = self.port().map(NetworkKey::get);
        let mut why = self.why.clone();
        if !Claims::of(&self.document).is_complete {
            why.push_str("; not all its hosts can be read: others may be given requests for them");
        }
        Degradation::new(Reason::NetworkRefused, self.object(), why).of(port)
    }

    /// Who declared it; `api` where that cannot be read.
    pub(super) fn owner(&self) -> Owner {
        let owner = self.document["owner"].as_str();
        let owner = owner.and_then(|owner| owner.parse().ok());
        owner.unwrap_or_default()
    }

    /// Whether the generation that a change leads to keeps it.
    pub(super) fn outlives(&self, change: &Change, scope: &Scope) -> bool {
        match change {
            Change::Replace { .. } | Change::Rollback { .. } => !scope.whose.has(&self.owner()),
            Change::PutNetwork { port, .. } | Change::RemoveNetwork { port } => {
                self.port() != Some(*port) || !scope.whose.has(&self.owner())
            }
            Change::PatchNetwork { .. }
            | Change::PutRoute { .. }
            | Change::RemoveRoute { .. }
            | Change::PutListener { .. }
            | Change::RemoveListener { .. }
            | Change::PutPeer { .. }
            | Change::RemovePeer { .. } => true,
        }
    }

    /// The document with all of them in it.
    pub(super) fn write_all(left_out: &[Self], mut document: Value) -> Value {
        left_out.iter().for_each(|it| it.write(&mut document));
        document
    }

    /// Writes it into a document that does not have it.
    fn write(&self, document: &mut Value) {
        if let (Some(key), Some(networks)) = (&self.key, document.as_object_mut()) {
            networks
                .entry(key.clone())
                .or_insert_with(|| self.document.clone());
        }
    }
}

/// Every host of every network.
fn claimed(desired: &Desired) -> impl Iterator<Item = (NetworkKey, &HostPattern)> {
    let networks = desired.networks.values();
    networks.flat_map(|network| network.hosts().map(|host| (network.port, host)))
}

#[cfg(test)]
mod tests {
    use control_api::state::{self, Whose};
    use serde_json::json;

    use super::*;

    fn left_out() -> LeftOut {
        LeftOut {
            key: Some("2".to_owned()),
            why: "/2/x: it is not a key here".to_owned(),
            document: json!({ "x": 1 }),
        }
    }

    #[test]
    fn a_refused_network_stays_until_a_document_or_its_removal_takes_its_place() {
        let network = left_out();
        let (own, other) = (NetworkKey::new(2).unwrap(), NetworkKey::new(1).unwrap());
        let text = String::new();
        for (change, outlives) in [
            (Change::Replace { text: text.clone() }, false),
            (
                Change::Rollback {
                    generation: 1,
                    text: text.clone(),
                },
                false,
            ),
            (Change::RemoveNetwork { port: own }, false),
            (Change::RemoveNetwork { port: other }, true),
            (Change::PatchNetwork { port: other, text }, true),
        ] {
            assert_eq!(
                network.outlives(&change, &Scope::default()),
                outlives,
                "{change}"
            );
        }
        let replace = Change::Replace {
            text: String::new(),
        };
        let others = Scope {
            whose: Whose::One("blue".parse().unwrap()),
            cascade: false,
        };
        assert!(network.outlives(&replace, &others), "it is the base's");
        let theirs = LeftOut {
            document: json!({ "owner": "blue" }),
            ..left_out()
        };
        assert!(!theirs.outlives(&replace, &others));
        let removal = Change::RemoveNetwork { port: own };
        assert!(network.outlives(&removal, &others));
        assert!(!theirs.outlives(&removal, &others));
        // What is kept would be lost where somebody else's network took its place.
        let state = json!({ "2": { "netns": null } }).to_string();
        let taken = theirs.taken_by(&state::parse(&state).unwrap().value, &Desired::default());
        let taken: Vec<String> = taken.iter().map(ToString::to_string).collect();
        assert_eq!(
            taken,
            ["/2: network-2, which is refused and kept, belongs to `blue`"]
        );
        assert!(theirs.outlives(&replace, &Scope::default()));
        let mut document = json!({ "1": {} });
        network.write(&mut document);
        assert_eq!(document, json!({ "1": {}, "2": { "x": 1 } }));
    }

    #[test]
    fn its_hosts_are_nobody_elses_but_of_whoever_had_them() {
        let network = LeftOut {
            document: json!({ "proxy": { "a.example": 0, "b.example": 0 } }),
            ..left_out()
        };
        let state = |hosts: &[&str]| {
            let proxy = hosts
                .iter()
                .map(|host| ((*host).to_owned(), json!(["10.0.0.2:80"])));
            let proxy: serde_json::Map<_, _> = proxy.collect();
            let document = json!({ "1": { "netns": null, "proxy": proxy } });
            state::parse(&document.to_string()).unwrap().value
        };
        let before = state(&["a.example"]);
        let after = state(&["a.example", "b.example", "c.example"]);
        let taken = network.taken_by(&after, &before);
        let taken: Vec<String> = taken.iter().map(ToString::to_string).collect();
        let expected = "/1: network-2, which is refused and kept, already has b.example";
        assert_eq!(taken, [expected]);
        assert!(network.taken_by(&before, &before).is_empty());
    }

    #[test]
    fn it_is_told_by_its_port_and_without_what_its_document_says() {
        let told = left_out().degradation();
        assert_eq!(
            (told.object.as_str(), told.network, told.reason),
            ("network-2", Some(2), Reason::NetworkRefused)
        );
        assert_eq!(told.why, "/2/x: it is not a key here");
        let unread = LeftOut {
            document: json!({ "proxy": { "a b": 0 } }),
            ..left_out()
        };
        let why = unread.degradation().why;
        assert!(why.contains("not all its hosts can be read"), "{why}");
        let odd = LeftOut {
            key: Some("x".to_owned()),
            ..left_out()
        };
        assert_eq!(odd.degradation().network, None);
        let whole = LeftOut {
            key: None,
            ..left_out()
        };
        assert_eq!(whole.degradation().object, "state");
        assert_eq!(
            format!("{:?}", left_out()),
            "LeftOut(network-2: /2/x: it is not a key here)"
        );
    }
}
