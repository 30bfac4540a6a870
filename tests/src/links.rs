//! Links and addresses inside a namespace, over rtnetlink(7).

use std::{
    io,
    os::fd::{AsFd as _, AsRawFd as _},
    thread,
};

use engine_sys::netns::Netns;
use futures::TryStreamExt as _;
use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::{
    Handle, LinkMessageBuilder, LinkUnspec, LinkVeth,
    packet_route::address::{AddressAttribute, AddressFlags},
};
use tokio::runtime;

/// The links of one namespace.
///
/// A netlink socket belongs to the namespace that it was opened in, so one of these is opened for
/// each namespace and dropped after use: it costs a descriptor and a task.
#[derive(Clone, Debug)]
pub struct Links {
    handle: Handle,
}

/// What the links of a namespace would not do.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// No netlink socket inside the namespace.
    #[error("opening a netlink socket in the namespace")]
    Open(#[source] io::Error),
    /// No thread or runtime to talk to the kernel from.
    #[error("starting a runtime for netlink")]
    Runtime(#[source] io::Error),
    /// The pair was not made.
    #[error("making the veth pair {name} and {peer}")]
    Veth {
        /// The end in this namespace.
        name: String,
        /// The end in the other.
        peer: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// There is no link of that name, or the kernel would not show it.
    #[error("looking for the link {name}")]
    Find {
        /// The link.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The address was not added.
    #[error("adding the address {address} to the link {name}")]
    Address {
        /// The link.
        name: String,
        /// The address and the length of its prefix.
        address: IpNet,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The link did not change its state.
    #[error("setting the link {name} {state}")]
    State {
        /// The link.
        name: String,
        /// What it was to be.
        state: State,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The link was not removed.
    #[error("removing the link {name}")]
    Remove {
        /// The link.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// Whether a link carries traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It does.
    Up,
    /// It does not; its routes are gone.
    Down,
}

impl std::fmt::Display for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

impl LinkError {
    /// The kernel's error number, where the kernel gave one.
    pub fn errno(&self) -> Option<Errno> {
        let (Self::Open(source)
        | Self::Runtime(source)
        | Self::Veth { source, .. }
        | Self::Find { source, .. }
        | Self::Address { source, .. }
        | Self::State { source, .. }
        | Self::Remove { source, .. }) = self;
        source.raw_os_error().map(Errno::from_raw)
    }
}

/// The kernel's answer as the system error that it carries.
fn answer(error: rtnetlink::Error) -> io::Error {
    if let rtnetlink::Error::NetlinkError(message) = &error {
        return message.to_io();
    }
    io::Error::other(error)
}

impl Links {
    /// Opens a netlink socket inside the namespace and a task that serves it on the runtime of the
    /// caller, which must be inside one.
    ///
    /// # Errors
    /// [`LinkError::Open`].
    pub fn open(netns: &Netns) -> Result<Self, LinkError> {
        let runtime = runtime::Handle::current();
        let (connection, handle, _) = netns
            .run(|| {
                // The socket registers with the runtime of the thread that opens it.
                let _inside = runtime.enter();
                rtnetlink::new_connection()
            })
            .map_err(LinkError::Open)?;
        runtime.spawn(connection);
        Ok(Self { handle })
    }

    /// Makes a veth pair (veth(4)): `name` here, `peer` in `other`. Both are down.
    ///
    /// Both ends are made here and one is moved, so that their indices differ. A device whose index
    /// is that of its peer counts as a lower one to the kernel, and it may then take a second until
    /// traffic passes (`linkwatch_urgent_event` in `net/core/link_watch.c`).
    ///
    /// # Errors
    /// [`LinkError::Veth`]: `EEXIST` when either name is taken here or `peer` there, `ERANGE` for
    /// one over 15 bytes. Nothing is left behind.
    pub async fn veth(&self, name: &str, peer: &str, other: &Netns) -> Result<(), LinkError> {
        let failed = |source| LinkError::Veth {
            name: name.to_owned(),
            peer: peer.to_owned(),
            source: answer(source),
        };
        let pair = LinkVeth::new(name, peer).build();
        self.handle
            .link()
            .add(pair)
            .execute()
            .await
            .map_err(failed)?;
        let away = LinkMessageBuilder::<LinkUnspec>::new()
            .name(peer)
            .setns_by_fd(other.as_fd().as_raw_fd())
            .build();
        let moved = self.handle.link().set(away).execute().await.map_err(failed);
        if moved.is_err() {
            // The answer to give is why it was not moved.
            let _ = self.remove(name).await;
        }
        moved
    }

    /// Gives a link an address. An IPv6 address is usable at once: duplicate address detection
    /// (RFC 4862, 5.4) would hold it back for a second, and these links have no strangers on them.
    ///
    /// # Errors
    /// [`LinkError::Find`]; [`LinkError::Address`]: `EEXIST` when the link has it.
    pub async fn add_address(&self, name: &str, address: IpNet) -> Result<(), LinkError> {
        let index = self.index(name).await?;
        let mut request = self
            .handle
            .address()
            .add(index, address.addr(), address.prefix_len());
        if matches!(address, IpNet::V6(_)) {
            let flags = AddressAttribute::Flags(AddressFlags::Nodad);
            request.message_mut().attributes.push(flags);
        }
        request
            .execute()
            .await
            .map_err(|source| LinkError::Address {
                name: name.to_owned(),
                address,
                source: answer(source),
            })
    }

    /// Sets a link up or down.
    ///
    /// # Errors
    /// [`LinkError::Find`]; [`LinkError::State`].
    pub async fn set(&self, name: &str, state: State) -> Result<(), LinkError> {
        let change = LinkMessageBuilder::<LinkUnspec>::new().index(self.index(name).await?);
        let change = match state {
            State::Up => change.up(),
            State::Down => change.down(),
        };
        let changed = self.handle.link().set(change.build()).execute().await;
        changed.map_err(|source| LinkError::State {
            name: name.to_owned(),
            state,
            source: answer(source),
        })
    }

    /// Removes a link; of a veth pair, both ends.
    ///
    /// # Errors
    /// [`LinkError::Find`]; [`LinkError::Remove`]: `EOPNOTSUPP` for `lo`.
    pub async fn remove(&self, name: &str) -> Result<(), LinkError> {
        let index = self.index(name).await?;
        let removed = self.handle.link().del(index).execute().await;
        removed.map_err(|source| LinkError::Remove {
            name: name.to_owned(),
            source: answer(source),
        })
    }

    async fn index(&self, name: &str) -> Result<u32, LinkError> {
        let find = |source| LinkError::Find {
            name: name.to_owned(),
            source: answer(source),
        };
        let mut found = self.handle.link().get().match_name(name).execute();
        let link = found.try_next().await.map_err(find)?;
        link.map(|link| link.header.index)
            .ok_or_else(|| find(rtnetlink::Error::RequestFailed))
    }
}

/// Works on the links of a namespace and returns when it is done. It runs on a short-lived thread
/// with a runtime of its own, so it may be called from anywhere, and blocks there for about a
/// millisecond.
///
/// # Errors
/// Those of `work`; [`LinkError::Open`] and [`LinkError::Runtime`].
pub fn within<T: Send>(
    netns: &Netns,
    work: impl AsyncFnOnce(&Links) -> Result<T, LinkError> + Send,
) -> Result<T, LinkError> {
    let inside = || {
        let runtime = runtime::Builder::new_current_thread().enable_io().build();
        Ok(runtime
            .map_err(LinkError::Runtime)?
            .block_on(async { work(&Links::open(netns)?).await }))
    };
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("links".into());
        let thread = thread
            .spawn_scoped(scope, inside)
            .map_err(LinkError::Runtime)?;
        let panicked = |_| Err(LinkError::Runtime(io::Error::other("the work panicked")));
        thread.join().unwrap_or_else(panicked)
    })?
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::{SocketAddr, TcpListener, TcpStream},
    };

    use super::*;

    fn pair() -> (Netns, Netns) {
        let (left, right) = (Netns::create().unwrap(), Netns::create().unwrap());
        within(&left, async |links| {
            links.veth("lan", "uplink", &right).await?;
            links
                .add_address("lan", "10.0.0.1/24".parse().unwrap())
                .await?;
            links
                .add_address("lan", "fd00::1/64".parse().unwrap())
                .await?;
            links.set("lan", State::Up).await
        })
        .unwrap();
        within(&right, async |links| {
            links
                .add_address("uplink", "10.0.0.2/24".parse().unwrap())
                .await?;
            links
                .add_address("uplink", "fd00::2/64".parse().unwrap())
                .await?;
            links.set("uplink", State::Up).await
        })
        .unwrap();
        (left, right)
    }

    fn exchange(from: &Netns, to: &Netns, address: &str) {
        let bind = || Ok(TcpListener::bind(SocketAddr::new(address.parse().unwrap(), 0))?.into());
        let listener = TcpListener::from(to.enter(bind).unwrap());
        let target = listener.local_addr().unwrap();
        let dial = || Ok(TcpStream::connect(target)?.into());
        let mut client = TcpStream::from(from.enter(dial).unwrap());
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"hello").unwrap();
        drop(client);
        let mut heard = String::new();
        server.read_to_string(&mut heard).unwrap();
        assert_eq!(heard, "hello");
    }

    #[test]
    fn a_veth_pair_carries_tcp_over_both_families_at_once() {
        let (left, right) = pair();
        exchange(&left, &right, "10.0.0.2");
        exchange(&left, &right, "fd00::2");
        exchange(&right, &left, "10.0.0.1");
    }

    #[test]
    fn a_removed_link_is_gone_at_both_ends_and_said_to_be() {
        let (left, right) = pair();
        within(&left, async |links| links.remove("lan").await).unwrap();
        for (netns, name) in [(&left, "lan"), (&right, "uplink")] {
            let error = within(netns, async |links| links.set(name, State::Down).await);
            let error = error.unwrap_err();
            assert_eq!(error.to_string(), format!("looking for the link {name}"));
            assert_eq!(error.errno(), Some(Errno::ENODEV));
        }
    }

    #[test]
    fn a_refusal_names_what_was_refused_and_why() {
        let (left, right) = pair();
        let errno = |result: Result<(), LinkError>| result.unwrap_err().errno();
        within(&left, async |links| {
            let again = "10.0.0.1/24".parse().unwrap();
            assert_eq!(
                errno(links.add_address("lan", again).await),
                Some(Errno::EEXIST)
            );
            assert_eq!(
                errno(links.veth("lan", "other", &right).await),
                Some(Errno::EEXIST)
            );
            let taken = links.veth("fresh", "uplink", &right).await;
            assert_eq!(errno(taken), Some(Errno::EEXIST));
            let left_behind = links.remove("fresh").await;
            assert_eq!(errno(left_behind), Some(Errno::ENODEV));
            let long = "sixteen-letters-";
            assert_eq!(
                errno(links.veth(long, "other", &right).await),
                Some(Errno::ERANGE)
            );
            assert_eq!(errno(links.remove("lo").await), Some(Errno::EOPNOTSUPP));
            Ok(())
        })
        .unwrap();
    }
}
