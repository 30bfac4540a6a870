//! Gets an upstream connection for a request: one that rests, or a new one.

use std::{
    cell::{Cell, OnceCell},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant},
};

use engine_core::{
    balance::{Balance, Draw, Occupied},
    destination::Destination,
    ids::TargetId,
    outcome::Outcome,
    snapshot::{Route, Target},
};
use engine_http::rules::Policy;
use engine_sys::netns::Netns;

use engine_tls::Cause;

use crate::{
    context::{
        admit::Permit,
        failure::Failure,
        live::Dialed,
        record::Flow,
        snapshot::Published,
        tls::{Speech, origin::Origin},
    },
    exchange::{connection::Connection, trace::RequestTrace},
    transport::{Transport, received::Endpoints, unsent::Unsent},
    upstream::{
        Pools,
        dial::{self, Introduction, no_way, outcome_of},
        http2::Lease,
        pick::Pick,
        pool::Key,
        resolve::{Resolved, resolve},
        tls,
    },
};

/// An upstream connection for one request.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) far: Far,
    /// Where it can rest afterwards; `None` where it cannot.
    pub(crate) key: Option<Key>,
    /// It has rested, so it may have been closed without our knowing.
    pub(crate) has_rested: bool,
    /// There was one at rest, which was not fresh enough.
    replaces: bool,
    /// Which of the route's targets it leads to, and its position there.
    pub(crate) id: TargetId,
    pub(crate) target: usize,
    /// Where that is.
    pub(crate) address: SocketAddr,
    /// Where the connection leaves from.
    local: Option<IpAddr>,
    _load: Option<Occupied>,
}

/// What leads to an upstream.
#[derive(Debug)]
pub(crate) enum Far {
    /// A connection of HTTP/1, for this request alone.
    Connection(Transport),
    /// A place on a connection of HTTP/2.
    Stream(Lease),
}

/// Where a request goes.
#[derive(Clone, Debug)]
pub(crate) struct Dispatch<'a> {
    pub(crate) published: &'a Published,
    pub(crate) route: &'a Route,
    pub(crate) policy: &'a Policy,
    /// What consistent hashing goes by; 0 where nothing is hashed.
    pub(crate) key: u64,
    /// The target that the request's cookie marks.
    pub(crate) marked: Option<TargetId>,
    /// The host that a target must prove to be, where no name was declared for the targets.
    pub(crate) host: Option<Rc<str>>,
    pub(crate) endpoints: Endpoints,
    /// Whose bytes they are: behind proxies that are trusted, not the proxy's.
    pub(crate) client: IpAddr,
}

impl Dispatch<'_> {
    /// Where the targets are: waits for those that are names.
    pub(crate) async fn resolve(&self, connection: &Connection<'_>) -> Resolved {
        let declared = self.policy.timeouts.connect;
        let patience = declared.unwrap_or(connection.listener.connect_timeout);
        let at = (self.published, Destination::Route(self.route));
        resolve(connection.worker, connection.pools, at, patience).await
    }
}

/// The targets of a route, in the order in which a request tries them.
#[derive(Debug)]
pub(crate) struct Targets<'a> {
    connection: &'a Connection<'a>,
    dispatch: &'a Dispatch<'a>,
    resolved: &'a Resolved,
    permit: &'a Permit,
    random: u64,
    /// Taken when it is first asked for: clients that stay with their targets leave the order of
    /// the others alone.
    turn: OnceCell<u64>,
    /// Those that failed, and are not tried again before all others.
    tried: Vec<usize>,
    /// The one to be tried again, over a new connection.
    again: Option<usize>,
    /// The request may not be repeated, should a connection turn out to be closed.
    is_once: bool,
    /// Why there was no way to the last target that was dialed.
    no_way: Cell<Option<&'static str>>,
}

impl<'a> Targets<'a> {
    /// Those that a request tries. `is_once`: it may not be repeated.
    pub(crate) fn new(
        connection: &'a Connection<'a>,
        (dispatch, resolved): (&'a Dispatch<'a>, &'a Resolved),
        permit: &'a Permit,
        is_once: bool,
    ) -> Self {
        let random = match dispatch.route.balance {
            Balance::PowerOfTwo => connection.worker.rng.draw(),
            Balance::RoundRobin | Balance::LeastConnections | Balance::Consistent(_) => 0,
        };
        Self {
            connection,
            dispatch,
            resolved,
            permit,
            random,
            turn: OnceCell::new(),
            tried: resolved.pending(),
            again: None,
            is_once,
            no_way: Cell::new(None),
        }
    }

    /// Opens a connection to the next target that takes one. A target that refuses one knows
    /// nothing of the request, so the next one is always tried.
    ///
    /// # Errors
    /// What the last target failed with; [`Outcome::NoTarget`] when there was none to try.
    pub(crate) async fn open(
        &mut self,
        trace: &RequestTrace<'_>,
        flow: &Flow,
        left: Option<Duration>,
    ) -> Result<Opened, Outcome> {
        let until = left.map(|left| Instant::now() + left);
        let mut failure = Failure::from(Outcome::NoTarget);
        while let Some(index) = self.choose() {
            let target = &self.dispatch.route.targets[index];
            let began = Instant::now();
            if until.is_some_and(|until| began >= until) {
                return Err(Outcome::ConnectTimeout);
            }
            let opened = self.open_to(index, until).await;
            let address = opened.as_ref().map(|opened| opened.address);
            let address = address.ok().or_else(|| target.endpoint.address());
            trace.attempt(address, began.elapsed());
            match opened {
                Ok(opened) => {
                    self.count(&opened, flow);
                    self.again = None;
                    return Ok(opened);
                }
                Err(failed) => {
                    failure = failed;
                    self.failed_by(index, failed);
                }
            }
        }
        match failure.reason() {
            Some(reason) => trace.reason.set(Some(reason)),
            None if failure.outcome == Outcome::Unreachable => trace.reason.set(self.no_way.get()),
            None => {}
        }
        Err(failure.outcome)
    }

    /// A target answered.
    pub(crate) fn answered(&self, target: usize) {
        let Some(target) = self.dispatch.route.targets.get(target) else {
            return;
        };
        target.health.answer_request();
        let outliers = &self.permit.route.outliers;
        if !outliers.is_clean() {
            let now = self.connection.worker.nanoseconds();
            outliers.answered(target.id, &self.dispatch.policy.ejection, now);
        }
    }

    /// A target failed: the others come before it.
    pub(crate) fn failed(&mut self, target: usize, outcome: Outcome) {
        // TLS that was agreed on fails for one reason: the target asks for another certificate.
        let cause = (outcome == Outcome::UpstreamTls).then_some(Cause::CertificateMissing);
        let failure = Failure {
            cause,
            ..outcome.into()
        };
        self.failed_by(target, failure);
    }

    /// A target did not take the request, and is not to blame: the others come before it.
    pub(crate) fn pass_over(&mut self, target: usize) {
        self.tried.push(target);
        self.again = None;
        if !self.has_next() {
            self.start_over();
        }
    }

    /// [`Targets::failed`], with what is known of it.
    fn failed_by(&mut self, target: usize, failure: Failure) {
        self.tried.push(target);
        self.again = None;
        // Clients make up the hosts that they ask for: that a target is none of them is no fault of its.
        let is_unknown_host = self.dispatch.host.is_some() && failure.is_about_name();
        if is_unknown_host
            || matches!(
                failure.outcome,
                Outcome::GatewayError | Outcome::UpstreamUnset
            )
        {
            return;
        }
        let (route, ejection) = (self.dispatch.route, &self.dispatch.policy.ejection);
        let Some(target) = route.targets.get(target) else {
            return;
        };
        failure.note(target, &route.network.name);
        target.health.fail_request(failure.enough(ejection));
        if failure.name.is_some() {
            // It costs nothing to try a name that leads nowhere, and it may lead somewhere any moment.
            return;
        }
        let worker = self.connection.worker;
        let outliers = &self.permit.route.outliers;
        if outliers.failed(route, target.id, ejection, worker.nanoseconds()) {
            let tally = &self.permit.route;
            let count = |tally: &mut engine_core::tally::Tally| tally.requests().ejections += 1;
            worker.ledger.count(tally, count);
        }
    }

    /// A target is to be tried again, over a new connection: the one that had rested was stale.
    pub(crate) fn again(&mut self, target: usize) {
        self.again = Some(target);
    }

    /// From now on those that failed are tried again.
    pub(crate) fn start_over(&mut self) {
        self.tried.clear();
    }

    /// Whether there is any left to try.
    pub(crate) fn has_next(&self) -> bool {
        self.choose().is_some()
    }

    fn choose(&self) -> Option<usize> {
        if self.again.is_some() {
            return self.again;
        }
        let pick = Pick {
            route: self.dispatch.route,
            outliers: &self.permit.route.outliers,
            tried: &self.tried,
            marked: self.dispatch.marked,
        };
        let draw = || Draw {
            turn: *self.turn.get_or_init(|| self.permit.route.take_turn()),
            random: self.random,
            key: self.dispatch.key,
        };
        pick.next(|| self.connection.worker.nanoseconds(), draw)
    }

    async fn open_to(&self, index: usize, until: Option<Instant>) -> Result<Opened, Failure> {
        let origin = match self.dispatch.published.tls.origin(self.dispatch.route.id) {
            Some(Speech::As(origin)) => Some(origin),
            Some(Speech::Failed) => return Err(Outcome::UpstreamUnset.into()),
            None => None,
        };
        let target = &self.dispatch.route.targets[index];
        let network = &self.dispatch.route.network;
        let netns = self.dispatch.published.namespaces.get(&network.netns);
        let netns = netns.ok_or(Outcome::Unreachable)?;
        let turn = || *self.turn.get_or_init(|| self.permit.route.take_turn());
        let addresses = self.resolved.addresses(target, index, turn)?;
        let addresses = addresses.as_slice();
        let key = |address: SocketAddr| {
            let key = Key {
                network: network.id,
                namespace: netns.identity(),
                address,
                origin: origin.map_or(0, |origin| origin.id()),
                host: self.dispatch.host.clone(),
            };
            // Behind a PROXY protocol header, a connection is of one client.
            target.proxy_protocol.is_none().then_some(key)
        };
        let load = self
            .dispatch
            .route
            .balance
            .counts()
            .then(|| target.load.occupy());
        // Of the address whose turn it is: a connection that rests would draw all requests otherwise.
        let first = addresses.first().and_then(|address| key(*address));
        let rested = match self.again {
            None => first.and_then(|key| Some((self.rested(&key)?, key))),
            Some(_) => None,
        };
        let has_rested = rested.is_some();
        let slot = self.connection.slot;
        let (far, key, address) = match rested {
            Some(((far, local), key)) => {
                let namespace = netns.identity();
                slot.leaves_from(Dialed { namespace, local });
                let address = key.address;
                (far, Some(key), address)
            }
            None => {
                let origin = origin.map(|origin| &**origin);
                let to = (target, &**netns, addresses);
                let (transport, address) = self.dial(to, origin, until).await?;
                let key = key(address);
                (
                    self.reach(transport, key.clone(), origin).await?,
                    key,
                    address,
                )
            }
        };
        let pool = &self.connection.pools.idle;
        let replaces = self.is_once && !has_rested && key.as_ref().is_some_and(|key| pool.has(key));
        Ok(Opened {
            far,
            key,
            has_rested,
            replaces,
            id: target.id,
            target: index,
            address,
            local: slot.local(),
            _load: load,
        })
    }

    /// A connection that there is already, and where it leaves from.
    fn rested(&self, key: &Key) -> Option<(Far, Option<IpAddr>)> {
        let Pools { idle, shared, .. } = &**self.connection.pools;
        // Without an origin it is HTTP/1.
        let lease = (key.origin != 0).then(|| shared.take(key)).flatten();
        let lease = lease.map(|lease| {
            let local = lease.local();
            (Far::Stream(lease), local)
        });
        let own = |(transport, local)| (Far::Connection(transport), local);
        lease.or_else(|| idle.take(key, self.is_once).map(own))
    }

    /// What a new connection is for this request, by what the target speaks.
    async fn reach(
        &self,
        transport: Transport,
        key: Option<Key>,
        origin: Option<&Origin>,
    ) -> Result<Far, Failure> {
        if !origin.is_some_and(|origin| transport.speaks_http2(origin)) {
            return Ok(Far::Connection(transport));
        }
        let Connection { pools, .. } = self.connection;
        let added = pools.shared.add(key, transport).await;
        added
            .map(Far::Stream)
            .map_err(|_| Outcome::UpstreamReset.into())
    }

    async fn dial(
        &self,
        (target, netns, addresses): (&Target, &Netns, &[SocketAddr]),
        origin: Option<&Origin>,
        until: Option<Instant>,
    ) -> Result<(Transport, SocketAddr), Failure> {
        let mut first = Unsent::default();
        if let Some(version) = target.proxy_protocol {
            let introduction = Introduction {
                endpoints: self.dispatch.endpoints,
                hello: None,
            };
            let mut header = Vec::new();
            dial::introduce(self.connection, version, introduction, None, &mut header);
            first = Unsent::behind(header, &[]);
        }
        let declared = self.dispatch.policy.timeouts.connect;
        let timeout = declared.unwrap_or(self.connection.listener.connect_timeout);
        let patience = Instant::now() + timeout;
        let deadline = until.map_or(patience, |until| until.min(patience));
        let connection = self.connection;
        let dialed = dial::attempt(connection, netns, addresses, &mut first, deadline).await;
        let (socket, _, address) = dialed.map_err(|error| {
            self.no_way.set(no_way(&error));
            outcome_of(&error)
        })?;
        let transport = Transport::plain(socket);
        if let Some(origin) = origin {
            let left = deadline.saturating_duration_since(Instant::now());
            let to = tls::Endpoint {
                origin,
                host: self.dispatch.host.as_deref(),
                namespace: netns.identity(),
                address,
            };
            tls::connect((connection, connection.pools), to, (&transport, left)).await?;
        }
        Ok((transport, address))
    }

    /// Has the bytes of an attempt counted for its client and target.
    fn count(&self, opened: &Opened, flow: &Flow) {
        let route = &self.permit.route;
        let ledger = &self.connection.worker.ledger;
        ledger.count(route, |tally| match opened.has_rested {
            true => tally.requests().upstreams_reused += 1,
            false => tally.requests().upstreams_opened += 1,
        });
        let client = ledger.open_client(route, opened.address.ip(), self.dispatch.client);
        // A flow is one attempt's, made with it.
        let _ = flow.client.set(client);
    }
}

impl Opened {
    /// Whether the upstream said that it has not begun with the request.
    pub(crate) fn was_refused(&self) -> bool {
        matches!(&self.far, Far::Stream(lease) if lease.was_refused())
    }

    /// Leaves the connection to the next request.
    /// `rests_for`: how long the upstream keeps it open, in seconds, where it says so.
    pub(crate) fn rest(self, connection: &Connection<'_>, rests_for: Option<u32>) {
        if let (Some(key), Far::Connection(transport)) = (self.key, self.far) {
            let pool = &connection.pools.idle;
            match self.replaces {
                true => pool.replace(key, (transport, self.local), rests_for),
                false => pool.give(key, (transport, self.local), rests_for),
            }
        }
    }
}
