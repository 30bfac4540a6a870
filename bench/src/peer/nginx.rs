//! nginx: the stream module, SNI by `ssl_preread` and a map; the http module by `server_name`.

use std::{net::SocketAddr, path::Path, process::Command};

use anyhow::Result;

use super::{
    CONNECTIONS_MAX, IDLE_SECONDS, Job, Routing, WORKERS,
    certificate::{self, Files},
    write,
};
use crate::workload::NAME;

pub(super) fn prepare(command: &mut Command, job: &Job, dir: &Path) -> Result<()> {
    let files = certificate::files(dir)?;
    let path = write(dir, "nginx.conf", &config(job, dir, &files))?;
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

/// Where a large body is, on servers that have one.
pub(crate) const BULK: &str = "/bulk";

/// Bytes of small answers: with the head about 200.
pub(crate) const BODY_BYTES: usize = 64;

fn config(job: &Job, dir: &Path, files: &Files) -> String {
    let proxied = job
        .listeners
        .iter()
        .filter_map(|listener| match listener.routing {
            Routing::Http(target) => Some(proxying(listener.port, target, None)),
            Routing::Https(target) => Some(proxying(listener.port, target, Some(files))),
            Routing::Forward(_) | Routing::ByName(_) => None,
        });
    let proxied: String = proxied.collect();
    if !proxied.is_empty() {
        return http(dir, &proxied);
    }
    let mut text = preamble(dir);
    text.push_str(&format!(
        "stream {{\n  access_log off;\n  proxy_connect_timeout 5s;\n  proxy_timeout \
         {IDLE_SECONDS}s;\n  proxy_half_close on;\n"
    ));
    for listener in &job.listeners {
        let port = listener.port;
        let (preread, target) = match &listener.routing {
            Routing::Forward(target) | Routing::Http(target) | Routing::Https(target) => {
                ("off", target.to_string())
            }
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

/// Connections to the server are kept, which nginx does only when it is told to. Responses are not
/// written to disk, which no other peer does.
fn proxying(port: u16, target: SocketAddr, files: Option<&Files>) -> String {
    let (ssl, secured) = match files {
        None => ("", String::new()),
        Some(files) => (
            " ssl",
            format!(
                "http2 on; ssl_certificate {}; ssl_certificate_key {};",
                files.certificate.display(),
                files.key.display()
            ),
        ),
    };
    format!(
        "upstream u{port} {{ server {target}; keepalive 256; keepalive_requests 1000000000; }}\n  \
         server {{ listen 127.0.0.1:{port}{ssl} reuseport backlog=4096; {secured} server_name {NAME}; \
         location / {{ \
         proxy_pass http://u{port}; proxy_http_version 1.1; proxy_set_header Connection \"\"; \
         proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; \
         proxy_max_temp_file_size 0; }} }}\n"
    )
}
