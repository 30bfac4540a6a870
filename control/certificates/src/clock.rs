//! What time it is, for the parts that do IO; decisions get it as an argument.

use std::time::{Duration, SystemTime};

/// Unix time in seconds.
pub(crate) fn now() -> u64 {
    since_epoch(SystemTime::now()).as_secs()
}

/// The same for what compares whole times.
pub(crate) fn time() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(now())
}

/// Time since the Unix epoch; nothing, before it.
pub(crate) fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}
