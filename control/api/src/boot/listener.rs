//! Where connections are accepted.

use std::{
    collections::HashMap, fmt, net::SocketAddr, num::NonZeroU32, str::FromStr, time::Duration,
};

use ipnet::IpNet;

use crate::{
    document::Spot,
    field::{text_field, words},
    place::Place,
    problem::Problems,
    section::{Check, section},
};

/// Most listeners.
pub const LISTENERS_MAX: usize = 1024;
/// Longest name of a listener.
const NAME_BYTES_MAX: usize = 64;

section! {
    /// One address that connections are accepted on.
    pub struct Listener {
        /// The name in logs and metrics, and in `LISTEN_FDNAMES` if systemd passes the socket. Also
        /// unique among the listeners of the state document.
        name: ListenerName, reload;
        /// The address. `[::]` accepts IPv4 as well.
        bind: SocketAddr, reload;
        /// What clients speak: `tls` routes by the name in the ClientHello and passes through or
        /// terminates, `https` terminates TLS, `http` is HTTP without TLS, `tcp` is anything.
        protocol: Protocol, reload;
        /// The destination of all connections. Required for `protocol: tcp`, and for that only.
        to: Option<Place>, reload;
        /// The destination of connections and requests for hosts that no network declares. Not for
        /// `protocol: tcp`.
        default: Option<Place>, reload;
        /// How bytes are relayed. `auto` measures copying and splicing on each flow.
        relay: RelayMode = "auto", reload;
        /// Which sources send a PROXY protocol header.
        proxy_protocol: Option<ProxyProtocol>, reload;
        /// Maximum concurrent connections.
        connections_max: Option<NonZeroU32>, reload;
        /// Timeout for the ClientHello or the head of an HTTP request. A TLS handshake that is
        /// terminated has the same time again.
        hello_timeout: Duration = "5s" in "10ms"..="5m", reload;
        /// Timeout for connecting to one target; then the next one is tried.
        connect_timeout: Duration = "3s" in "10ms"..="5m", reload;
        /// Timeout for a connection on which no bytes move.
        idle_timeout: Duration = "15m" in "1s"..="7d", reload;
        /// Timeout between two HTTP requests of a client.
        keep_alive_timeout: Duration = "75s" in "1s"..="1d", reload;
        /// Timeout for the response head of a target.
        answer_timeout: Duration = "60s" in "1s"..="1d", reload;
        /// What happens to an HTTP request if the client ends its sending side before the response:
        /// `respond` answers it, `abort` cancels it.
        half_close: HalfClose = "respond", reload;
        /// Proxies in front of the gateway. Ringway trusts their `X-Forwarded-*`, `Forwarded`,
        /// `X-Real-IP` and `X-Request-Id`. The last address in `X-Forwarded-For` that is not a
        /// trusted proxy is the client's address for `allow`, `deny`, `hash:source`, logs and
        /// accounts. These headers are dropped from all other clients, as are `True-Client-IP`,
        /// `CF-Connecting-IP`, `X-Client-IP`, `X-Original-URL`, `X-Rewrite-URL` and the like.
        /// `Proxy` is dropped from all clients.
        trusted_proxies: Option<Vec<IpNet>>, reload;
    }
}

/// What a listener does with connections, wherever it is declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerTerms {
    /// What clients speak.
    pub protocol: Protocol,
    /// How bytes are relayed.
    pub relay: RelayMode,
    /// Sources that must send a PROXY protocol header.
    pub accept_proxy_from: Vec<IpNet>,
    /// Maximum concurrent connections; `None` is no limit of its own.
    pub connections_max: Option<NonZeroU32>,
    /// Timeout for the ClientHello or the head of an HTTP request.
    pub hello_timeout: Duration,
    /// Timeout for connecting to one target.
    pub connect_timeout: Duration,
    /// Timeout for a connection on which no bytes move.
    pub idle_timeout: Duration,
    /// Timeout between two HTTP requests of a client.
    pub keep_alive_timeout: Duration,
    /// Timeout for the response head of a target.
    pub answer_timeout: Duration,
    /// What a client's end of sending means.
    pub half_close: HalfClose,
    /// Proxies in front of the gateway.
    pub trusted_proxies: Vec<IpNet>,
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
}

impl Check for Listener {
    fn check(&self, spot: &Spot<'_>, problems: &mut Problems) {
        let declared = Destinations {
            protocol: self.protocol,
            to: self.to.is_some(),
            default: self.default.is_some(),
            trusted_proxies: self.trusted_proxies.is_some(),
        };
        check_destinations(declared, spot, problems);
    }
}

/// Which keys of a listener are written that only some protocols have a use for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Destinations {
    pub(crate) protocol: Protocol,
    pub(crate) to: bool,
    pub(crate) default: bool,
    pub(crate) trusted_proxies: bool,
}

/// Checks that what is written of a listener has an effect with its protocol.
pub(crate) fn check_destinations(declared: Destinations, spot: &Spot<'_>, problems: &mut Problems) {
    match declared.protocol {
        Protocol::Tcp if !declared.to => {
            spot.error(
                problems,
                "`to` is missing: a tcp listener needs a destination",
            );
        }
        Protocol::Tcp if declared.default => spot.error_with_hint(
            problems,
            "`default` has no effect on a tcp listener",
            "write `to`",
        ),
        Protocol::Tls | Protocol::Http | Protocol::Https if declared.to => spot.error_with_hint(
            problems,
            "`to` is for tcp listeners: here hosts are routed by the state document",
            "write `default`, or `protocol: tcp`",
        ),
        Protocol::Tcp | Protocol::Tls | Protocol::Http | Protocol::Https => {}
    }
    if declared.protocol == Protocol::Tcp && declared.trusted_proxies {
        spot.warning(
            problems,
            "`trusted_proxies` has no effect on a tcp listener",
        );
    }
}

/// Checks what concerns several listeners at once. `spot` is the boot file's.
pub(super) fn check_all(listeners: &[Listener], spot: &Spot<'_>, problems: &mut Problems) {
    if listeners.len() > LISTENERS_MAX {
        spot.error(
            problems,
            format_args!("more than {LISTENERS_MAX} listeners"),
        );
    }
    let mut names = HashMap::new();
    let mut addresses = HashMap::new();
    for listener in listeners {
        if names.insert(&listener.name, ()).is_some() {
            let name = &listener.name;
            spot.error(
                problems,
                format_args!("two listeners have the name `{name}`"),
            );
        }
        // Port 0 asks the kernel for a free one, each time another.
        let fixed = listener.bind.port() != 0;
        if let Some(other) = addresses
            .insert(listener.bind, &listener.name)
            .filter(|_| fixed)
        {
            let Listener { name, bind, .. } = listener;
            spot.error(
                problems,
                format_args!("listeners `{other}` and `{name}` both bind {bind}"),
            );
        }
    }
}

words! {
    /// What a listener's connections carry.
    pub enum Protocol {
        /// TLS: routed by the name in the ClientHello, and passed through unread; names with a
        /// certificate here end their TLS here, and are served as on `https`.
        Tls = "tls",
        /// Any bytes: all sent to one place.
        Tcp = "tcp",
        /// HTTP/1: each request routed by its host, and proxied.
        Http = "http",
        /// HTTP/1 in TLS that ends here.
        Https = "https",
    }
}

words! {
    /// How bytes are relayed. `auto` measures copying and splicing on each flow.
    pub enum RelayMode {
        /// By whichever way costs less CPU on the flow, without losing throughput.
        Auto = "auto",
        /// Through the worker's scratch buffer.
        Copy = "copy",
        /// Through a pipe, by splice(2).
        Splice = "splice",
    }
}

words! {
    /// What becomes of a request whose client ends its sending side.
    pub enum HalfClose {
        /// The request is given up: the client has left.
        Abort = "abort",
        /// The request gets its response. A client that waits for one longer than a second is asked
        /// by an interim `100 Continue` whether it is still there.
        Respond = "respond",
    }
}

section! {
    /// Who tells the client's address.
    pub struct ProxyProtocol {
        /// Sources that must send a PROXY protocol header (v1 or v2). A header from any other
        /// source is refused.
        accept_from: Vec<IpNet>, reload;
    }
}

impl Check for ProxyProtocol {}

/// The name of a listener: letters, digits, `-`, `_` and `.`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerName(Box<str>);

/// Why a text is not the name of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a name has from 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`")]
pub struct ListenerNameError;

impl ListenerName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ListenerName {
    type Err = ListenerNameError;

    fn from_str(text: &str) -> Result<Self, ListenerNameError> {
        // sd_listen_fds_with_names(3) allows more; these are safe in every log and metric.
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if !(1..=NAME_BYTES_MAX).contains(&text.len()) || !text.bytes().all(known) {
            return Err(ListenerNameError);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for ListenerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

text_field!(ListenerName, "name");
