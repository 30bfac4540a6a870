//! What the reconcile thread is asked to do, and the way there.

use std::time::{Duration, Instant};

use control_api::{Problems, boot::Boot};
use control_http::ChangeRequest;
use crossbeam_channel::{Receiver, Sender, bounded};
use tokio::sync::oneshot;

/// Orders that wait for the reconcile thread: signals of one process, of which few are waited for
/// at once.
const ORDERS_MAX: usize = 64;
/// Changes that wait for their turn; more are refused. Fewer than `api.limits.connections_max`, so that
/// probes find a place beside them.
pub(crate) const CHANGES_MAX: usize = 128;
/// Of these, those that have left the API's queue: the order is kept, and one is ready when the one
/// before is done.
const CHANGES_NEXT_MAX: usize = 1;

/// One order. They are carried out one after the other.
#[derive(Debug)]
pub(crate) enum Order {
    /// Take up what changed in the boot file, or refuse it whole.
    Boot {
        /// The new one.
        boot: Box<Boot>,
        /// Told what came of it, or the problems.
        reply: oneshot::Sender<Result<Taken, Problems>>,
    },
    /// Show that the boot file was refused, and why: what was taken before stays.
    BootRefused(String),
    /// Accept no more, let connections end, and end. A second one only moves the deadline.
    Drain(Drain),
}

/// What came of a boot file that was taken.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// The keys that wait for a restart.
    pub(crate) waiting: Vec<String>,
    /// Its listeners that have no port, and why: one sentence each.
    pub(crate) unbound: Vec<String>,
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

/// The way to the reconcile thread. Changes have a queue of their own: however many clients ask for,
/// there is room for an order.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) orders: Sender<Order>,
    pub(crate) changes: Sender<ChangeRequest>,
}

/// What waits for the reconcile thread.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(super) orders: Receiver<Order>,
    pub(super) changes: Receiver<ChangeRequest>,
}

impl Desk {
    /// A way, and its other end.
    pub(crate) fn open() -> (Self, Waiting) {
        let (orders, waiting_orders) = bounded(ORDERS_MAX);
        let (changes, waiting_changes) = bounded(CHANGES_NEXT_MAX);
        let waiting = Waiting {
            orders: waiting_orders,
            changes: waiting_changes,
        };
        (Self { orders, changes }, waiting)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use control_api::{
        boot::Role,
        state::{Change, Scope},
    };
    use control_http::{Actor, Claim};

    use super::*;

    fn change() -> ChangeRequest {
        let (reply, _) = oneshot::channel();
        ChangeRequest {
            change: Change::Replace {
                text: "{}".to_owned(),
            },
            actor: Actor {
                name: Arc::from("somebody"),
                role: Role::Operator,
                source: Arc::from("unix:uid=0"),
            },
            scope: Scope::default(),
            if_match: None,
            dry_run: false,
            wait: false,
            claim: Claim::default(),
            reply,
        }
    }

    #[test]
    fn a_drain_is_ordered_however_many_changes_wait() {
        let (desk, waiting) = Desk::open();
        while desk.changes.try_send(change()).is_ok() {}
        let drain = Order::Drain(Drain::within(Duration::ZERO));
        assert!(desk.orders.try_send(drain).is_ok());
        assert!(matches!(waiting.orders.try_recv(), Ok(Order::Drain(_))));
    }
}
