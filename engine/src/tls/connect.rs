//! TLS towards an upstream.

use std::{net::SocketAddr, time::Duration};

use engine_core::outcome::Outcome;
use engine_tls::{Cause, SessionError};

use super::{
    Origin,
    handshake::{Unshaken, handshake},
};
use crate::{
    connection::Connection,
    end::{End, Tls},
};

/// Makes a TLS connection of one that a target has just taken, within `patience`.
///
/// # Errors
/// [`Outcome::UpstreamUntrusted`] when the target did not prove who it is, [`Outcome::UpstreamTls`]
/// when there is another reason, [`Outcome::ConnectTimeout`].
pub(crate) async fn connect(
    connection: &Connection<'_>,
    origin: &Origin,
    address: SocketAddr,
    (end, patience): (&End, Duration),
) -> Result<(), Outcome> {
    let Some(tls) = connection.worker.sessions.of(origin) else {
        return Ok(());
    };
    let begun = match origin.name() {
        Some(name) => tls.connect(name),
        None => tls.connect(&address.ip().to_string()),
    };
    let mut session = Tls::Client(begun.map_err(|error| {
        tracing::error!(%error, %address, "TLS with a target cannot begin");
        Outcome::GatewayError
    })?);
    match handshake(connection, end.socket(), &mut session, patience).await {
        Ok(()) => end.secure(session),
        Err(Unshaken::TimedOut) => return Err(Outcome::ConnectTimeout),
        Err(Unshaken::Failed(error)) => {
            tracing::debug!(%error, %address, "TLS with a target failed");
            return Err(outcome_of(&error));
        }
    }
    Ok(())
}

fn outcome_of(error: &SessionError) -> Outcome {
    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "the rest is about other things than trust"
    )]
    match error.cause() {
        Some(
            Cause::CertificateExpired
            | Cause::CertificateName
            | Cause::CertificateIssuer
            | Cause::CertificateRevoked
            | Cause::CertificateBad,
        ) => Outcome::UpstreamUntrusted,
        _ => Outcome::UpstreamTls,
    }
}
