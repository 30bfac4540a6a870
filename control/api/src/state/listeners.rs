//! The listeners of a network: where its own clients come in.

use std::{collections::BTreeMap, net::SocketAddr, num::NonZeroU32, time::Duration};

use ipnet::IpNet;
use serde_json::Value;

use super::{
    Namespace, Taken,
    part::part,
    pool::{self, Pool},
};
use crate::{
    boot::{
        HalfClose, ListenerName, ListenerTerms, Protocol, RelayMode,
        listener::{Destinations, check_destinations},
    },
    document::{Duplicates, Spot},
    field::{Field, words},
    place::NetworkKey,
    problem::Problems,
    section::Check,
};

/// Most listeners of one network.
pub const LISTENERS_MAX: usize = 256;

/// The listeners of a network, by name.
pub(super) type Listeners = BTreeMap<ListenerName, Listener>;

part! {
    /// An address that connections for the network are accepted on.
    pub struct Listener {
        /// The address, with a fixed port. `[::]` accepts IPv4 as well. No two listeners of a
        /// namespace have connections in common.
        bind: SocketAddr, r#""10.0.0.1:5432""#;
        /// The namespace of the address: that of the `network`, where its firewall lets the port in,
        /// or that of the `host`.
        r#in: Where = "network", r#""host""#;
        /// What clients speak, as in the boot file. Only hosts of the network are served.
        protocol: Protocol, r#""tcp""#;
        /// The targets of all connections, as in `proxy`. Required for `protocol: tcp`, and for that
        /// only.
        to: Option<Pool>, r#"["10.0.0.2:5432", {"to": "10.0.0.3:5432", "backup": true}]"#;
        /// The targets of connections and requests for hosts that the network does not declare, as in
        /// `proxy`. Not for `protocol: tcp`.
        default: Option<Pool>, r#"["10.0.0.2:8080"]"#;
        /// How bytes are relayed. `auto` measures copying and splicing on each flow.
        relay: RelayMode = "auto", r#""splice""#;
        /// Which sources send a PROXY protocol header.
        proxy_protocol: Option<ProxyHeader>, r#"{"accept_from": ["192.0.2.0/24"]}"#;
        /// Maximum concurrent connections.
        connections_max: Option<NonZeroU32>, "1000";
        /// Timeout for the ClientHello or the head of an HTTP request. A TLS handshake that is
        /// terminated has the same time again.
        hello_timeout: Duration = "5s" where in "10ms"..="5m", r#""10s""#;
        /// Timeout for connecting to one target; then the next one is tried.
        connect_timeout: Duration = "3s" where in "10ms"..="5m", r#""1s""#;
        /// Timeout for a connection on which no bytes move.
        idle_timeout: Duration = "15m" where in "1s"..="7d", r#""1h""#;
        /// Timeout between two HTTP requests of a client.
        keep_alive_timeout: Duration = "75s" where in "1s"..="1d", r#""30s""#;
        /// Timeout for the response head of a target.
        answer_timeout: Duration = "60s" where in "1s"..="1d", r#""10s""#;
        /// What happens to an HTTP request if the client ends its sending side before the response:
        /// `respond` answers it, `abort` cancels it.
        half_close: HalfClose = "respond", r#""abort""#;
        /// Proxies in front of the gateway whose headers are trusted, as in the boot file.
        trusted_proxies: Option<Vec<IpNet>>, r#"["192.0.2.0/24"]"#;
    }
}

part! {
    /// Who tells the client's address.
    pub struct ProxyHeader {
        /// Sources that must send a PROXY protocol header (v1 or v2). A header from any other
        /// source is refused.
        accept_from: Vec<IpNet>, r#"["192.0.2.0/24"]"#;
    }
}

impl Check for ProxyHeader {}

words! {
    /// Which namespace a listener's address is in.
    pub enum Where {
        /// The network's, which its targets are dialed from.
        Network = "network",
        /// The one that Ringway runs in.
        Host = "host",
    }
}

impl Check for Listener {
    fn check(&self, spot: &Spot<'_>, problems: &mut Problems) {
        if self.bind.port() == 0 {
            spot.error(problems, "`bind` needs a port: clients could not know it");
        }
        let declared = Destinations {
            protocol: self.protocol,
            to: self.to.is_some(),
            default: self.default.is_some(),
            trusted_proxies: self.trusted_proxies.is_some(),
        };
        check_destinations(declared, spot, problems);
    }
}

impl Listener {
    /// What it does with connections.
    pub fn terms(&self) -> ListenerTerms {
        let accept_from = self.proxy_protocol.as_ref();
        ListenerTerms {
            protocol: self.protocol,
            relay: self.relay,
            accept_proxy_from: accept_from.map_or_else(Vec::new, |it| it.accept_from.clone()),
            connections_max: self.connections_max,
            hello_timeout: self.hello_timeout,
            connect_timeout: self.connect_timeout,
            idle_timeout: self.idle_timeout,
            keep_alive_timeout: self.keep_alive_timeout,
            answer_timeout: self.answer_timeout,
            half_close: self.half_close,
            trusted_proxies: self.trusted_proxies.clone().unwrap_or_default(),
        }
    }

    /// Its targets: of one of `to` and `default` at most.
    pub(super) fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.to.iter().chain(&self.default)
    }

    /// What stands at its name in a document.
    pub fn render(&self) -> Value {
        self.write()
    }

    /// The namespace of its address, in a network whose namespace is this.
    pub fn place<'n>(&self, namespace: &'n Namespace) -> &'n Namespace {
        match self.r#in {
            Where::Network => namespace,
            Where::Host => &Namespace::Host,
        }
    }
}

impl Field for Pool {
    const SYNTAX: &'static str = "targets";

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        pool::read(spot, problems).map(pool::Draft::finish)
    }

    fn write(&self) -> Value {
        pool::write(self)
    }

    fn schema() -> Value {
        pool::schema()
    }
}

/// Reads the listeners of a network whose namespace is this, beside what others have.
pub(super) fn read(
    spot: &Spot<'_>,
    (port, namespace): (NetworkKey, &Namespace),
    taken: &mut Taken,
    problems: &mut Problems,
) -> Option<Listeners> {
    let entries = spot.entries(Duplicates::Refused, problems)?;
    if entries.len() > LISTENERS_MAX {
        let message = format_args!("a network has at most {LISTENERS_MAX} listeners");
        spot.error(problems, message);
        return None;
    }
    let mut listeners = Listeners::new();
    for entry in entries {
        let name: Option<ListenerName> = entry
            .key()
            .parse()
            .map_err(|error| entry.error(problems, error))
            .ok();
        let listener = Listener::read(&entry, problems);
        let (Some(name), Some(listener)) = (name, listener) else {
            continue;
        };
        claim(
            (&name, &listener),
            (port, namespace),
            &entry,
            taken,
            problems,
        );
        listeners.insert(name, listener);
    }
    Some(listeners)
}

/// Notes the name and the address of a listener, or says whose they are.
pub(super) fn claim(
    (name, listener): (&ListenerName, &Listener),
    (port, namespace): (NetworkKey, &Namespace),
    spot: &Spot<'_>,
    taken: &mut Taken,
    problems: &mut Problems,
) {
    if let Err(holder) = taken.name_listener(name, port) {
        spot.error(
            problems,
            format_args!(
                "network {holder} has a listener `{name}`: names are unique in the gateway"
            ),
        );
    }
    let place = place(listener.place(namespace), port);
    if let Err(other) = taken.bind((name, port), (place, listener.bind)) {
        spot.error(
            problems,
            format_args!(
                "the listener `{other}` has connections of {} already",
                listener.bind
            ),
        );
    }
}

/// A namespace that a listener's address is in, as far as a document can tell it from others: one
/// of a network's own has its port.
pub(super) type Place = (Namespace, Option<NetworkKey>);

pub(super) fn place(namespace: &Namespace, port: NetworkKey) -> Place {
    let own = (*namespace == Namespace::Own).then_some(port);
    (namespace.clone(), own)
}

#[cfg(test)]
mod tests;
