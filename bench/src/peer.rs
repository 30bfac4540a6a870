//! The proxies that are compared: what each can do, its configuration, how it is started.
//!
//! All of them get two workers or threads and no access log, and otherwise what their users get:
//! buffers, timeouts' wheels and polling are left as they come.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use anyhow::{Context, Result};
use clap::ValueEnum;

mod certificate;
mod envoy;
mod haproxy;
pub(crate) mod nginx;
pub(crate) mod ringway;
pub(crate) mod routes;
mod sniproxy;
mod sozu;
mod traefik;

use crate::{process::Process, tools::Tools};

/// Workers or threads of each proxy.
pub(crate) const WORKERS: usize = 2;
/// Connections at once that each proxy must be able to relay.
pub(crate) const CONNECTIONS_MAX: usize = 9000;
/// Longest silence on a connection, in seconds: more than any run lasts.
const IDLE_SECONDS: u32 = 300;

/// A proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub(crate) enum Peer {
    /// This project
    Ringway,
    /// HAProxy, copying
    Haproxy,
    /// HAProxy with `option splice-auto`
    HaproxySplice,
    Envoy,
    Nginx,
    Traefik,
    Sozu,
    Sniproxy,
}

/// What a proxy is asked to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Job {
    /// Where it listens, and where to each listener's connections go.
    pub(crate) listeners: Vec<Listener>,
    /// Name of the network namespace to dial from: for Ringway and HAProxy only.
    pub(crate) namespace: Option<String>,
}

/// One listener of a [`Job`].
#[derive(Clone, Debug)]
pub(crate) struct Listener {
    pub(crate) port: u16,
    pub(crate) routing: Routing,
}

/// Where a listener's connections go.
#[derive(Clone, Debug)]
pub(crate) enum Routing {
    /// All to one target, whatever they send.
    Forward(SocketAddr),
    /// By the name that their ClientHello asks for; each name has one target.
    ByName(Vec<(String, SocketAddr)>),
    /// Each request for [`NAME`](crate::workload::NAME) to one HTTP server, over connections that are kept.
    Http(SocketAddr),
    /// The same in TLS that ends here, with HTTP/2 where the client wants it.
    Https(SocketAddr),
}

impl Listener {
    /// Where clients connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }
}

impl Job {
    fn ports(&self) -> Vec<u16> {
        self.listeners
            .iter()
            .map(|listener| listener.port)
            .collect()
    }
}

impl Peer {
    /// As it is called in tables.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Ringway => "Ringway",
            Self::Haproxy => "HAProxy",
            Self::HaproxySplice => "HAProxy splice",
            Self::Envoy => "Envoy",
            Self::Nginx => "nginx",
            Self::Traefik => "Traefik",
            Self::Sozu => "sozu",
            Self::Sniproxy => "sniproxy",
        }
    }

    /// Whether it can forward a connection without looking for a name in it.
    pub(crate) fn can_forward(self) -> bool {
        self != Self::Sniproxy
    }

    /// Whether this bench has it proxy HTTP.
    pub(crate) fn can_proxy_http(self) -> bool {
        matches!(
            self,
            Self::Ringway | Self::Haproxy | Self::HaproxySplice | Self::Envoy | Self::Nginx
        )
    }

    /// Writes its configuration into `dir` and starts it.
    ///
    /// # Errors
    /// When it is not installed, or does not start.
    pub(crate) fn start(self, tools: &Tools, job: &Job, dir: &Path) -> Result<Process> {
        let binary = tools
            .find(self)
            .with_context(|| format!("{} is not installed", self.label()))?;
        let mut command = Command::new(binary);
        match self {
            Self::Ringway => ringway::prepare(&mut command, job, dir),
            Self::Haproxy => haproxy::prepare(&mut command, job, false, dir),
            Self::HaproxySplice => haproxy::prepare(&mut command, job, true, dir),
            Self::Envoy => envoy::prepare(&mut command, job, dir),
            Self::Nginx => nginx::prepare(&mut command, job, dir),
            Self::Traefik => traefik::prepare(&mut command, job, dir),
            Self::Sozu => sozu::prepare(&mut command, job, dir),
            Self::Sniproxy => sniproxy::prepare(&mut command, job, dir),
        }
        .with_context(|| format!("cannot configure {}", self.label()))?;
        Process::start(self.label(), &command, dir, &job.ports())
    }
}

/// Writes a configuration file and gives its path.
fn write(dir: &Path, name: &str, text: &str) -> Result<std::path::PathBuf> {
    let path = dir.join(name);
    fs::write(&path, text).with_context(|| format!("cannot write {path:?}"))?;
    Ok(path)
}

#[cfg(test)]
mod tests;
