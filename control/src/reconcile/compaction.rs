//! A full document of the desired state, when many differences were stored since the last one.

use std::{sync::Arc, thread};

use control_store::DesiredStore;

use super::{Reconciler, left_out::LeftOut};

impl Reconciler {
    /// Has the document of the current generation written and stored where the store takes one. That
    /// costs what the whole state is large, so a thread of its own does it: no change waits for it.
    pub(super) fn shorten(&self) {
        let store = self.networks.store.desired();
        if !store.takes_document() {
            return;
        }
        let (desired, left_out) = (Arc::clone(&self.desired), self.left_out.clone());
        let generation = self.generation;
        // It gives way as this thread does, which a new one inherits (sched(7)).
        let write = move || {
            let document = LeftOut::write_all(&left_out, desired.render_with_secrets());
            let stored = store.compact(generation, document.to_string()).wait();
            if let Err(error) = stored {
                tracing::warn!(%error, generation, "a full document is not stored: tried again later");
            }
        };
        let started = thread::Builder::new()
            .name("compaction".into())
            .spawn(write);
        if let Err(error) = started {
            tracing::warn!(%error, "a full document is not written before the next start");
        }
    }
}
