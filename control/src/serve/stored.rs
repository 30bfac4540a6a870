//! The desired state that the store has, as far as it can be served.
//!
//! What is in the store was good when it was put there. It may not be any more: a later version is
//! stricter, or somebody wrote into the file. Networks that are refused are left out, loudly, so that
//! all others are served.

use std::collections::BTreeMap;

use anyhow::Context as _;
use control_api::{
    Problem, Problems, Valid,
    boot::{Boot, Listener},
    state::{self, Desired, Owner},
};
use control_store::{DesiredStore, Generation, ReadError, Store};
use serde_json::{Map, Value};

use super::log_problems;
use crate::{
    files::Found,
    reconcile::{LeftOut, Stored},
};

/// How often networks are left out until the rest goes together.
const TRIES_MAX: usize = 16;

/// Reads the last generation, where there is one.
///
/// # Errors
/// When the store cannot be read.
pub(super) fn read(store: &Store) -> anyhow::Result<Option<Stored>> {
    let store = store.desired();
    let current = match store.current().wait() {
        Ok(Some(current)) => current,
        Ok(None) => return Ok(None),
        Err(ReadError::Compose { generation, source }) => {
            return damaged(&store, generation, source.to_string()).map(Some);
        }
        Err(error @ (ReadError::Refused(_) | ReadError::Sqlite { .. })) => {
            return Err(error).context("reading the desired state");
        }
    };
    shorten(&store, &current);
    let (desired, left_out) = match state::parse(&current.document) {
        Ok(Valid { value, .. }) => (value, Vec::new()),
        Err(problems) => {
            let salvaged = salvage(&current.document, &problems);
            let file = format!("generation {} of the store", current.id).into();
            log_problems(&[Found { file, problems }]);
            salvaged
        }
    };
    if !left_out.is_empty() {
        let networks: Vec<String> = left_out.iter().map(LeftOut::object).collect();
        tracing::error!(
            generation = current.id,
            networks = networks.join(" "),
            "networks of the store are refused and not served: apply them again, mended; until \
             then the generation keeps them"
        );
    }
    Ok(Some(Stored {
        generation: current.id,
        owners: owners(&store)?,
        desired,
        left_out,
        unbound: Vec::new(),
    }))
}

/// Nothing of a generation that cannot be composed is served, and the gateway can be asked to mend it.
fn damaged(store: &impl DesiredStore, generation: u64, why: String) -> anyhow::Result<Stored> {
    tracing::error!(
        generation,
        why,
        "the store's last generation is damaged and nothing of it is served: apply the state again"
    );
    let whole = LeftOut {
        key: None,
        why,
        document: Value::Null,
    };
    Ok(Stored {
        generation,
        owners: owners(store)?,
        left_out: vec![whole],
        ..Stored::default()
    })
}

/// Stores the whole document, where one is due: the next start composes less. So what a start composes is
/// bounded by what may come between two full documents, and by what one more run adds at most.
fn shorten(store: &impl DesiredStore, current: &Generation) {
    if store.takes_document() {
        // Tried again when it is due again; nothing waits for it.
        drop(store.compact(current.id, current.document.clone()));
    }
}

/// The last generation that changed the part of each owner.
fn owners(store: &impl DesiredStore) -> anyhow::Result<BTreeMap<Owner, u64>> {
    let stored = store.owner_generations().wait();
    let stored = stored.context("reading the owners of the desired state")?;
    let owners = stored.into_iter();
    // A later version may know other names.
    let owners = owners.filter_map(|(owner, generation)| Some((owner.parse().ok()?, generation)));
    Ok(owners.collect())
}

/// The networks of a refused document that are good, and the others. `problems` are the whole
/// document's.
fn salvage(document: &str, problems: &Problems) -> (Desired, Vec<LeftOut>) {
    let Ok(Value::Object(mut networks)) = serde_json::from_str(document) else {
        let whole = LeftOut {
            key: None,
            why: why(problems, None),
            document: Value::Null,
        };
        return (Desired::default(), vec![whole]);
    };
    let mut left_out: Vec<LeftOut> = Vec::new();
    let mut leave_out = |networks: &mut Map<String, Value>, key: &str, problems: &Problems| {
        if let Some(document) = networks.remove(key) {
            left_out.push(LeftOut {
                key: Some(key.to_owned()),
                why: why(problems, Some(key)),
                document,
            });
        }
    };
    let all: Vec<String> = networks.keys().cloned().collect();
    for key in &all {
        let alone: Map<String, Value> = networks
            .get(key)
            .map(|network| (key.clone(), network.clone()))
            .into_iter()
            .collect();
        if let Err(problems) = state::parse(&Value::Object(alone).to_string()) {
            leave_out(&mut networks, key, &problems);
        }
    }
    // What is left may not go together: two networks with one host.
    for _ in 0..TRIES_MAX {
        let text = Value::Object(networks.clone()).to_string();
        let problems = match state::parse(&text) {
            Ok(Valid { value, .. }) => return (value, left_out),
            Err(problems) => problems,
        };
        for problem in problems.errors() {
            if let Some(key) = key_of(problem) {
                leave_out(&mut networks, key, &problems);
            }
        }
    }
    for key in &all {
        leave_out(&mut networks, key, problems);
    }
    (Desired::default(), left_out)
}

/// The network that a problem is about.
fn key_of(problem: &Problem) -> Option<&str> {
    problem.pointer.split('/').nth(1)
}

/// The first problem of a network, or of the whole document, and how many more there are.
fn why(problems: &Problems, key: Option<&str>) -> String {
    let mut errors = problems
        .errors()
        .filter(|problem| key.is_none() || key_of(problem) == key);
    let Some(first) = errors.next() else {
        return "it does not go together with the others".to_owned();
    };
    match errors.count() {
        0 => first.to_string(),
        more => format!("{first}; and {more} more"),
    }
}

/// Leaves out the listeners that lead to networks which were left out. `found` is what does not go
/// together. Those that were left out.
pub(super) fn leave_out_listeners(boot: &mut Boot, found: &Problems) -> Vec<Listener> {
    let at = |pointer: &str| -> Option<usize> {
        let rest = pointer.strip_prefix("/listeners/")?;
        rest.split('/').next()?.parse().ok()
    };
    let mut refused: Vec<usize> = found.iter().filter_map(|it| at(&it.pointer)).collect();
    refused.sort_unstable();
    refused.dedup();
    let mut left_out = Vec::new();
    for index in refused.into_iter().rev() {
        if index < boot.listeners.len() {
            let listener = boot.listeners.remove(index);
            let name = listener.name.to_string();
            tracing::error!(
                listener = name,
                "a listener is left out, because its network is: see above"
            );
            left_out.push(listener);
        }
    }
    left_out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(document: &str) -> (Vec<u16>, Vec<LeftOut>) {
        let problems = state::parse(document).unwrap_err();
        let (desired, left_out) = salvage(document, &problems);
        let ports = desired.networks.keys().map(|port| port.get());
        (ports.collect(), left_out)
    }

    fn told(left_out: &[LeftOut]) -> Vec<(String, &str)> {
        let told = left_out.iter().map(|it| (it.object(), it.why.as_str()));
        told.collect()
    }

    #[test]
    fn one_refused_network_leaves_the_others_served() {
        let (ports, left_out) = served(
            r#"{ "1": { "netns": null, "proxy": { "https://a.example": ["10.0.0.1:1"] } },
                 "2": { "netns": null, "unheard_of": 1, "no_more": 2 },
                 "3": { "netns": null } }"#,
        );
        assert_eq!(ports, [1, 3]);
        let [(object, why)] = told(&left_out).try_into().unwrap();
        assert_eq!(object, "network-2");
        assert!(why.starts_with("/2/no_more: "), "{why}");
        assert!(why.ends_with("; and 1 more"), "{why}");
        assert_eq!(left_out[0].document["no_more"], 2);
    }

    #[test]
    fn networks_that_do_not_go_together_are_left_out_until_the_rest_does() {
        let (ports, left_out) = served(
            r#"{ "1": { "netns": null, "proxy": { "https://a.example": ["10.0.0.1:1"] } },
                 "2": { "netns": null, "proxy": { "https://a.example": ["10.0.0.1:1"] } },
                 "3": { "netns": null } }"#,
        );
        assert_eq!(ports, [1, 3]);
        let [(object, why)] = told(&left_out).try_into().unwrap();
        assert_eq!(object, "network-2");
        assert!(why.starts_with("/2/proxy/"), "{why}");
    }

    #[test]
    fn what_is_no_document_leaves_nothing() {
        assert_eq!(served("{").0, Vec::<u16>::new());
        let (_, left_out) = served("[]");
        let [(object, why)] = told(&left_out).try_into().unwrap();
        assert_eq!(object, "state");
        assert!(!why.is_empty());
    }
}
