//! The namespaces in use, each held by descriptor together with the sockets inside.

use std::{collections::BTreeMap, io, sync::Arc};

use control_api::place::NetworkKey;

use control_plan::{
    NamespaceSource,
    actual::{NamespaceIdentity, NamespaceState, Owned},
};
use engine_sys::netns::Netns;

use super::{
    error::Refusal,
    nftables::Nftables,
    rtnl::Rtnl,
    socket::{Family, NetlinkError, Socket},
    wireguard::WireGuard,
};
use crate::{
    name::NamespaceName,
    names::{Found, Names},
};

/// A namespace, and the sockets that were opened in it: two, and a third where the kernel's
/// WireGuard is asked. They stay open as long as it is held.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) netns: Arc<Netns>,
    pub(super) rtnl: Rtnl,
    pub(super) nftables: Nftables,
    wireguard: Option<WireGuard>,
}

impl Space {
    pub(super) fn open(netns: Arc<Netns>) -> Result<Self, NetlinkError> {
        let [route, netfilter] = Socket::open(&netns, [Family::Route, Family::Netfilter])?;
        Ok(Self {
            netns,
            rtnl: Rtnl::new(route),
            nftables: Nftables::new(netfilter),
            wireguard: None,
        })
    }

    /// The kernel's WireGuard inside.
    pub(super) fn wireguard(&mut self) -> Result<&mut WireGuard, NetlinkError> {
        if self.wireguard.is_none() {
            let [socket] = Socket::open(&self.netns, [Family::Generic])?;
            self.wireguard = Some(WireGuard::new(socket));
        }
        // It was filled right above.
        self.wireguard
            .as_mut()
            .ok_or_else(|| NetlinkError::Open(io::Error::other("no socket")))
    }
}

/// Every namespace in use.
#[derive(Debug)]
pub(super) struct Spaces {
    names: Names,
    boot: String,
    pub(super) host: Arc<Netns>,
    held: BTreeMap<NamespaceSource, Space>,
}

impl Spaces {
    /// `boot` is the id of the machine's boot: inodes of namespaces begin again with each.
    pub(super) fn new(names: Names, boot: String, host: Arc<Netns>) -> Self {
        Self {
            names,
            boot,
            host,
            held: BTreeMap::new(),
        }
    }

    /// What tells a namespace from every other one of every boot. The kernel may give an inode
    /// again once a namespace ended, so an identity is only good together with the name.
    pub(super) fn identity(&self, netns: &Netns) -> NamespaceIdentity {
        let identity = netns.identity();
        NamespaceIdentity(format!(
            "{}:{}:{}",
            self.boot, identity.device, identity.inode
        ))
    }

    pub(super) fn held(&mut self, source: &NamespaceSource) -> Option<&mut Space> {
        self.held.get_mut(source)
    }

    /// Whether the namespace that is held is recorded as Ringway's.
    pub(super) fn is_owned(&self, source: &NamespaceSource, owned: Option<&Owned>) -> bool {
        let held = self.held.get(source);
        let is_recorded = |space: &Space| is_record_of(owned, &self.identity(&space.netns));
        held.is_some_and(is_recorded)
    }

    /// Finds the namespace of a network and holds it. Of a namespace that is Ringway's, a name that
    /// was deleted is made again; another's is its owner's, and is held until its name leads to a
    /// new one.
    pub(super) fn find(
        &mut self,
        source: &NamespaceSource,
        owned: Option<&Owned>,
    ) -> Result<NamespaceState, Refusal> {
        let Some(name) = name_of(source) else {
            let host = Arc::clone(&self.host);
            self.hold(source, host)?;
            return Ok(NamespaceState::Foreign);
        };
        let is_made = matches!(source, NamespaceSource::Made(_));
        if let Some(space) = self.held.get(source) {
            let is_owned = self.is_owned(source, owned);
            match self.names.look(&name, space.netns.identity()) {
                Found::Same => return Ok(state(is_owned)),
                Found::Nothing if !is_made => return Ok(NamespaceState::Foreign),
                Found::Nothing if is_owned => {
                    let bound = self.names.bind(&name, &space.netns);
                    bound.map_err(Refusal::Name)?;
                    return Ok(state(is_owned));
                }
                // Its own lives on under the name that somebody else took.
                Found::Other if is_owned => return Ok(NamespaceState::Foreign),
                Found::Nothing | Found::Other => {}
                Found::Unknown(error) => return Err(Refusal::Namespace(error)),
            }
            self.held.remove(source);
        }
        match self.names.open(&name) {
            Ok(None) => Ok(NamespaceState::Absent),
            Ok(Some(netns)) => {
                self.hold(source, Arc::new(netns))?;
                Ok(state(self.is_owned(source, owned)))
            }
            // Some other file.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                Ok(NamespaceState::Foreign)
            }
            Err(error) => Err(Refusal::Namespace(error)),
        }
    }

    /// Makes `network-<port>`. `record` is called before it has its name: whatever happens then,
    /// nothing is left that nobody owns, because a namespace without a name ends with its maker.
    pub(super) fn make(
        &mut self,
        port: NetworkKey,
        owned: Option<&Owned>,
        record: impl FnOnce(NamespaceIdentity) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let source = NamespaceSource::Made(port);
        match self.find(&source, owned)? {
            NamespaceState::Owned => return Ok(()),
            NamespaceState::Foreign => return Err(Refusal::Foreign),
            NamespaceState::Absent => {}
        }
        let netns = Netns::create().map_err(Refusal::Namespace)?;
        record(self.identity(&netns))?;
        let name = NamespaceName::of_network(port.get());
        self.names.bind(&name, &netns).map_err(Refusal::Name)?;
        self.hold(&source, Arc::new(netns))
    }

    /// Takes the namespace over that has the name now.
    pub(super) fn adopt(
        &mut self,
        port: NetworkKey,
        record: impl FnOnce(NamespaceIdentity) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let name = NamespaceName::of_network(port.get());
        let named = self.names.open(&name).map_err(Refusal::Namespace)?;
        let netns = named.ok_or(Refusal::NoNamespace)?;
        record(self.identity(&netns))?;
        let source = NamespaceSource::Made(port);
        self.held.remove(&source);
        self.hold(&source, Arc::new(netns))
    }

    /// Takes the name of `network-<port>` away, if it is that of the namespace that is held.
    pub(super) fn unname(&self, port: NetworkKey) -> Result<(), Refusal> {
        let Some(space) = self.held.get(&NamespaceSource::Made(port)) else {
            return Ok(());
        };
        let name = NamespaceName::of_network(port.get());
        match self.names.look(&name, space.netns.identity()) {
            Found::Same => self.names.unbind(&name).map_err(Refusal::Unname),
            Found::Nothing | Found::Other => Ok(()),
            Found::Unknown(error) => Err(Refusal::Unname(error)),
        }
    }

    /// Lets go of a namespace and leaves it as it is.
    pub(super) fn release(&mut self, source: &NamespaceSource) -> Option<Space> {
        self.held.remove(source)
    }

    /// Lets go of every namespace but these.
    pub(super) fn release_all_but(&mut self, wanted: impl Fn(&NamespaceSource) -> bool) {
        self.held.retain(|source, _| wanted(source));
    }

    fn hold(&mut self, source: &NamespaceSource, netns: Arc<Netns>) -> Result<(), Refusal> {
        if !self.held.contains_key(source) {
            let space = Space::open(netns)?;
            self.held.insert(source.clone(), space);
        }
        Ok(())
    }
}

fn state(is_owned: bool) -> NamespaceState {
    if is_owned {
        NamespaceState::Owned
    } else {
        NamespaceState::Foreign
    }
}

fn is_record_of(owned: Option<&Owned>, identity: &NamespaceIdentity) -> bool {
    matches!(owned, Some(Owned::Namespace(recorded)) if recorded == identity)
}

/// The host's has none.
fn name_of(source: &NamespaceSource) -> Option<NamespaceName> {
    match source {
        NamespaceSource::Host => None,
        NamespaceSource::Made(port) => Some(NamespaceName::of_network(port.get())),
        // Both parsers know the same rules.
        NamespaceSource::Existing(name) => NamespaceName::parse(name.as_str()).ok(),
    }
}
