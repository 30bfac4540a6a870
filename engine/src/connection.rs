//! One connection, from accept to account.

use std::{
    cell::{Cell, OnceCell},
    net::SocketAddr,
    os::fd::AsFd,
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use engine_core::{classify::Hello, ids::ListenerId, outcome::Outcome};
use engine_sys::socket;
use engine_tls::{Cause, Terms};

use crate::{
    admit::{admit_network, admit_source, take_seat},
    classify::classify,
    config::{Listener, Protocol},
    dial::{Introduction, Upstream, dial},
    end::End,
    http,
    live::Slot,
    preface::{Endpoints, Received, read_preface},
    record::Trace,
    relay::{Wire, relay},
    route::route,
    rt::Readiness,
    tls,
    worker::Worker,
};

/// A connection as it comes off the queue.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) listener: ListenerId,
    pub(crate) client: Readiness,
    pub(crate) peer: SocketAddr,
    pub(crate) woken_at: Instant,
}

/// What every stage of one connection works with.
#[derive(Debug)]
pub(crate) struct Connection<'a> {
    pub(crate) worker: &'a Rc<Worker>,
    pub(crate) listener: &'a Listener,
    pub(crate) id: ListenerId,
    pub(crate) slot: &'a Slot,
    pub(crate) ends: &'a Ends,
}

/// The two ends of a connection. They outlive its stages, whichever way those end.
#[derive(Debug)]
pub(crate) struct Ends {
    /// Streams of HTTP/2 share it.
    pub(crate) client: Rc<End>,
    pub(crate) upstream: OnceCell<End>,
    /// How the client is parted from, where its outcome alone does not say.
    pub(crate) parting: Cell<Parting>,
    /// Why the client's handshake failed.
    pub(crate) cause: Cell<Option<Cause>>,
}

/// How a client is parted from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Parting {
    /// As the outcome says.
    #[default]
    ByOutcome,
    /// In order: it was told already, or sees by the framing, that something is missing.
    InOrder,
    /// By what no end in order looks like: a reset, or, in TLS, an end without `close_notify`.
    Cut,
}

/// Serves one connection. Every way that it can end is one [`Outcome`], accounted here once.
pub(crate) async fn serve(worker: Rc<Worker>, accepted: Accepted) {
    let place = worker.live.enter();
    let mut trace = Trace::new(accepted.peer, accepted.woken_at);
    let ends = Ends::of(Rc::new(End::plain(accepted.client)));
    let outcome = {
        let connection = Connection {
            worker: &worker,
            listener: &worker.shared.listeners[usize::from(accepted.listener.0)],
            id: accepted.listener,
            slot: place.slot(),
            ends: &ends,
        };
        place.supervise(pin!(stages(&connection, &mut trace))).await
    };
    ends.hang_up(outcome);
    let (received, sent) = ends.client.moved();
    trace.flow.add(received, sent);
    trace.cause = ends.cause.get();
    drop(ends);
    worker.account(accepted.listener, trace, outcome);
}

/// The whole pipeline: the only place where stages are put in order. Each takes the proof of the
/// one before; an early end is an `Err`.
async fn stages(connection: &Connection<'_>, trace: &mut Trace) -> Result<Outcome, Outcome> {
    let _seat = take_seat(connection)?;
    let mut received = Received::new(connection.listener.hello_timeout);
    let endpoints = read_preface(connection, &mut received, trace).await?;
    let _source = admit_source(connection, endpoints.client)?;
    // Each apart, so that a connection is no larger than what it does takes.
    if connection.listener.protocol == Protocol::Http {
        let ahead = received.into_ahead();
        return Box::pin(http::serve(connection, ahead, endpoints, None)).await;
    }
    match Box::pin(pass_through(connection, received, endpoints, trace)).await? {
        Passed::Through(outcome) => Ok(outcome),
        Passed::ToEnd {
            terms,
            hello,
            received,
        } => Box::pin(tls::serve(connection, terms, (hello, received), endpoints)).await,
    }
}

/// What became of a connection whose first bytes were read.
enum Passed {
    /// It was relayed.
    Through(Outcome),
    /// Its TLS is to end here.
    ToEnd {
        terms: Arc<Terms>,
        hello: Hello,
        received: Received,
    },
}

/// Takes a connection by its first bytes to where it leads, unless its TLS ends here.
async fn pass_through(
    connection: &Connection<'_>,
    mut received: Received,
    endpoints: Endpoints,
    trace: &mut Trace,
) -> Result<Passed, Outcome> {
    let mut hello = classify(connection, &mut received, trace).await?;
    let current = connection.worker.current();
    if let Some(found) = &hello
        && let Some(terms) = tls::terms(connection, &current.0, found).await?
        && let Some(hello) = hello.take()
    {
        return Ok(Passed::ToEnd {
            terms,
            hello,
            received,
        });
    }
    let route = route(connection, &current.0.snapshot, hello.as_ref()).await?;
    let permit = admit_network(connection, route, trace)?;
    let introduction = Introduction {
        endpoints,
        hello: hello.as_ref(),
    };
    let upstream = dial(
        connection,
        (&current.0, route),
        &permit,
        (received, introduction),
        trace,
    )
    .await?;
    drop((current, hello));
    let Upstream {
        socket,
        first,
        load: _load,
    } = upstream;
    let upstream = connection.ends.upstream.get_or_init(|| End::plain(socket));
    let wire = Wire {
        connection,
        upstream,
        permit: &permit,
        flow: &trace.flow,
    };
    let relayed = relay(&wire, first, connection.listener.idle_timeout).await;
    Ok(Passed::Through(relayed))
}

impl Ends {
    /// A client that is not connected with anybody.
    pub(crate) fn of(client: Rc<End>) -> Self {
        Self {
            client,
            upstream: OnceCell::new(),
            parting: Cell::default(),
            cause: Cell::default(),
        }
    }

    /// Passes on how the connection ended: a reset as a reset, anything else by the close that
    /// follows.
    fn hang_up(&self, outcome: Outcome) {
        let (resets_client, resets_upstream) = resets(outcome);
        let is_plain = self.client.as_plain().is_some();
        let resets_client = match self.parting.get() {
            Parting::ByOutcome => resets_client,
            Parting::InOrder => false,
            Parting::Cut if is_plain => true,
            // The socket's own end is enough.
            Parting::Cut => return,
        };
        if resets_client {
            // Fails only when the client is gone already.
            let _ = socket::reset_on_close(self.client.socket().as_fd());
        } else {
            // Fails when the client is gone, or reads so slowly that it need not know.
            let _ = self.client.say_end();
        }
        if let Some(upstream) = self.upstream.get().filter(|_| resets_upstream) {
            // Fails only when the upstream is gone already.
            let _ = socket::reset_on_close(upstream.socket().as_fd());
        }
    }
}

/// Which of client and upstream are reset after an outcome.
fn resets(outcome: Outcome) -> (bool, bool) {
    #[allow(clippy::wildcard_enum_match_arm, reason = "all others end in order")]
    match outcome {
        Outcome::ClientReset => (false, true),
        Outcome::UpstreamReset => (true, false),
        Outcome::Drained
        | Outcome::NetworkRemoved
        | Outcome::NetworkChanged
        | Outcome::AccessChanged
        | Outcome::Panic => (true, true),
        _ => (false, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn size_of_task<F>(_: fn(Rc<Worker>, Accepted) -> F) -> usize {
        size_of::<F>()
    }

    fn size_of_pass<'a, F>(
        _: fn(&'a Connection<'a>, Received, Endpoints, &'a mut Trace) -> F,
    ) -> usize {
        size_of::<F>()
    }

    /// Every idle connection pays for its task, and a relayed one for the deepest stage. When this
    /// fails because one of them grew, look for a value that lives across an await, or a timer that
    /// is not boxed; when it became much smaller, lower the bound.
    #[test]
    fn a_connections_task_stays_small() {
        let (task, pass) = (size_of_task(serve), size_of_pass(pass_through));
        assert!((700..=1000).contains(&task), "{task} bytes");
        assert!((700..=1600).contains(&pass), "{pass} bytes");
    }
}
