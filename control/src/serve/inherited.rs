//! Listening sockets that the service manager opened (sd_listen_fds(3)): they outlive a restart,
//! and ports below 1024 need no capability.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpListener},
    os::fd::OwnedFd,
};

use control_api::boot::Listener;
use listenfd::ListenFd;

/// The sockets that were handed over, by the position of their listener.
pub(super) type Sockets = HashMap<usize, OwnedFd>;

/// The sockets that nobody has taken yet.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    sockets: Vec<Socket>,
    /// Descriptors that are no TCP listeners, with what is wrong.
    refused: Vec<std::io::Error>,
}

#[derive(Debug)]
struct Socket {
    /// From `LISTEN_FDNAMES`.
    name: Option<String>,
    address: Option<SocketAddr>,
    listener: TcpListener,
}

/// How a socket finds its listener.
#[derive(Clone, Copy)]
enum Way {
    Name,
    Address,
}

impl Socket {
    fn fits(&self, listener: &Listener, way: Way) -> bool {
        match way {
            Way::Name => self.name.as_deref() == Some(listener.name.as_str()),
            Way::Address => self.address == Some(listener.bind),
        }
    }
}

impl Inherited {
    /// Takes what was handed over. To be called once, before there are threads.
    pub(super) fn take() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':').map(str::to_owned);
        let mut handed = ListenFd::from_env();
        let mut inherited = Self::default();
        for index in 0..handed.len() {
            let name = names.next();
            match handed.take_tcp_listener(index) {
                Ok(Some(listener)) => inherited.sockets.push(Socket {
                    name,
                    address: listener.local_addr().ok(),
                    listener,
                }),
                Ok(None) => {}
                Err(error) => inherited.refused.push(error),
            }
        }
        inherited
    }

    /// Gives each listener its socket: the one with its name, or else the one at its address.
    /// Answers by the listener's position.
    pub(super) fn assign(&mut self, listeners: &[Listener]) -> Sockets {
        let mut assigned = HashMap::new();
        for way in [Way::Name, Way::Address] {
            for (index, listener) in listeners.iter().enumerate() {
                if assigned.contains_key(&index) {
                    continue;
                }
                if let Some(at) = self
                    .sockets
                    .iter()
                    .position(|socket| socket.fits(listener, way))
                {
                    let socket = self.sockets.swap_remove(at).listener;
                    assigned.insert(index, OwnedFd::from(socket));
                }
            }
        }
        assigned
    }

    /// Closes what no listener took, and says so.
    pub(super) fn drop_rest(&mut self) {
        for Socket { name, address, .. } in self.sockets.drain(..) {
            tracing::warn!(
                ?name,
                ?address,
                "a socket that was handed over fits no listener"
            );
        }
        for error in self.refused.drain(..) {
            tracing::warn!(%error, "a descriptor that was handed over is no TCP listener");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, os::fd::AsRawFd as _};

    use control_api::boot;

    use super::*;

    fn listeners(text: &str) -> Vec<Listener> {
        let no_variables = BTreeMap::<String, String>::new();
        boot::parse(text, &no_variables).unwrap().value.listeners
    }

    fn socket(name: Option<&str>) -> Socket {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Socket {
            name: name.map(str::to_owned),
            address: listener.local_addr().ok(),
            listener,
        }
    }

    #[test]
    fn a_socket_goes_to_the_listener_of_its_name_or_else_of_its_address() {
        let (named, placed, stray) = (socket(Some("a")), socket(Some("unknown")), socket(None));
        let descriptors = [&named, &placed].map(|socket| socket.listener.as_raw_fd());
        let text = format!(
            "listeners:\n- {{ name: b, bind: \"{}\", protocol: tls }}\n- {{ name: a, bind: \"0.0.0.0:1\", protocol: tls }}\n- {{ name: c, bind: \"0.0.0.0:2\", protocol: tls }}",
            placed.address.unwrap()
        );
        let mut inherited = Inherited {
            sockets: vec![stray, placed, named],
            refused: vec![],
        };
        let assigned = inherited.assign(&listeners(&text));
        let found = |index| assigned.get(&index).map(OwnedFd::as_raw_fd);
        assert_eq!([found(1), found(0)], descriptors.map(Some));
        assert_eq!(found(2), None);
        assert_eq!(inherited.sockets.len(), 1);
    }
}
