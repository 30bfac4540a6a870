//! The way from a client to its target: straight, through a proxy, or through a plain relay.

use std::{env, net::SocketAddr, process::Command};

use anyhow::{Context, Result, bail};
use nix::unistd::Pid;

use super::Contestant;
use crate::{
    lab::{Lab, Proxy, folder, listener},
    peer::{Job, Routing},
    process::Process,
};

/// Where to connect to, and what runs in between.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) connect: SocketAddr,
    /// What is between, if anything is.
    pub(super) proxy: Option<Proxy>,
}

impl Way {
    /// Starts what `contestant` needs to route as told.
    ///
    /// # Errors
    /// When it does not start, or cannot route that way.
    pub(super) fn open(lab: &Lab, contestant: Contestant, routing: Routing) -> Result<Self> {
        let job = |listener| Job {
            listeners: vec![listener],
            namespace: None,
        };
        match contestant {
            Contestant::Direct => Ok(Self {
                connect: first_target(&routing)?,
                proxy: None,
            }),
            Contestant::Peer(peer) => {
                let listener = listener(routing)?;
                let connect = listener.address();
                let proxy = lab.start(peer, &job(listener))?;
                Ok(Self {
                    connect,
                    proxy: Some(proxy),
                })
            }
            Contestant::Runtime(runtime) => {
                let listener = listener(Routing::Forward(first_target(&routing)?))?;
                let connect = listener.address();
                let dir = folder()?;
                let mut command = Command::new(env::current_exe()?);
                command.args(["runtime", runtime.argument()]);
                command.args(["--listen", &connect.to_string()]);
                command.args(["--to", &first_target(&routing)?.to_string()]);
                let ports = [connect.port()];
                let process = Process::start(runtime.label(), &command, dir.path(), &ports)?;
                Ok(Self {
                    connect,
                    proxy: Some(Proxy { process, dir }),
                })
            }
            Contestant::Variant(_)
            | Contestant::Tunnel(_)
            | Contestant::Device(_)
            | Contestant::Library(_) => bail!("{} says no way", contestant.label()),
        }
    }

    /// The process whose accounts are read.
    pub(super) fn account(&self) -> Option<Pid> {
        self.proxy.as_ref().map(|proxy| proxy.process.pid())
    }

    /// Whether what is between still runs.
    ///
    /// # Errors
    /// When it has ended.
    pub(super) fn check_running(&mut self) -> Result<()> {
        self.proxy
            .as_mut()
            .map_or(Ok(()), |proxy| proxy.process.check_running())
    }
}

fn first_target(routing: &Routing) -> Result<SocketAddr> {
    match routing {
        Routing::Forward(target) | Routing::Http(target) | Routing::Https(target) => Some(*target),
        Routing::ByName(routes) => routes.first().map(|(_, target)| *target),
    }
    .context("no target")
}
