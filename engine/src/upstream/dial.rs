//! Opens the upstream connection from inside the network's namespace.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    sync::atomic::Ordering::Relaxed,
    time::Instant,
};

use engine_core::{
    balance::{Balance, Draw, Occupied},
    classify::ClientHello,
    destination::Destination,
    outcome::Outcome,
    proxy_protocol::{self, Outgoing, Version},
    snapshot::{Route, Target},
};
use engine_http::{balance::key, health::Ejection};
use engine_sys::{netns::Netns, socket};

use crate::{
    context::{
        account::clients::Moved, admit::Permit, failure::Failure, live::Dialed, record::Trace,
        snapshot::Published,
    },
    rt::Readiness,
    transport::{
        received::{Endpoints, Received},
        streams::ClientFlow,
        unsent::Unsent,
    },
    upstream::{
        pick::Pick,
        race::{race, start},
        resolve::Resolved,
    },
};

/// An upstream connection that a target took.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) socket: Readiness,
    /// The client's first bytes, as far as the target did not take them yet.
    pub(crate) first: Unsent,
    /// The count against the target, where the route goes by it.
    pub(crate) load: Option<Occupied>,
}

/// What the target is told before the client's own bytes, if it asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Introduction<'a> {
    pub(crate) endpoints: Endpoints,
    pub(crate) hello: Option<&'a ClientHello>,
}

/// Dials the targets of a destination, one after the other, until one takes the connection.
///
/// # Errors
/// What the last of them failed with.
pub(crate) async fn dial(
    connection: &ClientFlow<'_>,
    (published, destination, resolved): (&Published, Destination<'_>, &Resolved),
    permit: &Permit,
    (received, introduction): (Received, Introduction<'_>),
    trace: &mut Trace,
) -> Result<Upstream, Outcome> {
    let route = destination.route();
    let netns = published
        .namespaces
        .get(&route.network.netns)
        .ok_or(Outcome::Unreachable)?;
    let dialing = Dialing {
        connection,
        route,
        permit,
        client: introduction.endpoints.client.ip(),
        ejection: Ejection::default(),
    };
    let draw = draw_of(connection, &route.balance, permit, dialing.client);
    let mut first = received.into_first();
    let mut failure = Failure::from(Outcome::NoTarget);
    let mut tried = resolved.pending();
    loop {
        let pick = Pick {
            route,
            outliers: &permit.route.outliers,
            tried: &tried,
            marked: None,
        };
        let Some(index) = pick.next(|| connection.worker.nanoseconds(), || draw) else {
            trace.unresolved = failure.name;
            return Err(failure.outcome);
        };
        let target = &route.targets[index];
        let load = route.balance.counts().then(|| target.load.occupy());
        let name = trace.name.as_deref();
        first.introduce(|header| {
            if let Some(version) = target.proxy_protocol {
                introduce(connection, version, introduction, name, header);
            }
        });
        let deadline = Instant::now() + connection.listener.connect_timeout;
        let addresses = resolved.addresses(target, index, || draw.turn);
        let dialed = match &addresses {
            Ok(addresses) => {
                let addresses = addresses.as_slice();
                let dialed = attempt(connection, netns, addresses, &mut first, deadline).await;
                dialed.map_err(|error| outcome_of(&error).into())
            }
            Err(why) => Err(Failure::from(*why)),
        };
        match dialed {
            Ok((socket, taken, address)) => {
                dialing.taken(target, address, taken, trace);
                return Ok(Upstream {
                    socket,
                    first,
                    load,
                });
            }
            Err(error) => {
                failure = error;
                dialing.failed(target, failure);
                tried.push(index);
            }
        }
    }
}

/// What is the same for all targets that a connection tries.
struct Dialing<'a> {
    connection: &'a ClientFlow<'a>,
    route: &'a Route,
    permit: &'a Permit,
    client: IpAddr,
    ejection: Ejection,
}

impl Dialing<'_> {
    /// A target took the connection, and so many of the client's bytes.
    fn taken(&self, target: &Target, address: SocketAddr, bytes: u64, trace: &mut Trace) {
        trace.dialed_at = Some(Instant::now());
        trace.target = Some(address);
        target.health.answer_request();
        let worker = self.connection.worker;
        let outliers = &self.permit.route.outliers;
        if !outliers.is_clean() {
            outliers.answered(target.id, &self.ejection, worker.nanoseconds());
        }
        let (ledger, tally) = (&worker.ledger, &self.permit.route);
        ledger.count(tally, |tally| tally.bytes_in += bytes);
        trace.flow.bytes_in.set(bytes);
        let client = ledger.open_client(tally, address.ip(), self.client);
        ledger.count_moved(&client, Moved::In(bytes));
        // One target takes a connection, once.
        let _ = trace.flow.client.set(client);
    }

    /// A target did not take it.
    fn failed(&self, target: &Target, failure: Failure) {
        failure.note(target, &self.route.network.name);
        // What the gateway itself lacks is no fault of the target's.
        if failure.outcome == Outcome::GatewayError {
            return;
        }
        target.health.fail_request(failure.enough(&self.ejection));
        if failure.name.is_some() {
            // It costs nothing to try a name that leads nowhere, and it may lead somewhere any moment.
            return;
        }
        let worker = self.connection.worker;
        let (route, outliers) = (self.route, &self.permit.route.outliers);
        outliers.failed(route, target.id, &self.ejection, worker.nanoseconds());
    }
}

/// What the choice of a connection's targets goes by.
fn draw_of(
    connection: &ClientFlow<'_>,
    balance: &Balance,
    permit: &Permit,
    client: IpAddr,
) -> Draw {
    Draw {
        turn: permit.route.take_turn(),
        random: match balance {
            Balance::PowerOfTwo => connection.worker.rng.draw(),
            Balance::RoundRobin | Balance::LeastConnections | Balance::Consistent(_) => 0,
        },
        key: match balance {
            Balance::Consistent(on) => key(on, client, None),
            Balance::RoundRobin | Balance::LeastConnections | Balance::PowerOfTwo => 0,
        },
    }
}

/// Dials one target, and sends it the first bytes: where the target is near, they go out with the
/// end of the handshake, and a separate question whether it succeeded is saved. Gives the socket
/// and how many of the client's bytes it took, and which of the addresses has it.
pub(crate) async fn attempt(
    connection: &ClientFlow<'_>,
    netns: &Netns,
    addresses: &[SocketAddr],
    first: &mut Unsent,
    deadline: Instant,
) -> io::Result<(Readiness, u64, SocketAddr)> {
    let liveness = connection.worker.shared.limits.liveness();
    let (socket, address) = match addresses {
        [address] => (start(netns, *address, liveness)?, *address),
        // Apart, so that whoever has one address pays nothing for it.
        addresses => Box::pin(race(netns, addresses, liveness, deadline)).await?,
    };
    // Chosen by now, so what still waits for an answer ends with it, too.
    let local = socket::local_address(socket.as_fd()).ok();
    connection.slot.leaves_from(Dialed {
        namespace: netns.identity(),
        local: local.map(|local| local.ip()),
    });
    let timed_out = |_| io::Error::from(io::ErrorKind::TimedOut);
    if first.is_empty() {
        socket.writable_until(deadline).await.map_err(timed_out)?;
        socket::take_error(socket.as_fd())?;
        return Ok((socket, 0, address));
    }
    loop {
        match first.send(|bytes| socket::send(socket.as_fd(), bytes)) {
            Ok(taken) => return Ok((socket, taken, address)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        socket.writable_until(deadline).await.map_err(timed_out)?;
    }
}

/// The PROXY protocol header for a target that asks for one.
pub(crate) fn introduce(
    connection: &ClientFlow<'_>,
    version: Version,
    introduction: Introduction<'_>,
    authority: Option<&str>,
    header: &mut Vec<u8>,
) {
    let shared = &connection.worker.shared;
    let Endpoints { client, dialed } = introduction.endpoints;
    let local =
        || socket::local_address(connection.streams.client.socket().as_fd()).unwrap_or(client);
    let number = shared.connections.fetch_add(1, Relaxed);
    let outgoing = Outgoing {
        source: client,
        destination: dialed.unwrap_or_else(local),
        authority,
        alpn: introduction.hello.and_then(|hello| hello.alpn.as_deref()),
        unique_id: Some((u128::from(shared.run_id) << 64 | u128::from(number)).to_be_bytes()),
        crc32c: true,
    };
    proxy_protocol::write(version, &outgoing, header);
}

/// The word in logs for why there is no way to a target; `None` for any other failure.
pub(crate) fn no_way(error: &io::Error) -> Option<&'static str> {
    Some(match error.raw_os_error()? {
        libc::ENETUNREACH => "network_unreachable",
        libc::EHOSTUNREACH => "host_unreachable",
        libc::ENETDOWN => "network_down",
        libc::EHOSTDOWN => "host_down",
        libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT => "no_source_address",
        libc::EACCES | libc::EPERM => "forbidden_locally",
        _ => return None,
    })
}

/// What a connection ends with that could not be dialed for this reason.
pub(crate) fn outcome_of(error: &io::Error) -> Outcome {
    match error.raw_os_error() {
        Some(libc::ECONNREFUSED) => Outcome::Refused,
        Some(libc::ETIMEDOUT) => Outcome::ConnectTimeout,
        Some(libc::ECONNRESET | libc::EPIPE) => Outcome::UpstreamReset,
        Some(
            libc::ENETUNREACH
            | libc::EHOSTUNREACH
            | libc::ENETDOWN
            | libc::EHOSTDOWN
            | libc::EADDRNOTAVAIL
            | libc::EAFNOSUPPORT
            | libc::EACCES
            | libc::EPERM,
        ) => Outcome::Unreachable,
        _ if error.kind() == io::ErrorKind::TimedOut => Outcome::ConnectTimeout,
        _ => Outcome::GatewayError,
    }
}
