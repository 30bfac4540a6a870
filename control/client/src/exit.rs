//! The statuses that the client verbs end with.

use std::process::ExitCode;

/// What a script learns from a verb. Status 2 is clap's: a wrong command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done; nothing would change; all is well.
    Done = 0,
    /// Refused or failed; every problem is printed.
    Failed = 1,
    /// `diff` would change something; `status`, `certificates`, `apply` and `rollback` found something
    /// degraded.
    Different = 3,
    /// The API cannot be reached, did not answer in time, or is not ready yet: worth trying again.
    Unreachable = 4,
}

/// The statuses, for the end of each verb's help.
pub(crate) const STATUSES: &str = "\
Exit status: 0 done (diff: nothing would change; status: nothing is degraded), 1 refused or failed, with \
every problem printed, 2 wrong command line, 3 diff: something would change; status, \
certificates, apply and rollback: something is degraded, 4 the API cannot be reached or did not respond in time.";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}
