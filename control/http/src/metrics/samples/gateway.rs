//! Samples of the gateway as a whole: what runs, the store, the reconciler, the API.

use control_api::answer::Reason;

use super::{count, level, level_of};
use crate::metrics::{Sample, scene::Scene};

pub(in crate::metrics) fn build(_: &Scene) -> Vec<Sample> {
    vec![count([&env!("CARGO_PKG_VERSION")], 1)]
}

pub(in crate::metrics) fn start_time(scene: &Scene) -> Vec<Sample> {
    vec![level([], scene.status().started)]
}

pub(in crate::metrics) fn ready(scene: &Scene) -> Vec<Sample> {
    vec![level([], scene.view.ready.into())]
}

pub(in crate::metrics) fn generation(scene: &Scene) -> Vec<Sample> {
    vec![
        level([&"desired"], scene.view.generation),
        level([&"running"], scene.view.running_generation),
    ]
}

pub(in crate::metrics) fn degraded(scene: &Scene) -> Vec<Sample> {
    let degraded = scene.status().degraded.len();
    vec![level([], degraded.try_into().unwrap_or(u64::MAX))]
}

pub(in crate::metrics) fn degraded_by_reason(scene: &Scene) -> Vec<Sample> {
    let by_reason = Reason::ALL.map(|reason| {
        let degraded = scene.status().degraded.iter();
        let so = degraded.filter(|it| it.reason == reason).count();
        level([&reason.word()], so.try_into().unwrap_or(u64::MAX))
    });
    by_reason.into()
}

pub(in crate::metrics) fn reload_ok(scene: &Scene) -> Vec<Sample> {
    let mut degraded = scene.status().degraded.iter();
    let is_refused = degraded.any(|it| it.reason == Reason::BootFileRefused);
    vec![level([], (!is_refused).into())]
}

pub(in crate::metrics) fn backend(scene: &Scene) -> Vec<Sample> {
    let backend = scene.status().wireguard.backend;
    let info = backend.map(|backend| count([&backend.word()], 1));
    info.into_iter().collect()
}

pub(in crate::metrics) fn store_ok(scene: &Scene) -> Vec<Sample> {
    vec![level([], scene.status().store.ok.into())]
}

pub(in crate::metrics) fn store_bytes(scene: &Scene) -> Vec<Sample> {
    vec![level([], scene.status().store.bytes)]
}

pub(in crate::metrics) fn reconcile_rounds(scene: &Scene) -> Vec<Sample> {
    vec![count([], scene.reconciles().rounds)]
}

pub(in crate::metrics) fn reconcile_failures(scene: &Scene) -> Vec<Sample> {
    vec![count([], scene.reconciles().failures)]
}

pub(in crate::metrics) fn reconcile_steps(scene: &Scene) -> Vec<Sample> {
    vec![count([], scene.reconciles().steps)]
}

pub(in crate::metrics) fn reconcile_last(scene: &Scene) -> Vec<Sample> {
    vec![level_of([], scene.reconciles().last_seconds)]
}

pub(in crate::metrics) fn api_answers(scene: &Scene) -> Vec<Sample> {
    let answers = scene.api.answers.iter();
    answers
        .map(|(class, answers)| count([class], *answers))
        .collect()
}

pub(in crate::metrics) fn api_connections(scene: &Scene) -> Vec<Sample> {
    vec![level([], scene.api.connections)]
}

pub(in crate::metrics) fn api_connections_refused(scene: &Scene) -> Vec<Sample> {
    vec![count([], scene.api.connections_refused)]
}

pub(in crate::metrics) fn api_event_clients(scene: &Scene) -> Vec<Sample> {
    vec![level([], scene.api.event_clients)]
}

pub(in crate::metrics) fn api_unauthorized(scene: &Scene) -> Vec<Sample> {
    vec![count([], scene.api.unauthorized)]
}
