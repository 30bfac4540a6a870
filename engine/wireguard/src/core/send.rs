//! From the tenant to the peers.

use std::time::Instant;

use super::{
    Core, Now,
    message::{self, DATA_OVERHEAD},
    outbox::Outbox,
    peer::{Peer, STAGED_MAX},
    tunnel::Said,
};
use crate::packet;
use crate::superpacket::Packets;

/// Bytes that wait for handshakes, of all peers of a device: a tenant who speaks to thousands of
/// peers that are not there fills no more memory than this. Further packets are dropped.
const STAGED_BYTES_MAX: usize = 4 << 20;

/// Why a packet of the tenant went nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// Nobody has its destination.
    NoPeer,
    /// It is not known where the peer is, or there is no key to speak to it with.
    NoEndpoint,
    /// Too much waits for handshakes already.
    Full,
}

impl Core {
    /// Sends packets that go to one place to the peer whose that is, as many as the outbox has room
    /// for, or keeps them until there is a session. The outbox has room for at least one.
    pub(crate) fn send(
        &mut self,
        now: Now,
        packets: &mut Packets<'_>,
        outbox: &mut Outbox,
    ) -> Result<(), Unsent> {
        let slot = self
            .allowed
            .owner(packets.destination())
            .ok_or(Unsent::NoPeer)?;
        let mtu = self.mtu;
        let peer = self.enliven(slot, now.instant).ok_or(Unsent::NoEndpoint)?;
        if peer.endpoint.is_none() {
            return Err(Unsent::NoEndpoint);
        }
        self.catch_up(slot, now, outbox);
        self.send_staged(slot, now.instant, outbox);
        let peer = self.peers.get_mut(slot).ok_or(Unsent::NoPeer)?;
        if !peer.is_established() || !peer.staged.is_empty() || !outbox.has_room() {
            return self.stage_all(slot, now.instant, packets, outbox);
        }
        let congestion = packets.congestion();
        while outbox.has_room() && packets.advance() {
            let padded = packet::padded(packets.packet().len(), mtu);
            let packet = packets.padded(padded);
            seal(peer, slot, now.instant, packet, congestion, outbox);
        }
        Ok(())
    }

    /// What a tenant is told of a packet that was not sent, if there is anything to tell.
    pub(crate) fn answer_to_unsent(
        &mut self,
        now: Instant,
        why: Unsent,
        packet: &[u8],
    ) -> Option<Vec<u8>> {
        match why {
            Unsent::NoPeer | Unsent::NoEndpoint => self.refusals.answer(now, packet),
            Unsent::Full => None,
        }
    }

    fn stage_all(
        &mut self,
        slot: usize,
        now: Instant,
        packets: &mut Packets<'_>,
        outbox: &mut Outbox,
    ) -> Result<(), Unsent> {
        let mut staged = Ok(());
        while packets.advance() {
            staged = staged.and(self.stage(slot, packets.packet()));
        }
        self.initiate(slot, now, outbox);
        staged
    }

    /// Starts a handshake with a peer whose place is known, unless one is going on.
    pub(super) fn initiate(&mut self, slot: usize, now: Instant, outbox: &mut Outbox) -> bool {
        let Some(peer) = self.enliven(slot, now) else {
            return false;
        };
        let (Some(endpoint), Some(live)) = (peer.endpoint, peer.live.as_mut()) else {
            return false;
        };
        let Some(room) = outbox.room() else {
            return false;
        };
        match live.tunnel.initiate(room) {
            Said::Message(message) => {
                let (len, class) = (message.len(), message::traffic_class(message));
                live.moved = now;
                live.ask(now);
                peer.tx_bytes += len as u64;
                outbox.push(len, endpoint, Some(slot), class);
                true
            }
            Said::Broken => {
                self.broken(slot);
                false
            }
            Said::Nothing | Said::Packet(..) | Said::Refused | Said::Expired => false,
        }
    }

    /// Sends what waited for a session, as far as the outbox has room. The rest goes with the next
    /// packet or the next round of the timers.
    pub(super) fn send_staged(&mut self, slot: usize, now: Instant, outbox: &mut Outbox) {
        let mtu = self.mtu;
        let Some(peer) = self.peers.get_mut(slot) else {
            return;
        };
        while peer.is_established() && outbox.has_room() {
            let Some(mut packet) = peer.staged.pop_front() else {
                break;
            };
            self.staged_bytes -= packet.len();
            let congestion = packet::congestion(&packet);
            packet.resize(packet::padded(packet.len(), mtu), 0);
            seal(peer, slot, now, &packet, congestion, outbox);
        }
    }

    fn stage(&mut self, slot: usize, packet: &[u8]) -> Result<(), Unsent> {
        let peer = self.peers.get_mut(slot).ok_or(Unsent::NoPeer)?;
        if peer.staged.len() >= STAGED_MAX
            && let Some(oldest) = peer.staged.pop_front()
        {
            self.staged_bytes -= oldest.len();
        }
        if self.staged_bytes + packet.len() > STAGED_BYTES_MAX {
            return Err(Unsent::Full);
        }
        self.staged_bytes += packet.len();
        peer.staged.push_back(packet.to_vec());
        Ok(())
    }

    /// Drops what waits for a session with a peer.
    pub(super) fn unstage(&mut self, slot: usize) {
        if let Some(peer) = self.peers.get_mut(slot) {
            let staged = std::mem::take(&mut peer.staged);
            self.staged_bytes -= staged.iter().map(Vec::len).sum::<usize>();
        }
    }

    /// A tunnel that panicked goes, with its sessions; the next message makes a new one.
    pub(super) fn broken(&mut self, slot: usize) {
        self.still(slot);
        if let Some(peer) = self.peers.get(slot) {
            tracing::error!(peer = %peer.public_key, "a WireGuard session broke and was ended");
            // Whoever is to be kept in touch with is looked at in the next round.
            if peer.keep_alive > 0 {
                self.awake.insert(slot);
            }
        }
    }
}

/// Seals a packet, or nothing as a keep-alive, into the outbox. There is a session, an endpoint, and
/// room; without one of them nothing happens.
pub(super) fn seal(
    peer: &mut Peer,
    slot: usize,
    now: Instant,
    packet: &[u8],
    congestion: u8,
    outbox: &mut Outbox,
) {
    let (Some(endpoint), Some(live)) = (peer.endpoint, peer.live.as_mut()) else {
        return;
    };
    let needed = packet.len() + DATA_OVERHEAD;
    let Some(room) = outbox.room().filter(|room| room.len() >= needed) else {
        return;
    };
    if let Said::Message(message) = live.tunnel.seal(packet, room) {
        let len = message.len();
        live.moved = now;
        peer.nudged = false;
        peer.tx_bytes += len as u64;
        outbox.push(len, endpoint, Some(slot), packet::class_outside(congestion));
    }
}
