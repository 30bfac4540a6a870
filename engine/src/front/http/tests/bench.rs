//! What the tests are set up with: an engine, clients, and upstreams.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, bounded};
use engine_core::{
    balance::{Balance, Load},
    endpoint::Endpoint,
    hostname::HostPattern,
    ids::{Generation, ListenerId, NetnsId, NetworkId, RouteId},
    requests::Requests,
    snapshot::{Network, Route, Snapshot, SnapshotBuilder, Target},
};
use engine_http::rules::{Action, Match, Policy, Rule, TableBuilder};
use engine_sys::netns::Netns;

use crate::{
    Bind, Config, DriverChoice, Engine, Limits, Listener, Protocol, Publication, Record, RelayMode,
    RequestRecord, Workers,
};

/// The longest that anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A rule for all requests of `a.example`.
pub(crate) struct Site {
    pub(crate) action: Action,
    pub(crate) policy: Policy,
    pub(crate) targets: Vec<Endpoint>,
    /// Who is asked for those that are names.
    pub(crate) name_servers: Vec<SocketAddr>,
    pub(crate) balance: Balance,
    /// Other hosts' requests go to the targets as well, by the listener's default.
    pub(crate) is_default: bool,
}

impl Site {
    pub(crate) fn proxy(targets: &[SocketAddr], policy: Policy) -> Self {
        Self {
            action: Action::Proxy,
            policy,
            targets: targets.iter().copied().map(Endpoint::from).collect(),
            name_servers: Vec::new(),
            balance: Balance::default(),
            is_default: false,
        }
    }
}

/// An engine of one worker with one listener.
pub(crate) struct Gateway {
    pub(crate) engine: Engine,
    pub(crate) address: SocketAddr,
    pub(crate) requests: Receiver<RequestRecord>,
    /// Connections that ended.
    pub(crate) connections: Receiver<Record>,
    listener: Listener,
    generation: u64,
}

impl Gateway {
    pub(crate) fn start(site: Site) -> Self {
        Self::with_queue(site, 1024)
    }

    /// `queue` is how many request records may wait.
    pub(crate) fn with_queue(site: Site, queue: usize) -> Self {
        Self::with_listener(site, queue, listener())
    }

    pub(crate) fn with_listener(site: Site, queue: usize, listener: Listener) -> Self {
        Self::with_config(site, (queue, Vec::new()), listener)
    }

    /// One whose process listens at further addresses.
    pub(crate) fn reserving(site: Site, reserved: Vec<SocketAddr>) -> Self {
        Self::with_config(site, (1024, reserved), listener())
    }

    fn with_config(
        site: Site,
        (queue, reserved): (usize, Vec<SocketAddr>),
        listener: Listener,
    ) -> Self {
        let (sender, requests) = bounded(queue);
        let (ended, connections) = bounded(queue);
        let config = Config {
            driver: DriverChoice::Auto,
            workers: Workers::Count(std::num::NonZeroU16::MIN),
            limits: Limits::default(),
            records: Some(ended),
            requests: Some(sender),
            challenges: crate::Challenges::default(),
            strangers: None,
            reserved,
        };
        let bind = Bind {
            address: "127.0.0.1:0".parse().unwrap(),
            namespace: None,
        };
        let sockets = config.opening().bind(&bind, listener.protocol).unwrap();
        let mut first = publication(1, site, (&listener, None));
        first.sockets.insert(listener.id, sockets);
        let engine = Engine::start(config, first).unwrap();
        let address = engine.address(listener.id).unwrap();
        Self {
            engine,
            address,
            requests,
            connections,
            listener,
            generation: 1,
        }
    }

    pub(crate) fn publish(&mut self, site: Site) {
        self.generation += 1;
        let previous = Some(self.engine.snapshot());
        let next = publication(self.generation, site, (&self.listener, previous));
        self.engine.publish(next).unwrap();
    }

    /// Sends bytes, and gives all that comes back until the end of the stream.
    pub(crate) fn ask(&self, request: &str) -> String {
        let mut client = self.connect();
        client.write_all(request.as_bytes()).unwrap();
        read_to_end(&mut client)
    }

    /// The answer to a GET, on a connection of its own, with further fields.
    pub(crate) fn get(&self, path: &str, fields: &str) -> String {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n{fields}\r\n"
        ))
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.address).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client
    }

    /// The next request that ended.
    pub(crate) fn record(&self) -> RequestRecord {
        self.requests.recv_timeout(PATIENCE).unwrap()
    }

    /// The counters of the site's requests.
    pub(crate) fn counted(&mut self) -> Requests {
        let counters = self.engine.counters();
        let route = counters.routes.get(&RouteId(1)).unwrap();
        *route.tally.requests.clone().unwrap()
    }
}

pub(crate) fn read_to_end(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // A reset ends an answer as well.
    let _ = stream.read_to_end(&mut all);
    String::from_utf8_lossy(&all).into_owned()
}

/// Waits until something holds.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}

pub(crate) fn status(answer: &str) -> u16 {
    let word = answer.split(' ').nth(1);
    word.and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

pub(crate) fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

pub(crate) fn listener() -> Listener {
    Listener {
        id: ListenerId(0),
        name: "http".into(),
        network: None,
        protocol: Protocol::Http,
        relay: RelayMode::Auto,
        accept_proxy_from: Vec::new(),
        connections_max: None,
        hello_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(60),
        keep_alive_timeout: Duration::from_secs(60),
        answer_timeout: Duration::from_secs(60),
        half_close: crate::HalfClose::Respond,
        trusted_proxies: Vec::new(),
    }
}

fn publication(
    generation: u64,
    site: Site,
    (listener, previous): (&Listener, Option<&Snapshot>),
) -> Publication {
    let network = Arc::new(Network {
        id: NetworkId(1),
        name: "network-1".into(),
        netns: NetnsId(0),
        live: Load::default(),
    });
    let target = |endpoint: &Endpoint| Target::new(endpoint.clone());
    // Redirects need none; a snapshot's route does.
    let nowhere = [Endpoint::parse("127.0.0.1:9").unwrap()];
    let targets = match &*site.targets {
        [] => &nowhere[..],
        targets => targets,
    };
    let mut builder = SnapshotBuilder::new(Generation(generation));
    builder.route(Route {
        id: RouteId(1),
        label: "a.example".into(),
        network,
        targets: targets.iter().map(target).collect(),
        balance: site.balance,
    });
    if site.is_default {
        builder.default_route(ListenerId(0), RouteId(1));
    }
    let snapshot = builder.build(previous).unwrap();
    let mut table = TableBuilder::new();
    let found_by = Match {
        scheme: None,
        host: Some(HostPattern::parse("a.example").unwrap()),
        path: "/".into(),
        methods: Vec::new(),
        fields: Vec::new(),
    };
    let rule = Rule {
        id: RouteId(1),
        route: Arc::clone(snapshot.routes().next().unwrap()),
        action: site.action,
        policy: site.policy.into(),
    };
    table.rule(found_by, rule);
    Publication {
        http: table.build().unwrap(),
        snapshot,
        tls: crate::Tls::default(),
        namespaces: [(NetnsId(0), Arc::new(Netns::current().unwrap()))].into(),
        listeners: [(listener.id, Arc::new(listener.clone()))].into(),
        sockets: std::collections::HashMap::new(),
        name_servers: [(NetworkId(1), site.name_servers.into())].into(),
    }
}

/// A server that answers each head as it is told, on as many connections as there are.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    heads: Mutex<Vec<String>>,
    connections: AtomicUsize,
    /// Connections that the other side ended.
    ended: AtomicUsize,
    is_over: AtomicBool,
}

/// What a server does with a request.
pub(crate) enum Reply {
    /// Sends this, and waits for the next request.
    Bytes(String),
    /// Closes the connection.
    Close,
    /// Waits until the other side ends it.
    Silence,
}

pub(crate) fn ok(body: &str) -> Reply {
    let length = body.len();
    Reply::Bytes(format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
}

impl Upstream {
    pub(crate) fn start(reply: impl Fn(&str) -> Reply + Send + Sync + 'static) -> Self {
        Self::start_at(TcpListener::bind("127.0.0.1:0").unwrap(), reply)
    }

    pub(crate) fn start_at(
        listener: TcpListener,
        reply: impl Fn(&str) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let reply = Arc::new(reply);
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if shared.is_over.load(SeqCst) {
                    return;
                }
                shared.connections.fetch_add(1, SeqCst);
                let (state, reply) = (Arc::clone(&shared), Arc::clone(&reply));
                thread::spawn(move || talk(stream.unwrap(), &state, &*reply));
            }
        });
        Self { address, state }
    }

    /// One that says its name.
    pub(crate) fn named(name: &'static str) -> Self {
        Self::start(move |_| ok(name))
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        self.state.heads.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(SeqCst)
    }

    pub(crate) fn ended(&self) -> usize {
        self.state.ended.load(SeqCst)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.state.is_over.store(true, SeqCst);
        // Wakes whoever accepts.
        drop(TcpStream::connect(self.address));
    }
}

fn talk(mut stream: TcpStream, state: &State, reply: &dyn Fn(&str) -> Reply) {
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    loop {
        while let Some(end) = seen.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&seen[..end + 4]).into_owned();
            seen.drain(..end + 4);
            state.heads.lock().unwrap().push(head.clone());
            match reply(&head) {
                Reply::Bytes(bytes) => {
                    if stream.write_all(bytes.as_bytes()).is_err() {
                        return;
                    }
                }
                Reply::Close => return,
                Reply::Silence => {}
            }
        }
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => {
                state.ended.fetch_add(1, SeqCst);
                return;
            }
            Ok(count) => seen.extend_from_slice(&piece[..count]),
        }
    }
}
