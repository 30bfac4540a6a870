//! HAProxy: TCP mode, SNI by `req.ssl_sni` with an inspect delay; HTTP mode by host; splicing as an
//! option.

use std::{path::Path, process::Command};

use anyhow::Result;

use super::{
    CONNECTIONS_MAX, IDLE_SECONDS, Job, Routing, WORKERS,
    certificate::{self, Files},
    write,
};
use crate::workload::NAME;

/// Pipes for splicing: `maxpipes` defaults to a quarter of `maxconn`, and their descriptors would
/// not fit beside those of [`CONNECTIONS_MAX`] connections under the limit of this machine.
const PIPES_MAX: usize = 256;

pub(super) fn prepare(command: &mut Command, job: &Job, splice: bool, dir: &Path) -> Result<()> {
    let files = certificate::files(dir)?;
    let path = write(dir, "haproxy.cfg", &config(job, splice, &files))?;
    // -db: in the foreground (HAProxy starter guide, management.txt section 3).
    command.arg("-db").arg("-f").arg(path);
    Ok(())
}

fn config(job: &Job, splice: bool, files: &Files) -> String {
    let splice = if splice { "  option splice-auto\n" } else { "" };
    let mut text = format!(
        "global\n  nbthread {WORKERS}\n  maxconn {CONNECTIONS_MAX}\n  maxpipes {PIPES_MAX}\n\
         defaults\n  mode tcp\n  timeout connect 5s\n  timeout client {IDLE_SECONDS}s\n  \
         timeout server {IDLE_SECONDS}s\n{splice}"
    );
    let place = match &job.namespace {
        Some(name) => format!(" namespace {name}"),
        None => String::new(),
    };
    for listener in &job.listeners {
        let port = listener.port;
        let secured = match &listener.routing {
            Routing::Https(_) => {
                format!(" ssl crt {} alpn h2,http/1.1", files.both.display())
            }
            Routing::Forward(_) | Routing::ByName(_) | Routing::Http(_) => String::new(),
        };
        text.push_str(&format!(
            "frontend f{port}\n  bind 127.0.0.1:{port}{secured}\n"
        ));
        match &listener.routing {
            Routing::Forward(target) => {
                text.push_str(&format!("  default_backend b{port}\n"));
                text.push_str(&format!("backend b{port}\n  server s {target}{place}\n"));
            }
            Routing::Http(target) | Routing::Https(target) => {
                text.push_str(&format!(
                    "  mode http\n  option forwardfor\n  use_backend b{port} if {{ hdr(host) -i \
                     {NAME} }}\nbackend b{port}\n  mode http\n  server s {target}{place}\n"
                ));
            }
            Routing::ByName(routes) => {
                text.push_str(
                    "  tcp-request inspect-delay 5s\n  \
                     tcp-request content accept if { req.ssl_hello_type 1 }\n",
                );
                for (n, (name, _)) in routes.iter().enumerate() {
                    text.push_str(&format!(
                        "  use_backend b{port}_{n} if {{ req.ssl_sni -i {name} }}\n"
                    ));
                }
                for (n, (_, target)) in routes.iter().enumerate() {
                    let server = format!("backend b{port}_{n}\n  server s {target}{place}\n");
                    text.push_str(&server);
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::tests::job;
    use super::*;

    fn files() -> Files {
        certificate::files(tempfile::tempdir().unwrap().path()).unwrap()
    }

    #[test]
    fn servers_in_a_namespace_are_said_to_be_there() {
        let job = Job {
            namespace: Some("tenant".into()),
            ..job()
        };
        let config = config(&job, false, &files());
        let servers = config.lines().filter(|line| line.contains("server s "));
        let mut servers = servers.peekable();
        assert!(servers.peek().is_some(), "{config}");
        assert!(
            servers.all(|line| line.ends_with(" namespace tenant")),
            "{config}"
        );
    }

    #[test]
    fn splicing_is_the_only_difference_between_both_configurations() {
        let (job, files) = (job(), files());
        let (with, without) = (config(&job, true, &files), config(&job, false, &files));
        assert_eq!(with.replace("  option splice-auto\n", ""), without);
        assert_ne!(with, without);
    }
}
