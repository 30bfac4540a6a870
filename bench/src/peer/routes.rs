//! Routes by host, declared in each proxy's own way and changed one by one while it runs: over
//! Ringway's API, HAProxy's runtime API, and a file that Envoy watches.

use std::{net::SocketAddr, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use super::Peer;
use crate::{process::Process, tools::Tools};

mod envoy;
mod haproxy;
mod ringway;

/// What hosts end with.
const DOMAIN: &str = "routes.bench.test";

/// Where a route leads. Hosts without a route lead to [`Server::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Server {
    First,
    Second,
    Other,
}

impl Server {
    /// All of them, in the order of [`Table::servers`].
    pub(crate) const ALL: [Self; 3] = [Self::First, Self::Second, Self::Other];

    /// What its answers say.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Second => "second",
            Self::Other => "other",
        }
    }
}

/// What is declared at the start.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// Where the proxy listens, on 127.0.0.1, for HTTP/1.1 without TLS.
    pub(crate) port: u16,
    /// Routes, each to the first server.
    pub(crate) routes: u32,
    /// Routes of each network, for Ringway; 0 leaves no network at all.
    pub(crate) per_network: u32,
    /// Where [`Server::ALL`] listen.
    pub(crate) servers: [SocketAddr; 3],
}

impl Table {
    fn address(&self, server: Server) -> SocketAddr {
        let [first, second, other] = self.servers;
        match server {
            Server::First => first,
            Server::Second => second,
            Server::Other => other,
        }
    }

    /// Where clients connect to.
    pub(crate) fn listener(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }
}

/// The host of a route; numbers from [`Table::routes`] on are of routes that are added.
pub(crate) fn host(route: u32) -> String {
    format!("n{route:06}.{DOMAIN}")
}

/// The part of hosts behind the number, as the generators take it.
pub(crate) fn domain() -> &'static str {
    DOMAIN
}

/// One change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Edit {
    /// Another server for a route that there is.
    Change(Server),
    /// A new route.
    Add(Server),
    /// A route that there is no longer.
    Remove,
}

/// How one proxy is told of changes.
pub(crate) trait Control {
    /// Makes ready whatever need not be timed.
    ///
    /// # Errors
    /// When a file cannot be written.
    fn prepare(&mut self, route: u32, edit: Edit) -> Result<()>;
    /// Hands over what was prepared, and does not wait.
    ///
    /// # Errors
    /// When nobody takes it.
    fn hand_over(&mut self) -> Result<()>;
    /// Reads what the proxy answered.
    ///
    /// # Errors
    /// When it refused.
    fn confirm(&mut self) -> Result<()>;
}

/// Starts `peer` with a table of routes.
///
/// # Errors
/// When it is not installed, does not start, or is no peer of this work.
pub(crate) fn start(
    peer: Peer,
    tools: &Tools,
    table: &Table,
    dir: &Path,
) -> Result<(Process, Box<dyn Control>)> {
    let binary = tools
        .find(peer)
        .with_context(|| format!("{} is not installed", peer.label()))?;
    let mut command = Command::new(binary);
    let control = prepare(peer, &mut command, table, dir)?;
    let process = Process::start(peer.label(), &command, dir, &[table.port])?;
    Ok((process, control))
}

/// Writes the configuration of `peer` into `dir`.
fn prepare(
    peer: Peer,
    command: &mut Command,
    table: &Table,
    dir: &Path,
) -> Result<Box<dyn Control>> {
    Ok(match peer {
        Peer::Ringway => Box::new(ringway::prepare(command, table, dir)?),
        Peer::Haproxy => Box::new(haproxy::prepare(command, table, dir)?),
        Peer::Envoy => Box::new(envoy::prepare(command, table, dir)?),
        Peer::HaproxySplice | Peer::Nginx | Peer::Traefik | Peer::Sozu | Peer::Sniproxy => {
            bail!("{} changes no single route while it runs", peer.label())
        }
    })
}

#[cfg(test)]
mod tests;
