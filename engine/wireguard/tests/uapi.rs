//! Goal: the socket of a device is what `wg` expects. Method: the protocol spoken over the socket
//! itself, beside the handle.
#![allow(clippy::unwrap_used, reason = "a failing step fails the test")]

mod bed;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{
        fs::{FileTypeExt as _, PermissionsExt as _},
        net::{UnixListener, UnixStream},
    },
    path::Path,
    thread,
};

use bed::{Bed, PATIENCE};
use engine_wireguard::{Key, Open, OpenError};

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends a request and answers the lines of the answer.
fn ask(stream: &UnixStream, request: &str) -> Vec<String> {
    let mut writer = stream;
    writer.write_all(request.as_bytes()).unwrap();
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    lines.take_while(|line| !line.is_empty()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn only_its_owner_may_connect() {
    let bed = Bed::new();
    let metadata = fs::metadata(bed.socket(0)).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_the_socket_changes_the_handle_shows_and_the_socket_tells() {
    let bed = Bed::new();
    let device = &bed.sides[0].device;
    let stream = connect(&bed.socket(0));
    let peer = hex(bed.public_key(1).as_bytes());
    let request = format!(
        "set=1\npublic_key={peer}\nendpoint=192.0.2.2:9\npersistent_keepalive_interval=3\n\
         allowed_ip=10.1.0.0/16\nallowed_ip=fd01::/64\n\n"
    );
    assert_eq!(ask(&stream, &request), ["errno=0"]);
    let state = device.state().unwrap();
    assert_eq!(state.peers.len(), 1);
    assert_eq!(state.peers[0].public_key, bed.public_key(1));
    assert_eq!(state.peers[0].keep_alive, 3);
    let told = ask(&stream, "get=1\n\n");
    assert_eq!(told.last().map(String::as_str), Some("errno=0"));
    let private_key = hex(bed.sides[0].key.expose());
    for line in [
        format!("private_key={private_key}"),
        format!("listen_port={}", state.listen_port),
        format!("public_key={peer}"),
        "endpoint=192.0.2.2:9".to_owned(),
        "allowed_ip=10.1.0.0/16".to_owned(),
        "allowed_ip=fd01::/64".to_owned(),
    ] {
        assert!(told.contains(&line), "{line} in {told:?}");
    }
    let removal = format!("set=1\npublic_key={peer}\nremove=true\n\n");
    assert_eq!(ask(&stream, &removal), ["errno=0"]);
    assert_eq!(device.state().unwrap().peers, []);
}

#[test]
fn a_port_that_is_taken_is_answered_with_its_error_number() {
    let bed = Bed::new();
    let bind = || Ok(std::net::UdpSocket::bind("0.0.0.0:0")?.into());
    let taken = std::net::UdpSocket::from(bed.sides[0].host.enter(bind).unwrap());
    let port = taken.local_addr().unwrap().port();
    let stream = connect(&bed.socket(0));
    let refused = ask(&stream, &format!("set=1\nlisten_port={port}\n\n"));
    assert_eq!(refused, ["errno=-98"]);
}

#[test]
fn a_client_that_hangs_does_not_hold_up_the_others() {
    let bed = Bed::new();
    let hanging: Vec<UnixStream> = (0..7).map(|_| connect(&bed.socket(0))).collect();
    for mut stream in &hanging {
        stream.write_all(b"get=1").unwrap();
    }
    assert_eq!(ask(&connect(&bed.socket(0)), "set=1\n\n"), ["errno=0"]);
    let ninth = thread::scope(|scope| {
        let _eighth = connect(&bed.socket(0));
        let ninth = scope.spawn(|| ask(&connect(&bed.socket(0)), "set=1\n\n"));
        drop(hanging);
        ninth.join().unwrap()
    });
    assert_eq!(ninth, ["errno=0"], "it waited for its turn");
}

#[test]
fn a_file_that_was_left_behind_is_replaced_and_one_in_use_is_not() {
    let bed = Bed::new();
    let open = |name: &str| {
        bed.pool.open(Open {
            name,
            tenant: &bed.sides[0].tenant,
            host: &bed.sides[0].host,
            mtu: 1_420,
            listen_port: 0,
            private_key: Key::ZERO,
        })
    };
    let path = |name: &str| bed.socket(0).with_file_name(format!("{name}.sock"));
    drop(UnixListener::bind(path("wg8")).unwrap());
    let device = open("wg8").unwrap();
    assert_eq!(ask(&connect(&path("wg8")), "set=1\n\n"), ["errno=0"]);
    drop(device);
    let _in_use = UnixListener::bind(path("wg9")).unwrap();
    let error = open("wg9").unwrap_err();
    assert!(matches!(error, OpenError::Uapi { .. }), "{error:?}");
    assert!(path("wg9").exists(), "it belongs to somebody else");
    assert!(
        !bed::has_link(&bed.sides[0].tenant, "wg9"),
        "nothing is left"
    );
}
