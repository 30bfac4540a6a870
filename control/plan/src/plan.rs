//! Which steps lead from what is there to what is desired.
//!
//! Three laws hold, and are tested: planning what is already so gives nothing; after the steps of a
//! plan, planning gives nothing; and whichever step was the last that happened, planning again
//! leads to the same end.

mod device;
mod known;
mod network;
mod routes;

use std::collections::{BTreeMap, BTreeSet};

use control_api::place::NetworkKey;

use control_api::state::{Desired, Namespace, Network};

pub(crate) use self::device::clamped;
pub use self::{
    known::{Endpoint, Known},
    network::Refused,
    routes::wanted as wanted_routes,
};
use crate::{
    actual::{Actual, ActualNetwork, Backend, Owned},
    publish::NamespaceSource,
    step::{Action, Step},
};

/// Seconds between two packets that keep the way to a peer open (contracts of the first gateway,
/// and wg(8) on what most firewalls need).
pub const KEEP_ALIVE_SECONDS: u16 = 25;

/// Everything that a plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// What is to be.
    pub desired: &'a Desired,
    /// What is, for every network of [`places`].
    pub actual: &'a Actual,
    /// What Ringway made.
    pub owned: &'a BTreeMap<NetworkKey, Owned>,
    /// Where peers were said to be, and where they were seen last.
    pub known: &'a Known,
    /// Who has to carry the packets; absent where it does not matter.
    pub backend: Option<Backend>,
    /// Which networks the plan is about; absent for all.
    pub only: Option<&'a BTreeSet<NetworkKey>>,
}

/// The steps, in the order in which they are to happen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Before the workers are told: what is added or changed.
    pub before: Vec<Step>,
    /// When every worker runs the new snapshot: what is removed.
    pub after: Vec<Step>,
    /// Networks that cannot be as desired, and why. Nothing is done about them.
    pub refused: BTreeMap<NetworkKey, Refused>,
    /// Whether another plan has to follow: a device that moves between namespaces is removed first.
    pub is_partial: bool,
}

impl Plan {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.before.is_empty() && self.after.is_empty()
    }

    /// Whether what is there of a network goes when the workers were told.
    pub fn removes(&self, network: NetworkKey) -> bool {
        let removal = [Action::RemoveDevice, Action::RemoveNamespace];
        let mut steps = self.after.iter();
        steps.any(|step| step.network == network && removal.contains(&step.action))
    }

    /// All steps.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.before.iter().chain(&self.after)
    }
}

/// The namespaces to observe: for each network the one where something of it is, or else the one
/// where something of it is to be.
///
/// `only` names the networks to look at; absent means all.
pub fn places(
    desired: &Desired,
    owned: &BTreeMap<NetworkKey, Owned>,
    only: Option<&BTreeSet<NetworkKey>>,
) -> BTreeMap<NetworkKey, NamespaceSource> {
    let mut places = BTreeMap::new();
    let mut note = |port: &NetworkKey| {
        let network = desired.networks.get(port).filter(|it| is_programmed(it));
        let owned = owned.get(port).map(|owned| place_owned(*port, owned));
        let place = owned.or_else(|| network.map(place_of));
        places.extend(place.map(|place| (*port, place)));
    };
    match only {
        Some(only) => only.iter().for_each(note),
        None => {
            desired.networks.keys().for_each(&mut note);
            owned.keys().for_each(note);
        }
    }
    places
}

/// Whether the kernel has to hold anything for a network: one that brings its own namespace and
/// has no device is only dialed from.
pub fn is_programmed(network: &Network) -> bool {
    network.namespace == Namespace::Own || network.wireguard.is_some()
}

/// The namespace that a network asks for.
pub fn place_of(network: &Network) -> NamespaceSource {
    match &network.namespace {
        Namespace::Own => NamespaceSource::Made(network.port),
        Namespace::Host => NamespaceSource::Host,
        Namespace::Existing(name) => NamespaceSource::Existing(name.clone()),
    }
}

fn place_owned(port: NetworkKey, owned: &Owned) -> NamespaceSource {
    match owned {
        Owned::Namespace(_) => NamespaceSource::Made(port),
        Owned::DeviceIn(place) => place.clone(),
    }
}

/// Plans. Networks do not depend on each other: their steps are independent, and in order within
/// each.
pub fn plan(input: Input<'_>) -> Plan {
    let mut plan = Plan::default();
    let nothing = ActualNetwork::default();
    for (port, place) in places(input.desired, input.owned, input.only) {
        let actual = input.actual.networks.get(&port).unwrap_or(&nothing);
        let owned = input.owned.get(&port);
        let wanted = input.desired.networks.get(&port);
        let wanted = wanted.filter(|network| is_programmed(network));
        match wanted {
            Some(network) if place_of(network) == place => {
                network::keep(network, place, actual, owned, input, &mut plan);
            }
            moved_or_gone => {
                plan.is_partial |= moved_or_gone.is_some();
                network::remove(port, place, actual, owned, &mut plan);
            }
        }
    }
    plan
}

#[cfg(test)]
mod fake;
#[cfg(test)]
mod tests;
