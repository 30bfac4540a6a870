use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
};

use super::*;

/// Sends more than a buffer each way with half-closes, and gives what came back.
fn through(runtime: Runtime) -> Vec<u8> {
    let upstream = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = upstream.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = upstream.accept().unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        stream.write_all(&got).unwrap();
    });
    let relay = Relay {
        runtime,
        listen: "127.0.0.1:0".parse().unwrap(),
        to,
        threads: 1,
    };
    let listener = relay.listener().unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || super::relay(runtime, listener, to));
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(&sent()).unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let mut back = Vec::new();
    client.read_to_end(&mut back).unwrap();
    back
}

fn sent() -> Vec<u8> {
    (0..251).cycle().take(3 * BUFFER_BYTES + 7).collect()
}

#[test]
fn every_runtime_relays_half_closed_flows_whole() {
    for runtime in Runtime::ALL {
        assert!(through(runtime) == sent(), "{runtime:?}");
    }
}

#[test]
fn every_runtime_is_called_on_the_command_line_as_it_is_started() {
    for runtime in Runtime::ALL {
        assert_eq!(Runtime::from_str(runtime.argument(), false), Ok(runtime));
    }
}
