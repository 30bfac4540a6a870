//! What is kept of the accounts, and for how long.

use std::{num::NonZeroU32, time::Duration};

use crate::{
    document::Spot,
    problem::Problems,
    section::{Check, section},
};

section! {
    /// How finely accounts are kept, and for how long. Nothing is lost when it gets older: rows are
    /// merged into hours, those into days, and those into months of 30 days, which stay.
    pub struct Accounts {
        /// How often a row is written for what changed. Totals are written every second.
        row_interval: Duration = "60s" in "1s"..="1h";
        /// How long rows are kept; then they are merged into hours.
        retention: Duration = "24h" in "1h"..="400d";
        /// How long hours are kept; then they are merged into days.
        hours_retention: Duration = "35d" in "1d"..="4000d";
        /// How long days are kept; then they are merged into months, without clients.
        days_retention: Duration = "400d" in "31d"..="40000d";
        /// Clients of a route with their own account in each hour: those with the most bytes. The
        /// others are counted together.
        clients_max: NonZeroU32 = "100" in "1"..="1000000";
        /// Entries that the audit log keeps about each owner of the state, up to 64 times as many in all.
        audit_max: NonZeroU32 = "10000" in "100"..="10000000";
        /// Events that are kept for clients that reconnect: of each owner and of the gateway itself.
        events_max: NonZeroU32 = "10000" in "100"..="10000000";
        /// Generations that are kept for a rollback of each owner's part of the desired state.
        generations_max: NonZeroU32 = "100" in "2"..="100000";
    }
}

impl Check for Accounts {
    fn check(&self, spot: &Spot<'_>, problems: &mut Problems) {
        for (finer, coarser, is_longer) in [
            (
                "retention",
                "hours_retention",
                self.retention > self.hours_retention,
            ),
            (
                "hours_retention",
                "days_retention",
                self.hours_retention > self.days_retention,
            ),
        ] {
            if is_longer {
                spot.error(
                    problems,
                    format_args!("`{finer}` is longer than `{coarser}`, the next coarser one"),
                );
            }
        }
    }
}
