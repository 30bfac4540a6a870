//! sozu: TCP listeners, SNI by its preread; a worker process for each core.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};

use super::{CONNECTIONS_MAX, IDLE_SECONDS, Job, Routing, WORKERS, write};

/// Each connection takes two, and the default of 1,000 would refuse those of the idle workload.
const BUFFERS_MAX: usize = 2 * CONNECTIONS_MAX + 1000;

pub(super) fn prepare(command: &mut Command, job: &Job, dir: &Path) -> Result<()> {
    let path = write(dir, "sozu.toml", &config(job, dir)?)?;
    command.args(["start", "-c"]).arg(path);
    Ok(())
}

fn config(job: &Job, dir: &Path) -> Result<String> {
    let mut text = format!(
        "command_socket = \"{}/sozu.sock\"\nlog_level = \"error\"\nlog_target = \"stdout\"\n\
         max_connections = {CONNECTIONS_MAX}\nmax_buffers = {BUFFERS_MAX}\nworker_count = {WORKERS}\n\
         worker_automatic_restart = false\n",
        dir.display()
    );
    for listener in &job.listeners {
        text.push_str(&format!(
            "[[listeners]]\nprotocol = \"tcp\"\naddress = \"{}\"\nfront_timeout = {IDLE_SECONDS}\n\
             back_timeout = {IDLE_SECONDS}\nconnect_timeout = 5\n",
            listener.address()
        ));
    }
    for listener in &job.listeners {
        let port = listener.port;
        let routes = match &listener.routing {
            Routing::Forward(target) => vec![(String::new(), *target)],
            Routing::Http(_) | Routing::Https(_) => bail!("sozu has no HTTP listener here"),
            Routing::ByName(routes) => routes
                .iter()
                .map(|(name, target)| (format!(", hostname = \"{name}\""), *target))
                .collect(),
        };
        for (n, (name, target)) in routes.into_iter().enumerate() {
            text.push_str(&format!(
                "[clusters.c{port}_{n}]\nprotocol = \"tcp\"\nload_balancing = \"ROUND_ROBIN\"\n\
                 frontends = [{{ address = \"{}\"{name} }}]\n\
                 backends = [{{ address = \"{target}\" }}]\n",
                listener.address()
            ));
        }
    }
    Ok(text)
}
