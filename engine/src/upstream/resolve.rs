//! The stage between route and admit: names of targets become addresses.
//!
//! Nothing is done, and nothing waits, where all targets are addresses. One that a client chose itself is
//! held to the rules of those that names resolve to.

mod entry;
mod led;
mod message;
mod names;
mod order;
mod query;
pub(crate) mod watch;

use std::{
    future::poll_fn,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsFd,
    rc::Rc,
    task::Poll,
    time::{Duration, Instant},
};

use engine_core::{
    destination::Destination,
    endpoint::{Endpoint, Unresolved},
    hostname::Hostname,
    ids::{NetnsId, NetworkId},
    outcome::Outcome,
    snapshot::{Route, Target},
};
use engine_sys::{netns::Netns, socket};

use crate::{
    context::{
        WorkerContext,
        failure::Failure,
        snapshot::{Bound, Published},
    },
    rt,
    upstream::{
        Pools,
        resolve::{
            entry::{Known, Looked, Registration},
            names::{Lookup, Name, Scope, Waiting},
            query::Query,
        },
    },
};

pub(crate) use names::Names;

/// How long fresh addresses are waited for where there are some whose time is over.
const STALE_AFTER: Duration = Duration::from_millis(500);

/// Where the targets of a route are, as far as is known.
#[derive(Debug, Default)]
pub(crate) struct Resolved(Option<Box<[Found]>>);

/// Where one target is.
#[derive(Clone, Debug)]
enum Found {
    /// Where its endpoint says.
    Address,
    /// Where its name leads.
    Places(Vec<IpAddr>),
    /// Not known yet.
    Pending,
    /// Nowhere.
    Not(Unresolved),
}

/// The addresses of one target, in the order in which they are tried.
#[derive(Clone, Debug)]
pub(crate) enum Addresses {
    /// It is an address.
    One(SocketAddr),
    /// It is a name.
    Many(Vec<SocketAddr>),
}

impl Addresses {
    pub(crate) fn as_slice(&self) -> &[SocketAddr] {
        match self {
            Self::One(address) => std::slice::from_ref(address),
            Self::Many(addresses) => addresses,
        }
    }
}

/// Looks up the targets of a destination that are names, and waits for the first of them, at most for `patience`.
/// It waits for none where another target's address is known. What cannot be resolved fails when it is
/// tried, as a target that refuses connections does.
pub(crate) async fn resolve(
    worker: &Rc<WorkerContext>,
    pools: &Rc<Pools>,
    (published, destination): (&Published, Destination<'_>),
    patience: Duration,
) -> Resolved {
    let route = destination.route();
    let is_address = |target: &Target| target.endpoint.address().is_some();
    if route.targets.iter().all(is_address) {
        return match destination {
            Destination::Route(_) => Resolved::default(),
            Destination::Chosen(_) => {
                let stage = Stage::new(worker, pools, (published, route));
                let targets = route.targets.iter();
                let address = |target: &Target| target.endpoint.address();
                let judged = targets.filter_map(address).map(|it| stage.judge(it));
                Resolved(Some(judged.collect()))
            }
        };
    }
    // Apart, so that whoever has addresses alone pays nothing for it.
    Box::pin(async move {
        let stage = Stage::new(worker, pools, (published, route));
        let found = stage.find(patience).await;
        stage.note(&found);
        Resolved(Some(found))
    })
    .await
}

/// The addresses of an endpoint of a network: what a health check asks.
pub(crate) async fn addresses(
    worker: &Rc<WorkerContext>,
    pools: &Rc<Pools>,
    (published, network, endpoint): (&Published, (NetworkId, NetnsId), &Endpoint),
    patience: Duration,
) -> Result<Vec<SocketAddr>, Unresolved> {
    let targets = [Target::new(endpoint.clone())];
    let stage = Stage::of(worker, pools, (published, network), &targets);
    let found = stage.find(patience).await;
    let addresses = Resolved(Some(found)).addresses(&targets[0], 0, || 0);
    addresses.map(|addresses| addresses.as_slice().to_vec())
}

impl Resolved {
    /// The addresses of a target, by its position in its route. Consecutive turns begin with different ones.
    ///
    /// # Errors
    /// Why there are none.
    pub(crate) fn addresses(
        &self,
        target: &Target,
        place: usize,
        turn: impl FnOnce() -> u64,
    ) -> Result<Addresses, Unresolved> {
        let found = self.0.as_ref().and_then(|found| found.get(place));
        let all = match (found, &target.endpoint) {
            (Some(Found::Not(why)), _) => return Err(*why),
            (_, Endpoint::Address(address)) => return Ok(Addresses::One(*address)),
            (Some(Found::Places(places)), Endpoint::Name { .. }) => places,
            (Some(Found::Pending | Found::Address) | None, Endpoint::Name { .. }) => {
                return Err(Unresolved::Unanswered);
            }
        };
        // Those that are down by their checks are left out, unless all are.
        let well = all.iter().copied();
        let well: Vec<IpAddr> = well.filter(|ip| !target.health.is_down_at(*ip)).collect();
        let tried = if well.is_empty() { all } else { &well };
        let port = target.endpoint.port();
        let addresses = order::arrange(tried, turn()).into_iter();
        let addresses = addresses.map(|ip| SocketAddr::new(ip, port));
        Ok(Addresses::Many(addresses.collect()))
    }

    /// Notes at the targets of its route which of them have names that lead nowhere.
    pub(crate) fn note(&self, route: &Route) {
        let found = self.0.iter().flat_map(|found| found.iter());
        for (target, found) in route.targets.iter().zip(found) {
            if let Found::Not(why) = found {
                Failure::from(*why).note(target, &route.network.name);
                target.health.fail_request(1);
            }
        }
    }

    /// The positions of targets that are being looked up: they are not tried before the others.
    pub(crate) fn pending(&self) -> Vec<usize> {
        let found = self.0.iter().flat_map(|found| found.iter().enumerate());
        let pending = found.filter(|(_, found)| matches!(found, Found::Pending));
        let pending: Vec<usize> = pending.map(|(place, _)| place).collect();
        // Where nothing else is known either, each fails for what is not known of it.
        match self
            .0
            .as_ref()
            .is_some_and(|found| pending.len() == found.len())
        {
            true => Vec::new(),
            false => pending,
        }
    }
}

/// The names of one route while they are looked up.
struct Stage<'a> {
    worker: &'a Rc<WorkerContext>,
    pools: &'a Rc<Pools>,
    targets: &'a [Target],
    is_home: bool,
    network: NetworkId,
    netns: NetnsId,
    published: &'a Published,
    /// By position: `Ok(None)` for addresses.
    names: Vec<Result<Option<Rc<Name>>, Unresolved>>,
}

impl<'a> Stage<'a> {
    fn new(
        worker: &'a Rc<WorkerContext>,
        pools: &'a Rc<Pools>,
        (published, route): (&'a Published, &'a Route),
    ) -> Self {
        let network = (route.network.id, route.network.netns);
        Self::of(worker, pools, (published, network), &route.targets)
    }

    fn of(
        worker: &'a Rc<WorkerContext>,
        pools: &'a Rc<Pools>,
        (published, (network, netns)): (&'a Published, (NetworkId, NetnsId)),
        targets: &'a [Target],
    ) -> Self {
        let namespace = published.namespaces.get(&netns);
        let scope = namespace.map(|namespace| Scope {
            network,
            netns,
            namespace: namespace.identity(),
        });
        let now = Instant::now();
        let name = |target: &Target| match &target.endpoint {
            Endpoint::Address(_) => Ok(None),
            Endpoint::Name { host, .. } => {
                // Without its namespace nothing of a network is dialed.
                let scope = scope.ok_or(Unresolved::Unanswered)?;
                let name = pools.names.find(scope, host, now);
                name.map(Some).ok_or(Unresolved::Busy)
            }
        };
        let names: Vec<_> = targets.iter().map(name).collect();
        let refused = names.iter().filter(|name| name.is_err()).count();
        worker
            .ledger
            .count_lookups(|tally| tally.refused += refused as u64);
        Self {
            worker,
            pools,
            targets,
            is_home: scope.is_some_and(|scope| pools.names.is_home(scope.namespace)),
            network,
            netns,
            published,
            names,
        }
    }

    async fn find(&self, patience: Duration) -> Box<[Found]> {
        let found = self.look(false);
        if is_known(&found) {
            return found;
        }
        let is_stale = self
            .look(true)
            .iter()
            .any(|it| matches!(it, Found::Places(_)));
        let patience = if is_stale {
            patience.min(STALE_AFTER)
        } else {
            patience
        };
        if let Some(waiting) = self.pools.names.wait() {
            // Who waited for too long takes what there is.
            let _ = rt::until(Instant::now() + patience, self.known(waiting)).await;
        }
        self.look(true)
    }

    /// Waits until a target can be tried, or none will be.
    async fn known(&self, _waiting: Waiting<'_>) {
        poll_fn(|cx| {
            let found = self.look(false);
            if is_known(&found) {
                return Poll::Ready(());
            }
            for (name, found) in self.names.iter().zip(&found) {
                if let (Ok(Some(name)), Found::Pending) = (name, found) {
                    name.wake(cx.waker());
                }
            }
            Poll::Pending
        })
        .await;
    }

    /// Where the targets are at this moment. What is not known is looked up. `is_over`: addresses whose time
    /// is over will do.
    fn look(&self, is_over: bool) -> Box<[Found]> {
        let now = Instant::now();
        let found = self.names.iter().zip(self.targets).map(|(name, target)| {
            let places = |places: Rc<[Registration]>| self.may_be(&places, target.endpoint.port());
            let name = match name {
                Ok(None) => return Found::Address,
                Ok(Some(name)) => name,
                Err(why) => return Found::Not(*why),
            };
            match name.known(now) {
                Known::Addresses(known) => places(known),
                Known::Not(why) => Found::Not(why),
                Known::Old(known) => {
                    // With as many lookups as may be, the next one asks.
                    let _ = self.ask(name);
                    places(known)
                }
                Known::Unasked(stale) => match (self.ask(name), stale) {
                    (_, Some(known)) if is_over => places(known),
                    (Ok(()), _) => Found::Pending,
                    (Err(why), _) => Found::Not(why),
                },
            }
        });
        found.collect()
    }

    /// Whether a client may choose an address.
    fn judge(&self, address: SocketAddr) -> Found {
        let (ip, port) = (address.ip().to_canonical(), address.port());
        if !led::may_be_used(ip, self.is_home) {
            return Found::Not(Unresolved::Forbidden);
        }
        // The kernel is only asked whose an address is where that decides.
        if self.bound().all(|bound| bound.address.port() != port) {
            return Found::Address;
        }
        let Some(netns) = self.published.namespaces.get(&self.netns) else {
            // Nothing is dialed without it.
            return Found::Address;
        };
        match self.may_be(&[registration(ip, netns, self.is_home)], port) {
            Found::Places(_) => Found::Address,
            found @ (Found::Not(_) | Found::Address | Found::Pending) => found,
        }
    }

    /// Where the gateway listens.
    fn bound(&self) -> impl Iterator<Item = &Bound> {
        let reserved = self.worker.shared.reserved.iter();
        self.published.bound.values().chain(reserved)
    }

    /// Those of a name's places that are no listener of the gateway.
    fn may_be(&self, places: &[Registration], port: u16) -> Found {
        let to = (self.network, self.is_home);
        let is_listener = |place: &&Registration| led::is_listener(**place, port, to, self.bound());
        let places = places.iter().filter(|place| !is_listener(place));
        let places: Vec<IpAddr> = places.map(|place| place.ip).collect();
        match places.is_empty() {
            true => Found::Not(Unresolved::Forbidden),
            false => Found::Places(places),
        }
    }

    fn ask(&self, name: &Rc<Name>) -> Result<(), Unresolved> {
        if name.is_asked() {
            return Ok(());
        }
        start(self.worker, self.pools, name)
    }

    /// What the lookups say of the targets' health: that they lead somewhere again. That one leads nowhere is
    /// noted when it is tried.
    fn note(&self, found: &[Found]) {
        for (target, found) in self.targets.iter().zip(found) {
            if matches!(found, Found::Places(_))
                && target.health.is_failing()
                && let Some((failure, _)) = Failure::last_of(target)
                && failure.outcome == Outcome::Unresolved
            {
                target.health.answer_request();
            }
        }
    }
}

/// Whether a target can be tried, or none is waited for.
fn is_known(found: &[Found]) -> bool {
    let is_there = |it: &Found| matches!(it, Found::Address | Found::Places(_));
    let is_pending = |it: &Found| matches!(it, Found::Pending);
    found.iter().any(is_there) || !found.iter().any(is_pending)
}

/// Looks names up again that are in use, before their time is over.
pub(crate) fn refresh(worker: &Rc<WorkerContext>, pools: &Rc<Pools>, now: Instant) {
    pools.names.sweep(now);
    for name in pools.names.due(now) {
        // With as many lookups as may be, it is due in the next second, too.
        let _ = start(worker, pools, &name);
    }
}

/// Starts to look a name up.
///
/// # Errors
/// When as many are looked up as may be.
fn start(worker: &Rc<WorkerContext>, pools: &Rc<Pools>, name: &Rc<Name>) -> Result<(), Unresolved> {
    let Some(lookup) = pools.names.begin(name) else {
        worker.ledger.count_lookups(|tally| tally.refused += 1);
        return Err(Unresolved::Busy);
    };
    let (worker, pools) = (Rc::clone(worker), Rc::clone(pools));
    rt::spawn(async move { run(&worker, &pools, lookup).await });
    Ok(())
}

async fn run(worker: &WorkerContext, pools: &Pools, lookup: Lookup) {
    let looked = look_up(worker, pools, &lookup.name).await;
    worker.ledger.count_lookups(|tally| {
        tally.lookups += 1;
        match looked {
            Looked::Found(..) => {}
            Looked::Nothing(Unresolved::Unknown, _) => tally.negative += 1,
            Looked::Nothing(..) | Looked::Failed(_) => tally.failures += 1,
        }
    });
    lookup.end(looked, Instant::now());
}

async fn look_up(worker: &WorkerContext, pools: &Pools, name: &Name) -> Looked {
    let Scope {
        network,
        netns,
        namespace,
    } = name.scope;
    let current = worker.current();
    let held = current.0.namespaces.get(&netns);
    let Some(netns) = held.filter(|it| it.identity() == namespace) else {
        return Looked::Failed(Unresolved::Unanswered);
    };
    let home = pools.names.is_home(namespace);
    if is_localhost(&name.host) {
        return led_to(&local(), (netns, home), LOCAL_TTL);
    }
    let servers = current.0.name_servers.get(&network);
    let servers = servers.map(|it| &**it).unwrap_or_default();
    if servers.is_empty() {
        return Looked::Failed(Unresolved::NoServer);
    }
    let query = Query {
        rng: &worker.rng,
        netns,
        servers,
        liveness: worker.shared.limits.liveness(),
    };
    match query.look_up(&name.host).await {
        Ok((addresses, ttl)) => led_to(&addresses, (netns, home), ttl),
        Err((Unresolved::Unknown, ttl)) => Looked::Nothing(Unresolved::Unknown, ttl),
        Err((why, _)) => Looked::Failed(why),
    }
}

/// The places that a name may lead to, of those that the servers say, for a namespace and whether it is the
/// gateway's own.
fn led_to(addresses: &[IpAddr], (netns, is_home): (&Netns, bool), ttl: Duration) -> Looked {
    let addresses = addresses.iter().map(IpAddr::to_canonical);
    let may_be = addresses.filter(|ip| led::may_be_used(*ip, is_home));
    let places: Vec<Registration> = may_be.map(|ip| registration(ip, netns, is_home)).collect();
    match places.is_empty() {
        true => Looked::Nothing(Unresolved::Forbidden, ttl),
        false => Looked::Found(places, ttl),
    }
}

/// Whose an address is that is dialed from a namespace, and whether that is the gateway's own.
fn registration(ip: IpAddr, netns: &Netns, is_home: bool) -> Registration {
    let is_here = has(netns, ip);
    let is_elsewhere = || led::is_global(ip) && socket::is_own(ip).unwrap_or(false);
    Registration {
        ip,
        is_at_home: if is_home { is_here } else { is_elsewhere() },
        is_here,
    }
}

/// Whether a namespace has an address itself. Where there is no way to an address, it has not.
fn has(netns: &Netns, ip: IpAddr) -> bool {
    // The discard service's port: any would do, since nothing is sent.
    let towards = netns.enter(|| socket::asker(SocketAddr::new(ip, 9)));
    let left_from = towards.and_then(|socket| socket::local_address(socket.as_fd()));
    left_from.is_ok_and(|own| own.ip() == ip)
}

/// How long it counts where this machine's own name leads.
const LOCAL_TTL: Duration = Duration::from_secs(3600);

/// Whether a name is this machine's, and nobody is asked for it (RFC 6761 section 6.3).
fn is_localhost(host: &Hostname) -> bool {
    host.as_str() == "localhost" || host.as_str().ends_with(".localhost")
}

fn local() -> Vec<IpAddr> {
    vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target::new(Endpoint::parse("web.example:80").unwrap())
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    #[test]
    fn addresses_that_are_down_are_left_out_unless_all_are() {
        let (target, resolved) = (target(), |found| Resolved(Some(Box::new([found]))));
        let resolved = resolved(Found::Places(vec![ip(1), ip(2)]));
        let ports = |turn| {
            let addresses = resolved.addresses(&target, 0, || turn).unwrap();
            let addresses = addresses.as_slice().iter().map(ToString::to_string);
            addresses.collect::<Vec<String>>()
        };
        assert_eq!(ports(0), ["10.0.0.1:80", "10.0.0.2:80"]);
        assert_eq!(ports(1), ["10.0.0.2:80", "10.0.0.1:80"]);
        target.health.set_down_at(vec![ip(1)], false);
        assert_eq!(ports(0), ["10.0.0.2:80"]);
        target.health.set_down_at(vec![ip(1), ip(2)], true);
        assert_eq!(ports(0).len(), 2);
    }

    #[test]
    fn what_is_looked_up_is_tried_after_what_is_known() {
        let resolved = |found: &[Found]| Resolved(Some(found.into()));
        let known = [Found::Pending, Found::Address, Found::Pending];
        assert_eq!(resolved(&known).pending(), [0, 2]);
        assert!(resolved(&[Found::Pending]).pending().is_empty());
        let late = resolved(&[Found::Pending]).addresses(&target(), 0, || 0);
        assert_eq!(late.unwrap_err(), Unresolved::Unanswered);
        assert!(Resolved::default().pending().is_empty());
    }

    #[test]
    fn this_machines_own_name_leads_to_it_and_no_tenant_there() {
        let host = |text: &str| Hostname::parse(text.as_bytes()).unwrap();
        assert!(is_localhost(&host("localhost")) && is_localhost(&host("a.localhost.")));
        assert!(!is_localhost(&host("localhost.example")) && !is_localhost(&host("mylocalhost")));
        let netns = Netns::current().unwrap();
        let led = |is_home| led_to(&local(), (&netns, is_home), LOCAL_TTL);
        assert!(matches!(led(true), Looked::Found(places, _) if places.len() == 2));
        assert!(matches!(
            led(false),
            Looked::Nothing(Unresolved::Forbidden, _)
        ));
        let mapped = ["::ffff:127.0.0.1".parse().unwrap()];
        let led = led_to(&mapped, (&netns, false), LOCAL_TTL);
        assert!(matches!(led, Looked::Nothing(Unresolved::Forbidden, _)));
    }
}
