//! sniproxy: one thread, TLS by name only.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};

use super::{Job, Routing, write};

pub(super) fn prepare(command: &mut Command, job: &Job, dir: &Path) -> Result<()> {
    let path = write(dir, "sniproxy.conf", &config(job, dir)?)?;
    // -f: in the foreground (sniproxy(8)).
    command.arg("-f").arg("-c").arg(path);
    Ok(())
}

fn config(job: &Job, dir: &Path) -> Result<String> {
    let mut text = format!(
        "user root\npidfile {0}/sniproxy.pid\nerror_log {{\n  filename {0}/error.log\n  \
         priority error\n}}\n",
        dir.display()
    );
    for listener in &job.listeners {
        let port = listener.port;
        let Routing::ByName(routes) = &listener.routing else {
            bail!("sniproxy routes by name only");
        };
        text.push_str(&format!(
            "listener 127.0.0.1:{port} {{\n  protocol tls\n  table t{port}\n}}\ntable t{port} {{\n"
        ));
        for (name, target) in routes {
            let pattern = name.replace('.', "\\\\.");
            text.push_str(&format!("  ^{pattern}$ {target}\n"));
        }
        text.push_str("}\n");
    }
    Ok(text)
}
