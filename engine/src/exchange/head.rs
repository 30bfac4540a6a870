//! The head of a request on its way to an upstream, which may speak HTTP/1 or HTTP/2.

use std::borrow::Cow;

use engine_http::{
    forward::{Client, Forwarding, Outgoing, write_request},
    method::{Method, Version},
    path::Path,
    request::{Request, Upgrade},
    rules::Policy,
    trace::TraceParent,
};

use crate::exchange::{client_info::ClientInfo, http2::heads, websocket};

/// Room for what the gateway adds to a head.
const HEAD_GROWTH: usize = 512;

/// A head that can be sent to an upstream.
pub(crate) enum RequestHead<'h> {
    /// Written as HTTP/1: the bytes that it was read from are gone.
    Written(Vec<u8>),
    /// Written when it is known what the upstream speaks.
    Unwritten(UnwrittenHead<'h>),
}

impl RequestHead<'_> {
    /// As an upstream of HTTP/1 gets it.
    pub(crate) fn http1(&self) -> Cow<'_, [u8]> {
        match self {
            Self::Written(head) => Cow::Borrowed(head),
            Self::Unwritten(head) => Cow::Owned(head.write()),
        }
    }

    /// As an upstream of HTTP/2 gets it. `None` where it cannot be written so.
    ///
    /// An upgrade becomes an extended CONNECT where `connects` says so (RFC 8441 section 4). Else it is
    /// left out, as every upgrade may be (RFC 9110 section 7.8).
    pub(crate) fn http2(&self, is_tls: bool, connects: bool) -> Option<Http2Head> {
        let mut head = match self {
            Self::Written(head) => heads::outgoing(head, is_tls)?,
            Self::Unwritten(head) => head.with(|forwarding, outgoing| {
                heads::forwarded(head.request, forwarding, outgoing, is_tls)
            })?,
        };
        if connects {
            heads::connect(&mut head.request);
        }
        Some(head)
    }

    /// Whether it opens a WebSocket, which only GET does (RFC 6455 section 4.1).
    pub(crate) fn opens_websocket(&self) -> bool {
        let opens = |request: &Request<'_>| {
            request.method == Method::Get && request.upgrade.is_some_and(Upgrade::is_websocket)
        };
        match self {
            Self::Written(head) => heads::read_written(head).is_some_and(|read| opens(&read)),
            Self::Unwritten(head) => opens(head.request),
        }
    }

    /// What shows a client of HTTP/1 that its WebSocket is open. Nothing does where the gateway's own
    /// key is sent, or none.
    pub(crate) fn accept_websocket(&self) -> String {
        let Self::Written(head) = self else {
            return String::new();
        };
        let read = heads::read_written(head);
        let key = read.and_then(|read| read.fields.first("sec-websocket-key"));
        websocket::accept(key.unwrap_or_default())
    }
}

/// A head as an upstream of HTTP/2 gets it.
pub(crate) struct Http2Head {
    pub(crate) request: http::Request<()>,
    /// Its size in bytes as it would be in HTTP/1.
    pub(crate) size: usize,
}

/// What a head is written from.
pub(crate) struct UnwrittenHead<'h> {
    pub(crate) request: &'h Request<'h>,
    pub(crate) client_info: &'h ClientInfo,
    /// Whose request it is, behind proxies that are trusted.
    pub(crate) real: Client,
    pub(crate) policy: &'h Policy,
    pub(crate) request_id: &'h str,
    /// The trace that the gateway began.
    pub(crate) begun: Option<TraceParent>,
    /// The path to ask for, before it is rewritten.
    pub(crate) path: Path<'h>,
    /// How many bytes of it the rule was found by.
    pub(crate) matched: usize,
}

impl UnwrittenHead<'_> {
    /// Writes it as HTTP/1.
    pub(crate) fn write(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(self.request.head_len + HEAD_GROWTH);
        self.with(|forwarding, outgoing| {
            write_request(self.request, forwarding, outgoing, &mut head);
        });
        head
    }

    fn with<T>(&self, write: impl FnOnce(&Forwarding<'_>, &Outgoing<'_>) -> T) -> T {
        let Self {
            request,
            client_info,
            policy,
            ..
        } = *self;
        let begun = self.begun.map(TraceParent::encode);
        let begun = begun.as_ref();
        let vouched = client_info
            .tls_info
            .as_ref()
            .map(|tls_info| tls_info.vouched());
        let vouched: Vec<_> = vouched
            .unwrap_or_default()
            .iter()
            .map(|(name, value)| (*name, value.as_str()))
            .collect();
        let forwarding = Forwarding {
            client: &client_info.client,
            real: &self.real,
            local: client_info.local,
            scheme: client_info.scheme,
            trusted: client_info.is_trusted,
            request_id: self.request_id,
            traceparent: begun.and_then(|begun| std::str::from_utf8(begun).ok()),
            vouched: &vouched,
        };
        let opens_websocket = request.version == Version::Http2
            && request
                .upgrade
                .is_some_and(|upgrade| upgrade.is_websocket());
        let websocket_key = opens_websocket.then(websocket::key);
        let outgoing = Outgoing {
            path: self.path.as_str(),
            matched: self.matched,
            rewrite: &policy.rewrite,
            edits: &policy.request_edits,
            framing: request.framing,
            expect: true,
            keep_alive: true,
            websocket_key: websocket_key.as_deref(),
        };
        write(&forwarding, &outgoing)
    }
}

#[cfg(test)]
mod tests {
    use engine_http::{
        decoded::{self, FieldLines, RequestHead as Decoded},
        limits::Limits,
        method::Scheme,
    };

    use super::*;
    use crate::transport::received::Endpoints;

    type Fields<'a> = &'a [(&'a str, &'a str)];

    /// Fields, path, and whether content follows.
    const HEADS: [(Fields<'_>, &str, bool); 5] = [
        (&[], "/", false),
        (
            &[("accept", "*/*"), ("cookie", "a=1"), ("cookie", "b=2")],
            "/a?b=c",
            false,
        ),
        (
            &[("te", "trailers"), ("grpc-timeout", "1S")],
            "/pkg.Service/Call",
            true,
        ),
        (
            &[("content-length", "12"), ("x-tenant", "blue")],
            "/upload%20it",
            true,
        ),
        (
            &[(
                "traceparent",
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            )],
            "*",
            false,
        ),
    ];

    #[test]
    fn a_head_is_the_same_whichever_way_it_is_written() {
        let address = "192.0.2.1:1234".parse().unwrap();
        let client_info = ClientInfo {
            client: Client::new(address),
            endpoints: Endpoints {
                client: address,
                dialed: None,
            },
            local: address,
            scheme: Scheme::Https,
            is_trusted: false,
            tls_info: None,
        };
        let (policy, limits) = (Policy::default(), Limits::default());
        for (fields, path, has_content) in HEADS {
            let mut lines = FieldLines::default();
            for (name, value) in fields {
                lines
                    .push(name.as_bytes(), value.as_bytes(), &limits)
                    .unwrap();
            }
            let decoded = Decoded {
                method: if path == "*" { "OPTIONS" } else { "POST" },
                authority: Some("h.example:8443"),
                path,
                protocol: None,
                fields: lines.fields(),
                is_end: !has_content,
            };
            let request = decoded::request(&decoded, &limits).unwrap();
            let unwritten = UnwrittenHead {
                request: &request,
                client_info: &client_info,
                real: Client::new(address),
                policy: &policy,
                request_id: "id-1",
                begun: None,
                path: Path::read(request.target.path).unwrap(),
                matched: 0,
            };
            let written = RequestHead::Written(unwritten.write());
            let text = written.http2(true, false).unwrap();
            let unwritten = RequestHead::Unwritten(unwritten);
            let fields = unwritten.http2(true, false).unwrap();
            let (text_size, size) = (text.size, fields.size);
            let (text, fields) = (text.request, fields.request);
            assert_eq!(text.method(), fields.method());
            assert_eq!(text.uri(), fields.uri());
            assert_eq!(text.headers(), fields.headers());
            // But for what HTTP/1 says of its connection and its framing.
            assert!(text_size.abs_diff(size) <= 64, "{path}: {text_size} {size}");
        }
    }
}
