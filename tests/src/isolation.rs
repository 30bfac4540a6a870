//! Namespaces of its own for a suite: mounts, network and processes.

use std::{
    env, fs,
    os::unix::process::ExitStatusExt as _,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result};
use engine_sys::netns::Netns;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{prctl, signal::Signal},
};

use crate::links::{self, State};

/// Set for the process inside, to the process id of the one outside.
const OUTSIDE: &str = "LAB_OUTSIDE";

/// Which of the two processes of a suite this is.
#[derive(Debug)]
pub enum Place {
    /// The one that was started: it makes the namespaces and waits.
    Outside,
    /// The first process of the new namespaces: it runs the tests.
    Inside {
        /// How to get a shell beside the tests.
        visit: String,
    },
}

/// Says which process this is.
pub fn place() -> Place {
    match env::var(OUTSIDE) {
        Ok(outside) => Place::Inside {
            visit: format!("nsenter --target {outside} --mount --net"),
        },
        Err(_) => Place::Outside,
    }
}

/// Makes the namespaces and runs this program again inside, with the same arguments. Must be called
/// before any thread is started.
///
/// # Errors
/// When the kernel refuses: the lab needs root, or at least `CAP_SYS_ADMIN`.
pub fn run_inside(variables: &[(&str, &Path)]) -> Result<ExitCode> {
    let all = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWPID;
    unshare(all).context(
        "the network lab needs namespaces of its own (root, or CAP_SYS_ADMIN and CAP_NET_ADMIN); \
         without them nothing is tested, so this is a failure",
    )?;
    let status = Command::new("/proc/self/exe")
        .args(env::args_os().skip(1))
        .envs(
            variables
                .iter()
                .map(|(name, value)| (*name, value.as_os_str())),
        )
        .env(OUTSIDE, std::process::id().to_string())
        .status()
        .context("starting the suite inside its namespaces")?;
    let code = status.code().or(status.signal().map(|signal| 128 + signal));
    let code = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    Ok(ExitCode::from(code))
}

/// Furnishes the namespaces: a `/proc` that shows them, an empty `/run`, `lo` up.
///
/// # Errors
/// Says what was refused.
pub fn settle_in() -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).context("tying this process to its parent")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("making the mounts private")?;
    let empty = MsFlags::empty();
    mount(Some("proc"), "/proc", Some("proc"), empty, none).context("mounting /proc")?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), empty, none).context("mounting /run")?;
    fs::create_dir("/run/netns").context("making /run/netns")?;
    let here = Netns::current().context("opening the lab's own namespace")?;
    links::within(&here, async |links| links.set("lo", State::Up).await)?;
    Ok(())
}
