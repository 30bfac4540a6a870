//! A gateway with one listener of HTTP and one route, in this process.

use std::{
    net::{SocketAddr, TcpListener},
    num::NonZeroU16,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use crossbeam_channel::{Receiver, bounded};
use engine::{
    Bind, Config, DriverChoice, Engine, Limits, Listener, Origin, Protocol, Publication, Record,
    RelayMode, RouteCounters, Speech, Tls, Workers,
};
use engine_core::{
    balance::{Balance, Load},
    hostname::HostPattern,
    ids::{Generation, ListenerId, NetnsId, NetworkId, RouteId},
    snapshot::{Network, Route, SnapshotBuilder, Target},
};
use engine_http::refusal::Refusal;
use engine_http::rules::{Action, Match, Policy, Rule, TableBuilder};
use engine_sys::netns::Netns;
use h2::client::{self, SendRequest};

/// The longest that anything here may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What the targets speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Speaks {
    Http1,
    Http2,
}

/// Hosts, and the number of the network that each is of.
type Hosts<'a> = &'a [(&'a str, u32)];

const ONE: Hosts<'_> = &[("a.example", 1)];

/// A gateway whose every request goes to one target.
pub(crate) struct Edge {
    pub(crate) engine: Engine,
    pub(crate) address: SocketAddr,
    /// Of connections that ended.
    #[allow(
        dead_code,
        reason = "the tests of what is used again have no use for it"
    )]
    pub(crate) records: Receiver<Record>,
}

impl Edge {
    /// Starts one in front of `target`.
    pub(crate) fn before(target: SocketAddr, speaks: Speaks) -> Self {
        Self::with(target, speaks, Limits::default())
    }

    pub(crate) fn with(target: SocketAddr, speaks: Speaks, limits: Limits) -> Self {
        Self::start(
            limits,
            publication(ONE, &[target], speaks, Policy::default()),
        )
    }

    /// Starts one whose rule has this policy.
    pub(crate) fn under(target: SocketAddr, speaks: Speaks, policy: Policy) -> Self {
        Self::start(
            Limits::default(),
            publication(ONE, &[target], speaks, policy),
        )
    }

    /// Starts one whose rule has these targets.
    pub(crate) fn among(targets: &[SocketAddr], speaks: Speaks, policy: Policy) -> Self {
        Self::start(Limits::default(), publication(ONE, targets, speaks, policy))
    }

    /// Starts one before two networks that have somebody at the same address: `a.example` is a host of
    /// the first, and `b.example` of the second.
    #[allow(dead_code, reason = "the tests of what is used again need it")]
    pub(crate) fn between(target: SocketAddr, speaks: Speaks) -> Self {
        let hosts = [("a.example", 1), ("b.example", 2)];
        let published = publication(&hosts, &[target], speaks, Policy::default());
        Self::start(Limits::default(), published)
    }

    fn start(limits: Limits, mut publication: Publication) -> Self {
        let (sender, records) = bounded(64);
        let config = Config {
            driver: DriverChoice::Auto,
            workers: Workers::Count(NonZeroU16::MIN),
            limits,
            records: Some(sender),
            requests: None,
            challenges: engine::Challenges::default(),
            strangers: None,
            reserved: Vec::new(),
        };
        let bind = Bind {
            address: "127.0.0.1:0".parse().unwrap(),
            namespace: None,
        };
        let sockets = config.opening().bind(&bind, Protocol::Http).unwrap();
        publication.sockets.insert(ListenerId(0), sockets);
        let engine = Engine::start(config, publication).unwrap();
        let address = engine.address(ListenerId(0)).unwrap();
        Self {
            engine,
            address,
            records,
        }
    }

    /// A client of HTTP/2 that knows beforehand that it is spoken here.
    pub(crate) async fn client(&self) -> SendRequest<Bytes> {
        self.client_of(client::Builder::new().enable_push(false))
            .await
    }

    pub(crate) async fn client_of(&self, builder: &client::Builder) -> SendRequest<Bytes> {
        let socket = tokio::net::TcpStream::connect(self.address).await.unwrap();
        let (sender, connection) = builder.handshake(socket).await.unwrap();
        tokio::task::spawn_local(async move {
            // How it ends, requests tell.
            let _ = connection.await;
        });
        sender.ready().await.unwrap()
    }

    /// Publishes that there is no route.
    pub(crate) fn forget_everything(&mut self) {
        let publication = Publication {
            snapshot: SnapshotBuilder::new(Generation(2)).build(None).unwrap(),
            listeners: [(ListenerId(0), Arc::new(listener()))].into(),
            ..Publication::default()
        };
        self.engine.publish(publication).unwrap();
    }

    /// Waits until a connection or request was refused for one of these reasons, and none for another.
    pub(crate) fn refuses(&mut self, reasons: &[Refusal]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let counters = &self.engine.counters().listeners[&ListenerId(0)]
                .tally
                .refusals;
            let counted = Refusal::ALL
                .iter()
                .filter(|refusal| counters[refusal.index()] > 0);
            let counted: Vec<_> = counted.collect();
            if !counted.is_empty() {
                assert!(
                    counted.iter().all(|refusal| reasons.contains(refusal)),
                    "{counted:?}"
                );
                return;
            }
            assert!(Instant::now() < deadline, "nothing was refused");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The counters of the route, once `is_there` says that they are all there.
    pub(crate) fn route(&mut self, is_there: impl Fn(&RouteCounters) -> bool) -> RouteCounters {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let counters = self.engine.counters().clone();
            if let Some(route) = counters.routes.values().next()
                && is_there(route)
            {
                return route.clone();
            }
            assert!(Instant::now() < deadline, "{:?}", counters.routes);
            std::thread::yield_now();
        }
    }
}

/// A request as a client of HTTP/2 writes it.
pub(crate) fn request(method: &str, path: &str) -> http::Request<()> {
    let uri = format!("http://a.example{path}");
    let request = http::Request::builder().method(method).uri(uri);
    request.version(http::Version::HTTP_2).body(()).unwrap()
}

/// Runs a test's client side.
pub(crate) fn block_on<F: Future>(client: F) -> F::Output {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let timed = tokio::time::timeout(PATIENCE, client).await;
        timed.expect("everything ends in time")
    })
}

/// A connection whose kernel keeps little of what nobody reads.
#[allow(dead_code, reason = "the tests of what is used again need none")]
pub(crate) fn narrow(gateway: SocketAddr) -> std::net::TcpStream {
    let connected = block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        socket.connect(gateway).await.unwrap().into_std().unwrap()
    });
    connected.set_nonblocking(false).unwrap();
    connected.set_read_timeout(Some(PATIENCE)).unwrap();
    connected
}

/// A place for an upstream to listen.
pub(crate) fn upstream() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

fn listener() -> Listener {
    Listener {
        id: ListenerId(0),
        name: "edge".into(),
        network: None,
        protocol: Protocol::Http,
        relay: RelayMode::Auto,
        accept_proxy_from: vec![],
        connections_max: None,
        hello_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(60),
        keep_alive_timeout: Duration::from_secs(60),
        answer_timeout: Duration::from_secs(10),
        half_close: engine::HalfClose::Respond,
        trusted_proxies: vec![],
    }
}

fn publication(
    hosts: Hosts<'_>,
    targets: &[SocketAddr],
    speaks: Speaks,
    policy: Policy,
) -> Publication {
    let (netns, policy) = (NetnsId(0), Arc::new(policy));
    let mut snapshot = SnapshotBuilder::new(Generation(1));
    let mut table = TableBuilder::new();
    let mut tls = Tls::default();
    for (host, number) in hosts {
        let route = route(host, *number, targets);
        snapshot.route(route.clone());
        let found_by = Match {
            scheme: None,
            host: Some(HostPattern::parse(host).unwrap()),
            path: "/".into(),
            methods: vec![],
            fields: vec![],
        };
        if speaks == Speaks::Http2 {
            tls.set_origin(route.id, Speech::As(Arc::new(Origin::http2())));
        }
        let rule = Rule {
            id: route.id,
            route: Arc::new(route),
            action: Action::Proxy,
            policy: Arc::clone(&policy),
        };
        table.rule(found_by, rule);
    }
    Publication {
        snapshot: snapshot.build(None).unwrap(),
        http: table.build().unwrap(),
        namespaces: [(netns, Arc::new(Netns::current().unwrap()))].into(),
        tls,
        listeners: [(ListenerId(0), Arc::new(listener()))].into(),
        ..Publication::default()
    }
}

/// The route of a network to its targets.
fn route(label: &str, number: u32, targets: &[SocketAddr]) -> Route {
    let target = |address: &SocketAddr| Target::new(*address);
    Route {
        id: RouteId(number),
        label: label.into(),
        network: Arc::new(Network {
            id: NetworkId(number),
            name: format!("network-{number}").into(),
            netns: NetnsId(0),
            live: Load::default(),
        }),
        targets: targets.iter().map(target).collect(),
        balance: Balance::default(),
    }
}
