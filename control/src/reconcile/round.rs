//! One round: observe, plan, add, publish, remove.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use control_api::{answer::Happening, place::NetworkKey, state::Desired};
use control_kernel::Kernel as _;
use control_plan::{
    NamespaceSource,
    actual::Actual,
    plan::{Input, Plan, places, plan},
    step::{Action, PeerChange, Step},
};

use super::{clock::unix_now, networks::Networks, view::device_status};

/// Rounds that a plan may need: a device that moves is removed in one and made in the next.
const ROUNDS_MAX: usize = 3;

/// What was planned, and for whom.
#[derive(Debug, Default)]
pub(super) struct Planning {
    pub(super) plan: Plan,
    /// The networks that the plan is about.
    pub(super) scope: BTreeSet<NetworkKey>,
    /// Those that could not be observed, and why.
    pub(super) unseen: BTreeMap<NetworkKey, String>,
}

impl Networks {
    /// Brings the kernel to the desired state, for some networks or all.
    pub(super) fn round(&mut self, desired: &Desired, only: Option<&BTreeSet<NetworkKey>>) {
        for _ in 0..ROUNDS_MAX {
            let planning = self.plan_for(desired, only);
            let is_partial = planning.plan.is_partial;
            self.carry_out(desired, planning, |_| {});
            if !is_partial {
                break;
            }
        }
    }

    /// Observes and plans.
    pub(super) fn plan_for(
        &mut self,
        desired: &Desired,
        only: Option<&BTreeSet<NetworkKey>>,
    ) -> Planning {
        let places = places(desired, self.records.all(), only);
        let observed = self.kernel.observe(&places, &self.records);
        let unseen: BTreeMap<NetworkKey, String> = observed
            .errors
            .into_iter()
            .map(|(network, error)| (network, format!("{:#}", anyhow::Error::from(error))))
            .collect();
        self.note_devices(&places, &observed.actual);
        let scope: BTreeSet<NetworkKey> = places
            .keys()
            .copied()
            .chain(only.into_iter().flatten().copied())
            .filter(|network| !unseen.contains_key(network))
            .collect();
        let plan = plan(Input {
            desired,
            actual: &observed.actual,
            owned: self.records.all(),
            known: &self.known,
            backend: self.backend,
            only: Some(&scope),
        });
        Planning {
            plan,
            scope,
            unseen,
        }
    }

    /// Shows devices as they are after the steps of a plan.
    fn look_again(&mut self, desired: &Desired, scope: &BTreeSet<NetworkKey>) {
        let places = places(desired, self.records.all(), Some(scope));
        let observed = self.kernel.observe(&places, &self.records);
        self.note_devices(&places, &observed.actual);
        // Nothing is looked at any longer where nothing is to be.
        for network in scope.iter().filter(|network| !places.contains_key(network)) {
            self.devices.remove_mut(network);
            self.settings.remove(network);
        }
    }

    fn note_devices(&mut self, places: &BTreeMap<NetworkKey, NamespaceSource>, actual: &Actual) {
        for network in places.keys() {
            let actual = actual.networks.get(network);
            match actual.and_then(|actual| actual.device.as_ref()) {
                Some(device) => {
                    let status = device_status(*network, device);
                    self.devices.insert_mut(*network, status);
                }
                None => drop(self.devices.remove_mut(network)),
            }
        }
    }

    /// Takes the steps of a plan; `publish` comes between additions and removals.
    pub(super) fn carry_out(
        &mut self,
        desired: &Desired,
        planning: Planning,
        publish: impl FnOnce(&mut Self),
    ) {
        let Planning {
            plan,
            scope,
            unseen,
        } = planning;
        let mut failures = unseen;
        for (network, refused) in &plan.refused {
            failures.insert(*network, refused.to_string());
        }
        let began = Instant::now();
        self.take(desired, &plan.before, &mut failures);
        publish(self);
        self.take(desired, &plan.after, &mut failures);
        if !plan.is_empty() {
            self.look_again(desired, &scope);
        }
        let taken_up = scope.iter().filter(|it| !failures.contains_key(it));
        self.known.settle(desired, taken_up);
        self.reconciles.rounds += 1;
        self.reconciles.failures += u64::from(!failures.is_empty());
        self.reconciles.last_seconds = began.elapsed().as_secs_f64();
        self.judge(&scope, failures);
    }

    /// Takes steps. After the first that fails, those of the same network are left out.
    fn take(
        &mut self,
        desired: &Desired,
        steps: &[Step],
        failures: &mut BTreeMap<NetworkKey, String>,
    ) {
        for step in steps {
            if failures.contains_key(&step.network) {
                continue;
            }
            self.heartbeat.beat();
            if ends_counting(&step.action) {
                self.sample_network(step.network);
            }
            let (op, object, detail) = (step.op(), step.object(), step.detail());
            match self.kernel.apply(step, &mut self.records) {
                Ok(()) => {
                    self.note_withdrawn(desired, step);
                    self.reconciles.steps += 1;
                    tracing::info!(op, object, detail, "step");
                }
                Err(error) => {
                    let error = format!("{:#}", anyhow::Error::from(error));
                    failures.insert(step.network, error);
                }
            }
        }
    }

    /// Notes an address that a device has lost, unless it has it with another prefix.
    fn note_withdrawn(&mut self, desired: &Desired, step: &Step) {
        let Action::RemoveAddress(prefix) = &step.action else {
            return;
        };
        let network = desired.networks.get(&step.network);
        let declared = network.and_then(|network| network.wireguard.as_ref());
        let mut declared = declared.into_iter().flat_map(|it| &it.address);
        if !declared.any(|other| other.addr() == prefix.addr()) {
            let withdrawn = self.withdrawn.entry(step.network).or_default();
            withdrawn.insert(prefix.addr());
        }
    }

    /// Notes who failed and who is well again.
    fn judge(&mut self, scope: &BTreeSet<NetworkKey>, failures: BTreeMap<NetworkKey, String>) {
        let mut news = Vec::new();
        for network in scope {
            if !failures.contains_key(network) {
                news.extend(self.degraded.recover(*network));
            }
        }
        for (network, reason) in failures {
            news.extend(self.fail(network, reason));
        }
        self.news.tell(news);
    }

    /// Notes why a network is not as desired.
    pub(super) fn fail(&mut self, network: NetworkKey, reason: String) -> Option<Happening> {
        let unix = unix_now().as_secs();
        let news = self
            .degraded
            .fail(network, reason.clone(), Instant::now(), unix);
        if news.is_some() {
            tracing::error!(
                network = network.get(),
                reason,
                "a network is not as desired"
            );
        }
        news
    }
}

/// Whether counters end with a step, or count for another network from then on.
fn ends_counting(action: &Action) -> bool {
    match action {
        Action::RemoveDevice | Action::RemoveNamespace => true,
        Action::ConfigureDevice(change) => {
            let removes = |peer: &PeerChange| *peer == PeerChange::Remove;
            change.private_key.is_some() || change.peers.values().any(removes)
        }
        Action::MakeNamespace
        | Action::AdoptNamespace
        | Action::RaiseLoopback
        | Action::Forward
        | Action::WriteFirewall(_)
        | Action::MakeDevice { .. }
        | Action::SetMtu(_)
        | Action::KeepSecondaries
        | Action::AddAddress(_)
        | Action::RestoreRoutes(_)
        | Action::RaiseDevice
        | Action::AddRoute(_)
        | Action::RemoveRoute(_)
        | Action::RemoveAddress(_)
        | Action::Disown => false,
    }
}
