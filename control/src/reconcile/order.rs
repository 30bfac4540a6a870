//! What the reconcile thread is asked to do.

use std::time::{Duration, Instant};

use control_api::{Problems, boot::Boot};
use control_http::ChangeRequest;
use tokio::sync::oneshot;

/// One order. They are carried out one after the other.
#[derive(Debug)]
pub(crate) enum Order {
    /// Change the desired state.
    Change(ChangeRequest),
    /// Take up what changed in the boot file, or refuse it whole.
    Boot {
        /// The new one.
        boot: Box<Boot>,
        /// Told the keys that wait for a restart, or the problems.
        reply: oneshot::Sender<Result<Vec<String>, Problems>>,
    },
    /// Accept no more, let connections end, and end. A second one only moves the deadline.
    Drain(Drain),
}

/// Until when connections may go on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drain {
    pub(crate) deadline: Instant,
}

impl Drain {
    /// For so long from now.
    pub(crate) fn within(patience: Duration) -> Self {
        Self {
            deadline: Instant::now() + patience,
        }
    }
}
