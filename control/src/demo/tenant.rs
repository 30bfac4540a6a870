//! A tenant of the demo: a namespace, a machine behind it, and the machine's HTTPS server.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use control_kernel::{
    links::{self, State},
    name::NamespaceName,
    namespaces::Namespaces,
};
use engine_sys::netns::Netns;
use ipnet::{IpNet, Ipv4Net};

use super::{authority::Authority, error::DemoError, site::Site};

/// Where every tenant's namespace dials from.
const GATEWAY_SIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
/// Where every tenant's machine is: the same address for all, which is what the demo shows.
const MACHINE_SIDE: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
/// Both are in this network.
const PREFIX_LENGTH: u8 = 24;

/// What a tenant is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Names {
    /// In its machine's answers.
    pub(super) name: &'static str,
    /// What clients ask for.
    pub(super) hostname: &'static str,
    /// The public WireGuard port, by which the state document knows it.
    pub(super) port: u16,
}

/// The tenants of the demo.
pub(super) const TENANTS: [Names; 2] = [
    Names {
        name: "blue",
        hostname: "blue.example",
        port: 51_820,
    },
    Names {
        name: "green",
        hostname: "green.example",
        port: 51_821,
    },
];

impl Names {
    pub(super) fn network(self) -> NamespaceName {
        NamespaceName::of_network(self.port)
    }

    /// Where its machine serves.
    pub(super) fn target() -> SocketAddr {
        SocketAddr::from((MACHINE_SIDE, 443))
    }

    pub(super) fn subnet() -> IpNet {
        net(GATEWAY_SIDE).trunc()
    }
}

/// A tenant that is up. Its server ends with it.
pub(super) struct Tenant {
    _site: Site,
    /// The machine's namespace has no other holder than its server's socket and this.
    _machine: Netns,
}

impl Tenant {
    /// Makes the namespaces, the link between them, and the server.
    pub(super) fn start(
        names: Names,
        namespaces: &mut Namespaces,
        authority: &Authority,
    ) -> Result<Self, DemoError> {
        let tenant = namespaces.ensure(&names.network())?;
        let machine = Netns::create().map_err(|source| DemoError::Machine(names.name, source))?;
        connect(&tenant, &machine).map_err(|source| DemoError::Link(names.name, source))?;
        let tls = authority.server(names.hostname)?;
        let listen = || Ok(TcpListener::bind(Names::target())?.into());
        let site = machine
            .enter(listen)
            .and_then(|listener| Site::start(listener.into(), tls, introduction(names)))
            .map_err(|source| DemoError::Serve(names.name, source))?;
        Ok(Self {
            _site: site,
            _machine: machine,
        })
    }
}

fn introduction(names: Names) -> impl Fn(SocketAddr) -> String + Send + Sync + 'static {
    move |client| {
        let (name, network, target) = (names.name, names.network(), Names::target());
        format!(
            "I am {name}, {target} in {network}. I see you as {}.",
            client.ip()
        )
    }
}

fn connect(tenant: &Netns, machine: &Netns) -> Result<(), links::LinkError> {
    links::within(tenant, async |links| {
        links.veth("lan", "uplink", machine).await?;
        links.add_address("lan", net(GATEWAY_SIDE)).await?;
        links.set("lan", State::Up).await
    })?;
    links::within(machine, async |links| {
        links.add_address("uplink", net(MACHINE_SIDE)).await?;
        links.set("uplink", State::Up).await
    })
}

fn net(address: Ipv4Addr) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(address, PREFIX_LENGTH))
}
