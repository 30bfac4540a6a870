//! The names that a worker knows.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    task::Waker,
    time::{Duration, Instant},
};

use ahash::RandomState;
use engine_core::{
    hostname::Hostname,
    ids::{NetnsId, NetworkId},
};
use engine_sys::netns::{Identity, Netns};

use crate::upstream::resolve::entry::{Entry, Known, Looked};

/// Most lookups that a worker has under way; a further name is not looked up, and counted.
const LOOKUPS_MAX: usize = 256;

/// Most flows of a worker that wait for names; further ones do without what is not known yet.
const WAITING_MAX: usize = 10_000;

/// How long a name is remembered that nobody uses.
const UNUSED_MAX: Duration = Duration::from_secs(600);

/// Whose names they are: tenants have name servers of their own, and what a network's former namespace
/// knew says nothing of its new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Scope {
    pub(super) network: NetworkId,
    /// What the snapshot calls its namespace, and which one that is.
    pub(super) netns: NetnsId,
    pub(super) namespace: Identity,
}

/// A name that a worker knows.
#[derive(Debug)]
pub(super) struct Name {
    pub(super) scope: Scope,
    pub(super) host: Hostname,
    entry: RefCell<Entry>,
    used: Cell<Instant>,
    is_asked: Cell<bool>,
    waiting: RefCell<Vec<Waker>>,
}

type ByHost = HashMap<Hostname, Rc<Name>, RandomState>;

/// All names of one worker.
#[derive(Debug)]
pub(crate) struct Names {
    by_scope: RefCell<HashMap<Scope, ByHost, RandomState>>,
    count: Cell<usize>,
    count_max: usize,
    /// Lookups under way, and flows that wait for them.
    asked: Cell<usize>,
    waiting: Cell<usize>,
    /// The namespace that the gateway runs in; `None` where that cannot be known, and then every one is
    /// taken for a tenant's.
    home: Option<Identity>,
}

impl Names {
    /// Knows at most `count_max` names.
    pub(crate) fn new(count_max: usize) -> Self {
        Self {
            by_scope: RefCell::default(),
            count: Cell::new(0),
            count_max,
            asked: Cell::new(0),
            waiting: Cell::new(0),
            home: Netns::current().ok().map(|netns| netns.identity()),
        }
    }

    /// Whether a namespace is the one that the gateway runs in.
    pub(super) fn is_home(&self, namespace: Identity) -> bool {
        self.home == Some(namespace)
    }

    /// A name, which is in use from `now` on; `None` where there are as many as may be, all of them in use.
    pub(super) fn find(&self, scope: Scope, host: &Hostname, now: Instant) -> Option<Rc<Name>> {
        let known = |names: &ByHost| names.get(host).cloned();
        let found = self.by_scope.borrow().get(&scope).and_then(known);
        if let Some(name) = found {
            name.used.set(now);
            return Some(name);
        }
        if self.count.get() >= self.count_max && !self.make_room() {
            return None;
        }
        let name = Rc::new(Name {
            scope,
            host: host.clone(),
            entry: RefCell::default(),
            used: Cell::new(now),
            is_asked: Cell::new(false),
            waiting: RefCell::default(),
        });
        let mut by_scope = self.by_scope.borrow_mut();
        let names = by_scope.entry(scope).or_default();
        names.insert(host.clone(), Rc::clone(&name));
        self.count.set(self.count.get() + 1);
        Some(name)
    }

    /// Forgets the name that was used longest ago of those that nobody looks up.
    fn make_room(&self) -> bool {
        let oldest = {
            let by_scope = self.by_scope.borrow();
            let names = by_scope.values().flat_map(HashMap::values);
            let idle = names.filter(|name| !name.is_asked.get());
            idle.min_by_key(|name| name.used.get()).cloned()
        };
        if let Some(oldest) = &oldest {
            self.keep(|name| !Rc::ptr_eq(name, oldest));
        }
        oldest.is_some()
    }

    /// Forgets names that nobody has used for long.
    pub(crate) fn sweep(&self, now: Instant) {
        if self.count.get() > 0 {
            self.keep(|name| {
                name.is_asked.get() || now.saturating_duration_since(name.used.get()) < UNUSED_MAX
            });
        }
    }

    /// Forgets the names of networks that are gone, or elsewhere.
    pub(crate) fn end_networks(&self, is_gone: impl Fn(NetworkId) -> bool) {
        self.keep(|name| !is_gone(name.scope.network));
    }

    fn keep(&self, keeps: impl Fn(&Rc<Name>) -> bool) {
        let mut by_scope = self.by_scope.borrow_mut();
        by_scope.retain(|_, names| {
            names.retain(|_, name| keeps(name));
            !names.is_empty()
        });
        self.count.set(by_scope.values().map(HashMap::len).sum());
    }

    /// Names in use whose time is nearly over.
    pub(super) fn due(&self, now: Instant) -> Vec<Rc<Name>> {
        let by_scope = self.by_scope.borrow();
        let names = by_scope.values().flat_map(HashMap::values);
        names.filter(|name| name.is_due(now)).cloned().collect()
    }

    /// The right to look a name up, unless somebody does, or there are as many lookups as may be.
    pub(super) fn begin(self: &Rc<Self>, name: &Rc<Name>) -> Option<Lookup> {
        if name.is_asked.get() || self.asked.get() >= LOOKUPS_MAX {
            return None;
        }
        name.is_asked.set(true);
        self.asked.set(self.asked.get() + 1);
        Some(Lookup {
            names: Rc::clone(self),
            name: Rc::clone(name),
        })
    }

    /// The right to wait; `None` where as many wait as may.
    pub(super) fn wait(&self) -> Option<Waiting<'_>> {
        let waiting = self.waiting.get();
        (waiting < WAITING_MAX).then(|| {
            self.waiting.set(waiting + 1);
            Waiting(self)
        })
    }
}

impl Name {
    /// What is known of it at `now`.
    pub(super) fn known(&self, now: Instant) -> Known {
        self.entry.borrow().known(now)
    }

    /// Whether a lookup is under way.
    pub(super) fn is_asked(&self) -> bool {
        self.is_asked.get()
    }

    /// Has a task woken when the lookup that is under way ends.
    pub(super) fn wake(&self, waker: &Waker) {
        self.waiting.borrow_mut().push(waker.clone());
    }

    fn is_due(&self, now: Instant) -> bool {
        !self.is_asked.get() && self.entry.borrow().is_due(self.used.get(), now)
    }
}

/// A lookup under way. However it ends, whoever waits for it goes on.
#[derive(Debug)]
pub(super) struct Lookup {
    names: Rc<Names>,
    pub(super) name: Rc<Name>,
}

impl Lookup {
    /// Takes its end.
    pub(super) fn end(self, looked: Looked, now: Instant) {
        self.name.entry.borrow_mut().learn(looked, now);
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        self.name.is_asked.set(false);
        self.names.asked.set(self.names.asked.get() - 1);
        self.name.waiting.take().into_iter().for_each(Waker::wake);
    }
}

/// One flow that waits.
#[derive(Debug)]
pub(super) struct Waiting<'a>(&'a Names);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.set(self.0.waiting.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use engine_core::endpoint::Unresolved;

    use super::*;

    fn scope(network: u32) -> Scope {
        Scope {
            network: NetworkId(network),
            netns: NetnsId(network),
            namespace: Netns::current().unwrap().identity(),
        }
    }

    fn host(text: &str) -> Hostname {
        Hostname::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_name_is_looked_up_once_at_a_time_for_each_network() {
        let (names, now) = (Rc::new(Names::new(8)), Instant::now());
        let one = names.find(scope(1), &host("a.example"), now).unwrap();
        let again = names.find(scope(1), &host("a.example"), now).unwrap();
        let other = names.find(scope(2), &host("a.example"), now).unwrap();
        assert!(Rc::ptr_eq(&one, &again) && !Rc::ptr_eq(&one, &other));
        let lookup = names.begin(&one).unwrap();
        assert!(names.begin(&again).is_none());
        assert!(names.begin(&other).is_some());
        lookup.end(Looked::Failed(Unresolved::Unanswered), now);
        assert!(matches!(one.known(now), Known::Not(Unresolved::Unanswered)));
        assert!(
            names.begin(&one).is_some(),
            "a lookup that is given up ends, too"
        );
        assert_eq!(names.asked.get(), 0);
    }

    #[test]
    fn the_name_that_was_used_longest_ago_makes_room() {
        let (names, now) = (Rc::new(Names::new(2)), Instant::now());
        let second = Duration::from_secs(1);
        let held = names.find(scope(1), &host("held.example"), now).unwrap();
        let lookup = names.begin(&held).unwrap();
        names.find(scope(1), &host("b.example"), now + second);
        let c = names
            .find(scope(1), &host("c.example"), now + 2 * second)
            .unwrap();
        assert_eq!(names.count.get(), 2, "b made room");
        let found = Looked::Found(Vec::new(), second);
        names.begin(&c).unwrap().end(found, now);
        let b = names
            .find(scope(1), &host("b.example"), now + 3 * second)
            .unwrap();
        let both = [names.begin(&b).unwrap(), lookup];
        let none = names.find(scope(1), &host("d.example"), now + 4 * second);
        assert!(none.is_none(), "all are looked up");
        drop(both);
    }

    #[test]
    fn unused_names_and_those_of_gone_networks_are_forgotten() {
        let (names, now) = (Rc::new(Names::new(8)), Instant::now());
        names.find(scope(1), &host("a.example"), now);
        names.find(scope(2), &host("b.example"), now);
        names.end_networks(|network| network == NetworkId(1));
        assert_eq!(names.count.get(), 1);
        names.sweep(now + UNUSED_MAX - Duration::from_secs(1));
        assert_eq!(names.count.get(), 1);
        names.sweep(now + UNUSED_MAX);
        assert_eq!(names.count.get(), 0);
    }

    #[test]
    fn flows_that_wait_are_bounded() {
        let names = Names::new(8);
        let waiting: Vec<_> = (0..WAITING_MAX).map(|_| names.wait().unwrap()).collect();
        assert!(names.wait().is_none());
        drop(waiting);
        assert!(names.wait().is_some());
    }
}
