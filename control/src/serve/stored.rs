//! The desired state that the store has, as far as it can be served.
//!
//! What is in the store was good when it was put there. It may not be any more: a later version is
//! stricter, or somebody wrote into the file. Networks that are refused are left out, loudly, so that
//! all others are served.

use anyhow::Context as _;
use control_api::{
    Problems, Valid,
    boot::Boot,
    state::{self, Desired},
};
use control_store::Store;
use serde_json::{Map, Value};

use super::log_problems;
use crate::files::Found;

/// How often networks are left out until the rest goes together.
const TRIES_MAX: usize = 16;

/// What is served of a generation.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) generation: u64,
    pub(super) desired: Desired,
    /// Networks that are refused.
    pub(super) left_out: Vec<String>,
}

/// Reads the last generation, where there is one.
///
/// # Errors
/// When the store cannot be read.
pub(super) fn read(store: &Store) -> anyhow::Result<Option<Stored>> {
    let current = store
        .current()
        .wait()
        .context("reading the desired state")?;
    let Some(current) = current else {
        return Ok(None);
    };
    let (desired, left_out) = match state::parse(&current.document) {
        Ok(Valid { value, .. }) => (value, Vec::new()),
        Err(problems) => {
            let file = format!("generation {} of the store", current.id).into();
            log_problems(&[Found { file, problems }]);
            salvage(&current.document)
        }
    };
    if !left_out.is_empty() {
        tracing::error!(
            generation = current.id,
            networks = left_out.join(" "),
            "networks of the store are refused and not served: apply them again, mended; until \
             then the generation keeps them"
        );
    }
    Ok(Some(Stored {
        generation: current.id,
        desired,
        left_out,
    }))
}

/// The networks of a refused document that are good, and the keys of the others.
fn salvage(document: &str) -> (Desired, Vec<String>) {
    let Ok(Value::Object(mut networks)) = serde_json::from_str(document) else {
        return (Desired::default(), vec!["all".to_owned()]);
    };
    let all: Vec<String> = networks.keys().cloned().collect();
    let mut left_out: Vec<String> = Vec::new();
    for key in &all {
        let alone: Map<String, Value> = networks
            .get(key)
            .map(|network| (key.clone(), network.clone()))
            .into_iter()
            .collect();
        if state::parse(&Value::Object(alone).to_string()).is_err() {
            networks.remove(key);
            left_out.push(key.clone());
        }
    }
    // What is left may not go together: two networks with one host.
    for _ in 0..TRIES_MAX {
        let text = Value::Object(networks.clone()).to_string();
        let problems = match state::parse(&text) {
            Ok(Valid { value, .. }) => return (value, left_out),
            Err(problems) => problems,
        };
        for problem in problems.iter() {
            let key = problem.pointer.split('/').nth(1).unwrap_or_default();
            if networks.remove(key).is_some() {
                left_out.push(key.to_owned());
            }
        }
    }
    (Desired::default(), all)
}

/// Leaves out the listeners that lead to networks which were left out. `found` is what does not go
/// together.
pub(super) fn leave_out_listeners(boot: &mut Boot, found: &Problems) {
    let at = |pointer: &str| -> Option<usize> {
        let rest = pointer.strip_prefix("/listeners/")?;
        rest.split('/').next()?.parse().ok()
    };
    let mut refused: Vec<usize> = found.iter().filter_map(|it| at(&it.pointer)).collect();
    refused.sort_unstable();
    refused.dedup();
    for index in refused.into_iter().rev() {
        if index < boot.listeners.len() {
            let listener = boot.listeners.remove(index);
            let name = listener.name.to_string();
            tracing::error!(
                listener = name,
                "a listener is left out, because its network is: see above"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(document: &str) -> (Vec<u16>, Vec<String>) {
        let (desired, left_out) = salvage(document);
        let ports = desired.networks.keys().map(|port| port.get());
        (ports.collect(), left_out)
    }

    #[test]
    fn one_refused_network_leaves_the_others_served() {
        let (ports, left_out) = served(
            r#"{ "1": { "netns": null, "proxy": { "https://a.example": ["10.0.0.1:1"] } },
                 "2": { "netns": null, "unheard_of": 1 },
                 "3": { "netns": null } }"#,
        );
        assert_eq!((ports, left_out), (vec![1, 3], vec!["2".to_owned()]));
    }

    #[test]
    fn networks_that_do_not_go_together_are_left_out_until_the_rest_does() {
        let (ports, left_out) = served(
            r#"{ "1": { "netns": null, "proxy": { "https://a.example": ["10.0.0.1:1"] } },
                 "2": { "netns": null, "proxy": { "https://a.example": ["10.0.0.1:1"] } },
                 "3": { "netns": null } }"#,
        );
        assert_eq!((ports, left_out), (vec![1, 3], vec!["2".to_owned()]));
    }

    #[test]
    fn what_is_no_document_leaves_nothing() {
        assert_eq!(served("{").0, Vec::<u16>::new());
        assert_eq!(served("[]").1, ["all"]);
    }
}
