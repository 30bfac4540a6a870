//! Which target a request goes to, and which one next.
//!
//! Beside the ways of [`engine_core::balance`]: power of two choices, and consistent hashing by
//! weighted rendezvous. Pure functions of what they are given; random numbers are handed in.

use std::net::{IpAddr, SocketAddr};

use engine_core::balance::{Balance as Shared, Candidate, nth as shared_nth};

use crate::{field, request::Request};

/// How requests are spread over the targets of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Balance {
    /// As connections are.
    Shared(Shared),
    /// The less busy one, for its weight, of two targets drawn at random. Nearly as even as asking
    /// all of them, and a target that looks idle by mistake does not draw all requests.
    PowerOfTwo,
    /// The same target for the same value. When a target comes or goes, only the values move that
    /// must: its own.
    Consistent(HashOn),
}

impl Default for Balance {
    fn default() -> Self {
        Self::Shared(Shared::RoundRobin)
    }
}

/// What consistent hashing looks at. A request that lacks it is hashed by its source.
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

/// A target as the choice sees it.
#[derive(Clone, Copy, Debug)]
pub struct Member {
    /// Weight, live connections, and whether it is a backup.
    pub candidate: Candidate,
    /// Which target it is, whatever its position: [`identity`] of its address.
    pub identity: u64,
    /// Neither checked to be down nor ejected.
    pub available: bool,
}

/// What a choice depends on beside the targets.
#[derive(Clone, Copy, Debug)]
pub struct Draw {
    /// Counts the requests of the rule on this worker.
    pub turn: u64,
    /// Random, and the same for all places of one request.
    pub random: u64,
    /// [`HashOn::key`] of the request; 0 where nothing is hashed.
    pub key: u64,
}

impl HashOn {
    /// The number that a request is hashed to: the same in every process.
    pub fn key(&self, client: IpAddr, request: &Request<'_>) -> u64 {
        let value = match self {
            Self::Source => None,
            Self::Path => Some(request.target.path.as_bytes()),
            Self::Field(name) => request.fields.first(name),
            Self::Cookie(name) => field::cookies(request.fields, name).next(),
        };
        match (value, client) {
            (Some(value), _) => fold(value),
            (None, IpAddr::V4(v4)) => fold(&v4.octets()),
            (None, IpAddr::V6(v6)) => fold(&v6.octets()),
        }
    }
}

/// The number that stands for a target.
pub fn identity(target: SocketAddr) -> u64 {
    let ip = match target.ip() {
        IpAddr::V4(v4) => fold(&v4.octets()),
        IpAddr::V6(v6) => fold(&v6.octets()),
    };
    mix(ip ^ u64::from(target.port()))
}

/// The order in which targets are tried: primaries, then backups, and only those that are
/// available. Each index appears at most once; `place` counts the attempts from 0.
pub fn nth(balance: &Balance, members: &[Member], draw: Draw, place: usize) -> Option<usize> {
    if let Balance::Shared(shared) = balance {
        return nth_shared(*shared, members, draw.turn, place);
    }
    let count = |backup| members_of(members, backup).count();
    let primaries = count(false);
    let (backup, place) = match place.checked_sub(primaries) {
        None => (false, place),
        Some(place) => (true, place),
    };
    match balance {
        Balance::PowerOfTwo => nth_of_two(members, backup, draw.random, place),
        Balance::Consistent(_) => nth_consistent(members, backup, draw.key, place),
        Balance::Shared(_) => None,
    }
}

fn members_of(members: &[Member], backup: bool) -> impl Iterator<Item = (usize, &Member)> + Clone {
    members
        .iter()
        .enumerate()
        .filter(move |(_, it)| it.available && it.candidate.backup == backup)
}

/// Leaves out who is not available. The positions of the others are found again by counting.
fn nth_shared(shared: Shared, members: &[Member], turn: u64, place: usize) -> Option<usize> {
    let available = || members.iter().enumerate().filter(|(_, it)| it.available);
    let candidates: Vec<Candidate> = available().map(|(_, it)| it.candidate).collect();
    if candidates.is_empty() {
        return None;
    }
    let chosen = shared_nth(shared, &candidates, turn, place)?;
    available().nth(chosen).map(|(index, _)| index)
}

fn nth_of_two(members: &[Member], backup: bool, random: u64, place: usize) -> Option<usize> {
    let group = || members_of(members, backup);
    let count = group().count();
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
        let live = group().nth(at).map_or(0, |(_, it)| it.candidate.live);
        let weight = group().nth(other).map_or(1, |(_, it)| it.candidate.weight);
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
    group().nth(position).map(|(index, _)| index)
}

/// Weighted rendezvous hashing: each target draws a number from the key, exponentially distributed
/// at the rate of its weight, and the lowest wins.
fn nth_consistent(members: &[Member], backup: bool, key: u64, place: usize) -> Option<usize> {
    let score = |it: &Member| {
        // 53 bits make an even number above 0 and up to 1.
        let even = ((mix(it.identity ^ key) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
        -even.ln() / f64::from(it.candidate.weight.max(1))
    };
    let before = |a: (f64, usize), b: (f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).is_lt();
    let mut last = None;
    for _ in 0..=place {
        let mut best: Option<(f64, usize)> = None;
        for (index, it) in members_of(members, backup) {
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

/// FNV-1a, finished by [`mix`]. Not against collisions that somebody looks for: whoever chooses the
/// value may choose the target.
fn fold(bytes: &[u8]) -> u64 {
    let folded = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(folded)
}

/// The finisher of SplitMix64: each bit in changes half of the bits out.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(index: u8, weight: u16, live: u32) -> Member {
        Member {
            candidate: Candidate {
                weight,
                backup: false,
                live,
            },
            identity: identity(SocketAddr::from(([10, 0, 0, index], 80))),
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
            Balance::Shared(Shared::RoundRobin),
            Balance::Shared(Shared::LeastConnections),
            Balance::PowerOfTwo,
            Balance::Consistent(HashOn::Path),
        ]
    }

    #[test]
    fn every_available_target_is_tried_once_and_backups_last() {
        let mut members: Vec<Member> = (0..6).map(|index| member(index, 1, 0)).collect();
        members[1].available = false;
        members[3].candidate.backup = true;
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
        let down = [Member {
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
        let mut members: Vec<Member> = (0..5).map(|index| member(index, 1, 0)).collect();
        members[4].candidate.weight = 4;
        let choose = |members: &[Member]| -> Vec<usize> {
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
}
