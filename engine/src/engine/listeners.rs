//! The listeners of an engine, from one publication to the next.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::Arc,
};

use engine_core::{balance::Load, ids::ListenerId};

use crate::{
    context::{listener::Sockets, snapshot::Published},
    engine::counters::Counters,
    worker::Came,
};

/// Where listeners listen, and which of them are gone with connections that live on.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    addresses: BTreeMap<ListenerId, SocketAddr>,
    /// With the count of their connections: one that comes back goes on with it.
    gone: HashMap<ListenerId, Load>,
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

    /// The live connections of a listener that no publication has now.
    pub(crate) fn live(&self, id: ListenerId) -> Load {
        self.gone.get(&id).cloned().unwrap_or_default()
    }

    /// Notes what a publication says of the listeners that are `changed`. Those that it has are counted from
    /// now on.
    pub(crate) fn take_up(
        &mut self,
        (before, after): (&Published, &Published),
        changed: &[ListenerId],
        sockets: &HashMap<ListenerId, Sockets>,
        counters: &mut Counters,
    ) -> Changes {
        let (mut retired, mut came) = (Vec::new(), Vec::new());
        for &id in changed {
            let Some(listening) = after.listeners.get(&id) else {
                if let Some(listening) = before.listeners.get(&id) {
                    self.gone.insert(id, listening.live.clone());
                }
                self.addresses.remove(&id);
                retired.push(id);
                continue;
            };
            came.push(id);
            self.gone.remove(&id);
            let counted = counters.listeners.entry(id).or_default();
            counted.name = Arc::clone(&listening.name);
            if let Some(sockets) = sockets.get(&id)
                && self.addresses.insert(id, sockets.address).is_some()
            {
                retired.push(id);
            }
        }
        Changes {
            retired: retired.into(),
            came: came.into(),
        }
    }

    /// Lets go of the counters of listeners that are gone, when their last connection has ended.
    pub(crate) fn forget_ended(&mut self, counters: &mut Counters) {
        let listeners = &mut counters.listeners;
        self.gone.retain(|id, _| {
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
