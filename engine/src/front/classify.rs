//! Reads the ClientHello.

use engine_core::{
    classify::{ClientHello, HelloReader, Verdict, alert_for},
    outcome::Outcome,
    proxy_protocol::{self, Reading},
};
use engine_http::{
    answer::{Ending, tls_hint},
    method::Version,
};

use crate::{
    context::{listener::Protocol, record::Trace},
    transport::{
        linger::{Linger, linger},
        received::{Received, Silence},
        streams::ClientFlow,
    },
};

/// Reads the hello of a TLS connection; a raw connection has none.
///
/// # Errors
/// What kept it from being whole and good.
pub(crate) async fn classify(
    connection: &ClientFlow<'_>,
    received: &mut Received,
    trace: &mut Trace,
) -> Result<Option<ClientHello>, Outcome> {
    if connection.listener.protocol == Protocol::Tcp {
        return Ok(None);
    }
    let bytes_max = connection.worker.shared.limits.hello_bytes_max;
    let mut reader = HelloReader::new(bytes_max);
    let (outcome, verdict) = loop {
        let verdict = match received.protocol() {
            [] => Verdict::NeedMore,
            bytes => reader.read(bytes),
        };
        match verdict {
            Verdict::NeedMore => {}
            Verdict::ClientHello(hello) => {
                trace.learn(&hello);
                return Ok(Some(hello));
            }
            Verdict::NotTls => {
                let outcome = not_tls(received.protocol());
                if outcome == Outcome::NotTls && is_http(received.protocol()) {
                    // Apart: hardly any connection comes here.
                    Box::pin(hint(connection)).await;
                }
                return Err(outcome);
            }
            Verdict::Bad(_) => break (Outcome::BadHello, verdict),
            Verdict::TooLong => break (Outcome::HelloTooLong, verdict),
        }
        received
            .receive(connection)
            .await
            .map_err(Silence::before_hello)?;
    };
    if let Some(alert) = alert_for(&verdict) {
        refuse(connection, &alert).await;
    }
    Err(outcome)
}

/// A header from a source that may not send one is told apart from other bytes that are not TLS.
fn not_tls(bytes: &[u8]) -> Outcome {
    match proxy_protocol::read(bytes) {
        Reading::Header(_) | Reading::Bad(_) => Outcome::UntrustedProxyHeader,
        Reading::NeedMore | Reading::NotProxy => Outcome::NotTls,
    }
}

/// Whether some bytes begin a request of HTTP, by its method.
fn is_http(bytes: &[u8]) -> bool {
    const METHODS: [&[u8]; 9] = [
        b"GET ",
        b"HEAD ",
        b"POST ",
        b"PUT ",
        b"DELETE ",
        b"OPTIONS ",
        b"PATCH ",
        b"TRACE ",
        b"CONNECT ",
    ];
    METHODS.iter().any(|method| bytes.starts_with(method))
}

/// Tells a client of HTTP that TLS is spoken here.
async fn hint(connection: &ClientFlow<'_>) {
    let worker = connection.worker;
    let ending = Ending {
        version: Version::Http11,
        keep_alive: false,
        date: worker.date(),
    };
    let mut answer = Vec::new();
    tls_hint(&worker.next_request_id()).write(ending, &mut answer);
    if connection.streams.client.send(&answer).is_ok() {
        linger(connection, Linger::SHORT).await;
    }
}

/// Sends a fatal alert, and gives the client a moment to read it.
pub(crate) async fn refuse(connection: &ClientFlow<'_>, alert: &[u8]) {
    if connection.streams.client.send(alert).is_ok() {
        linger(connection, Linger::SHORT).await;
    }
}
