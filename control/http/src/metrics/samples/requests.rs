//! Samples of HTTP requests, by route.

use std::collections::BTreeMap;

use engine::RouteCounters;
use engine_core::requests::{DURATION_MICROS, Requests, STATUS_CLASSES, Spread};

use super::{carried::routes, count, level, tenants};
use crate::metrics::{Sample, Value, scene::Scene};

/// The classes of statuses, in the order of [`Requests::statuses`].
const CLASSES: [&str; STATUS_CLASSES] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

/// Samples of the routes that take HTTP requests.
fn requests<I: IntoIterator<Item = Sample>>(
    scene: &Scene,
    samples: impl Fn(&RouteCounters, &Requests) -> I,
) -> Vec<Sample> {
    let counted = scene.routes.iter();
    counted
        .filter_map(|route| Some((route, route.tally.requests.as_deref()?)))
        .flat_map(|(route, requests)| samples(route, requests))
        .collect()
}

pub(in crate::metrics) fn route_requests(scene: &Scene) -> Vec<Sample> {
    requests(scene, |route, requests| {
        let classes = CLASSES.iter().zip(requests.statuses);
        let sample =
            |(class, ended): (&&str, u64)| count([&route.network, &route.label, class], ended);
        classes.map(sample).collect::<Vec<_>>()
    })
}

pub(in crate::metrics) fn route_request_seconds(scene: &Scene) -> Vec<Sample> {
    requests(scene, |route, requests| {
        [Sample {
            labels: vec![route.network.to_string(), route.label.to_string()],
            value: spread(&requests.durations),
        }]
    })
}

fn spread(spread: &Spread) -> Value {
    let bounds = DURATION_MICROS.map(tenants::seconds);
    Value::Sizes {
        sum: tenants::seconds(spread.sum_micros),
        count: spread.counts.iter().sum(),
        buckets: bounds
            .into_iter()
            .chain([f64::INFINITY])
            .zip(spread.counts)
            .collect(),
    }
}

pub(in crate::metrics) fn route_first_byte(scene: &Scene) -> Vec<Sample> {
    routes(scene, |route| Sample {
        labels: vec![route.network.to_string(), route.label.to_string()],
        value: tenants::first_byte(&route.tally),
    })
}

pub(in crate::metrics) fn route_retries(scene: &Scene) -> Vec<Sample> {
    requests(scene, |route, requests| {
        [count([&route.network, &route.label], requests.retries)]
    })
}

pub(in crate::metrics) fn route_ejections(scene: &Scene) -> Vec<Sample> {
    requests(scene, |route, requests| {
        [count([&route.network, &route.label], requests.ejections)]
    })
}

pub(in crate::metrics) fn route_upstreams(scene: &Scene) -> Vec<Sample> {
    requests(scene, |route, requests| {
        let sample = |word: &str, attempts| count([&route.network, &route.label, &word], attempts);
        [
            sample("new", requests.upstreams_opened),
            sample("reused", requests.upstreams_reused),
        ]
    })
}

/// Routes all of whose targets are well have no series here.
pub(in crate::metrics) fn route_targets_down(scene: &Scene) -> Vec<Sample> {
    let counters = &scene.view.counters;
    let mut down: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for target in &counters.targets_down {
        *down.entry((&target.network, &target.label)).or_default() += 1;
    }
    let shown = scene.routes.iter().filter_map(|route| {
        let key: (&str, &str) = (&route.network, &route.label);
        let targets = down.get(&key)?;
        Some(level([&route.network, &route.label], *targets))
    });
    shown.collect()
}
