//! Heads as they leave, and what other parsers make of them.

mod differential;
mod requests;
mod responses;

use super::*;
use crate::{
    edit::{FieldEdits, Rewrite},
    facts::Framing,
    limits::Limits,
    method::Scheme,
    path::Path,
    reading::Reading,
    request::{self, Request},
    scan::Scan,
};

/// What a test changes of how a request is passed on.
struct Way {
    client: &'static str,
    /// Whom trusted proxies name.
    real: Option<&'static str>,
    trusted: bool,
    scheme: Scheme,
    traceparent: Option<&'static str>,
    vouched: &'static [(&'static str, &'static str)],
    rewrite: Rewrite,
    matched: usize,
    edits: FieldEdits,
    framing: Option<Framing>,
    expect: bool,
    keep_alive: bool,
    websocket_key: Option<&'static str>,
}

impl Default for Way {
    fn default() -> Self {
        Self {
            client: "192.0.2.7:4711",
            real: None,
            trusted: false,
            scheme: Scheme::Http,
            traceparent: None,
            vouched: &[],
            rewrite: Rewrite::default(),
            matched: 1,
            edits: FieldEdits::default(),
            framing: None,
            expect: true,
            keep_alive: true,
            websocket_key: None,
        }
    }
}

fn read(head: &[u8]) -> Option<Request<'_>> {
    match request::read(head, &Limits::default(), &mut Scan::default()) {
        Reading::Head(request) => Some(request),
        Reading::NeedMore | Reading::Refused(_) => None,
    }
}

/// Passes a request on.
fn pass(request: &Request<'_>, way: &Way) -> Vec<u8> {
    let client = Client::new(way.client.parse().unwrap());
    let real = way.real.unwrap_or(way.client);
    let real = Client::new(real.parse().unwrap());
    let forwarding = Forwarding {
        client: &client,
        real: &real,
        local: "198.51.100.1:80".parse().unwrap(),
        scheme: way.scheme,
        trusted: way.trusted,
        request_id: "id-1",
        traceparent: way.traceparent,
        vouched: way.vouched,
    };
    let path = Path::read(request.target.path).unwrap();
    let outgoing = Outgoing {
        path: path.as_str(),
        matched: way.matched,
        rewrite: &way.rewrite,
        edits: &way.edits,
        framing: way.framing.unwrap_or(request.framing),
        expect: way.expect,
        keep_alive: way.keep_alive,
        websocket_key: way.websocket_key,
    };
    let mut out = Vec::new();
    write_request(request, &forwarding, &outgoing, &mut out);
    out
}

fn passed(head: &str, way: &Way) -> String {
    String::from_utf8(pass(&read(head.as_bytes()).unwrap(), way)).unwrap()
}
