//! Networks that move to another namespace, where somebody else has the same addresses.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
};

use bytes::Bytes;
use engine::{Origin, Protocol};
use engine_core::outcome::Outcome;
use engine_http::rules;
use engine_sys::netns::Netns;
use engine_tls::origin::{Settings, Trust};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::gateway::{Authority, Gateway, PATIENCE, Setup, ask, client, connect, provider};

/// What every namespace of these tests has somebody at.
const ADDRESS: &str = "127.0.0.1:8000";

/// How a target is spoken with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http1,
    Http2,
    Https,
    PassThrough,
}

/// A namespace with an upstream in it that answers with its own name, if it has one.
struct Home {
    netns: Arc<Netns>,
    accepted: Arc<AtomicUsize>,
}

impl Home {
    fn new(name: &'static str, kind: Kind, tls: &Arc<ServerConfig>) -> Self {
        let netns = Arc::new(Netns::create().unwrap());
        let up = || {
            Command::new("ip")
                .args(["link", "set", "lo", "up"])
                .status()
        };
        assert!(netns.run(up).unwrap().success());
        let listener = netns.enter(|| Ok(TcpListener::bind(ADDRESS)?.into()));
        let listener = TcpListener::from(listener.unwrap());
        let accepted = Arc::<AtomicUsize>::default();
        let (count, tls) = (Arc::clone(&accepted), Arc::clone(tls));
        thread::spawn(move || {
            for socket in listener.incoming() {
                count.fetch_add(1, Relaxed);
                let (socket, tls) = (socket.unwrap(), Arc::clone(&tls));
                thread::spawn(move || match kind {
                    Kind::Http1 => say_name(socket, name),
                    Kind::Http2 => say_name_in_http2(socket, name),
                    Kind::Https | Kind::PassThrough => {
                        let session = ServerConnection::new(tls).unwrap();
                        say_name(StreamOwned::new(session, socket), name);
                    }
                });
            }
        });
        Self { netns, accepted }
    }

    fn accepted(&self) -> usize {
        self.accepted.load(Relaxed)
    }
}

fn say_name(stream: impl Read + Write, name: &str) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match stream.read_line(&mut head) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        if name.is_empty() {
            continue;
        }
        let length = name.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{name}");
        let out = stream.get_mut();
        if out.write_all(answer.as_bytes()).is_err() || out.flush().is_err() {
            return;
        }
    }
}

fn say_name_in_http2(socket: TcpStream, name: &'static str) {
    socket.set_nonblocking(true).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(async {
        let socket = tokio::net::TcpStream::from_std(socket).unwrap();
        let mut connection = h2::server::handshake(socket).await.unwrap();
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let length = name.len();
            let head = http::Response::builder().header("content-length", length);
            let mut body = respond
                .send_response(head.body(()).unwrap(), false)
                .unwrap();
            body.send_data(Bytes::from_static(name.as_bytes()), true)
                .unwrap();
        }
    });
}

/// What a gateway of one network is made of.
struct Site {
    kind: Kind,
    authority: Authority,
    origin: Option<Arc<Origin>>,
}

impl Site {
    fn new(kind: Kind) -> (Self, Arc<ServerConfig>) {
        let authority = Authority::new("tenant");
        let leaf = authority.leaf(&["a.example"]);
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth();
        let config = builder.with_single_cert(vec![leaf.der.clone()], leaf.key());
        let settings = Settings {
            trust: Trust::Own(authority.roots()),
            ..Settings::default()
        };
        let origin = match kind {
            Kind::Http1 | Kind::PassThrough => None,
            Kind::Http2 => Some(Origin::http2()),
            Kind::Https => Some(Origin::tls(&settings, Some("a.example")).unwrap()),
        };
        let site = Self {
            kind,
            authority,
            origin: origin.map(Arc::new),
        };
        (site, Arc::new(config.unwrap()))
    }

    fn setup(&self, id: u32, home: &Home, before: Option<&Gateway>) -> Setup {
        let address: SocketAddr = ADDRESS.parse().unwrap();
        let begin = |protocol| {
            let setup = Setup::new(protocol).within(id, &home.netns);
            match before {
                Some(gateway) => setup.after(gateway),
                None => setup,
            }
        };
        if self.kind == Kind::PassThrough {
            let setup = begin(Protocol::Tls);
            return setup.pass("a.example", address);
        }
        let setup = begin(Protocol::Http).proxy_to(None, address, None, rules::Policy::default());
        match &self.origin {
            Some(origin) => setup.speaking(origin),
            None => setup,
        }
    }

    fn connect(&self, gateway: &Gateway) -> Box<dyn Stream> {
        if self.kind == Kind::PassThrough {
            let config = client(&self.authority, None);
            return Box::new(connect(gateway.address, &config, "a.example"));
        }
        let stream = TcpStream::connect(gateway.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Box::new(stream)
    }
}

trait Stream: Read + Write {}

impl<S: Read + Write> Stream for S {}

fn name(mut stream: &mut dyn Stream) -> String {
    ask(&mut stream, "a.example", "").text().to_owned()
}

/// A network that had namespace 0 has this one now, under this id.
fn moves(kind: Kind, id: u32) {
    let (site, tls) = Site::new(kind);
    let (first, second) = (
        Home::new("first", kind, &tls),
        Home::new("second", kind, &tls),
    );
    let mut gateway = site.setup(0, &first, None).start();
    let mut kept = site.connect(&gateway);
    assert_eq!(name(&mut *kept), "first", "{kind:?}");
    gateway.publish(site.setup(0, &first, Some(&gateway)));
    assert_eq!(name(&mut *kept), "first", "{kind:?}");
    assert_eq!(
        first.accepted(),
        1,
        "{kind:?}: nothing changed, so it is used on"
    );
    gateway.publish(site.setup(id, &second, Some(&gateway)));
    if kind == Kind::PassThrough {
        let ended = kept.read(&mut [0; 16]);
        assert!(ended.is_err(), "the flow leads elsewhere: {ended:?}");
        gateway.outcomes(Outcome::NetworkChanged, 1);
        kept = site.connect(&gateway);
    }
    for _ in 0..3 {
        assert_eq!(name(&mut *kept), "second", "{kind:?}");
    }
    assert_eq!((first.accepted(), second.accepted()), (1, 1), "{kind:?}");
}

const KINDS: [Kind; 4] = [Kind::Http1, Kind::Http2, Kind::Https, Kind::PassThrough];

#[test]
fn a_network_that_moved_leads_to_its_new_namespace_alone() {
    for kind in KINDS {
        moves(kind, 7);
    }
}

#[test]
fn a_namespace_that_was_made_again_is_another_one() {
    for kind in KINDS {
        moves(kind, 0);
    }
}

/// A request that waits for its answer in the namespace that its network left is not waited for.
#[test]
fn a_request_under_way_ends_when_its_network_moves() {
    let (site, tls) = Site::new(Kind::Http1);
    let silent = Home::new("", Kind::Http1, &tls);
    let second = Home::new("second", Kind::Http1, &tls);
    let mut gateway = site.setup(0, &silent, None).start();
    let mut waiting = TcpStream::connect(gateway.address).unwrap();
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(waiting, "GET / HTTP/1.1\r\nHost: a.example\r\n").unwrap();
    write!(waiting, "Content-Length: 10\r\n\r\n").unwrap();
    while silent.accepted() == 0 {
        thread::yield_now();
    }
    gateway.publish(site.setup(0, &second, Some(&gateway)));
    let ended = waiting.read(&mut [0; 16]);
    assert!(ended.is_err() || ended.is_ok_and(|count| count == 0));
    gateway.outcomes(Outcome::NetworkChanged, 1);
}

/// What leaves from an address that is gone would wait for answers that cannot reach it.
#[test]
fn connections_from_an_address_that_is_gone_end_at_once() {
    for kind in KINDS {
        let (site, tls) = Site::new(kind);
        let home = Home::new("home", kind, &tls);
        let mut gateway = site.setup(0, &home, None).start();
        let mut kept = site.connect(&gateway);
        assert_eq!(name(&mut *kept), "home", "{kind:?}");
        let end = |gateway: &Gateway, address: &str| {
            let gone = [address.parse().unwrap()].into();
            gateway.engine.end_addresses(home.netns.identity(), gone);
        };
        end(&gateway, "127.0.0.9");
        assert_eq!(name(&mut *kept), "home", "{kind:?}");
        assert_eq!(
            home.accepted(),
            1,
            "{kind:?}: it leaves from another address"
        );
        end(&gateway, "127.0.0.1");
        if kind == Kind::PassThrough {
            assert!(read_to_end(&mut *kept).is_err());
            gateway.outcomes(Outcome::NetworkChanged, 1);
            kept = site.connect(&gateway);
        } else {
            gateway.engine.counters();
        }
        assert_eq!(name(&mut *kept), "home", "{kind:?}");
        assert_eq!(home.accepted(), 2, "{kind:?}");
    }
}

fn read_to_end(stream: &mut dyn Stream) -> std::io::Result<usize> {
    stream.read(&mut [0; 16])
}
