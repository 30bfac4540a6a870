//! Samples of what was carried: workers, listeners, routes.

use std::{
    borrow::Cow,
    collections::{BTreeMap, btree_map::Entry},
};

use control_api::answer::WorkerStatus;
use engine::{ListenerTally, RouteCounters};
use engine_core::outcome::Outcome;
use engine_http::refusal::Refusal;

use super::{count, directions, level};
use crate::metrics::{Sample, scene::Scene};

fn workers(scene: &Scene, sample: impl Fn(&WorkerStatus) -> Sample) -> Vec<Sample> {
    scene.status().workers.iter().map(sample).collect()
}

pub(in crate::metrics) fn worker_connections(scene: &Scene) -> Vec<Sample> {
    workers(scene, |worker| level([&worker.worker], worker.connections))
}

pub(in crate::metrics) fn worker_accepted(scene: &Scene) -> Vec<Sample> {
    workers(scene, |worker| count([&worker.worker], worker.accepted))
}

pub(in crate::metrics) fn worker_bytes(scene: &Scene) -> Vec<Sample> {
    let workers = scene.status().workers.iter();
    let samples = workers.flat_map(|worker| {
        let labels = [worker.worker.to_string()];
        directions(&labels, worker.bytes_in, worker.bytes_out)
    });
    samples.collect()
}

pub(in crate::metrics) fn worker_generation(scene: &Scene) -> Vec<Sample> {
    workers(scene, |worker| level([&worker.worker], worker.generation))
}

/// What listeners counted, by their names: one that goes may have connections when another one of its
/// name comes.
fn listeners(scene: &Scene) -> impl Iterator<Item = (&str, Cow<'_, ListenerTally>)> {
    let mut by_name: BTreeMap<&str, Cow<'_, ListenerTally>> = BTreeMap::new();
    for counted in scene.view.counters.listeners.values() {
        match by_name.entry(&counted.name) {
            Entry::Vacant(vacant) => drop(vacant.insert(Cow::Borrowed(&counted.tally))),
            Entry::Occupied(mut known) => known.get_mut().to_mut().add(&counted.tally),
        }
    }
    by_name.into_iter()
}

pub(in crate::metrics) fn listener_accepted(scene: &Scene) -> Vec<Sample> {
    listeners(scene)
        .map(|(name, tally)| count([&name], tally.accepted))
        .collect()
}

pub(in crate::metrics) fn listener_ended(scene: &Scene) -> Vec<Sample> {
    let outcomes = |(name, tally): (&str, Cow<'_, ListenerTally>)| {
        let counted = Outcome::ALL.iter().zip(&tally.outcomes);
        let samples = counted.map(|(outcome, ended)| count([&name, &outcome.label()], *ended));
        samples.collect::<Vec<_>>()
    };
    listeners(scene).flat_map(outcomes).collect()
}

pub(in crate::metrics) fn listener_ech(scene: &Scene) -> Vec<Sample> {
    listeners(scene)
        .map(|(name, tally)| count([&name], tally.ech))
        .collect()
}

pub(in crate::metrics) fn listener_tls_handshakes(scene: &Scene) -> Vec<Sample> {
    let done = |(name, tally): (&str, Cow<'_, ListenerTally>)| {
        let samples = tally.tls.done.iter().map(|(agreed, done)| {
            let session = if agreed.resumed { "resumed" } else { "new" };
            count([&name, &agreed.version, &agreed.group, &session], *done)
        });
        samples.collect::<Vec<_>>()
    };
    listeners(scene).flat_map(done).collect()
}

pub(in crate::metrics) fn listener_tls_failures(scene: &Scene) -> Vec<Sample> {
    let failed = |(name, tally): (&str, Cow<'_, ListenerTally>)| {
        let failed = tally.tls.failed.iter();
        let samples = failed.map(|(cause, failed)| count([&name, &cause.label()], *failed));
        samples.collect::<Vec<_>>()
    };
    listeners(scene).flat_map(failed).collect()
}

/// Most listeners refuse nothing for most of the reasons: those would be series without a news.
pub(in crate::metrics) fn listener_refused(scene: &Scene) -> Vec<Sample> {
    let refused = |(name, tally): (&str, Cow<'_, ListenerTally>)| {
        let counted = Refusal::ALL.iter().zip(&tally.refusals);
        let counted = counted.filter(|(_, refused)| **refused > 0);
        let samples = counted.map(|(reason, refused)| count([&name, &reason.label()], *refused));
        samples.collect::<Vec<_>>()
    };
    listeners(scene).flat_map(refused).collect()
}

pub(in crate::metrics) fn listener_exhausted(scene: &Scene) -> Vec<Sample> {
    listeners(scene)
        .map(|(name, tally)| count([&name], tally.exhausted))
        .collect()
}

pub(in crate::metrics) fn listener_accept_errors(scene: &Scene) -> Vec<Sample> {
    listeners(scene)
        .map(|(name, tally)| count([&name], tally.accept_errors))
        .collect()
}

pub(in crate::metrics) fn records_dropped(scene: &Scene) -> Vec<Sample> {
    vec![count([], scene.view.counters.records_dropped)]
}

pub(in crate::metrics) fn requests_dropped(scene: &Scene) -> Vec<Sample> {
    vec![count([], scene.view.counters.requests_dropped)]
}

pub(in crate::metrics) fn name_lookups(scene: &Scene) -> Vec<Sample> {
    let tally = scene.view.counters.lookups;
    let found = tally.lookups - tally.failures - tally.negative;
    vec![
        count([&"found"], found),
        count([&"negative"], tally.negative),
        count([&"failed"], tally.failures),
        count([&"refused"], tally.refused),
    ]
}

pub(in crate::metrics) fn splices(scene: &Scene) -> Vec<Sample> {
    vec![count([], scene.view.counters.splices)]
}

pub(super) fn routes(scene: &Scene, sample: impl Fn(&RouteCounters) -> Sample) -> Vec<Sample> {
    scene.routes.iter().map(sample).collect()
}

pub(in crate::metrics) fn route_connections(scene: &Scene) -> Vec<Sample> {
    routes(scene, |route| {
        level([&route.network, &route.label], route.tally.live())
    })
}

pub(in crate::metrics) fn route_opened(scene: &Scene) -> Vec<Sample> {
    routes(scene, |route| {
        count([&route.network, &route.label], route.tally.opened)
    })
}

pub(in crate::metrics) fn route_bytes(scene: &Scene) -> Vec<Sample> {
    let samples = scene.routes.iter().flat_map(|route| {
        let labels = [route.network.to_string(), route.label.to_string()];
        directions(&labels, route.tally.bytes_in, route.tally.bytes_out)
    });
    samples.collect()
}
