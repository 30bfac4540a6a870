//! A publication that is made from nothing.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use control_api::{
    Problems,
    state::{Namespace, Network},
};
use engine_core::{
    hostname::HostPattern,
    shared_map::SharedMap,
    snapshot::{Snapshot, SnapshotBuilder},
};
use engine_http::rules::{Action, Match, Policy, TableBuilder};

use super::{
    Held, Input, NamespaceSource, Planned,
    before::{Before, Piece},
    contradictions,
    draft::{self, Draft},
    rules,
};
use crate::ids::{HOST, Ids, Leads, NextIds, is_declared};

/// Plans all of it.
pub(super) fn plan(ids: &Ids, input: &Input<'_>) -> Result<(Planned, Ids, Before), Problems> {
    let builder = SnapshotBuilder::new(input.generation);
    let mut draft = Draft::new(NextIds::anew(ids), builder, input);
    let host = (engine_core::ids::NetnsId(HOST), NamespaceSource::Host);
    draft.namespaces.extend([host]);
    let networks = &input.desired.networks;
    let mut tenants: Vec<_> = networks
        .values()
        .map(|network| {
            let tenant = draft.tenant(network);
            let piece = draft.whole(&tenant);
            (tenant, piece)
        })
        .collect();
    let mut taken: HashSet<&HostPattern> = networks.values().flat_map(Network::hosts).collect();
    for held in input.held {
        hold(&mut draft, held, &mut taken);
    }
    let boots = input.listeners.iter().enumerate();
    let boots: Arc<[_]> = boots.map(|it| draft.listener(networks, it)).collect();
    let (mut own, mut pieces) = (BTreeMap::new(), SharedMap::new());
    for (key, (tenant, piece)) in networks.keys().zip(&mut tenants) {
        let (listeners, planned) = draft.own_listeners(tenant);
        piece.listeners = listeners;
        if !planned.is_empty() {
            own.insert(*key, planned);
        }
        pieces.insert(*key, Arc::<Piece>::new(piece.clone()));
    }
    let before = Before {
        networks: networks.clone(),
        listeners: input.listeners.into(),
        has_held: !input.held.is_empty(),
        pieces,
        boots,
        own: Arc::new(own),
    };
    finish(draft, input, before)
}

/// Keeps hosts that are not `taken` from whatever takes the names around them.
fn hold<'h>(draft: &mut Draft<'_>, held: &'h Held, taken: &mut HashSet<&'h HostPattern>) {
    // Nothing is dialed for it.
    let network = draft.network(&held.network, &Namespace::Host);
    for host in held.hosts.iter().filter(|host| taken.insert(*host)) {
        let found_by = Match {
            scheme: None,
            host: Some(host.clone()),
            path: "/".to_owned(),
            methods: Vec::new(),
            fields: Vec::new(),
        };
        let leads = Leads::Rule(Box::new(found_by.clone()));
        let (id, _) = draft.ids.route((held.network.clone(), leads));
        draft.rules.push(rules::Draft {
            id,
            found_by,
            action: Action::Maintenance,
            policy: Policy::default(),
            aside: Some(draft::aside(id, host.to_string(), &network)),
        });
        draft.tls.refused.push(host.clone());
    }
}

fn finish(
    mut draft: Draft<'_>,
    input: &Input<'_>,
    before: Before,
) -> Result<(Planned, Ids, Before), Problems> {
    if draft.problems.refuse() {
        return Err(draft.problems);
    }
    let previous = input.running.map(|running| running.snapshot);
    // What a listener led to and no network of the document is goes on when the listener is gone.
    let networks = previous.into_iter().flat_map(Snapshot::networks);
    for id in networks.filter(|id| !is_declared(*id)) {
        draft.builder.keep_network(id);
    }
    let snapshot = draft.builder.build(previous).map_err(contradictions)?;
    let http = rules::table(TableBuilder::new(), draft.rules, &snapshot);
    let planned = Planned {
        http: http.map_err(contradictions)?,
        snapshot,
        tls: draft.tls,
        name_servers: draft.name_servers,
        namespaces: draft.namespaces,
        listeners: before.listeners(),
        gone: None,
    };
    Ok((planned, draft.ids.finish(), before))
}
