//! Ringway: rules with ids in networks that dial from the host, changed by `PUT` and `DELETE` of
//! one rule each.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use super::{Control, Edit, Server, Table, host};
use crate::{
    api::{Api, Connection},
    peer::{
        IDLE_SECONDS,
        ringway::{SOCKET, serve, surroundings},
        write,
    },
};

/// Key of the first network. None has a device, so the ports stay closed.
const FIRST_NETWORK: u32 = 10_000;
/// Key of the network that has the catch-all host alone.
const OTHER_NETWORK: u32 = 9_999;

pub(super) fn prepare(command: &mut Command, table: &Table, dir: &Path) -> Result<OneConnection> {
    let mut boot = surroundings(dir);
    boot["listeners"] = json!([{
        "name": "http",
        "bind": table.listener().to_string(),
        "protocol": "http",
        "idle_timeout": format!("{}s", IDLE_SECONDS),
    }]);
    boot["state"] = json!(write(dir, "state.json", &state(table).to_string())?);
    serve(command, &boot, dir)?;
    Ok(OneConnection {
        table: table.clone(),
        socket: dir.join(SOCKET),
        connection: None,
        request: None,
    })
}

fn state(table: &Table) -> Value {
    let mut networks: Map<String, Value> = Map::new();
    if table.per_network > 0 {
        let any = json!({ "host": "*", "to": [table.address(Server::Other).to_string()] });
        let other = json!({ "netns": null, "routes": [any] });
        networks.insert(OTHER_NETWORK.to_string(), other);
        for first in (0..table.routes).step_by(table.per_network as usize) {
            let last = (first + table.per_network).min(table.routes);
            let rules: Vec<_> = (first..last)
                .map(|route| rule(table, route, Server::First))
                .collect();
            let network = json!({ "netns": null, "routes": rules });
            networks.insert(network_of(table, first), network);
        }
    }
    Value::Object(networks)
}

fn rule(table: &Table, route: u32, server: Server) -> Value {
    json!({
        "id": id(route),
        "host": host(route),
        "to": [table.address(server).to_string()],
    })
}

fn id(route: u32) -> String {
    format!("r{route}")
}

/// The network of a route; routes that are added go to all networks in turn.
fn network_of(table: &Table, route: u32) -> String {
    let networks = table.routes.div_ceil(table.per_network.max(1)).max(1);
    (FIRST_NETWORK + (route / table.per_network.max(1)) % networks).to_string()
}

/// One connection to the API.
#[derive(Debug)]
pub(super) struct OneConnection {
    table: Table,
    socket: PathBuf,
    connection: Option<Connection>,
    request: Option<Request>,
}

#[derive(Debug)]
struct Request {
    method: &'static str,
    path: String,
    body: Option<String>,
}

impl Control for OneConnection {
    fn prepare(&mut self, route: u32, edit: Edit) -> Result<()> {
        let network = network_of(&self.table, route);
        let path = format!("/api/v1/networks/{network}/routes/{}", id(route));
        let (method, body) = match edit {
            Edit::Change(server) | Edit::Add(server) => {
                ("PUT", Some(rule(&self.table, route, server).to_string()))
            }
            Edit::Remove => ("DELETE", None),
        };
        self.request = Some(Request { method, path, body });
        if self.connection.is_none() {
            self.connection = Some(Api::at(&self.socket).connect()?);
        }
        Ok(())
    }

    fn hand_over(&mut self) -> Result<()> {
        let request = self.request.take().context("nothing is prepared")?;
        let connection = self.connection.as_mut().context("not connected")?;
        connection.send(request.method, &request.path, request.body.as_deref())
    }

    fn confirm(&mut self) -> Result<()> {
        let connection = self.connection.as_mut().context("not connected")?;
        connection.read()?.expect_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tests::table, *};

    #[test]
    fn routes_are_spread_over_networks_and_stay_in_theirs() {
        let table = Table {
            routes: 250,
            per_network: 100,
            ..table()
        };
        let state = state(&table);
        let count = |network: &str| state[network]["routes"].as_array().map(Vec::len);
        let counts = ["10000", "10001", "10002"].map(count);
        assert_eq!(counts, [Some(100), Some(100), Some(50)]);
        assert_eq!(network_of(&table, 249), "10002");
        assert_eq!(network_of(&table, 301), "10000");
    }
}
