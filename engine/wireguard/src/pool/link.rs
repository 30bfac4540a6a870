//! The descriptors of one device, and its core between them.

use std::{
    net::SocketAddr,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use engine_sys::datagram::{self, Inbox};

pub(crate) use self::border::{Border, Lost};
use self::{arena::Arena, transmit::transmit};
use crate::{
    core::{Core, Now, outbox::Outbox, path},
    superpacket::{PADDING_ROOM, Packets},
};

mod arena;
mod border;
mod transmit;

/// Bytes that are taken from a tenant or from peers before others get their turn: some 200 µs.
const BYTES_PER_TURN: usize = 256 << 10;
/// Packets and super-packets that are read from a tenant before others get their turn.
const READS_PER_TURN: usize = 128;
/// Buffers that are received into at least. When the last ones were far from full, it is as many as
/// bytes like theirs make up a turn.
const BUFFERS_MIN: usize = BYTES_PER_TURN >> 16;

/// One device: its link, its port, its core.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) core: Core,
    pub(crate) border: Border,
    pub(crate) sockets: Sockets,
    /// The kernel cuts runs for its sockets.
    cuts: bool,
    /// Buffers to receive into in the next turn.
    buffers: usize,
}

/// The UDP port of a device.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) v4: OwnedFd,
    /// A host may be without IPv6.
    pub(crate) v6: Option<OwnedFd>,
    pub(crate) port: u16,
}

/// Which of a device's descriptors is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The link.
    Tun,
    /// The port, over IPv4.
    V4,
    /// The port, over IPv6.
    V6,
}

/// Memory that a thread uses for whichever device it serves, so that a device at rest has none.
#[derive(Debug)]
pub(crate) struct Scratch {
    inbox: Inbox,
    outbox: Outbox,
    /// A packet or super-packet of the tenant, with room for padding.
    packet: Box<[u8]>,
    arena: Arena,
}

impl Default for Scratch {
    fn default() -> Self {
        let packet = usize::from(u16::MAX) + PADDING_ROOM;
        Self {
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            packet: vec![0; packet].into_boxed_slice(),
            arena: Arena::default(),
        }
    }
}

impl Sockets {
    pub(crate) fn new(v4: OwnedFd, v6: Option<OwnedFd>, port: u16) -> Self {
        Self { v4, v6, port }
    }

    fn towards(&self, to: SocketAddr) -> Option<BorrowedFd<'_>> {
        match to {
            SocketAddr::V4(_) => Some(self.v4.as_fd()),
            SocketAddr::V6(_) => self.v6.as_ref().map(OwnedFd::as_fd),
        }
    }
}

impl Link {
    /// `cuts` has the kernel cut runs, where it can.
    pub(crate) fn new(core: Core, border: Border, sockets: Sockets, cuts: bool) -> Self {
        Self {
            core,
            border,
            sockets,
            cuts,
            buffers: BUFFERS_MIN,
        }
    }

    /// Serves a descriptor that is ready, for a bounded while.
    pub(crate) fn serve(&mut self, end: End, now: Now, scratch: &mut Scratch) -> Result<(), Lost> {
        let served = match end {
            End::Tun => self.serve_tenant(now, scratch),
            End::V4 | End::V6 => self.serve_peers(end, now, scratch),
        };
        self.flush(&mut scratch.outbox);
        served
    }

    /// Does what is due.
    pub(crate) fn turn(&mut self, now: Now, scratch: &mut Scratch) {
        self.core.turn(now, &mut scratch.outbox);
        self.flush(&mut scratch.outbox);
    }

    fn serve_tenant(&mut self, now: Now, scratch: &mut Scratch) -> Result<(), Lost> {
        let Scratch { outbox, packet, .. } = scratch;
        let (mut bytes, mut reads) = (0, 0);
        while bytes < BYTES_PER_TURN && reads < READS_PER_TURN {
            let Some((header, len)) = self.border.take(packet)? else {
                break;
            };
            (bytes, reads) = (bytes + len, reads + 1);
            let Some(mut packets) = Packets::read(&header, packet, len) else {
                continue;
            };
            while packets.has_next() {
                if let Err(why) = self.core.send(now, &mut packets, outbox) {
                    packets.advance();
                    let packet = packets.packet();
                    if let Some(answer) = self.core.answer_to_unsent(now.instant, why, packet) {
                        self.border.put_alone(&answer)?;
                    }
                    break;
                }
                self.make_room(outbox);
            }
            self.make_room(outbox);
        }
        Ok(())
    }

    fn serve_peers(&mut self, end: End, now: Now, scratch: &mut Scratch) -> Result<(), Lost> {
        let Scratch {
            inbox,
            outbox,
            arena,
            ..
        } = scratch;
        let socket = match end {
            End::V6 => self.sockets.v6.as_ref(),
            End::V4 | End::Tun => Some(&self.sockets.v4),
        };
        // What an earlier datagram met on its way is not for us to act on.
        let receive = |socket: &OwnedFd| inbox.receive(socket.as_fd(), self.buffers);
        let received = socket.map_or(Ok(0), receive).unwrap_or(0);
        let mut bytes = 0;
        let mut put = Ok(());
        for arrival in (0..received).filter_map(|index| inbox.arrival(index)) {
            bytes += arrival.bytes.len();
            let path = path::Path {
                remote: arrival.path.remote,
                local: arrival.path.local,
            };
            for datagram in arrival.datagrams() {
                let plain = arena.room(datagram.len(), &mut self.border, &mut put);
                let packet = self
                    .core
                    .receive(now, path, arrival.class, datagram, plain, outbox);
                if let Some(len) = packet.map(<[u8]>::len) {
                    arena.add(len, &mut self.border, &mut put);
                }
                self.make_room(outbox);
            }
        }
        arena.empty(&mut self.border, &mut put);
        let average = bytes / received.max(1);
        self.buffers = (BYTES_PER_TURN / average.max(1)).clamp(BUFFERS_MIN, datagram::BATCH);
        put
    }

    fn make_room(&mut self, outbox: &mut Outbox) {
        if !outbox.has_room() {
            self.flush(outbox);
        }
    }

    /// Sends what there is to send. What the network does not take is dropped, and not counted.
    fn flush(&mut self, outbox: &mut Outbox) {
        for (run, bytes) in outbox.runs() {
            let socket = self.sockets.towards(run.path.remote);
            let sent = socket.map(|socket| transmit(socket, run, bytes, &mut self.cuts));
            let Some(peer) = run.peer else {
                continue;
            };
            if sent.is_some_and(|sent| sent.is_source_gone) {
                self.core.forget_source(peer, run.path);
            }
            let taken = sent.map_or(0, |sent| sent.bytes);
            if taken < bytes.len() {
                self.core.unsent(peer, bytes.len() - taken);
            }
        }
        outbox.clear();
    }
}
