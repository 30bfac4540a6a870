//! The sockets of listeners: opened here, and handed to the workers with a publication.
//!
//! A port that cannot be had is no error of the gateway's: its listener is left out of the publication,
//! said to be degraded, and tried again.

pub(crate) mod probe;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::Arc,
};

use anyhow::Context as _;
use control_api::{
    boot::{self, ListenerName, ListenerTerms},
    overlap,
    place::NetworkKey,
};
use control_plan::{NamespaceSource, PlannedListener};
use engine::{Bind, HalfClose, Listener, Opening, Protocol, RelayMode, Sockets};
use engine_core::ids::ListenerId;
use engine_sys::netns::{Identity, Netns};

/// The ports of the gateway.
#[derive(Debug)]
pub(crate) struct Ports {
    opening: Opening,
    /// What the workers listen with.
    open: HashMap<ListenerId, Held>,
    /// What was opened ahead of the first publication.
    ready: HashMap<ListenerName, (Held, Sockets)>,
    unbound: BTreeMap<ListenerId, Unbound>,
    /// Whether there was a publication.
    is_started: bool,
}

/// What sockets were opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    bind: SocketAddr,
    /// `None` is the gateway's own namespace.
    namespace: Option<Identity>,
    is_client_first: bool,
    /// The service manager opened it, and may still hold it.
    is_inherited: bool,
}

/// A listener that has no port.
#[derive(Clone, Debug)]
pub(crate) struct Unbound {
    pub(crate) name: ListenerName,
    /// The network that declares it; `None` for the boot file's.
    pub(crate) owner: Option<NetworkKey>,
    /// In one sentence.
    pub(crate) why: String,
    bind: SocketAddr,
    place: NamespaceSource,
}

/// Listeners as the workers get them, and the sockets of those that have none yet.
pub(crate) type Settled = (Vec<Listener>, HashMap<ListenerId, Sockets>);

impl Held {
    fn of(listener: &PlannedListener, namespace: Option<Identity>) -> Self {
        Self {
            bind: listener.bind,
            namespace,
            is_client_first: protocol(listener.terms.protocol).is_client_first(),
            is_inherited: false,
        }
    }

    /// Whether sockets that were opened for this do for what is wanted.
    fn does_for(self, wanted: Self) -> bool {
        let is_alike = self.is_inherited || self.is_client_first == wanted.is_client_first;
        self.bind == wanted.bind && self.namespace == wanted.namespace && is_alike
    }
}

impl Ports {
    /// Opens the ports of the boot file's listeners: clients that come until the workers have them wait,
    /// and are not refused. `inherited` are sockets that were handed over, by the listener's position.
    ///
    /// # Errors
    /// Names the listener that cannot be had.
    pub(crate) fn start(
        opening: Opening,
        listeners: &[boot::Listener],
        mut inherited: HashMap<usize, OwnedFd>,
    ) -> anyhow::Result<Self> {
        let mut ready = HashMap::new();
        for (index, listener) in listeners.iter().enumerate() {
            let (name, protocol) = (&listener.name, protocol(listener.protocol));
            let handed = inherited.remove(&index);
            let held = Held {
                bind: listener.bind,
                namespace: None,
                is_client_first: protocol.is_client_first(),
                is_inherited: handed.is_some(),
            };
            let sockets = match handed {
                Some(fd) => opening.adopt(&fd, protocol).with_context(|| {
                    format!(
                        "the descriptor handed over for listener {name} is not a listening TCP socket"
                    )
                })?,
                None => {
                    let bind = Bind {
                        address: listener.bind,
                        namespace: None,
                    };
                    opening.bind(&bind, protocol).with_context(|| {
                        format!("listener {name} cannot listen on {}", listener.bind)
                    })?
                }
            };
            ready.insert(name.clone(), (held, sockets));
        }
        Ok(Self {
            opening,
            open: HashMap::new(),
            ready,
            unbound: BTreeMap::new(),
            is_started: false,
        })
    }

    /// Gives each listener of a publication its port. What cannot be had is left out, and is among
    /// [`Self::unbound`] until the next publication.
    pub(crate) fn settle(
        &mut self,
        planned: &[PlannedListener],
        mut namespace: impl FnMut(&NamespaceSource) -> Result<Arc<Netns>, String>,
    ) -> Settled {
        let (mut listeners, mut sockets) = (Vec::new(), HashMap::new());
        let (mut open, mut unbound) = (HashMap::new(), BTreeMap::new());
        for listener in planned {
            match self.port_of(listener, &mut namespace) {
                Ok((held, opened)) => {
                    open.insert(listener.id, held);
                    sockets.extend(opened.map(|opened| (listener.id, opened)));
                    listeners.push(for_engine(listener));
                }
                Err(why) => {
                    self.say_unbound(listener, &why);
                    let (bind, place) = (listener.bind, listener.place.clone());
                    let refused = Unbound {
                        name: listener.name.clone(),
                        owner: listener.owner,
                        why: format!("{bind} cannot be bound: {why}"),
                        bind,
                        place,
                    };
                    unbound.insert(listener.id, refused);
                }
            }
        }
        (self.open, self.unbound) = (open, unbound);
        self.ready.clear();
        self.is_started = true;
        (listeners, sockets)
    }

    /// Listeners that have no port.
    pub(crate) fn unbound(&self) -> impl Iterator<Item = &Unbound> {
        self.unbound.values()
    }

    /// Whether a port that could not be had can be had now.
    pub(crate) fn has_freed(
        &self,
        mut namespace: impl FnMut(&NamespaceSource) -> Result<Arc<Netns>, String>,
    ) -> bool {
        self.unbound.values().any(|unbound| {
            let Ok(bind) = bind_at(unbound.bind, &unbound.place, &mut namespace) else {
                return false;
            };
            bind.probe().is_ok()
        })
    }

    /// The port of one listener, and its sockets where it has none yet.
    fn port_of(
        &mut self,
        listener: &PlannedListener,
        namespace: &mut impl FnMut(&NamespaceSource) -> Result<Arc<Netns>, String>,
    ) -> Result<(Held, Option<Sockets>), String> {
        let bind = bind_at(listener.bind, &listener.place, namespace)?;
        let wanted = Held::of(listener, bind.namespace.as_ref().map(|it| it.identity()));
        if let Some(held) = self.open.get(&listener.id)
            && held.does_for(wanted)
        {
            return Ok((*held, None));
        }
        if let Some((held, sockets)) = self.ready.remove(&listener.name)
            && held.does_for(wanted)
        {
            return Ok((held, Some(sockets)));
        }
        // Where Ringway listens itself, another of its listeners may be about to go.
        let is_own =
            |held: &Held| held.namespace == wanted.namespace && overlap(held.bind, wanted.bind);
        let refused = |error| match bind.namespace {
            Some(_) => format!("{error} (in the network's namespace)"),
            None => probe::reason(bind.address, &error),
        };
        if bind.address.port() != 0 && !self.open.values().any(is_own) {
            bind.probe().map_err(refused)?;
        }
        let sockets = self.opening.bind(&bind, protocol(listener.terms.protocol));
        let sockets = sockets.map_err(refused)?;
        if self.is_started {
            let (name, address) = (&listener.name, sockets.address);
            tracing::info!(listener = %name, %address, "listening");
        }
        Ok((wanted, Some(sockets)))
    }

    fn say_unbound(&self, listener: &PlannedListener, why: &str) {
        if !self.unbound.contains_key(&listener.id) {
            let (name, bind) = (&listener.name, listener.bind);
            tracing::error!(listener = %name, %bind, why, "a listener cannot be bound, and is tried again");
        }
    }
}

fn bind_at(
    address: SocketAddr,
    place: &NamespaceSource,
    namespace: &mut impl FnMut(&NamespaceSource) -> Result<Arc<Netns>, String>,
) -> Result<Bind, String> {
    let namespace = match place {
        NamespaceSource::Host => None,
        NamespaceSource::Made(_) | NamespaceSource::Existing(_) => Some(namespace(place)?),
    };
    Ok(Bind { address, namespace })
}

/// A listener in the engine's words.
fn for_engine(planned: &PlannedListener) -> Listener {
    let ListenerTerms {
        protocol: spoken,
        relay,
        accept_proxy_from,
        connections_max,
        hello_timeout,
        connect_timeout,
        idle_timeout,
        keep_alive_timeout,
        answer_timeout,
        half_close,
        trusted_proxies,
    } = planned.terms.clone();
    Listener {
        id: planned.id,
        name: Arc::from(planned.name.as_str()),
        network: planned.network,
        protocol: protocol(spoken),
        relay: match relay {
            boot::RelayMode::Auto => RelayMode::Auto,
            boot::RelayMode::Copy => RelayMode::Copy,
            boot::RelayMode::Splice => RelayMode::Splice,
        },
        accept_proxy_from,
        connections_max,
        hello_timeout,
        connect_timeout,
        idle_timeout,
        keep_alive_timeout,
        answer_timeout,
        half_close: match half_close {
            boot::HalfClose::Abort => HalfClose::Abort,
            boot::HalfClose::Respond => HalfClose::Respond,
        },
        trusted_proxies,
    }
}

fn protocol(declared: boot::Protocol) -> Protocol {
    match declared {
        boot::Protocol::Tls => Protocol::Tls,
        boot::Protocol::Tcp => Protocol::Tcp,
        boot::Protocol::Http => Protocol::Http,
        boot::Protocol::Https => Protocol::Https,
    }
}

#[cfg(test)]
mod tests;
