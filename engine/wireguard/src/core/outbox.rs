//! Where a device puts the datagrams that it has to send: memory, and nothing but memory.

use std::num::NonZeroU16;

use super::path::Path;

/// The longest message: a packet of 65,535 bytes in a data message, with room for padding.
pub(crate) const MESSAGE_BYTES_MAX: usize = 65_535 + 16 + 32;
/// The most that one UDP datagram, and a run of them in one call, carries over IPv4 (RFC 768).
pub(crate) const RUN_BYTES_MAX: usize = 65_507;
/// The most datagrams in a run: what the kernel cuts in one call (`UDP_MAX_SEGMENTS`).
pub(crate) const RUN_DATAGRAMS_MAX: usize = 64;
/// Enough for several runs, so that a batch is sealed before it is sent; small enough to stay in a
/// core's cache.
const OUTBOX_BYTES: usize = 4 * MESSAGE_BYTES_MAX;
/// A bound on the list of runs, for when every datagram goes somewhere else.
const RUNS_MAX: usize = 256;

/// Datagrams to send, in order. Those that follow each other to one peer in one traffic class and have
/// one length form a run, which the kernel can take in one call and cut.
#[derive(Debug)]
pub(crate) struct Outbox {
    bytes: Box<[u8]>,
    used: usize,
    runs: Vec<Run>,
}

/// Datagrams of one length in a row, of which the last may be shorter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    start: usize,
    len: usize,
    segment: usize,
    count: usize,
    /// Where they go.
    pub(crate) path: Path,
    /// The slot of the peer that they are counted for; cookies are for none.
    pub(crate) peer: Option<usize>,
    /// Their traffic class: DSCP and ECN.
    pub(crate) class: u8,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            bytes: vec![0; OUTBOX_BYTES].into_boxed_slice(),
            used: 0,
            runs: Vec::with_capacity(RUNS_MAX),
        }
    }
}

impl Outbox {
    /// Room for one message of any length, unless the outbox has to be emptied first.
    pub(crate) fn room(&mut self) -> Option<&mut [u8]> {
        if self.runs.len() == RUNS_MAX {
            return None;
        }
        let room = self.bytes.get_mut(self.used..)?;
        (room.len() >= MESSAGE_BYTES_MAX).then_some(room)
    }

    /// Whether [`Outbox::room`] has room.
    pub(crate) fn has_room(&mut self) -> bool {
        self.room().is_some()
    }

    /// Takes the first `len` bytes of the room as a datagram.
    pub(crate) fn push(&mut self, len: usize, path: Path, peer: Option<usize>, class: u8) {
        let start = self.used;
        self.used += len;
        if let Some(last) = self
            .runs
            .last_mut()
            .filter(|run| run.takes(len, path, peer, class))
        {
            last.len += len;
            last.count += 1;
            return;
        }
        self.runs.push(Run {
            start,
            len,
            segment: len,
            count: 1,
            path,
            peer,
            class,
        });
    }

    /// What there is to send.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (Run, &[u8])> {
        let bytes = |run: &Run| &self.bytes[run.start..run.start + run.len];
        self.runs.iter().map(move |run| (*run, bytes(run)))
    }

    /// Forgets everything: it was sent, or will not be.
    pub(crate) fn clear(&mut self) {
        self.used = 0;
        self.runs.clear();
    }
}

impl Run {
    /// The length of all but the last datagram, when there are several.
    pub(crate) fn segment(&self) -> Option<NonZeroU16> {
        let segment = u16::try_from(self.segment).ok().and_then(NonZeroU16::new);
        segment.filter(|_| self.count > 1)
    }

    fn takes(&self, len: usize, path: Path, peer: Option<usize>, class: u8) -> bool {
        // A shorter one ends a run, which shows in the sum.
        let open = self.len == self.segment * self.count && len <= self.segment;
        let fits = self.count < RUN_DATAGRAMS_MAX && self.len + len <= RUN_BYTES_MAX;
        open && fits && self.path == path && self.peer == peer && self.class == class
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Path {
        Path::to(([127, 0, 0, 1], port).into())
    }

    /// The lengths of the runs and of their datagrams.
    fn runs(pushed: &[(usize, u16)]) -> Vec<(usize, Option<u16>)> {
        let mut outbox = Outbox::default();
        for (len, port) in pushed {
            outbox.push(*len, address(*port), Some(1), 0);
        }
        let segment = |run: &Run| run.segment().map(NonZeroU16::get);
        let listed = outbox
            .runs()
            .map(|(run, bytes)| (bytes.len(), segment(&run)));
        listed.collect()
    }

    #[test]
    fn datagrams_of_one_length_to_one_place_form_a_run_that_a_shorter_one_ends() {
        let pushed = [(100, 1), (100, 1), (40, 1), (40, 1), (100, 1)];
        let expected = [(240, Some(100)), (40, None), (100, None)];
        assert_eq!(runs(&pushed), expected);
    }

    #[test]
    fn other_places_other_peers_and_other_classes_are_other_runs() {
        assert_eq!(runs(&[(100, 1), (100, 2)]), [(100, None), (100, None)]);
        let mut outbox = Outbox::default();
        outbox.push(64, address(1), None, 0);
        outbox.push(64, address(1), Some(1), 0);
        outbox.push(64, address(1), Some(1), 2);
        assert_eq!(outbox.runs().count(), 3);
    }

    #[test]
    fn a_run_is_no_longer_than_the_kernel_takes() {
        let many: Vec<(usize, u16)> = vec![(32, 1); 65];
        assert_eq!(runs(&many), [(64 * 32, Some(32)), (32, None)]);
        let long: Vec<(usize, u16)> = vec![(30_000, 1); 3];
        assert_eq!(runs(&long), [(60_000, Some(30_000)), (30_000, None)]);
    }

    #[test]
    fn a_full_outbox_has_no_room_until_it_is_emptied() {
        let mut outbox = Outbox::default();
        let mut pushed = 0;
        while outbox.has_room() {
            outbox.push(MESSAGE_BYTES_MAX, address(1), None, 0);
            pushed += 1;
        }
        assert_eq!(pushed, OUTBOX_BYTES / MESSAGE_BYTES_MAX);
        outbox.clear();
        while outbox.has_room() {
            outbox.push(0, address(1), None, 0);
            outbox.push(1, address(1), None, 0);
        }
        assert!(outbox.runs().count() <= RUNS_MAX);
    }
}
