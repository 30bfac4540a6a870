//! Finds the destination of a connection, or tells the client that there is none.

use engine_core::{
    classify::{ClientHello, ServerName, UNRECOGNIZED_NAME},
    destination::Destination,
    outcome::Outcome,
    snapshot::{NoRoute, Snapshot},
};

use crate::{context::listener::Protocol, front::classify::refuse, transport::streams::ClientFlow};

/// The route by the listener's protocol: fixed for raw connections, by name for TLS.
///
/// # Errors
/// Why there is none; a TLS client was told so by an alert.
pub(crate) async fn route<'a>(
    connection: &ClientFlow<'_>,
    snapshot: &'a Snapshot,
    hello: Option<&ClientHello>,
) -> Result<Destination<'a>, Outcome> {
    if connection.listener.protocol == Protocol::Tcp {
        let fixed = snapshot.fixed(connection.listener.id);
        return fixed
            .map(|route| Destination::Route(route))
            .ok_or(Outcome::NoRoute);
    }
    let name = match hello.map(|hello| &hello.name) {
        Some(ServerName::Host(name)) => Some(name),
        Some(ServerName::Absent | ServerName::IpLiteral | ServerName::Invalid(_)) | None => None,
    };
    match snapshot.route(connection.listener.scope(), name) {
        Ok(route) => Ok(Destination::Route(route)),
        Err(reason) => {
            refuse(connection, &UNRECOGNIZED_NAME).await;
            Err(match reason {
                NoRoute::UnknownName => Outcome::UnknownName,
                NoRoute::NoName => Outcome::NoName,
            })
        }
    }
}
