//! The gateway of the demo: a process that does exactly what `serve` does, and the questions that
//! the demo has for its API.

use std::{io, net::SocketAddr, path::Path, time::Duration};

use control_api::answer::{
    Applied, PeerStatus, Relayed, RoutesTraffic, Status, Traffic, TrafficInfo, WireGuardStatus,
};
use serde::Deserialize;
use serde_json::json;

use super::{
    address,
    api::{Api, ApiError},
    error::DemoError,
    narrator::Narrator,
    port::{Port, Transport},
    process::{self, Part, eventually},
    tenant::{self, Tenant},
};

/// How long the gateway may take to be ready, and the peers to be connected.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long connections may go on after Ctrl-C, in words of the boot file.
const DRAIN_TIMEOUT: &str = "1s";
/// How long the gateway may take to end, draining included.
const END_TIMEOUT: Duration = Duration::from_secs(4);

/// The running gateway.
pub(super) struct Gateway {
    part: Part,
    port: Port,
    api: Api,
    narrator: Narrator,
}

/// What the gateway is made of.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    /// How its workers wait for the kernel.
    pub(super) driver: String,
    pub(super) workers: usize,
    pub(super) wireguard: WireGuardStatus,
}

/// What the gateway counted for one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Accounts {
    /// Relayed for the route.
    pub(super) relayed: Relayed,
    /// Carried over WireGuard for the peer.
    pub(super) carried: Traffic,
}

impl Gateway {
    /// Starts it on the wanted port of 127.0.0.1, or on the next free one, and waits until it is
    /// ready. What it keeps is in the directory.
    pub(super) fn start(wanted: u16, directory: &Path) -> Result<Self, DemoError> {
        let port = Port::claim(Transport::Tcp, wanted)?;
        let api = Api::at(&directory.join("api.sock"));
        let boot_file = directory.join("ringway.yaml");
        let boot = boot_file_text(address(port.number()), api.socket(), directory);
        std::fs::write(&boot_file, boot)
            .map_err(|source| DemoError::Write(boot_file.clone(), source))?;
        let verb = ("the gateway", "gateway");
        let mut part = Part::start(verb, &[&boot_file], b"", directory.join("gateway.log"))?;
        let output = part.output();
        let output = output.ok_or_else(|| io::Error::from(io::ErrorKind::BrokenPipe));
        let narrator = output
            .and_then(Narrator::listen)
            .map_err(|source| DemoError::Start("the gateway", source))?;
        eventually("starting the gateway", PATIENCE, &mut [&mut part], || {
            let ready = api.is_ready().map_err(asking("is it ready?"))?;
            Ok(ready.then_some(()))
        })?;
        Ok(Self {
            part,
            port,
            api,
            narrator,
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        address(self.port.number())
    }

    pub(super) fn api(&self) -> &Api {
        &self.api
    }

    /// The number of its process.
    pub(super) fn process(&self) -> u32 {
        self.part.process()
    }

    pub(super) fn part(&mut self) -> &mut Part {
        &mut self.part
    }

    /// What it is made of.
    pub(super) fn facts(&mut self) -> Result<Facts, DemoError> {
        let Self { part, api, .. } = self;
        let status: Status = api.get("/api/v1/status").map_err(asking("its status"))?;
        // Logs wait for their writer for a moment.
        let driver = eventually("logging the start", PATIENCE, &mut [], || {
            let log = part.logged();
            let log = log.map_err(|source| DemoError::Start("the gateway", source))?;
            Ok(log.lines().find_map(driver))
        })?;
        Ok(Facts {
            driver,
            workers: status.workers.len(),
            wireguard: status.wireguard,
        })
    }

    /// Makes the tenants' networks the desired state, and waits until every worker runs it.
    pub(super) fn declare(&self, tenants: &[Tenant]) -> Result<Applied, DemoError> {
        let document = tenant::document(tenants);
        let applied = self.api.post("/api/v1/apply?wait=true", &document);
        applied.map_err(asking("to apply the state document"))
    }

    /// Waits until every tenant's peer is connected, and answers how they are, in their order.
    pub(super) fn wait_for_peers(
        &mut self,
        tenants: &[Tenant],
        peers: &mut [Part],
    ) -> Result<Vec<PeerStatus>, DemoError> {
        let Self { part, api, .. } = self;
        let mut parts: Vec<&mut Part> = peers.iter_mut().collect();
        parts.push(part);
        eventually("connecting the peers", PATIENCE, &mut parts, || {
            let status: Status = api.get("/api/v1/status").map_err(asking("its status"))?;
            let connected = |tenant: &Tenant| {
                let network = status.networks.get(&tenant.port.number())?;
                let peer = network.peers.get(&tenant.peer_key.public)?;
                peer.connected.then(|| peer.clone())
            };
            Ok(tenants.iter().map(connected).collect())
        })
    }

    /// What is accounted to every tenant, in their order: as soon as `is_right` says so, or as it is
    /// after a while. Samples are taken every second.
    pub(super) fn accounts(
        &mut self,
        tenants: &[Tenant],
        patience: Duration,
        is_right: impl Fn(&[Accounts]) -> bool,
    ) -> Result<Vec<Accounts>, DemoError> {
        let Self { part, api, .. } = self;
        let mut last = Vec::new();
        let accounts = eventually("accounting", patience, &mut [part], || {
            last = ask_accounts(api, tenants).map_err(asking("the accounts"))?;
            Ok(is_right(&last).then(|| last.clone()))
        });
        match accounts {
            Err(DemoError::Late { .. }) => Ok(last),
            answer => answer,
        }
    }

    /// From here on, says a line for each connection that ends.
    pub(super) fn narrate(&self) {
        self.narrator.tell();
    }

    /// Ends it in order.
    pub(super) fn end(self) {
        self.part.end(END_TIMEOUT);
    }
}

fn asking(what: &'static str) -> impl FnOnce(ApiError) -> DemoError {
    move |source| DemoError::Api(what, source)
}

fn ask_accounts(api: &Api, tenants: &[Tenant]) -> Result<Vec<Accounts>, ApiError> {
    let carried: TrafficInfo = api.get("/api/v1/traffic")?;
    let relayed: RoutesTraffic = api.get("/api/v1/traffic/routes")?;
    let accounts = |tenant: &Tenant| {
        let key = tenant.network_key.public.to_string();
        let peer = tenant.peer_key.public.to_string();
        let network = carried.networks.get(&key);
        let device = network.and_then(|network| network.devices.get(&peer));
        let network = relayed.networks.get(&key);
        let route = network.and_then(|network| network.routes.get(tenant.names.hostname));
        // What is not there was not counted yet.
        Accounts {
            carried: device.map(|device| device.traffic).unwrap_or_default(),
            relayed: route.map(|route| route.traffic).unwrap_or_default(),
        }
    };
    Ok(tenants.iter().map(accounts).collect())
}

fn boot_file_text(address: SocketAddr, socket: &Path, directory: &Path) -> String {
    json!({
        "listeners": [{ "name": "https", "bind": address, "protocol": "tls" }],
        "api": { "listen": format!("unix:{}", socket.display()) },
        "store": directory.join("ringway.db"),
        "drain_timeout": DRAIN_TIMEOUT,
    })
    .to_string()
}

/// The driver, where a line of the log tells it: the boot file may leave it to the gateway, and
/// nothing else says what became of that.
fn driver(line: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Started {
        message: String,
        driver: String,
    }
    let Started { message, driver } = serde_json::from_str(line).ok()?;
    (message == "started").then_some(driver)
}

/// Becomes the gateway's process of the demo that has this number.
///
/// # Errors
/// When it cannot be.
pub(super) fn attach(demo: u32) -> Result<(), DemoError> {
    process::attach(demo, c"ringway-gateway")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use control_api::boot;

    use super::*;

    #[test]
    fn the_boot_file_is_one_without_a_warning() {
        let directory = Path::new("/run/ringway-demo");
        let text = boot_file_text(address(8443), &directory.join("api.sock"), directory);
        let boot = boot::parse(&text, &BTreeMap::<String, String>::new()).unwrap();
        assert_eq!(boot.warnings.iter().count(), 0);
        assert_eq!(boot.value.listeners[0].bind, address(8443));
        assert!(boot.value.store.starts_with(directory));
    }

    #[test]
    fn the_driver_is_told_by_the_line_of_the_start_alone() {
        let line = r#"{"time":"x","level":"INFO","message":"started","driver":"epoll"}"#;
        assert_eq!(driver(line).as_deref(), Some("epoll"));
        for other in [&line.replace("started", "configuration"), "", "{}"] {
            assert_eq!(driver(other), None, "{other}");
        }
    }
}
