//! From the peers to the tenant.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use boringtun::noise::{Packet, Tunn, handshake::parse_handshake_anon};

use super::{
    Core, Now,
    gate::Admission,
    message::{self, INITIATION_BYTES, Message, RESPONSE_BYTES},
    outbox::Outbox,
    path::Path,
    tunnel::Said,
};
use crate::key::PublicKey;
use crate::packet;

/// The least time between two initiations that are taken from one peer (the kernel's
/// `INITIATIONS_PER_SECOND` of 50).
const INITIATION_SPACING: Duration = Duration::from_millis(20);

/// Room for any answer of boringtun.
pub(crate) const PLAIN_BYTES_MIN: usize = INITIATION_BYTES;

impl Core {
    /// Takes a datagram, which came in a traffic class, and answers the packet that was in it, if it
    /// is one for the tenant: the first bytes of `plain`, which is as long as the datagram and has at
    /// least [`PLAIN_BYTES_MIN`]. The outbox has room.
    ///
    /// Silence meets whatever is not authenticated. A peer is where its last authenticated data or
    /// response came from: an initiation does not count, since a recorded one can be sent again by
    /// anybody to a device that has restarted; its answer goes back to where it came from.
    pub(crate) fn receive<'a>(
        &mut self,
        now: Now,
        path: Path,
        class: u8,
        datagram: &[u8],
        plain: &'a mut [u8],
        outbox: &mut Outbox,
    ) -> Option<&'a [u8]> {
        match Message::read(datagram)? {
            Message::Initiation => {
                self.take_initiation(now, path, datagram, outbox);
                None
            }
            Message::Response { receiver } => {
                self.take_response(now, path, receiver, datagram, outbox);
                None
            }
            Message::Cookie { receiver } => {
                self.take_cookie(now, receiver, datagram, plain, outbox);
                None
            }
            Message::Data { receiver } => {
                let packet = self.take_data(now, path, receiver, datagram, plain, outbox)?;
                packet::carry_congestion(packet, class);
                Some(packet)
            }
        }
    }

    fn take_initiation(
        &mut self,
        now: Now,
        path: Path,
        datagram: &[u8],
        outbox: &mut Outbox,
    ) -> Option<()> {
        let sender = self.admit(now.instant, path, datagram, outbox)?;
        let slot = self.by_key.get(&sender?).copied()?;
        let fresh = self.peers.get(slot)?.live.is_none();
        let peer = self.enliven(slot, now.instant)?;
        let spaced = |at: Instant| now.instant.saturating_duration_since(at) >= INITIATION_SPACING;
        if !peer.live.as_ref()?.initiated.is_none_or(spaced) {
            return None;
        }
        self.catch_up(slot, now, outbox);
        let peer = self.peers.get_mut(slot)?;
        let live = peer.live.as_mut()?;
        match live.tunnel.open(datagram, outbox.room()?) {
            Said::Message(response) => {
                live.answered = message::sender_index(response);
                live.initiated = Some(now.instant);
                live.asking = None;
                live.moved = now.instant;
                live.look();
                let len = response.len();
                let class = message::traffic_class(response);
                peer.rx_bytes += INITIATION_BYTES as u64;
                peer.tx_bytes += len as u64;
                outbox.push(len, path, Some(slot), class);
            }
            Said::Broken => self.broken(slot),
            // Up to here it took nothing but public keys, which anybody may have.
            Said::Refused if fresh => self.still(slot),
            Said::Nothing | Said::Packet(..) | Said::Refused | Said::Expired => {}
        }
        Some(())
    }

    /// Lets a handshake message through the gate, or answers it with a cookie. For an initiation
    /// that passed, answers who it says to be from.
    fn admit(
        &mut self,
        now: Instant,
        path: Path,
        datagram: &[u8],
        outbox: &mut Outbox,
    ) -> Option<Option<PublicKey>> {
        let identity = self.identity.as_mut()?;
        match identity
            .gate
            .admit(now, path.remote.ip(), datagram, outbox.room()?)
        {
            Admission::Admitted => {}
            Admission::Answered(cookie) => {
                let len = cookie.len();
                outbox.push(len, path, None, 0);
                return None;
            }
            Admission::Refused => return None,
        }
        let Ok(Packet::HandshakeInit(initiation)) = Tunn::parse_incoming_packet(datagram) else {
            return Some(None);
        };
        let half = parse_handshake_anon(&identity.secret, &identity.public, &initiation).ok()?;
        Some(Some(PublicKey::new(half.peer_static_public)))
    }

    fn take_response(
        &mut self,
        now: Now,
        path: Path,
        receiver: u32,
        datagram: &[u8],
        outbox: &mut Outbox,
    ) -> Option<()> {
        let slot = self.slot_of(receiver)?;
        self.admit(now.instant, path, datagram, outbox)?;
        self.catch_up(slot, now, outbox);
        let peer = self.peers.get_mut(slot)?;
        let live = peer.live.as_mut()?;
        match live.tunnel.open(datagram, outbox.room()?) {
            // The keep-alive that confirms the session to the peer.
            Said::Message(keep_alive) => {
                live.initiator = true;
                live.answered = None;
                live.asking = None;
                live.moved = now.instant;
                live.look();
                let len = keep_alive.len();
                peer.nudged = false;
                peer.last_handshake = Some(now.wall);
                peer.endpoint = Some(path);
                peer.rx_bytes += RESPONSE_BYTES as u64;
                peer.tx_bytes += len as u64;
                outbox.push(len, path, Some(slot), 0);
                self.send_staged(slot, now.instant, outbox);
            }
            Said::Broken => self.broken(slot),
            Said::Nothing | Said::Packet(..) | Said::Refused | Said::Expired => {}
        }
        Some(())
    }

    /// A cookie goes into the next initiation. It says nothing of where the peer is.
    fn take_cookie(
        &mut self,
        now: Now,
        receiver: u32,
        datagram: &[u8],
        plain: &mut [u8],
        outbox: &mut Outbox,
    ) -> Option<()> {
        let slot = self.slot_of(receiver)?;
        self.catch_up(slot, now, outbox);
        let live = self.peers.get_mut(slot)?.live.as_mut()?;
        if let Said::Broken = live.tunnel.open(datagram, plain) {
            self.broken(slot);
        }
        Some(())
    }

    fn take_data<'a>(
        &mut self,
        now: Now,
        path: Path,
        receiver: u32,
        datagram: &[u8],
        plain: &'a mut [u8],
        outbox: &mut Outbox,
    ) -> Option<&'a mut [u8]> {
        let slot = self.slot_of(receiver)?;
        self.catch_up(slot, now, outbox);
        let live = self.peers.get_mut(slot)?.live.as_mut()?;
        match live.tunnel.open(datagram, plain) {
            Said::Nothing => {
                self.heard(slot, now, path, receiver, outbox);
                self.renew_receiving(slot, now.instant, outbox);
                self.peers.get_mut(slot)?.rx_bytes += datagram.len() as u64;
                None
            }
            Said::Packet(inner, from) => {
                self.heard(slot, now, path, receiver, outbox);
                if !self.may_send(slot, inner, from) {
                    return None;
                }
                self.peers.get_mut(slot)?.rx_bytes += datagram.len() as u64;
                Some(inner)
            }
            Said::Broken => {
                self.broken(slot);
                None
            }
            Said::Message(_) | Said::Refused | Said::Expired => None,
        }
    }

    /// Whether a packet is whole and its source an address of this very peer.
    fn may_send(&self, slot: usize, inner: &[u8], from: IpAddr) -> bool {
        packet::holds_its_header(inner) && self.allowed.owner(from) == Some(slot)
    }

    /// Something authenticated arrived in a session: the peer is there, and has that session too.
    fn heard(&mut self, slot: usize, now: Now, path: Path, receiver: u32, outbox: &mut Outbox) {
        let Some(peer) = self.peers.get_mut(slot) else {
            return;
        };
        peer.endpoint = Some(path);
        let Some(live) = peer.live.as_mut() else {
            return;
        };
        live.moved = now.instant;
        if live.answered == Some(receiver) {
            live.answered = None;
            live.initiator = false;
            peer.last_handshake = Some(now.wall);
        }
        if !live.established {
            live.look();
        }
        if !peer.staged.is_empty() {
            self.send_staged(slot, now.instant, outbox);
        }
    }
}
