//! A change of the desired state, from the request to the answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use control_api::{
    Problem, Problems, Valid,
    answer::{Applied, AppliedStep, Degradation, Happening, Reason, RefusedProblem},
    boot::Boot,
    place::NetworkKey,
    state::{
        self, Change, Desired, EditError, OWNERS_MAX, Owner, Whose, changed_owners,
        difference::Difference, edit,
    },
};
use control_http::{ChangeRefused, ChangeRequest};
use control_plan::{
    Changed, Clash, changed, clashes, clashes_of, doubts, misfits,
    plan::{Plan, place_of},
};
use control_store::{CommitError, DesiredStore as _, NewGeneration};
use engine_core::hostname::HostPattern;
use engine_sys::process::{beyond_descriptor_limit, has_descriptors};

use super::{
    Reconciler,
    answers::Answer,
    clock::unix_now,
    left_out::LeftOut,
    order::Taken,
    publication::{Prepared, publish_to},
    round::Planning,
    unserved::{BootState, Standing},
};

/// Descriptors that a change should find: those of some networks, and more for the moment.
const DESCRIPTORS_WANTED: usize = 48;

/// A change that may be made.
struct Accepted {
    desired: Desired,
    /// What of the stored state stays left out.
    left_out: Vec<LeftOut>,
    warnings: Problems,
    changed: Changed,
    /// Absent when the workers need not know.
    prepared: Option<Prepared>,
}

/// A change that is stored and shown, and that kernel and workers do not know of yet.
struct Begun {
    /// The state before it.
    before: Arc<Desired>,
    /// The networks that it concerns.
    scope: BTreeSet<NetworkKey>,
    prepared: Option<Prepared>,
}

impl Reconciler {
    /// Makes a change, and answers whoever asked. Nobody is answered before the new state is on
    /// disk.
    pub(super) fn change(&mut self, request: ChangeRequest) {
        // Connections may have all but those that are kept back for this.
        match has_descriptors(DESCRIPTORS_WANTED) {
            true => self.make(request),
            false => beyond_descriptor_limit(|| self.make(request)),
        }
    }

    fn make(&mut self, request: ChangeRequest) {
        if !request.claim.take() {
            // Its client was told, or is gone; what came of it is in the audit log.
            let _ = request.reply.send(Err(ChangeRefused::Withdrawn));
            return;
        }
        let accepted = match self.accept(&request) {
            Ok(accepted) => accepted,
            Err(refused) => {
                // Whoever asked may be gone.
                let _ = request.reply.send(Err(refused));
                return;
            }
        };
        let planning = self
            .networks
            .plan_for(&accepted.desired, Some(&accepted.changed.programmed));
        let mut applied = Applied {
            generation: self.generation,
            // A refused network that goes changes nothing that is served, and the stored state.
            changed: !accepted.changed.programmed.is_empty()
                || accepted.left_out.len() < self.left_out.len(),
            dry_run: request.dry_run,
            steps: steps(&planning.plan),
            degraded: Vec::new(),
            warnings: self.warnings(&request.change, &accepted),
        };
        // Of the others, the status has told.
        let only = accepted.changed.programmed.clone();
        if request.dry_run || !applied.changed {
            return self.answers.give(Answer {
                reply: request.reply,
                applied,
                desired: Arc::new(accepted.desired),
                only,
            });
        }
        match self.commit(&request, &accepted) {
            Ok(generation) => applied.generation = generation,
            Err(refused) => {
                let _ = request.reply.send(Err(refused));
                return;
            }
        }
        let ChangeRequest {
            wait,
            reply,
            actor,
            scope,
            ..
        } = request;
        let by = (&*actor.name, &scope.whose);
        // Whoever is answered and looks then sees what was accepted.
        let begun = self.begin(accepted);
        let desired = Arc::clone(&self.desired);
        let answer = |applied| Answer {
            reply,
            applied,
            desired,
            only,
        };
        if !wait {
            self.answers.give(answer(applied));
            return self.take_up(begun, planning, by);
        }
        self.take_up(begun, planning, by);
        applied.degraded = self.not_made();
        let generation = applied.generation;
        let answer = answer(applied);
        if self.running == generation {
            self.answers.give(answer);
        } else {
            let _ = answer
                .reply
                .send(Err(ChangeRefused::NotRunning { generation }));
        }
    }

    /// What a change did not come to, as of the last look.
    fn not_made(&self) -> Vec<Degradation> {
        let list = self.degradations.list().iter();
        let of_a_change = |it: &&Degradation| match it.reason {
            Reason::NetworkFailed | Reason::NamespaceMissing | Reason::TlsFailed => true,
            // Of the boot file's, a change knows nothing.
            Reason::ListenerNotBound => it.network.is_some(),
            // Warned of, or still to come, or no doing of the change.
            Reason::ListenerMissing
            | Reason::NetworkRefused
            | Reason::CertificateMissing
            | Reason::CertificateFailed
            | Reason::CertificateExpired
            | Reason::TargetsDown
            | Reason::BootFileRefused
            | Reason::StoreBehind
            | Reason::WorkersBehind
            | Reason::Unknown => false,
        };
        list.filter(of_a_change).cloned().collect()
    }

    /// What should still be looked at: what `ringway check` would say of the document beside the
    /// boot file, with the certificates in service.
    ///
    /// A whole document is looked at as a whole; of what is changed alone, its network.
    fn warnings(&self, change: &Change, accepted: &Accepted) -> Vec<RefusedProblem> {
        let is_covered = |host: Option<&HostPattern>| self.is_covered(host);
        let networks = &accepted.desired.networks;
        let misfits = match change.network() {
            None => misfits(networks.values(), &self.boot, is_covered),
            Some(key) => misfits(networks.get(&key).into_iter(), &self.boot, is_covered),
        };
        let doubts = doubts(&accepted.desired, Some(&accepted.changed.programmed));
        let warnings = accepted.warnings.iter().chain(misfits.iter());
        let warnings = warnings.chain(doubts.iter());
        warnings.map(Into::into).collect()
    }

    fn accept(&self, request: &ChangeRequest) -> Result<Accepted, ChangeRefused> {
        self.check_generation(request)?;
        let Valid {
            value: desired,
            warnings,
            ..
        } = self.edited(request)?;
        let left_out = self.left_out.iter();
        let left_out = left_out.filter(|it| it.outlives(&request.change, &request.scope));
        let left_out: Vec<LeftOut> = left_out.cloned().collect();
        let mut taken = Problems::default();
        let problems = left_out.iter();
        let problems = problems.flat_map(|it| it.taken_by(&desired, &self.desired));
        problems.for_each(|problem| taken.push(problem));
        let changed = changed(&self.desired, &desired);
        let networks = changed.programmed.iter();
        let networks = networks.filter_map(|key| desired.networks.get(key));
        let clashes = clashes_of(networks, &self.boot.listeners);
        let clashes = clashes.iter().map(Clash::of_document);
        clashes.for_each(|problem| taken.push(as_written(problem, &request.change)));
        if taken.refuse() {
            return Err(EditError::Problems(taken).into());
        }
        // Hosts of theirs are free.
        let is_freed = left_out.len() < self.left_out.len();
        // Always tried: a listener may lead to a network that goes.
        let prepared = if changed.is_routed || is_freed {
            let running = Some(self.engine.publication());
            let prepared = self
                .publisher
                .prepare(&desired, &left_out, &self.boot.listeners, running)
                .map_err(EditError::Problems)?;
            Some(prepared)
        } else {
            None
        };
        Ok(Accepted {
            desired,
            left_out,
            warnings,
            changed,
            prepared,
        })
    }

    /// Whether the part that a change is about is as whoever asks knows it.
    fn check_generation(&self, request: &ChangeRequest) -> Result<(), ChangeRefused> {
        let current = match &request.scope.whose {
            Whose::All => self.generation,
            Whose::One(owner) => self.owners.get(owner).copied().unwrap_or_default(),
        };
        match request.if_match {
            Some(expected) if expected != current => {
                Err(ChangeRefused::Conflict { expected, current })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// The state that a change leads to. What was left out of the current one can be removed.
    fn edited(&self, request: &ChangeRequest) -> Result<Valid<Desired>, EditError> {
        let ChangeRequest { change, scope, .. } = request;
        let edited = edit(&self.desired, change, scope);
        let removes_left_out = matches!(edited, Err(EditError::UnknownNetwork(_)))
            && self.left_out.iter().any(|it| !it.outlives(change, scope));
        match removes_left_out {
            true => Ok(Valid {
                value: Desired::clone(&self.desired),
                warnings: Problems::default(),
            }),
            false => edited,
        }
    }

    fn commit(
        &mut self,
        request: &ChangeRequest,
        accepted: &Accepted,
    ) -> Result<u64, ChangeRefused> {
        // What is left out is in the document alone.
        let is_whole =
            self.generation == 0 || !self.left_out.is_empty() || !accepted.left_out.is_empty();
        let document = is_whole.then(|| {
            let document = accepted.desired.render_with_secrets();
            LeftOut::write_all(&accepted.left_out, document).to_string()
        });
        let difference = match is_whole {
            true => String::new(),
            false => Difference::between(&self.desired, &accepted.desired).to_text(),
        };
        let mut changed = changed_owners(&self.desired, &accepted.desired);
        if let Whose::One(owner) = &request.scope.whose {
            changed.insert(owner.clone());
        }
        let left_out = accepted.left_out.iter().map(LeftOut::owner);
        let owners = accepted.desired.owners().into_iter().cloned();
        let present: BTreeSet<Owner> = owners.chain(left_out).collect();
        let names = |owners: &BTreeSet<Owner>| owners.iter().map(ToString::to_string).collect();
        let new = NewGeneration {
            owners: names(&changed),
            present: names(&present),
            expected: Some(self.generation),
            time: unix_now().as_secs(),
            actor: request.actor.name.to_string(),
            note: request.change.to_string(),
            difference,
            document,
        };
        let committed = self.networks.store.desired().commit(new).wait();
        match committed {
            Ok(generation) => {
                self.generation = generation;
                note_owners(&mut self.owners, (&changed, &present), generation);
                Ok(generation)
            }
            Err(CommitError::Conflict { expected, current }) => {
                Err(ChangeRefused::Conflict { expected, current })
            }
            Err(error @ CommitError::Write(_)) => Err(ChangeRefused::Unstored(error)),
        }
    }

    /// Counts what moved under the old state, and shows the new one.
    fn begin(&mut self, accepted: Accepted) -> Begun {
        let Accepted {
            desired,
            left_out,
            changed,
            prepared,
            ..
        } = accepted;
        let scope = changed.programmed;
        self.sample_before(&scope);
        let before = Arc::clone(&self.desired);
        self.pending.clone_from(&scope);
        self.desired = Arc::new(desired);
        self.left_out = left_out;
        self.standing
            .take_up(&self.desired, &scope, &self.boot.listeners);
        self.show_change(&scope);
        self.shorten();
        Begun {
            before,
            scope,
            prepared,
        }
    }

    /// Makes the kernel and the workers what the new state says.
    fn take_up(&mut self, begun: Begun, planning: Planning, (actor, whose): (&str, &Whose)) {
        let Begun {
            before,
            scope,
            prepared,
        } = begun;
        let is_partial = planning.plan.is_partial;
        // Their devices are still to be counted, for whoever has them now.
        let (leaving, staying): (BTreeSet<NetworkKey>, _) =
            scope.iter().partition(|port| planning.plan.removes(**port));
        let (desired, publisher, engine, generation) = (
            &self.desired,
            &mut self.publisher,
            &mut self.engine,
            self.generation,
        );
        let mut is_running = true;
        self.networks.carry_out(desired, planning, |networks| {
            match prepared {
                Some(prepared) => {
                    let publication = publisher.open(prepared, generation, &mut networks.kernel);
                    is_running = publish_to(engine, publication, generation);
                }
                None => {
                    publisher.stands_for(generation);
                    engine.counters();
                }
            }
            // Flows went on while the kernel was changed.
            networks.hand_over(&engine.take_clients(), desired, &staying);
        });
        if is_running {
            self.running = generation;
        }
        self.end_withdrawn();
        if is_partial {
            self.networks.round(&self.desired, Some(&scope));
        }
        let place = |desired: &Desired, port| desired.networks.get(port).map(place_of);
        if scope
            .iter()
            .any(|port| place(&before, port) != place(&self.desired, port))
        {
            self.networks.release_places(&self.desired);
        }
        self.count();
        let clients = self.engine.take_clients();
        self.networks.hand_over(&clients, &self.desired, &leaving);
        let gone = scope.iter();
        self.networks
            .part_with(gone.filter(|port| !self.desired.networks.contains_key(port)));
        self.pending.clear();
        let applied = Happening::StateApplied {
            generation,
            actor: actor.to_owned(),
            owner: whose.to_string(),
        };
        self.networks.news.tell(vec![applied]);
        // The others have their turn at the next tick, which also tells what somebody else changed.
        self.networks.sample_networks(&scope);
        self.show_change(&scope);
    }

    /// Takes up what of a boot file a running gateway can change.
    ///
    /// # Errors
    /// When a listener leads to a network that the desired state does not have, or is in the way of one
    /// of a network's; nothing changes.
    pub(super) fn take_boot(&mut self, boot: Boot) -> Result<Taken, Problems> {
        let waiting = boot.restart_needed(&self.boot);
        let clashes = clashes(&self.desired, &boot.listeners);
        if !clashes.is_empty() {
            let mut problems = Problems::default();
            let clashes = clashes.iter().map(Clash::of_boot_file);
            clashes.for_each(|problem| problems.push(problem));
            return Err(problems);
        }
        let mut next = self.boot.clone();
        crate::serve::adopt(&mut next, &boot);
        let running = Some(self.engine.publication());
        let prepared =
            self.publisher
                .prepare(&self.desired, &self.left_out, &next.listeners, running)?;
        self.boot = next;
        self.boot_state = BootState::default();
        self.standing = Standing::of(&self.desired, &self.boot.listeners);
        self.hand_out(prepared);
        self.networks.round(&self.desired, None);
        self.count();
        self.show();
        let unbound = self.publisher.unbound().filter(|it| it.owner.is_none());
        let unbound = unbound.map(|it| format!("listener {}: {}", it.name, it.why));
        Ok(Taken {
            waiting,
            unbound: unbound.collect(),
        })
    }
}

/// Notes which owners' parts a generation changed, and forgets those who are gone for longest beyond as
/// many as may have something.
fn note_owners(
    owners: &mut Arc<BTreeMap<Owner, u64>>,
    (changed, present): (&BTreeSet<Owner>, &BTreeSet<Owner>),
    generation: u64,
) {
    let owners = Arc::make_mut(owners);
    owners.extend(changed.iter().map(|owner| (owner.clone(), generation)));
    let gone = owners.iter().filter(|(owner, _)| !present.contains(owner));
    let mut gone: Vec<(u64, Owner)> = gone.map(|(owner, last)| (*last, owner.clone())).collect();
    gone.sort_unstable();
    let beyond = gone.len().saturating_sub(OWNERS_MAX);
    for (_, owner) in gone.iter().take(beyond) {
        owners.remove(owner);
    }
}

/// A problem of a whole document as whoever wrote a part of it sees it: pointers begin there.
fn as_written(mut problem: Problem, change: &Change) -> Problem {
    let begin = match change {
        Change::Replace { text } | Change::Rollback { text, .. } => {
            state::locate(text, &mut problem);
            return problem;
        }
        Change::PatchNetwork { port, .. } | Change::PutNetwork { port, .. } => format!("/{port}"),
        Change::PutListener { port, name, .. } => format!("/{port}/listeners/{name}"),
        Change::RemoveNetwork { .. }
        | Change::PutRoute { .. }
        | Change::RemoveRoute { .. }
        | Change::RemoveListener { .. }
        | Change::PutPeer { .. }
        | Change::RemovePeer { .. } => return problem,
    };
    if let Some(rest) = problem.pointer.strip_prefix(&begin) {
        problem.pointer = rest.to_owned();
    }
    problem
}

fn steps(plan: &Plan) -> Vec<AppliedStep> {
    let steps = plan.steps().map(|step| AppliedStep {
        op: step.op().to_owned(),
        object: step.object(),
        detail: step.detail(),
    });
    steps.collect()
}
