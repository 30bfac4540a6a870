//! An engine with one listener, and what the tests set up around it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    num::NonZeroU16,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use engine::{
    Bind, Config, Counters, DriverChoice, Engine, Limits, Listener, Origin, Protocol, Publication,
    RelayMode, Speech, Termination, Tls, Workers,
};
use engine_core::{
    balance::{Balance, Load},
    hostname::HostPattern,
    ids::{Generation, ListenerId, NetnsId, NetworkId, RouteId},
    snapshot::{Network, Route, SnapshotBuilder, Target},
};
use engine_http::{
    method::Scheme,
    rules::{Action, Match, Policy, Rule, TableBuilder},
};
use engine_sys::netns::Netns;
use engine_tls::{
    Bundle, Certificates, Policies, Tickets, policy,
    tickets::{Keys, Secret},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    client::Resumption,
    pki_types::{CertificateDer, PrivateKeyDer},
};

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) der: CertificateDer<'static>,
}

/// A certificate with its key, in PEM and in DER.
pub(crate) struct Leaf {
    pub(crate) chain: String,
    pub(crate) key: String,
    pub(crate) der: CertificateDer<'static>,
    key_der: Vec<u8>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            der: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn leaf(&self, names: &[&str]) -> Leaf {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "leaf");
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Leaf {
            chain: leaf.pem(),
            key: key.serialize_pem(),
            der: leaf.der().clone(),
            key_der: key.serialize_der(),
        }
    }

    pub(crate) fn roots(&self) -> policy::Roots {
        [Box::from(self.der.as_ref())].into()
    }
}

impl Leaf {
    pub(crate) fn bundle(&self) -> Arc<Bundle> {
        Arc::new(Bundle::from_pem(self.chain.as_bytes(), self.key.as_bytes()).unwrap())
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key_der.clone()).unwrap()
    }
}

/// An engine, and the certificates that it has.
pub(crate) struct Gateway {
    pub(crate) engine: Engine,
    pub(crate) certificates: Certificates,
    pub(crate) address: SocketAddr,
}

/// What an engine is made with.
pub(crate) struct Setup {
    protocol: Protocol,
    policies: Policies,
    pub(crate) certificates: Certificates,
    tls: Tls,
    snapshot: SnapshotBuilder,
    rules: Vec<(Option<HostPattern>, RouteId, Policy)>,
    /// What the rules are for.
    scheme: Option<Scheme>,
    routes: u32,
    driver: DriverChoice,
    netns: (NetnsId, Arc<Netns>),
    network: u32,
    /// The network whose names alone the listener serves.
    only: Option<NetworkId>,
}

impl Setup {
    pub(crate) fn new(protocol: Protocol) -> Self {
        let certificates = Certificates::default();
        let secret = Secret::random().unwrap();
        let tickets = Tickets::new(Keys::new(&secret, SystemTime::now()));
        Self {
            protocol,
            policies: Policies::new(certificates.clone(), tickets).unwrap(),
            certificates,
            tls: Tls::default(),
            snapshot: SnapshotBuilder::new(Generation(1)),
            rules: Vec::new(),
            scheme: None,
            routes: 0,
            driver: DriverChoice::Auto,
            netns: (NetnsId(0), Arc::new(Netns::current().unwrap())),
            network: 1,
            only: None,
        }
    }

    pub(crate) fn driver(mut self, driver: DriverChoice) -> Self {
        self.driver = driver;
        self
    }

    /// Dials from a namespace; to be said before any route.
    pub(crate) fn within(mut self, id: u32, netns: &Arc<Netns>) -> Self {
        self.netns = (NetnsId(id), Arc::clone(netns));
        self
    }

    /// Further routes are this network's.
    pub(crate) fn network(mut self, number: u32) -> Self {
        self.network = number;
        self
    }

    /// The listener is this network's, and leads all that is nobody's there.
    pub(crate) fn only(mut self, number: u32, default: SocketAddr) -> Self {
        self.only = Some(NetworkId(number));
        let id = self.route("default", default);
        self.snapshot.default_route(ListenerId(0), id);
        self
    }

    /// Speaks with the last route's target so.
    pub(crate) fn speaking(mut self, origin: &Arc<Origin>) -> Self {
        let speech = Speech::As(Arc::clone(origin));
        self.tls.set_origin(RouteId(self.routes), speech);
        self
    }

    pub(crate) fn certificate(self, leaf: &Leaf) -> Self {
        self.certificates.add(&leaf.bundle(), SystemTime::now());
        self
    }

    /// Ends the TLS of a name here; none is all the others.
    pub(crate) fn terminate(mut self, pattern: Option<&str>, policy: policy::Policy) -> Self {
        let terms = self.policies.terms(&policy).unwrap();
        match pattern {
            Some(pattern) => self
                .tls
                .terminate(HostPattern::parse(pattern).unwrap(), Termination::On(terms)),
            None => {
                self.tls.answer_challenges(Arc::clone(&terms));
                self.tls.terminate_others(Termination::On(terms));
            }
        }
        self
    }

    fn route(&mut self, label: &str, target: SocketAddr) -> RouteId {
        self.routes += 1;
        let id = RouteId(self.routes);
        self.snapshot.route(Route {
            id,
            label: label.into(),
            network: Arc::new(Network {
                id: NetworkId(self.network),
                name: format!("network-{}", self.network).into(),
                netns: self.netns.0,
                live: Load::default(),
            }),
            targets: vec![Target::new(target)],
            balance: Balance::default(),
        });
        id
    }

    /// Passes a name's connections through.
    pub(crate) fn pass(mut self, pattern: &str, target: SocketAddr) -> Self {
        let id = self.route(pattern, target);
        self.snapshot.name(HostPattern::parse(pattern).unwrap(), id);
        self
    }

    /// Proxies the requests for a host; none is all the others.
    pub(crate) fn proxy(self, host: Option<&str>, target: SocketAddr) -> Self {
        self.proxy_to(host, target, None, Policy::default())
    }

    pub(crate) fn proxy_to(
        mut self,
        host: Option<&str>,
        target: SocketAddr,
        origin: Option<Origin>,
        policy: Policy,
    ) -> Self {
        let id = self.route(host.unwrap_or("any"), target);
        let host = host.map(|host| HostPattern::parse(host).unwrap());
        self.rules.push((host, id, policy));
        if let Some(origin) = origin {
            self.tls.set_origin(id, Speech::As(Arc::new(origin)));
        }
        self
    }

    /// Has the rules take requests with TLS alone.
    pub(crate) fn tls_alone(mut self) -> Self {
        self.scheme = Some(Scheme::Https);
        self
    }

    /// Comes after what a gateway runs, with the same certificates.
    pub(crate) fn after(mut self, gateway: &Gateway) -> Self {
        let secret = Secret::random().unwrap();
        let tickets = Tickets::new(Keys::new(&secret, SystemTime::now()));
        self.certificates = gateway.certificates.clone();
        self.policies = Policies::new(self.certificates.clone(), tickets).unwrap();
        let before = gateway.engine.snapshot().generation();
        self.snapshot = SnapshotBuilder::new(Generation(before.0 + 1));
        self
    }

    /// Gives further routes ids past this many.
    pub(crate) fn skip_ids(mut self, count: u32) -> Self {
        self.routes += count;
        self
    }

    fn publication(self) -> Publication {
        let snapshot = self.snapshot.build(None).unwrap();
        let mut table = TableBuilder::new();
        for (host, id, policy) in self.rules {
            let everything = Match {
                scheme: self.scheme,
                host,
                path: "/".to_owned(),
                methods: Vec::new(),
                fields: Vec::new(),
            };
            let route = snapshot.routes().find(|route| route.id == id).unwrap();
            let rule = Rule {
                id,
                route: Arc::clone(route),
                action: Action::Proxy,
                policy: policy.into(),
            };
            table.rule(everything, rule);
        }
        let listener = Listener {
            network: self.only,
            ..listener(self.protocol)
        };
        Publication {
            http: table.build().unwrap(),
            snapshot,
            tls: self.tls,
            namespaces: [self.netns].into(),
            listeners: [(ListenerId(0), Arc::new(listener))].into(),
            ..Publication::default()
        }
    }

    pub(crate) fn start(self) -> Gateway {
        let (driver, protocol) = (self.driver, self.protocol);
        let certificates = self.certificates.clone();
        let mut publication = self.publication();
        let config = Config {
            driver,
            workers: Workers::Count(NonZeroU16::MIN),
            limits: Limits::default(),
            records: None,
            requests: None,
            challenges: engine::Challenges::default(),
            strangers: None,
            reserved: Vec::new(),
        };
        let bind = Bind {
            address: "127.0.0.1:0".parse().unwrap(),
            namespace: None,
        };
        let sockets = config.opening().bind(&bind, protocol).unwrap();
        publication.sockets.insert(ListenerId(0), sockets);
        let engine = Engine::start(config, publication).unwrap();
        let address = engine.address(ListenerId(0)).unwrap();
        Gateway {
            engine,
            certificates,
            address,
        }
    }
}

fn listener(protocol: Protocol) -> Listener {
    Listener {
        id: ListenerId(0),
        name: "test".into(),
        network: None,
        protocol,
        relay: RelayMode::Auto,
        accept_proxy_from: Vec::new(),
        connections_max: None,
        hello_timeout: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(1),
        idle_timeout: Duration::from_secs(30),
        keep_alive_timeout: Duration::from_secs(30),
        answer_timeout: Duration::from_secs(10),
        half_close: engine::HalfClose::Respond,
        trusted_proxies: Vec::new(),
    }
}

impl Gateway {
    pub(crate) fn publish(&mut self, setup: Setup) {
        self.engine.publish(setup.publication()).unwrap();
    }

    /// Waits until something is counted on the listener.
    pub(crate) fn until(&mut self, what: &str, is_so: impl Fn(&Counters) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self.engine.counters()) {
            assert!(
                Instant::now() < deadline,
                "not counted: {what}: {:?}",
                self.engine.counters().listeners
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn outcomes(&mut self, outcome: engine_core::outcome::Outcome, count: u64) {
        let index = outcome.index();
        self.until(outcome.label(), |counters| {
            counters.listeners[&ListenerId(0)].tally.outcomes[index] == count
        });
    }
}

/// A client's TLS configuration.
pub(crate) fn client(authority: &Authority, identity: Option<&Leaf>) -> Arc<ClientConfig> {
    client_with(authority, identity, &[b"http/1.1"])
}

pub(crate) fn client_with(
    authority: &Authority,
    identity: Option<&Leaf>,
    protocols: &[&[u8]],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der.clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some(leaf) => builder
            .with_client_auth_cert(vec![leaf.der.clone()], leaf.key())
            .unwrap(),
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    config.resumption = Resumption::in_memory_sessions(8);
    Arc::new(config)
}

pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    use rustls::crypto::aws_lc_rs::{default_provider, kx_group::X25519MLKEM768};
    let mut provider = default_provider();
    provider.kx_groups.insert(0, X25519MLKEM768);
    Arc::new(provider)
}

/// A TLS connection.
pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

pub(crate) fn connect(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Stream {
    secure(TcpStream::connect(address).unwrap(), config, name)
}

/// One whose kernel keeps little of what nobody reads.
#[allow(dead_code, reason = "the tests of what is used again need none")]
pub(crate) fn connect_narrow(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    name: &str,
) -> Stream {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let socket = runtime.enable_io().build().unwrap().block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 << 10).unwrap();
        socket.connect(address).await.unwrap().into_std().unwrap()
    });
    socket.set_nonblocking(false).unwrap();
    secure(socket, config, name)
}

fn secure(socket: TcpStream, config: &Arc<ClientConfig>, name: &str) -> Stream {
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_write_timeout(Some(PATIENCE)).unwrap();
    let name = name.to_owned().try_into().unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    StreamOwned::new(connection, socket)
}

/// An answer, read to the end of its content.
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) content: Vec<u8>,
}

impl Answer {
    pub(crate) fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.content).unwrap()
    }
}

/// Asks for `/` on a connection that stays open.
pub(crate) fn ask(stream: &mut (impl Read + Write), host: &str, fields: &str) -> Answer {
    write!(stream, "GET / HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n").unwrap();
    stream.flush().unwrap();
    read_answer(stream)
}

pub(crate) fn read_answer(stream: &mut impl Read) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        let read = stream.read_exact(&mut byte);
        assert!(read.is_ok(), "{read:?} behind {}", head.escape_ascii());
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.to_ascii_lowercase();
    let length = length
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut content = vec![0; length.unwrap().parse().unwrap()];
    stream.read_exact(&mut content).unwrap();
    Answer { head, content }
}

/// An upstream that answers each request with the request itself, for as long as the test runs. It
/// counts its connections.
pub(crate) struct Upstream {
    pub(crate) address: SocketAddr,
    pub(crate) accepted: Arc<AtomicUsize>,
}

impl Upstream {
    pub(crate) fn plain() -> Self {
        Self::start(echo)
    }

    pub(crate) fn tls(leaf: &Leaf, clients: Option<&Authority>) -> Self {
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.der.clone()).unwrap();
                let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                    Arc::new(roots),
                    provider(),
                );
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let config = builder
            .with_single_cert(vec![leaf.der.clone()], leaf.key())
            .unwrap();
        let config = Arc::new(config);
        Self::start(move |socket| {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            echo(StreamOwned::new(connection, socket));
        })
    }

    pub(crate) fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::<AtomicUsize>::default();
        let (count, serve) = (Arc::clone(&accepted), Arc::new(serve));
        thread::spawn(move || {
            for socket in listener.incoming() {
                count.fetch_add(1, Relaxed);
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(socket.unwrap()));
            }
        });
        Self { address, accepted }
    }

    pub(crate) fn connections(&self) -> usize {
        self.accepted.load(Relaxed)
    }
}

/// Answers with the head and the content of each request.
fn echo(stream: impl Read + Write) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match stream.read_line(&mut head) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("Content-Length: "));
        let mut content = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        if stream.read_exact(&mut content).is_err() {
            return;
        }
        let length = head.len() + content.len();
        let out = stream.get_mut();
        let answered = write!(
            out,
            "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{head}"
        )
        .and_then(|()| out.write_all(&content))
        .and_then(|()| out.flush());
        if answered.is_err() {
            return;
        }
    }
}
