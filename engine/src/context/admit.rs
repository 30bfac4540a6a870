//! The gates of a connection: the caps of the gateway and its listener, the limits of its source,
//! the cap of its network.

use std::{net::SocketAddr, rc::Rc, sync::Arc, time::Instant};

use engine_core::{
    admit::{Entered, Refusal},
    balance::Occupied,
    destination::Destination,
    outcome::Outcome,
};

use crate::context::{FlowContext, Shared, account::RouteTally, record::Trace};

/// A connection's count against the caps of the gateway and of its listener.
#[derive(Debug)]
#[must_use]
pub(crate) struct ConnectionGuard {
    _gateway: Occupied,
    _listener: Option<Occupied>,
}

/// A connection's count against the limits of its source.
#[derive(Debug)]
#[must_use]
pub(crate) struct SourceSeat {
    shared: Arc<Shared>,
    entered: Entered,
}

/// The proof that a connection may be dialed to its destination. It cannot be copied, and is given up
/// with the connection.
#[derive(Debug)]
#[must_use]
pub(crate) struct Permit {
    /// The counters of the route, or of the policy that let a client choose, on this worker.
    pub(crate) route: Rc<RouteTally>,
    _network: Option<Occupied>,
}

/// Counts a new connection against the caps that hold before anything is known of it.
///
/// # Errors
/// The cap that it would break.
pub(crate) fn admit_connection(connection: &FlowContext<'_>) -> Result<ConnectionGuard, Outcome> {
    let shared = &connection.worker.shared;
    let gateway = shared
        .gateway_load
        .try_occupy(shared.limits.connections_max.get())
        .ok_or(Outcome::GatewayLimit)?;
    let listener = connection
        .listener
        .connections_max
        .map(|max| {
            let live = &connection.listener.live;
            live.try_occupy(max.get()).ok_or(Outcome::ListenerLimit)
        })
        .transpose()?;
    Ok(ConnectionGuard {
        _gateway: gateway,
        _listener: listener,
    })
}

/// Counts a connection against the limits of its source.
///
/// # Errors
/// The limit that it would break.
pub(crate) fn admit_source(
    connection: &FlowContext<'_>,
    client: SocketAddr,
) -> Result<Option<SourceSeat>, Outcome> {
    let limits = &connection.worker.shared.limits;
    if limits.connections_per_source_max.is_none() && limits.accept_rate_per_source.is_none() {
        return Ok(None);
    }
    let shared = Arc::clone(&connection.worker.shared);
    let nanos = Instant::now()
        .saturating_duration_since(shared.started_at)
        .as_nanos();
    match shared.sources.enter(
        client.ip().to_canonical(),
        u64::try_from(nanos).unwrap_or(u64::MAX),
    ) {
        Ok(entered) => Ok(Some(SourceSeat { shared, entered })),
        Err(Refusal::Rate) => Err(Outcome::SourceRate),
        Err(Refusal::Limit) => Err(Outcome::SourceLimit),
    }
}

/// Counts a connection whose destination is known, and holds it against the cap of its network.
///
/// # Errors
/// [`Outcome::NetworkLimit`].
pub(crate) fn admit_network(
    connection: &FlowContext<'_>,
    destination: Destination<'_>,
    trace: &mut Trace,
) -> Result<Permit, Outcome> {
    let (worker, route) = (connection.worker, destination.route());
    let tally = worker.ledger.route(route);
    worker.ledger.count(&tally, |tally| tally.opened += 1);
    trace.route = Some(Rc::clone(&tally));
    connection.slot.belongs_to(route.network.id);
    let network = worker
        .shared
        .limits
        .connections_per_network_max
        .map(|max| {
            route
                .network
                .live
                .try_occupy(max.get())
                .ok_or(Outcome::NetworkLimit)
        })
        .transpose()?;
    Ok(Permit {
        route: tally,
        _network: network,
    })
}

/// Counts an HTTP request of a connection, and holds it against the cap of its network, which it
/// takes up while it lasts.
///
/// # Errors
/// [`Outcome::NetworkLimit`]; the request is counted as ended then.
pub(crate) fn admit_request(
    connection: &FlowContext<'_>,
    destination: Destination<'_>,
) -> Result<Permit, Outcome> {
    let (worker, route) = (connection.worker, destination.route());
    let tally = worker.ledger.route(route);
    worker.ledger.count(&tally, |tally| tally.opened += 1);
    connection.slot.belongs_to(route.network.id);
    let max = worker.shared.limits.connections_per_network_max;
    let guard = max.map(|max| route.network.live.try_occupy(max.get()));
    if matches!(guard, Some(None)) {
        worker
            .ledger
            .count(&tally, |tally| tally.close(Outcome::NetworkLimit));
        return Err(Outcome::NetworkLimit);
    }
    Ok(Permit {
        route: tally,
        _network: guard.flatten(),
    })
}

impl Drop for SourceSeat {
    fn drop(&mut self) {
        self.shared.sources.leave(self.entered);
    }
}
