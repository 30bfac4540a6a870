//! One connection, from accept to account.

use std::{
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use engine_core::{classify::ClientHello, destination::Destination, outcome::Outcome};
use engine_tls::ServerTlsConfig;

use crate::{
    context::{
        FlowContext, WorkerContext,
        admit::{Permit, admit_connection, admit_network, admit_source},
        listener::{Listening, Protocol},
        record::Trace,
        snapshot::Published,
    },
    exchange::connection::Connection,
    front::tls,
    front::{classify::classify, http, proxy_header::read_proxy_header, route::route},
    relay::{Wire, relay},
    rt::{self, Readiness},
    transport::{
        Transport,
        received::{Endpoints, Received},
        streams::{ClientFlow, Streams},
    },
    upstream::{
        Pools,
        dial::{Introduction, Upstream, dial},
        resolve::resolve,
    },
};

/// A connection as it comes off the queue.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) listener: Rc<Listening>,
    pub(crate) client: Readiness,
    pub(crate) peer: SocketAddr,
    pub(crate) woken_at: Instant,
}

/// Serves one connection. Every way that it can end is one [`Outcome`], accounted once: when what is
/// known of it is dropped, as a request is.
///
/// What comes with the connection is taken apart first: the task has room for its parts alone.
pub(crate) fn serve(
    worker: Rc<WorkerContext>,
    pools: Rc<Pools>,
    accepted: Accepted,
) -> impl Future<Output = ()> {
    let Accepted {
        listener,
        client,
        peer,
        woken_at,
    } = accepted;
    let mut open = Open {
        worker,
        listener,
        trace: Trace::new(peer, woken_at),
        streams: Streams::of(Rc::new(Transport::plain(client))),
        outcome: Outcome::Drained,
    };
    async move {
        let worker = Rc::clone(&open.worker);
        let place = worker.live.enter();
        open.outcome = {
            let connection = Connection {
                client: ClientFlow {
                    flow: FlowContext {
                        worker: &open.worker,
                        listener: &open.listener,
                        slot: place.slot(),
                    },
                    streams: &open.streams,
                },
                pools: &pools,
            };
            let stages = pin!(stages(&connection, &mut open.trace));
            place.supervise(stages).await
        };
        open.streams.hang_up(open.outcome);
        if Rc::strong_count(&open.streams.client) > 1 {
            Box::pin(requests_end(&open.streams.client)).await;
        }
    }
}

/// A connection that is served. It is accounted when it is dropped.
struct Open {
    worker: Rc<WorkerContext>,
    listener: Rc<Listening>,
    trace: Trace,
    streams: Streams,
    /// How it ended. A task that is dropped in the middle ends with its worker.
    outcome: Outcome,
}

impl Drop for Open {
    fn drop(&mut self) {
        let (received, sent) = self.streams.client.moved();
        self.trace.flow.add(received, sent);
        self.trace.cause = self.streams.cause.get();
        self.worker
            .account(&self.listener, &mut self.trace, self.outcome);
    }
}

/// How long the requests of a connection that is over may take to end: each needs a turn.
const REQUESTS_END_WITHIN: Duration = Duration::from_secs(1);

/// Waits until the requests that share a client have ended: what they moved is in the record, too.
async fn requests_end(client: &Rc<Transport>) {
    let deadline = Instant::now() + REQUESTS_END_WITHIN;
    while Rc::strong_count(client) > 1 && Instant::now() < deadline {
        rt::sleep(Duration::from_millis(1)).await;
    }
}

/// The whole pipeline: the only place where stages are put in order. Each takes the proof of the
/// one before; an early end is an `Err`.
async fn stages(connection: &Connection<'_>, trace: &mut Trace) -> Result<Outcome, Outcome> {
    let _guard = admit_connection(connection)?;
    let mut received = Received::new(connection.listener.hello_timeout);
    let endpoints = read_proxy_header(connection, &mut received, trace).await?;
    let _source = admit_source(connection, endpoints.client)?;
    // Each apart, so that a connection is no larger than what it does takes.
    if connection.listener.protocol == Protocol::Http {
        let ahead = received.into_ahead();
        return Box::pin(http::serve(connection, ahead, endpoints, None)).await;
    }
    match Box::pin(pass_through(connection, received, endpoints, trace)).await? {
        Passed::Through(outcome) => Ok(outcome),
        Passed::Terminate {
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
    /// Its TLS is terminated here.
    Terminate {
        terms: Arc<ServerTlsConfig>,
        hello: ClientHello,
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
        return Ok(Passed::Terminate {
            terms,
            hello,
            received,
        });
    }
    let destination = route(connection, &current.0.snapshot, hello.as_ref()).await?;
    let introduction = Introduction {
        endpoints,
        hello: hello.as_ref(),
    };
    let to = (&*current.0, destination);
    let reached = reach(connection, to, (received, introduction), trace).await?;
    drop((current, hello));
    Ok(Passed::Through(pass_on(connection, reached, trace).await))
}

/// Takes a connection to its destination, and gives the proof that it may be there.
async fn reach(
    connection: &Connection<'_>,
    (published, destination): (&Published, Destination<'_>),
    first: (Received, Introduction<'_>),
    trace: &mut Trace,
) -> Result<(Permit, Upstream), Outcome> {
    let patience = connection.listener.connect_timeout;
    let at = (published, destination);
    let resolved = resolve(connection.worker, connection.pools, at, patience).await;
    let permit = admit_network(connection, destination, trace)?;
    let to = (published, destination, &resolved);
    let upstream = dial(connection, to, &permit, first, trace).await?;
    Ok((permit, upstream))
}

/// Relays a connection that is where it goes.
async fn pass_on(
    connection: &Connection<'_>,
    (permit, upstream): (Permit, Upstream),
    trace: &Trace,
) -> Outcome {
    let Upstream {
        socket,
        first,
        load: _load,
    } = upstream;
    let upstream = connection
        .streams
        .upstream
        .get_or_init(|| Transport::plain(socket));
    let wire = Wire {
        connection,
        upstream,
        permit: &permit,
        flow: &trace.flow,
    };
    relay(&wire, first, connection.listener.idle_timeout).await
}

#[cfg(test)]
mod tests;
