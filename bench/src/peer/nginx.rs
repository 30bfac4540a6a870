//! nginx: the stream module, SNI by `ssl_preread` and a map.

use std::{path::Path, process::Command};

use anyhow::Result;

use super::{CONNECTIONS_MAX, IDLE_SECONDS, Job, Routing, WORKERS, write};

pub(super) fn prepare(command: &mut Command, job: &Job, dir: &Path) -> Result<()> {
    let path = write(dir, "nginx.conf", &config(job, dir))?;
    command.arg("-p").arg(dir).arg("-c").arg(path);
    command.args(["-e", "stderr"]);
    Ok(())
}

/// The part in front of `stream` or `http`.
fn preamble(dir: &Path) -> String {
    // Both sides of a connection count, and one worker may get far more than half of them.
    let connections = 2 * CONNECTIONS_MAX + 512;
    format!(
        "daemon off;\nuser root;\nworker_processes {WORKERS};\npid {}/nginx.pid;\n\
         error_log stderr crit;\nevents {{ worker_connections {connections}; }}\n",
        dir.display()
    )
}

/// A configuration of an HTTP server: `server` is what stands in `http`, beside what every one has.
pub(crate) fn http(dir: &Path, server: &str) -> String {
    let temp = dir.display();
    format!(
        "{}http {{\n  access_log off;\n  client_body_temp_path {temp}/a;\n  proxy_temp_path \
         {temp}/b;\n  fastcgi_temp_path {temp}/c;\n  uwsgi_temp_path {temp}/d;\n  \
         scgi_temp_path {temp}/e;\n  keepalive_requests 1000000000;\n  keepalive_timeout 300s;\n  \
         {server}\n}}\n",
        preamble(dir)
    )
}

/// Bytes of small answers: with the head about 200.
pub(crate) const BODY_BYTES: usize = 64;

fn config(job: &Job, dir: &Path) -> String {
    let mut text = preamble(dir);
    text.push_str(&format!(
        "stream {{\n  access_log off;\n  proxy_connect_timeout 5s;\n  proxy_timeout \
         {IDLE_SECONDS}s;\n  proxy_half_close on;\n"
    ));
    for listener in &job.listeners {
        let port = listener.port;
        let (preread, target) = match &listener.routing {
            Routing::Forward(target) => ("off", target.to_string()),
            Routing::ByName(routes) => {
                text.push_str(&format!("  map $ssl_preread_server_name $t{port} {{\n"));
                for (name, target) in routes {
                    text.push_str(&format!("    {name} {target};\n"));
                }
                text.push_str("  }\n");
                ("on", format!("$t{port}"))
            }
        };
        text.push_str(&format!(
            "  server {{ listen 127.0.0.1:{port} reuseport backlog=4096; ssl_preread {preread}; \
             proxy_pass {target}; }}\n"
        ));
    }
    text.push_str("}\n");
    text
}
