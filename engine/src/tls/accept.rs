//! Ends a client's TLS.

use std::{cell::Cell, sync::Arc};

use engine_core::{
    classify::{Hello, ServerName, UNRECOGNIZED_NAME},
    hostname::Hostname,
    outcome::Outcome,
};
use engine_http::host::Host;
use engine_tls::{
    Cause, SessionError, Terms,
    peer::Peer,
    policy::{ACME_PROTOCOL, AcceptError, Clients, MinVersion},
};

use super::{
    handshake::{Unshaken, handshake},
    names::{Asked, Termination},
};
use crate::{
    classify::refuse,
    config::{Protocol, Stranger},
    end,
    http::connection::Connection,
    http::{self, ahead::Ahead},
    linger::{Linger, linger},
    preface::{Endpoints, Received},
    snapshot::Published,
};

/// A fatal `internal_error` alert (RFC 8446 section 6.2).
const INTERNAL_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];

/// What a connection's handshake came to.
#[derive(Debug)]
pub(crate) struct Secured {
    terms: Arc<Terms>,
    /// The version that is spoken.
    version: MinVersion,
    /// Its terms are no longer those of its own name, or of connections without one: it is to end.
    is_outdated: Cell<bool>,
    /// The name that the client asked for.
    name: Option<Hostname>,
    /// What upstreams are told of the client's certificate.
    vouched: Vec<(&'static str, String)>,
}

/// The terms on which a connection's TLS ends here; `None` where it is passed through.
///
/// # Errors
/// [`Outcome::UnknownName`] and [`Outcome::NoName`], where nobody is to have it, and
/// [`Outcome::GatewayError`], where its terms could not be made; the client was told so.
pub(crate) async fn terms(
    connection: &Connection<'_>,
    published: &Published,
    hello: &Hello,
) -> Result<Option<Arc<Terms>>, Outcome> {
    let Published { tls, snapshot, .. } = published;
    let name = name_of(hello);
    // RFC 8737 section 3: such a client is a directory, which wants a proof and nothing else. The
    // proofs that are not put up here are the tenants' own affair.
    if hello.alpn.as_deref() == Some(ACME_PROTOCOL)
        && let (Some(name), Some(challenges)) = (name, tls.challenges())
        && challenges.has_challenge(name)
    {
        return Ok(Some(Arc::clone(challenges)));
    }
    let own = name.and_then(|name| tls.of(name, snapshot));
    // What no route passes through is ended by the terms for others on every listener of TLS.
    let ends_all = connection.listener.protocol == Protocol::Https
        || snapshot.route(connection.id, name).is_err();
    match own.or_else(|| tls.others().filter(|_| ends_all)) {
        Some(Termination::On(terms)) => Ok(Some(Arc::clone(terms))),
        Some(Termination::Failed) => {
            refuse(connection, &INTERNAL_ERROR).await;
            Err(Outcome::GatewayError)
        }
        None if ends_all => {
            refuse(connection, &UNRECOGNIZED_NAME).await;
            Err(unknown(name))
        }
        None => Ok(None),
    }
}

/// Ends a client's TLS, and serves the requests in it.
///
/// # Errors
/// How the connection ended early.
pub(crate) async fn serve(
    connection: &Connection<'_>,
    terms: Arc<Terms>,
    (hello, received): (Hello, Received),
    endpoints: Endpoints,
) -> Result<Outcome, Outcome> {
    // Apart, so that a connection at rest keeps neither the room for it nor the hello.
    let secured = Box::pin(accept(connection, terms, (hello, received), endpoints)).await?;
    if connection.streams.client.speaks(ACME_PROTOCOL) {
        // The handshake was all that was wanted.
        linger(connection, Linger::SHORT).await;
        return Ok(Outcome::Done);
    }
    http::serve(connection, Ahead::default(), endpoints, Some(secured)).await
}

async fn accept(
    connection: &Connection<'_>,
    terms: Arc<Terms>,
    (hello, received): (Hello, Received),
    endpoints: Endpoints,
) -> Result<Box<Secured>, Outcome> {
    let hello = &hello;
    let session = match terms.accept(hello, received.protocol()) {
        Ok(session) => session,
        Err(error) => {
            if matches!(error, AcceptError::UnknownName) {
                tell_of_stranger(connection, hello, &endpoints);
            }
            return Err(refuse_hello(connection, hello, &error).await);
        }
    };
    drop(received);
    let mut session = end::Tls::Server(session);
    let client = connection.streams.client.socket();
    let patience = connection.listener.hello_timeout;
    match handshake(connection, client, &mut session, patience).await {
        Ok(()) => {}
        Err(Unshaken::TimedOut) => return Err(Outcome::HandshakeTimeout),
        Err(Unshaken::Failed(error)) => return Err(fail(connection, &error).await),
    }
    let mut version = MinVersion::Tls12;
    if let Some(agreed) = session.agreed() {
        version = agreed.as_minimum();
        connection
            .worker
            .ledger
            .count_listener(connection.id, |tally| tally.tls.count_done(agreed));
    }
    let vouched = session.peer().map(|peer| vouch(&peer));
    connection.streams.client.secure(session);
    Ok(Box::new(Secured {
        terms,
        version,
        is_outdated: Cell::new(false),
        name: name_of(hello).cloned(),
        vouched: vouched.unwrap_or_default(),
    }))
}

/// Tells control of a name without a certificate: it may want to have one.
fn tell_of_stranger(connection: &Connection<'_>, hello: &Hello, endpoints: &Endpoints) {
    let strangers = &connection.worker.shared.strangers;
    if let (Some(strangers), Some(name)) = (strangers, name_of(hello)) {
        // Full: there are enough of them.
        let _ = strangers.try_send(Stranger {
            name: name.clone(),
            client: endpoints.client.ip(),
        });
    }
}

/// Refuses a handshake that need not begin.
async fn refuse_hello(connection: &Connection<'_>, hello: &Hello, error: &AcceptError) -> Outcome {
    if let Some(alert) = error.alert() {
        refuse(connection, alert).await;
    }
    match error {
        AcceptError::UnknownName if is_declared(connection, hello) => Outcome::NoCertificate,
        AcceptError::UnknownName => unknown(name_of(hello)),
        AcceptError::NoChallenge => {
            count_failed(connection, Cause::Protocol);
            Outcome::HandshakeFailed
        }
        AcceptError::Session(error) => {
            count_failed(connection, error.cause().unwrap_or(Cause::Internal));
            Outcome::HandshakeFailed
        }
    }
}

/// Whether some network has the TLS of the name end here.
fn is_declared(connection: &Connection<'_>, hello: &Hello) -> bool {
    let current = connection.worker.current();
    let Published { tls, snapshot, .. } = &*current.0;
    name_of(hello).is_some_and(|name| tls.of(name, snapshot).is_some())
}

/// Ends a handshake that failed.
async fn fail(connection: &Connection<'_>, error: &SessionError) -> Outcome {
    let cause = error.cause().unwrap_or(Cause::Internal);
    count_failed(connection, cause);
    if !matches!(error, SessionError::Wire(_) | SessionError::HandshakeEof) {
        // The alert is on its way.
        linger(connection, Linger::SHORT).await;
    }
    Outcome::HandshakeFailed
}

fn count_failed(connection: &Connection<'_>, cause: Cause) {
    connection.streams.cause.set(Some(cause));
    let worker = connection.worker;
    if worker.told.is_due(cause, worker.nanoseconds()) {
        let (listener, reason) = (&*connection.listener.name, cause.label());
        tracing::info!(
            listener,
            reason,
            "a client's TLS handshake failed; others like it are not told for a minute"
        );
    }
    connection
        .worker
        .ledger
        .count_listener(connection.id, |tally| tally.tls.count_failed(cause));
}

fn name_of(hello: &Hello) -> Option<&Hostname> {
    match &hello.name {
        ServerName::Host(name) => Some(name),
        ServerName::Absent | ServerName::IpLiteral | ServerName::Invalid(_) => None,
    }
}

fn unknown(name: Option<&Hostname>) -> Outcome {
    name.map_or(Outcome::NoName, |_| Outcome::UnknownName)
}

/// What upstreams are told of a client's certificate: the whole of it as RFC 9440 says, and what
/// most of them look for in it.
fn vouch(peer: &Peer<'_>) -> Vec<(&'static str, String)> {
    let mut vouched = vec![
        ("Client-Cert", peer.client_cert()),
        ("X-Client-Cert-Sha256", peer.sha256()),
    ];
    vouched.extend(
        peer.subject()
            .map(|subject| ("X-Client-Cert-Subject", subject)),
    );
    vouched
}

impl Secured {
    /// The fields that tell upstreams who the client is.
    pub(crate) fn vouched(&self) -> &[(&'static str, String)] {
        &self.vouched
    }

    /// The version that is spoken.
    pub(crate) fn version(&self) -> MinVersion {
        self.version
    }

    /// Whether it is to end, because the terms that it was made on are no longer in force.
    pub(crate) fn is_outdated(&self) -> bool {
        self.is_outdated.get()
    }

    /// Whether requests for `host` may come over this connection, or those that name none. It was made
    /// to this name, or the certificate that it was shown is good for it, too (RFC 9110 section 7.4);
    /// and it is what the host asks for now: who the client is was asked by the same authorities in the
    /// same way, so that nobody's name is told where it was not asked for, and the version is new
    /// enough.
    pub(crate) fn carries(&self, host: Option<Host<'_>>, published: &Published) -> bool {
        let carries = self.may_carry(host, published);
        if !carries {
            // Where the terms that it was made on are no longer in force, nothing is left for it.
            let own = self.name.as_ref().map_or(Asked::Others, Asked::Name);
            self.is_outdated
                .set(!self.meets(published.tls.of_host(own)));
        }
        carries
    }

    fn may_carry(&self, host: Option<Host<'_>>, published: &Published) -> bool {
        let Some(host) = host else {
            // Such requests are for whoever serves the hosts that nobody declared.
            return self.meets(published.tls.of_host(Asked::Others));
        };
        let Some(folded) = host.folded() else {
            // SNI names no addresses.
            return self.name.is_none() && self.meets(published.tls.of_host(Asked::Others));
        };
        let is_own = |name: &Hostname| name.as_str() == &*folded;
        if let Some(name) = self.name.as_ref().filter(|name| is_own(name)) {
            return self.meets(published.tls.of_host(Asked::Name(name)));
        }
        let Some(host) = host.hostname() else {
            return false;
        };
        self.meets(published.tls.of_host(Asked::Name(&host)))
            && self.terms.may_carry(self.name.as_ref(), &host)
    }

    /// Whether it is what a host asks of its clients.
    fn meets(&self, asked: Option<&Termination>) -> bool {
        let Some(terms) = asked.and_then(Termination::terms) else {
            return false;
        };
        if Arc::ptr_eq(terms, &self.terms) {
            return true;
        }
        let (asked, own) = (terms.policy(), self.terms.policy());
        let is_nobody = self.vouched.is_empty() && asked.clients == Clients::Unasked;
        (asked.clients == own.clients || is_nobody) && asked.version <= self.version
    }
}
