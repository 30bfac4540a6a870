//! The boot file, `ringway.yaml`: what a gateway is started with.
//!
//! Every key may also come from the environment, which wins over the file: `RINGWAY_` and the
//! way to the key in capitals, with `__` between its parts (`RINGWAY_LIMITS__CONNECTIONS_MAX`);
//! lists as JSON (`RINGWAY_LISTENERS`). An empty variable counts as not set. Unknown keys and
//! unknown variables are refused. A key without a value counts as absent.

mod accounts;
mod acme;
mod api;
mod environment;
mod limits;
pub(crate) mod listener;
mod log;
mod reference;
mod tls;
mod wireguard;
mod workers;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub use accounts::Accounts;
pub use acme::{
    Acme, AskUrl, AskUrlError, CertificateName, Challenge, Contact, ContactError, Directory,
    DirectoryName, DirectoryNameError, DirectoryUrl, DirectoryUrlError, Dns, DnsZone, KeyId,
    KeyIdError, OWN_NAMES_MAX, OnDemand, OwnName, TsigAlgorithm, Zone,
};
pub use api::{
    Api, ApiLimits, ApiListen, ApiListenError, Credential, MetricsLimits, NamedToken, Role, Secret,
    TOKEN_BYTES_MAX, TOKEN_BYTES_WEAK, TOKENS_MAX, Token, TokenError, TokenFile, TokenFileError,
    TokenName, TokenNameError,
};
pub use environment::{OTHER_VARIABLES, Source, VARIABLE_PREFIX};
pub use limits::Limits;
pub use listener::{
    HalfClose, LISTENERS_MAX, Listener, ListenerName, ListenerTerms, Protocol, ProxyProtocol,
    RelayMode,
};
pub use log::{Log, LogFile, LogFormat, LogLevel, RequestFormat};
pub use reference::reference;
pub use tls::{CERTIFICATE_FILES_MAX, CertificateFiles, Tls};
pub use wireguard::{WireGuard, WireGuardBackend, WireGuardOffload};
pub use workers::{Driver, WORKERS_MAX, Workers};

use crate::{
    document::{self, Spot},
    field::Field,
    problem::{Problem, Problems, Valid},
    section::{Check, section},
};

section! {
    /// A valid boot file.
    pub struct Boot {
        /// Worker threads, each pinned to a core. `auto` is one for each core that the process may
        /// use.
        workers: Workers = "auto";
        /// How workers wait for events. `auto` uses io_uring if the kernel allows it, otherwise
        /// epoll.
        driver: Driver = "auto";
        /// Where connections are accepted. A reload opens and closes addresses: one that cannot be
        /// opened is tried again every second, and connections of one that goes live on. Networks of
        /// the state document may have listeners of their own.
        listeners: Vec<Listener>, reload;
        /// The REST API.
        api: Api;
        /// The database: desired state with its generations, accounts, certificates, audit log and
        /// events. Relative to the boot file's folder.
        store: PathBuf = "/var/lib/ringway/ringway.db";
        /// The state document that an empty database starts with, relative to the boot file's
        /// folder. Later changes go through the API.
        state: Option<PathBuf>;
        /// Whether the kernel or Ringway carries the packets of WireGuard devices.
        wireguard: WireGuard;
        /// Certificates in files.
        tls: Tls;
        /// Certificates that are obtained from ACME directories.
        acme: Acme;
        /// Resolution and retention of accounts.
        accounts: Accounts;
        /// How long connections may go on after SIGTERM before they are reset.
        drain_timeout: Duration = "30s" in "0s"..="1d", reload;
        /// Connection records, request records and operational logs.
        log: Log;
        /// Limits of the process.
        limits: Limits;
    }
}

impl Check for Boot {
    fn check(&self, spot: &Spot<'_>, problems: &mut Problems) {
        listener::check_all(&self.listeners, spot, problems);
    }
}

/// Reads a boot file, with the environment over it.
///
/// # Errors
/// Everything that is wrong.
pub fn parse(text: &str, source: &impl Source) -> Result<Valid<Boot>, Problems> {
    let mut problems = Problems::default();
    let boot = document::read_yaml(text, &mut problems).and_then(|mut node| {
        environment::overlay(&mut node, source, Boot::KEYS, &mut problems);
        Boot::read(&Spot::root(&node), &mut problems)
    });
    problems.decide(boot)
}

/// Adds to a problem the line, or the variable, of the place that its pointer names: for problems
/// that are only found when a boot file is compared with something else.
pub fn locate(text: &str, source: &impl Source, problem: &mut Problem) {
    let mut ignored = Problems::default();
    let Some(mut node) = document::read_yaml(text, &mut ignored) else {
        return;
    };
    environment::overlay(&mut node, source, Boot::KEYS, &mut ignored);
    if let Some(at) = node.at(&problem.pointer) {
        (problem.line, problem.variable) = at.place();
    }
}

impl Boot {
    /// The effective configuration, defaults written out: a boot file that reads as the same value,
    /// but for tokens, which are not shown.
    pub fn render(&self) -> serde_json::Value {
        self.write()
    }

    /// Has the paths of what is written begin at the boot file's folder. Those of files that are read
    /// are joined with it where they are read.
    pub fn begin_at(&mut self, folder: &Path) {
        self.store = folder.join(&self.store);
        for log in [&mut self.log.file, &mut self.log.requests] {
            if let LogFile::Path(path) = log {
                *path = folder.join(&*path);
            }
        }
    }

    /// The keys that differ from `running` and only count after a restart, as JSON pointers.
    pub fn restart_needed(&self, running: &Self) -> Vec<String> {
        let mut changed = Vec::new();
        reference::fixed_changes(
            Self::KEYS,
            &self.write(),
            &running.write(),
            "",
            &mut changed,
        );
        changed
    }
}

pub(crate) fn has_key(key: &str) -> bool {
    Boot::KEYS.iter().any(|known| known.name == key)
}

#[cfg(test)]
mod tests;
