//! Samples of certificates and of how they are obtained.

use control_api::answer::CertificateState;

use super::{count, level};
use crate::metrics::{Sample, scene::Scene};

pub(in crate::metrics) fn certificates(scene: &Scene) -> Vec<Sample> {
    let all = CertificateState::ALL.map(|state| {
        let certificates = scene.certificates.certificates.iter();
        let so = certificates.filter(|certificate| certificate.state == state);
        level([&state.word()], so.count().try_into().unwrap_or(u64::MAX))
    });
    all.into()
}

pub(in crate::metrics) fn certificate_expiry(scene: &Scene) -> Vec<Sample> {
    let expiring = scene.expiring.iter();
    expiring
        .map(|(at, name, source)| level([name, source], *at))
        .collect()
}

pub(in crate::metrics) fn acme_orders(scene: &Scene) -> Vec<Sample> {
    let orders = scene.certificates.orders.iter();
    orders
        .map(|((directory, result), orders)| count([directory, result], *orders))
        .collect()
}

pub(in crate::metrics) fn acme_orders_running(scene: &Scene) -> Vec<Sample> {
    vec![level([], scene.certificates.running)]
}
