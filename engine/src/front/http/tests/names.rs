//! Targets that are names, looked up with a name server in the test.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use engine_core::endpoint::Endpoint;
use engine_http::{
    health::{Check, Probe},
    rules::Policy,
};
use hickory_proto::{
    op::{Message, MessageType, OpCode, ResponseCode},
    rr::{RData, Record, RecordType, rdata::A},
};

use crate::{
    Failure,
    front::http::tests::{
        bench::{Gateway, Site, Upstream, body, eventually, ok, status},
        records::line,
    },
};

/// What a name server says of names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// As it is.
    Plain,
    /// Over UDP that the answer does not fit.
    Truncates,
    /// Somebody else's answers come first: with another id, and of another name.
    IsForged,
    /// Nothing.
    Silent,
    /// That it cannot.
    Fails,
}

pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    state: Arc<State>,
}

struct State {
    addresses: Mutex<HashMap<&'static str, (Vec<Ipv4Addr>, u32)>>,
    manner: Mutex<Manner>,
    asked: AtomicUsize,
    by_stream: AtomicUsize,
    is_over: AtomicBool,
}

impl NameServer {
    pub(crate) fn start() -> Self {
        let stream = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = stream.local_addr().unwrap();
        let socket = UdpSocket::bind(address).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(50)))
            .unwrap();
        let state = Arc::new(State {
            addresses: Mutex::default(),
            manner: Mutex::new(Manner::Plain),
            asked: AtomicUsize::new(0),
            by_stream: AtomicUsize::new(0),
            is_over: AtomicBool::new(false),
        });
        let shared = Arc::clone(&state);
        thread::spawn(move || shared.serve_datagrams(&socket));
        let shared = Arc::clone(&state);
        thread::spawn(move || shared.serve_streams(&stream));
        Self { address, state }
    }

    pub(crate) fn says(&self, name: &'static str, addresses: &[[u8; 4]], ttl: u32) {
        let addresses = addresses.iter().copied().map(Ipv4Addr::from).collect();
        let mut names = self.state.addresses.lock().unwrap();
        names.insert(name, (addresses, ttl));
    }

    fn forgets(&self, name: &str) {
        self.state.addresses.lock().unwrap().remove(name);
    }

    fn behaves(&self, manner: Manner) {
        *self.state.manner.lock().unwrap() = manner;
    }

    fn asked(&self) -> usize {
        self.state.asked.load(SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.state.is_over.store(true, SeqCst);
        drop(std::net::TcpStream::connect(self.address));
    }
}

impl State {
    fn serve_datagrams(&self, socket: &UdpSocket) {
        let mut bytes = [0; 512];
        while !self.is_over.load(SeqCst) {
            let Ok((count, from)) = socket.recv_from(&mut bytes) else {
                continue;
            };
            self.asked.fetch_add(1, SeqCst);
            let manner = *self.manner.lock().unwrap();
            if manner == Manner::Silent {
                continue;
            }
            let mut answer = self.answer(&bytes[..count]);
            if manner == Manner::Truncates {
                answer.metadata.truncation = true;
                answer.answers.clear();
            }
            if manner == Manner::IsForged {
                let mut forged = answer.clone();
                forged.metadata.id = !forged.metadata.id;
                socket.send_to(&forged.to_vec().unwrap(), from).unwrap();
                let mut forged = answer.clone();
                forged.queries[0].name = "evil.example.".parse().unwrap();
                socket.send_to(&forged.to_vec().unwrap(), from).unwrap();
                socket.send_to(b"nonsense", from).unwrap();
            }
            socket.send_to(&answer.to_vec().unwrap(), from).unwrap();
        }
    }

    fn serve_streams(&self, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.is_over.load(SeqCst) {
                return;
            }
            let mut stream = stream.unwrap();
            let mut length = [0; 2];
            if stream.read_exact(&mut length).is_err() {
                continue;
            }
            let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
            stream.read_exact(&mut question).unwrap();
            self.by_stream.fetch_add(1, SeqCst);
            let answer = self.answer(&question).to_vec().unwrap();
            let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
            stream.write_all(&[&length[..], &answer].concat()).unwrap();
        }
    }

    fn answer(&self, question: &[u8]) -> Message {
        let question = Message::from_vec(question).unwrap();
        let asked = question.queries[0].clone();
        let mut answer = Message::new(question.metadata.id, MessageType::Response, OpCode::Query);
        answer.add_query(asked.clone());
        if *self.manner.lock().unwrap() == Manner::Fails {
            answer.metadata.response_code = ResponseCode::ServFail;
            return answer;
        }
        let names = self.addresses.lock().unwrap();
        let name = asked.name.to_ascii();
        match names.get(name.trim_end_matches('.')) {
            None => answer.metadata.response_code = ResponseCode::NXDomain,
            Some((addresses, ttl)) if asked.query_type == RecordType::A => {
                for address in addresses {
                    let data = RData::A(A(*address));
                    answer.add_answer(Record::from_rdata(asked.name.clone(), *ttl, data));
                }
            }
            Some(_) => {}
        }
        answer
    }
}

/// Two servers on one port of two addresses of this machine.
fn two() -> (Upstream, Upstream, u16) {
    loop {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = one.local_addr().unwrap().port();
        if let Ok(two) = TcpListener::bind(("127.0.0.2", port)) {
            let one = Upstream::start_at(one, |_| ok("one"));
            return (one, Upstream::start_at(two, |_| ok("two")), port);
        }
    }
}

fn site(server: &NameServer, targets: &[&str], policy: Policy) -> Site {
    Site {
        targets: targets
            .iter()
            .map(|it| Endpoint::parse(it).unwrap())
            .collect(),
        name_servers: vec![server.address],
        ..Site::proxy(&[], policy)
    }
}

fn gateway(server: &NameServer, port: u16) -> Gateway {
    let target = format!("web.example:{port}");
    Gateway::start(site(server, &[&target], Policy::default()))
}

/// How the site's only target failed last.
fn failure(gateway: &Gateway) -> Option<&'static str> {
    let route = gateway.engine.snapshot().routes().next().unwrap();
    Failure::last_of(&route.targets[0]).map(|(failure, _)| failure.label())
}

fn is_failing(gateway: &Gateway) -> bool {
    let route = gateway.engine.snapshot().routes().next().unwrap();
    route.targets[0].health.is_failing()
}

#[test]
fn a_name_is_looked_up_once_for_many_requests_and_its_address_is_in_the_record() {
    let server = NameServer::start();
    let (one, _two, port) = two();
    server.says("web.example", &[[127, 0, 0, 1]], 60);
    let mut gateway = gateway(&server, port);
    for _ in 0..5 {
        assert_eq!(body(&gateway.get("/", "")), "one");
    }
    let shown = line(&gateway);
    assert_eq!(shown["upstream_addr"], one.address.to_string(), "{shown}");
    assert_eq!(server.asked(), 2, "both families, once");
    let lookups = gateway.engine.counters().lookups;
    assert_eq!(
        (lookups.lookups, lookups.failures, lookups.negative),
        (1, 0, 0)
    );
}

#[test]
fn a_change_of_addresses_is_followed_when_their_time_is_over() {
    let server = NameServer::start();
    let (_one, _two, port) = two();
    server.says("web.example", &[[127, 0, 0, 1]], 1);
    let gateway = gateway(&server, port);
    assert_eq!(body(&gateway.get("/", "")), "one");
    server.says("web.example", &[[127, 0, 0, 2]], 1);
    let deadline = Instant::now() + Duration::from_secs(5);
    while body(&gateway.get("/", "")) != "two" {
        assert!(Instant::now() < deadline);
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_last_good_address_is_used_while_the_server_is_dead_or_fails() {
    let server = NameServer::start();
    let (_one, _two, port) = two();
    server.says("web.example", &[[127, 0, 0, 1]], 1);
    let mut gateway = gateway(&server, port);
    assert_eq!(body(&gateway.get("/", "")), "one");
    for manner in [Manner::Fails, Manner::Silent] {
        server.behaves(manner);
        let until = Instant::now() + Duration::from_secs(3);
        while Instant::now() < until {
            let began = Instant::now();
            assert_eq!(body(&gateway.get("/", "")), "one");
            assert!(
                began.elapsed() < Duration::from_secs(1),
                "{:?}",
                began.elapsed()
            );
            thread::sleep(Duration::from_millis(100));
        }
    }
    eventually("failures are counted", || {
        gateway.engine.counters().lookups.failures > 0
    });
}

#[test]
fn a_name_that_is_gone_is_answered_503_with_the_reason_until_it_is_back() {
    let server = NameServer::start();
    let (_one, _two, port) = two();
    let mut gateway = gateway(&server, port);
    assert_eq!(status(&gateway.get("/", "")), 503);
    let shown = line(&gateway);
    assert_eq!(shown["reason"], "name_unknown", "{shown}");
    assert_eq!(failure(&gateway), Some("name_unknown"));
    assert!(is_failing(&gateway), "one failure is enough");
    assert!(gateway.engine.counters().lookups.negative > 0);
    server.says("web.example", &[[127, 0, 0, 1]], 60);
    eventually("it is back", || {
        thread::sleep(Duration::from_millis(100));
        body(&gateway.get("/", "")) == "one"
    });
    assert!(!is_failing(&gateway));
    server.forgets("web.example");
    assert_eq!(body(&gateway.get("/", "")), "one", "its time is not over");
}

#[test]
fn what_leads_nowhere_is_seen_without_a_request() {
    let server = NameServer::start();
    let gateway = gateway(&server, 9);
    eventually("it is seen", || {
        thread::sleep(Duration::from_millis(20));
        is_failing(&gateway)
    });
    assert_eq!(failure(&gateway), Some("name_unknown"));
}

#[test]
fn a_name_that_leads_to_the_gateway_itself_is_refused() {
    let server = NameServer::start();
    server.says("web.example", &[[127, 0, 0, 1]], 60);
    let mut gateway = gateway(&server, 9);
    let target = format!("web.example:{}", gateway.address.port());
    gateway.publish(site(&server, &[&target], Policy::default()));
    assert_eq!(status(&gateway.get("/", "")), 503);
    let shown = line(&gateway);
    assert_eq!(shown["reason"], "name_forbidden", "{shown}");
    let itself = gateway.address.to_string();
    assert_ne!(shown["upstream_addr"], itself, "{shown}");
}

#[test]
fn a_name_that_leads_to_where_the_process_listens_otherwise_is_refused() {
    let server = NameServer::start();
    let itself = Upstream::named("the API");
    let other = Upstream::named("other");
    server.says("web.example", &[[127, 0, 0, 1]], 60);
    let site = |port: u16| {
        let target = format!("web.example:{port}");
        site(&server, &[&target], Policy::default())
    };
    let (forbidden, allowed) = (itself.address.port(), other.address.port());
    let mut gateway = Gateway::reserving(site(forbidden), vec![itself.address]);
    assert_eq!(status(&gateway.get("/", "")), 503);
    let shown = line(&gateway);
    assert_eq!(shown["reason"], "name_forbidden", "{shown}");
    gateway.publish(site(allowed));
    assert_eq!(body(&gateway.get("/", "")), "other");
}

#[test]
fn localhost_is_this_machine_and_nobody_is_asked() {
    let server = NameServer::start();
    let (_one, _two, port) = two();
    let target = format!("localhost:{port}");
    let gateway = Gateway::start(site(&server, &[&target], Policy::default()));
    assert_eq!(body(&gateway.get("/", "")), "one");
    assert_eq!(server.asked(), 0);
}

#[test]
fn an_answer_that_does_not_fit_is_had_over_tcp_and_forged_ones_are_passed_over() {
    for manner in [Manner::Truncates, Manner::IsForged] {
        let server = NameServer::start();
        server.behaves(manner);
        let (_one, _two, port) = two();
        server.says("web.example", &[[127, 0, 0, 1]], 60);
        let gateway = gateway(&server, port);
        assert_eq!(body(&gateway.get("/", "")), "one");
        let by_stream = server.state.by_stream.load(SeqCst);
        assert_eq!(by_stream > 0, manner == Manner::Truncates);
    }
}

#[test]
fn a_name_may_stand_beside_addresses_and_nobody_waits_for_it() {
    let server = NameServer::start();
    server.behaves(Manner::Silent);
    let upstream = Upstream::named("addressed");
    let targets = ["web.example:80".to_owned(), upstream.address.to_string()];
    let targets = targets.each_ref().map(|target| &**target);
    let gateway = Gateway::start(site(&server, &targets, Policy::default()));
    for _ in 0..6 {
        let began = Instant::now();
        assert_eq!(body(&gateway.get("/", "")), "addressed");
        assert!(
            began.elapsed() < Duration::from_millis(500),
            "{:?}",
            began.elapsed()
        );
    }
}

#[test]
fn all_addresses_of_a_name_have_their_share_and_the_next_one_takes_over() {
    let server = NameServer::start();
    let (_one, _two, port) = two();
    server.says("web.example", &[[127, 0, 0, 1], [127, 0, 0, 2]], 60);
    let gateway = gateway(&server, port);
    let mut met: Vec<String> = (0..4)
        .map(|_| body(&gateway.get("/", "")).to_owned())
        .collect();
    met.sort();
    met.dedup();
    assert_eq!(met, ["one", "two"]);
    // Nobody listens at the second address of this one.
    server.says("half.example", &[[127, 0, 0, 1], [127, 0, 0, 3]], 60);
    let target = format!("half.example:{port}");
    let gateway = Gateway::start(site(&server, &[&target], Policy::default()));
    for _ in 0..4 {
        assert_eq!(body(&gateway.get("/", "")), "one");
    }
}

#[test]
fn checks_ask_every_address_and_those_that_fail_get_no_requests() {
    let server = NameServer::start();
    let port = {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap().port()
    };
    let two = TcpListener::bind(("127.0.0.2", port)).unwrap();
    let _two = Upstream::start_at(two, |_| ok("two"));
    server.says("web.example", &[[127, 0, 0, 1], [127, 0, 0, 2]], 60);
    let policy = Policy {
        check: Some(Check {
            probe: Probe::Tcp,
            interval: Duration::from_millis(50),
            timeout: Duration::from_secs(1),
            rise: 1,
            fall: 1,
        }),
        ..Policy::default()
    };
    let target = format!("web.example:{port}");
    let gateway = Gateway::start(site(&server, &[&target], policy));
    let health = || {
        gateway.engine.snapshot().routes().next().unwrap().targets[0]
            .health
            .clone()
    };
    let ip = |last| IpAddr::from([127, 0, 0, last]);
    eventually("one address is down", || {
        thread::sleep(Duration::from_millis(10));
        health().is_down_at(ip(1))
    });
    assert!(!health().is_down_at(ip(2)) && !health().is_down());
    assert_eq!(body(&gateway.get("/", "")), "two");
}
