//! Gets an upstream connection for a request: one that rests, or a new one.

use std::time::Instant;

use engine_core::{
    balance::{Balance, Occupied},
    outcome::Outcome,
    snapshot::{Route, Target},
};

use super::pool::Key;
use crate::{
    admit::Permit,
    connection::Connection,
    dial::{self, Introduction, outcome_of},
    end::End,
    preface::Endpoints,
    record::Flow,
    relay::held::Held,
    tls::{self, Origin},
    worker::Published,
};

/// An upstream connection for one request.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) end: End,
    /// Where it can rest afterwards; `None` where it cannot.
    pub(super) key: Option<Key>,
    /// It has rested, so it may have been closed without our knowing.
    pub(super) has_rested: bool,
    _load: Option<Occupied>,
}

/// The targets of a route, in the order in which a request tries them.
#[derive(Debug)]
pub(super) struct Targets<'a> {
    connection: &'a Connection<'a>,
    published: &'a Published,
    route: &'a Route,
    turn: u64,
    place: usize,
    endpoints: Endpoints,
}

impl<'a> Targets<'a> {
    pub(super) fn new(
        connection: &'a Connection<'a>,
        (published, route): (&'a Published, &'a Route),
        permit: &Permit,
        endpoints: Endpoints,
    ) -> Self {
        Self {
            connection,
            published,
            route,
            turn: permit.route.take_turn(),
            place: 0,
            endpoints,
        }
    }

    /// Opens a connection to the next target that takes one. A resting connection does not use its
    /// target up: when it turns out to be stale, the target is tried again.
    ///
    /// # Errors
    /// What the last target failed with.
    pub(super) async fn open(&mut self, permit: &Permit, flow: &Flow) -> Result<Opened, Outcome> {
        let mut failure = Outcome::NoTarget;
        while let Some(target) = dial::choose(self.route, self.turn, self.place) {
            match self.open_to(target).await {
                Ok(opened) => {
                    self.count_client(permit, target, flow);
                    return Ok(opened);
                }
                Err(outcome) => {
                    failure = outcome;
                    self.place += 1;
                }
            }
        }
        Err(failure)
    }

    async fn open_to(&self, target: &Target) -> Result<Opened, Outcome> {
        let origin = self.published.tls.origin(self.route.id);
        let key = Key {
            network: self.route.network.id,
            address: target.address,
            origin: origin.map_or(0, |origin| origin.id()),
        };
        // Behind a PROXY protocol header, a connection is of one client.
        let key = target.proxy_protocol.is_none().then_some(key);
        let counted = self.route.balance == Balance::LeastConnections;
        let load = counted.then(|| target.load.occupy());
        let pool = &self.connection.worker.pool;
        let rested = key.and_then(|key| pool.take(key));
        let has_rested = rested.is_some();
        let end = match rested {
            Some(end) => end,
            None => self.dial(target, origin.map(|origin| &**origin)).await?,
        };
        Ok(Opened {
            end,
            key,
            has_rested,
            _load: load,
        })
    }

    async fn dial(&self, target: &Target, origin: Option<&Origin>) -> Result<End, Outcome> {
        let netns = self.published.namespaces.get(&self.route.network.netns);
        let netns = netns.ok_or(Outcome::Unreachable)?;
        let mut first = Held::default();
        if let Some(version) = target.proxy_protocol {
            let introduction = Introduction {
                endpoints: self.endpoints,
                hello: None,
            };
            let mut header = Vec::new();
            dial::introduce(self.connection, version, introduction, None, &mut header);
            first = Held::behind(header, &[]);
        }
        let deadline = Instant::now() + self.connection.listener.connect_timeout;
        let attempt = dial::attempt(self.connection, netns, target.address, &mut first, deadline);
        let (socket, _) = attempt.await.map_err(|error| outcome_of(&error))?;
        let end = End::plain(socket);
        if let Some(origin) = origin {
            let patience = deadline.saturating_duration_since(Instant::now());
            tls::connect(self.connection, origin, target.address, (&end, patience)).await?;
        }
        Ok(end)
    }

    /// Has the bytes of an attempt counted for its client and target.
    fn count_client(&self, permit: &Permit, target: &Target, flow: &Flow) {
        let ledger = &self.connection.worker.ledger;
        let client = self.endpoints.client.ip();
        let client = ledger.open_client(&permit.route, target.address.ip(), client);
        // A flow is one attempt's, made with it.
        let _ = flow.client.set(client);
    }
}

impl Opened {
    /// Leaves the connection to the next request.
    pub(super) fn rest(self, connection: &Connection<'_>) {
        if let Some(key) = self.key {
            connection.worker.pool.give(key, self.end);
        }
    }
}
