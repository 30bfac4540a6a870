//! A connection of HTTP/2: one task that drives it, and a task for each request.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    future::poll_fn,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use engine_core::outcome::Outcome;
use engine_http::refusal::Refusal;
use h2::{
    Reason, RecvStream,
    server::{Connection as Driver, SendResponse},
};

use crate::{
    context::{
        WorkerContext, account::ListenerTally, listener::Listening, live::Slot, room::Level,
    },
    exchange::{
        client_info::ClientInfo, connection::Connection, http2::downstream::Http2Downstream,
    },
    front::http2::{stream, window::Window},
    rt,
    transport::{
        Transport,
        http2::{ByteStream, held::Held, left::Left},
    },
    upstream::Pools,
};

/// How long a client may take to agree to the end of a connection.
const GOODBYE: Duration = Duration::from_secs(2);

/// How long a stream that is to be reset may wait for what was sent on it to leave, in seconds.
const LEAVING: u32 = 10;

/// Pieces of content that a connection may hold while the worker has no room: each takes memory that no
/// window counts.
const PIECES_CROWDED_MAX: usize = 1024;

/// What all requests of a connection work with.
pub(crate) struct Session {
    pub(crate) worker: Rc<WorkerContext>,
    pub(crate) listener: Rc<Listening>,
    pub(crate) client: Rc<Transport>,
    pub(crate) pools: Rc<Pools>,
    pub(crate) client_info: ClientInfo,
    /// Requests that are being served.
    streams: Cell<u32>,
    /// Those of them that have content.
    uploads: Cell<usize>,
    /// Of what the client sends more than it may, as soon as it does.
    flood: Rc<Cell<Option<Refusal>>>,
    /// Streams to be reset as soon as what was sent on them has left, the longest waiting one first.
    resets: RefCell<VecDeque<Reset>>,
    /// What has left of the streams.
    pub(crate) left: Rc<Left>,
    /// What is held of their content.
    pub(crate) held: Rc<Held>,
    /// Woken when the last request ends, from when on the connection is idle, and when there is
    /// something to reset.
    task: RefCell<Option<Waker>>,
}

/// A stream that is to be reset.
struct Reset {
    downstream: Http2Downstream,
    reason: Reason,
    /// When at the latest, in [`crate::context::live::Connections::now`].
    due: u32,
}

/// A request's place in its session, for as long as it is served.
struct ConnectionGuard {
    session: Rc<Session>,
    has_content: bool,
}

/// What a connection has to be looked after for.
enum Event {
    Request(Box<http::Request<RecvStream>>, SendResponse<Bytes>),
    /// The last request has ended, or the first one has begun.
    Turned,
    /// The worker accepts no more.
    Stopped,
    /// The client sends more frames than it may, the last of them of this kind.
    Flooded(Refusal),
    /// The connection is over.
    End(Option<h2::Error>),
}

impl Session {
    pub(crate) fn new(
        connection: &Connection<'_>,
        client_info: ClientInfo,
        (flood, left, held): (Rc<Cell<Option<Refusal>>>, Rc<Left>, Rc<Held>),
    ) -> Self {
        Self {
            worker: Rc::clone(connection.worker),
            listener: Rc::clone(connection.listener),
            client: Rc::clone(&connection.streams.client),
            pools: Rc::clone(connection.pools),
            client_info,
            streams: Cell::new(0),
            uploads: Cell::new(0),
            flood,
            resets: RefCell::default(),
            left,
            held,
            task: RefCell::default(),
        }
    }

    /// Serves requests until one of both sides has had enough.
    pub(crate) async fn run(
        self: &Rc<Self>,
        connection: &Connection<'_>,
        (driver, window): (&mut Driver<ByteStream, Bytes>, &mut Window),
    ) -> Outcome {
        let slot = connection.slot;
        let live = &self.worker.live;
        let mut has_sent_goaway = false;
        loop {
            let is_idle = self.is_idle();
            let patience = match has_sent_goaway {
                true => GOODBYE,
                false => connection.listener.keep_alive_timeout,
            };
            let next = poll_fn(|cx| {
                self.fit((driver, window), slot);
                let polled = self.poll((driver, slot), is_idle, has_sent_goaway, cx);
                self.fit((driver, window), slot);
                polled
            });
            let event = match is_idle {
                true => slot.within(live, patience, next).await,
                false => Ok(next.await),
            };
            match event {
                Ok(Event::Request(request, respond)) => self.start(*request, respond),
                Ok(Event::Turned) => {}
                Ok(Event::Flooded(kind)) => {
                    self.count(kind);
                    driver.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    let said = poll_fn(|cx| driver.poll_closed(cx));
                    // It need not be heard.
                    let _ = slot.within(live, GOODBYE, said).await;
                    return Outcome::Flood;
                }
                Ok(Event::End(None)) => return Outcome::Done,
                // Between requests a reset is only a rude end.
                Ok(Event::End(Some(error))) if error.is_io() && self.streams.get() == 0 => {
                    return Outcome::Done;
                }
                Ok(Event::End(Some(error))) => return self.outcome_of(&error),
                Err(_) if has_sent_goaway => return Outcome::Done,
                Ok(Event::Stopped) | Err(_) => {
                    driver.graceful_shutdown();
                    has_sent_goaway = true;
                }
            }
        }
    }

    /// Makes the connection's window fit what is held.
    fn fit(&self, (driver, window): (&mut Driver<ByteStream, Bytes>, &mut Window), slot: &Slot) {
        let now = self.worker.live.now();
        let fit = window.fit(&self.held, self.uploads.get(), now);
        if let Some(target) = fit.target {
            driver.set_target_window_size(target);
        }
        if fit.is_short {
            slot.wake_by(now + 1);
        }
    }

    fn poll(
        &self,
        (driver, slot): (&mut Driver<ByteStream, Bytes>, &Slot),
        was_idle: bool,
        has_sent_goaway: bool,
        cx: &mut Context<'_>,
    ) -> Poll<Event> {
        match driver.poll_accept(cx) {
            Poll::Ready(Some(Ok((request, respond)))) => {
                return Poll::Ready(Event::Request(Box::new(request), respond));
            }
            Poll::Ready(Some(Err(error))) => return Poll::Ready(Event::End(Some(error))),
            Poll::Ready(None) => return Poll::Ready(Event::End(None)),
            Poll::Pending => {}
        }
        self.reset_streams(slot, cx);
        let is_littered = self.held.frames() > PIECES_CROWDED_MAX;
        if is_littered && self.worker.room.level() == Level::None {
            return Poll::Ready(Event::Flooded(Refusal::FloodOfData));
        }
        if let Some(kind) = self.flood.get() {
            return Poll::Ready(Event::Flooded(kind));
        }
        // The client is to come back on a connection of the terms that are in force.
        let tls_info = self.client_info.tls_info.as_ref();
        let is_outdated = tls_info.is_some_and(|tls_info| tls_info.is_outdated());
        if (self.worker.is_stopped() || is_outdated) && !has_sent_goaway {
            return Poll::Ready(Event::Stopped);
        }
        if was_idle != self.is_idle() {
            return Poll::Ready(Event::Turned);
        }
        if self.task.borrow().is_none() {
            self.task.replace(Some(cx.waker().clone()));
        }
        Poll::Pending
    }

    /// Ends a stream in the middle, behind all that was sent on it: h2 drops what is still queued when
    /// it resets a stream, the head of a response too.
    ///
    /// No more of them wait than there may be requests: a client that takes nothing does not have them
    /// pile up.
    pub(crate) fn reset(&self, downstream: Http2Downstream, reason: Reason) {
        let due = self.worker.live.now() + LEAVING;
        let mut resets = self.resets.borrow_mut();
        if resets.len() >= self.streams_max()
            && let Some(reset) = resets.pop_front()
        {
            reset.downstream.reset(reset.reason);
        }
        resets.push_back(Reset {
            downstream,
            reason,
            due,
        });
        drop(resets);
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Resets what is to be reset and has left, or has waited long enough for that. To be called when h2
    /// has nothing more to do for now.
    fn reset_streams(&self, slot: &Slot, cx: &mut Context<'_>) {
        let now = self.worker.live.now();
        let mut resets = self.resets.borrow_mut();
        resets.retain(|reset| {
            let has_left = reset.downstream.has_left();
            if has_left || reset.due <= now {
                reset.downstream.reset(reset.reason);
                return false;
            }
            // What the client has reset meanwhile never leaves.
            reset.downstream.poll_gone(cx).is_pending()
        });
        if let Some(first) = resets.front() {
            slot.wake_by(first.due);
        }
    }

    /// Whether nothing is under way.
    fn is_idle(&self) -> bool {
        self.streams.get() == 0 && self.resets.borrow().is_empty()
    }

    fn streams_max(&self) -> usize {
        usize::try_from(self.worker.shared.limits.http2.streams_max).unwrap_or(usize::MAX)
    }

    /// Counts a connection that is ended because of what came.
    fn count(&self, refusal: Refusal) {
        let count = |tally: &mut ListenerTally| tally.refusals[refusal.index()] += 1;
        self.worker.ledger.count_listener(self.listener.id, count);
    }

    /// How a connection ended that h2 gave up.
    fn outcome_of(&self, error: &h2::Error) -> Outcome {
        if error.is_io() {
            return Outcome::ClientReset;
        }
        match error.reason() {
            // The client's GOAWAY.
            Some(Reason::NO_ERROR) | None => Outcome::Done,
            Some(_) if error.is_remote() => Outcome::ClientReset,
            Some(reason) => {
                let refusal = broken(reason);
                self.count(refusal);
                if refusal == Refusal::Calm {
                    Outcome::Flood
                } else {
                    Outcome::BadRequest
                }
            }
        }
    }

    /// Has a request served. A client that takes requests back faster than they end does not get
    /// more of them served at a time than its streams.
    fn start(
        self: &Rc<Self>,
        request: http::Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) {
        let streams = self.streams.get();
        if streams >= self.worker.shared.limits.http2.streams_max {
            respond.send_reset(Reason::REFUSED_STREAM);
            return;
        }
        self.streams.set(streams + 1);
        let has_content = !request.body().is_end_stream();
        self.uploads
            .set(self.uploads.get() + usize::from(has_content));
        let guard = ConnectionGuard {
            session: Rc::clone(self),
            has_content,
        };
        // Apart, because the runtime moves a task five times, from its making to its end.
        let served = Box::pin(stream::serve(Rc::clone(&guard.session), request, respond));
        rt::spawn(async move {
            served.await;
            drop(guard);
        });
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        let session = &self.session;
        let left = session.streams.get().saturating_sub(1);
        session.streams.set(left);
        let uploads = session.uploads.get();
        session
            .uploads
            .set(uploads.saturating_sub(usize::from(self.has_content)));
        if left == 0
            && let Some(task) = session.task.take()
        {
            task.wake();
        }
    }
}

/// The rule of HTTP/2 that a client broke, by what h2 says of it (RFC 9113 section 7).
fn broken(reason: Reason) -> Refusal {
    match reason {
        Reason::ENHANCE_YOUR_CALM => Refusal::Calm,
        Reason::COMPRESSION_ERROR => Refusal::Compression,
        Reason::FLOW_CONTROL_ERROR => Refusal::FlowControl,
        Reason::FRAME_SIZE_ERROR => Refusal::FrameSize,
        _ => Refusal::Http2,
    }
}
