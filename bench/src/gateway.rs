//! Ringway with its API, for what is asked of its control plane.

use std::{
    fs,
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    api::Api,
    lab::{Lab, folder},
    peer::ringway,
    process::{Process, free_port},
};

/// Time to be ready, once the listeners are open.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Who carries the packets of the networks' devices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    Userspace,
    Kernel,
}

impl Backend {
    /// As boot files and answers call it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Userspace => "userspace",
            Self::Kernel => "kernel",
        }
    }
}

/// A running gateway with one TLS listener. Start it in a sandbox of its own: it makes networks.
#[derive(Debug)]
pub(crate) struct Gateway {
    // Dropped in this order: the process ends before its folder goes.
    process: Process,
    _dir: TempDir,
    pub(crate) api: Api,
    /// Of its listener, on 127.0.0.1.
    pub(crate) port: u16,
}

impl Gateway {
    /// Starts it with an empty desired state, on a copy of the accounts in `store` if there are
    /// any, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not start, or cannot have the backend.
    pub(crate) fn start(lab: &Lab, backend: Backend, store: Option<&Path>) -> Result<Self> {
        let dir = folder()?;
        let path = dir.path();
        if let Some(store) = store {
            fs::copy(store, path.join(ringway::STORE)).context("cannot copy the accounts")?;
        }
        let port = free_port()?;
        let mut boot = ringway::surroundings(path);
        boot["listeners"] = json!([{
            "name": "https",
            "bind": format!("127.0.0.1:{port}"),
            "protocol": "tls",
        }]);
        boot["wireguard"] = json!({ "backend": backend.word() });
        // What is older would be merged while it is asked about.
        boot["accounts"] = json!({ "retention": "48h" });
        let mut command = Command::new(&lab.tools.ringway);
        ringway::serve(&mut command, &boot, path)?;
        let process = Process::start("Ringway", &command, path, &[port])?;
        let api = Api::at(&path.join(ringway::SOCKET));
        let mut gateway = Self {
            process,
            _dir: dir,
            api,
            port,
        };
        gateway.wait_until_ready()?;
        let status = gateway.api.ask("GET", "/api/v1/status", None)?;
        let carrier = &status["wireguard"];
        let in_use = carrier["backend"].as_str();
        ensure!(in_use == Some(backend.word()), "not {backend:?}: {carrier}");
        Ok(gateway)
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let start = Instant::now();
        loop {
            let answer = self
                .api
                .connect()
                .and_then(|mut connection| connection.ask("GET", "/readyz", None)?.expect_ok());
            match answer {
                Ok(()) => return Ok(()),
                Err(error) if start.elapsed() > READY_TIMEOUT => {
                    bail!("Ringway is not ready: {error:#}")
                }
                Err(_) => self.process.check_running()?,
            }
            thread::sleep(LOOK_EVERY);
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Whether it still runs, and everything is as desired.
    ///
    /// # Errors
    /// When it has ended, or something is degraded.
    pub(crate) fn check(&mut self) -> Result<()> {
        self.process.check_running()?;
        let status = self.api.ask("GET", "/api/v1/status", None)?;
        let degraded = status["degraded"].as_array();
        ensure!(
            degraded.is_some_and(Vec::is_empty),
            "degraded: {}",
            Value::from(degraded.cloned().unwrap_or_default())
        );
        Ok(())
    }
}
