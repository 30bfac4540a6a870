//! Reads the ClientHello.

use std::{
    io,
    time::{Duration, Instant},
};

use engine_core::{
    classify::{Hello, HelloReader, Verdict, alert_for},
    outcome::Outcome,
    proxy_protocol::{self, Reading},
};

use crate::{
    config::Protocol,
    connection::Connection,
    preface::{Received, Silence},
    record::Trace,
    rt::until,
};

/// How long a client may take to read the alert and go.
const FAREWELL: Duration = Duration::from_millis(500);

/// Most bytes that are read and thrown away meanwhile.
const FAREWELL_BYTES_MAX: usize = 64 << 10;

/// Reads the hello of a TLS connection; a raw connection has none.
///
/// # Errors
/// What kept it from being whole and good.
pub(crate) async fn classify(
    connection: &Connection<'_>,
    received: &mut Received,
    trace: &mut Trace,
) -> Result<Option<Hello>, Outcome> {
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
            Verdict::Hello(hello) => {
                trace.learn(&hello);
                return Ok(Some(hello));
            }
            Verdict::NotTls => return Err(not_tls(received.protocol())),
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

/// Sends a fatal alert, and says farewell.
pub(crate) async fn refuse(connection: &Connection<'_>, alert: &[u8]) {
    if connection.ends.client.send(alert).is_ok() {
        farewell(connection).await;
    }
}

/// Ends the stream to a client, and waits a moment for it to take what was sent last: closing at
/// once with unread bytes would reset the connection, and that with it.
pub(crate) async fn farewell(connection: &Connection<'_>) {
    let client = &connection.ends.client;
    let deadline = Instant::now() + FAREWELL;
    if !matches!(until(deadline, client.end()).await, Ok(Ok(()))) {
        return;
    }
    let mut thrown_away = 0;
    while thrown_away < FAREWELL_BYTES_MAX {
        let rest = |scratch: &mut [u8]| client.recv(scratch);
        match connection.worker.scratch.with(FAREWELL_BYTES_MAX, rest) {
            Ok(0) => return,
            Ok(count) => thrown_away += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if client.readable_until(deadline).await.is_err() {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}
