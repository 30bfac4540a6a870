//! A document in the place of all that an owner has, beside all that others have.

use std::{collections::BTreeMap, sync::Arc};

use super::{EditError, Scope};
use crate::{
    document::{self, At, Content, Entry, Node, Spot},
    place::NetworkKey,
    problem::{Problem, Problems, Severity, Valid},
    state::{
        self, Desired, NETWORKS, Network, Owner, Taken, Whose,
        network::{self, Among, Objects},
        secret::Kept,
    },
};

pub(super) fn replace(
    current: &Desired,
    text: &str,
    scope: &Scope,
) -> Result<Valid<Desired>, EditError> {
    let Whose::One(owner) = &scope.whose else {
        return state::parse_over(text, current).map_err(EditError::Problems);
    };
    let mut problems = Problems::default();
    let desired = document::read_json(text, &mut problems)
        .and_then(|node| replace_part(current, node, (owner, scope), &mut problems));
    problems.decide(desired).map_err(EditError::Problems)
}

pub(super) fn roll_back(
    current: &Desired,
    text: &str,
    scope: &Scope,
) -> Result<Valid<Desired>, EditError> {
    let earlier = state::parse(text).map_err(EditError::Problems)?;
    match &scope.whose {
        Whose::All => Ok(earlier),
        whose @ Whose::One(_) => {
            let part = earlier.value.render_part_with_secrets(whose);
            replace(current, &part.to_string(), scope)
        }
    }
}

/// What of a state is not an owner's.
#[derive(Default)]
struct Others {
    /// Networks of others, without what the owner has in them.
    networks: BTreeMap<NetworkKey, Arc<Network>>,
    /// What others have in networks of the owner.
    objects: BTreeMap<NetworkKey, Objects>,
    /// Networks of others that the owner has something in.
    touched: Vec<NetworkKey>,
}

impl Others {
    fn of(current: &Desired, owner: &Owner) -> Self {
        let mut others = Self::default();
        for (port, network) in current.networks.iter_shared() {
            if network.owner == *owner {
                let objects = network.split(|other| other == owner).1;
                others.objects.insert(*port, objects);
                continue;
            }
            let is_touched = network.owners().any(|other| other == owner);
            let without = match is_touched {
                true => Arc::new(network.split(|other| other != owner).0),
                false => Arc::clone(network),
            };
            if is_touched {
                others.touched.push(*port);
            }
            others.networks.insert(*port, without);
        }
        others
    }
}

fn replace_part(
    current: &Desired,
    mut document: Node,
    (owner, scope): (&Owner, &Scope),
    problems: &mut Problems,
) -> Option<Desired> {
    let others = Others::of(current, owner);
    add_emptied(&mut document, &others.touched);
    state::with_networks(&Spot::root(&document), problems, |spots, problems| {
        compose(current, (spots, others), scope, problems)
    })
}

/// What is written, in the place of what its owner had, and what others have.
fn compose(
    current: &Desired,
    (spots, mut others): (&[Spot<'_>], Others),
    scope: &Scope,
    problems: &mut Problems,
) -> Option<Desired> {
    let mut taken = Taken::default();
    for network in others.networks.values() {
        taken.note(network);
    }
    let mut desired = Desired::default();
    for spot in spots {
        let Some(port) = state::read_port(spot, problems) else {
            continue;
        };
        let kept = Kept::From(current.networks.get(&port));
        let network = match others.networks.remove(&port) {
            Some(theirs) => {
                let part = (Network::clone(&theirs), &scope.whose, kept);
                network::read_part(spot, part, &mut taken, problems)
            }
            None => {
                let among = Among {
                    port,
                    whose: &scope.whose,
                    kept,
                    others: &others.objects.remove(&port).unwrap_or_default(),
                };
                network::read(spot, among, &mut taken, problems)
            }
        };
        if let Some(network) = network {
            desired.networks.insert(network, &current.networks);
        }
    }
    // What is left was the owner's, and is in the document no more.
    for port in others.objects.keys() {
        if let Some(network) = current.networks.get(port) {
            refuse_in_use(network, scope, format!("/{port}"), problems);
        }
    }
    let stay = others.networks.into_values();
    stay.for_each(|network| desired.networks.put(network));
    Some(desired)
}

/// Adds networks that the owner had something in and has no more to a document, as empty parts.
fn add_emptied(document: &mut Node, touched: &[NetworkKey]) {
    let empty = |port: &NetworkKey| Entry {
        key: port.to_string().into(),
        at: At::Line(1),
        value: Node::new(At::Line(1), Content::Map(Vec::new())),
    };
    let Content::Map(members) = &mut document.content else {
        return;
    };
    let wrapped = members.iter().position(|member| &*member.key == NETWORKS);
    let entries = match wrapped.and_then(|at| members.get_mut(at)) {
        Some(member) => match &mut member.value.content {
            Content::Map(entries) => entries,
            Content::Null
            | Content::Bool(_)
            | Content::Plain(_)
            | Content::Text(_)
            | Content::List(_) => return,
        },
        None => members,
    };
    for port in touched {
        let key = port.to_string();
        if entries.iter().all(|entry| *entry.key != *key) {
            entries.push(empty(port));
        }
    }
}

/// Notes what others have in a network that is to go, unless it may go with it.
pub(super) fn refuse_in_use(
    network: &Network,
    scope: &Scope,
    pointer: String,
    problems: &mut Problems,
) {
    let Whose::One(owner) = &scope.whose else {
        return;
    };
    let others = network.split(|other| other == owner).1;
    let Some(names) = others.names().filter(|_| !scope.cascade) else {
        return;
    };
    let name = network.name();
    problems.push(Problem {
        pointer,
        hint: Some("`?cascade=true` removes these with it".to_owned()),
        ..Problem::whole(
            Severity::Error,
            format!("{name} goes, and others have in it: {names}"),
        )
    });
}
