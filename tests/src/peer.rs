//! WireGuard clients, each in a namespace of its own; all but one are not ours.
//!
//! ```text
//!   lab ══veth══ peer's namespace
//!   198.18.N.1   198.18.N.2   ─► wireguard-go | boringtun-cli | gotatun | …: wgpeerN, 10.0.0.2
//!   fd98:N::1    fd98:N::2
//! ```
//!
//! The outer addresses are those that RFC 2544 keeps for benchmarks, so no tenant has them.

use std::{
    env, fs,
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use engine_sys::netns::Netns;
use ipnet::IpNet;

use crate::{
    links::{self, State},
    stream,
    tool::Tool,
    wait::eventually,
};

/// Where `scripts/setup` puts the clients that Debian has no package of.
const TOOLS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools/bin");
/// Where userspace devices take their configuration.
pub const SOCKETS: &str = "/run/wireguard";

/// Who carries a peer's packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Client {
    /// wireguard-go, of the authors of WireGuard.
    WireGuardGo,
    /// boringtun, of Cloudflare.
    BoringTun,
    /// gotatun, of Mullvad.
    GotaTun,
    /// The kernel's own device, where it has the module: see [`Client::has_module`].
    Kernel,
    /// Ringway's device on its own, without a gateway and without these offloads: `bin/device.rs`.
    Ringway(&'static [&'static str]),
}

impl Client {
    /// All programs that are none of our code.
    pub const ALL: [Self; 3] = [Self::WireGuardGo, Self::BoringTun, Self::GotaTun];

    /// Ringway's device with all that it has.
    pub const OURS: Self = Self::Ringway(&[]);

    /// Whether the kernel has the module. With `LAB_WIREGUARD_MODULE=required` in the environment
    /// it counts as there, and what needs it fails where it is not.
    ///
    /// # Errors
    /// Without a namespace to try it in.
    pub fn has_module() -> Result<bool> {
        if env::var("LAB_WIREGUARD_MODULE").is_ok_and(|value| value == "required") {
            return Ok(true);
        }
        let made = Tool::new("ip", "link add try type wireguard").run_in(&Netns::create()?);
        Ok(made.is_ok())
    }

    /// The command that carries a device in the foreground; none for the kernel's.
    fn command(self, device: &str) -> Option<Command> {
        // As scripts/setup looks for them: what it built, else what the machine has.
        let tool = |name: &str| {
            let built = Path::new(TOOLS).join(name);
            Command::new(if built.exists() { built } else { name.into() })
        };
        let mut command = match self {
            Self::WireGuardGo => Command::new("wireguard-go"),
            Self::BoringTun => tool("boringtun-cli"),
            Self::GotaTun => tool("gotatun"),
            Self::Kernel => return None,
            Self::Ringway(_) => Command::new(ours()),
        };
        match self {
            Self::WireGuardGo => {
                command.arg("--foreground");
            }
            Self::BoringTun | Self::GotaTun => {
                command.args(["--foreground", "--disable-drop-privileges"]);
            }
            Self::Kernel | Self::Ringway(_) => {}
        }
        command.arg(device);
        if let Self::Ringway(without) = self {
            command.args(without);
        }
        Some(command)
    }
}

/// Where cargo puts this package's program: above the suites, which are in `deps`.
fn ours() -> PathBuf {
    let suite = env::current_exe().unwrap_or_default();
    let above = suite.parent().and_then(Path::parent);
    above.unwrap_or(&suite).join("device")
}

/// A key pair, as `wg` makes them.
#[derive(Clone, Debug)]
pub struct Keys {
    /// In base64.
    pub private: String,
    /// In base64.
    pub public: String,
}

impl Keys {
    /// New ones.
    ///
    /// # Errors
    /// When there is no `wg`.
    pub fn generate() -> Result<Self> {
        let private = Tool::new("wg", "genkey").run()?;
        let public = Tool::new("wg", "pubkey").run_on(&private)?;
        Ok(Self {
            private: private.trim().to_owned(),
            public: public.trim().to_owned(),
        })
    }

    /// A secret that two share.
    ///
    /// # Errors
    /// When there is no `wg`.
    pub fn preshared() -> Result<String> {
        Ok(Tool::new("wg", "genpsk").run()?.trim().to_owned())
    }
}

/// What a peer is told about its gateway.
#[derive(Clone, Copy, Debug)]
pub struct Uplink<'a> {
    /// The network's public key.
    pub key: &'a str,
    /// The network's public port.
    pub port: u16,
    /// What is sent there.
    pub allowed_ips: &'a str,
    /// The secret that both share.
    pub preshared_key: Option<&'a str>,
}

/// A running client. It ends when dropped, and takes its namespace and its link with it.
#[derive(Debug)]
pub struct Peer {
    /// Which client it is.
    pub client: Client,
    /// Its keys.
    pub keys: Keys,
    /// Where it and its servers run.
    pub netns: Arc<Netns>,
    number: u8,
    /// The kernel's device has none.
    process: Option<Child>,
}

impl Peer {
    /// Starts a client without any configuration but its key. `number` tells peers of a lab apart.
    ///
    /// # Errors
    /// When the kernel refuses something, or the client does not take its configuration.
    pub fn start(client: Client, number: u8, log: &Path) -> Result<Self> {
        let netns = Arc::new(Netns::create()?);
        let here = Netns::current()?;
        let link = link_name(number);
        links::within(&here, async |links| {
            links.veth(&link, "uplink", &netns).await?;
            links.add_address(&link, outer(number, 1)).await?;
            links.add_address(&link, outer_v6(number, 1)).await?;
            links.set(&link, State::Up).await
        })?;
        links::within(&netns, async |links| {
            links.add_address("uplink", outer(number, 2)).await?;
            links.add_address("uplink", outer_v6(number, 2)).await?;
            links.set("uplink", State::Up).await?;
            links.set("lo", State::Up).await
        })?;
        let mut peer = Self {
            client,
            keys: Keys::generate()?,
            netns,
            number,
            process: None,
        };
        peer.process = peer.make_device(log)?;
        let device = peer.device();
        links::within(&peer.netns, async |links| {
            links.set(&device, State::Up).await
        })?;
        Ok(peer)
    }

    fn make_device(&self, log: &Path) -> Result<Option<Child>> {
        let device = self.device();
        let Some(mut command) = self.client.command(&device) else {
            let add = format!("link add {device} type wireguard");
            Tool::new("ip", &add).run_in(&self.netns)?;
            return Ok(None);
        };
        let said = fs::File::create(log.join(format!("{device}.log")))?;
        command
            // Held as long as the peer: some end with it.
            .stdin(Stdio::piped())
            .stdout(said.try_clone()?)
            .stderr(said);
        let spawned = self.netns.run(|| command.spawn());
        let client = self.client;
        let process =
            spawned.with_context(|| format!("starting {client:?}: scripts/setup installs it"))?;
        eventually("the client listens for its configuration", || {
            UnixStream::connect(self.socket()).ok()
        })?;
        Ok(Some(process))
    }

    /// The name of its device.
    pub fn device(&self) -> String {
        device_name(self.number)
    }

    /// The lab's end of the cable to it.
    pub fn link(&self) -> String {
        link_name(self.number)
    }

    /// Where it reaches the lab's host, and so the gateway, over IPv4.
    pub fn host(&self) -> IpAddr {
        outer(self.number, 1).addr()
    }

    /// Where it reaches the lab's host over IPv6.
    pub fn host_v6(&self) -> IpAddr {
        outer_v6(self.number, 1).addr()
    }

    /// Puts a router in its way that gives its packets another address and port, as when somebody
    /// takes a laptop elsewhere. The client itself learns nothing of it. The router keeps no state:
    /// what is on its way already is translated like everything else.
    ///
    /// # Errors
    /// When the kernel cannot translate addresses.
    pub fn roam_away(&self) -> Result<()> {
        let (home, elsewhere) = (outer(self.number, 2), outer(self.number, 3));
        let port = format!("show {} listen-port", self.device());
        let port = Tool::new("wg", &port).run_in(&self.netns)?;
        let (port, home, away) = (port.trim(), home.addr(), elsewhere.addr());
        Tool::new("ip", &format!("address add {elsewhere} dev uplink")).run_in(&self.netns)?;
        let router = format!(
            "table ip roam {{
                chain out {{
                    type filter hook postrouting priority 100;
                    oifname uplink meta l4proto udp ip saddr set {away} udp sport set 40000
                }}
                chain in {{
                    type filter hook prerouting priority -300;
                    iifname uplink ip daddr {away} udp dport 40000 udp dport set {port} \
                        ip daddr set {home}
                }}
            }}"
        );
        Tool::new("nft", "-f -").run_in_on(&self.netns, &router)?;
        Ok(())
    }

    /// Takes the router away again.
    ///
    /// # Errors
    /// When there is none.
    pub fn roam_home(&self) -> Result<()> {
        let elsewhere = outer(self.number, 3);
        Tool::new("nft", "delete table ip roam").run_in(&self.netns)?;
        Tool::new("ip", &format!("address delete {elsewhere} dev uplink")).run_in(&self.netns)?;
        Ok(())
    }

    /// Gives its device an inner address.
    ///
    /// # Errors
    /// When it has that already.
    pub fn add_address(&self, address: &str) -> Result<()> {
        let address: IpNet = address.parse()?;
        let device = self.device();
        links::within(&self.netns, async |links| {
            links.add_address(&device, address).await
        })?;
        Ok(())
    }

    /// Tells it its gateway, in place of any before.
    ///
    /// # Errors
    /// When it does not take that.
    pub fn connect(&self, uplink: Uplink<'_>) -> Result<()> {
        self.connect_to(SocketAddr::new(self.host(), uplink.port), uplink)
    }

    /// [`Peer::connect`] with another way to the gateway.
    ///
    /// # Errors
    /// When it does not take that.
    pub fn connect_to(&self, endpoint: SocketAddr, uplink: Uplink<'_>) -> Result<()> {
        let Uplink {
            key, allowed_ips, ..
        } = uplink;
        let preshared_key = uplink
            .preshared_key
            .map(|key| format!("PresharedKey = {key}\n"));
        let text = format!(
            "[Interface]\nPrivateKey = {}\n[Peer]\nPublicKey = {key}\n{}Endpoint = {endpoint}\n\
             AllowedIPs = {allowed_ips}\nPersistentKeepalive = 25\n",
            self.keys.private,
            preshared_key.unwrap_or_default(),
        );
        let set = Tool::new("wg", "setconf").argument(self.device());
        set.argument("/dev/stdin").run_in_on(&self.netns, &text)?;
        Ok(())
    }

    /// Whether one of a few echo requests is answered, within about a second.
    ///
    /// # Errors
    /// When there is no `ping`.
    pub fn pings(&self, address: &str) -> Result<bool> {
        let ping = format!("-n -q -c 3 -i 0.3 -W 1 {address}");
        let output = self
            .netns
            .run(|| Command::new("ping").args(ping.split(' ')).output())
            .context("running ping: is it installed?")?;
        Ok(output.status.success())
    }

    /// Waits until an echo request is answered.
    ///
    /// # Errors
    /// When none is.
    pub fn wait_for_ping(&self, address: &str) -> Result<()> {
        let what = format!("{:?} pings {address}", self.client);
        eventually(&what, || match self.pings(address) {
            Ok(answered) => answered.then_some(Ok(())),
            Err(error) => Some(Err(error)),
        })?
    }

    /// Listens on its machine, for both families.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn listen(&self, port: u16) -> Result<TcpListener> {
        let any = SocketAddr::new(IpAddr::from(Ipv6Addr::UNSPECIFIED), port);
        let listener = self.netns.enter(|| Ok(TcpListener::bind(any)?.into()));
        Ok(listener
            .with_context(|| format!("listening at {any}"))?
            .into())
    }

    /// Connects from its machine. Where nobody answers, that is an error after a second.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn dial(&self, to: SocketAddr) -> Result<TcpStream> {
        let patience = std::time::Duration::from_secs(1);
        let dial = || Ok(TcpStream::connect_timeout(&to, patience)?.into());
        let stream = TcpStream::from(self.netns.enter(dial)?);
        stream::patient(&stream)?;
        Ok(stream)
    }

    /// What its device counted of its only peer: received, sent.
    ///
    /// # Errors
    /// When it has none.
    pub fn transfer(&self) -> Result<(u64, u64)> {
        let show = Tool::new("wg", &format!("show {} transfer", self.device()));
        let shown = show.run_in(&self.netns)?;
        let mut numbers = shown.split_whitespace().skip(1).map(str::parse);
        let mut number = || anyhow::Ok(numbers.next().context("no peer")??);
        Ok((number()?, number()?))
    }

    /// A UDP socket of its machine.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn datagrams(&self) -> Result<UdpSocket> {
        let bind = || Ok(UdpSocket::bind("0.0.0.0:0")?.into());
        Ok(self.netns.enter(bind)?.into())
    }

    fn socket(&self) -> PathBuf {
        Path::new(SOCKETS).join(format!("{}.sock", self.device()))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Whatever fails here is gone already.
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = fs::remove_file(self.socket());
        let link = link_name(self.number);
        if let Ok(here) = Netns::current() {
            let _ = links::within(&here, async |links| links.remove(&link).await);
        }
    }
}

fn link_name(number: u8) -> String {
    format!("peer{number}")
}

fn device_name(number: u8) -> String {
    format!("wgpeer{number}")
}

fn outer(number: u8, host: u8) -> IpNet {
    IpNet::new_assert([198, 18, number, host].into(), 29)
}

fn outer_v6(number: u8, host: u16) -> IpNet {
    let address = Ipv6Addr::new(0xfd98, u16::from(number), 0, 0, 0, 0, 0, host);
    IpNet::new_assert(address.into(), 64)
}
