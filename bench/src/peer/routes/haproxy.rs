//! HAProxy: a map of hosts to backends, changed over the stats socket (management guide, "Unix
//! Socket commands"). All threads look into the same map.

use std::{
    fmt::Write as _,
    io::{Read, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::{Control, Edit, Server, Table, host};
use crate::peer::{CONNECTIONS_MAX, IDLE_SECONDS, WORKERS, write};

const SOCKET: &str = "stats.sock";

pub(super) fn prepare(command: &mut Command, table: &Table, dir: &Path) -> Result<Runtime> {
    let mut hosts = String::new();
    for route in 0..table.routes {
        writeln!(hosts, "{} {}", host(route), Server::First.word())?;
    }
    let runtime = Runtime {
        map: write(dir, "hosts.map", &hosts)?,
        socket: dir.join(SOCKET),
        command: String::new(),
        answering: None,
    };
    let path = write(dir, "haproxy.cfg", &config(table, &runtime)?)?;
    command.arg("-db").arg("-f").arg(path);
    Ok(runtime)
}

fn config(table: &Table, runtime: &Runtime) -> Result<String> {
    let mut text = format!(
        "global\n  nbthread {WORKERS}\n  maxconn {CONNECTIONS_MAX}\n  \
         stats socket {} mode 600 level admin\n\
         defaults\n  mode http\n  timeout connect 5s\n  timeout client {IDLE_SECONDS}s\n  \
         timeout server {IDLE_SECONDS}s\n\
         frontend f\n  bind {}\n  use_backend %[req.hdr(host),lower,map({})]\n  \
         default_backend {}\n",
        runtime.socket.display(),
        table.listener(),
        runtime.map.display(),
        Server::Other.word(),
    );
    for server in Server::ALL {
        let (word, address) = (server.word(), table.address(server));
        write!(text, "backend {word}\n  server s {address}\n")?;
    }
    Ok(text)
}

/// The stats socket; each command has a connection of its own, as with socat(1).
#[derive(Debug)]
pub(super) struct Runtime {
    map: PathBuf,
    socket: PathBuf,
    command: String,
    answering: Option<UnixStream>,
}

impl Control for Runtime {
    fn prepare(&mut self, route: u32, edit: Edit) -> Result<()> {
        let (map, host) = (self.map.display(), host(route));
        self.command = match edit {
            Edit::Change(server) => format!("set map {map} {host} {}\n", server.word()),
            Edit::Add(server) => format!("add map {map} {host} {}\n", server.word()),
            Edit::Remove => format!("del map {map} {host}\n"),
        };
        Ok(())
    }

    fn hand_over(&mut self) -> Result<()> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.write_all(self.command.as_bytes())?;
        self.answering = Some(stream);
        Ok(())
    }

    fn confirm(&mut self) -> Result<()> {
        let mut stream = self.answering.take().context("nothing was asked")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        ensure!(answer.trim().is_empty(), "HAProxy: {}", answer.trim());
        Ok(())
    }
}
