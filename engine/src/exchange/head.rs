//! The head of a request on its way to an upstream, which may speak HTTP/1 or HTTP/2.

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

/// A head as an upstream of HTTP/2 gets it.
pub(crate) struct Http2Head {
    pub(crate) request: http::Request<()>,
    /// Its size in bytes as it would be in HTTP/1.
    pub(crate) size: usize,
}

/// A head on its way: written once it is known what its upstream speaks, and again for every attempt.
pub(crate) struct RequestHead<'h> {
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

impl RequestHead<'_> {
    /// As an upstream of HTTP/1 gets it.
    pub(crate) fn http1(&self) -> Vec<u8> {
        let mut head = Vec::with_capacity(self.request.head_len + HEAD_GROWTH);
        self.with(|forwarding, outgoing| {
            write_request(self.request, forwarding, outgoing, &mut head);
        });
        head
    }

    /// As an upstream of HTTP/2 gets it. `None` where it cannot be written so.
    ///
    /// An upgrade becomes an extended CONNECT where `connects` says so (RFC 8441 section 4). Else it is
    /// left out, as every upgrade may be (RFC 9110 section 7.8).
    pub(crate) fn http2(&self, is_tls: bool, connects: bool) -> Option<Http2Head> {
        let mut head = self.with(|forwarding, outgoing| {
            heads::forwarded(self.request, forwarding, outgoing, is_tls)
        })?;
        if connects {
            heads::connect(&mut head.request);
        }
        Some(head)
    }

    /// Whether it opens a WebSocket, which only GET does (RFC 6455 section 4.1).
    pub(crate) fn opens_websocket(&self) -> bool {
        let upgrade = self.request.upgrade;
        self.request.method == Method::Get && upgrade.is_some_and(Upgrade::is_websocket)
    }

    /// What shows a client of HTTP/1 that its WebSocket is open. Nothing does where its key is the
    /// gateway's own.
    pub(crate) fn accept_websocket(&self) -> String {
        if self.request.version == Version::Http2 {
            return String::new();
        }
        let key = self.request.fields.first("sec-websocket-key");
        websocket::accept(key.unwrap_or_default())
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
        reading::Reading,
        request,
        scan::Scan,
    };

    use super::*;
    use crate::transport::received::Endpoints;

    type Fields<'a> = &'a [(&'a str, &'a str)];

    /// Fields, path, and whether content follows.
    const HEADS: [(Fields<'_>, &str, bool); 6] = [
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
            &[("content-length", "12"), ("expect", "100-continue")],
            "/upload",
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

    /// Fields that say of a connection of HTTP/1 what HTTP/2 says otherwise.
    const OF_HTTP1: [&str; 4] = ["host", "connection", "transfer-encoding", "upgrade"];

    fn read(head: &[u8]) -> Request<'_> {
        match request::read(head, &Limits::default(), &mut Scan::default()) {
            Reading::Head(read) => read,
            refused @ (Reading::Refused(_) | Reading::NeedMore) => panic!("{refused:?}"),
        }
    }

    /// Compares what upstreams of both versions get.
    fn compare(request: &Request<'_>) {
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
        let head = RequestHead {
            request,
            client_info: &client_info,
            real: Client::new(address),
            policy: &Policy::default(),
            request_id: "id-1",
            begun: None,
            path: Path::read(request.target.path).unwrap(),
            matched: 0,
        };
        let text = head.http1();
        let written = read(&text);
        let http2 = head.http2(true, false).unwrap();
        let (size, http2) = (http2.size, http2.request);
        assert_eq!(written.method.as_str(), http2.method().as_str());
        assert_eq!(
            written.host.unwrap().as_str(),
            http2.uri().authority().unwrap()
        );
        let path = http2.uri().path_and_query().unwrap().as_str();
        let query = written.target.query.map(|query| format!("?{query}"));
        assert_eq!(
            format!("{}{}", written.target.path, query.unwrap_or_default()),
            path
        );
        let mut of_text: Vec<_> = written
            .fields
            .into_iter()
            .map(|field| {
                let name = std::str::from_utf8(field.name).unwrap();
                (name.to_ascii_lowercase(), field.value.to_vec())
            })
            .filter(|(name, _)| !OF_HTTP1.contains(&&**name))
            .collect();
        let fields = http2.headers().iter();
        let mut of_http2: Vec<_> = fields
            .map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()))
            .collect();
        of_text.sort();
        of_http2.sort();
        assert_eq!(of_text, of_http2);
        let text_size = text.len();
        assert!(text_size.abs_diff(size) <= 64, "{path}: {text_size} {size}");
    }

    #[test]
    fn a_head_is_the_same_whichever_way_it_is_written() {
        let limits = Limits::default();
        for (fields, path, has_content) in HEADS {
            let method = if path == "*" { "OPTIONS" } else { "POST" };
            let mut lines = FieldLines::default();
            for (name, value) in fields {
                lines
                    .push(name.as_bytes(), value.as_bytes(), &limits)
                    .unwrap();
            }
            let decoded = Decoded {
                method,
                authority: Some("h.example:8443"),
                path,
                protocol: None,
                fields: lines.fields(),
                is_end: !has_content,
            };
            compare(&decoded::request(&decoded, &limits).unwrap());
        }
        for (fields, path, has_content) in HEADS {
            let method = if path == "*" { "OPTIONS" } else { "POST" };
            let mut head = format!("{method} {path} HTTP/1.1\r\nHost: h.example:8443\r\n");
            for (name, value) in fields {
                head += &format!("{name}: {value}\r\n");
            }
            if fields.iter().any(|(name, _)| *name == "te") {
                head += "Connection: TE\r\n";
            }
            if has_content && fields.iter().all(|(name, _)| *name != "content-length") {
                head += "Transfer-Encoding: chunked\r\n";
            }
            head += "\r\n";
            compare(&read(head.as_bytes()));
        }
    }

    #[test]
    fn an_upgrade_is_left_out_where_no_protocol_is_switched() {
        let head = b"GET /chat HTTP/1.1\r\nHost: h.example\r\nUpgrade: websocket\r\n\
            Connection: Upgrade, X-Hop\r\nX-Hop: 1\r\nSec-WebSocket-Key: a2V5\r\n\r\n";
        compare(&read(head));
    }
}
