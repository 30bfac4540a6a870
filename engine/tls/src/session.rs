//! One TLS connection, from hello to close_notify, over a [`Wire`].
//!
//! rustls' unbuffered interface is driven instead of its buffered one: that one keeps 4 KiB for
//! each connection at rest and reads the socket 4 KiB at a time, while here the ciphertext lies in
//! the worker's [`Scratch`] and a session at rest is its keys.

mod outbound;
mod records;
mod side;
#[cfg(test)]
mod tests;

use std::{fmt, sync::Arc};

use rustls::{
    ClientConfig, HandshakeKind, ProtocolVersion, ServerConfig,
    client::UnbufferedClientConnection,
    pki_types::{CertificateDer, ServerName},
    server::UnbufferedServerConnection,
    unbuffered::ConnectionState,
};

pub use crate::limits::{
    HANDSHAKE_BYTES_MAX, QUEUED_BYTES_MAX, RECORD_BYTES_MAX, RECORD_WIRE_BYTES_MAX, SEND_BYTES_MAX,
};
use crate::{failure::SessionError, policy::MinVersion, scratch::Scratch, wire::Wire};
use outbound::Outbound;
use side::Side;

/// Most reads in a row, all ending in whole records, that give no plaintext: an honest peer has no
/// use for more than one or two (session tickets, a key update), while empty records cost their
/// sender less than us.
const FRUITLESS_READS_MAX: u8 = 16;

/// The gateway's side of a client's connection.
pub type ServerSession = Session<UnbufferedServerConnection>;
/// The gateway's side of a connection to an origin.
pub type ClientSession = Session<UnbufferedClientConnection>;

/// One TLS connection.
///
/// No call waits. [`SessionError::WouldBlock`] says that the wire was not ready: wait until it is
/// readable, and also until it is writable if [`Session::wants_write`], and call again. After any
/// other error but [`SessionError::NotOpen`] the session is over: [`Session::flush`] what is left
/// of the alert, and drop it.
pub struct Session<S> {
    side: Box<S>,
    /// Ciphertext that is not a whole record yet, or was more than the reader had room for.
    held: Box<[u8]>,
    /// Plaintext that the reader had no room for, and how much of it was read since.
    plain: Box<[u8]>,
    plain_at: u32,
    /// Bytes that the peer sent so far, as long as the handshake lasts.
    handshake_bytes: u32,
    /// When the full handshake was that a resumed session goes back to: see [`crate::tickets`].
    begun: u32,
    inbound: Inbound,
    /// What is held was gone through, and the wire had no more.
    starved: bool,
    /// What went wrong behind plaintext that was still to be read.
    failure: Option<Box<SessionError>>,
    outbound: Outbound,
}

/// How far the peer's half of the stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inbound {
    Open,
    /// close_notify came: the end that its sender meant.
    Closed,
    /// An error ended it.
    Failed,
}

/// What the two sides agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed<'a> {
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
    /// The cipher suite by its IANA name.
    pub cipher: &'static str,
    /// The key exchange's group by its IANA name; none when TLS 1.2 resumed a session.
    pub group: Option<&'static str>,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// The application protocol (RFC 7301); none when the client offered none.
    pub protocol: Option<&'a [u8]>,
}

impl Agreed<'_> {
    /// The strictest minimum that the version meets.
    pub fn as_minimum(&self) -> MinVersion {
        match self.version {
            "TLSv1.3" => MinVersion::Tls13,
            _ => MinVersion::Tls12,
        }
    }
}

impl ServerSession {
    /// A session that has `received` from the client already: its hello, read to choose `config`.
    ///
    /// # Errors
    /// [`SessionError::Protocol`] when the configuration cannot work, and
    /// [`SessionError::HandshakeTooLong`].
    pub fn accept(config: Arc<ServerConfig>, received: &[u8]) -> Result<Self, SessionError> {
        let connection = UnbufferedServerConnection::new(config).map_err(SessionError::Protocol)?;
        let mut session = Self::over(connection);
        session.count(received.len())?;
        session.held = received.into();
        Ok(session)
    }
}

impl ClientSession {
    /// A session that will say its hello to `name` in the first [`Session::handshake`].
    ///
    /// # Errors
    /// [`SessionError::Protocol`] when the configuration cannot work.
    pub fn connect(
        config: Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<Self, SessionError> {
        UnbufferedClientConnection::new(config, name)
            .map(Self::over)
            .map_err(SessionError::Protocol)
    }
}

impl<S: Side> Session<S> {
    fn over(side: S) -> Self {
        Self {
            side: Box::new(side),
            held: Box::default(),
            plain: Box::default(),
            plain_at: 0,
            handshake_bytes: 0,
            begun: 0,
            inbound: Inbound::Open,
            starved: false,
            failure: None,
            outbound: Outbound::default(),
        }
    }

    /// Takes the handshake as far as the wire allows; `Ok` once it is done and said.
    ///
    /// # Errors
    /// [`SessionError::WouldBlock`] until it is done.
    pub fn handshake(
        &mut self,
        wire: &mut impl Wire,
        scratch: &mut Scratch,
    ) -> Result<(), SessionError> {
        loop {
            let result = self.take_in(scratch, 0, &mut []);
            // The flight, or the alert that says what was wrong with the peer's.
            let flushed = self.outbound.flush(wire);
            result?;
            if !self.is_handshaking() {
                return flushed;
            }
            flushed?;
            // What comes behind the handshake may be any amount: it is not read with it.
            let left = HANDSHAKE_BYTES_MAX.saturating_sub(self.handshake_bytes as usize);
            let room = left.min(scratch.inbound.len() - self.held.len());
            if room == 0 {
                return Err(self.fail(SessionError::HandshakeTooLong));
            }
            let count = self.read(wire, scratch, room)?;
            let result = self.take_in(scratch, count, &mut []);
            if result.is_err() {
                // The error says more than a failure to say it would.
                let _ = self.outbound.flush(wire);
            }
            result?;
        }
    }

    /// Reads plaintext into `into`. Zero, if `into` has room, means that the peer ended the stream
    /// with close_notify; an end without it is [`SessionError::Truncated`].
    ///
    /// The wire is read until it has no more or some plaintext is there, each time no more of it
    /// than about `into` has room for: what a slow reader does not ask for stays in the socket.
    /// Whole records may remain here, so call until it would block before waiting for the wire.
    ///
    /// # Errors
    /// [`SessionError::WouldBlock`] when no whole record is there.
    pub fn recv(
        &mut self,
        wire: &mut impl Wire,
        scratch: &mut Scratch,
        into: &mut [u8],
    ) -> Result<usize, SessionError> {
        if self.is_handshaking() {
            return Err(SessionError::NotOpen);
        }
        let count = self.take_plain(into);
        if count > 0 || into.is_empty() {
            return Ok(count);
        }
        let result = self.recv_records(wire, scratch, into);
        if self.outbound.wants_write() {
            // An alert, or the answer to a key update. The result counts for more than this one's:
            // a wire that fails here fails for the next write, too.
            let _ = self.outbound.flush(wire);
        }
        result
    }

    fn recv_records(
        &mut self,
        wire: &mut impl Wire,
        scratch: &mut Scratch,
        into: &mut [u8],
    ) -> Result<usize, SessionError> {
        let mut count = 0;
        if !self.held.is_empty() {
            count = self.take_in(scratch, 0, into)?;
        }
        // Headers and tags on top, so that plaintext of the reader's size comes in one read.
        let records = into.len().div_ceil(RECORD_BYTES_MAX);
        let wanted = into
            .len()
            .saturating_add(records.saturating_mul(64))
            .max(512);
        let mut reads = 0;
        while count == 0 {
            match self.inbound {
                Inbound::Open => {}
                Inbound::Closed => return Ok(0),
                Inbound::Failed => {
                    let failure = self.failure.take();
                    return Err(failure.map_or(SessionError::NotOpen, |failure| *failure));
                }
            }
            if self.is_full() {
                return Err(SessionError::WouldBlock);
            }
            let before = self.held.len();
            let room = scratch.inbound.len() - before;
            if room == 0 || reads == FRUITLESS_READS_MAX {
                return Err(self.fail(SessionError::Flood));
            }
            let received = self.read(wire, scratch, wanted.min(room))?;
            count = self.take_in(scratch, received, into)?;
            // The piece of a record is progress; whole records without plaintext are not.
            reads += u8::from(self.held.len() < before + received);
        }
        Ok(count)
    }

    /// Encrypts as much of `from` as one call takes ([`SEND_BYTES_MAX`]) and hands it to the wire.
    ///
    /// What the wire has no room for is queued, [`Session::wants_write`] tells it, and nothing more
    /// is taken before it has gone.
    ///
    /// # Errors
    /// [`SessionError::WouldBlock`] when nothing was taken because earlier bytes are still queued.
    pub fn send(
        &mut self,
        wire: &mut impl Wire,
        scratch: &mut Scratch,
        from: &[u8],
    ) -> Result<usize, SessionError> {
        if self.is_handshaking() || self.outbound.is_closed() {
            return Err(SessionError::NotOpen);
        }
        self.outbound.flush(wire)?;
        let part = &from[..from.len().min(SEND_BYTES_MAX)];
        if part.is_empty() {
            return Ok(0);
        }
        let bytes = self.encrypt(part, scratch)?;
        self.outbound
            .flush_or_queue(wire, &scratch.outbound[..bytes])?;
        Ok(part.len())
    }

    /// Says close_notify: nothing more is sent, though the peer may go on sending. A session whose
    /// handshake is not done has nothing to say.
    ///
    /// # Errors
    /// [`SessionError::WouldBlock`] until it has left: [`Session::flush`] then.
    pub fn close(
        &mut self,
        wire: &mut impl Wire,
        scratch: &mut Scratch,
    ) -> Result<(), SessionError> {
        if self.inbound != Inbound::Failed && !self.is_handshaking() && self.outbound.close() {
            self.take_in(scratch, 0, &mut [])?;
            let state = self.side.process(&mut self.held).state;
            if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state
                && let Ok(bytes) = traffic.queue_close_notify(&mut scratch.outbound)
            {
                self.outbound.queue(&scratch.outbound[..bytes]);
            }
        }
        self.outbound.flush(wire)
    }

    /// Hands queued ciphertext to the wire.
    ///
    /// # Errors
    /// [`SessionError::WouldBlock`] while some of it is still here.
    pub fn flush(&mut self, wire: &mut impl Wire) -> Result<(), SessionError> {
        self.outbound.flush(wire)
    }

    /// Whether ciphertext is queued that the wire had no room for.
    pub fn wants_write(&self) -> bool {
        self.outbound.wants_write()
    }

    /// Whether [`Session::recv`] has something to do without the wire becoming readable: plaintext
    /// to hand over, a whole record to open, or an end to tell of.
    pub fn has_received(&self) -> bool {
        let ready = !self.starved && holds_record(&self.held);
        !self.plain.is_empty() || ready || self.inbound != Inbound::Open
    }

    /// Whether a record has begun to arrive and has not ended: nobody can say yet what is in it.
    pub fn has_begun_record(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether so much is queued that [`Session::recv`] reads nothing before some of it has left:
    /// whoever makes us answer without reading the answers waits.
    pub fn is_full(&self) -> bool {
        self.outbound.is_full()
    }

    /// Whether the handshake is still to be done.
    pub fn is_handshaking(&self) -> bool {
        self.side.shared().is_handshaking()
    }

    /// What was agreed on; none before the handshake is done.
    pub fn agreed(&self) -> Option<Agreed<'_>> {
        let state = self.side.shared();
        if state.is_handshaking() {
            return None;
        }
        Some(Agreed {
            version: if state.protocol_version()? == ProtocolVersion::TLSv1_3 {
                "TLSv1.3"
            } else {
                "TLSv1.2"
            },
            cipher: state.negotiated_cipher_suite()?.suite().as_str()?,
            group: state
                .negotiated_key_exchange_group()
                .and_then(|group| group.name().as_str()),
            resumed: state.handshake_kind() == Some(HandshakeKind::Resumed),
            protocol: state.alpn_protocol(),
        })
    }

    /// The peer's certificate, which was verified; none when it sent none.
    pub fn peer(&self) -> Option<&CertificateDer<'static>> {
        self.side.shared().peer_certificates()?.first()
    }
}

/// Whether `held` begins with a whole record (RFC 8446 section 5.1).
fn holds_record(held: &[u8]) -> bool {
    let [_, _, _, high, low, payload @ ..] = held else {
        return false;
    };
    payload.len() >= usize::from(u16::from_be_bytes([*high, *low]))
}

impl<S: Side> fmt::Debug for Session<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("handshaking", &self.is_handshaking())
            .field("inbound", &self.inbound)
            .field("held", &self.held.len())
            .field("outbound", &self.outbound)
            .finish_non_exhaustive()
    }
}
