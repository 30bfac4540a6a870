//! How a connection ended, and whose doing it was.

/// Whose doing the end of a connection was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fault {
    /// Nobody's: it ended in order.
    None,
    /// The client's: its bytes, its silence, its reset.
    Client,
    /// The tenant's machine's: unreachable, silent, reset.
    Upstream,
    /// Ringway's own: a limit, a drain, a failing system call.
    Gateway,
}

impl Fault {
    /// All of them, in the order of [`Fault::index`].
    pub const ALL: [Self; 4] = [Self::None, Self::Client, Self::Upstream, Self::Gateway];

    /// The position in [`Fault::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// The word in logs and metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Client => "client",
            Self::Upstream => "upstream",
            Self::Gateway => "gateway",
        }
    }
}

macro_rules! outcomes {
    ($($(#[$doc:meta])* $variant:ident => $fault:ident $label:literal,)*) => {
        /// How a connection ended. Exactly one for each connection.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Outcome {
            $($(#[$doc])* $variant,)*
        }

        impl Outcome {
            /// All of them, in the order of [`Outcome::index`].
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Whose doing it was.
            pub fn fault(self) -> Fault {
                match self { $(Self::$variant => Fault::$fault,)* }
            }

            /// The word in logs and metrics; stable over versions.
            pub fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }

            /// The position in [`Outcome::ALL`].
            pub fn index(self) -> usize {
                self as usize
            }
        }
    };
}

outcomes! {
    /// Both sides ended in order.
    Done => None "done",

    /// The first bytes cannot be a ClientHello.
    NotTls => Client "not_tls",
    /// A ClientHello that breaks the rules of its own format.
    BadHello => Client "bad_hello",
    /// A ClientHello longer than the limit.
    HelloTooLong => Client "hello_too_long",
    /// The whole hello did not come in time.
    HelloTimeout => Client "hello_timeout",
    /// The client went before its hello was whole.
    HelloEof => Client "hello_eof",
    /// The TLS handshake was not done: its cause is counted apart.
    HandshakeFailed => Client "handshake_failed",
    /// The TLS handshake was not done in time.
    HandshakeTimeout => Client "handshake_timeout",
    /// The hello names a host that is not routed here.
    UnknownName => Client "unknown_name",
    /// The hello names no host, and the listener has no default.
    NoName => Client "no_name",
    /// A request that is malformed, ambiguous or beyond a limit; the reason is counted apart.
    BadRequest => Client "bad_request",
    /// A request for a host that the connection's certificate is not for.
    Misdirected => Client "misdirected",
    /// The content of a request is longer than its route allows.
    TooLarge => Client "too_large",
    /// The client sends less than it announced.
    Truncated => Client "truncated",
    /// The content of a request came too slowly.
    ContentTimeout => Client "content_timeout",
    /// The route does not let the client in: its address, or its credentials.
    Denied => Client "denied",
    /// Frames of HTTP/2 that cost more than they ask for: resets, pings, settings, empty content.
    Flood => Client "flood",
    /// A PROXY protocol header that is malformed, or the lack of one from a trusted prefix.
    BadProxyHeader => Client "bad_proxy_header",
    /// A PROXY protocol header from a source that may not send one.
    UntrustedProxyHeader => Client "untrusted_proxy_header",
    /// The client reset the connection.
    ClientReset => Client "client_reset",
    /// The client sends connections faster than its prefix may.
    SourceRate => Client "source_rate",
    /// The client's prefix has as many connections as it may.
    SourceLimit => Client "source_limit",

    /// Every target refused the connection.
    Refused => Upstream "refused",
    /// No target answered in time.
    ConnectTimeout => Upstream "connect_timeout",
    /// No way to any target: no route, no address, its network down or gone.
    Unreachable => Upstream "unreachable",
    /// No target is well: each one is down by its checks.
    NoTarget => Upstream "no_target",
    /// The names of all targets led to no address: see the reason.
    Unresolved => Upstream "unresolved",
    /// The target did not prove who it is: its certificate is not good.
    UpstreamUntrusted => Upstream "upstream_untrusted",
    /// The TLS handshake with the target failed.
    UpstreamTls => Upstream "upstream_tls",
    /// The target reset the connection, or ended it in the middle of something.
    UpstreamReset => Upstream "upstream_reset",
    /// The target's answer is malformed or ambiguous.
    BadResponse => Upstream "bad_response",
    /// The target took the request, and did not answer in time.
    AnswerTimeout => Upstream "answer_timeout",

    /// Nothing moved for as long as the listener allows.
    Idle => Gateway "idle",
    /// As many connections as the gateway may have.
    GatewayLimit => Gateway "gateway_limit",
    /// As many connections as the listener may have.
    ListenerLimit => Gateway "listener_limit",
    /// As many connections as the network may have.
    NetworkLimit => Gateway "network_limit",
    /// The listener's fixed route is not in the running state.
    NoRoute => Gateway "no_route",
    /// The drain's deadline passed.
    Drained => Gateway "drained",
    /// The connection's network was removed from the state.
    NetworkRemoved => Gateway "network_removed",
    /// The connection's network moved to another namespace, or lost the address that it was dialed
    /// from.
    NetworkChanged => Gateway "network_changed",
    /// TLS of the name is to end here, and there is no certificate for it.
    NoCertificate => Gateway "no_certificate",
    /// What lets the connection's client in was changed, and lets it in no longer.
    AccessChanged => Gateway "access_changed",
    /// The TLS that is to be spoken with the targets could not be set up: see the status.
    UpstreamUnset => Gateway "upstream_tls_unset",
    /// A system call failed that should not: see the log.
    GatewayError => Gateway "gateway_error",
    /// A defect: the connection's code panicked. Only this connection ended.
    Panic => Gateway "panic",
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_unique_and_positions_match() {
        for (position, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(outcome.index(), position);
            let same = Outcome::ALL
                .iter()
                .filter(|other| other.label() == outcome.label());
            assert_eq!(same.count(), 1, "{}", outcome.label());
        }
        for (position, fault) in Fault::ALL.iter().enumerate() {
            assert_eq!(fault.index(), position);
        }
    }
}
