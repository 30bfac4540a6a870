//! A publication that goes on from the one before: what changes is taken out and put in again, host by
//! host, and all the rest is shared.

use std::{collections::HashSet, sync::Arc};

use control_api::{
    Problems,
    place::NetworkKey,
    state::{Network, Terminated},
};
use engine_core::{
    hostname::HostPattern,
    ids::{NetnsId, RouteId},
    shared_map::SharedMap,
    snapshot::SnapshotBuilder,
};
use engine_http::rules::TableBuilder;

use super::{
    Gone, Input, NamespaceSource, Planned, Running,
    before::{Before, Extent, HostPiece, Piece},
    contradictions,
    draft::{Draft, OfHost, Tenant},
    rules, source_of,
};
use crate::ids::{FIRST_NAMED, HOST, Ids, NextIds, RouteKey};

/// Plans what is different.
pub(super) fn plan(
    ids: &Ids,
    (before, running): (&Before, Running<'_>),
    changes: &[(NetworkKey, Extent)],
    input: &Input<'_>,
) -> Result<(Planned, Ids, Before), Problems> {
    let builder = SnapshotBuilder::after(running.snapshot, input.generation);
    let mut change = Change {
        draft: Draft::new(NextIds::after(ids), builder, input),
        table: TableBuilder::after(running.http),
        gone: Gone::default(),
        forgotten: Vec::new(),
        kept: HashSet::new(),
        left: Vec::new(),
        after: before.clone(),
    };
    change.after.networks = input.desired.networks.clone();
    for (key, extent) in changes {
        change.take_out(before, *key, extent);
    }
    for (key, extent) in changes {
        match input.desired.networks.get(key) {
            Some(network) => change.put_in(network, extent),
            None => drop(change.after.pieces.remove(key)),
        }
    }
    change.finish(before)
}

struct Change<'a> {
    draft: Draft<'a>,
    table: TableBuilder,
    gone: Gone,
    /// What was taken out, and may have been put in again.
    forgotten: Vec<(RouteId, Arc<RouteKey>)>,
    /// What was put in.
    kept: HashSet<RouteId>,
    /// Namespaces that networks were in.
    left: Vec<NetnsId>,
    after: Before,
}

impl Change<'_> {
    /// Takes out what a network had, as far as it is to be made anew.
    fn take_out(&mut self, before: &Before, key: NetworkKey, extent: &Extent) {
        let Some(piece) = before.pieces.get(&key) else {
            return;
        };
        match extent {
            Extent::Hosts(hosts) => {
                for host in hosts {
                    if let Some(had) = piece.hosts.get(host) {
                        self.take_host_out(host.as_ref(), had);
                    }
                }
            }
            Extent::Whole => {
                for (host, had) in piece.hosts.iter() {
                    self.take_host_out(host.as_ref(), had);
                }
                self.take_listeners_out(piece);
                Arc::make_mut(&mut self.after.own).remove(&key);
                self.gone.name_servers.push(piece.id);
                self.left.push(piece.netns);
                self.draft.builder.remove_network(piece.id);
            }
        }
    }

    fn take_host_out(&mut self, host: Option<&HostPattern>, had: &HostPiece) {
        self.table.clear(host);
        for route in &had.routes {
            self.draft.builder.remove_route(*route);
        }
        if let Some(host) = host {
            if had.is_passed {
                self.draft.builder.remove_name(host);
            }
            if had.ends_tls {
                self.gone.names.push(host.clone());
            }
        }
        self.gone.others |= host.is_none();
        self.gone.origins.extend(&had.origins);
        self.forgotten.extend_from_slice(&had.ids);
    }

    fn take_listeners_out(&mut self, piece: &Piece) {
        for own in &piece.listeners {
            let Some((route, _)) = &own.route else {
                continue;
            };
            match own.is_fixed {
                true => self.draft.builder.remove_fixed(own.id),
                false => self.draft.builder.remove_default_route(own.id),
            };
            self.draft.builder.remove_route(*route);
            self.forgotten.extend(own.route.clone());
        }
    }

    /// Puts in what a network has, as far as it is made anew.
    fn put_in(&mut self, network: &Network, extent: &Extent) {
        let tenant = self.draft.tenant(network);
        let key = network.port;
        let piece = match (extent, self.after.pieces.get(&key)) {
            (Extent::Hosts(hosts), Some(piece)) => {
                let mut piece = Piece::clone(piece);
                for host in hosts {
                    self.put_host_in(&tenant, network, host, &mut piece.hosts);
                }
                // It may have the first target that is a name, or none any more.
                self.gone.name_servers.push(piece.id);
                piece
            }
            (_, _) => self.put_whole_in(&tenant, key),
        };
        self.after.pieces.insert(key, Arc::new(piece));
    }

    fn put_host_in(
        &mut self,
        tenant: &Tenant<'_>,
        network: &Network,
        host: &Option<HostPattern>,
        hosts: &mut SharedMap<Option<HostPattern>, Arc<HostPiece>>,
    ) {
        let declared = OfHost::one(network, host.as_ref());
        if declared.is_empty() {
            hosts.remove(host);
            return;
        }
        let terminated = Terminated::around(network, host.as_ref());
        let piece = self
            .draft
            .host(tenant, &terminated, host.as_ref(), declared);
        self.keep(&piece);
        hosts.insert(host.clone(), Arc::new(piece));
    }

    fn put_whole_in(&mut self, tenant: &Tenant<'_>, key: NetworkKey) -> Piece {
        let mut piece = self.draft.whole(tenant);
        for had in piece.hosts.values() {
            self.keep(had);
        }
        self.gone.others |= piece.hosts.contains_key(&None);
        let (listeners, planned) = self.draft.own_listeners(tenant);
        let routes = listeners.iter().filter_map(|own| own.route.as_ref());
        self.kept.extend(routes.map(|(id, _)| *id));
        piece.listeners = listeners;
        if !planned.is_empty() {
            Arc::make_mut(&mut self.after.own).insert(key, planned);
        }
        piece
    }

    fn keep(&mut self, piece: &HostPiece) {
        self.kept.extend(piece.ids.iter().map(|(id, _)| *id));
    }

    fn finish(self, before: &Before) -> Result<(Planned, Ids, Before), Problems> {
        let Self {
            mut draft,
            table,
            mut gone,
            forgotten,
            kept,
            left,
            after,
        } = self;
        let snapshot = draft.builder.build(None).map_err(contradictions)?;
        let http = rules::table(table, draft.rules, &snapshot);
        for (id, key) in forgotten {
            if !kept.contains(&id) {
                draft.ids.forget_route(&key);
            }
        }
        let listeners = after.listeners();
        let named: HashSet<_> = listeners.iter().map(|it| &it.name).collect();
        let old = before.own.values().flatten();
        for listener in old.filter(|it| !named.contains(&it.name)) {
            draft.ids.forget_listener(&listener.name);
        }
        // The host's is always there.
        let is_left = |netns: &NetnsId| netns.0 != HOST && !snapshot.has_namespace(*netns);
        gone.namespaces = left.into_iter().filter(is_left).collect();
        let gone_too = before.networks.differing(&after.networks);
        let gone_too = gone_too.iter().filter_map(|key| before.networks.get(key));
        for network in gone_too {
            if let NamespaceSource::Existing(name) = source_of(&network.namespace, network.port) {
                let id = draft.ids.namespace(&name);
                if id.0 >= FIRST_NAMED && is_left(&id) {
                    draft.ids.forget_namespace(&name);
                }
            }
        }
        let planned = Planned {
            http: http.map_err(contradictions)?,
            snapshot,
            tls: draft.tls,
            name_servers: draft.name_servers,
            namespaces: draft.namespaces,
            listeners,
            gone: Some(gone),
        };
        Ok((planned, draft.ids.finish(), after))
    }
}

#[cfg(test)]
mod tests;
