//! What comes before the protocol: the bytes received so far, and the PROXY protocol header that
//! a trusted source puts in front of them.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use engine_core::{
    outcome::Outcome,
    proxy_protocol::{self, Reading},
};

use crate::{
    config::{Listener, Protocol},
    http::ahead::Ahead,
    record::Trace,
    relay::held::Held,
    streams::ClientFlow,
};

/// Bytes that a client may have sent behind a whole hello and that are taken with it: one more
/// full-sized segment of a jumbo frame. The rest waits in the socket.
const BEHIND_HELLO_BYTES: usize = 9 << 10;

/// Who talks to whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Endpoints {
    /// The client: as the PROXY protocol header says, or the socket's peer.
    pub(crate) client: SocketAddr,
    /// The address that the client dialed, when a PROXY protocol header says.
    pub(crate) dialed: Option<SocketAddr>,
}

/// What was received before the relay: consumed from the socket, so that a hello that arrives in
/// pieces does not keep the socket readable, and replayed to the upstream.
#[derive(Debug)]
pub(crate) struct Received {
    bytes: Vec<u8>,
    /// Where the protocol begins: behind the PROXY protocol header.
    start: usize,
    timeout: Duration,
    /// Set when there is something to wait for.
    deadline: Option<Instant>,
}

/// Why nothing more was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// The deadline passed.
    Timeout,
    /// The client ended its stream.
    Eof,
    /// The client reset the connection.
    Reset,
}

impl Silence {
    /// The outcome of a connection that ends over it before its hello is whole.
    pub(crate) fn before_hello(self) -> Outcome {
        match self {
            Self::Timeout => Outcome::HelloTimeout,
            Self::Eof => Outcome::HelloEof,
            Self::Reset => Outcome::ClientReset,
        }
    }
}

impl Received {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self {
            bytes: Vec::new(),
            start: 0,
            timeout,
            deadline: None,
        }
    }

    /// The bytes of the protocol so far.
    pub(crate) fn protocol(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    /// What the upstream is to receive first.
    pub(crate) fn into_first(self) -> Held {
        Held::new(self.bytes, self.start)
    }

    /// What the gateway itself is to read first.
    pub(crate) fn into_ahead(self) -> Ahead {
        Ahead::new(self.bytes, self.start)
    }

    /// Receives at least one more byte, at most the longest hello in all and a little behind it.
    pub(crate) async fn receive(&mut self, connection: &ClientFlow<'_>) -> Result<(), Silence> {
        let client = &connection.streams.client;
        let bytes_max = connection.worker.shared.limits.hello_bytes_max;
        let room = (bytes_max + BEHIND_HELLO_BYTES).saturating_sub(self.protocol().len());
        loop {
            let received = connection.worker.scratch.with(room, |scratch| {
                let count = client.recv(scratch)?;
                self.bytes.reserve_exact(count);
                self.bytes.extend_from_slice(&scratch[..count]);
                io::Result::Ok(count)
            });
            match received {
                Ok(0) => return Err(Silence::Eof),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(Silence::Reset),
            }
            let timeout = self.timeout;
            let deadline = *self
                .deadline
                .get_or_insert_with(|| Instant::now() + timeout);
            client
                .readable_until(deadline)
                .await
                .map_err(|_| Silence::Timeout)?;
        }
    }
}

/// Reads the PROXY protocol header of a source that must send one, and refuses one from any other.
///
/// # Errors
/// [`Outcome::BadProxyHeader`], [`Outcome::UntrustedProxyHeader`], or the client's silence.
pub(crate) async fn read_preface(
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
        match proxy_protocol::read(&received.bytes) {
            Reading::Header(header) => {
                received.start = header.len;
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
        match proxy_protocol::read(&received.bytes) {
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
