//! What a new desired state changes against the one before.

use std::collections::BTreeSet;

use control_api::{
    place::NetworkKey,
    state::{Desired, Network},
};

use crate::publish::frame;

/// Which networks differ, and how far that goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Networks for which the kernel may have to hold something else.
    pub programmed: BTreeSet<NetworkKey>,
    /// Whether the workers have to route by another snapshot.
    pub is_routed: bool,
}

/// Compares two desired states. A network that both share costs the comparison of a pointer.
pub fn changed(before: &Desired, after: &Desired) -> Changed {
    let mut changed = Changed::default();
    for port in before.networks.differing(&after.networks) {
        let (old, new) = (before.networks.get(&port), after.networks.get(&port));
        if old == new {
            continue;
        }
        changed.is_routed |= match (old, new) {
            (Some(old), Some(new)) => routing(old) != routing(new),
            (_, _) => true,
        };
        changed.programmed.insert(port);
    }
    changed
}

/// What the workers learn of a network.
fn routing(network: &Network) -> impl PartialEq + '_ {
    (frame(network), &network.routes)
}

#[cfg(test)]
mod tests {
    use control_api::state;
    use serde_json::{Value, json};

    use super::*;

    fn desired(document: &Value) -> Desired {
        state::parse(&document.to_string()).unwrap().value
    }

    fn port(port: u16) -> NetworkKey {
        NetworkKey::new(port).unwrap()
    }

    #[test]
    fn only_names_and_namespaces_concern_the_workers() {
        let before = json!({ "1": { "netns": "a", "proxy": { "a.example": ["10.0.0.1:1"] } } });
        let mut after = before.clone();
        assert_eq!(
            changed(&desired(&before), &desired(&after)),
            Changed::default()
        );
        after["1"]["peer_to_peer"] = false.into();
        let one = BTreeSet::from([port(1)]);
        let of_kernel = Changed {
            programmed: one.clone(),
            is_routed: false,
        };
        assert_eq!(changed(&desired(&before), &desired(&after)), of_kernel);
        after["1"]["netns"] = "b".into();
        let of_both = Changed {
            programmed: one,
            is_routed: true,
        };
        assert_eq!(changed(&desired(&before), &desired(&after)), of_both);
        let mut asked = before.clone();
        asked["1"]["dns"] = json!(["10.0.0.53"]);
        assert!(changed(&desired(&before), &desired(&asked)).is_routed);
        assert_eq!(changed(&desired(&before), &Desired::default()), of_both);
        assert_eq!(changed(&Desired::default(), &desired(&before)), of_both);
    }
}
