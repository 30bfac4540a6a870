//! Numbers that nobody can foresee.

use std::cell::Cell;

use ahash::RandomState;

/// A worker's own source of them.
#[derive(Debug, Default)]
pub(crate) struct Rng {
    seeds: RandomState,
    draws: Cell<u64>,
}

impl Rng {
    /// The next number.
    pub(crate) fn draw(&self) -> u64 {
        let draw = self.draws.get();
        self.draws.set(draw.wrapping_add(1));
        self.seeds.hash_one(draw)
    }
}
