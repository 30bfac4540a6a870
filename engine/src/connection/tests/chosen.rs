//! Destinations that clients choose, taken through all stages: resolve, admit, dial, relay, account.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    num::NonZeroU32,
    process::Command,
    sync::atomic::AtomicU64,
    thread::{self, JoinHandle},
};

use crossbeam_channel::{Receiver, bounded};
use engine_core::{
    admit::Sources,
    balance::{Balance, Load},
    destination::{Chosen, Policy},
    endpoint::{Endpoint, Unresolved},
    ids::{Generation, ListenerId, NetnsId, NetworkId, RouteId, WorkerId},
    snapshot::{Network, Route, SnapshotBuilder, Target},
};
use engine_sys::netns::Netns;

use super::super::*;
use crate::{
    Record,
    context::{
        Shared,
        challenge::Challenges,
        config::Limits,
        listener::{Listener, Sockets},
        snapshot::{Bound, Publication},
        tls::Tls,
    },
    front::http::tests::{
        bench::{PATIENCE, listener},
        names::NameServer,
    },
    rt::Driver,
};

const HOST: NetworkId = NetworkId(0);
const TENANT: NetworkId = NetworkId(7);
const POLICY: RouteId = RouteId(70);

/// The tenant's own address, beside loopback.
const ADDRESS: [u8; 4] = [10, 9, 0, 1];

/// A worker of a gateway that serves a tenant and the host.
struct World {
    worker: Rc<WorkerContext>,
    pools: Rc<Pools>,
    tenant: Arc<Netns>,
    networks: HashMap<NetworkId, Arc<Network>>,
    records: Receiver<Record>,
}

/// What a world is set up with.
#[derive(Default)]
struct Setup {
    connections_max: Option<NonZeroU32>,
    name_servers: Vec<SocketAddr>,
    /// Where a listener of the tenant's network, one of the host's and the process itself listen.
    bound: [Option<SocketAddr>; 3],
}

/// A namespace with an address of its own.
fn namespace() -> Arc<Netns> {
    let netns = Arc::new(Netns::create().unwrap());
    let address = format!("{}/32", IpAddr::from(ADDRESS));
    for arguments in [
        &["link", "set", "lo", "up"][..],
        &["address", "add", &address, "dev", "lo"],
    ] {
        let run = || Command::new("ip").args(arguments).status();
        assert!(netns.run(run).unwrap().success());
    }
    netns
}

impl World {
    fn new(tenant: Arc<Netns>, setup: Setup) -> Self {
        let limits = Limits {
            connections_per_network_max: setup.connections_max,
            ..Limits::default()
        };
        let (sender, records) = bounded(16);
        let [own, of_host, of_process] = setup.bound;
        let reserved = of_process.into_iter().map(|address| Bound {
            address,
            network: None,
        });
        let shared = Shared {
            limits,
            gateway_load: Load::default(),
            sources: Sources::new(None, None, 0),
            started_at: Instant::now(),
            run_id: 0,
            connections: AtomicU64::new(0),
            records: Some(sender),
            requests: None,
            challenges: Challenges::default(),
            strangers: None,
            reserved: reserved.collect(),
        };
        let network = |id: NetworkId, netns| {
            Arc::new(Network {
                id,
                name: format!("network-{id}").into(),
                netns: NetnsId(netns),
                live: Load::default(),
            })
        };
        let networks = HashMap::from([(HOST, network(HOST, 0)), (TENANT, network(TENANT, 1))]);
        let listeners = [(own, Some(TENANT)), (of_host, None)];
        let listeners = (1..).map(ListenerId).zip(listeners);
        let bound = listeners.clone().filter_map(|(id, (address, _))| {
            let (address, each) = (address?, Vec::new());
            Some((id, Sockets { address, each }))
        });
        let sockets: HashMap<_, _> = bound.collect();
        let declared = listeners.map(|(id, (_, network))| Listener {
            id,
            network,
            ..listener()
        });
        let here = Arc::new(Netns::current().unwrap());
        let publication = Publication {
            snapshot: SnapshotBuilder::new(Generation(1)).build(None).unwrap(),
            http: engine_http::rules::Table::default(),
            tls: Tls::default(),
            namespaces: [(NetnsId(0), here), (NetnsId(1), Arc::clone(&tenant))]
                .into_iter()
                .collect(),
            name_servers: [(TENANT, setup.name_servers.into())].into_iter().collect(),
            listeners: declared
                .chain([listener()])
                .map(|it| (it.id, Arc::new(it)))
                .collect(),
            sockets: HashMap::new(),
        };
        let nothing = Published::default();
        let (published, _) = nothing.after(publication, &sockets, |_| Load::default(), 1);
        let pools = Rc::new(Pools::new(&shared.limits));
        let worker = WorkerContext::new(WorkerId(0), Arc::new(shared), Arc::new(published));
        Self {
            worker: Rc::new(worker),
            pools,
            tenant,
            networks,
            records,
        }
    }

    /// Takes a connection of a client to a destination, and accounts it.
    async fn serve(&self, client: Readiness, destination: Destination<'_>) {
        let current = self.worker.current();
        let listening = current.0.listeners.get(&ListenerId(0)).unwrap().clone();
        let now = Instant::now();
        let peer = SocketAddr::from(([192, 0, 2, 1], 9));
        let mut open = Open {
            worker: Rc::clone(&self.worker),
            listener: Rc::new(listening),
            trace: Trace::new(peer, now),
            streams: Streams::of(Rc::new(Transport::plain(client))),
            outcome: Outcome::Drained,
        };
        let place = self.worker.live.enter();
        let connection = Connection {
            client: ClientFlow {
                flow: FlowContext {
                    worker: &open.worker,
                    listener: &open.listener,
                    slot: place.slot(),
                },
                streams: &open.streams,
            },
            pools: &self.pools,
        };
        let trace = &mut open.trace;
        let stages = pin!(async {
            let current = self.worker.current();
            let endpoints = Endpoints {
                client: peer,
                dialed: None,
            };
            let introduction = Introduction {
                endpoints,
                hello: None,
            };
            let first = (Received::new(PATIENCE), introduction);
            let to = (&*current.0, destination);
            let reached = reach(&connection, to, first, trace).await?;
            Ok(pass_on(&connection, reached, trace).await)
        });
        open.outcome = place.supervise(stages).await;
        open.streams.hang_up(open.outcome);
    }

    /// Serves a client that asks for a destination of a network, and says what became of it and what the
    /// client got.
    fn ask(&self, network: NetworkId, to: &str) -> (Record, String) {
        let chosen = self.chosen(network, to);
        self.run(Destination::Chosen(&chosen))
    }

    fn chosen(&self, network: NetworkId, to: &str) -> Chosen {
        let policy = Policy {
            id: POLICY,
            label: "egress".into(),
        };
        let to = Endpoint::parse(to).unwrap();
        Chosen::new(&self.networks[&network], &policy, to)
    }

    fn run(&self, destination: Destination<'_>) -> (Record, String) {
        let (client, ours) = pair();
        let client = thread::spawn(move || converse(client));
        let served = async {
            let ours = Readiness::new(ours.into()).unwrap();
            self.serve(ours, destination).await;
        };
        rt::run(Driver::Epoll, served).unwrap();
        let record = self.records.recv_timeout(PATIENCE).unwrap();
        (record, client.join().unwrap())
    }

    /// Why a destination was refused.
    fn refusal(&self, network: NetworkId, to: &str) -> Option<&'static str> {
        let (record, got) = self.ask(network, to);
        assert_eq!((record.target, &*got), (None, ""), "{to}");
        assert_eq!(record.outcome, Outcome::Unresolved, "{to}");
        record.reason
    }
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (ours, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    (client, ours)
}

/// Sends a word, and gives all that comes back.
fn converse(mut client: TcpStream) -> String {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut got = String::new();
    // A connection that was refused may be gone already.
    let _ = client.write_all(b"hello").and_then(|()| {
        client.shutdown(Shutdown::Write)?;
        client.read_to_string(&mut got)
    });
    got
}

/// A listener in a namespace.
fn listen(netns: &Netns, address: [u8; 4]) -> TcpListener {
    let open = || Ok(TcpListener::bind((IpAddr::from(address), 0))?.into());
    netns.enter(open).unwrap().into()
}

/// Answers one connection with what it said, in capitals.
fn answer(listener: TcpListener) -> JoinHandle<()> {
    thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut said = String::new();
        socket.read_to_string(&mut said).unwrap();
        socket.write_all(said.to_uppercase().as_bytes()).unwrap();
    })
}

#[test]
fn an_address_is_dialed_in_the_networks_namespace_and_counted_for_the_network() {
    let world = World::new(namespace(), Setup::default());
    let listener = listen(&world.tenant, ADDRESS);
    let address = listener.local_addr().unwrap();
    let target = answer(listener);
    let (record, got) = world.ask(TENANT, &address.to_string());
    target.join().unwrap();
    assert_eq!((&*got, record.outcome), ("HELLO", Outcome::Done));
    assert_eq!(record.target, Some(address));
    assert_eq!(
        (record.network.as_deref(), record.route.as_deref()),
        (Some("network-7"), Some("egress"))
    );
    assert_eq!((record.bytes_in, record.bytes_out), (5, 5));
    let report = world.worker.ledger.report();
    let [(name, tally)] = &*report.routes else {
        panic!("{:?}", report.routes);
    };
    assert_eq!((name.id, name.network), (POLICY, TENANT));
    assert_eq!((tally.opened, tally.closed), (1, 1));
    assert_eq!((tally.bytes_in, tally.bytes_out), (5, 5));
    assert_eq!(world.networks[&TENANT].live.live(), 0);
}

#[test]
fn a_name_is_looked_up_with_the_networks_servers_from_inside_its_namespace() {
    let tenant = namespace();
    let server = tenant.run(|| Ok(NameServer::start())).unwrap();
    server.says("db.example", &[ADDRESS], 60);
    server.says("loop.example", &[[127, 0, 0, 1]], 60);
    server.says("link.example", &[[169, 254, 169, 254]], 60);
    let setup = Setup {
        name_servers: vec![server.address],
        ..Setup::default()
    };
    let world = World::new(tenant, setup);
    let listener = listen(&world.tenant, ADDRESS);
    let address = listener.local_addr().unwrap();
    let target = answer(listener);
    let (record, got) = world.ask(TENANT, &format!("db.example:{}", address.port()));
    target.join().unwrap();
    assert_eq!((&*got, record.target), ("HELLO", Some(address)));
    assert_eq!(record.network.as_deref(), Some("network-7"));
    let forbidden = Some(Unresolved::Forbidden.label());
    for name in ["loop.example", "link.example"] {
        assert_eq!(world.refusal(TENANT, &format!("{name}:80")), forbidden);
    }
    let unknown = Some(Unresolved::Unknown.label());
    assert_eq!(world.refusal(TENANT, "none.example:80"), unknown);
}

#[test]
fn loopback_and_link_local_are_no_tenants_to_choose() {
    let world = World::new(namespace(), Setup::default());
    // Somebody is there.
    let there = listen(&world.tenant, [127, 0, 0, 1]);
    there.set_nonblocking(true).unwrap();
    let port = there.local_addr().unwrap().port();
    for ip in [
        "127.0.0.1",
        "127.9.9.9",
        "0.0.0.0",
        "169.254.169.254",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[fe80::1]",
    ] {
        let refusal = world.refusal(TENANT, &format!("{ip}:{port}"));
        assert_eq!(refusal, Some(Unresolved::Forbidden.label()), "{ip}");
    }
    assert!(there.accept().is_err(), "nobody was dialed");
    // What is the host's own is a matter of its rules.
    let here = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = here.local_addr().unwrap();
    let target = answer(here);
    let (record, got) = world.ask(HOST, &address.to_string());
    target.join().unwrap();
    assert_eq!((&*got, record.target), ("HELLO", Some(address)));
}

#[test]
fn what_the_gateway_listens_at_is_nobodys_to_choose() {
    let tenant = namespace();
    let everywhere = listen(&tenant, [0; 4]);
    let [of_host, of_process] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let address = |listener: &TcpListener| listener.local_addr().unwrap();
    let setup = Setup {
        bound: [&everywhere, &of_host, &of_process].map(|it| Some(address(it))),
        ..Setup::default()
    };
    let world = World::new(tenant, setup);
    let forbidden = Some(Unresolved::Forbidden.label());
    let own = SocketAddr::from((ADDRESS, address(&everywhere).port()));
    for (network, listener, to) in [
        (TENANT, everywhere, own.to_string()),
        (
            HOST,
            of_host.try_clone().unwrap(),
            address(&of_host).to_string(),
        ),
        (
            HOST,
            of_process.try_clone().unwrap(),
            address(&of_process).to_string(),
        ),
    ] {
        assert_eq!(world.refusal(network, &to), forbidden, "{to}");
        listener.set_nonblocking(true).unwrap();
        assert!(listener.accept().is_err(), "{to} was dialed");
    }
    // The same address is another machine's in the tenant's namespace, on a port of the host's.
    let port = address(&of_host).port();
    let open = || Ok(TcpListener::bind((IpAddr::from(ADDRESS), port))?.into());
    let target = answer(world.tenant.enter(open).unwrap().into());
    let (_, got) = world.ask(TENANT, &SocketAddr::from((ADDRESS, port)).to_string());
    target.join().unwrap();
    assert_eq!(got, "HELLO");
}

#[test]
fn routes_and_chosen_destinations_share_the_cap_of_their_network() {
    let setup = Setup {
        connections_max: NonZeroU32::new(1),
        ..Setup::default()
    };
    let world = World::new(namespace(), setup);
    let listener = listen(&world.tenant, ADDRESS);
    let to = listener.local_addr().unwrap().to_string();
    let route = Route {
        id: RouteId(1),
        label: "route".into(),
        network: world.networks[&TENANT].clone(),
        targets: vec![Target::new(Endpoint::parse(&to).unwrap())],
        balance: Balance::default(),
    };
    let chosen = world.chosen(TENANT, &to);
    for (held, other) in [
        (Destination::Route(&route), Destination::Chosen(&chosen)),
        (Destination::Chosen(&chosen), Destination::Route(&route)),
    ] {
        let place = world.worker.live.enter();
        let current = world.worker.current();
        let listening = current.0.listeners.get(&ListenerId(0)).unwrap().clone();
        let listening = Rc::new(listening);
        let flow = FlowContext {
            worker: &world.worker,
            listener: &listening,
            slot: place.slot(),
        };
        let mut trace = Trace::new(([192, 0, 2, 1], 9).into(), Instant::now());
        let permit = admit_network(&flow, held, &mut trace).unwrap();
        let (record, got) = world.run(other);
        assert_eq!((record.outcome, &*got), (Outcome::NetworkLimit, ""));
        drop(permit);
    }
    let target = answer(listener);
    let (record, got) = world.ask(TENANT, &to);
    target.join().unwrap();
    assert_eq!((&*got, record.outcome), ("HELLO", Outcome::Done));
}
