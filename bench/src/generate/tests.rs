//! The generators against their own servers, and against a relay that breaks what it carries:
//! what breaks data must never pass for a good result.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use super::{serve::Counters, *};

fn load() -> Load {
    Load {
        connect: SocketAddr::from(([127, 0, 0, 1], 1)),
        connections: 7,
        threads: 3,
        seconds: 1.0,
        warmup: 0.0,
        json: true,
    }
}

#[test]
fn every_connection_belongs_to_one_thread() {
    let load = load();
    let shares: Vec<_> = (0..load.threads).map(|n| load.share(n)).collect();
    assert_eq!(shares, [3, 2, 2]);
}

#[test]
fn a_load_without_time_is_refused() {
    for seconds in [0.0, -1.0, f64::NAN] {
        assert!(Load { seconds, ..load() }.window().is_err());
    }
}

#[test]
fn many_names_give_a_bounded_number_of_different_hellos() {
    let names = Names {
        name: Some("bench.test".into()),
        names: 100_000,
    };
    let mut hellos = names.hellos();
    assert_eq!(hellos.len(), HELLOS_MAX as usize);
    hellos.sort();
    hellos.dedup();
    assert_eq!(hellos.len(), HELLOS_MAX as usize);
}

#[test]
fn a_panicking_thread_is_an_error() {
    let result = on_threads(1, |_| -> Result<()> { panic!("on purpose") }, || Ok(()));
    assert!(result.is_err());
}

/// How the relay under test changes what clients send.
#[derive(Clone, Copy)]
enum Damage {
    None,
    /// One byte of every 100,000 is another one.
    Flip,
    /// One byte of every 100,000 is missing.
    Drop,
}

const DAMAGE_EVERY: usize = 100_000;

/// Starts a relay on threads, and gives its address.
fn relay(to: SocketAddr, damage: Damage) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let client = client.unwrap();
            let upstream = TcpStream::connect(to).unwrap();
            let back = (upstream.try_clone().unwrap(), client.try_clone().unwrap());
            thread::spawn(move || carry(client, upstream, damage));
            thread::spawn(move || carry(back.0, back.1, Damage::None));
        }
    });
    address
}

fn carry(mut from: TcpStream, mut to: TcpStream, damage: Damage) {
    let mut buffer = vec![0; 64 * 1024];
    let mut passed = 0;
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let mut piece = buffer[..count].to_vec();
        if passed / DAMAGE_EVERY != (passed + count) / DAMAGE_EVERY {
            match damage {
                Damage::None => {}
                Damage::Flip => piece[0] ^= 1,
                Damage::Drop => drop(piece.remove(0)),
            }
        }
        passed += count;
        if to.write_all(&piece).is_err() {
            return;
        }
    }
    let _ = to.shutdown(std::net::Shutdown::Write);
}

fn server(
    client_first: bool,
    serve: impl FnOnce(TcpListener, &'static Counters) -> Result<()> + Send + 'static,
) -> (SocketAddr, &'static Counters) {
    let mut listeners = serve::open("127.0.0.1:0".parse().unwrap(), 1, client_first).unwrap();
    let listener = listeners.pop().unwrap();
    let address = listener.local_addr().unwrap();
    let counters = Counters::new();
    thread::spawn(move || serve(listener, counters));
    (address, counters)
}

fn short(connect: SocketAddr) -> Load {
    Load {
        connect,
        connections: 4,
        threads: 2,
        seconds: 0.3,
        warmup: 0.05,
        json: false,
    }
}

fn no_names() -> Names {
    Names {
        name: None,
        names: 1,
    }
}

fn some_names() -> Names {
    Names {
        name: Some("a.test".into()),
        names: 3,
    }
}

fn exchange(connect: SocketAddr, rate: Option<f64>) -> event::Measured {
    let client = exchange::Exchange {
        load: short(connect),
        names: some_names(),
        bytes: 200,
        rate,
    };
    let connections = client.open().unwrap();
    client.measure(connections, Announcer::new(false)).unwrap()
}

fn source(connect: SocketAddr) -> event::Measured {
    let client = source::Source {
        load: short(connect),
        names: no_names(),
    };
    client.measure(Announcer::new(false)).unwrap()
}

fn hello(connect: SocketAddr) -> event::Measured {
    let client = hello::Hello {
        load: short(connect),
        names: some_names(),
    };
    client.measure(Announcer::new(false)).unwrap()
}

#[test]
fn exchanges_through_a_good_relay_are_all_right() {
    let (echo, _) = server(false, |listener, counters| {
        echo::serve(&listener, false, counters)
    });
    let result = exchange(relay(echo, Damage::None), None);
    assert!(result.operations > 10, "{result:?}");
    assert_eq!((result.wrong, result.failed), (0, 0), "{result:?}");
    assert!(result.latency.unwrap().p50 > 0.0);
}

#[test]
fn a_changed_message_is_a_wrong_answer() {
    let (echo, _) = server(false, |listener, counters| {
        echo::serve(&listener, false, counters)
    });
    let result = exchange(relay(echo, Damage::Flip), None);
    assert!(result.wrong > 0, "{result:?}");
}

#[test]
fn exchanges_at_a_fixed_rate_keep_to_it() {
    let (echo, _) = server(false, |listener, counters| {
        echo::serve(&listener, false, counters)
    });
    let result = exchange(echo, Some(1000.0));
    let asked = 1000.0 * result.seconds;
    assert!(
        (result.operations as f64 - asked).abs() <= 3.0,
        "{result:?}"
    );
}

#[test]
fn a_server_that_never_answers_shows_in_the_latency_of_a_fixed_rate() {
    let (sink, _) = server(false, |listener, counters| {
        sink::take_flows(&listener, 0, counters)
    });
    let client = exchange::Exchange {
        load: short(sink),
        names: no_names(),
        bytes: 200,
        rate: Some(100.0),
    };
    let connections = client.open().unwrap();
    let result = client.measure(connections, Announcer::new(false)).unwrap();
    assert_eq!(result.operations, 0);
    assert!((29..=31).contains(&result.failed), "{result:?}");
    assert!(result.latency.unwrap().p50 > 1e6, "{result:?}");
}

#[test]
fn a_good_relay_carries_bulk_flows_exactly() {
    let (sink, counters) = server(false, |listener, counters| {
        sink::take_flows(&listener, 0, counters)
    });
    let result = source(relay(sink, Damage::None));
    assert_eq!(result.operations, 4, "{result:?}");
    assert_eq!(counters.count().bytes, result.bytes);
    assert_eq!(counters.count().wrong, 0);
    assert!(result.measured_bytes > 0 && result.measured_bytes < result.bytes);
}

#[test]
fn a_lost_byte_of_a_bulk_flow_is_noticed_by_count_and_by_pattern() {
    let (sink, counters) = server(false, |listener, counters| {
        sink::take_flows(&listener, 0, counters)
    });
    let result = source(relay(sink, Damage::Drop));
    assert_eq!(result.wrong, 4, "{result:?}");
    assert!(counters.count().wrong > 0);
}

#[test]
fn hellos_through_a_good_relay_get_the_answers_that_belong_to_them() {
    let (acceptor, counters) = server(true, |listener, counters| {
        acceptor::serve(&listener, counters)
    });
    let result = hello(relay(acceptor, Damage::None));
    assert!(result.operations > 10, "{result:?}");
    assert_eq!((result.wrong, result.failed), (0, 0), "{result:?}");
    assert!(counters.count().connections >= result.operations);
}

#[test]
fn an_answer_to_another_hello_is_wrong() {
    let (other, _) = server(true, |listener, counters| {
        listener.set_nonblocking(false)?;
        loop {
            let (mut stream, _) = listener.accept()?;
            stream.read_exact(&mut [0; client_hello::HELLO_BYTES])?;
            stream.write_all(&acceptor::answer(b"another"))?;
            counters.connection_ended();
        }
    });
    let result = hello(other);
    assert!(result.wrong > 0 && result.operations == 0, "{result:?}");
}

#[test]
fn nobody_listening_is_counted_as_failures() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap();
    drop(closed);
    assert!(hello(address).failed > 0);
    assert_eq!(source(address).failed, 4);
}

fn requests(connect: SocketAddr, rate: f64) -> event::Measured {
    let client = requests::Requests {
        load: short(connect),
        name: "a.test".into(),
        names: 3,
        rate,
    };
    let connections = client.open().unwrap();
    client.measure(connections, Announcer::new(false)).unwrap()
}

#[test]
fn requests_at_a_fixed_rate_are_all_answered() {
    let (answers, _) = server(false, |listener, counters| {
        answer::serve(&listener, "here", counters)
    });
    let result = requests(relay(answers, Damage::None), 1000.0);
    let asked = 1000.0 * result.seconds;
    assert!(
        (result.operations as f64 - asked).abs() <= 3.0,
        "{result:?}"
    );
    assert_eq!((result.wrong, result.failed), (0, 0), "{result:?}");
}

#[test]
fn a_request_that_is_refused_is_wrong_and_one_that_is_cut_off_has_failed() {
    let answering = |text: &'static [u8]| {
        let (address, _) = server(false, |listener, _| {
            listener.set_nonblocking(false)?;
            loop {
                let (mut stream, _) = listener.accept()?;
                stream.read_exact(&mut [0; 20])?;
                stream.write_all(text)?;
            }
        });
        requests(address, 100.0)
    };
    let refused = answering(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
    assert!(refused.wrong > 0, "{refused:?}");
    let cut = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n");
    assert!(cut.failed > 0 && cut.operations == 0, "{cut:?}");
}
