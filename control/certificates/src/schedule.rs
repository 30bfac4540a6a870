//! What is done when: which name has its turn, without a clock, a die or any IO of its own.
//!
//! ```text
//!   want ─► waits ─► next ─► runs ─► done ─► waits for its renewal
//!             ▲                └───► failed ─► waits, ever longer
//!             └── budgets of the directory and of the network; so many at once
//! ```
//!
//! Times are Unix seconds. However many names wait, a step costs the logarithm of their number.

mod budget;
mod moment;

use std::collections::{BTreeMap, BTreeSet};

use control_api::boot::{CertificateName, Challenge, DirectoryName};

pub use self::{
    budget::Budget,
    moment::{Chance, look_wait, renewal, retry_wait, suggested},
};

/// How long a directory is left alone that said it has too much to do. The name itself waits for as
/// long as it was told; others may have nothing to do with that limit.
const PAUSE_MAX: u64 = 60;

/// How a certificate is obtained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuePolicy {
    /// The port of the network that it is for; none for the gateway's own.
    pub network: Option<u16>,
    /// Where.
    pub directory: DirectoryName,
    /// How the name is proved.
    pub challenge: Challenge,
    /// Whether nobody declared it and a client asked for it.
    pub on_demand: bool,
}

/// What has its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// A certificate is to be obtained.
    Order {
        /// Orders in a row that failed before.
        failures: u32,
    },
    /// The directory is to be asked when to renew (RFC 9773).
    Look,
}

/// When a name has its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// When a certificate is to be obtained.
    pub order: u64,
    /// When the directory is asked whether that is right; never, where it cannot say.
    pub look: Option<u64>,
}

impl Due {
    fn first(self) -> u64 {
        self.look.map_or(self.order, |look| look.min(self.order))
    }
}

/// The bounds of a schedule.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Turns that may be under way at once.
    pub at_once_max: usize,
    /// Orders an hour for one network.
    pub network_per_hour: u32,
    /// The first wait after a failure, in seconds.
    pub retry_wait: u64,
}

/// All names and when they have their turn.
#[derive(Debug)]
pub struct Schedule {
    bounds: Bounds,
    queues: BTreeMap<DirectoryName, Queue>,
    networks: BTreeMap<Option<u16>, Budget>,
    names: BTreeMap<CertificateName, Entry>,
    running: usize,
}

#[derive(Debug)]
struct Queue {
    budget: Budget,
    paused_until: u64,
    waiting: BTreeSet<(u64, CertificateName)>,
}

#[derive(Debug)]
struct Entry {
    terms: IssuePolicy,
    due: Due,
    /// Under which time it waits; absent while it runs.
    queued: Option<u64>,
    failures: u32,
    /// It is not wanted any more, and goes when what runs has ended.
    is_leaving: bool,
}

impl Schedule {
    /// An empty one for these directories, with the orders an hour that each of them takes.
    pub fn new(
        bounds: Bounds,
        directories: impl IntoIterator<Item = (DirectoryName, u32)>,
    ) -> Self {
        let queues = directories.into_iter().map(|(name, per_hour)| {
            let queue = Queue {
                budget: Budget::new(per_hour),
                paused_until: 0,
                waiting: BTreeSet::new(),
            };
            (name, queue)
        });
        Self {
            bounds,
            queues: queues.collect(),
            networks: BTreeMap::new(),
            names: BTreeMap::new(),
            running: 0,
        }
    }

    /// Counts an order that was made at `time`, before this schedule began. To be called in their
    /// order.
    pub fn remember(&mut self, time: u64, directory: &DirectoryName, network: Option<u16>) {
        if let Some(queue) = self.queues.get_mut(directory) {
            queue.budget.take(time);
        }
        self.network(network).take(time);
    }

    /// Has a name's certificate be obtained when it is due. A name that is known keeps its turn
    /// unless it is to be obtained otherwise than before.
    pub fn want(&mut self, name: CertificateName, terms: IssuePolicy, due: Due, failures: u32) {
        if let Some(entry) = self.names.get_mut(&name) {
            entry.is_leaving = false;
            if entry.terms == terms {
                return;
            }
            if entry.queued.is_none() {
                // What runs is of the old terms; the new ones count when it has ended.
                entry.terms = terms;
                return;
            }
            self.unqueue(&name);
        }
        let entry = Entry {
            terms,
            due,
            queued: None,
            failures,
            is_leaving: false,
        };
        self.names.insert(name.clone(), entry);
        self.queue(&name, due.first());
        self.check();
    }

    /// Forgets a name.
    pub fn forget(&mut self, name: &CertificateName) {
        let Some(entry) = self.names.get_mut(name) else {
            return;
        };
        if entry.queued.is_none() {
            entry.is_leaving = true;
            return;
        }
        self.unqueue(name);
        self.names.remove(name);
        self.check();
    }

    /// Starts what has its turn at `now`, if anything has. A name never has two turns at once.
    pub fn next(&mut self, now: u64) -> Option<(CertificateName, IssuePolicy, Turn)> {
        if self.running >= self.bounds.at_once_max {
            return None;
        }
        let directories: Vec<DirectoryName> = self.queues.keys().cloned().collect();
        let found = directories
            .iter()
            .find_map(|directory| self.next_of(directory, now));
        self.check();
        found
    }

    fn next_of(
        &mut self,
        directory: &DirectoryName,
        now: u64,
    ) -> Option<(CertificateName, IssuePolicy, Turn)> {
        loop {
            let queue = self.queues.get(directory)?;
            if queue.paused_until > now {
                return None;
            }
            let (at, name) = queue.waiting.first()?.clone();
            if at > now {
                return None;
            }
            let entry = self.names.get(&name)?;
            let (terms, due, failures) = (entry.terms.clone(), entry.due, entry.failures);
            let turn = if due.order <= now {
                // Nothing else of this directory could have its turn either, but for a look, which
                // can wait as well.
                queue.budget.ask(now).ok()?;
                if let Err(later) = self.network(terms.network).ask(now) {
                    // The others are not held up by one network that wants too much.
                    self.unqueue(&name);
                    self.queue(&name, later);
                    continue;
                }
                self.network(terms.network).take(now);
                self.queues.get_mut(directory)?.budget.take(now);
                Turn::Order { failures }
            } else {
                Turn::Look
            };
            self.unqueue(&name);
            self.running += 1;
            return Some((name, terms, turn));
        }
    }

    /// When [`Schedule::next`] may have something again; never, when only the end of what runs, or
    /// a new name, can change that.
    pub fn wake(&self, now: u64) -> Option<u64> {
        if self.running >= self.bounds.at_once_max {
            return None;
        }
        let queues = self.queues.values();
        let times = queues.filter_map(|queue| {
            let (at, _) = queue.waiting.first()?;
            let budget = queue.budget.ask(*at.max(&now)).err().unwrap_or(0);
            Some((*at).max(queue.paused_until).max(budget))
        });
        times.min()
    }

    /// Ends a turn that went well.
    pub fn done(&mut self, name: &CertificateName, due: Due) {
        let Some(entry) = self.end(name) else { return };
        entry.failures = 0;
        entry.due = due;
        self.queue(name, due.first());
        self.check();
    }

    /// Ends a look that told something, or nothing: the failures of orders are what they were.
    pub fn looked(&mut self, name: &CertificateName, order: Option<u64>, look: Option<u64>) {
        let Some(entry) = self.end(name) else { return };
        entry.due.order = order.unwrap_or(entry.due.order);
        entry.due.look = look;
        let first = entry.due.first();
        self.queue(name, first);
        self.check();
    }

    /// Ends an order that failed, and tells how often in a row that was and when it is tried again.
    /// `asked` is for how many seconds the directory asks to be left alone.
    pub fn failed(
        &mut self,
        name: &CertificateName,
        now: u64,
        asked: Option<u64>,
        chance: Chance,
    ) -> Option<(u32, u64)> {
        let first = self.bounds.retry_wait;
        let entry = self.end(name)?;
        entry.failures = entry.failures.saturating_add(1);
        let failures = entry.failures;
        let at = now.saturating_add(retry_wait(first, failures, asked, chance));
        entry.due = Due {
            order: at,
            look: None,
        };
        let directory = entry.terms.directory.clone();
        if let (Some(asked), Some(queue)) = (asked, self.queues.get_mut(&directory)) {
            queue.paused_until = queue.paused_until.max(now + asked.min(PAUSE_MAX));
        }
        self.queue(name, at);
        self.check();
        Some((failures, at))
    }

    /// When a name has its next turn; absent while it has one, and for unknown names.
    pub fn due(&self, name: &CertificateName) -> Option<Due> {
        let entry = self.names.get(name)?;
        entry.queued.map(|_| entry.due)
    }

    /// Whether the name is known, and will be once what runs has ended.
    pub fn has(&self, name: &CertificateName) -> bool {
        self.names.get(name).is_some_and(|entry| !entry.is_leaving)
    }

    /// Whether it was known before and is no more, though its turn has not ended.
    pub fn is_leaving(&self, name: &CertificateName) -> bool {
        self.names.get(name).is_none_or(|entry| entry.is_leaving)
    }

    /// How many turns are under way.
    pub fn running(&self) -> usize {
        self.running
    }

    /// Ends a turn. The entry, unless it is to go.
    fn end(&mut self, name: &CertificateName) -> Option<&mut Entry> {
        let entry = self.names.get(name)?;
        debug_assert!(entry.queued.is_none(), "{name} has no turn");
        self.running = self.running.saturating_sub(1);
        if entry.is_leaving {
            self.names.remove(name);
            return None;
        }
        self.names.get_mut(name)
    }

    fn network(&mut self, network: Option<u16>) -> &mut Budget {
        let per_hour = self.bounds.network_per_hour;
        self.networks
            .entry(network)
            .or_insert_with(|| Budget::new(per_hour))
    }

    fn queue(&mut self, name: &CertificateName, at: u64) {
        let Some(entry) = self.names.get_mut(name) else {
            return;
        };
        entry.queued = Some(at);
        // The boot file was checked: the directory is there.
        if let Some(queue) = self.queues.get_mut(&entry.terms.directory) {
            queue.waiting.insert((at, name.clone()));
        }
    }

    fn unqueue(&mut self, name: &CertificateName) {
        let Some(entry) = self.names.get_mut(name) else {
            return;
        };
        let queue = self.queues.get_mut(&entry.terms.directory);
        if let (Some(at), Some(queue)) = (entry.queued.take(), queue) {
            queue.waiting.remove(&(at, name.clone()));
        }
    }

    fn check(&self) {
        debug_assert!(self.running <= self.names.len());
        debug_assert!(self.running <= self.bounds.at_once_max);
    }
}

#[cfg(test)]
mod tests;
