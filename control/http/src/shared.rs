//! What all requests share.

use std::sync::Arc;

use control_api::boot::{ApiLimits, MetricsLimits};
use tokio::sync::{Semaphore, watch};

use crate::{failures::Failures, front::Front, tally::Tally};

/// Bodies of the largest size that may be in memory at once.
const LARGEST_BODIES_MAX: usize = 4;
/// What the memory for bodies is handed out in.
pub(crate) const BODY_UNIT_BYTES: usize = 1024;

/// The bounds of the API.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of requests and connections.
    pub limits: ApiLimits,
    /// Of `/metrics`.
    pub metrics: MetricsLimits,
}

/// What all requests share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) front: Front,
    pub(crate) settings: Settings,
    /// Wrong tokens.
    pub(crate) guesses: Failures,
    /// Requests without a token, which are no guesses: counted so that they do not flood the audit
    /// log.
    pub(crate) tokenless: Failures,
    pub(crate) event_clients: Arc<Semaphore>,
    pub(crate) body_units: Arc<Semaphore>,
    pub(crate) tally: Tally,
    /// True once the gateway is going down: streams end.
    pub(crate) closing: watch::Receiver<bool>,
}

impl Shared {
    pub(crate) fn new(front: Front, settings: Settings, closing: watch::Receiver<bool>) -> Self {
        let limits = &settings.limits;
        let failures = || Failures::new(limits.failures_max.get(), limits.failures_window);
        let body_units = limits.body_bytes_max.in_memory() / BODY_UNIT_BYTES + 1;
        let units = body_units.saturating_mul(LARGEST_BODIES_MAX);
        Self {
            guesses: failures(),
            tokenless: failures(),
            event_clients: Arc::new(Semaphore::new(limits.event_clients_max.get().into())),
            body_units: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
            tally: Tally::default(),
            front,
            settings,
            closing,
        }
    }
}
