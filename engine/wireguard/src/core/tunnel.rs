//! boringtun's `Tunn`, fenced in: the Noise handshake and the sessions with one peer.
//!
//! `Tunn` has no IO, but it reads the clock (`CLOCK_BOOTTIME`) and draws its ephemeral keys itself.
//! Its notion of time moves only when its timers run, and it ends sessions only then: whoever uses
//! it after a pause runs them first, or it goes on in a session that is long past its end.

use std::{
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use boringtun::{
    noise::{Tunn, TunnResult, errors::WireGuardError, rate_limiter::RateLimiter},
    x25519::StaticSecret,
};
use tracing::subscriber::{NoSubscriber, with_default};

use crate::key::{Key, PublicKey};

/// The sessions with one peer.
pub(crate) struct Tunnel(Tunn);

/// What a tunnel has to say.
#[derive(Debug)]
pub(crate) enum Said<'a> {
    /// Nothing: all is well.
    Nothing,
    /// A message to send to the peer.
    Message(&'a mut [u8]),
    /// A packet from the peer, cut to the length that it claims, and the source that it claims.
    Packet(&'a mut [u8], IpAddr),
    /// It could not believe, or not do, what it was given.
    Refused,
    /// It has given up: there is no session, and no attempt at one.
    Expired,
    /// It panicked. What it holds is in no known state, and goes.
    Broken,
}

impl Tunnel {
    /// Costs a multiplication on the curve. `limiter` is to let everything pass.
    pub(crate) fn new(
        private_key: StaticSecret,
        peer: &PublicKey,
        preshared_key: Option<&Key>,
        index: u32,
        limiter: Arc<RateLimiter>,
    ) -> Self {
        let preshared_key = preshared_key.map(|key| *key.expose());
        // Keep-alives are sent by the device, whose peers change theirs without losing a session.
        let keep_alive = None;
        let tunn = Tunn::new(
            private_key,
            peer.point(),
            preshared_key,
            keep_alive,
            index,
            Some(limiter),
        );
        Self(tunn)
    }

    /// Seals a packet, or nothing as a keep-alive, for the session there is. Without one, boringtun
    /// keeps a copy of the packet: callers ask [`Tunnel::session_age`] first. `into` is longer by
    /// 32 bytes than the packet, and has at least 148.
    pub(crate) fn seal<'a>(&mut self, packet: &[u8], into: &'a mut [u8]) -> Said<'a> {
        self.fenced(|tunn| tunn.encapsulate(packet, into))
    }

    /// Opens a message. `into` is as long as it, and has at least 148 bytes.
    pub(crate) fn open<'a>(&mut self, message: &[u8], into: &'a mut [u8]) -> Said<'a> {
        // The source counts only for the limiter, which the gate has done already.
        self.fenced(|tunn| tunn.decapsulate(None, message, into))
    }

    /// Starts a handshake, unless one is going on.
    pub(crate) fn initiate<'a>(&mut self, into: &'a mut [u8]) -> Said<'a> {
        self.fenced(|tunn| tunn.format_handshake_initiation(into, false))
    }

    /// Starts a handshake in the place of one that nobody answered.
    pub(crate) fn initiate_again<'a>(&mut self, into: &'a mut [u8]) -> Said<'a> {
        self.fenced(|tunn| tunn.format_handshake_initiation(into, true))
    }

    /// Does what has become due.
    pub(crate) fn run_timers<'a>(&mut self, into: &'a mut [u8]) -> Said<'a> {
        // It reports a peer that went away as an error of its own, which for a server it is not.
        with_default(NoSubscriber::default(), || {
            self.fenced(|tunn| tunn.update_timers(into))
        })
    }

    /// How long the session has been there that packets are sealed for; `None` without one.
    pub(crate) fn session_age(&self) -> Option<Duration> {
        catch_unwind(AssertUnwindSafe(|| self.0.time_since_last_handshake())).ok()?
    }

    /// The fence: an authenticated peer that finds a panic in there ends its own sessions, not the
    /// process.
    fn fenced<'a>(&mut self, call: impl FnOnce(&mut Tunn) -> TunnResult<'a>) -> Said<'a> {
        let said = catch_unwind(AssertUnwindSafe(|| call(&mut self.0)));
        match said {
            Ok(TunnResult::Done) => Said::Nothing,
            Ok(TunnResult::WriteToNetwork(message)) => Said::Message(message),
            Ok(TunnResult::WriteToTunnelV4(packet, source)) => Said::Packet(packet, source.into()),
            Ok(TunnResult::WriteToTunnelV6(packet, source)) => Said::Packet(packet, source.into()),
            Ok(TunnResult::Err(WireGuardError::ConnectionExpired)) => Said::Expired,
            Ok(TunnResult::Err(_)) => Said::Refused,
            Err(_) => Said::Broken,
        }
    }
}

impl std::fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tunnel").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use boringtun::x25519::PublicKey as Point;

    use super::*;

    fn tunnel() -> Tunnel {
        let key = Key::new([1; 32]);
        let limiter = RateLimiter::new(&Point::from(&key.secret()), u64::MAX);
        let peer = Key::new([2; 32]).public();
        Tunnel::new(key.secret(), &peer, None, 1, Arc::new(limiter))
    }

    #[test]
    fn a_panic_inside_is_told_and_goes_no_further() {
        // boringtun panics when there is no room for what it writes.
        let mut message = [0; 32];
        message[0] = 4;
        let mut tunnel = tunnel();
        let said = tunnel.fenced(|_| panic!("on purpose"));
        assert!(matches!(said, Said::Broken), "{said:?}");
        let mut room = [0; 148];
        let said = tunnel.open(&message, &mut room);
        assert!(matches!(said, Said::Refused), "{said:?}");
    }

    #[test]
    fn one_handshake_is_started_at_a_time() {
        let mut tunnel = tunnel();
        let mut room = [0; 148];
        assert!(matches!(tunnel.initiate(&mut room), Said::Message(_)));
        assert!(matches!(tunnel.initiate(&mut room), Said::Nothing));
        assert_eq!(tunnel.session_age(), None);
    }
}
