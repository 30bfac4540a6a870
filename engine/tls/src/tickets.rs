//! Session tickets that every worker opens, whichever sealed them.
//!
//! A ticket is the session itself, sealed under a key that clients never see (RFC 5077, RFC 8446
//! section 4.6.1): the server keeps nothing for each session. Whoever gets hold of the key can open
//! the tickets it sealed, and with them the TLS 1.2 traffic of their sessions; TLS 1.3 mixes fresh
//! key shares into each resumed session, so only its resumption secret is at stake. This is why
//! keys are rotated and wiped: after one [`LIFETIME`] in use and one more as the previous key, a
//! key is gone, and forward secrecy holds for everything that is older than that.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    rand,
};
use rustls::server::ProducesTickets;
use zeroize::Zeroizing;

/// How long a key seals tickets. For as long again it opens them, so that each ticket is good for
/// at least this long, which is what clients are told.
pub const LIFETIME: Duration = Duration::from_secs(6 * 60 * 60);
/// Longest ticket that is opened: one with a client's certificate chain may have some KiB.
pub const TICKET_BYTES_MAX: usize = 16 * 1024;

/// Bytes of a key's name in front of each ticket.
const NAME_BYTES: usize = 16;
/// Bytes of an AES-256 key.
const KEY_BYTES: usize = 32;
const TAG_BYTES: usize = 16;

/// The bytes that a ticket key is made of: random ones, or such as several gateways share.
pub struct Secret(Zeroizing<[u8; NAME_BYTES + KEY_BYTES]>);

/// The system gave no random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("drawing random bytes for a session ticket key")]
pub struct RandomError;

impl Secret {
    /// Random bytes.
    ///
    /// # Errors
    /// The system gave none.
    pub fn random() -> Result<Self, RandomError> {
        let mut bytes = Zeroizing::new([0; NAME_BYTES + KEY_BYTES]);
        rand::fill(bytes.as_mut_slice()).map_err(|_| RandomError)?;
        Ok(Self(bytes))
    }

    /// Bytes from elsewhere: a public name, then the key.
    pub fn from_bytes(bytes: [u8; NAME_BYTES + KEY_BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

/// The keys of one time: what seals, and what still opens.
#[derive(Debug)]
pub struct Keys {
    current: Arc<TicketKey>,
    previous: Option<Arc<TicketKey>>,
    since: SystemTime,
}

struct TicketKey {
    name: [u8; NAME_BYTES],
    /// 96-bit nonces are drawn at random, which is safe for 2^32 tickets under one key (NIST SP
    /// 800-38D section 8.3): 198,000 in each second of its life.
    key: LessSafeKey,
}

impl Keys {
    /// A first key, which no earlier ticket can be opened with.
    pub fn new(secret: &Secret, now: SystemTime) -> Self {
        Self {
            current: Arc::new(TicketKey::new(secret)),
            previous: None,
            since: now,
        }
    }

    /// When [`Keys::rotated`] is due.
    pub fn due(&self) -> SystemTime {
        self.since + LIFETIME
    }

    /// The keys after these: `secret` seals, and the current key still opens unless it is older
    /// than twice its lifetime, as after a long sleep of the machine.
    #[must_use]
    pub fn rotated(&self, secret: &Secret, now: SystemTime) -> Self {
        let age = now.duration_since(self.since).unwrap_or_default();
        Self {
            current: Arc::new(TicketKey::new(secret)),
            previous: (age < 2 * LIFETIME).then(|| self.current.clone()),
            since: now,
        }
    }
}

impl TicketKey {
    fn new(secret: &Secret) -> Self {
        let (name, key) = secret.0.split_at(NAME_BYTES);
        let mut own = [0; NAME_BYTES];
        own.copy_from_slice(name);
        #[allow(
            clippy::expect_used,
            reason = "fails for a wrong length alone, which is constant"
        )]
        let key = UnboundKey::new(&AES_256_GCM, key).expect("an AES-256 key has 32 bytes");
        Self {
            name: own,
            key: LessSafeKey::new(key),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl fmt::Debug for TicketKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKey")
    }
}

/// The keys in force, shared by all workers: reading them takes no lock and writes to no shared
/// memory. Clones are the same.
#[derive(Clone, Debug)]
pub struct Tickets(Arc<ArcSwap<Keys>>);

impl Tickets {
    /// Starts with `keys`.
    pub fn new(keys: Keys) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(keys)))
    }

    /// Puts `keys` in force for the next ticket on every worker.
    pub fn publish(&self, keys: Keys) {
        self.0.store(Arc::new(keys));
    }

    /// The keys in force.
    pub fn keys(&self) -> Arc<Keys> {
        self.0.load_full()
    }

    /// What a configuration seals its tickets with. A ticket opens under the same `binding` alone:
    /// a session that was begun without a client certificate cannot go on where one is required.
    pub(crate) fn bound(&self, binding: [u8; 32]) -> Arc<dyn ProducesTickets> {
        Arc::new(Bound {
            tickets: self.clone(),
            binding,
        })
    }
}

#[derive(Debug)]
struct Bound {
    tickets: Tickets,
    binding: [u8; 32],
}

impl ProducesTickets for Bound {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(LIFETIME.as_secs()).unwrap_or(u32::MAX)
    }

    /// `name ‖ nonce ‖ AES-256-GCM(session) ‖ tag`; name and binding are authenticated with it.
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let keys = self.tickets.0.load();
        let key = &keys.current;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = plain.to_vec();
        key.key
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                self.authenticated(&key.name),
                &mut sealed,
            )
            .ok()?;
        Some([key.name.as_slice(), &nonce, &sealed].concat())
    }

    fn decrypt(&self, ticket: &[u8]) -> Option<Vec<u8>> {
        if ticket.len() > TICKET_BYTES_MAX {
            return None;
        }
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.tickets.0.load();
        let mut known = [Some(&keys.current), keys.previous.as_ref()].into_iter();
        // The name is public: finding it may take as long as it likes.
        let key = known.find_map(|key| key.filter(|key| key.name == *name))?;
        let mut plain = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        key.key
            .open_in_place(nonce, self.authenticated(name), &mut plain)
            .ok()?;
        plain.truncate(plain.len().checked_sub(TAG_BYTES)?);
        Some(plain)
    }
}

impl Bound {
    fn authenticated(&self, name: &[u8; NAME_BYTES]) -> Aad<[u8; NAME_BYTES + 32]> {
        let mut both = [0; NAME_BYTES + 32];
        both[..NAME_BYTES].copy_from_slice(name);
        both[NAME_BYTES..].copy_from_slice(&self.binding);
        Aad::from(both)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: SystemTime = SystemTime::UNIX_EPOCH;

    fn keys() -> Keys {
        Keys::new(&Secret::random().unwrap(), START)
    }

    #[test]
    fn a_ticket_opens_under_its_key_and_its_binding_alone() {
        let tickets = Tickets::new(keys());
        let bound = tickets.bound([1; 32]);
        let ticket = bound.encrypt(b"a session").unwrap();
        assert_eq!(bound.decrypt(&ticket).unwrap(), b"a session");
        assert_ne!(bound.encrypt(b"a session").unwrap(), ticket);
        assert_eq!(tickets.bound([2; 32]).decrypt(&ticket), None);
        assert_eq!(Tickets::new(keys()).bound([1; 32]).decrypt(&ticket), None);
        assert!(!ticket.windows(9).any(|bytes| bytes == b"a session"));
    }

    #[test]
    fn a_ticket_that_was_touched_or_cut_does_not_open() {
        let bound = Tickets::new(keys()).bound([1; 32]);
        let ticket = bound.encrypt(b"a session").unwrap();
        for at in 0..ticket.len() {
            let mut touched = ticket.clone();
            touched[at] ^= 1;
            assert_eq!(bound.decrypt(&touched), None, "{at}");
            assert_eq!(bound.decrypt(&ticket[..at]), None, "{at}");
        }
        assert_eq!(bound.decrypt(&vec![0; TICKET_BYTES_MAX + 1]), None);
    }

    #[test]
    fn a_key_seals_for_one_lifetime_and_opens_for_two() {
        let tickets = Tickets::new(keys());
        let bound = tickets.bound([1; 32]);
        assert_eq!(tickets.keys().due(), START + LIFETIME);
        let ticket = bound.encrypt(b"a session").unwrap();
        let turn = |now| tickets.publish(tickets.keys().rotated(&Secret::random().unwrap(), now));
        turn(START + LIFETIME);
        assert!(bound.decrypt(&ticket).is_some());
        turn(START + 2 * LIFETIME);
        assert_eq!(bound.decrypt(&ticket), None);
    }

    #[test]
    fn a_key_that_outlived_its_time_does_not_open_either() {
        let tickets = Tickets::new(keys());
        let bound = tickets.bound([1; 32]);
        let ticket = bound.encrypt(b"a session").unwrap();
        let late = START + 2 * LIFETIME;
        tickets.publish(tickets.keys().rotated(&Secret::random().unwrap(), late));
        assert_eq!(bound.decrypt(&ticket), None);
    }

    #[test]
    fn gateways_with_the_same_bytes_open_each_others_tickets() {
        let here = Tickets::new(Keys::new(&Secret::from_bytes([7; 48]), START));
        let there = Tickets::new(Keys::new(&Secret::from_bytes([7; 48]), START));
        let ticket = here.bound([1; 32]).encrypt(b"a session").unwrap();
        assert!(there.bound([1; 32]).decrypt(&ticket).is_some());
    }

    #[test]
    fn keys_are_in_no_debug_text() {
        let secret = Secret::from_bytes([7; 48]);
        let tickets = Tickets::new(Keys::new(&secret, START));
        let text = format!("{tickets:?} {secret:?} {:?}", tickets.bound([0; 32]));
        assert!(!text.contains("7, 7"), "{text}");
    }
}
