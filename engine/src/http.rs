//! HTTP/1 on a listener: the requests of a connection, one after the other.
//!
//! ```text
//!   head ► decide ► admit ► exchange ► account ─┐
//!    ▲                                          │
//!    └─────────────── the next ◄────────────────┘
//! ```
//!
//! What heads mean, and what may be passed on, is engine-http's to say; here bytes move. A request
//! is only ever passed on as a whole that was understood: its head is written anew, its content is
//! measured or framed anew.

pub(crate) mod ahead;
mod answer;
mod body;
mod decide;
mod exchange;
mod open;
pub(crate) mod pool;

use std::{io, os::fd::AsFd, time::Instant};

use engine_core::outcome::Outcome;
use engine_http::{
    forward::Client, limits::Limits, method::Scheme, reading::Reading, request, scan::Scan,
};
use engine_sys::socket;

use self::{
    ahead::Ahead,
    answer::{Asker, Own},
    decide::{Decision, decide},
    exchange::{Exchange, Exchanged, exchange},
};
use crate::{
    admit::admit_request, classify::farewell, connection::Connection, preface::Endpoints,
    tls::Secured,
};

/// Who sends the requests of a connection.
#[derive(Debug)]
pub(super) struct Visitor {
    client: Client,
    endpoints: Endpoints,
    local: std::net::SocketAddr,
    scheme: Scheme,
    /// A proxy whose word on where requests come from is taken.
    is_trusted: bool,
    /// What its TLS came to.
    secured: Option<Box<Secured>>,
}

/// What follows a request.
enum Next {
    /// Another one may.
    Request,
    /// The end of the connection.
    End(Outcome),
}

/// Serves the requests of a connection until one of both sides has had enough. They begin with
/// `ahead`.
pub(crate) async fn serve(
    connection: &Connection<'_>,
    mut ahead: Ahead,
    endpoints: Endpoints,
    secured: Option<Box<Secured>>,
) -> Result<Outcome, Outcome> {
    let client = Client::new(endpoints.client);
    let local = || socket::local_address(connection.ends.client.socket().as_fd());
    let visitor = Visitor {
        client,
        endpoints,
        local: endpoints
            .dialed
            .map_or_else(local, Ok)
            .unwrap_or(endpoints.client),
        scheme: match secured {
            Some(_) => Scheme::Https,
            None => Scheme::Http,
        },
        is_trusted: connection
            .listener
            .trusted_proxies
            .iter()
            .any(|prefix| prefix.contains(&client.address().ip())),
        secured,
    };
    let mut is_first = true;
    loop {
        await_request(connection, &mut ahead, is_first).await?;
        is_first = false;
        // Apart, so that a connection that waits for its next request is small.
        match Box::pin(serve_request(connection, &visitor, &mut ahead)).await {
            Next::Request => {}
            Next::End(outcome) => return Ok(outcome),
        }
    }
}

/// Waits until the next request has begun.
async fn await_request(
    connection: &Connection<'_>,
    ahead: &mut Ahead,
    is_first: bool,
) -> Result<(), Outcome> {
    let Connection {
        worker,
        listener,
        slot,
        ends,
        ..
    } = connection;
    let patience = match is_first {
        true => listener.hello_timeout,
        false => listener.keep_alive_timeout,
    };
    slot.watch_idle(&worker.live, patience);
    slot.rests(!is_first);
    while ahead.is_empty() {
        if !is_first && worker.stopped().is_stopped() {
            return Err(Outcome::Done);
        }
        ends.client
            .readable()
            .await
            .map_err(|_| Outcome::GatewayError)?;
        match ahead.receive(worker, &ends.client) {
            Ok(0) if is_first => return Err(Outcome::HelloEof),
            Ok(0) => return Err(Outcome::Done),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // Between requests a reset is only a rude goodbye.
            Err(_) if !is_first => return Err(Outcome::Done),
            Err(_) => return Err(Outcome::ClientReset),
        }
    }
    slot.rests(false);
    slot.watch_idle(&worker.live, listener.idle_timeout);
    Ok(())
}

async fn serve_request(connection: &Connection<'_>, visitor: &Visitor, ahead: &mut Ahead) -> Next {
    let worker = connection.worker;
    let mut scan = Scan::default();
    let mut begun = None;
    let request = loop {
        match request::read(ahead.unused(), limits(connection), &mut scan) {
            Reading::Head(request) => break request,
            Reading::Refused(refusal) => {
                let own = Asker::unread(worker).failed(Outcome::BadRequest, Some(refusal));
                return answer(connection, &own, Outcome::BadRequest).await;
            }
            Reading::NeedMore => {}
        }
        let begun = *begun.get_or_insert_with(Instant::now);
        match receive_head(connection, ahead, begun).await {
            Ok(()) => {}
            Err(Outcome::HelloTimeout) => {
                let own = Asker::unread(worker).failed(Outcome::HelloTimeout, None);
                return answer(connection, &own, Outcome::HelloTimeout).await;
            }
            Err(outcome) => return Next::End(outcome),
        }
    };
    let started = Instant::now();
    let current = worker.current();
    let head_len = request.head_len;
    let id = trusted_id(visitor, &request).unwrap_or_else(|| worker.next_request_id());
    let asker = Asker::of(&request, id, worker.stopped().is_stopped());
    let decision = decide(connection, visitor, &current.0, &request, &asker);
    ahead.consume(head_len);
    let (plan, head, route) = match decision {
        Decision::Pass { plan, head, route } => (plan, head, route),
        Decision::Answer { own, outcome } => return answer(connection, &own, outcome).await,
    };
    let permit = match admit_request(connection, route) {
        Ok(permit) => permit,
        Err(outcome) => {
            return answer(connection, &asker.failed(outcome, None), outcome).await;
        }
    };
    let work = Exchange {
        connection,
        published: &current.0,
        route,
        permit: &permit,
        endpoints: visitor.endpoints,
        plan: &plan,
    };
    let exchanged = exchange(&work, &head, ahead).await;
    worker.account_request(&permit.route, started, &exchanged.flow, exchanged.outcome);
    finish(connection, &asker, &exchanged).await
}

/// The id that a trusted proxy gave the request.
fn trusted_id(visitor: &Visitor, request: &request::Request<'_>) -> Option<String> {
    visitor
        .is_trusted
        .then(|| engine_http::answer::request_id(request.fields))
        .flatten()
        .map(str::to_owned)
}

/// Ends a request, and answers it where nobody has begun to.
async fn finish(connection: &Connection<'_>, asker: &Asker, exchanged: &Exchanged) -> Next {
    let outcome = exchanged.outcome;
    if exchanged.goes_on {
        return Next::Request;
    }
    if exchanged.status.is_none() && outcome != Outcome::ClientReset {
        let own = asker.failed(outcome, exchanged.refusal);
        return answer(connection, &own, outcome).await;
    }
    if outcome == Outcome::Done {
        farewell(connection).await;
    }
    Next::End(outcome)
}

/// Answers a request by itself.
async fn answer(connection: &Connection<'_>, own: &Own, outcome: Outcome) -> Next {
    if own.send(connection).await.is_err() {
        return Next::End(Outcome::ClientReset);
    }
    if own.keeps_alive() {
        return Next::Request;
    }
    farewell(connection).await;
    Next::End(outcome)
}

/// Receives more of a head that has begun.
async fn receive_head(
    connection: &Connection<'_>,
    ahead: &mut Ahead,
    begun: Instant,
) -> Result<(), Outcome> {
    let Connection {
        worker,
        listener,
        slot,
        ends,
        ..
    } = connection;
    loop {
        match ahead.receive(worker, &ends.client) {
            Ok(0) => return Err(Outcome::Truncated),
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(Outcome::ClientReset),
        }
        let patience = listener.hello_timeout.saturating_sub(begun.elapsed());
        if patience.is_zero() {
            return Err(Outcome::HelloTimeout);
        }
        let readable = ends.client.readable();
        match slot.within(&worker.live, patience, readable).await {
            Ok(readable) => readable.map_err(|_| Outcome::GatewayError)?,
            Err(_) => return Err(Outcome::HelloTimeout),
        }
    }
}

fn limits<'a>(connection: &'a Connection<'_>) -> &'a Limits {
    &connection.worker.shared.limits.http_head
}
