//! A peer of the demo: a process that is a tenant's machine, with a WireGuard device and an HTTPS
//! server in a namespace of its own.

use std::{
    io::{self, Read as _},
    net::{SocketAddr, TcpListener},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use control_api::state::{KeyError, PrivateKey, PublicKey};
use control_kernel::linux::link::{self, LinkError};
use engine_sys::netns::Netns;
use engine_wireguard::{
    Change, ConfigureError, Device, Key, Open, OpenError, PeerChange, Pool, StartError,
};
use nix::sys::signal::{SigSet, Signal};
use rustls::ServerConfig;
use serde::{Deserialize, Serialize};

use super::{
    authority::{Identity, IdentityError},
    process,
    site::Site,
    tenant::Tenant,
};

/// The name of its device, in a namespace where there is no other.
const DEVICE: &str = "wg0";
/// 1500 less the most that WireGuard adds over IPv6, as everywhere.
const MTU: u16 = 1420;
/// Seconds of silence after which it says that it is there. Anything but 0 also has it speak first.
const KEEP_ALIVE: u16 = 25;
/// Longest settings that are read, in bytes.
const SETTINGS_BYTES_MAX: u64 = 64 * 1024;

/// All that a peer is told, over its standard input, since some of it is secret.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// What it calls itself.
    pub(super) name: String,
    /// What it calls its network.
    pub(super) network: String,
    /// Its own WireGuard key.
    pub(super) private_key: String,
    /// Who the gateway's device is.
    pub(super) gateway_key: PublicKey,
    /// Where that is.
    pub(super) endpoint: SocketAddr,
    /// Its TLS certificate, with the key.
    pub(super) identity: Identity,
    /// Where it may put the socket that `wg` finds its device by.
    pub(super) directory: PathBuf,
}

/// Why a peer does not come up.
#[derive(Debug, thiserror::Error)]
enum PeerError {
    #[error("reading the peer's settings")]
    Settings(#[source] io::Error),
    #[error("understanding the peer's settings")]
    Form(#[source] serde_json::Error),
    #[error("the peer's private key")]
    Key(#[source] KeyError),
    #[error("the peer's certificate")]
    Identity(#[source] IdentityError),
    #[error("making the peer's namespace")]
    Namespace(#[source] io::Error),
    #[error("starting the peer's WireGuard thread")]
    Threads(#[source] StartError),
    #[error("opening the peer's device")]
    Open(#[source] OpenError),
    #[error("giving the peer's device its address")]
    Link(#[source] LinkError),
    #[error("starting the peer's HTTPS server")]
    Serve(#[source] io::Error),
    #[error("giving the peer's device its keys")]
    Configure(#[source] ConfigureError),
    #[error("waiting for a signal")]
    Signal(#[source] io::Error),
}

/// Is a peer of the demo that has this number, until SIGTERM.
///
/// # Errors
/// When it cannot be one.
pub(super) fn run(demo: u32) -> anyhow::Result<ExitCode> {
    process::attach(demo, c"ringway-peer")?;
    // Blocked in all threads to come: it is waited for.
    let ending = SigSet::from(Signal::SIGTERM);
    let signal = |errno| PeerError::Signal(io::Error::from(errno));
    ending.thread_block().map_err(signal)?;
    let peer = Peer::start(&read_settings()?)?;
    ending.wait().map_err(signal)?;
    drop(peer);
    Ok(ExitCode::SUCCESS)
}

fn read_settings() -> Result<Settings, PeerError> {
    let mut text = String::new();
    io::stdin()
        .lock()
        .take(SETTINGS_BYTES_MAX)
        .read_to_string(&mut text)
        .map_err(PeerError::Settings)?;
    serde_json::from_str(&text).map_err(PeerError::Form)
}

/// A peer that is up. The server stops before the device goes, and that before the namespace.
struct Peer {
    _site: Site,
    _device: Device,
    _namespace: Netns,
}

impl Peer {
    /// The gateway hears of it when everything behind it is there.
    fn start(settings: &Settings) -> Result<Self, PeerError> {
        let tls = settings.identity.server().map_err(PeerError::Identity)?;
        let namespace = Netns::create().map_err(PeerError::Namespace)?;
        let device = open(&namespace, &settings.directory)?;
        link::set_up(&namespace, DEVICE, Tenant::peer_address()).map_err(PeerError::Link)?;
        let site = serve(settings, tls, &namespace).map_err(PeerError::Serve)?;
        let change = introduce(settings)?;
        device.configure(change).map_err(PeerError::Configure)?;
        Ok(Self {
            _site: site,
            _device: device,
            _namespace: namespace,
        })
    }
}

/// A device whose link is inside and whose UDP port is outside, as those of the gateway are.
fn open(namespace: &Netns, directory: &Path) -> Result<Device, PeerError> {
    let host = Netns::current().map_err(PeerError::Namespace)?;
    let pool = Pool::start_in(NonZeroUsize::MIN, directory).map_err(PeerError::Threads)?;
    let open = Open {
        name: DEVICE,
        tenant: namespace,
        host: &host,
        mtu: MTU,
        listen_port: 0,
        private_key: Key::ZERO,
    };
    pool.open(open).map_err(PeerError::Open)
}

fn serve(settings: &Settings, tls: Arc<ServerConfig>, namespace: &Netns) -> io::Result<Site> {
    let listen = || Ok(TcpListener::bind(Tenant::target())?.into());
    let listener = namespace.enter(listen)?;
    let (name, network) = (settings.name.clone(), settings.network.clone());
    let introduction = move |client: SocketAddr| {
        let (target, client) = (Tenant::target(), client.ip());
        format!("I am {name}, {target} in {network}. I see you as {client}.")
    };
    Site::start(listener.into(), tls, introduction)
}

/// The gateway's device as the only peer, for everything in the network.
fn introduce(settings: &Settings) -> Result<Change, PeerError> {
    let private_key: PrivateKey = settings.private_key.parse().map_err(PeerError::Key)?;
    let gateway = PeerChange {
        endpoint: Some(settings.endpoint),
        keep_alive: Some(KEEP_ALIVE),
        allowed_ips: vec![Tenant::subnet()],
        ..PeerChange::new((*settings.gateway_key.as_bytes()).into())
    };
    Ok(Change {
        private_key: Some(Key::new(*private_key.expose())),
        peers: vec![gateway],
        ..Change::default()
    })
}
