//! Records in both directions: what the wire gives becomes plaintext, and the other way round.

use std::io;

use rustls::{
    HandshakeKind,
    unbuffered::{ConnectionState, UnbufferedStatus},
};

use super::{HANDSHAKE_BYTES_MAX, Inbound, Session, side::Side};
use crate::{failure::SessionError, scratch::Scratch, tickets, wire::Wire};

/// What one state of rustls' machine came to.
struct Step {
    consumed: usize,
    delivered: usize,
    /// Nothing more to be had of these bytes.
    rest: bool,
}

impl<S: Side> Session<S> {
    /// Reads the wire once behind what is held, which moves to the front of the scratch buffer.
    pub(super) fn read(
        &mut self,
        wire: &mut impl Wire,
        scratch: &mut Scratch,
        room: usize,
    ) -> Result<usize, SessionError> {
        let held = self.held.len();
        let received = loop {
            match wire.recv(&mut scratch.inbound[held..held + room]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                received => break received,
            }
        };
        match received {
            Ok(0) if self.is_handshaking() => Err(self.fail(SessionError::HandshakeEof)),
            Ok(0) => Err(self.fail(SessionError::Truncated)),
            Ok(count) => {
                if self.is_handshaking() {
                    self.count(count)?;
                }
                self.starved = false;
                Ok(count)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.starved = true;
                Err(SessionError::WouldBlock)
            }
            Err(error) => Err(self.fail(SessionError::Wire(error))),
        }
    }

    pub(super) fn count(&mut self, bytes: usize) -> Result<(), SessionError> {
        let total = (self.handshake_bytes as usize).saturating_add(bytes);
        match u32::try_from(total) {
            Ok(total) if total as usize <= HANDSHAKE_BYTES_MAX => self.handshake_bytes = total,
            _ => return Err(self.fail(SessionError::HandshakeTooLong)),
        }
        Ok(())
    }

    pub(super) fn fail(&mut self, error: SessionError) -> SessionError {
        self.inbound = Inbound::Failed;
        error
    }

    /// Processes what is held and the `received` bytes behind it. Answers how much plaintext went
    /// `into`; what did not fit is kept. An error behind some plaintext is kept for the next call.
    pub(super) fn take_in(
        &mut self,
        scratch: &mut Scratch,
        received: usize,
        into: &mut [u8],
    ) -> Result<usize, SessionError> {
        let held = self.held.len();
        let end = held + received;
        scratch.inbound[..held].copy_from_slice(&self.held);
        let (mut at, mut count) = (0, 0);
        let result = loop {
            let step = self.step(&mut scratch.inbound[at..end], &mut into[count..]);
            let step = match step {
                Ok(step) => step,
                Err(error) => break Err(error),
            };
            at += step.consumed;
            count += step.delivered;
            let full = step.delivered > 0 && (count == into.len() || !self.plain.is_empty());
            if step.rest || full {
                break Ok(count);
            }
        };
        if let Err(error) = result {
            self.held = Box::default();
            // Encodes the alert; the error itself counts for more than a failure to say it.
            let _ = self.say();
            let error = self.fail(error);
            if count == 0 {
                return Err(error);
            }
            // What came before was good, and is the reader's.
            self.failure = Some(Box::new(error));
            return Ok(count);
        }
        self.held = scratch.inbound[at..end].into();
        result
    }

    /// One state of the unbuffered machine.
    fn step(&mut self, incoming: &mut [u8], into: &mut [u8]) -> Result<Step, SessionError> {
        let UnbufferedStatus { mut discard, state } = if self.is_handshaking() {
            if self.side.shared().handshake_kind() == Some(HandshakeKind::Full) {
                // A ticket that was opened was of no use.
                self.begun = 0;
            }
            tickets::enter(self.begun);
            let status = self.side.process(incoming);
            self.begun = tickets::leave();
            status
        } else {
            self.side.process(incoming)
        };
        let (mut delivered, mut rest) = (0, false);
        match state.map_err(SessionError::Protocol)? {
            ConnectionState::ReadTraffic(mut traffic) => {
                while let Some(record) = traffic.next_record() {
                    let record = record.map_err(SessionError::Protocol)?;
                    discard += record.discard;
                    let fits = record.payload.len().min(into.len() - delivered);
                    into[delivered..delivered + fits].copy_from_slice(&record.payload[..fits]);
                    delivered += fits;
                    if fits < record.payload.len() {
                        let unread = &self.plain[self.plain_at as usize..];
                        self.plain = [unread, &record.payload[fits..]].concat().into();
                        self.plain_at = 0;
                    }
                }
            }
            ConnectionState::EncodeTlsData(mut data) => self.outbound.encode(&mut data)?,
            // The queue owns the bytes now: as far as rustls is concerned they have left.
            ConnectionState::TransmitTlsData(data) => data.done(),
            ConnectionState::PeerClosed => self.inbound = Inbound::Closed,
            ConnectionState::BlockedHandshake
            | ConnectionState::WriteTraffic(_)
            | ConnectionState::Closed => rest = true,
            // Early data is off.
            ConnectionState::ReadEarlyData(_) => return Err(SessionError::NotOpen),
            // rustls has no other states today.
            _ => return Err(SessionError::NotOpen),
        }
        Ok(Step {
            consumed: discard,
            delivered,
            rest,
        })
    }

    /// Queues what rustls has to say, be it an alert.
    fn say(&mut self) -> Result<(), SessionError> {
        while self.side.shared().wants_write() {
            let UnbufferedStatus { state, .. } = self.side.process(&mut []);
            let Ok(ConnectionState::EncodeTlsData(mut data)) = state else {
                break;
            };
            self.outbound.encode(&mut data)?;
        }
        Ok(())
    }

    /// Encrypts `part` to the front of the scratch buffer and answers its length there.
    pub(super) fn encrypt(
        &mut self,
        part: &[u8],
        scratch: &mut Scratch,
    ) -> Result<usize, SessionError> {
        // rustls lets nobody write before it has been through what it was given: whole records that
        // were not asked for yet become plaintext first.
        self.take_in(scratch, 0, &mut [])?;
        let state = self.side.process(&mut self.held).state;
        if let Ok(ConnectionState::WriteTraffic(mut traffic)) = state
            && let Ok(bytes) = traffic.encrypt(part, &mut scratch.outbound)
        {
            return Ok(bytes);
        }
        Err(self.fail(SessionError::NotOpen))
    }

    pub(super) fn take_plain(&mut self, into: &mut [u8]) -> usize {
        let unread = &self.plain[self.plain_at as usize..];
        let count = unread.len().min(into.len());
        into[..count].copy_from_slice(&unread[..count]);
        if count == unread.len() {
            (self.plain, self.plain_at) = (Box::default(), 0);
        } else {
            // A record's worth at most, which fits.
            self.plain_at += u32::try_from(count).unwrap_or(u32::MAX);
        }
        count
    }
}
