//! Envoy: a virtual host for each route in a file that it watches (`path_config_source`), replaced
//! by rename(2) at each change. It knows of no smaller step there.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;
use serde_json::{Value, json};

use super::{Control, Edit, Server, Table, host};
use crate::peer::{
    WORKERS,
    envoy::{address, cluster, type_url},
    write,
};

const FILE: &str = "routes.json";
const NEXT: &str = "routes.next.json";
const NAME: &str = "routes";

pub(super) fn prepare(command: &mut Command, table: &Table, dir: &Path) -> Result<File> {
    // A folder of its own: Envoy wakes up at each name that is moved into it.
    let folder = dir.join("discovery");
    fs::create_dir(&folder)?;
    let hosts = (0..table.routes).map(|route| (route, virtual_host(route, Server::First)));
    let mut file = File {
        hosts: hosts.collect(),
        folder,
    };
    file.write_next()?;
    file.hand_over()?;
    let path = write(dir, "envoy.json", &config(table, &file.folder).to_string())?;
    command.arg("-c").arg(path);
    command.args(["--concurrency", &WORKERS.to_string()]);
    command.args(["--disable-hot-restart", "-l", "error"]);
    Ok(file)
}

fn config(table: &Table, folder: &Path) -> Value {
    let extension = "envoy.extensions.filters.network.http_connection_manager.v3";
    let router = "envoy.extensions.filters.http.router.v3.Router";
    let clusters = Server::ALL.map(|server| cluster(server.word(), table.address(server)));
    json!({
        "node": { "id": "bench", "cluster": "bench" },
        "static_resources": {
            "clusters": clusters,
            "listeners": [{
                "name": "http",
                "address": address(table.listener()),
                "filter_chains": [{ "filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": {
                        "@type": type_url(&format!("{extension}.HttpConnectionManager")),
                        "stat_prefix": "http",
                        "use_remote_address": true,
                        "http_filters": [{
                            "name": "envoy.filters.http.router",
                            "typed_config": { "@type": type_url(router) },
                        }],
                        "rds": {
                            "route_config_name": NAME,
                            "config_source": {
                                "resource_api_version": "V3",
                                "path_config_source": {
                                    "path": folder.join(FILE),
                                    "watched_directory": { "path": folder },
                                },
                            },
                        },
                    },
                }] }],
            }],
        },
    })
}

fn virtual_host(route: u32, server: Server) -> String {
    entry(&format!("n{route}"), &host(route), server)
}

fn entry(name: &str, domain: &str, server: Server) -> String {
    json!({
        "name": name,
        "domains": [domain],
        "routes": [{
            "match": { "prefix": "/" },
            "route": { "cluster": server.word(), "timeout": "0s" },
        }],
    })
    .to_string()
}

/// The watched file, by its parts.
#[derive(Debug)]
pub(super) struct File {
    hosts: BTreeMap<u32, String>,
    folder: PathBuf,
}

impl File {
    fn write_next(&self) -> Result<()> {
        let kind = type_url("envoy.config.route.v3.RouteConfiguration");
        let mut hosts: Vec<_> = self.hosts.values().map(String::as_str).collect();
        let other = entry("other", "*", Server::Other);
        hosts.push(&other);
        let text = format!(
            r#"{{"resources":[{{"@type":"{kind}","name":"{NAME}","virtual_hosts":[{}]}}]}}"#,
            hosts.join(",")
        );
        write(&self.folder, NEXT, &text)?;
        Ok(())
    }
}

impl Control for File {
    fn prepare(&mut self, route: u32, edit: Edit) -> Result<()> {
        match edit {
            Edit::Change(server) | Edit::Add(server) => {
                self.hosts.insert(route, virtual_host(route, server));
            }
            Edit::Remove => {
                self.hosts.remove(&route);
            }
        }
        self.write_next()
    }

    fn hand_over(&mut self) -> Result<()> {
        Ok(fs::rename(self.folder.join(NEXT), self.folder.join(FILE))?)
    }

    /// Nobody answers to a file; what is refused never comes into force.
    fn confirm(&mut self) -> Result<()> {
        Ok(())
    }
}
