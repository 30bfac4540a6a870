//! Programs that are not ours and go on for as long as a test: nginx, Apache, Node, Python.

use std::{
    ffi::OsStr,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use engine_sys::netns::Netns;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wait::{eventually, within};

/// What such programs are told to do.
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/http");

/// How long one may take to end in order.
const FAREWELL: std::time::Duration = std::time::Duration::from_secs(3);

/// A running program. It is ended when dropped.
#[derive(Debug)]
pub struct Program {
    child: Child,
}

/// A file of `fixtures/http`.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(FIXTURES).join(name)
}

impl Program {
    /// Starts a program in a namespace, and waits until it listens there. What it says goes to a
    /// file in `directory`, which is also where it runs.
    ///
    /// # Errors
    /// When it is not installed, or does not listen.
    pub fn serving(
        netns: &Netns,
        directory: &Path,
        program: &str,
        arguments: &[&OsStr],
        address: SocketAddr,
    ) -> Result<Self> {
        let started = Self::start(netns, directory, program, arguments)?;
        eventually(&format!("{program} listens at {address}"), || {
            let connected = netns.enter(|| Ok(TcpStream::connect(address)?.into()));
            connected.ok()
        })
        .with_context(|| {
            let said = directory.join(format!("{}.log", name_of(program)));
            std::fs::read_to_string(said).unwrap_or_default()
        })?;
        Ok(started)
    }

    /// Starts a program in a namespace.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn start(
        netns: &Netns,
        directory: &Path,
        program: &str,
        arguments: &[&OsStr],
    ) -> Result<Self> {
        let log = directory.join(format!("{}.log", name_of(program)));
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(log)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = netns.run(|| command.spawn());
        let child = child.with_context(|| format!("{program}: scripts/setup installs it"))?;
        Ok(Self { child })
    }
}

fn name_of(program: &str) -> String {
    let name = Path::new(program).file_name();
    name.unwrap_or_default().to_string_lossy().into_owned()
}

impl Drop for Program {
    fn drop(&mut self) {
        // In order first: only then does it end its own children.
        if let Ok(process) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(process), Signal::SIGTERM);
        }
        let ended = within(FAREWELL, "its end", || self.child.try_wait().ok().flatten());
        if ended.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
