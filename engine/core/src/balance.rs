//! Which of a route's targets is tried, and which one next: for connections and requests alike.

mod choice;

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

pub use choice::{Candidate, Draw, nth};

/// Heaviest weight of a target.
pub const WEIGHT_MAX: u16 = 256;

/// How connections and requests are spread over the targets of a route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// In turn, each as often as its weight says.
    #[default]
    RoundRobin,
    /// To the target with the fewest live connections or requests for its weight, over all workers.
    LeastConnections,
    /// The less busy one, for its weight, of two targets drawn at random. Nearly as even as asking
    /// all of them, and a target that looks idle by mistake does not draw all requests.
    PowerOfTwo,
    /// The same target for the same value. When a target comes or goes, only the values move that
    /// must: its own.
    Consistent(HashOn),
}

impl Balance {
    /// Whether the choice goes by how many connections or requests each target has.
    pub fn counts(&self) -> bool {
        match self {
            Self::LeastConnections | Self::PowerOfTwo => true,
            Self::RoundRobin | Self::Consistent(_) => false,
        }
    }
}

/// What consistent hashing looks at. What lacks it, as a connection lacks a request, is hashed by its
/// source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashOn {
    /// The client's address.
    Source,
    /// The path.
    Path,
    /// A field of the request, by its name in lower case.
    Field(Box<str>),
    /// A cookie.
    Cookie(Box<str>),
}

/// Live connections to one target, over all workers. It outlives the snapshot: the next one
/// inherits it. Touched once when a connection is dialed and once when it ends.
#[derive(Clone, Debug, Default)]
pub struct Load(Arc<Line>);

/// With the two counts of its [`Arc`] it takes 64 bytes, a cache line, and nothing that is read for every
/// request is beside it. Not two lines as a padding by type would be: there is one for each target.
#[derive(Debug, Default)]
struct Line {
    live: AtomicU32,
    _rest: [u32; 11],
}

const _: () = assert!(size_of::<Line>() + 2 * size_of::<usize>() == 64);

impl Load {
    /// Live connections at this moment.
    pub fn live(&self) -> u32 {
        self.0.live.load(Relaxed)
    }

    /// Whether both are one count.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Counts one connection for as long as the answer lives.
    pub fn occupy(&self) -> Occupied {
        self.0.live.fetch_add(1, Relaxed);
        Occupied(self.clone())
    }

    /// Counts one connection if that makes no more than `max` of them.
    pub fn try_occupy(&self, max: u32) -> Option<Occupied> {
        let occupied = self.occupy();
        (self.live() <= max).then_some(occupied)
    }
}

/// One live connection in a [`Load`].
#[derive(Debug)]
#[must_use]
pub struct Occupied(Load);

impl Drop for Occupied {
    fn drop(&mut self) {
        self.0.0.live.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_counts_what_lives() {
        let load = Load::default();
        let first = load.occupy();
        let second = Load::clone(&load).occupy();
        assert_eq!(load.live(), 2);
        drop((first, second));
        assert_eq!(load.live(), 0);
    }
}
