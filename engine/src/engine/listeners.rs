//! The listeners of an engine, from one publication to the next.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
};

use engine_core::ids::ListenerId;

use crate::{
    context::{listener::Sockets, snapshot::Published},
    engine::counters::{Counters, ListenerCounters},
    worker::Came,
};

/// Where listeners listen, and which of them are gone with connections that live on.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    addresses: BTreeMap<ListenerId, SocketAddr>,
    gone: HashSet<ListenerId>,
}

/// What is different of a publication's listeners.
#[derive(Debug)]
pub(crate) struct Changes {
    /// Those that are gone, and those that get other sockets.
    pub(crate) retired: Arc<[ListenerId]>,
    /// Those that are new, not as they were, or get sockets.
    pub(crate) came: Arc<[ListenerId]>,
}

impl Listeners {
    pub(crate) fn address(&self, id: ListenerId) -> Option<SocketAddr> {
        self.addresses.get(&id).copied()
    }

    /// Notes what a publication says of listeners, and what is different. Those that it has are counted
    /// from now on.
    pub(crate) fn take_up(
        &mut self,
        (before, after): (Option<&Published>, &Published),
        sockets: &HashMap<ListenerId, Sockets>,
        counters: &mut Counters,
    ) -> Changes {
        let old = |id: &ListenerId| before.and_then(|before| before.listeners.get(id));
        let is_same = |id: &ListenerId| {
            let same = old(id).zip(after.listeners.get(id));
            !sockets.contains_key(id) && same.is_some_and(|(old, new)| old.is_as(new))
        };
        let known = before
            .into_iter()
            .flat_map(|before| before.listeners.keys());
        let gone = known.filter(|id| !after.listeners.contains_key(id));
        let gone: Vec<ListenerId> = gone.copied().collect();
        for id in &gone {
            self.addresses.remove(id);
        }
        let replaced = sockets.keys().filter(|id| self.addresses.contains_key(id));
        let retired = gone.iter().chain(replaced).copied().collect();
        for (id, listening) in &after.listeners {
            let counted = counters.listeners.entry(*id);
            let counted = counted.or_insert_with(|| ListenerCounters {
                name: Arc::clone(&listening.name),
                ..ListenerCounters::default()
            });
            counted.name = Arc::clone(&listening.name);
        }
        self.gone.extend(&gone);
        self.gone.retain(|id| !after.listeners.contains_key(id));
        let has_listener = |(id, _): &(&ListenerId, &Sockets)| after.listeners.contains_key(id);
        let addresses = sockets.iter().filter(has_listener);
        self.addresses
            .extend(addresses.map(|(id, sockets)| (*id, sockets.address)));
        let came = after.listeners.keys().filter(|id| !is_same(id)).copied();
        Changes {
            retired,
            came: came.collect(),
        }
    }

    /// Lets go of the counters of listeners that are gone, when their last connection has ended.
    pub(crate) fn forget_ended(&mut self, counters: &mut Counters) {
        let listeners = &mut counters.listeners;
        self.gone.retain(|id| {
            let is_live = listeners.get(id).is_some_and(|it| it.tally.live() > 0);
            if !is_live {
                listeners.remove(id);
            }
            is_live
        });
    }
}

/// What each of the workers gets of the listeners that came: one socket of each that has some.
pub(crate) fn share_out(
    came: &Arc<[ListenerId]>,
    sockets: HashMap<ListenerId, Sockets>,
    workers: usize,
) -> Vec<Came> {
    let empty = || Came {
        listeners: Arc::clone(came),
        sockets: HashMap::new(),
    };
    let mut shares: Vec<Came> = (0..workers).map(|_| empty()).collect();
    for (id, sockets) in sockets {
        for (share, socket) in shares.iter_mut().zip(sockets.each) {
            share.sockets.insert(id, socket);
        }
    }
    shares
}

#[cfg(test)]
mod tests;
