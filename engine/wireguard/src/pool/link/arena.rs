//! Where datagrams are opened, and wait until they go to the tenant together.

use super::border::{Border, Lost};
use crate::{
    core::receive::PLAIN_BYTES_MIN,
    superpacket::{Merge, Super},
};

/// Enough for several super-packets to be open at once, little enough to stay in a core's cache.
const ARENA_BYTES: usize = 256 << 10;

/// Memory for opened packets, and the flows among them.
#[derive(Debug)]
pub(super) struct Arena {
    bytes: Box<[u8]>,
    used: usize,
    merge: Merge,
}

impl Default for Arena {
    fn default() -> Self {
        Self {
            bytes: vec![0; ARENA_BYTES].into_boxed_slice(),
            used: 0,
            merge: Merge::default(),
        }
    }
}

impl Arena {
    /// Room to open a datagram of `len` bytes in.
    pub(super) fn room(
        &mut self,
        len: usize,
        border: &mut Border,
        outcome: &mut Result<(), Lost>,
    ) -> &mut [u8] {
        if self.bytes.len() - self.used < len.max(PLAIN_BYTES_MIN) {
            self.empty(border, outcome);
        }
        &mut self.bytes[self.used..]
    }

    /// Takes the first `len` bytes of the room as a packet, which the tenant gets before the next
    /// [`Arena::empty`] has returned.
    pub(super) fn add(&mut self, len: usize, border: &mut Border, outcome: &mut Result<(), Lost>) {
        let range = self.used..self.used + len;
        let Some(kinds) = border.kinds() else {
            let packet = self.bytes.get(range).unwrap_or(&[]);
            note(border.put_alone(packet), outcome);
            return;
        };
        // Each packet begins in a cache line of its own.
        self.used = range.end.next_multiple_of(64).min(self.bytes.len());
        let mut put = |packets: &Super<'_>| note(border.put(packets), outcome);
        self.merge.add(kinds, &self.bytes, range, &mut put);
        if self.merge.is_empty() {
            self.used = 0;
        }
    }

    /// Gives the tenant everything that waits.
    pub(super) fn empty(&mut self, border: &mut Border, outcome: &mut Result<(), Lost>) {
        let mut put = |packets: &Super<'_>| note(border.put(packets), outcome);
        self.merge.close(&self.bytes, &mut put);
        self.used = 0;
    }
}

fn note(put: Result<(), Lost>, outcome: &mut Result<(), Lost>) {
    if put.is_err() {
        *outcome = put;
    }
}
