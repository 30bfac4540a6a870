//! Which of a route's targets is dialed, and which one next.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::Relaxed},
};

use crossbeam_utils::CachePadded;

/// Heaviest weight of a target.
pub const WEIGHT_MAX: u16 = 256;

/// How connections are spread over the targets of a route.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// In turn, each as often as its weight says.
    #[default]
    RoundRobin,
    /// To the target with the fewest live connections for its weight, over all workers.
    LeastConnections,
}

/// Live connections to one target, over all workers. It outlives the snapshot: the next one
/// inherits it. Touched once when a connection is dialed and once when it ends.
#[derive(Clone, Debug, Default)]
pub struct Load(Arc<CachePadded<AtomicU32>>);

impl Load {
    /// Live connections at this moment.
    pub fn live(&self) -> u32 {
        self.0.load(Relaxed)
    }

    /// Counts one connection for as long as the answer lives.
    pub fn occupy(&self) -> Occupied {
        self.0.fetch_add(1, Relaxed);
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
        self.0.0.fetch_sub(1, Relaxed);
    }
}

/// What the choice needs to know of a target.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// From 1 to [`WEIGHT_MAX`].
    pub weight: u16,
    /// Only dialed when no other target answers.
    pub backup: bool,
    /// Live connections now; read only for [`Balance::LeastConnections`].
    pub live: u32,
}

/// The order in which targets are tried: the chosen one, then the other primaries, then backups.
///
/// `turn` counts the route's connections on this worker; consecutive turns give weighted round
/// robin. Each index appears at most once. `place` counts the attempts from 0; the answer is
/// `None` when every target was tried.
pub fn nth(balance: Balance, candidates: &[Candidate], turn: u64, place: usize) -> Option<usize> {
    let primaries = candidates
        .iter()
        .filter(|candidate| !candidate.backup)
        .count();
    let (backup, place, count) = if place < primaries {
        (false, place, primaries)
    } else {
        (true, place - primaries, candidates.len() - primaries)
    };
    if place >= count {
        return None;
    }
    let members = || {
        candidates
            .iter()
            .enumerate()
            .filter(move |(_, c)| c.backup == backup)
    };
    match balance {
        Balance::RoundRobin => {
            let first = weighted_turn(members().map(|(_, c)| c.weight), turn);
            members().cycle().nth(first + place).map(|(index, _)| index)
        }
        Balance::LeastConnections => {
            let mut order: Vec<usize> = members().map(|(index, _)| index).collect();
            let turns = usize::try_from(turn % order.len() as u64).unwrap_or(0);
            order.rotate_left(turns);
            order.sort_by(|&a, &b| {
                let share = |c: &Candidate, other: &Candidate| {
                    u64::from(c.live + 1) * u64::from(other.weight)
                };
                let (a, b) = (&candidates[a], &candidates[b]);
                share(a, b).cmp(&share(b, a))
            });
            order.get(place).copied()
        }
    }
}

/// The position whose turn it is: in every `sum of weights` consecutive turns, each position comes
/// up exactly as often as its weight.
///
/// Turns stride through the cycle by the golden ratio (made coprime to the sum), so that a heavy
/// target's turns are spread out and no burst hits it.
fn weighted_turn(weights: impl Iterator<Item = u16> + Clone, turn: u64) -> usize {
    let sum: u64 = weights.clone().map(|weight| u64::from(weight.max(1))).sum();
    if sum == 0 {
        return 0;
    }
    let mut slot = (turn % sum) * stride(sum) % sum;
    for (position, weight) in weights.enumerate() {
        let weight = u64::from(weight.max(1));
        if slot < weight {
            return position;
        }
        slot -= weight;
    }
    0
}

fn stride(sum: u64) -> u64 {
    let golden = sum * 618 / 1000;
    (golden.max(1)..sum)
        .find(|&step| gcd(step, sum) == 1)
        .unwrap_or(1)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Candidate = Candidate {
        weight: 1,
        backup: false,
        live: 0,
    };

    #[test]
    fn round_robin_gives_each_target_its_weight_in_every_cycle() {
        let candidates = [
            Candidate { weight: 5, ..ONE },
            ONE,
            Candidate { weight: 2, ..ONE },
        ];
        for start in [0, 8, 80_000] {
            let mut hits = [0; 3];
            for turn in start..start + 8 {
                hits[nth(Balance::RoundRobin, &candidates, turn, 0).unwrap()] += 1;
            }
            assert_eq!(hits, [5, 1, 2]);
        }
    }

    #[test]
    fn every_target_is_tried_once_and_backups_last() {
        let candidates = [
            Candidate {
                backup: true,
                ..ONE
            },
            ONE,
            Candidate { weight: 9, ..ONE },
            ONE,
        ];
        for balance in [Balance::RoundRobin, Balance::LeastConnections] {
            for turn in 0..20 {
                let mut order: Vec<usize> = (0..4)
                    .map(|place| nth(balance, &candidates, turn, place).unwrap())
                    .collect();
                assert_eq!(order[3], 0, "{balance:?}: the backup comes last");
                order.sort_unstable();
                assert_eq!(order, [0, 1, 2, 3]);
                assert_eq!(nth(balance, &candidates, turn, 4), None);
            }
        }
    }

    #[test]
    fn least_connections_counts_by_weight_and_takes_turns_between_equals() {
        let busy = [
            Candidate { live: 3, ..ONE },
            Candidate {
                live: 5,
                weight: 4,
                ..ONE
            },
        ];
        assert_eq!(nth(Balance::LeastConnections, &busy, 0, 0), Some(1));
        let equal = [ONE, ONE];
        let first = nth(Balance::LeastConnections, &equal, 0, 0);
        assert_ne!(first, nth(Balance::LeastConnections, &equal, 1, 0));
    }

    #[test]
    fn only_backups_is_still_a_route() {
        let candidates = [Candidate {
            backup: true,
            ..ONE
        }];
        assert_eq!(nth(Balance::RoundRobin, &candidates, 3, 0), Some(0));
        assert_eq!(nth(Balance::RoundRobin, &[], 3, 0), None);
    }

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
