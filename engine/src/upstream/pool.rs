//! Upstream connections at rest, kept for the next request.
//!
//! Each worker has its own, so taking one needs no lock. The last one given back is taken first:
//! it is the least likely to have been closed meanwhile, and the others grow old and go.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};

use ahash::RandomState;
use engine_core::ids::NetworkId;
use engine_sys::netns::Identity;

use crate::{context::live::Dialed, transport::Transport};

/// Whom a connection leads to. Tenants may use the same addresses, and what proved to be one name
/// has not proved to be another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) network: NetworkId,
    /// The namespace that it was opened in: a network may move, and leave its addresses to another
    /// tenant. While a connection lives, no other namespace can have the identity of its own.
    pub(crate) namespace: Identity,
    pub(crate) address: SocketAddr,
    /// The origin that it was made for, and verified to be; 0 is none.
    pub(crate) origin: u64,
    /// The host that it was asked for and verified to be, where the origin has no name of its own.
    pub(crate) host: Option<Rc<str>>,
}

/// The connections of one worker that wait for a request.
#[derive(Debug)]
pub(crate) struct Pool {
    resting: RefCell<HashMap<Key, Vec<Resting>, RandomState>>,
    count: Cell<usize>,
    /// Those of them that are for a host that a request named, by network.
    named: RefCell<HashMap<NetworkId, usize, RandomState>>,
    count_max: usize,
    rest_max: Duration,
}

#[derive(Debug)]
struct Resting {
    transport: Transport,
    /// Where it leaves from.
    local: Option<IpAddr>,
    since: Instant,
    /// When it is closed.
    until: Instant,
}

/// How recently a connection must have given a response to be taken for a request that may not be
/// repeated: an upstream that closes connections at rest has hardly closed this one already. Every
/// server lets them rest for longer than this, and for most of them it is the time of a round trip.
const FRESH: Duration = Duration::from_millis(10);

/// How much sooner than an upstream says a connection is given up: what is sent to it last has to
/// get there before the upstream closes it.
const MARGIN: Duration = Duration::from_secs(1);

impl Pool {
    /// Keeps at most `count_max` connections, each for at most `rest_max`.
    pub(crate) fn new(count_max: usize, rest_max: Duration) -> Self {
        Self {
            resting: RefCell::default(),
            count: Cell::new(0),
            named: RefCell::default(),
            count_max,
            rest_max,
        }
    }

    /// A connection that is still open as far as this end knows, and where it leaves from. `is_fresh`: one that gave a
    /// response just now, since the request may not be repeated.
    pub(crate) fn take(&self, key: &Key, is_fresh: bool) -> Option<(Transport, Option<IpAddr>)> {
        let mut resting = self.resting.borrow_mut();
        let stack = resting.get_mut(key)?;
        let now = Instant::now();
        let is_old = |top: &Resting| is_fresh && now.saturating_duration_since(top.since) > FRESH;
        while let Some(top) = stack.pop_if(|top| !is_old(top)) {
            self.forget(key);
            if now < top.until && top.transport.is_quiet() {
                return Some((top.transport, top.local));
            }
            part(&top.transport);
        }
        if stack.is_empty() {
            resting.remove(key);
        }
        None
    }

    /// Whether there is any connection, fresh or not.
    pub(crate) fn has(&self, key: &Key) -> bool {
        self.resting.borrow().contains_key(key)
    }

    /// Keeps a connection on which a response has just ended, and which the upstream keeps open for
    /// `rests_for` seconds, where it says so.
    pub(crate) fn give(
        &self,
        key: Key,
        (transport, local): (Transport, Option<IpAddr>),
        rests_for: Option<u32>,
    ) {
        let rest_max = rests_for.map_or(self.rest_max, |seconds| {
            let announced = Duration::from_secs(seconds.into());
            let left = announced.saturating_sub(MARGIN).max(announced / 2);
            left.min(self.rest_max)
        });
        if rest_max.is_zero() || !self.enter(&key) {
            part(&transport);
            return;
        }
        let since = Instant::now();
        let until = since + rest_max;
        let mut resting = self.resting.borrow_mut();
        let stack = resting.entry(key).or_default();
        stack.push(Resting {
            transport,
            local,
            since,
            until,
        });
    }

    /// Counts a connection, if there is room for it. Hosts that requests name are made up by clients: they
    /// have half of the room, and those of one network an eighth.
    fn enter(&self, key: &Key) -> bool {
        if self.count.get() >= self.count_max {
            return false;
        }
        if key.host.is_some() {
            let mut named = self.named.borrow_mut();
            let all: usize = named.values().sum();
            let own = named.entry(key.network).or_default();
            if all >= self.count_max / 2 || *own >= (self.count_max / 8).max(1) {
                return false;
            }
            *own += 1;
        }
        self.count.set(self.count.get() + 1);
        true
    }

    /// Counts a connection no longer.
    fn forget(&self, key: &Key) {
        self.count.set(self.count.get() - 1);
        if key.host.is_some()
            && let Some(own) = self.named.borrow_mut().get_mut(&key.network)
        {
            *own -= 1;
        }
    }

    /// Keeps a connection in place of the one that has rested longest: it was opened though that one
    /// was there, and upstreams do not have room for one more after each such request.
    pub(crate) fn replace(
        &self,
        key: Key,
        kept: (Transport, Option<IpAddr>),
        rests_for: Option<u32>,
    ) {
        let oldest = match self.resting.borrow_mut().get_mut(&key) {
            Some(stack) if !stack.is_empty() => Some(stack.remove(0)),
            Some(_) | None => None,
        };
        if let Some(oldest) = oldest {
            self.forget(&key);
            part(&oldest.transport);
        }
        self.give(key, kept, rests_for);
    }

    /// Closes what has rested for too long, or was closed by the other end.
    pub(crate) fn sweep(&self, now: Instant) {
        self.keep(|_, resting| now < resting.until && resting.transport.is_quiet());
    }

    /// Closes all connections into networks that are gone.
    pub(crate) fn end_networks(&self, is_gone: impl Fn(NetworkId) -> bool) {
        self.keep(|key, _| !is_gone(key.network));
    }

    /// Closes all connections that leave from where there is nothing left to leave from.
    pub(crate) fn end_dialed(&self, is_gone: impl Fn(Dialed) -> bool) {
        self.keep(|key, resting| {
            !is_gone(Dialed {
                namespace: key.namespace,
                local: resting.local,
            })
        });
    }

    fn keep(&self, keeps: impl Fn(&Key, &Resting) -> bool) {
        let mut resting = self.resting.borrow_mut();
        resting.retain(|key, stack| {
            stack.retain(|resting| {
                let stays = keeps(key, resting);
                if !stays {
                    part(&resting.transport);
                }
                stays
            });
            !stack.is_empty()
        });
        self.count.set(resting.values().map(Vec::len).sum());
        let mut named = self.named.borrow_mut();
        named.clear();
        for (key, stack) in resting.iter().filter(|(key, _)| key.host.is_some()) {
            *named.entry(key.network).or_default() += stack.len();
        }
    }
}

/// Says that the end of a session is meant, before its socket is closed (RFC 8446 section 6.1).
fn part(transport: &Transport) {
    // Who is gone, or takes nothing, is not waited for.
    let _ = transport.close_notify();
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        net::{TcpListener, TcpStream},
    };

    use engine_sys::netns::Netns;

    use super::*;
    use crate::rt::{self, Driver, Readiness};

    fn connection(listener: &TcpListener) -> (TcpStream, Transport) {
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (theirs, _) = listener.accept().unwrap();
        ours.set_nonblocking(true).unwrap();
        (
            theirs,
            Transport::plain(Readiness::new(ours.into()).unwrap()),
        )
    }

    fn with_pool(test: impl FnOnce(&Pool, &Key, &TcpListener)) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let key = Key {
            network: NetworkId(1),
            namespace: Netns::current().unwrap().identity(),
            address: listener.local_addr().unwrap(),
            origin: 0,
            host: None,
        };
        let pool = Pool::new(2, Duration::from_secs(60));
        rt::run(Driver::Epoll, async { test(&pool, &key, &listener) }).unwrap();
    }

    #[test]
    fn what_was_opened_in_one_namespace_is_not_given_out_for_another() {
        with_pool(|pool, key, listener| {
            let (_kept, transport) = connection(listener);
            pool.give(key.clone(), (transport, None), None);
            let mut moved = key.clone();
            moved.namespace.inode += 1;
            assert!(pool.take(&moved, false).is_none());
            assert!(pool.take(key, false).is_some());
        });
    }

    #[test]
    fn what_the_other_end_closed_or_spoke_on_is_not_given_out() {
        with_pool(|pool, key, listener| {
            let (quiet, kept) = connection(listener);
            let (closed, stale) = connection(listener);
            pool.give(key.clone(), (kept, None), None);
            pool.give(key.clone(), (stale, None), None);
            drop(closed);
            assert!(pool.take(key, false).is_some(), "the quiet one");
            assert!(pool.take(key, false).is_none());
            let (mut talking, odd) = connection(listener);
            pool.give(key.clone(), (odd, None), None);
            talking.write_all(b"unasked").unwrap();
            assert!(pool.take(key, false).is_none());
            drop(quiet);
        });
    }

    #[test]
    fn what_was_verified_to_be_one_host_is_not_given_out_for_another() {
        with_pool(|pool, key, listener| {
            let (_theirs, ours) = connection(listener);
            let of = |host: &str| Key {
                host: Some(host.into()),
                ..key.clone()
            };
            pool.give(of("a.example"), (ours, None), None);
            assert!(pool.take(&of("b.example"), false).is_none());
            assert!(pool.take(key, false).is_none());
            // Half of the room is for hosts that were declared.
            let (_full, crowd) = connection(listener);
            pool.give(of("b.example"), (crowd, None), None);
            assert!(pool.take(&of("b.example"), false).is_none());
            assert!(pool.take(&of("a.example"), false).is_some());
        });
    }

    #[test]
    fn networks_do_not_share_and_a_gone_one_loses_its_connections() {
        with_pool(|pool, key, listener| {
            let (_theirs, ours) = connection(listener);
            pool.give(key.clone(), (ours, None), None);
            let other = Key {
                network: NetworkId(2),
                ..key.clone()
            };
            assert!(pool.take(&other, false).is_none());
            pool.end_networks(|network| network == key.network);
            assert!(pool.take(key, false).is_none());
        });
    }

    #[test]
    fn a_request_that_may_not_be_repeated_gets_a_connection_that_was_used_just_now() {
        with_pool(|pool, key, listener| {
            let (_theirs, ours) = connection(listener);
            pool.give(key.clone(), (ours, None), None);
            let ours = pool.take(key, true).unwrap();
            pool.give(key.clone(), ours, None);
            std::thread::sleep(FRESH + Duration::from_millis(1));
            assert!(pool.take(key, true).is_none());
            assert!(pool.take(key, false).is_some(), "it stays for the others");
            assert_eq!(pool.count.get(), 0);
        });
    }

    #[test]
    fn an_upstream_says_how_long_its_connection_rests_and_the_pool_for_how_long_at_most() {
        with_pool(|pool, key, listener| {
            let now = Instant::now();
            for (announced, ends_after) in [(Some(5), 4), (Some(1000), 60), (None, 60)] {
                let (_theirs, ours) = connection(listener);
                pool.give(key.clone(), (ours, None), announced);
                pool.sweep(now + Duration::from_millis(ends_after * 1000 - 100));
                assert_eq!(pool.count.get(), 1, "{announced:?}");
                pool.sweep(Instant::now() + Duration::from_secs(ends_after));
                assert_eq!(pool.count.get(), 0, "{announced:?}");
            }
            let (_theirs, ours) = connection(listener);
            pool.give(key.clone(), (ours, None), Some(0));
            assert_eq!(pool.count.get(), 0);
            let (_theirs, ours) = connection(listener);
            pool.give(key.clone(), (ours, None), Some(1));
            std::thread::sleep(Duration::from_millis(501));
            assert!(
                pool.take(key, false).is_none(),
                "it is over before the sweep comes"
            );
        });
    }

    #[test]
    fn a_full_pool_takes_no_more_and_the_sweep_makes_room() {
        with_pool(|pool, key, listener| {
            let held: Vec<_> = (0..3).map(|_| connection(listener)).collect();
            let mut theirs = Vec::new();
            for (their, our) in held {
                theirs.push(their);
                pool.give(key.clone(), (our, None), None);
            }
            assert_eq!(pool.count.get(), 2);
            pool.sweep(Instant::now());
            assert_eq!(pool.count.get(), 2);
            pool.sweep(Instant::now() + Duration::from_secs(61));
            assert_eq!(pool.count.get(), 0);
        });
    }
}
