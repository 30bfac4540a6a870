//! One question to one target, spoken as requests to it are: in HTTP/1.1 or HTTP/2, over TLS where its
//! route has it.

use std::{io, net::SocketAddr, os::fd::AsFd, sync::Arc, time::Instant};

use engine_core::{outcome::Outcome, proxy_protocol};
use engine_http::{
    health::Probe,
    host::Host,
    reading::Reading,
    response::{self, Asked},
    scan::Scan,
};
use engine_sys::socket;

use crate::{
    context::{WorkerContext, checked::Checked, failure::Failure, tls::Speech},
    rt::{Readiness, TimedOut, until},
    transport::Transport,
    upstream::ask::ask as ask_http2,
    upstream::tls,
    upstream::{Pools, dial::outcome_of, race::start},
};

/// Bytes of an answer that are read at once: heads of health checks are short.
const PIECE_BYTES: usize = 2048;

/// What the gateway calls itself.
const USER_AGENT: &str = "ringway-health";

/// What came of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Probed {
    /// The target is well.
    Passed,
    /// It is not.
    Failed,
    /// The gateway could not ask: its own descriptors or memory ran out.
    NotAsked,
}

/// Asks an address of a target once.
pub(crate) async fn probe(
    (worker, pools): (&WorkerContext, &Pools),
    checked: &Checked,
    address: SocketAddr,
) -> Probed {
    let deadline = Instant::now() + checked.check.timeout;
    let socket = match dial(worker, checked, address) {
        Ok(socket) => socket,
        Err(error) if is_own(&error) => return Probed::NotAsked,
        Err(error) => {
            note(checked, outcome_of(&error));
            return Probed::Failed;
        }
    };
    match ask((worker, pools), (checked, address), socket, deadline).await {
        Ok(true) => Probed::Passed,
        Ok(false) => {
            note(checked, Outcome::BadResponse);
            Probed::Failed
        }
        Err(error) => {
            // What TLS failed with is noted, and no error of the system.
            if error.raw_os_error().is_some() || error.kind() == io::ErrorKind::TimedOut {
                note(checked, outcome_of(&error));
            }
            Probed::Failed
        }
    }
}

fn note(checked: &Checked, outcome: Outcome) {
    Failure::from(outcome).note_at(&checked.health, &checked.network, &checked.endpoint);
}

fn dial(worker: &WorkerContext, checked: &Checked, address: SocketAddr) -> io::Result<Readiness> {
    let current = worker.current();
    let netns = current.0.namespaces.get(&checked.netns);
    let netns = netns.ok_or(io::ErrorKind::NetworkUnreachable)?;
    start(netns, address, worker.shared.limits.liveness())
}

/// Whether a failure to dial says nothing of the target.
fn is_own(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM)
    )
}

/// Whether the answer is as expected.
async fn ask(
    (worker, pools): (&WorkerContext, &Pools),
    (checked, address): (&Checked, SocketAddr),
    socket: Readiness,
    deadline: Instant,
) -> io::Result<bool> {
    socket.writable_until(deadline).await.map_err(timed_out)?;
    socket::take_error(socket.as_fd())?;
    let Probe::Http {
        path,
        host,
        statuses,
    } = &checked.check.probe
    else {
        return Ok(true);
    };
    let mut introduction = Vec::new();
    if let Some(version) = checked.proxy_protocol {
        // Nobody's connection but the gateway's own.
        proxy_protocol::write_local(version, &mut introduction);
    }
    let transport = Transport::plain(socket);
    send(&transport, &introduction, deadline).await?;
    let (route, _) = checked.key;
    let origin = match worker.current().0.tls.origin(route) {
        Some(Speech::As(origin)) => Some(Arc::clone(origin)),
        Some(Speech::Failed) => return Err(io::Error::other("its TLS could not be set up")),
        None => None,
    };
    if let Some(origin) = &origin {
        let asked = host.as_deref().map(str::as_bytes).and_then(Host::parse);
        let name = asked.and_then(Host::to_proved);
        let to = tls::Endpoint {
            origin,
            host: name.as_deref(),
            namespace: checked.namespace.ok_or(io::ErrorKind::NotFound)?,
            address,
        };
        let tls_info = tls::connect_until(pools, to, (&transport, deadline)).await;
        tls_info.map_err(|failure: Failure| {
            failure.note_at(&checked.health, &checked.network, &address);
            io::Error::other(failure.label())
        })?;
    }
    // A name is asked by its own.
    let unsaid = checked.endpoint.to_string();
    let host = host.as_deref().unwrap_or(&unsaid);
    if origin.is_some_and(|origin| transport.speaks_http2(&origin)) {
        let question = question(&transport, host, path)?;
        let head_bytes_max = worker.shared.limits.http_head.head_bytes_max;
        let answer = ask_http2(transport, question, head_bytes_max);
        let status = until(deadline, answer).await.map_err(timed_out)??;
        return Ok(statuses.contains(&status));
    }
    let question = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {USER_AGENT}\r\n\
         Connection: close\r\n\r\n"
    );
    send(&transport, question.as_bytes(), deadline).await?;
    let status = read_status(worker, &transport, deadline).await?;
    Ok(status.is_some_and(|status| statuses.contains(&status)))
}

/// The question in HTTP/2.
fn question(transport: &Transport, host: &str, path: &str) -> io::Result<http::Request<()>> {
    let scheme = match transport.as_plain() {
        Some(_) => "http",
        None => "https",
    };
    http::Request::builder()
        .version(http::Version::HTTP_2)
        .uri(format!("{scheme}://{host}{path}"))
        .header(http::header::USER_AGENT, USER_AGENT)
        .body(())
        .map_err(io::Error::other)
}

async fn send(transport: &Transport, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
    while !bytes.is_empty() {
        match transport.send(bytes) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                until(deadline, transport.writable())
                    .await
                    .map_err(timed_out)??;
            }
            Err(error) => return Err(error),
        }
    }
    until(deadline, transport.flushed())
        .await
        .map_err(timed_out)?
}

fn timed_out(_: TimedOut) -> io::Error {
    io::ErrorKind::TimedOut.into()
}

/// The final status of the answer; `None` when it is none.
async fn read_status(
    worker: &WorkerContext,
    transport: &Transport,
    deadline: Instant,
) -> io::Result<Option<u16>> {
    let asked = Asked {
        head: false,
        upgrade: false,
    };
    let limits = &worker.shared.limits.http_head;
    let (mut answer, mut scan) = (Vec::new(), Scan::default());
    let mut piece = [0; PIECE_BYTES];
    loop {
        match response::read(&answer, asked, limits, &mut scan) {
            Reading::Head(head) if head.is_interim() => {
                let head_len = head.head_len;
                answer.drain(..head_len);
                scan = Scan::default();
                continue;
            }
            Reading::Head(head) => return Ok(Some(head.status)),
            Reading::Refused(_) => return Ok(None),
            Reading::NeedMore => {}
        }
        transport
            .readable_until(deadline)
            .await
            .map_err(timed_out)?;
        match transport.recv(&mut piece) {
            Ok(0) => return Ok(None),
            Ok(count) => answer.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}
