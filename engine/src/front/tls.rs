//! Ends a client's TLS.

use std::{cell::Cell, sync::Arc};

use engine_core::{
    classify::{ClientHello, ServerName, UNRECOGNIZED_NAME},
    hostname::Hostname,
    outcome::Outcome,
};
use engine_tls::{
    Cause, ServerTlsConfig, SessionError,
    peer::Peer,
    policy::{ACME_PROTOCOL, AcceptError, MinVersion},
};

use crate::{
    context::{config::UndeclaredName, listener::Protocol, snapshot::Published, tls::Termination},
    exchange::{connection::Connection, tls_info::TlsInfo},
    front::{classify::refuse, http},
    transport::{
        self,
        handshake::{Unshaken, handshake},
        linger::{Linger, linger},
        read_ahead::ReadAhead,
        received::{Endpoints, Received},
    },
};

/// A fatal `internal_error` alert (RFC 8446 section 6.2).
const INTERNAL_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 80];

/// The terms on which a connection's TLS ends here; `None` where it is passed through.
///
/// # Errors
/// [`Outcome::UnknownName`] and [`Outcome::NoName`], where nobody is to have it, and
/// [`Outcome::GatewayError`], where its terms could not be made; the client was told so.
pub(crate) async fn terms(
    connection: &Connection<'_>,
    published: &Published,
    hello: &ClientHello,
) -> Result<Option<Arc<ServerTlsConfig>>, Outcome> {
    let Published {
        tls,
        snapshot,
        http,
        ..
    } = published;
    let name = name_of(hello);
    // RFC 8737 section 3: such a client is a directory, which wants a proof and nothing else. The
    // proofs that are not put up here are the tenants' own affair.
    if hello.alpn.as_deref() == Some(ACME_PROTOCOL)
        && let (Some(name), Some(challenges)) = (name, tls.challenges())
        && challenges.has_challenge(name)
    {
        return Ok(Some(Arc::clone(challenges)));
    }
    let only = connection.listener.network;
    let is_served = |name: &&Hostname| only.is_none() || http.owner_of_name(name.as_str()) == only;
    let declared = name.and_then(|name| tls.of(name, snapshot));
    let own = declared.filter(|_| name.as_ref().is_some_and(is_served));
    if declared.is_some() && own.is_none() {
        // Another network's clients, who would take its certificate for its word.
        refuse(connection, &UNRECOGNIZED_NAME).await;
        return Err(unknown(name));
    }
    // What no route passes through is ended by the terms for others on every listener of TLS.
    let ends_all = connection.listener.protocol == Protocol::Https
        || snapshot.route(connection.listener.scope(), name).is_err();
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
    terms: Arc<ServerTlsConfig>,
    (hello, received): (ClientHello, Received),
    endpoints: Endpoints,
) -> Result<Outcome, Outcome> {
    // Apart, so that a connection at rest keeps neither the room for it nor the hello.
    let tls_info = Box::pin(accept(connection, terms, (hello, received), endpoints)).await?;
    if connection.streams.client.speaks(ACME_PROTOCOL) {
        // The handshake was all that was wanted.
        linger(connection, Linger::SHORT).await;
        return Ok(Outcome::Done);
    }
    http::serve(connection, ReadAhead::default(), endpoints, Some(tls_info)).await
}

async fn accept(
    connection: &Connection<'_>,
    terms: Arc<ServerTlsConfig>,
    (hello, received): (ClientHello, Received),
    endpoints: Endpoints,
) -> Result<Box<TlsInfo>, Outcome> {
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
    let mut session = transport::Tls::Server(session);
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
            .count_listener(connection.listener.id, |tally| tally.tls.count_done(agreed));
    }
    let vouched = session.peer().map(|peer| vouch(&peer));
    connection.streams.client.secure(session);
    Ok(Box::new(TlsInfo {
        terms,
        version,
        is_outdated: Cell::new(false),
        name: name_of(hello).cloned(),
        vouched: vouched.unwrap_or_default(),
    }))
}

/// Tells control of a name without a certificate: it may want to have one.
fn tell_of_stranger(connection: &Connection<'_>, hello: &ClientHello, endpoints: &Endpoints) {
    let strangers = &connection.worker.shared.strangers;
    if let (Some(strangers), Some(name)) = (strangers, name_of(hello)) {
        // Full: there are enough of them.
        let _ = strangers.try_send(UndeclaredName {
            name: name.clone(),
            client: endpoints.client.ip(),
        });
    }
}

/// Refuses a handshake that need not begin.
async fn refuse_hello(
    connection: &Connection<'_>,
    hello: &ClientHello,
    error: &AcceptError,
) -> Outcome {
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
fn is_declared(connection: &Connection<'_>, hello: &ClientHello) -> bool {
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
        .count_listener(connection.listener.id, |tally| {
            tally.tls.count_failed(cause)
        });
}

fn name_of(hello: &ClientHello) -> Option<&Hostname> {
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
