//! The live connections of a worker: who is idle, who must end.
//!
//! A connection waits for nothing but its sockets; what ends it from outside (the idle timeout, a
//! drain's deadline, the removal of its network) is found by a sweep once a second, which leaves
//! the outcome in the connection's slot and wakes its task.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    rc::Rc,
    task::{Poll, Waker},
    time::Duration,
};

use engine_core::{
    ids::{NetworkId, RouteId},
    outcome::Outcome,
};
use engine_sys::netns::Identity;
use engine_tls::policy::MinVersion;
use slab::Slab;

use crate::rt::TimedOut;

/// Every live connection of one worker.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    slots: RefCell<Slab<Rc<Slot>>>,
    /// How many of them are requests of HTTP/2.
    streams: Cell<usize>,
    /// Seconds since the worker started, as of the last sweep.
    now: Cell<u32>,
}

/// What the sweep knows of one connection.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    /// When a byte last moved, in [`Connections::now`].
    touched: Cell<u32>,
    /// Longest time without a byte, in seconds; 0 before the relay begins.
    idle_max: Cell<u32>,
    network: Cell<Option<NetworkId>>,
    /// Where its upstream connection was opened, while it has one.
    dialed: Cell<Option<Dialed>>,
    /// What let the request in that is served, or was served last.
    admission: Cell<Option<Admission>>,
    /// Nothing is asked of the gateway at the moment: it may end without anybody missing anything.
    at_rest: Cell<bool>,
    /// It tells its client before it ends, so it is woken rather than ended.
    closes_gracefully: Cell<bool>,
    /// Longest time without a byte that the stage going on waits, in seconds; 0 where it waits for
    /// ever.
    patience: Cell<u32>,
    /// When the connection wants to look at its own limits, in [`Connections::now`]; 0 is never.
    wake_at: Cell<u32>,
    end_reason: Cell<Option<Outcome>>,
    waker: RefCell<Option<Waker>>,
}

/// Where an upstream connection leaves from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dialed {
    /// Its namespace, which lives for as long as the connection does.
    pub(crate) namespace: Identity,
    /// The gateway's address there; `None` where the kernel does not say.
    pub(crate) local: Option<IpAddr>,
}

/// What let a request in, and may be changed while it lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    pub(crate) rule: RouteId,
    pub(crate) client: IpAddr,
    /// The version of the client's TLS; `None` without TLS.
    pub(crate) tls: Option<MinVersion>,
}

/// A connection's place among the live ones, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Registration<'a> {
    live: &'a Connections,
    key: usize,
    slot: Rc<Slot>,
    is_stream: bool,
}

impl Connections {
    /// Gives a new connection its place.
    pub(crate) fn enter(&self) -> Registration<'_> {
        self.place(false)
    }

    /// Gives a request of HTTP/2, which comes and goes beside others, a place of its own.
    pub(crate) fn enter_stream(&self) -> Registration<'_> {
        self.streams.set(self.streams.get() + 1);
        self.place(true)
    }

    fn place(&self, is_stream: bool) -> Registration<'_> {
        let slot = Rc::new(Slot::default());
        let key = self.slots.borrow_mut().insert(Rc::clone(&slot));
        Registration {
            live: self,
            key,
            slot,
            is_stream,
        }
    }

    /// How many connections there are.
    pub(crate) fn connections(&self) -> usize {
        self.len().saturating_sub(self.streams.get())
    }

    /// How many there are, requests of HTTP/2 among them.
    pub(crate) fn len(&self) -> usize {
        self.slots.borrow().len()
    }

    /// Ends what was idle for too long. To be called once a second.
    pub(crate) fn sweep(&self, now: u32) {
        self.now.set(now);
        self.end_where(Outcome::Idle, |slot| {
            let idle_max = slot.idle_max.get();
            idle_max > 0 && now.saturating_sub(slot.touched.get()) > idle_max
        });
        for (_, slot) in &*self.slots.borrow() {
            if slot.is_impatient(now) || slot.is_due(now) {
                slot.wake();
            }
        }
    }

    /// Seconds since the worker started, as of the last sweep.
    pub(crate) fn now(&self) -> u32 {
        self.now.get()
    }

    /// Ends every connection that is at rest, and wakes those that send GOAWAY first.
    pub(crate) fn end_at_rest(&self) {
        self.end_where(Outcome::Done, |slot| slot.at_rest.get());
        for (_, slot) in &*self.slots.borrow() {
            if slot.closes_gracefully.get() {
                slot.wake();
            }
        }
    }

    /// Ends every connection of a network that is gone.
    pub(crate) fn end_networks(&self, is_gone: impl Fn(NetworkId) -> bool) {
        self.end_where(Outcome::NetworkRemoved, |slot| {
            slot.network.get().is_some_and(&is_gone)
        });
    }

    /// Ends every connection that leads where its network was before. A client that asks for nothing
    /// at the moment is led nowhere.
    pub(crate) fn end_moved(&self, has_moved: impl Fn(NetworkId) -> bool) {
        self.end_where(Outcome::NetworkChanged, |slot| {
            slot.dialed.get().is_some() && slot.network.get().is_some_and(&has_moved)
        });
    }

    /// Ends every connection whose upstream connection leaves from an address that is gone.
    pub(crate) fn end_dialed(&self, is_gone: impl Fn(Dialed) -> bool) {
        self.end_where(Outcome::NetworkChanged, |slot| {
            slot.dialed.get().is_some_and(&is_gone)
        });
    }

    /// Ends every connection whose request would be let in no longer; one at rest in order.
    pub(crate) fn end_admitted(&self, is_out: impl Fn(Admission) -> bool) {
        let is_out = |slot: &Slot| slot.admission.get().is_some_and(&is_out);
        self.end_where(Outcome::Done, |slot| slot.at_rest.get() && is_out(slot));
        self.end_where(Outcome::AccessChanged, is_out);
    }

    /// Ends all that do not tell their client before they end: requests that share a connection, and
    /// connections of one request. Those that do can say how their requests ended.
    pub(crate) fn end_requests(&self) {
        self.end_where(Outcome::Drained, |slot| !slot.closes_gracefully.get());
    }

    /// Ends all of them.
    pub(crate) fn end_all(&self) {
        self.end_where(Outcome::Drained, |_| true);
    }

    fn end_where(&self, outcome: Outcome, ends: impl Fn(&Slot) -> bool) {
        for (_, slot) in &*self.slots.borrow() {
            if slot.end_reason.get().is_none() && ends(slot) {
                slot.end_reason.set(Some(outcome));
                slot.wake();
            }
        }
    }
}

impl Registration<'_> {
    /// The connection's slot.
    pub(crate) fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Runs the connection's stages to their outcome, or to the one that the sweep decided, or to
    /// [`Outcome::Panic`]: a defect in one connection's code ends that connection only.
    pub(crate) async fn supervise(
        &self,
        mut stages: Pin<&mut impl Future<Output = Result<Outcome, Outcome>>>,
    ) -> Outcome {
        poll_fn(|cx| {
            if let Some(outcome) = self.slot.end_reason.get() {
                return Poll::Ready(outcome);
            }
            if self.slot.waker.borrow().is_none() {
                self.slot.waker.replace(Some(cx.waker().clone()));
            }
            // A future that panicked has dropped what it held, and is not polled again.
            catch_unwind(AssertUnwindSafe(|| stages.as_mut().poll(cx)))
                .unwrap_or(Poll::Ready(Err(Outcome::Panic)))
                .map(|ended| ended.unwrap_or_else(|early| early))
        })
        .await
    }
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.live.slots.borrow_mut().remove(self.key);
        if self.is_stream {
            self.live.streams.set(self.live.streams.get() - 1);
        }
        // The slot's waker holds the task, and the task holds this place.
        self.slot.waker.take();
    }
}

impl Slot {
    fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Says whether the connection is at rest from now on. Before its next request it leads nowhere.
    pub(crate) fn rests(&self, at_rest: bool) {
        self.at_rest.set(at_rest);
        self.dialed.set(None);
    }

    /// The connection's task looks itself whether the worker has stopped, and ends in order.
    pub(crate) fn closes_gracefully(&self) {
        self.closes_gracefully.set(true);
    }

    /// Waits, but not while no byte has moved for longer than `patience`, which is good to a second:
    /// the sweep looks at it, so that a wait that ends in time has cost no timer. Only one wait of
    /// a connection at a time may be limited so.
    ///
    /// # Errors
    /// When the patience ended first.
    pub(crate) async fn within<T>(
        &self,
        live: &Connections,
        patience: Duration,
        wait: impl Future<Output = T>,
    ) -> Result<T, TimedOut> {
        self.touch(live);
        self.patience.set(whole_seconds(patience));
        let mut wait = pin!(wait);
        let ended = poll_fn(|cx| match wait.as_mut().poll(cx) {
            Poll::Ready(done) => Poll::Ready(Ok(done)),
            Poll::Pending if self.is_impatient(live.now.get()) => Poll::Ready(Err(TimedOut)),
            Poll::Pending => Poll::Pending,
        })
        .await;
        self.patience.set(0);
        ended
    }

    /// How the sweep says that the connection ends.
    pub(crate) fn end_reason(&self) -> Option<Outcome> {
        self.end_reason.get()
    }

    /// Has the sweep wake the connection's task once, at this time of [`Connections::now`].
    pub(crate) fn wake_at(&self, time: u32) {
        self.wake_at.set(time);
    }

    /// Has the sweep wake the connection's task at this time of [`Connections::now`] at the latest: a wake
    /// that comes sooner stays.
    pub(crate) fn wake_by(&self, time: u32) {
        let before = self.wake_at.get();
        if before == 0 || before > time {
            self.wake_at.set(time);
        }
    }

    fn is_due(&self, now: u32) -> bool {
        let wake_at = self.wake_at.get();
        let is_due = wake_at > 0 && now >= wake_at;
        if is_due {
            self.wake_at.set(0);
        }
        is_due
    }

    /// How long no byte has moved, in seconds.
    pub(crate) fn quiet_for(&self, live: &Connections) -> u32 {
        live.now().saturating_sub(self.touched.get())
    }

    fn is_impatient(&self, now: u32) -> bool {
        let patience = self.patience.get();
        patience > 0 && now.saturating_sub(self.touched.get()) > patience
    }

    /// The connection belongs to this network from now on.
    pub(crate) fn belongs_to(&self, network: NetworkId) {
        self.network.set(Some(network));
    }

    /// Its upstream connection leaves from there.
    pub(crate) fn leaves_from(&self, dialed: Dialed) {
        self.dialed.set(Some(dialed));
    }

    /// The address that its upstream connection leaves from.
    pub(crate) fn local(&self) -> Option<IpAddr> {
        self.dialed.get().and_then(|dialed| dialed.local)
    }

    /// A request was let in by a rule, or by none.
    pub(crate) fn admit(&self, admission: Option<Admission>) {
        self.admission.set(admission);
    }

    /// The idle timeout holds from now on, to the second.
    pub(crate) fn watch_idle(&self, live: &Connections, timeout: Duration) {
        self.touch(live);
        self.idle_max.set(whole_seconds(timeout));
    }

    /// A byte moved.
    pub(crate) fn touch(&self, live: &Connections) {
        self.touched.set(live.now.get());
    }
}

/// A limit that is looked at once a second, and at least one.
pub(crate) fn whole_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_secs()).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use std::{future::pending, pin::pin, time::Duration};

    use super::*;
    use crate::rt::{self, Driver};

    fn block_on<F: Future>(future: F) -> F::Output {
        rt::run(Driver::Epoll, future).unwrap()
    }

    #[test]
    fn a_panic_is_the_outcome_of_its_own_connection() {
        let live = Connections::default();
        let (one, other) = (live.enter(), live.enter());
        let panicked = block_on(one.supervise(pin!(async { panic!("on purpose") })));
        assert_eq!(panicked, Outcome::Panic);
        drop(one);
        assert_eq!(live.len(), 1);
        let done = block_on(other.supervise(pin!(async { Ok(Outcome::Done) })));
        assert_eq!(done, Outcome::Done);
    }

    #[test]
    fn the_sweep_ends_what_is_idle_for_longer_than_it_may() {
        let live = Connections::default();
        let place = live.enter();
        place.slot().watch_idle(&live, Duration::from_secs(10));
        let sweeps = async {
            live.sweep(9);
            place.slot().touch(&live);
            live.sweep(19);
            assert_eq!(place.slot().end_reason.get(), None, "it moved a byte at 9");
            live.sweep(20);
        };
        let never = pin!(pending());
        let supervised = place.supervise(never);
        let (outcome, ()) = block_on(async { futures::join!(supervised, sweeps) });
        assert_eq!(outcome, Outcome::Idle);
    }

    #[test]
    fn a_wait_ends_when_its_patience_does_and_not_before() {
        let live = Connections::default();
        let place = live.enter();
        let waited = Cell::new(None);
        let patient = async {
            let wait = place
                .slot()
                .within(&live, Duration::from_secs(2), pending::<()>());
            waited.set(Some(wait.await));
            Ok(Outcome::Done)
        };
        let sweeps = async {
            live.sweep(1);
            place.slot().touch(&live);
            live.sweep(3);
            assert_eq!(waited.get(), None, "a byte moved at 1");
            live.sweep(4);
        };
        let patient = pin!(patient);
        let supervised = place.supervise(patient);
        block_on(async { futures::join!(supervised, sweeps) });
        assert_eq!(waited.get(), Some(Err(TimedOut)));
        let patient = place
            .slot()
            .within(&live, Duration::from_secs(2), async { 7 });
        assert_eq!(block_on(patient), Ok(7));
    }

    #[test]
    fn those_at_rest_end_alone() {
        let live = Connections::default();
        let (busy, at_rest) = (live.enter(), live.enter());
        at_rest.slot().rests(true);
        live.end_at_rest();
        assert_eq!(busy.slot().end_reason.get(), None);
        assert_eq!(at_rest.slot().end_reason.get(), Some(Outcome::Done));
    }

    #[test]
    fn those_that_are_let_in_no_longer_end_and_those_at_rest_in_order() {
        let live = Connections::default();
        let admission = |rule| Admission {
            rule: RouteId(rule),
            client: [192, 0, 2, 1].into(),
            tls: None,
        };
        let (kept, busy, at_rest, new) = (live.enter(), live.enter(), live.enter(), live.enter());
        kept.slot().admit(Some(admission(1)));
        busy.slot().admit(Some(admission(2)));
        at_rest.slot().admit(Some(admission(2)));
        at_rest.slot().rests(true);
        live.end_admitted(|admission| admission.rule == RouteId(2));
        assert_eq!(kept.slot().end_reason.get(), None);
        assert_eq!(busy.slot().end_reason.get(), Some(Outcome::AccessChanged));
        assert_eq!(at_rest.slot().end_reason.get(), Some(Outcome::Done));
        assert_eq!(new.slot().end_reason.get(), None);
    }

    #[test]
    fn only_connections_of_a_removed_network_end() {
        let live = Connections::default();
        let (kept, gone, unrouted) = (live.enter(), live.enter(), live.enter());
        kept.slot().belongs_to(NetworkId(1));
        gone.slot().belongs_to(NetworkId(2));
        live.end_networks(|network| network == NetworkId(2));
        assert_eq!(kept.slot().end_reason.get(), None);
        assert_eq!(gone.slot().end_reason.get(), Some(Outcome::NetworkRemoved));
        assert_eq!(unrouted.slot().end_reason.get(), None);
    }
}
