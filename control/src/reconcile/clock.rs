//! The time of day.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use control_plan::calendar::Calendar;
use engine_sys::clock::is_synchronised;
use nix::time::{ClockId, clock_gettime};

/// From which lead on the stamps of the accounts are said to be ahead of the clock.
const LEAD_TOLD: Duration = Duration::from_secs(60);

/// The time since the Unix epoch; zero before it.
pub(crate) fn unix_now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// The time since the start of the machine, with that for which it slept (clock_gettime(2)).
fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// What the accounts are stamped by: the machine's clock, where it can be believed.
#[derive(Debug)]
pub(super) struct AccountsClock {
    calendar: Calendar,
    is_ahead: bool,
}

impl AccountsClock {
    /// Goes on from the last stamp in the store, in seconds since the Unix epoch.
    pub(super) fn after(last_unix: u64) -> Self {
        Self {
            calendar: Calendar::after(last_unix, since_boot()),
            is_ahead: false,
        }
    }

    /// The stamp of what is counted now, in seconds since the Unix epoch.
    pub(super) fn stamp(&mut self) -> u64 {
        let now = unix_now();
        let stamp = self.calendar.stamp(now, is_set_by_another(), since_boot());
        let lead = self.calendar.ahead_of(now);
        let is_ahead = lead > LEAD_TOLD;
        if is_ahead && !self.is_ahead {
            tracing::warn!(
                seconds = lead.as_secs(),
                "the clock was set back: rows of the accounts are stamped ahead of it until it catches up"
            );
        }
        self.is_ahead = is_ahead;
        stamp
    }
}

/// Set by systemd-timesyncd when it has set the clock since the boot (systemd-timesyncd.service(8)).
const SYNCHRONISED: &str = "/run/systemd/timesync/synchronized";

/// Whether somebody says that the clock is right: the kernel, or systemd where the unit must not ask the kernel
/// (`ProtectClock=`).
fn is_set_by_another() -> bool {
    is_synchronised() || Path::new(SYNCHRONISED).exists()
}
