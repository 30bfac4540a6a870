//! Traefik: TCP routers, SNI by HostSNI with TLS passthrough.

use std::{path::Path, process::Command};

use anyhow::{Result, bail};
use serde_json::{Map, Value, json};

use super::{Job, Routing, WORKERS, write};

pub(super) fn prepare(command: &mut Command, job: &Job, dir: &Path) -> Result<()> {
    let routes = write(dir, "routes.json", &routes(job)?.to_string())?;
    let entry_points: Map<_, _> = job
        .listeners
        .iter()
        .map(|listener| {
            let address = listener.address().to_string();
            (format!("e{}", listener.port), json!({ "address": address }))
        })
        .collect();
    // Both documents are JSON, which is YAML too.
    let config = json!({
        "global": { "checkNewVersion": false, "sendAnonymousUsage": false },
        "log": { "level": "ERROR" },
        "entryPoints": entry_points,
        "providers": { "file": { "filename": routes.with_extension("yaml"), "watch": false } },
    });
    std::fs::rename(&routes, routes.with_extension("yaml"))?;
    let path = write(dir, "traefik.yaml", &config.to_string())?;
    command.arg(format!("--configfile={}", path.display()));
    command.env("GOMAXPROCS", WORKERS.to_string());
    Ok(())
}

fn routes(job: &Job) -> Result<Value> {
    let mut routers = Map::new();
    let mut services = Map::new();
    for listener in &job.listeners {
        let port = listener.port;
        let routes = match &listener.routing {
            Routing::Forward(target) => vec![("*", *target, json!(null))],
            Routing::Http(_) | Routing::Https(_) => bail!("Traefik has no HTTP router here"),
            Routing::ByName(routes) => routes
                .iter()
                .map(|(name, target)| (name.as_str(), *target, json!({ "passthrough": true })))
                .collect(),
        };
        for (n, (name, target, tls)) in routes.into_iter().enumerate() {
            let id = format!("r{port}-{n}");
            let mut router = json!({
                "entryPoints": [format!("e{port}")],
                "rule": format!("HostSNI(`{name}`)"),
                "service": id,
            });
            if !tls.is_null() {
                router["tls"] = tls;
            }
            routers.insert(id.clone(), router);
            let servers = json!([{ "address": target.to_string() }]);
            services.insert(id, json!({ "loadBalancer": { "servers": servers } }));
        }
    }
    Ok(json!({ "tcp": { "routers": routers, "services": services } }))
}
