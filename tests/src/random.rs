//! Random numbers that can be had again: `SEED=n` replays a run.

use std::time::{SystemTime, UNIX_EPOCH};

/// A generator of numbers (splitmix64: every seed is good, and it is one line).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of `SEED`, or of a seed of the moment. Prints the seed, so that a failure can
    /// be had again.
    pub fn from_environment() -> Self {
        let given = std::env::var("SEED")
            .ok()
            .and_then(|text| text.parse().ok());
        let seed = given.unwrap_or_else(|| {
            let now = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default();
            u64::from(now.subsec_nanos()) ^ now.as_secs()
        });
        crate::runner::say(&format!("  SEED={seed}"));
        Self(seed)
    }

    /// The numbers of one seed.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number under `limit`; the bias is far below what a test could see.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit.max(1)
    }

    /// A position in something of that length.
    pub fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap_or(0)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// As many bytes.
    pub fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..length.div_ceil(8))
            .flat_map(|_| self.number().to_le_bytes())
            .collect();
        bytes.truncate(length);
        bytes
    }

    /// A generator of its own for one flow.
    pub fn fork(&mut self) -> Self {
        Self(self.number())
    }
}
