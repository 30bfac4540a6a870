//! What a client sent before it was known where that leads.

use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use engine_core::outcome::Outcome;

use crate::transport::{read_ahead::ReadAhead, streams::ClientFlow, unsent::Unsent};

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

    /// All bytes so far, those of a PROXY protocol header among them.
    pub(crate) fn all(&self) -> &[u8] {
        &self.bytes
    }

    /// The protocol begins there, behind a PROXY protocol header of that length.
    pub(crate) fn begin_at(&mut self, start: usize) {
        self.start = start;
    }

    /// What the upstream is to receive first.
    pub(crate) fn into_first(self) -> Unsent {
        Unsent::new(self.bytes, self.start)
    }

    /// What the gateway itself is to read first.
    pub(crate) fn into_ahead(self) -> ReadAhead {
        ReadAhead::new(self.bytes, self.start)
    }

    /// Receives at least one more byte, at most the longest hello in all and a little behind it.
    pub(crate) async fn receive(&mut self, client: &ClientFlow<'_>) -> Result<(), Silence> {
        let stream = &client.streams.client;
        let bytes_max = client.worker.shared.limits.hello_bytes_max;
        let room = (bytes_max + BEHIND_HELLO_BYTES).saturating_sub(self.protocol().len());
        loop {
            let received = client.worker.scratch.with(room, |scratch| {
                let count = stream.recv(scratch)?;
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
            stream
                .readable_until(deadline)
                .await
                .map_err(|_| Silence::Timeout)?;
        }
    }
}
