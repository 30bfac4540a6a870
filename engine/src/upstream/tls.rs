//! TLS towards an upstream.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use engine_core::outcome::Outcome;
use engine_sys::netns::Identity;
use engine_tls::{Cause, SessionError, origin::ConnectError};

use crate::{
    context::{FlowContext, failure::Failure, tls::origin::Origin},
    transport::{
        Tls, Transport,
        handshake::{Unshaken, handshake, handshake_until},
    },
    upstream::Pools,
};

/// Whom a session is made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoint<'a> {
    pub(crate) origin: &'a Origin,
    /// The host that is asked for, where the origin has no name of its own.
    pub(crate) host: Option<&'a str>,
    /// Where its address is one.
    pub(crate) namespace: Identity,
    pub(crate) address: SocketAddr,
}

/// Makes a TLS connection of one that a target has just taken, within `patience`.
///
/// # Errors
/// [`Outcome::UpstreamUntrusted`] when the target did not prove who it is, [`Outcome::UpstreamTls`]
/// when there is another reason, [`Outcome::ConnectTimeout`].
pub(crate) async fn connect(
    (flow, pools): (&FlowContext<'_>, &Pools),
    to: Endpoint<'_>,
    (transport, patience): (&Transport, Duration),
) -> Result<(), Failure> {
    let Some(mut session) = begin(pools, to)? else {
        return Ok(());
    };
    let shaken = handshake(flow, transport.socket(), &mut session, patience).await;
    finish(shaken, session, transport, to.address)
}

/// [`connect`] for whoever asks on no connection's behalf, until a deadline.
///
/// # Errors
/// Those of [`connect`].
pub(crate) async fn connect_until(
    pools: &Pools,
    to: Endpoint<'_>,
    (transport, deadline): (&Transport, Instant),
) -> Result<(), Failure> {
    let Some(mut session) = begin(pools, to)? else {
        return Ok(());
    };
    let shaken = handshake_until(transport.socket(), &mut session, deadline).await;
    finish(shaken, session, transport, to.address)
}

/// The session of a connection to a target; `None` without TLS.
fn begin(pools: &Pools, to: Endpoint<'_>) -> Result<Option<Tls>, Outcome> {
    let Endpoint {
        origin,
        host,
        namespace,
        address,
    } = to;
    let Some(tls) = pools.sessions.of(origin, namespace) else {
        return Ok(None);
    };
    let begun = match origin.name().or(host) {
        Some(name) => tls.connect(name),
        None => tls.connect(&address.ip().to_string()),
    };
    let session = begun.map_err(|error| match error {
        // No certificate is for what a client asks for here.
        ConnectError::Name(_) if origin.name().is_none() => Outcome::UpstreamUntrusted,
        ConnectError::Name(_) | ConnectError::Session(_) => {
            tracing::error!(%error, %address, "TLS with a target cannot begin");
            Outcome::GatewayError
        }
    })?;
    Ok(Some(Tls::Client(session)))
}

fn finish(
    shaken: Result<(), Unshaken>,
    session: Tls,
    transport: &Transport,
    address: SocketAddr,
) -> Result<(), Failure> {
    match shaken {
        Ok(()) => transport.secure(session),
        Err(Unshaken::TimedOut) => return Err(Outcome::ConnectTimeout.into()),
        Err(Unshaken::Failed(error)) => {
            tracing::debug!(%error, %address, "TLS with a target failed");
            return Err(failure_of(&error));
        }
    }
    Ok(())
}

fn failure_of(error: &SessionError) -> Failure {
    let cause = error.cause();
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the rest is about other things than trust"
    )]
    let outcome = match cause {
        Some(
            Cause::CertificateExpired
            | Cause::CertificateName
            | Cause::CertificateIssuer
            | Cause::CertificateRevoked
            | Cause::CertificateBad,
        ) => Outcome::UpstreamUntrusted,
        _ => Outcome::UpstreamTls,
    };
    Failure {
        cause,
        ..outcome.into()
    }
}
