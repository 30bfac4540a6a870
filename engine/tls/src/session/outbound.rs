//! Ciphertext on its way to the wire.

use std::{fmt, io};

use rustls::unbuffered::{EncodeError, EncodeTlsData};

use super::QUEUED_BYTES_MAX;
use crate::{failure::SessionError, wire::Wire};

/// What the wire had no room for yet. Empty, and without an allocation, most of the time.
#[derive(Default)]
pub(super) struct Outbound {
    queued: Vec<u8>,
    sent: usize,
    closed: bool,
}

impl Outbound {
    /// Queues a message of the protocol's own.
    pub(super) fn encode<D>(
        &mut self,
        data: &mut EncodeTlsData<'_, D>,
    ) -> Result<(), SessionError> {
        // Asked with no room, rustls says how much it needs.
        let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) else {
            return Err(SessionError::NotOpen);
        };
        let at = self.queued.len();
        self.queued.resize(at + size.required_size, 0);
        match data.encode(&mut self.queued[at..]) {
            Ok(_) => Ok(()),
            Err(_) => Err(SessionError::NotOpen),
        }
    }

    /// Queues ciphertext behind what is queued.
    pub(super) fn queue(&mut self, bytes: &[u8]) {
        self.queued.extend_from_slice(bytes);
    }

    /// Hands what is queued to the wire, until the wire says that it has no room.
    pub(super) fn flush(&mut self, wire: &mut impl Wire) -> Result<(), SessionError> {
        if self.queued.is_empty() {
            return Ok(());
        }
        self.sent += write(wire, &self.queued[self.sent..])?;
        if self.sent < self.queued.len() {
            return Err(SessionError::WouldBlock);
        }
        (self.queued, self.sent) = (Vec::new(), 0);
        Ok(())
    }

    /// Hands `bytes` to the wire and queues the rest. Nothing may be queued before.
    pub(super) fn flush_or_queue(
        &mut self,
        wire: &mut impl Wire,
        bytes: &[u8],
    ) -> Result<(), SessionError> {
        debug_assert!(
            self.queued.is_empty(),
            "ciphertext must not overtake ciphertext"
        );
        let count = write(wire, bytes)?;
        if count < bytes.len() {
            self.queued = bytes[count..].to_vec();
        }
        Ok(())
    }

    pub(super) fn wants_write(&self) -> bool {
        !self.queued.is_empty()
    }

    /// Whether as much is queued as may be.
    pub(super) fn is_full(&self) -> bool {
        self.bytes() >= QUEUED_BYTES_MAX
    }

    /// How many bytes are queued.
    pub(super) fn bytes(&self) -> usize {
        self.queued.len() - self.sent
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Answers whether it was open until now.
    pub(super) fn close(&mut self) -> bool {
        !std::mem::replace(&mut self.closed, true)
    }
}

/// Writes until the wire has no more room, because a socket that is watched for edges becomes
/// writable only after it has said that it is not (epoll(7)).
fn write(wire: &mut impl Wire, bytes: &[u8]) -> Result<usize, SessionError> {
    let mut count = 0;
    while count < bytes.len() {
        match wire.send(&bytes[count..]) {
            Ok(0) => return Err(SessionError::Wire(io::ErrorKind::WriteZero.into())),
            Ok(sent) => count += sent,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(SessionError::Wire(error)),
        }
    }
    Ok(count)
}

impl fmt::Debug for Outbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outbound")
            .field("queued", &self.bytes())
            .field("closed", &self.closed)
            .finish()
    }
}
