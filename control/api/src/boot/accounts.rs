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
        /// How often what changed gets a row; totals are written every second.
        row_interval: Duration = "60s" in "1s"..="1h";
        /// For how long rows stay as they were written; then they become hours.
        retention: Duration = "24h" in "1h"..="400d";
        /// For how long hours stay hours; then they become days.
        hours_retention: Duration = "35d" in "1d"..="4000d";
        /// For how long days stay days; then they become months, and clients are no longer told apart.
        days_retention: Duration = "400d" in "31d"..="40000d";
        /// Clients of a route that are told apart in each hour, by most bytes; the others are counted
        /// together.
        clients_max: NonZeroU32 = "100" in "1"..="1000000";
        /// Entries of the audit log that are kept.
        audit_max: NonZeroU32 = "10000" in "100"..="10000000";
        /// Events that are kept for clients that come back.
        events_max: NonZeroU32 = "10000" in "100"..="10000000";
        /// Generations of the desired state that are kept to go back to.
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
                    format_args!("`{finer}` is longer than `{coarser}`, which comes after it"),
                );
            }
        }
    }
}
