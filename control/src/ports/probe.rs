//! Addresses that somebody else listens at.
//!
//! The workers' listeners share their address with each other (SO_REUSEPORT), and so with any other
//! program of the same user that does the same: a second gateway would take a part of the first one's
//! clients. So each address is tried without sharing before the workers bind it.

use std::{
    io,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use control_api::boot::Listener;
use control_kernel::linux::holder;
use engine_sys::socket::probe;

/// How long an address may stay taken that no process has: the kernel closes the sockets of a process
/// that was killed a moment after the process is gone, those of a ring later than others.
const PATIENCE: Duration = Duration::from_secs(2);
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Makes sure that nobody else listens where these listeners will. Those that were handed over are not
/// bound, and may well be shared with the process before.
///
/// # Errors
/// Says who does.
pub(crate) fn all<'l>(listeners: impl Iterator<Item = &'l Listener>) -> anyhow::Result<()> {
    for listener in listeners.filter(|listener| listener.bind.port() != 0) {
        is_free(listener.bind).map_err(|error| {
            let (name, bind) = (&listener.name, listener.bind);
            anyhow::anyhow!("the listener `{name}` cannot have {bind}: {error}")
        })?;
    }
    Ok(())
}

/// What stands behind an address that is in use: the reason, and who has it.
pub(crate) fn reason(address: SocketAddr, error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::AddrInUse {
        return error.to_string();
    }
    match holder::of_listener(address) {
        Some(holder) if holder.pid == std::process::id() => {
            "this gateway listens there itself: see `listeners` and `api.listen`".to_owned()
        }
        Some(holder) => format!("{holder} listens there: end it, or take another port"),
        None => {
            let port = address.port();
            format!(
                "a process listens there that is not seen from here: `ss -ltnp sport = :{port}` as root says which"
            )
        }
    }
}

fn is_free(address: SocketAddr) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let Err(error) = probe(address) else {
            return Ok(());
        };
        let may_end = error.kind() == io::ErrorKind::AddrInUse
            && began.elapsed() < PATIENCE
            && holder::of_listener(address).is_none();
        if !may_end {
            return Err(reason(address, &error));
        }
        thread::sleep(LOOK_INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::TcpListener, os::fd::OwnedFd};

    use control_api::boot;
    use engine_sys::socket::{Listen, Liveness, listen};

    use super::*;

    fn listeners(bind: SocketAddr) -> Vec<Listener> {
        let text = format!("listeners: [{{ name: a, bind: \"{bind}\", protocol: tls }}]");
        let read = boot::parse(&text, &BTreeMap::<String, String>::new());
        read.unwrap().value.listeners
    }

    /// As a worker of another gateway listens.
    fn shared(address: &str) -> (OwnedFd, SocketAddr) {
        let options = Listen {
            backlog: 1,
            client_first: false,
            liveness: Liveness {
                keep_alive: Duration::from_secs(60),
                user_timeout: Duration::from_secs(60),
            },
        };
        let socket = listen(address.parse().unwrap(), options).unwrap();
        let listener = TcpListener::from(socket.try_clone().unwrap());
        (socket, listener.local_addr().unwrap())
    }

    #[test]
    fn an_address_that_somebody_shares_is_taken() {
        let (held, address) = shared("127.0.0.1:0");
        // The kernel alone would let a second one in.
        let options_alike = shared(&address.to_string());
        drop(options_alike);
        let everywhere = SocketAddr::from(([0, 0, 0, 0], address.port()));
        for bind in [address, everywhere] {
            let refused = all(listeners(bind).iter()).unwrap_err().to_string();
            assert!(
                refused.contains("this gateway listens there itself"),
                "{refused}"
            );
            assert!(refused.contains("the listener `a`"), "{refused}");
        }
        drop(held);
        all(listeners(address).iter()).unwrap();
        all(listeners("127.0.0.1:0".parse().unwrap()).iter()).unwrap();
    }

    #[test]
    fn connections_of_late_are_in_nobodys_way() {
        let (listener, address) = shared("127.0.0.1:0");
        let listener = TcpListener::from(listener);
        let client = std::net::TcpStream::connect(address).unwrap();
        listener.set_nonblocking(false).unwrap();
        // The side that closes first waits (RFC 9293 section 3.6.1).
        drop(listener.accept().unwrap());
        drop(client);
        drop(listener);
        all(listeners(address).iter()).unwrap();
    }
}
