//! Networks of the stored state that were refused at the start, and so are not served.
//!
//! A generation keeps them until a document takes its place: what changes another network, or a peer,
//! writes them into the next generation as they are, so that nothing is lost without a word.

use std::{fmt, num::NonZeroU16};

use control_api::{
    answer::{Degradation, Reason},
    boot::Listener,
    state::{Change, Desired},
};
use serde_json::Value;

/// What is served of the generation that is begun with.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    pub(crate) generation: u64,
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

    fn port(&self) -> Option<NonZeroU16> {
        self.key.as_ref()?.parse().ok()
    }

    /// What is said of it for as long as the generation keeps it.
    pub(super) fn degradation(&self) -> Degradation {
        let port = self.port().map(NonZeroU16::get);
        Degradation::new(Reason::NetworkRefused, self.object(), &*self.why).of(port)
    }

    /// Whether the generation that a change leads to keeps it.
    pub(super) fn outlives(&self, change: &Change) -> bool {
        match change {
            Change::Replace { .. } | Change::Rollback { .. } => false,
            Change::RemoveNetwork { port } => self.port() != Some(*port),
            Change::PatchNetwork { .. } | Change::PutPeer { .. } | Change::RemovePeer { .. } => {
                true
            }
        }
    }

    /// Writes it into a document that does not have it.
    pub(super) fn write(&self, document: &mut Value) {
        if let (Some(key), Some(networks)) = (&self.key, document.as_object_mut()) {
            networks
                .entry(key.clone())
                .or_insert_with(|| self.document.clone());
        }
    }
}

#[cfg(test)]
mod tests {
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
        let (own, other) = (NonZeroU16::new(2).unwrap(), NonZeroU16::new(1).unwrap());
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
            assert_eq!(network.outlives(&change), outlives, "{change}");
        }
        let mut document = json!({ "1": {} });
        network.write(&mut document);
        assert_eq!(document, json!({ "1": {}, "2": { "x": 1 } }));
    }

    #[test]
    fn it_is_told_by_its_port_and_without_what_its_document_says() {
        let told = left_out().degradation();
        assert_eq!(
            (told.object.as_str(), told.network, told.reason),
            ("network-2", Some(2), Reason::NetworkRefused)
        );
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
