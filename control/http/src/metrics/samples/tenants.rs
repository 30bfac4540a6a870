//! Samples of networks and their peers.

use control_api::answer::NetworkState;
use engine_core::{outcome::Fault, tally::Tally};

use super::{count, directions, level};
use crate::metrics::{
    Sample, Value,
    scene::{NetworkSums, PeerSeries, Scene},
};

/// Bounds of the histogram of times to the first byte, in microseconds; the last one has none.
const FIRST_BYTE_MICROS: [u64; 8] = [
    1_000,
    5_000,
    20_000,
    100_000,
    500_000,
    2_000_000,
    10_000_000,
    u64::MAX,
];
const MICROS_A_SECOND: f64 = 1e6;

fn networks(scene: &Scene, sample: impl Fn(&str, &NetworkSums) -> Sample) -> Vec<Sample> {
    let networks = scene.networks.iter();
    networks
        .map(|(name, network)| sample(name, network))
        .collect()
}

pub(in crate::metrics) fn network_state(scene: &Scene) -> Vec<Sample> {
    let declared = scene.status().networks.values();
    declared
        .filter(|network| scene.networks.contains_key(&network.name))
        .flat_map(|network| {
            NetworkState::ALL.map(|state| {
                let is_it = network.state == state;
                level([&network.name, &state.word()], is_it.into())
            })
        })
        .collect()
}

pub(in crate::metrics) fn network_connections(scene: &Scene) -> Vec<Sample> {
    networks(scene, |name, network| level([&name], network.tally.live()))
}

pub(in crate::metrics) fn network_opened(scene: &Scene) -> Vec<Sample> {
    networks(scene, |name, network| count([&name], network.tally.opened))
}

pub(in crate::metrics) fn network_ended(scene: &Scene) -> Vec<Sample> {
    let networks = scene.networks.iter();
    let samples = networks.flat_map(|(name, network)| {
        let faults = Fault::ALL.iter().zip(network.tally.faults);
        faults.map(move |(fault, ended)| count([name, &fault.label()], ended))
    });
    samples.collect()
}

pub(in crate::metrics) fn network_bytes(scene: &Scene) -> Vec<Sample> {
    let networks = scene.networks.iter();
    let samples = networks.flat_map(|(name, network)| {
        let tally = &network.tally;
        directions(std::slice::from_ref(name), tally.bytes_in, tally.bytes_out)
    });
    samples.collect()
}

/// The engine's histogram has one significant digit; its sum is as exact as that.
pub(in crate::metrics) fn network_first_byte(scene: &Scene) -> Vec<Sample> {
    networks(scene, |name, network| Sample {
        labels: vec![name.to_owned()],
        value: first_byte(&network.tally),
    })
}

pub(super) fn first_byte(tally: &Tally) -> Value {
    let mut counts = FIRST_BYTE_MICROS.map(|_| 0);
    let (mut sum, mut count) = (0.0, 0);
    let recorded = tally.first_byte.iter();
    for step in recorded.flat_map(|histogram| histogram.iter_recorded()) {
        let (micros, times) = (step.value_iterated_to(), step.count_at_value());
        let bucket = FIRST_BYTE_MICROS.partition_point(|&bound| bound < micros);
        if let Some(counted) = counts.get_mut(bucket) {
            *counted += u64::from(times);
        }
        count += u64::from(times);
        sum += seconds(micros) * f64::from(times);
    }
    let bounds = FIRST_BYTE_MICROS.map(|bound| match bound {
        u64::MAX => f64::INFINITY,
        micros => seconds(micros),
    });
    Value::Sizes {
        sum,
        count,
        buckets: bounds.into_iter().zip(counts).collect(),
    }
}

/// A float holds whole microseconds exactly for centuries.
pub(super) fn seconds(micros: u64) -> f64 {
    micros as f64 / MICROS_A_SECOND
}

pub(in crate::metrics) fn network_peers(scene: &Scene) -> Vec<Sample> {
    networks(scene, |name, network| level([&name], network.peers))
}

pub(in crate::metrics) fn network_peers_connected(scene: &Scene) -> Vec<Sample> {
    networks(scene, |name, network| {
        level([&name], network.peers_connected)
    })
}

pub(in crate::metrics) fn network_peers_received(scene: &Scene) -> Vec<Sample> {
    networks(scene, |name, network| level([&name], network.received))
}

pub(in crate::metrics) fn network_peers_sent(scene: &Scene) -> Vec<Sample> {
    networks(scene, |name, network| level([&name], network.sent))
}

fn peers(scene: &Scene, sample: impl Fn(&PeerSeries) -> Sample) -> Vec<Sample> {
    scene.peers.iter().map(sample).collect()
}

pub(in crate::metrics) fn peer_connected(scene: &Scene) -> Vec<Sample> {
    peers(scene, |series| {
        let is_connected = series.status.connected;
        level([&series.network, &series.peer], is_connected.into())
    })
}

pub(in crate::metrics) fn peer_last_handshake(scene: &Scene) -> Vec<Sample> {
    peers(scene, |series| {
        let time = series.status.last_handshake.unwrap_or(0);
        level([&series.network, &series.peer], time)
    })
}

pub(in crate::metrics) fn peer_received(scene: &Scene) -> Vec<Sample> {
    peers(scene, |series| {
        count([&series.network, &series.peer], series.status.rx)
    })
}

pub(in crate::metrics) fn peer_sent(scene: &Scene) -> Vec<Sample> {
    peers(scene, |series| {
        count([&series.network, &series.peer], series.status.tx)
    })
}
