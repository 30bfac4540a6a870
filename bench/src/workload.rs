//! The workloads: what work is done, through whom, and what is read off.

use anyhow::Result;
use clap::ValueEnum;

use crate::{
    lab::Lab,
    peer::Peer,
    results::{Figure, Values},
    runtime::Runtime,
    target::{DIRECT, Target},
    wireguard::{Implementation, Pair},
};

mod apply;
mod ciphers;
mod devices;
mod exchange;
mod hello;
mod http;
mod http2;
mod https;
mod idle;
mod kept;
mod latency;
mod names;
mod netns;
mod outside;
mod quiet;
mod relay;
mod routes;
mod runtimes;
mod tls;
mod traffic;
mod way;
mod wireguard;

/// The name that workloads with one name ask for.
pub(crate) const NAME: &str = "tenant.bench.test";

/// A workload, by its name on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Workload {
    /// Bulk flows, one way
    Relay,
    /// New connections, each routed by its ClientHello
    Hello,
    /// Small messages over connections that stay open
    Exchange,
    /// Dialing in a tenant's namespace against dialing on the host
    Netns,
    /// Memory of idle relayed connections
    Idle,
    /// 100,000 names against one, and what publishing them stalls
    Names,
    /// Small messages at a fixed rate beside a bulk flow
    Latency,
    /// The same relay on several async runtimes
    Runtime,
    /// Networks made, changed and removed over the API; what they cost at rest
    Apply,
    /// Requests on the API with a million rows of accounts
    Traffic,
    /// One route changed among many: until every worker has it, and what a route costs
    Routes,
    /// Small messages while networks come and go
    Quiet,
    /// Tunnels between two ends in user space
    Wireguard,
    /// HTTP/1.1 requests, each routed by its host
    Http,
    /// HTTP/2 requests over TLS, many on one connection
    Http2,
    /// TLS handshakes that end at the proxy, full and resumed
    Tls,
    /// Memory of kept HTTP connections, plain and with TLS
    Kept,
    /// HTTPS from a client to a tenant's server, through a tunnel in user space
    Https,
    /// WireGuard devices in user space that nobody uses
    Devices,
    /// The cipher of WireGuard, in several libraries
    Ciphers,
}

impl Workload {
    /// What it consists of.
    pub(crate) fn contest(self) -> Box<dyn Contest> {
        match self {
            Self::Relay => Box::new(relay::Relay),
            Self::Hello => Box::new(hello::Hello),
            Self::Exchange => Box::new(exchange::Exchange),
            Self::Netns => Box::new(netns::Namespace),
            Self::Idle => Box::new(idle::Idle),
            Self::Names => Box::new(names::Names),
            Self::Latency => Box::new(latency::Fairness),
            Self::Runtime => Box::new(runtimes::Runtimes),
            Self::Apply => Box::new(apply::Apply),
            Self::Traffic => Box::new(traffic::Requests::default()),
            Self::Routes => Box::new(routes::Routes),
            Self::Quiet => Box::new(quiet::Quiet::default()),
            Self::Wireguard => Box::new(wireguard::Tunnels),
            Self::Http => Box::new(http::Http),
            Self::Http2 => Box::new(http2::Http2),
            Self::Tls => Box::new(tls::Tls),
            Self::Kept => Box::new(kept::Kept),
            Self::Https => Box::new(https::WholeWay),
            Self::Devices => Box::new(devices::Devices),
            Self::Ciphers => Box::new(ciphers::Ciphers),
        }
    }

    /// Its name in files.
    pub(crate) fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// One workload.
pub(crate) trait Contest {
    /// In a few words.
    fn title(&self) -> &'static str;
    /// Whom all others are compared with.
    fn subject(&self) -> Contestant {
        Contestant::Peer(Peer::Ringway)
    }
    /// Whether contestants do the same work, so that their figures can be compared.
    fn compares(&self) -> bool {
        true
    }
    /// What is read off, most important first.
    fn figures(&self) -> Vec<Figure>;
    /// The cases, and who takes part in each.
    fn cases(&self, lab: &Lab) -> Vec<Case>;
    /// What the project aims at.
    fn targets(&self) -> Vec<Target>;
    /// Measures one contestant in the case with this number, once.
    ///
    /// # Errors
    /// When the contestant or a generator cannot do its part.
    fn measure(&self, lab: &Lab, case: usize, contestant: Contestant) -> Result<Outcome>;
}

/// One case of a workload.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) contestants: Vec<Contestant>,
}

impl Case {
    fn new(name: impl Into<String>, contestants: &[Contestant]) -> Self {
        Self {
            name: name.into(),
            contestants: contestants.to_vec(),
        }
    }
}

/// Who does the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contestant {
    /// Nobody between client and target
    Direct,
    /// A proxy
    Peer(Peer),
    /// A plain relay on an async runtime
    Runtime(Runtime),
    /// Ringway, in the named circumstances
    Variant(&'static str),
    /// A tunnel between two ends
    Tunnel(Pair),
    /// Devices of one kind
    Device(Implementation),
    /// A library with a cipher
    Library(&'static str),
}

impl Contestant {
    /// As it is called in tables.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Direct => DIRECT,
            Self::Peer(peer) => peer.label(),
            Self::Runtime(runtime) => runtime.label(),
            Self::Variant(name) | Self::Library(name) => name,
            Self::Tunnel(pair) => pair.label(),
            Self::Device(implementation) => implementation.label(),
        }
    }
}

/// What one measure gave.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) values: Values,
    pub(crate) faults: Vec<String>,
}

/// All proxies that are installed and read requests here. Bytes are not spliced where TLS ends.
fn terminating(lab: &Lab) -> Vec<Contestant> {
    let able = |peer: &Peer| {
        peer.can_proxy_http() && *peer != Peer::HaproxySplice && lab.tools.find(*peer).is_some()
    };
    let peers = lab.peers.iter().copied().filter(able);
    peers.map(Contestant::Peer).collect()
}

/// `direct` and all proxies that are installed and can do it.
fn everybody(lab: &Lab, forwarding: bool) -> Vec<Contestant> {
    let able = |peer: &Peer| {
        let fit = !forwarding || peer.can_forward();
        fit && lab.tools.find(*peer).is_some()
    };
    let peers = lab.peers.iter().copied().filter(able).map(Contestant::Peer);
    std::iter::once(Contestant::Direct).chain(peers).collect()
}
