//! Ringway itself, as `ringway serve` with a boot file and a state document.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::{
    CONNECTIONS_MAX, IDLE_SECONDS, Job, Listener, Routing, WORKERS,
    certificate::{self, Files},
    write,
};
use crate::{api::Api, workload::NAME};

/// Key of the one network that the names belong to.
const NETWORK: &str = "51820";

/// Names in a gateway's folder: its API's socket, and its accounts.
pub(crate) const SOCKET: &str = "api.sock";
pub(crate) const STORE: &str = "ringway.db";
/// Seconds that an answer of the API may take: more than any run lasts.
const REQUEST_SECONDS: u32 = 600;

pub(super) fn prepare(command: &mut Command, job: &Job, dir: &Path) -> Result<()> {
    let files = certificate::files(dir)?;
    write(dir, "state.json", &state(job, &files).to_string())?;
    serve(command, &boot(job, dir), dir)
}

/// Has `command` serve with a boot file in `dir`.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn serve(command: &mut Command, boot: &Value, dir: &Path) -> Result<()> {
    // The boot file is YAML, and JSON is YAML too.
    let path = write(dir, "ringway.yaml", &boot.to_string())?;
    command.arg("serve").arg("--config").arg(path);
    // Every RINGWAY_ variable is a key of the boot file to it, those of the bench included.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RINGWAY_") {
            command.env_remove(name);
        }
    }
    Ok(())
}

/// Makes what `job` routes the desired state of the gateway in `dir`, and waits until every worker
/// runs it.
///
/// # Errors
/// When the gateway refuses it.
pub(crate) fn publish(job: &Job, dir: &Path) -> Result<()> {
    let files = certificate::files(dir)?;
    Api::at(&dir.join(SOCKET)).apply(&state(job, &files).to_string())?;
    Ok(())
}

/// What every boot file has: everything of the gateway's own in `dir`, nothing of the machine's.
pub(crate) fn surroundings(dir: &Path) -> Value {
    json!({
        "workers": WORKERS,
        "api": {
            "listen": format!("unix:{}", dir.join(SOCKET).display()),
            "limits": { "request_timeout": format!("{REQUEST_SECONDS}s") },
        },
        "store": dir.join(STORE),
        "log": { "level": "error", "file": "none" },
        "limits": { "connections_max": CONNECTIONS_MAX },
    })
}

fn boot(job: &Job, dir: &Path) -> Value {
    let listeners: Vec<_> = job
        .listeners
        .iter()
        .map(|listener| boot_listener(job, listener))
        .collect();
    let mut boot = surroundings(dir);
    boot["listeners"] = listeners.into();
    // Seeds the store, which is empty.
    boot["state"] = json!(dir.join("state.json"));
    boot
}

fn boot_listener(job: &Job, listener: &Listener) -> Value {
    let mut entry = json!({
        "name": format!("l{}", listener.port),
        "bind": listener.address().to_string(),
        "idle_timeout": format!("{IDLE_SECONDS}s"),
    });
    match &listener.routing {
        Routing::Forward(target) => {
            let network = match &job.namespace {
                Some(name) => format!("netns:{name}"),
                None => "host".to_owned(),
            };
            entry["protocol"] = json!("tcp");
            entry["to"] = json!(format!("{network}/{target}"));
        }
        Routing::ByName(_) => entry["protocol"] = json!("tls"),
        Routing::Http(_) => entry["protocol"] = json!("http"),
        Routing::Https(_) => entry["protocol"] = json!("https"),
    }
    entry
}

fn state(job: &Job, files: &Files) -> Value {
    let mut proxy: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut tls = None;
    for listener in &job.listeners {
        match &listener.routing {
            Routing::ByName(routes) => {
                for (name, target) in routes {
                    let targets = proxy.entry(format!("https://{name}")).or_default();
                    targets.push(target.to_string());
                }
            }
            Routing::Http(target) => {
                let targets = proxy.entry(format!("http://{NAME}")).or_default();
                targets.push(target.to_string());
            }
            Routing::Https(target) => {
                let targets = proxy.entry(format!("https://{NAME}")).or_default();
                targets.push(target.to_string());
                tls = Some(json!({ "files": [{
                    "hosts": [NAME], "certificate": files.certificate, "key": files.key,
                }] }));
            }
            Routing::Forward(_) => {}
        }
    }
    let mut document = Map::new();
    if !proxy.is_empty() {
        let mut network = json!({ "netns": job.namespace, "proxy": proxy });
        if let Some(tls) = tls {
            network["tls"] = tls;
        }
        document.insert(NETWORK.to_owned(), network);
    }
    Value::Object(document)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::job, *};

    fn files() -> Files {
        certificate::files(tempfile::tempdir().unwrap().path()).unwrap()
    }

    #[test]
    fn a_job_without_a_namespace_dials_from_the_host() {
        let text = boot(&job(), Path::new("/tmp")).to_string();
        assert!(text.contains("\"host/127.0.0.1:9\""), "{text}");
        assert!(state(&job(), &files())[NETWORK]["netns"].is_null());
    }

    #[test]
    fn a_job_in_a_namespace_names_it_in_both_documents() {
        let job = Job {
            namespace: Some("tenant".into()),
            ..job()
        };
        let text = boot(&job, Path::new("/tmp")).to_string();
        assert!(text.contains("\"netns:tenant/127.0.0.1:9\""), "{text}");
        assert_eq!(state(&job, &files())[NETWORK]["netns"], json!("tenant"));
    }
}
