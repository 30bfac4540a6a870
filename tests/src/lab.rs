//! One test's world: tenants with the same addresses, and the gateway before them.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use control_kernel::{name::NamespaceName, names::DIRECTORY};
use engine_sys::netns::Netns;
use ipnet::IpNet;
use nix::mount::{MntFlags, umount2};
use serde_json::{Value, json};

use crate::{
    gateway::{Gateway, SOCKET, Start},
    leak::Surroundings,
    links::{self, State},
    namespaces::Namespaces,
    peer::{Client, Peer, SOCKETS},
    tls::Authority,
};

/// What the gateway's workers wait with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring.
    IoUring,
    /// epoll, as where io_uring is refused.
    Epoll,
}

impl Driver {
    /// Both.
    pub const ALL: [Self; 2] = [Self::IoUring, Self::Epoll];

    /// The word in the boot file.
    pub fn label(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// The address of every tenant's machine. That they are all the same is the point.
pub const MACHINE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// The IPv6 address of every tenant's machine.
pub const MACHINE_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
/// Where every tenant's namespace dials from.
pub const TENANT: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);

/// Where the gateway listens in most tests. The network namespace is the suite's own, so the port is
/// free.
pub const GATEWAY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443);

/// A boot file with one TLS listener at [`GATEWAY`] and more keys for it.
pub fn tls(keys: Value) -> Value {
    listener(
        json!({ "name": "https", "bind": GATEWAY, "protocol": "tls" }),
        keys,
    )
}

/// A boot file with one TCP listener at [`GATEWAY`] that leads to `to`, and more keys for it.
pub fn tcp(to: &str, keys: Value) -> Value {
    listener(
        json!({ "name": "db", "bind": GATEWAY, "protocol": "tcp", "to": to }),
        keys,
    )
}

/// A boot file with one HTTP listener at [`GATEWAY`] and more keys for it. One worker, so that every
/// request finds what the one before left.
pub fn http(keys: Value) -> Value {
    let mut boot = listener(
        json!({ "name": "http", "bind": GATEWAY, "protocol": "http" }),
        keys,
    );
    boot["workers"] = json!(1);
    boot
}

/// A boot file with one HTTPS listener at [`GATEWAY`] and more keys for it.
pub fn https(keys: Value) -> Value {
    listener(
        json!({ "name": "https", "bind": GATEWAY, "protocol": "https" }),
        keys,
    )
}

fn listener(mut listener: Value, keys: Value) -> Value {
    if let (Some(listener), Value::Object(keys)) = (listener.as_object_mut(), keys) {
        listener.extend(keys);
    }
    json!({ "listeners": [listener] })
}

/// The world of one test.
#[derive(Debug)]
pub struct Lab {
    driver: Driver,
    ringway: PathBuf,
    directory: PathBuf,
    namespaces: Namespaces,
    gateways: Vec<Arc<Gateway>>,
    peers: u8,
    authority: Authority,
    before: Surroundings,
    remove: Vec<PathBuf>,
}

/// A tenant: its namespace, and a machine behind a link of it.
#[derive(Clone, Debug)]
pub struct Tenant {
    /// The UDP port that names it.
    pub port: u16,
    /// `network-<port>`.
    pub name: NamespaceName,
    /// Where the gateway dials from: `10.0.0.1` and `fd00::1` on the link `lan`.
    pub netns: Arc<Netns>,
    /// Where its servers run: [`MACHINE`] and [`MACHINE_V6`] on the link `uplink`.
    pub machine: Arc<Netns>,
}

impl Lab {
    /// An empty one.
    ///
    /// # Errors
    /// When something of another test is left.
    pub fn new(test: &str, driver: Driver, ringway: PathBuf) -> Result<Self> {
        let before = Surroundings::observe()?;
        let directory = PathBuf::from("/run").join(test);
        fs::create_dir(&directory).with_context(|| format!("making {}", directory.display()))?;
        Ok(Self {
            driver,
            ringway,
            directory,
            namespaces: Namespaces::default(),
            gateways: Vec::new(),
            peers: 0,
            authority: Authority::new()?,
            before,
            remove: Vec::new(),
        })
    }

    /// The driver that this run is about.
    pub fn driver(&self) -> Driver {
        self.driver
    }

    /// The program under test.
    pub fn ringway(&self) -> &PathBuf {
        &self.ringway
    }

    /// A directory for files; it is empty at first and removed after the test.
    pub fn directory(&self) -> &PathBuf {
        &self.directory
    }

    /// The authority that certifies this lab's servers.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Makes a tenant with one machine.
    ///
    /// # Errors
    /// Says what the kernel refused.
    pub fn tenant(&mut self, port: u16) -> Result<Tenant> {
        let name = NamespaceName::of_network(port);
        let netns = self.namespaces.ensure(&name)?;
        let machine = Arc::new(Netns::create()?);
        links::within(&netns, async |links| {
            links.veth("lan", "uplink", &machine).await?;
            links.add_address("lan", net(TENANT, 24)).await?;
            links
                .add_address("lan", net(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1), 64))
                .await?;
            links.set("lan", State::Up).await
        })?;
        links::within(&machine, async |links| {
            links.add_address("uplink", net(MACHINE, 24)).await?;
            links.add_address("uplink", net(MACHINE_V6, 64)).await?;
            links.set("uplink", State::Up).await?;
            links.set("lo", State::Up).await
        })?;
        Ok(Tenant {
            port,
            name,
            netns,
            machine,
        })
    }

    /// Starts `ringway serve` on an empty store and waits until it is ready. `boot` lacks `state` and
    /// `driver`, which are added here, and may lack `store` and `api`: these are in its directory.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn gateway(&mut self, boot: Value, state: Value) -> Result<Arc<Gateway>> {
        self.gateway_after("", Stdio::null(), boot, state)
    }

    /// [`Lab::gateway`] after some shell commands: see [`Start`].
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn gateway_after(
        &mut self,
        before: &str,
        stdin: Stdio,
        mut boot: Value,
        state: Value,
    ) -> Result<Arc<Gateway>> {
        let directory = self
            .directory
            .join(format!("gateway-{}", self.gateways.len()));
        fs::create_dir(&directory)?;
        boot["driver"] = self.driver.label().into();
        boot["state"] = "state.json".into();
        if boot.get("store").is_none() {
            boot["store"] = json!(directory.join("ringway.db"));
        }
        if boot.get("api").is_none() {
            boot["api"] = json!({ "listen": format!("unix:{}", directory.join(SOCKET).display()) });
        }
        let start = Start {
            ringway: &self.ringway,
            before,
            stdin,
        };
        let gateway = Arc::new(Gateway::start(start, &directory, &boot, &state)?);
        self.gateways.push(gateway.clone());
        Ok(gateway)
    }

    /// Starts `ringway serve` once more on the files of one that ended, and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub fn restart(&mut self, ended: &Gateway) -> Result<Arc<Gateway>> {
        let start = Start {
            ringway: &self.ringway,
            before: "",
            stdin: Stdio::null(),
        };
        let gateway = Arc::new(Gateway::launch(start, ended.directory())?);
        self.gateways.push(gateway.clone());
        Ok(gateway)
    }

    /// Starts a WireGuard client in a namespace of its own.
    ///
    /// # Errors
    /// When it does not start.
    pub fn peer(&mut self, client: Client) -> Result<Peer> {
        let number = self.peers;
        self.peers = number.checked_add(1).context("too many peers")?;
        Peer::start(client, number, &self.directory)
    }

    /// Has the end of the test remove a name that a gateway made.
    pub fn remove_later(&mut self, name: &Path) {
        self.remove.push(name.to_owned());
    }

    /// Ends every gateway in order, and looks for what is left: errors in logs, descriptors, names,
    /// mounts, links. On a failure it shows what the gateways had to say.
    ///
    /// # Errors
    /// The test's own, or what is left.
    pub fn finish(mut self, ran: Result<()>) -> Result<()> {
        let gateways = std::mem::take(&mut self.gateways);
        let finished = ran.and_then(|()| gateways.iter().try_for_each(|gateway| gateway.finish()));
        if finished.is_err() {
            gateways.iter().for_each(|gateway| gateway.show());
        }
        // Each is killed here at the latest.
        drop(gateways);
        if let Err(error) = finished {
            // The next test must not stumble over what this one could not remove in order.
            sweep()?;
            fs::remove_dir_all(&self.directory)?;
            return Err(error);
        }
        self.namespaces.remove_all()?;
        for name in &self.remove {
            unname(name)?;
        }
        fs::remove_dir_all(&self.directory)?;
        let after = Surroundings::observe()?;
        ensure!(
            after == self.before,
            "left behind: {after:?} instead of {:?}",
            self.before
        );
        Ok(())
    }
}

/// Removes every name of a namespace, and every socket of a device. They are all the suite's own.
fn sweep() -> Result<()> {
    if fs::exists(SOCKETS)? {
        fs::remove_dir_all(SOCKETS)?;
    }
    for entry in fs::read_dir(DIRECTORY)? {
        let path = entry?.path();
        unname(&path).or_else(|_| fs::remove_file(&path))?;
    }
    Ok(())
}

fn unname(path: &Path) -> std::io::Result<()> {
    umount2(path, MntFlags::MNT_DETACH)?;
    fs::remove_file(path)
}

impl Tenant {
    /// Listens in the machine, for both families.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn listen(&self, port: u16) -> Result<TcpListener> {
        let any = SocketAddr::new(IpAddr::from(Ipv6Addr::UNSPECIFIED), port);
        let listener = self.machine.enter(|| Ok(TcpListener::bind(any)?.into()));
        Ok(listener
            .with_context(|| format!("listening at {any} in {}", self.name))?
            .into())
    }

    /// The network's part of a state document: the lab's own namespace, and names with their targets.
    pub fn network(&self, proxy: Value) -> Value {
        json!({ "netns": self.name.as_str(), "proxy": proxy })
    }

    /// The whole state document of this tenant alone.
    pub fn state(&self, proxy: Value) -> Value {
        json!({ self.port.to_string(): self.network(proxy) })
    }
}

fn net(address: impl Into<IpAddr>, prefix: u8) -> IpNet {
    IpNet::new_assert(address.into(), prefix)
}
