//! The steps of one network.

use control_api::place::NetworkKey;

use control_api::state::{Namespace, Network};

use super::{Input, Plan, device};
use crate::{
    actual::{ActualNetwork, Firewall, FirewallState, NamespaceState, Owned},
    publish::NamespaceSource,
    step::{Action, Step},
};

/// Why a network cannot be as desired.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// `network-<port>` is there, and Ringway did not make it.
    #[error(
        "its namespace exists and was not made by Ringway: write `\"adopt\": true` to take it over, or remove it"
    )]
    ForeignNamespace,
    /// The namespace that the network names is not there.
    #[error("the namespace that it names does not exist")]
    NoNamespace,
    /// `wg<port>` is there, in a namespace that is not Ringway's, and Ringway did not make it.
    #[error("a device of its name exists in that namespace and was not made by Ringway: remove it")]
    ForeignDevice,
}

/// Steps of one network, on their way into the plan.
pub(super) struct Steps<'a> {
    network: NetworkKey,
    place: &'a NamespaceSource,
    into: &'a mut Vec<Step>,
}

impl<'a> Steps<'a> {
    fn new(network: NetworkKey, place: &'a NamespaceSource, into: &'a mut Vec<Step>) -> Self {
        Self {
            network,
            place,
            into,
        }
    }

    pub(super) fn push(&mut self, action: Action) {
        self.into.push(Step {
            network: self.network,
            place: self.place.clone(),
            action,
        });
    }
}

/// Makes a network what is desired of it.
pub(super) fn keep(
    network: &Network,
    place: NamespaceSource,
    actual: &ActualNetwork,
    owned: Option<&Owned>,
    input: Input<'_>,
    plan: &mut Plan,
) {
    if let Err(refused) = may(network, actual, owned) {
        plan.refused.insert(network.port, refused);
        return;
    }
    let mut before = Steps::new(network.port, &place, &mut plan.before);
    if network.namespace == Namespace::Own {
        namespace(network, actual, &mut before);
    }
    let mut after = Steps::new(network.port, &place, &mut plan.after);
    match (&network.wireguard, &actual.device) {
        (Some(wanted), there) => {
            let known = |peer: &_| input.known.endpoint(network.port, peer);
            let wish = device::Wish {
                wireguard: wanted,
                backend: input.backend,
                is_alone: network.namespace == Namespace::Own,
                known: &known,
            };
            device::keep(&wish, there.as_ref(), &mut before, &mut after);
        }
        (None, Some(_)) => after.push(Action::RemoveDevice),
        (None, None) => {}
    }
}

fn may(network: &Network, actual: &ActualNetwork, owned: Option<&Owned>) -> Result<(), Refused> {
    let is_own = network.namespace == Namespace::Own;
    match actual.namespace {
        NamespaceState::Foreign if is_own && !network.adopt => Err(Refused::ForeignNamespace),
        NamespaceState::Absent if !is_own => Err(Refused::NoNamespace),
        NamespaceState::Foreign if !is_own && actual.device.is_some() && owned.is_none() => {
            Err(Refused::ForeignDevice)
        }
        NamespaceState::Absent | NamespaceState::Owned | NamespaceState::Foreign => Ok(()),
    }
}

/// The namespace itself, and what protects it, before anything is in it.
fn namespace(network: &Network, actual: &ActualNetwork, steps: &mut Steps<'_>) {
    match actual.namespace {
        NamespaceState::Absent => steps.push(Action::MakeNamespace),
        NamespaceState::Foreign => steps.push(Action::AdoptNamespace),
        NamespaceState::Owned => {}
    }
    let firewall = Firewall {
        peer_to_peer: network.peer_to_peer,
        tcp_ports: network.own_ports(),
    };
    if actual.firewall != FirewallState::Is(firewall.clone()) {
        steps.push(Action::WriteFirewall(firewall));
    }
    if !actual.is_loopback_up {
        steps.push(Action::RaiseLoopback);
    }
    if !actual.is_forwarding {
        steps.push(Action::Forward);
    }
}

/// Removes what Ringway made for a network, and nothing else.
pub(super) fn remove(
    port: NetworkKey,
    place: NamespaceSource,
    actual: &ActualNetwork,
    owned: Option<&Owned>,
    plan: &mut Plan,
) {
    let Some(owned) = owned else {
        return;
    };
    let mut steps = Steps::new(port, &place, &mut plan.after);
    match (owned, actual.namespace) {
        // Its device goes with it.
        (Owned::Namespace(_), NamespaceState::Owned) => steps.push(Action::RemoveNamespace),
        (Owned::DeviceIn(_), NamespaceState::Owned | NamespaceState::Foreign)
            if actual.device.is_some() =>
        {
            steps.push(Action::RemoveDevice);
            steps.push(Action::Disown);
        }
        // It is gone, or its name is somebody else's now.
        (Owned::Namespace(_) | Owned::DeviceIn(_), _) => steps.push(Action::Disown),
    }
}
