use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    num::{NonZeroU16, NonZeroU32},
    thread,
    time::Duration,
};

use engine_core::{
    balance::{Balance, Load},
    ids::{Generation, NetnsId, NetworkId, RouteId},
    outcome::Outcome,
    snapshot::{Network, Route, SnapshotBuilder, Target},
};
use engine_sys::netns::Netns;

use super::*;
use crate::{
    Bind, Config, DriverChoice, Engine, HalfClose, Limits, Listener, Protocol, Publication,
    RelayMode, Workers,
    front::http::tests::bench::{PATIENCE, eventually},
};

/// An engine of one worker, which sends what comes to a server that sends it back.
struct Bench {
    engine: Engine,
    target: SocketAddr,
    generation: u64,
}

fn config() -> Config {
    Config {
        driver: DriverChoice::Auto,
        workers: Workers::Count(NonZeroU16::MIN),
        limits: Limits {
            // Queues last for a while.
            accept_batch_max: 1,
            ..Limits::default()
        },
        records: None,
        requests: None,
        challenges: crate::Challenges::default(),
        strangers: None,
        reserved: Vec::new(),
    }
}

fn listener(id: u32) -> Listener {
    Listener {
        id: ListenerId(id),
        name: format!("listener-{id}").into(),
        network: None,
        protocol: Protocol::Tcp,
        relay: RelayMode::Auto,
        accept_proxy_from: Vec::new(),
        connections_max: None,
        hello_timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(60),
        keep_alive_timeout: Duration::from_secs(60),
        answer_timeout: Duration::from_secs(60),
        half_close: HalfClose::Respond,
        trusted_proxies: Vec::new(),
    }
}

fn sockets() -> Sockets {
    let bind = Bind {
        address: "127.0.0.1:0".parse().unwrap(),
        namespace: None,
    };
    config().opening().bind(&bind, Protocol::Tcp).unwrap()
}

/// Each listener leads to the target by a route of its own.
fn publication(generation: u64, listeners: &[Listener], target: SocketAddr) -> Publication {
    let mut snapshot = SnapshotBuilder::new(Generation(generation));
    let network = Arc::new(Network {
        id: NetworkId(1),
        name: "network-1".into(),
        netns: NetnsId(0),
        live: Load::default(),
    });
    // With or without listeners.
    snapshot.network(&network);
    for listener in listeners {
        let route = RouteId(listener.id.0);
        snapshot.route(Route {
            id: route,
            label: listener.name.clone(),
            network: network.clone(),
            targets: vec![Target::new(target)],
            balance: Balance::default(),
        });
        snapshot.fixed(listener.id, route);
    }
    Publication {
        snapshot: snapshot.build(None).unwrap(),
        namespaces: [(NetnsId(0), Arc::new(Netns::current().unwrap()))].into(),
        listeners: listeners
            .iter()
            .map(|it| (it.id, Arc::new(it.clone())))
            .collect(),
        ..Publication::default()
    }
}

impl Bench {
    /// One without a listener.
    fn start() -> Self {
        let echo = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = echo.local_addr().unwrap();
        thread::spawn(move || {
            for stream in echo.incoming() {
                thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    let mut copy = stream.try_clone().unwrap();
                    // A reset ends it as well.
                    let _ = std::io::copy(&mut stream, &mut copy);
                });
            }
        });
        let engine = Engine::start(config(), publication(1, &[], target)).unwrap();
        Self {
            engine,
            target,
            generation: 1,
        }
    }

    fn publish(&mut self, listeners: &[Listener], sockets: Vec<(u32, Sockets)>) {
        self.generation += 1;
        let mut publication = publication(self.generation, listeners, self.target);
        let sockets = sockets.into_iter();
        publication.sockets = sockets.map(|(id, it)| (ListenerId(id), it)).collect();
        self.engine.publish(publication).unwrap();
    }

    fn address(&self, id: u32) -> SocketAddr {
        self.engine.address(ListenerId(id)).unwrap()
    }

    fn tally(&mut self, id: u32) -> Option<crate::ListenerTally> {
        let counted = self.engine.counters().listeners.get(&ListenerId(id));
        counted.map(|counted| counted.tally.clone())
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

/// Whether what is sent comes back.
fn is_served(client: &mut TcpStream) -> bool {
    let mut came = [0; 5];
    client.write_all(b"hello").is_ok() && client.read_exact(&mut came).is_ok() && &came == b"hello"
}

#[test]
fn a_listener_that_comes_is_served_beside_the_others() {
    let mut bench = Bench::start();
    bench.publish(&[listener(1)], vec![(1, sockets())]);
    let mut first = connect(bench.address(1));
    assert!(is_served(&mut first));
    bench.publish(&[listener(1), listener(2)], vec![(2, sockets())]);
    assert!(is_served(&mut connect(bench.address(2))));
    assert!(is_served(&mut connect(bench.address(1))));
    assert!(is_served(&mut first));
    eventually("what each accepted is counted", || {
        [2, 1] == [1, 2].map(|id| bench.tally(id).unwrap().accepted)
    });
}

#[test]
fn a_listener_that_goes_takes_its_queue_and_leaves_its_connections_alone() {
    let mut bench = Bench::start();
    let sockets = sockets();
    let address = sockets.address;
    // They wait in the kernel's queue until the listener is published, and some of them longer.
    let mut waiting: Vec<TcpStream> = (0..100).map(|_| connect(address)).collect();
    bench.publish(&[listener(1)], vec![(1, sockets)]);
    bench.publish(&[], vec![]);
    assert_eq!(bench.engine.address(ListenerId(1)), None);
    let refused = TcpStream::connect(address).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    for client in &mut waiting {
        assert!(is_served(client));
    }
    assert_eq!(bench.tally(1).unwrap().accepted, 100);
    waiting.truncate(1);
    eventually("the others have ended", || {
        bench.tally(1).unwrap().live() == 1
    });
    assert!(is_served(&mut waiting[0]));
    waiting.clear();
    eventually("nothing is left of it", || bench.tally(1).is_none());
}

#[test]
fn other_sockets_take_the_place_of_those_before() {
    let mut bench = Bench::start();
    bench.publish(&[listener(1)], vec![(1, sockets())]);
    let before = bench.address(1);
    let mut client = connect(before);
    assert!(is_served(&mut client));
    bench.publish(&[listener(1)], vec![(1, sockets())]);
    assert!(TcpStream::connect(before).is_err());
    assert!(is_served(&mut connect(bench.address(1))));
    assert!(is_served(&mut client));
    eventually("both are the listener's", || {
        bench.tally(1).unwrap().accepted == 2
    });
}

#[test]
fn what_a_publication_says_of_a_listener_holds_for_what_comes_then() {
    let mut bench = Bench::start();
    bench.publish(&[listener(1)], vec![(1, sockets())]);
    let mut clients = [connect(bench.address(1)), connect(bench.address(1))];
    assert!(clients.iter_mut().all(is_served));
    let capped = Listener {
        connections_max: NonZeroU32::new(1),
        ..listener(1)
    };
    bench.publish(std::slice::from_ref(&capped), vec![]);
    let mut first = connect(bench.address(1));
    assert!(
        is_served(&mut first),
        "those before are not counted against it"
    );
    assert!(!is_served(&mut connect(bench.address(1))));
    // A publication that says the same again forgets nobody.
    bench.publish(&[capped], vec![]);
    assert!(!is_served(&mut connect(bench.address(1))));
    assert!(clients.iter_mut().all(is_served));
    let limit = Outcome::ListenerLimit.index();
    eventually("it is counted", || {
        bench.tally(1).unwrap().outcomes[limit] == 2
    });
}

#[test]
fn whoever_drains_listens_no_more() {
    let mut bench = Bench::start();
    bench.publish(&[listener(1)], vec![(1, sockets())]);
    let mut client = connect(bench.address(1));
    assert!(is_served(&mut client));
    let deadline = std::time::Instant::now() + PATIENCE;
    let _draining = bench.engine.begin_drain(deadline);
    bench.publish(&[listener(1), listener(2)], vec![(2, sockets())]);
    assert!(TcpStream::connect(bench.address(2)).is_err());
    assert!(is_served(&mut client));
}

#[test]
fn a_listener_that_comes_back_still_counts_the_connections_that_it_had() {
    let mut bench = Bench::start();
    let capped = [Listener {
        connections_max: NonZeroU32::new(1),
        ..listener(1)
    }];
    bench.publish(&capped, vec![(1, sockets())]);
    let mut client = connect(bench.address(1));
    assert!(is_served(&mut client));
    bench.publish(&[], vec![]);
    bench.publish(&capped, vec![(1, sockets())]);
    assert!(is_served(&mut client));
    assert!(!is_served(&mut connect(bench.address(1))));
    drop(client);
    eventually("there is room again", || {
        is_served(&mut connect(bench.address(1)))
    });
}
