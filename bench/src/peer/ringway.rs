//! Ringway itself, as `ringway serve` with a boot file and a state document.

use std::{collections::BTreeMap, path::Path, process::Command};

use anyhow::Result;
use serde_json::{Map, Value, json};

use super::{CONNECTIONS_MAX, IDLE_SECONDS, Job, Listener, Routing, WORKERS, write};

/// Key of the one network that the names belong to.
const NETWORK: &str = "51820";

pub(super) fn prepare(command: &mut Command, job: &Job, dir: &Path) -> Result<()> {
    publish(job, dir)?;
    // The boot file is YAML, and JSON is YAML too.
    let path = write(dir, "ringway.yaml", &boot(job, dir).to_string())?;
    command.arg("serve").arg("--config").arg(path);
    // Every RINGWAY_ variable is a key of the boot file to it, those of the bench included.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RINGWAY_") {
            command.env_remove(name);
        }
    }
    Ok(())
}

/// Writes the state document of `job`; a running process reads it at SIGHUP.
///
/// # Errors
/// When the file cannot be written.
pub(crate) fn publish(job: &Job, dir: &Path) -> Result<()> {
    let new = write(dir, "state.json.new", &state(job).to_string())?;
    std::fs::rename(new, dir.join("state.json"))?;
    Ok(())
}

fn boot(job: &Job, dir: &Path) -> Value {
    let listeners: Vec<_> = job
        .listeners
        .iter()
        .map(|listener| boot_listener(job, listener))
        .collect();
    json!({
        "workers": WORKERS,
        "listeners": listeners,
        "state": dir.join("state.json"),
        "log": { "level": "error", "file": "none" },
        "limits": { "connections_max": CONNECTIONS_MAX },
    })
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
    }
    entry
}

fn state(job: &Job) -> Value {
    let mut proxy: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for listener in &job.listeners {
        if let Routing::ByName(routes) = &listener.routing {
            for (name, target) in routes {
                let targets = proxy.entry(format!("https://{name}")).or_default();
                targets.push(target.to_string());
            }
        }
    }
    let mut document = Map::new();
    if !proxy.is_empty() {
        let network = json!({ "netns": job.namespace, "proxy": proxy });
        document.insert(NETWORK.to_owned(), network);
    }
    Value::Object(document)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::job, *};

    #[test]
    fn a_job_without_a_namespace_dials_from_the_host() {
        let text = boot(&job(), Path::new("/tmp")).to_string();
        assert!(text.contains("\"host/127.0.0.1:9\""), "{text}");
        assert!(state(&job())[NETWORK]["netns"].is_null());
    }

    #[test]
    fn a_job_in_a_namespace_names_it_in_both_documents() {
        let job = Job {
            namespace: Some("tenant".into()),
            ..job()
        };
        let text = boot(&job, Path::new("/tmp")).to_string();
        assert!(text.contains("\"netns:tenant/127.0.0.1:9\""), "{text}");
        assert_eq!(state(&job)[NETWORK]["netns"], json!("tenant"));
    }
}
