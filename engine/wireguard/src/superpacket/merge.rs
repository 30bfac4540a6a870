//! Packets into super-packets: those of a flow that follow each other wait, where they lie, until
//! one comes that does not continue them, or the batch ends.
//!
//! Only what is whole and right in every respect is put together, so that nobody behind has to check
//! it again and nothing wrong is hidden under a new checksum. Everything else goes alone and
//! unchanged, after what came before it.

use std::ops::Range;

use self::flow::Flow;
use super::{
    headers::{IPV6_BYTES, Layout},
    virtio::{Checksum, HEADER_BYTES, Header, Kind},
};

mod flow;

/// Flows that are open at once. One more closes the one that has been open for longest.
const FLOWS: usize = 16;
/// Packets in a super-packet at most (those of 1,420 bytes are 46, for it has at most 64 KiB).
pub(crate) const PACKETS_MAX: usize = 64;
/// The headers of one packet at most: those of IPv6, and 60 bytes of TCP.
const HEADERS_MAX: usize = 100;

/// Which kinds of super-packets the other side takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kinds {
    pub(crate) tcp: bool,
    pub(crate) udp: bool,
}

/// The flows that are open.
#[derive(Debug)]
pub(crate) struct Merge {
    /// The first `open` are, in the order in which they began.
    flows: Box<[Flow; FLOWS]>,
    order: [u8; FLOWS],
    open: usize,
}

/// A packet, or several under one header, for the tenant.
#[derive(Clone, Debug)]
pub(crate) struct Super<'a> {
    arena: &'a [u8],
    /// What the packets are in the arena, headers and all.
    packets: &'a [Range<usize>],
    /// The header before everything, and those that take the place of the packets' own.
    head: [u8; HEADER_BYTES + HEADERS_MAX],
    head_len: usize,
    /// How much of each packet they take the place of.
    headers_len: usize,
    kind: Kind,
}

impl Default for Merge {
    fn default() -> Self {
        let mut order = [0; FLOWS];
        for (at, slot) in (0..).zip(&mut order) {
            *slot = at;
        }
        Self {
            flows: Box::new([const { Flow::NONE }; FLOWS]),
            order,
            open: 0,
        }
    }
}

impl Merge {
    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.open == 0
    }

    /// Takes a packet, which lies in the arena at `range` and stays there until it was put out or
    /// [`Merge::close`] returned.
    pub(crate) fn add(
        &mut self,
        kinds: Kinds,
        arena: &[u8],
        range: Range<usize>,
        put: &mut impl FnMut(&Super<'_>),
    ) {
        let packet = arena.get(range.clone()).unwrap_or(&[]);
        let Some(layout) = Layout::read(packet) else {
            // Whose it is cannot be told, so it is after everything that came before.
            self.close(arena, put);
            put(&Super::alone(arena, &[range], Checksum::Complete));
            return;
        };
        let intact = layout.is_intact(packet);
        if let Some(at) = self.find(&layout, packet) {
            let flow = &mut self.flows[usize::from(self.order[at])];
            if intact && flow.continues_with(&layout, packet) {
                flow.push(&layout, packet, range);
                if flow.is_full() {
                    self.close_one(at, arena, put);
                }
                return;
            }
            self.close_one(at, arena, put);
        }
        if intact && Flow::may_begin(kinds, &layout, packet) {
            self.begin(&layout, packet, range, arena, put);
            return;
        }
        let checksum = if intact {
            Checksum::Checked
        } else {
            Checksum::Complete
        };
        put(&Super::alone(arena, &[range], checksum));
    }

    /// Puts out everything that waits.
    pub(crate) fn close(&mut self, arena: &[u8], put: &mut impl FnMut(&Super<'_>)) {
        for slot in &self.order[..self.open] {
            put(&self.flows[usize::from(*slot)].finish(arena));
        }
        self.open = 0;
    }

    fn find(&self, layout: &Layout, packet: &[u8]) -> Option<usize> {
        let open = self.order[..self.open].iter();
        open.into_iter()
            .position(|slot| self.flows[usize::from(*slot)].is_of(layout, packet))
    }

    fn begin(
        &mut self,
        layout: &Layout,
        packet: &[u8],
        range: Range<usize>,
        arena: &[u8],
        put: &mut impl FnMut(&Super<'_>),
    ) {
        if self.open == FLOWS {
            self.close_one(0, arena, put);
        }
        self.flows[usize::from(self.order[self.open])].begin(layout, packet, range);
        self.open += 1;
    }

    fn close_one(&mut self, at: usize, arena: &[u8], put: &mut impl FnMut(&Super<'_>)) {
        put(&self.flows[usize::from(self.order[at])].finish(arena));
        self.order[at..self.open].rotate_left(1);
        self.open -= 1;
    }
}

impl<'a> Super<'a> {
    /// A packet as it is.
    fn alone(arena: &'a [u8], packets: &'a [Range<usize>], checksum: Checksum) -> Self {
        let header = Header {
            checksum,
            ..Header::default()
        };
        let mut head = [0; HEADER_BYTES + HEADERS_MAX];
        head[..HEADER_BYTES].copy_from_slice(&header.write());
        Self {
            arena,
            packets,
            head,
            head_len: HEADER_BYTES,
            headers_len: 0,
            kind: Kind::Packet,
        }
    }

    /// Several under one header, if there is more than one.
    fn together(
        arena: &'a [u8],
        packets: &'a [Range<usize>],
        header: &Header,
        headers: &[u8],
    ) -> Self {
        if packets.len() < 2 {
            return Self::alone(arena, packets, Checksum::Checked);
        }
        let mut of = Self::alone(arena, packets, Checksum::Complete);
        of.head[..HEADER_BYTES].copy_from_slice(&header.write());
        of.head_len = HEADER_BYTES + headers.len();
        of.head[HEADER_BYTES..of.head_len].copy_from_slice(headers);
        of.headers_len = headers.len();
        of.kind = header.kind;
        of
    }

    /// The same with segments of no length, which every kernel refuses.
    #[cfg(test)]
    pub(crate) fn spoiled(mut self) -> Self {
        self.head[4..6].fill(0);
        self
    }

    /// How it is cut again.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// What is in front: the header, and for several packets those of IP and TCP or UDP.
    pub(crate) fn head(&self) -> &[u8] {
        &self.head[..self.head_len]
    }

    /// What is in front of each when it goes alone after all.
    pub(crate) fn head_of_each(&self) -> [u8; HEADER_BYTES] {
        let header = Header {
            checksum: Checksum::Checked,
            ..Header::default()
        };
        header.write()
    }

    /// What follows: as many pieces as there are packets, at most 64.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &'a [u8]> {
        let headers_len = self.headers_len;
        self.packets()
            .map(move |packet| packet.get(headers_len..).unwrap_or(&[]))
    }

    /// The packets that it was made of, as they came.
    pub(crate) fn packets(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let arena = self.arena;
        self.packets
            .iter()
            .map(|range| arena.get(range.clone()).unwrap_or(&[]))
    }
}

const _: () = assert!(IPV6_BYTES + 60 <= HEADERS_MAX);
