//! Whether a target is well, as those that check it say.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

/// Whether one target may be chosen, for all workers. It outlives the snapshot: the next one
/// inherits it. It is written when a check changes its mind, and otherwise only read.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<AtomicBool>);

impl Health {
    /// Whether the target is down. A target that nobody checks never is.
    pub fn is_down(&self) -> bool {
        self.0.load(Relaxed)
    }

    /// Says whether it is down from now on.
    pub fn set_down(&self, is_down: bool) {
        self.0.store(is_down, Relaxed);
    }
}
