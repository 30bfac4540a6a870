//! What happens without anybody sending anything: retries, new keys in time, keep-alives, the end
//! of sessions.
//!
//! The timers of WireGuard are good to a second, so once a second every peer that has something to
//! wait for is looked at. A peer without session, handshake or keep-alive has nothing, and a device
//! with only such peers is never woken.

use std::time::{Duration, Instant};

use super::{
    Core, Now,
    message::{self, Message},
    outbox::Outbox,
    peer::Live,
    send::seal,
    tunnel::Said,
};

/// The time between two looks at a peer.
const ROUND: Duration = Duration::from_secs(1);
/// The work of one turn, in looks at a peer. A round over many peers takes several turns, between
/// which others get theirs.
const BUDGET: usize = 256;
/// What starting a handshake costs, in looks: three multiplications on the curve.
const HANDSHAKE_COST: usize = 32;
/// The age at which whoever asked for a session asks for the next (the paper, section 6.1).
const REKEY_AFTER: Duration = Duration::from_secs(120);
/// The age at which it does so if it only receives: time for one keep-alive and one handshake is
/// left before the session ends.
const REKEY_AFTER_RECEIVING: Duration = Duration::from_secs(180 - 10 - 5);
/// How long a session lasts (the paper, section 6.1).
const SESSION_LASTS: Duration = Duration::from_secs(180);
/// How long boringtun asks for a session before it gives up, less the second or two that its clock
/// may be ahead. With giving up, it forgets the sessions that there are.
const ASKING_LASTS: Duration = Duration::from_secs(90 - 2);
/// The time between two attempts (the paper, section 6.1).
const ASKING_SPACING: Duration = Duration::from_secs(5);

impl Core {
    /// When [`Core::turn`] has something to do; `None` while nothing is waited for.
    pub(crate) fn next_turn(&self) -> Option<Instant> {
        self.round_at
    }

    /// Does a bounded part of what is due. When it is not all, [`Core::next_turn`] stays in the
    /// past.
    pub(crate) fn turn(&mut self, now: Now, outbox: &mut Outbox) {
        if self.round_at.is_none_or(|at| now.instant < at) {
            return;
        }
        let mut budget = BUDGET;
        while budget > 0 && outbox.has_room() {
            let from = self.round_from.unwrap_or(0);
            let Some(slot) = self.awake.range(from..).next().copied() else {
                self.round_from = None;
                let at = now.instant + ROUND;
                self.round_at = (!self.awake.is_empty()).then_some(at);
                return;
            };
            self.round_from = Some(slot + 1);
            let cost = if self.look_at(slot, now, outbox) {
                HANDSHAKE_COST
            } else {
                1
            };
            budget = budget.saturating_sub(cost);
        }
    }

    /// Runs the timers of a peer that nobody looked at for longer than a round.
    pub(super) fn catch_up(&mut self, slot: usize, now: Now, outbox: &mut Outbox) {
        let live = self.peers.get(slot).and_then(|peer| peer.live.as_ref());
        let late = |timed: Instant| now.instant.saturating_duration_since(timed) >= ROUND;
        if live.is_some_and(|live| late(live.timed)) {
            self.run_timers(slot, now.instant, outbox);
        }
    }

    /// Has a peer looked at from now on.
    pub(super) fn wake(&mut self, slot: usize, now: Instant) {
        self.awake.insert(slot);
        if self.round_at.is_none() {
            self.round_at = Some(now + ROUND);
        }
    }

    /// Has the next round begin now.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.round_at = Some(now);
        self.round_from = None;
    }

    /// Answers whether a handshake was started.
    fn look_at(&mut self, slot: usize, now: Now, outbox: &mut Outbox) -> bool {
        let expired = self.run_timers(slot, now.instant, outbox);
        self.send_staged(slot, now.instant, outbox);
        let Some(peer) = self.peers.get_mut(slot) else {
            self.awake.remove(&slot);
            return false;
        };
        let kept_in_touch = peer.keep_alive > 0 && peer.endpoint.is_some();
        if kept_in_touch && self.renew(slot, REKEY_AFTER, now.instant, outbox) {
            return true;
        }
        let Some(peer) = self.peers.get_mut(slot) else {
            return false;
        };
        if peer.wants_keep_alive(now.instant) {
            return self.keep_alive(slot, now.instant, outbox);
        }
        let asleep = peer.live.is_none() || expired;
        if asleep && !kept_in_touch {
            self.awake.remove(&slot);
        }
        false
    }

    /// Sends a keep-alive, or starts the handshake that has to come before it.
    fn keep_alive(&mut self, slot: usize, now: Instant, outbox: &mut Outbox) -> bool {
        let Some(peer) = self.peers.get_mut(slot) else {
            return false;
        };
        peer.nudged = false;
        if !peer.is_established() {
            return self.initiate(slot, now, outbox);
        }
        seal(peer, slot, now, &[], 0, outbox);
        false
    }

    /// Asks for the next session when the one that we asked for is old: boringtun does so only for
    /// the sake of data, and two that send each other nothing but keep-alives would lose touch.
    fn renew(&mut self, slot: usize, after: Duration, now: Instant, outbox: &mut Outbox) -> bool {
        let live = self.peers.get(slot).and_then(|peer| peer.live.as_ref());
        let ours = live.filter(|live| live.established && live.initiator);
        let age = ours.and_then(|live| live.tunnel.session_age());
        age.is_some_and(|age| age >= after) && self.initiate(slot, now, outbox)
    }

    /// Asks for the next session in time when a keep-alive came in an old one.
    pub(super) fn renew_receiving(&mut self, slot: usize, now: Instant, outbox: &mut Outbox) {
        self.renew(slot, REKEY_AFTER_RECEIVING, now, outbox);
    }

    /// Runs boringtun's timers for a peer. Answers whether the peer has expired.
    fn run_timers(&mut self, slot: usize, now: Instant, outbox: &mut Outbox) -> bool {
        let Some(peer) = self.peers.get_mut(slot) else {
            return false;
        };
        let (Some(live), Some(room)) = (peer.live.as_mut(), outbox.room()) else {
            return false;
        };
        live.timed = now;
        let said = if !live.outlives_asking(now) {
            live.tunnel.run_timers(room)
        } else if live.is_to_ask_again(now) {
            live.tunnel.initiate_again(room)
        } else {
            return false;
        };
        match said {
            Said::Message(message) => {
                let (len, class) = (message.len(), message::traffic_class(message));
                if let Some(Message::Initiation) = Message::read(message) {
                    live.ask(now);
                }
                if let Some(endpoint) = peer.endpoint {
                    live.moved = now;
                    peer.tx_bytes += len as u64;
                    outbox.push(len, endpoint, Some(slot), class);
                }
                live.look();
                false
            }
            Said::Expired => {
                live.established = false;
                live.asking = None;
                self.unstage(slot);
                true
            }
            Said::Broken => {
                self.broken(slot);
                false
            }
            Said::Nothing | Said::Packet(..) | Said::Refused => {
                live.look();
                false
            }
        }
    }
}

impl Live {
    /// Whether there is a session that lasts longer than boringtun has the patience to ask for the
    /// next one. It is left alone then, until the session ends by itself: an attempt that comes to
    /// nothing ends no session (the paper, section 6.4).
    fn outlives_asking(&self, now: Instant) -> bool {
        let is_late = |since| now.saturating_duration_since(since) >= ASKING_LASTS;
        // The age is that of the youngest session, be it confirmed or not.
        self.answered.is_none()
            && self.asking.is_some_and(|asking| is_late(asking.since))
            && self
                .tunnel
                .session_age()
                .is_some_and(|age| age < SESSION_LASTS)
    }

    fn is_to_ask_again(&self, now: Instant) -> bool {
        let is_due = |last| now.saturating_duration_since(last) >= ASKING_SPACING;
        self.asking.is_some_and(|asking| is_due(asking.last))
    }
}
