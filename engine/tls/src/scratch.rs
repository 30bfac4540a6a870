//! The buffers that all sessions of a worker share.

use std::fmt;

use crate::limits::{HANDSHAKE_BYTES_MAX, QUEUED_BYTES_MAX, RECORD_WIRE_BYTES_MAX};

/// Room for four full records, and for what the protocol itself may have to say before them.
const OUTBOUND_BYTES: usize = QUEUED_BYTES_MAX;
/// Room for a whole handshake message in its records, and for as many records as one read takes.
const INBOUND_BYTES: usize = HANDSHAKE_BYTES_MAX + RECORD_WIRE_BYTES_MAX;

/// One worker's buffers, lent to a session for the length of one call: about 150 KiB in all.
///
/// No call of a session waits, so one set is enough however many sessions a worker has, and a
/// session that is idle costs no buffer. What a call leaves over (the beginning of a record, or
/// ciphertext that the socket had no room for) moves into a buffer of its exact size that the
/// session keeps until it is used up.
pub struct Scratch {
    pub(crate) inbound: Box<[u8]>,
    pub(crate) outbound: Box<[u8]>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            inbound: vec![0; INBOUND_BYTES].into_boxed_slice(),
            outbound: vec![0; OUTBOUND_BYTES].into_boxed_slice(),
        }
    }
}

impl fmt::Debug for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The contents are other people's plaintext.
        f.debug_struct("Scratch").finish_non_exhaustive()
    }
}
