//! The choice: pure functions of what they are given. Random numbers are handed in.

use super::Balance;
use crate::{hash::mix, ids::TargetId};

/// A target as the choice sees it.
#[derive(Clone, Copy, Debug)]
pub struct Candidate {
    /// Which target it is.
    pub id: TargetId,
    /// From 1 to [`super::WEIGHT_MAX`].
    pub weight: u16,
    /// Only tried when no other target answers.
    pub backup: bool,
    /// Live connections or requests now; read only where [`Balance::counts`].
    pub live: u32,
    /// Not known to be down, not left out, not tried yet.
    pub available: bool,
}

/// What a choice depends on beside the targets.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// Counts the connections or requests of the route on this worker: consecutive turns give weighted
    /// round robin.
    pub turn: u64,
    /// Random, and the same for all places of one choice.
    pub random: u64,
    /// What consistent hashing goes by; 0 where nothing is hashed.
    pub key: u64,
}

/// The order in which targets are tried: primaries, then backups, and only those that are available. Each
/// position appears at most once; `place` counts the attempts from 0, and the answer is `None` when all
/// were tried.
pub fn nth(balance: &Balance, candidates: &[Candidate], draw: Draw, place: usize) -> Option<usize> {
    let primaries = group(candidates, false).count();
    let (backup, place) = match place.checked_sub(primaries) {
        None => (false, place),
        Some(place) => (true, place),
    };
    if place >= group(candidates, backup).count() {
        return None;
    }
    match balance {
        Balance::RoundRobin => nth_in_turn(candidates, backup, draw.turn, place),
        Balance::LeastConnections => nth_least(candidates, backup, draw.turn, place),
        Balance::PowerOfTwo => nth_of_two(candidates, backup, draw.random, place),
        Balance::Consistent(_) => nth_consistent(candidates, backup, draw.key, place),
    }
}

fn group(
    candidates: &[Candidate],
    backup: bool,
) -> impl Iterator<Item = (usize, &Candidate)> + Clone {
    candidates
        .iter()
        .enumerate()
        .filter(move |(_, it)| it.available && it.backup == backup)
}

fn nth_in_turn(candidates: &[Candidate], backup: bool, turn: u64, place: usize) -> Option<usize> {
    let members = || group(candidates, backup);
    let first = weighted_turn(members().map(|(_, it)| it.weight), turn);
    members().cycle().nth(first + place).map(|(index, _)| index)
}

/// Equals take turns.
fn nth_least(candidates: &[Candidate], backup: bool, turn: u64, place: usize) -> Option<usize> {
    let mut order: Vec<usize> = group(candidates, backup).map(|(index, _)| index).collect();
    let turns = usize::try_from(turn % order.len().max(1) as u64).unwrap_or(0);
    order.rotate_left(turns);
    order.sort_by(|&a, &b| {
        let share = |one: &Candidate, other: &Candidate| {
            (u64::from(one.live) + 1) * u64::from(other.weight)
        };
        let (a, b) = (&candidates[a], &candidates[b]);
        share(a, b).cmp(&share(b, a))
    });
    order.get(place).copied()
}

fn nth_of_two(candidates: &[Candidate], backup: bool, random: u64, place: usize) -> Option<usize> {
    let members = || group(candidates, backup);
    let count = members().count();
    if place >= count {
        return None;
    }
    let at = |random: u64, of: usize| usize::try_from(random % of.max(1) as u64).unwrap_or(0);
    let first = at(random, count);
    let second = match count {
        1 => first,
        _ => (first + 1 + at(random >> 32, count - 1)) % count,
    };
    let share = |at: usize, other: usize| {
        let live = members().nth(at).map_or(0, |(_, it)| it.live);
        let weight = members().nth(other).map_or(1, |(_, it)| it.weight);
        (u64::from(live) + 1) * u64::from(weight.max(1))
    };
    let (better, worse) = match share(first, second) <= share(second, first) {
        true => (first, second),
        false => (second, first),
    };
    let position = match place {
        0 => better,
        1 => worse,
        _ => (0..count)
            .filter(|at| *at != first && *at != second)
            .nth(place - 2)?,
    };
    members().nth(position).map(|(index, _)| index)
}

/// Weighted rendezvous hashing: each target draws a number from the key, exponentially distributed
/// at the rate of its weight, and the lowest wins.
fn nth_consistent(candidates: &[Candidate], backup: bool, key: u64, place: usize) -> Option<usize> {
    let score = |it: &Candidate| {
        // 53 bits make an even number above 0 and up to 1.
        let even = ((mix(it.id.0 ^ key) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        -even.ln() / f64::from(it.weight.max(1))
    };
    let before = |a: (f64, usize), b: (f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).is_lt();
    let mut last = None;
    for _ in 0..=place {
        let mut best: Option<(f64, usize)> = None;
        for (index, it) in group(candidates, backup) {
            let mine = (score(it), index);
            let is_left = last.is_none_or(|last| before(last, mine));
            if is_left && best.is_none_or(|best| before(mine, best)) {
                best = Some(mine);
            }
        }
        last = Some(best?);
    }
    last.map(|(_, index)| index)
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
    use std::net::SocketAddr;

    use super::*;
    use crate::{balance::HashOn, endpoint::Endpoint};

    fn member(index: u8, weight: u16, live: u32) -> Candidate {
        Candidate {
            id: Endpoint::from(SocketAddr::from(([10, 0, 0, index], 80))).id(),
            weight,
            backup: false,
            live,
            available: true,
        }
    }

    fn draw(random: u64) -> Draw {
        Draw {
            turn: random,
            random: mix(random),
            key: mix(random ^ 0x55),
        }
    }

    fn all() -> [Balance; 4] {
        [
            Balance::RoundRobin,
            Balance::LeastConnections,
            Balance::PowerOfTwo,
            Balance::Consistent(HashOn::Path),
        ]
    }

    #[test]
    fn every_available_target_is_tried_once_and_backups_last() {
        let mut members: Vec<Candidate> = (0..6).map(|index| member(index, 1, 0)).collect();
        members[1].available = false;
        members[3].backup = true;
        for balance in all() {
            for turn in 0..50 {
                let order: Vec<usize> = (0..5)
                    .map(|place| nth(&balance, &members, draw(turn), place).unwrap())
                    .collect();
                assert_eq!(order[4], 3, "{balance:?}");
                let mut sorted = order.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, [0, 2, 3, 4, 5], "{balance:?}");
                assert_eq!(nth(&balance, &members, draw(turn), 5), None);
            }
        }
    }

    #[test]
    fn nobody_available_is_nobody_chosen() {
        let down = [Candidate {
            available: false,
            ..member(0, 1, 0)
        }];
        for balance in all() {
            assert_eq!(nth(&balance, &down, draw(1), 0), None, "{balance:?}");
            assert_eq!(nth(&balance, &[], draw(1), 0), None, "{balance:?}");
        }
    }

    #[test]
    fn the_less_busy_of_two_is_chosen() {
        let members = [member(0, 1, 9), member(1, 1, 3), member(2, 4, 9)];
        let mut hits = [0; 3];
        for turn in 0..3000 {
            hits[nth(&Balance::PowerOfTwo, &members, draw(turn), 0).unwrap()] += 1;
        }
        assert_eq!(hits[0], 0, "it is the busier one of any two");
        assert!(hits[2] > hits[1], "{hits:?}");
    }

    #[test]
    fn consistent_hashing_spreads_by_weight_and_moves_only_what_it_must() {
        let balance = Balance::Consistent(HashOn::Source);
        let mut members: Vec<Candidate> = (0..5).map(|index| member(index, 1, 0)).collect();
        members[4].weight = 4;
        let choose = |members: &[Candidate]| -> Vec<usize> {
            let keys = 0..8000;
            keys.map(|key| nth(&balance, members, draw(key), 0).unwrap())
                .collect()
        };
        let before = choose(&members);
        for index in 0..4 {
            let hits = before.iter().filter(|it| **it == index).count();
            assert!((850..1150).contains(&hits), "{hits}");
        }
        members[2].available = false;
        for (before, after) in before.iter().zip(choose(&members)) {
            assert!(*before == after || *before == 2);
        }
    }

    #[test]
    fn round_robin_gives_each_target_its_weight_in_every_cycle() {
        let candidates = [member(0, 5, 0), member(1, 1, 0), member(2, 2, 0)];
        for start in [0, 8, 80_000] {
            let mut hits = [0; 3];
            for turn in start..start + 8 {
                hits[nth(&Balance::RoundRobin, &candidates, draw(turn), 0).unwrap()] += 1;
            }
            assert_eq!(hits, [5, 1, 2]);
        }
    }

    #[test]
    fn least_connections_counts_by_weight_and_takes_turns_between_equals() {
        let least = |candidates: &[Candidate], turn| {
            nth(&Balance::LeastConnections, candidates, draw(turn), 0)
        };
        assert_eq!(least(&[member(0, 1, 3), member(1, 4, 5)], 0), Some(1));
        let equal = [member(0, 1, 0), member(1, 1, 0)];
        assert_ne!(least(&equal, 0), least(&equal, 1));
    }

    #[test]
    fn only_backups_is_still_a_route() {
        let backup = Candidate {
            backup: true,
            ..member(0, 1, 0)
        };
        assert_eq!(nth(&Balance::RoundRobin, &[backup], draw(3), 0), Some(0));
    }
}
