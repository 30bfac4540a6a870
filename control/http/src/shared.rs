//! What all requests share.

use std::{sync::Arc, time::Duration};

use control_api::boot::{ApiLimits, MetricsLimits};
use tokio::sync::{Semaphore, watch};

use crate::{
    failures::Failures,
    front::Front,
    notes::{Budget, Notes},
    pending::Outcomes,
    source::Prefix,
    tally::Tally,
};

/// Entries of the audit log in a minute about one source of strangers, and about one token that may
/// not do what it is used for.
const STRANGERS_ENTRIES_MAX: u32 = 1;
const HOLDERS_ENTRIES_MAX: u32 = 30;
/// Entries about all strangers together: so many at once, and then one in two minutes. A log of the
/// default length holds two weeks of them beside everybody else's.
const STRANGERS_BURST: u32 = 60;
const STRANGERS_INTERVAL: Duration = Duration::from_secs(120);

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
    /// Who is in the audit log as a stranger, and as somebody whose role does not do.
    pub(crate) strangers: Notes<Prefix>,
    pub(crate) holders: Notes<Arc<str>>,
    /// What came of changes that were not answered in time.
    pub(crate) outcomes: Outcomes,
    pub(crate) event_clients: Arc<Semaphore>,
    pub(crate) body_units: Arc<Semaphore>,
    pub(crate) tally: Tally,
    /// True once the gateway is going down: streams end.
    pub(crate) closing: watch::Receiver<bool>,
}

impl Shared {
    pub(crate) fn new(front: Front, settings: Settings, closing: watch::Receiver<bool>) -> Self {
        let limits = &settings.limits;
        let budget = Budget::new(STRANGERS_BURST, STRANGERS_INTERVAL);
        let body_units = limits.body_bytes_max.in_memory() / BODY_UNIT_BYTES + 1;
        let units = body_units.saturating_mul(LARGEST_BODIES_MAX);
        Self {
            guesses: Failures::new(limits.failures_max.get(), limits.failures_window),
            strangers: Notes::new(STRANGERS_ENTRIES_MAX, Some(budget)),
            holders: Notes::new(HOLDERS_ENTRIES_MAX, None),
            outcomes: Outcomes::default(),
            event_clients: Arc::new(Semaphore::new(limits.event_clients_max.get().into())),
            body_units: Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))),
            tally: Tally::default(),
            front,
            settings,
            closing,
        }
    }
}
