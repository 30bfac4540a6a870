//! How long and how finely things are kept.

use std::time::Duration;

/// What is kept, how finely, for how long.
///
/// Nothing that was counted is ever dropped, only told less finely: rows are merged into hours,
/// hours into days, days into months of 30 days, which stay. Totals are not touched by any of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// How often rows are written when nobody asks. Default: 60 s; at least 1 s.
    pub row_interval: Duration,
    /// For how long rows stay as they were written; then they become hours. Default: 24 h.
    pub fine: Duration,
    /// For how long hours stay hours; then they become days. Default: 35 days.
    pub hours: Duration,
    /// For how long days stay days; then they become months, and clients are no longer told apart.
    /// Default: 400 days.
    pub days: Duration,
    /// How many clients of a route are told apart in each hour, by most bytes; the others are
    /// counted together. Four times as many are until the hour is merged, first come. Default: 100.
    pub clients_max: usize,
    /// Entries of the audit log about each owner; 64 times as many about all. Default: 10,000.
    pub audit_max: u32,
    /// Events about each owner and about none; 64 times as many in all. Default: 10,000.
    pub events_max: u32,
    /// Generations that changed the part of each owner; the current one always stays. Default: 100.
    pub generations_max: u32,
}

impl Default for Retention {
    fn default() -> Self {
        const HOUR: u64 = 60 * 60;
        Self {
            row_interval: Duration::from_secs(60),
            fine: Duration::from_secs(24 * HOUR),
            hours: Duration::from_secs(35 * 24 * HOUR),
            days: Duration::from_secs(400 * 24 * HOUR),
            clients_max: 100,
            audit_max: 10_000,
            events_max: 10_000,
            generations_max: 100,
        }
    }
}
