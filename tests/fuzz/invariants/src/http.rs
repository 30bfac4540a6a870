//! HTTP: heads, content, and what is passed on of them.

mod chunked;
mod plain;
mod request;
mod response;
mod rewriting;

pub use chunked::chunked;
pub use request::request;
pub use response::response;
pub use rewriting::rewriting;

use std::net::SocketAddr;

use engine_http::{
    edit::{FieldEdits, Rewrite},
    forward::{Client, Forwarding, Outgoing, write_request},
    limits::Limits,
    method::Scheme,
    path::Path,
    reading::Reading,
    request::{self as head, Request},
    scan::Scan,
};

/// The name that the gateway gives to the request.
const ID: &str = "id-1";

/// Reads a request at once.
fn read(bytes: &[u8]) -> Reading<Request<'_>> {
    head::read(bytes, &Limits::default(), &mut Scan::default())
}

/// What a request is passed on as; `None` where its path has no meaning.
fn pass(
    request: &Request<'_>,
    trusted: bool,
    edits: &FieldEdits,
    rewrite: &Rewrite,
) -> Option<Vec<u8>> {
    let path = Path::read(request.target.path).ok()?;
    let client = Client::new(SocketAddr::from(([192, 0, 2, 7], 4711)));
    let forwarding = Forwarding {
        client: &client,
        real: &client,
        local: SocketAddr::from(([198, 51, 100, 1], 80)),
        scheme: Scheme::Http,
        trusted,
        request_id: ID,
        traceparent: None,
        vouched: &[],
    };
    let outgoing = Outgoing {
        path: path.as_str(),
        matched: 1,
        rewrite,
        edits,
        framing: request.framing,
        expect: true,
        keep_alive: true,
        websocket_key: None,
    };
    let mut out = Vec::new();
    write_request(request, &forwarding, &outgoing, &mut out);
    Some(out)
}
