//! How many names were looked up, and what came of it.

/// What one worker, or all of them, counted of lookups of targets' names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookupTally {
    /// Lookups that ended.
    pub lookups: u64,
    /// Those of them that no name server answered, or that led only to where no client is led.
    pub failures: u64,
    /// Those of them whose answer was that there is no address.
    pub negative: u64,
    /// Names that were not looked up, because the worker had as many names or lookups as it may.
    pub refused: u64,
}

impl LookupTally {
    /// Adds what another one counted.
    pub(crate) fn add(&mut self, other: &Self) {
        self.lookups += other.lookups;
        self.failures += other.failures;
        self.negative += other.negative;
        self.refused += other.refused;
    }
}
