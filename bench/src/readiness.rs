//! Whether a proxy routes yet. Some listen before they know their routes (Traefik), or before
//! their workers do (sozu), so a listening port is not enough.

use std::{
    io::Write,
    net::{SocketAddr, TcpStream},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustls::StreamOwned;

use crate::{
    generate::{client_hello::client_hello, rest},
    peer::{Job, Routing},
    tls,
    workload::NAME,
};

/// Time for a proxy to route, once it listens.
const ROUTE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time for one connection to reach its target.
const REACH_TIMEOUT: Duration = Duration::from_millis(300);
/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(3);
/// Routes that are tried on each listener.
const ROUTES_TRIED: usize = 2;

/// Waits until connections through each listener of `job` reach its first targets.
///
/// # Errors
/// When they do not in time.
pub(crate) fn wait_until_routed(job: &Job) -> Result<()> {
    for listener in &job.listeners {
        let tries: Vec<_> = match &listener.routing {
            Routing::Forward(target) => vec![(Vec::new(), *target)],
            Routing::Http(target) => vec![(request(), *target)],
            Routing::Https(_) => {
                wait_until_answered(listener.address())?;
                Vec::new()
            }
            Routing::ByName(routes) => routes
                .iter()
                .take(ROUTES_TRIED)
                .map(|(name, target)| (client_hello(name), *target))
                .collect(),
        };
        for (first_bytes, target) in tries {
            let start = Instant::now();
            while !reaches(listener.address(), &first_bytes, target)? {
                if start.elapsed() > ROUTE_TIMEOUT {
                    bail!("nothing gets from {} to {target}", listener.address());
                }
            }
        }
    }
    Ok(())
}

/// Waits until a request in TLS is answered.
fn wait_until_answered(listener: SocketAddr) -> Result<()> {
    let client = tls::client("http/1.1", false)?;
    let ask = || -> Result<()> {
        let stream = TcpStream::connect(listener)?;
        stream.set_read_timeout(Some(ROUTE_TIMEOUT))?;
        let mut stream = StreamOwned::new(tls::session(&client, NAME)?, stream);
        rest::ask(&mut stream, NAME)
    };
    let start = Instant::now();
    while let Err(error) = ask() {
        if start.elapsed() > ROUTE_TIMEOUT {
            return Err(error.context(format!("{listener} answers no requests")));
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// A request whose answer nobody waits for.
fn request() -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: {NAME}\r\nConnection: close\r\n\r\n").into_bytes()
}

fn reaches(listener: SocketAddr, first_bytes: &[u8], target: SocketAddr) -> Result<bool> {
    let Ok(mut stream) = TcpStream::connect(listener) else {
        thread::sleep(LOOK_EVERY);
        return Ok(false);
    };
    if stream.write_all(first_bytes).is_err() {
        return Ok(false);
    }
    let start = Instant::now();
    while start.elapsed() < REACH_TIMEOUT {
        if is_connected_to(target)? {
            return Ok(true);
        }
        thread::sleep(LOOK_EVERY);
    }
    Ok(false)
}

/// Whether there is, or was a moment ago, a connection to `target` (ss(8) asks the kernel with a
/// filter; `/proc/net/tcp` would list every closed connection of the run before).
fn is_connected_to(target: SocketAddr) -> Result<bool> {
    let output = Command::new("ss")
        .args(["-H", "-t", "-n", "-a", "dst", &target.to_string()])
        .output()
        .context("cannot run ss (iproute2)")?;
    Ok(!output.stdout.is_empty())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_connection_is_seen_by_its_target() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let target = listener.local_addr().unwrap();
        assert!(!is_connected_to(target).unwrap());
        let _client = TcpStream::connect(target).unwrap();
        assert!(is_connected_to(target).unwrap());
    }

    #[test]
    fn a_port_that_accepts_and_does_not_pass_on_does_not_route() {
        let (proxy, target) = (open(), open());
        let addresses = (proxy.local_addr().unwrap(), target.local_addr().unwrap());
        assert!(!reaches(addresses.0, b"hello", addresses.1).unwrap());
    }

    fn open() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }
}
