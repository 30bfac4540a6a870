//! Session tickets that every worker opens, whichever sealed them.
//!
//! A ticket is the session itself, sealed under a key that clients never see (RFC 5077, RFC 8446
//! section 4.6.1): the server keeps nothing for each session. Whoever gets hold of the key can open
//! the tickets it sealed, and with them the TLS 1.2 traffic of their sessions; TLS 1.3 mixes fresh
//! key shares into each resumed session, so only its resumption secret is at stake. This is why
//! keys are rotated and wiped: after one [`LIFETIME`] in use and one more as the previous key, a
//! key is gone, and forward secrecy holds for everything that is older than that.
//!
//! A resumed session takes the client's certificate along unverified, and gets a new ticket. So a
//! ticket says when the full handshake was that its session goes back to, and when it ends: with the
//! first certificate of the client's chain that expires, and [`RESUMED_MAX`] after that handshake at
//! most (RFC 8446 section 4.6.1 permits seven days).

mod session;

use std::{
    cell::Cell,
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
/// How long after its full handshake a session can be resumed, by however many tickets.
pub const RESUMED_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// What else than a ticket is in a hello: two key shares, one of them of ML-KEM, and an encrypted
/// inner hello take some 2 KiB.
const HELLO_REST_BYTES: usize = 3 * 1024;
/// Bytes in front of the session: when its full handshake was, and when the ticket ends.
const TIMES_BYTES: usize = 16;

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
pub struct Tickets {
    keys: Arc<ArcSwap<Keys>>,
    /// Longest ticket that is given out and opened.
    bytes_max: usize,
    clock: fn() -> SystemTime,
}

thread_local! {
    /// When the full handshake was that the session at hand goes back to, in seconds since the
    /// epoch; zero if that is not known. rustls gives a ticketer the bytes of a session alone, and
    /// nothing else to tell by which session goes on with which.
    static BEGUN: Cell<u32> = const { Cell::new(0) };
}

/// Before a step of a handshake: says when the full handshake was that its session goes back to, as
/// far as that is known. Opening a ticket makes it known.
pub(crate) fn enter(begun: u32) {
    BEGUN.set(begun);
}

/// After the step: what is known now.
pub(crate) fn leave() -> u32 {
    BEGUN.take()
}

impl Tickets {
    /// Starts with `keys`. Hellos have up to 16 KiB unless [`Tickets::fitting`] says so.
    pub fn new(keys: Keys) -> Self {
        let tickets = Self {
            keys: Arc::new(ArcSwap::from_pointee(keys)),
            bytes_max: 0,
            clock: SystemTime::now,
        };
        tickets.fitting(16 * 1024)
    }

    /// Gives out no ticket that would not come back in a hello of at most `hello_bytes_max`, as those
    /// with long chains of clients' certificates.
    #[must_use]
    pub fn fitting(self, hello_bytes_max: usize) -> Self {
        let rest = HELLO_REST_BYTES.min(hello_bytes_max / 2);
        Self {
            bytes_max: hello_bytes_max - rest,
            ..self
        }
    }

    /// The same by another clock.
    #[cfg(test)]
    pub(crate) fn by(self, clock: fn() -> SystemTime) -> Self {
        Self { clock, ..self }
    }

    /// Puts `keys` in force for the next ticket on every worker.
    pub fn publish(&self, keys: Keys) {
        self.keys.store(Arc::new(keys));
    }

    /// The keys in force.
    pub fn keys(&self) -> Arc<Keys> {
        self.keys.load_full()
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

    /// `name ‖ nonce ‖ AES-256-GCM(begun ‖ ends ‖ session) ‖ tag`; name and binding are
    /// authenticated with it. None where it would end at once, or is too long to come back.
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        let session = session::read(plain)?;
        let begun = match BEGUN.get() {
            0 => session.created,
            begun => begun.into(),
        };
        let ends = session.expires()?.min(begun + RESUMED_MAX.as_secs());
        let length = NAME_BYTES + NONCE_LEN + TIMES_BYTES + plain.len() + TAG_BYTES;
        if ends <= session.created || length > self.tickets.bytes_max {
            return None;
        }
        let keys = self.tickets.keys.load();
        let key = &keys.current;
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).ok()?;
        let mut sealed = Vec::with_capacity(TIMES_BYTES + plain.len() + TAG_BYTES);
        sealed.extend(begun.to_be_bytes());
        sealed.extend(ends.to_be_bytes());
        sealed.extend(plain);
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
        if ticket.len() > self.tickets.bytes_max {
            return None;
        }
        let (name, rest) = ticket.split_first_chunk::<NAME_BYTES>()?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_LEN>()?;
        let keys = self.tickets.keys.load();
        let mut known = [Some(&keys.current), keys.previous.as_ref()].into_iter();
        // The name is public: finding it may take as long as it likes.
        let key = known.find_map(|key| key.filter(|key| key.name == *name))?;
        let mut plain = sealed.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        key.key
            .open_in_place(nonce, self.authenticated(name), &mut plain)
            .ok()?;
        plain.truncate(plain.len().checked_sub(TAG_BYTES)?);
        let (begun, rest) = plain.split_first_chunk()?;
        let (ends, _) = rest.split_first_chunk()?;
        if u64::from_be_bytes(*ends) <= seconds((self.tickets.clock)()) {
            return None;
        }
        // Of several tickets in one hello the oldest counts.
        let begun = u32::try_from(u64::from_be_bytes(*begun)).ok()?;
        BEGUN.set(match BEGUN.get() {
            0 => begun,
            other => begun.min(other),
        });
        drop(plain.drain(..TIMES_BYTES));
        Some(plain)
    }
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
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
    use std::sync::atomic::{AtomicU64, Ordering};

    use rcgen::{CertificateParams, date_time_ymd};

    use super::*;

    const START: SystemTime = SystemTime::UNIX_EPOCH;

    /// What rustls keeps of a session, without a name, a chain and a protocol.
    fn a_session() -> Vec<u8> {
        let mut session = vec![0, 3, 4, 0x13, 0x01, 9];
        session.extend(b"a session");
        session.extend([1, 0, 0, 0, 0]);
        session.extend(seconds(SystemTime::now()).to_be_bytes());
        session.extend([0; 4]);
        session
    }

    fn keys() -> Keys {
        Keys::new(&Secret::random().unwrap(), START)
    }

    /// A session of a client with a certificate.
    fn session_with(chain: &[Vec<u8>], created: u64) -> Vec<u8> {
        let vector = |bytes: &[u8]| {
            let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
            [&length[1..], bytes].concat()
        };
        let chain: Vec<u8> = chain.iter().flat_map(|der| vector(der)).collect();
        let mut session = vec![1, 1, b'a', 3, 4, 0x13, 0x01, 1, 7, 1, 1];
        session.extend(vector(&chain));
        session.extend([1, 2, b'h', b'2', 0, 0]);
        session.extend(created.to_be_bytes());
        session.extend([0; 4]);
        session
    }

    static NOW: AtomicU64 = AtomicU64::new(0);
    const HOUR: u64 = 3600;

    fn at(now: u64) {
        NOW.store(now, Ordering::Relaxed);
    }

    fn clock() -> SystemTime {
        START + Duration::from_secs(NOW.load(Ordering::Relaxed))
    }

    /// One test, because its clock is one.
    #[test]
    fn a_session_ends_with_its_clients_certificate_and_a_day_after_it_began_at_most() {
        let authority = crate::testing::Authority::new();
        let until = |year| {
            let mut params = CertificateParams::new(["c.example".to_owned()]).unwrap();
            params.not_after = date_time_ymd(year, 1, 1);
            let (chain, key) = authority.pem_of(params, &crate::testing::curve_key());
            let bundle = crate::Bundle::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
            bundle.leaf().to_vec()
        };
        let end = crate::testing::seconds_of(2050);
        let bound = Tickets::new(keys()).by(clock).bound([1; 32]);
        let step = |begun, ticket: &[u8]| {
            enter(begun);
            let opened = bound.decrypt(ticket);
            (opened, leave())
        };
        // However often it is renewed.
        let begun = end - 20 * HOUR;
        at(begun);
        let first = bound.encrypt(&session_with(&[], begun)).unwrap();
        at(begun + 20 * HOUR);
        let (opened, known) = step(0, &first);
        assert_eq!(opened.unwrap(), session_with(&[], begun));
        assert_eq!(u64::from(known), begun);
        enter(known);
        let renewed = bound
            .encrypt(&session_with(&[], begun + 20 * HOUR))
            .unwrap();
        leave();
        at(begun + 24 * HOUR - 1);
        assert!(step(0, &renewed).0.is_some());
        at(begun + 24 * HOUR);
        assert!(step(0, &renewed).0.is_none());
        // The first of the chain that expires counts.
        for chain in [[until(2050), until(2060)], [until(2060), until(2050)]] {
            at(end - HOUR);
            let ticket = bound.encrypt(&session_with(&chain, end - HOUR)).unwrap();
            at(end - 1);
            assert!(step(0, &ticket).0.is_some());
            at(end);
            assert!(step(0, &ticket).0.is_none());
            assert_eq!(bound.encrypt(&session_with(&chain, end)), None);
        }
    }

    #[test]
    fn no_ticket_is_given_out_that_would_not_come_back() {
        let tickets = Tickets::new(keys());
        let mut unknown = a_session();
        unknown.push(0);
        assert_eq!(tickets.bound([1; 32]).encrypt(&unknown), None);
        let named = |bytes: usize| {
            let mut session = vec![0, 3, 4, 0x13, 1, 0, 1, 0, 0];
            session.extend(u16::try_from(bytes).unwrap().to_be_bytes());
            session.extend(vec![7; bytes]);
            session.extend(1_u64.to_be_bytes());
            session.extend([0; 4]);
            session
        };
        for (hello_bytes_max, fits, is_too_long) in [
            (1024, 400, 500),
            (16 << 10, 13_000, 13_300),
            (64 << 10, 60_000, 62_500),
        ] {
            let bound = tickets.clone().fitting(hello_bytes_max).bound([1; 32]);
            let ticket = bound.encrypt(&named(fits)).unwrap();
            assert!(ticket.len() < hello_bytes_max);
            assert_eq!(bound.encrypt(&named(is_too_long)), None);
        }
    }

    #[test]
    fn a_ticket_opens_under_its_key_and_its_binding_alone() {
        let tickets = Tickets::new(keys());
        let bound = tickets.bound([1; 32]);
        let ticket = bound.encrypt(&a_session()).unwrap();
        assert_eq!(bound.decrypt(&ticket).unwrap(), a_session());
        assert_ne!(bound.encrypt(&a_session()).unwrap(), ticket);
        assert_eq!(tickets.bound([2; 32]).decrypt(&ticket), None);
        assert_eq!(Tickets::new(keys()).bound([1; 32]).decrypt(&ticket), None);
        assert!(!ticket.windows(9).any(|bytes| bytes == b"a session"));
    }

    #[test]
    fn a_ticket_that_was_touched_or_cut_does_not_open() {
        let bound = Tickets::new(keys()).bound([1; 32]);
        let ticket = bound.encrypt(&a_session()).unwrap();
        for at in 0..ticket.len() {
            let mut touched = ticket.clone();
            touched[at] ^= 1;
            assert_eq!(bound.decrypt(&touched), None, "{at}");
            assert_eq!(bound.decrypt(&ticket[..at]), None, "{at}");
        }
        assert_eq!(bound.decrypt(&vec![0; 16 * 1024 + 1]), None);
    }

    #[test]
    fn a_key_seals_for_one_lifetime_and_opens_for_two() {
        let tickets = Tickets::new(keys());
        let bound = tickets.bound([1; 32]);
        assert_eq!(tickets.keys().due(), START + LIFETIME);
        let ticket = bound.encrypt(&a_session()).unwrap();
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
        let ticket = bound.encrypt(&a_session()).unwrap();
        let late = START + 2 * LIFETIME;
        tickets.publish(tickets.keys().rotated(&Secret::random().unwrap(), late));
        assert_eq!(bound.decrypt(&ticket), None);
    }

    #[test]
    fn gateways_with_the_same_bytes_open_each_others_tickets() {
        let here = Tickets::new(Keys::new(&Secret::from_bytes([7; 48]), START));
        let there = Tickets::new(Keys::new(&Secret::from_bytes([7; 48]), START));
        let ticket = here.bound([1; 32]).encrypt(&a_session()).unwrap();
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
