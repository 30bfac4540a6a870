//! A front before Pebble that says when to renew (RFC 9773), which Pebble itself does not.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::{ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tests::{server::Server, tls};

use crate::pebble::Pebble;

/// Where it is.
pub(crate) const LISTEN: &str = "127.0.0.1:14001";

/// What it was asked.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    /// Certificates that somebody wanted to renew, in the order of the first question.
    pub(crate) about: Vec<String>,
    /// What new orders said that they replace.
    pub(crate) replaced: Vec<String>,
}

/// A running front.
#[derive(Debug)]
pub(crate) struct Front {
    _server: Server<()>,
    pub(crate) asked: Arc<Mutex<Asked>>,
}

impl Front {
    /// Starts one.
    pub(crate) fn start(pebble: &Pebble) -> Result<Self> {
        let asked = Arc::new(Mutex::new(Asked::default()));
        let (config, client) = (pebble.server_config()?, pebble.client_config()?);
        let seen = Arc::clone(&asked);
        let serve = move |stream: TcpStream, _: SocketAddr| {
            let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(&config))?, stream);
            let request = Request::read(&mut tls)?;
            let answer = match request.target.strip_prefix("/renewal-info/") {
                Some(certificate) => suggest(certificate, &seen),
                None => pass_on(&request, &client, &seen)?,
            };
            tls.write_all(answer.as_bytes())?;
            tls.conn.send_close_notify();
            tls.conn.complete_io(&mut tls.sock)?;
            Ok(())
        };
        let server = Server::start(TcpListener::bind(LISTEN)?, serve)?;
        Ok(Self {
            _server: server,
            asked,
        })
    }
}

struct Request {
    target: String,
    head: String,
    body: Vec<u8>,
}

impl Request {
    fn read(from: &mut impl std::io::Read) -> Result<Self> {
        let mut head = Vec::new();
        let mut byte = [0];
        while !head.ends_with(b"\r\n\r\n") {
            from.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head)?;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let is_it = name.eq_ignore_ascii_case("content-length");
            is_it.then(|| value.trim().parse().ok()).flatten()
        });
        let mut body = vec![0; length.unwrap_or(0)];
        from.read_exact(&mut body)?;
        let target = head.split(' ').nth(1).context("no target")?.to_owned();
        Ok(Self { target, head, body })
    }

    /// What a new order says that it replaces.
    fn replaces(&self) -> Option<String> {
        let jws: Value = serde_json::from_slice(&self.body).ok()?;
        let payload = URL_SAFE_NO_PAD.decode(jws["payload"].as_str()?).ok()?;
        let payload: Value = serde_json::from_slice(&payload).ok()?;
        payload["replaces"].as_str().map(str::to_owned)
    }
}

/// The first certificate is to be renewed at once, all others in a long time.
fn suggest(certificate: &str, asked: &Mutex<Asked>) -> String {
    let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
    if !asked.about.iter().any(|known| known == certificate) {
        asked.about.push(certificate.to_owned());
    }
    let is_first = asked
        .about
        .first()
        .is_some_and(|first| first == certificate);
    let window = if is_first {
        json!({ "start": "2020-01-01T00:00:00Z", "end": "2020-01-02T00:00:00Z" })
    } else {
        json!({ "start": "2090-01-01T00:00:00Z", "end": "2090-01-02T00:00:00Z" })
    };
    let body = json!({ "suggestedWindow": window }).to_string();
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nRetry-After: 21600\r\nContent-Length: {length}\r\n\r\n{body}")
}

/// Asks Pebble, and adds to its answers what it does not know of.
fn pass_on(
    request: &Request,
    client: &Arc<rustls::ClientConfig>,
    asked: &Mutex<Asked>,
) -> Result<String> {
    let stream = TcpStream::connect("127.0.0.1:14000")?;
    let mut tls = tls::client(client, "localhost", stream)?;
    // An answer to HTTP/1.0 has no chunks and ends with its connection.
    let head = request.head.replacen("HTTP/1.1", "HTTP/1.0", 1);
    tls.write_all(head.as_bytes())?;
    tls.write_all(&request.body)?;
    let mut answer = String::new();
    // It ends without a goodbye.
    let _ = tls.read_to_string(&mut answer);
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    let replaces = request.replaces();
    if request.target != "/dir" && replaces.is_none() {
        return Ok(answer);
    }
    let mut json: Value = serde_json::from_str(body)?;
    if let Some(replaces) = replaces.filter(|_| json["status"].is_string()) {
        json["replaces"] = replaces.clone().into();
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.replaced.push(replaces);
    } else if request.target == "/dir" {
        json["renewalInfo"] = format!("https://{LISTEN}/renewal-info").into();
    }
    let body = json.to_string();
    let kept = head
        .lines()
        .filter(|line| !line.to_ascii_lowercase().starts_with("content-length"));
    let kept: Vec<&str> = kept.collect();
    Ok(format!(
        "{}\r\nContent-Length: {}\r\n\r\n{body}",
        kept.join("\r\n"),
        body.len()
    ))
}
