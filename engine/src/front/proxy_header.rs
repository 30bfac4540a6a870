//! The PROXY protocol header that a trusted source puts in front of its bytes.

use std::net::IpAddr;

use engine_core::{
    outcome::Outcome,
    proxy_protocol::{self, Reading},
};

use crate::{
    context::{
        listener::{Listener, Protocol},
        record::Trace,
    },
    transport::{
        received::{Endpoints, Received, Silence},
        streams::ClientFlow,
    },
};

/// Reads the PROXY protocol header of a source that must send one, and refuses one from any other.
///
/// # Errors
/// [`Outcome::BadProxyHeader`], [`Outcome::UntrustedProxyHeader`], or the client's silence.
pub(crate) async fn read_proxy_header(
    connection: &ClientFlow<'_>,
    received: &mut Received,
    trace: &mut Trace,
) -> Result<Endpoints, Outcome> {
    if connection.listener.accept_proxy_from.is_empty() {
        return Ok(direct(trace));
    }
    // Apart, so that the connections of all other listeners do not keep the room for it.
    Box::pin(read_header(connection, received, trace)).await
}

fn direct(trace: &Trace) -> Endpoints {
    Endpoints {
        client: trace.client,
        dialed: None,
    }
}

async fn read_header(
    connection: &ClientFlow<'_>,
    received: &mut Received,
    trace: &mut Trace,
) -> Result<Endpoints, Outcome> {
    let listener = connection.listener;
    let direct = direct(trace);
    if !trusts(listener, trace.client.ip()) {
        refuse_header(connection, received).await?;
        return Ok(direct);
    }
    loop {
        match proxy_protocol::read(received.all()) {
            Reading::Header(header) => {
                received.begin_at(header.len);
                let Some((client, dialed)) = header.endpoints else {
                    return Ok(direct);
                };
                trace.client = client;
                return Ok(Endpoints {
                    client,
                    dialed: Some(dialed),
                });
            }
            Reading::NotProxy | Reading::Bad(_) => return Err(Outcome::BadProxyHeader),
            Reading::NeedMore => {}
        }
        received
            .receive(connection)
            .await
            .map_err(Silence::before_hello)?;
    }
}

fn trusts(listener: &Listener, source: IpAddr) -> bool {
    listener
        .accept_proxy_from
        .iter()
        .any(|prefix| prefix.contains(&source))
}

/// A TLS hello or an HTTP head from a source that may not send a header cannot be mistaken for one,
/// so whoever reads those refuses it. On a raw listener the first bytes have to be looked at: a client that
/// stays silent for the hello timeout is one that waits for the server to speak first.
async fn refuse_header(
    connection: &ClientFlow<'_>,
    received: &mut Received,
) -> Result<(), Outcome> {
    if connection.listener.protocol != Protocol::Tcp {
        return Ok(());
    }
    loop {
        match proxy_protocol::read(received.all()) {
            Reading::NotProxy => return Ok(()),
            Reading::Header(_) | Reading::Bad(_) => return Err(Outcome::UntrustedProxyHeader),
            Reading::NeedMore => {}
        }
        match received.receive(connection).await {
            Ok(()) => {}
            Err(Silence::Timeout | Silence::Eof) => return Ok(()),
            Err(Silence::Reset) => return Err(Outcome::ClientReset),
        }
    }
}
