//! Opens the upstream connection from inside the network's namespace.

use std::{io, net::SocketAddr, os::fd::AsFd, sync::atomic::Ordering::Relaxed, time::Instant};

use engine_core::{
    balance::{self, Balance, Candidate, Occupied},
    classify::Hello,
    outcome::Outcome,
    proxy_protocol::{self, Outgoing, Version},
    snapshot::Route,
};
use engine_http::health::Ejection;
use engine_sys::{netns::Netns, socket};

use crate::{
    context::{
        account::clients::Moved, admit::Permit, failure::Failure, live::Dialed, record::Trace,
        snapshot::Published,
    },
    rt::Readiness,
    transport::{
        held::Held,
        received::{Endpoints, Received},
        streams::ClientFlow,
    },
};

/// An upstream connection that a target took.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) socket: Readiness,
    /// The client's first bytes, as far as the target did not take them yet.
    pub(crate) first: Held,
    /// The count against the target, where the route goes by it.
    pub(crate) load: Option<Occupied>,
}

/// What the target is told before the client's own bytes, if it asks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Introduction<'a> {
    pub(crate) endpoints: Endpoints,
    pub(crate) hello: Option<&'a Hello>,
}

/// Dials the targets of a route, one after the other, until one takes the connection.
///
/// # Errors
/// What the last of them failed with.
pub(crate) async fn dial(
    connection: &ClientFlow<'_>,
    (published, route): (&Published, &Route),
    permit: &Permit,
    (received, introduction): (Received, Introduction<'_>),
    trace: &mut Trace,
) -> Result<Upstream, Outcome> {
    let netns = published
        .namespaces
        .get(&route.network.netns)
        .ok_or(Outcome::Unreachable)?;
    let turn = permit.route.take_turn();
    let mut first = received.into_first();
    let mut failure = Outcome::NoTarget;
    let mut tried = Vec::new();
    while let Some(index) = choose(route, turn, &tried) {
        let target = &route.targets[index];
        let load = (route.balance == Balance::LeastConnections).then(|| target.load.occupy());
        if let Some(version) = target.proxy_protocol {
            first.introduce(|header| {
                introduce(
                    connection,
                    version,
                    introduction,
                    trace.name.as_deref(),
                    header,
                )
            });
        } else {
            first.introduce(|_| {});
        }
        let deadline = Instant::now() + connection.listener.connect_timeout;
        match attempt(connection, netns, target.address, &mut first, deadline).await {
            Ok((socket, taken)) => {
                trace.dialed_at = Some(Instant::now());
                trace.target = Some(target.address);
                target.health.answer_request();
                let ledger = &connection.worker.ledger;
                ledger.count(&permit.route, |tally| tally.bytes_in += taken);
                trace.flow.bytes_in.set(taken);
                let client = introduction.endpoints.client.ip();
                let client = ledger.open_client(&permit.route, target.address.ip(), client);
                ledger.count_moved(&client, Moved::In(taken));
                // One target takes a connection, once.
                let _ = trace.flow.client.set(client);
                return Ok(Upstream {
                    socket,
                    first,
                    load,
                });
            }
            Err(error) => {
                failure = outcome_of(&error);
                Failure::from(failure).note(target, &route.network.name);
                // What the gateway itself lacks is no fault of the target's.
                if failure != Outcome::GatewayError {
                    target.health.fail_request(Ejection::default().failures);
                }
                tried.push(index);
            }
        }
    }
    Err(failure)
}

/// The target that a connection tries next: of those that were not tried and are not down by their
/// checks. What was tried is remembered rather than counted, because the order may be another one a
/// moment later.
fn choose(route: &Route, turn: u64, tried: &[usize]) -> Option<usize> {
    if let [only] = &*route.targets {
        return (tried.is_empty() && !only.health.is_down()).then_some(0);
    }
    let targets = route.targets.iter().enumerate();
    let (well, candidates): (Vec<usize>, Vec<Candidate>) = targets
        .filter(|(index, target)| !target.health.is_down() && !tried.contains(index))
        .map(|(index, target)| {
            let candidate = Candidate {
                weight: target.weight,
                backup: target.backup,
                live: target.load.live(),
            };
            (index, candidate)
        })
        .unzip();
    let chosen = balance::nth(route.balance, &candidates, turn, 0)?;
    well.get(chosen).copied()
}

/// Dials one target, and sends it the first bytes: where the target is near, they go out with the
/// end of the handshake, and a separate question whether it succeeded is saved. Gives the socket
/// and how many of the client's bytes it took.
pub(crate) async fn attempt(
    connection: &ClientFlow<'_>,
    netns: &Netns,
    address: SocketAddr,
    first: &mut Held,
    deadline: Instant,
) -> io::Result<(Readiness, u64)> {
    let liveness = connection.worker.shared.limits.liveness();
    let socket = netns.enter(|| socket::dialer(address, liveness))?;
    socket::connect(socket.as_fd(), address)?;
    // Chosen by now, so what still waits for an answer ends with it, too.
    let local = socket::local_address(socket.as_fd()).ok();
    connection.slot.leaves_from(Dialed {
        namespace: netns.identity(),
        local: local.map(|local| local.ip()),
    });
    let socket = Readiness::new(socket)?;
    let timed_out = |_| io::Error::from(io::ErrorKind::TimedOut);
    if first.is_empty() {
        socket.writable_until(deadline).await.map_err(timed_out)?;
        socket::take_error(socket.as_fd())?;
        return Ok((socket, 0));
    }
    loop {
        match first.send(|bytes| socket::send(socket.as_fd(), bytes)) {
            Ok(taken) => return Ok((socket, taken)),
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

#[cfg(test)]
mod tests {
    use engine_core::{
        balance::Load,
        health::Health,
        ids::{NetnsId, NetworkId, RouteId},
        snapshot::{Network, Target},
    };

    use super::*;

    fn route(balance: Balance, count: u16) -> Route {
        let target = |port| Target {
            address: SocketAddr::from(([10, 0, 0, 2], port)),
            weight: 1,
            backup: false,
            proxy_protocol: None,
            load: Load::default(),
            health: Health::default(),
        };
        Route {
            id: RouteId(1),
            label: "a.example".into(),
            network: Network {
                id: NetworkId(1),
                name: "network-1".into(),
                netns: NetnsId(0),
                live: Load::default(),
            },
            targets: (1..=count).map(target).collect(),
            balance,
        }
    }

    #[test]
    fn a_target_that_failed_is_not_tried_again_however_loads_change() {
        for balance in [Balance::RoundRobin, Balance::LeastConnections] {
            for turn in 0..4 {
                let route = route(balance, 3);
                let mut tried = Vec::new();
                let mut held = Vec::new();
                while let Some(index) = choose(&route, turn, &tried) {
                    assert!(!tried.contains(&index), "{balance:?}: {index}");
                    // The one that failed has the fewest connections of all from now on.
                    for (other, target) in route.targets.iter().enumerate() {
                        if other != index {
                            held.push(target.load.occupy());
                        }
                    }
                    tried.push(index);
                }
                assert_eq!(tried.len(), 3, "{balance:?}");
            }
        }
        let only = route(Balance::LeastConnections, 1);
        assert_eq!(choose(&only, 0, &[]), Some(0));
        assert_eq!(choose(&only, 0, &[0]), None);
        only.targets[0].health.set_down(true);
        assert_eq!(choose(&only, 0, &[]), None);
    }
}
