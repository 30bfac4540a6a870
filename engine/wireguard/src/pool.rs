//! The threads that serve devices: a fixed number, however many devices there are.
//!
//! Each device belongs to one thread, which is the only one to touch it. The others talk to it in
//! commands, over a channel with a doorbell (eventfd(2)) that the thread waits on beside the
//! devices' descriptors.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    num::NonZeroUsize,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
};

pub use engine_sys::tun::Offload;
use engine_sys::{datagram, netns::Netns, socket, tun};
use nix::errno::Errno;

use self::{
    link::{Border, Link, Sockets},
    worker::Command,
};
use crate::{
    core::{
        Core,
        message::DATA_OVERHEAD,
        outbox::{RUN_BYTES_MAX, RUN_DATAGRAMS_MAX},
    },
    courier::Courier,
    device::{Device, Shared},
    key::Key,
    uapi,
};

pub(crate) mod link;
pub(crate) mod worker;

/// Where `wg` looks for the sockets of userspace devices.
pub const UAPI_DIRECTORY: &str = "/var/run/wireguard";

/// What is asked for a socket's buffers, each way: about 10 ms of traffic at 3 Gb/s. The kernel
/// takes memory only for what waits.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// How often the kernel is asked for another port when the one that it chose for IPv4 is taken for
/// IPv6 (the kernel's own device tries as often).
const PORT_TRIES: usize = 100;

/// A fixed number of threads that serve any number of devices. A clone is another handle to the
/// same threads; they end when the last handle and the last device are gone.
#[derive(Clone, Debug)]
pub struct Pool {
    threads: Arc<Threads>,
    offloads: Offloads,
    lasting: bool,
}

/// In which ways a device moves many packets at once, where the kernel can. Without them everything
/// works as well, and takes several times the processor time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// What the kernel leaves to be cut, or put together, at the link.
    pub link: Offload,
    /// The kernel cuts what is sent (UDP_SEGMENT).
    pub send: bool,
    /// The kernel puts together what is received (UDP_GRO).
    pub receive: bool,
}

impl Offloads {
    /// All of them.
    pub const ALL: Self = Self {
        link: Offload::TcpUdp,
        send: true,
        receive: true,
    };
    /// None of them: one packet, one datagram at a time.
    pub const NONE: Self = Self {
        link: Offload::None,
        send: false,
        receive: false,
    };
}

/// What to open.
#[derive(Debug)]
pub struct Open<'a> {
    /// The name of the link, and of the socket that configures it: 1 to 15 bytes.
    pub name: &'a str,
    /// Where the link appears.
    pub tenant: &'a Netns,
    /// Where the UDP port is.
    pub host: &'a Netns,
    /// The largest packet that the link carries.
    pub mtu: u16,
    /// The UDP port, of IPv4 and IPv6; 0 lets the kernel choose one.
    pub listen_port: u16,
    /// The device's own key. With [`Key::ZERO`] it waits for one, and speaks with nobody.
    pub private_key: Key,
}

/// Why there are no threads.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// What a thread waits on could not be made.
    #[error("making what WireGuard threads wait on")]
    Poll(#[source] io::Error),
    /// A thread could not be started.
    #[error("starting a WireGuard thread")]
    Thread(#[source] io::Error),
}

/// Why a device was not opened. Nothing is left behind.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The namespaces could not be kept open.
    #[error("holding the namespaces of the device {name}")]
    Namespace {
        /// The device.
        name: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The link could not be made.
    #[error("making the TUN device {name}")]
    Tun {
        /// The device.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The link did not take its MTU.
    #[error("setting the MTU of {name} to {mtu}")]
    Mtu {
        /// The device.
        name: String,
        /// The MTU.
        mtu: u16,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The UDP port could not be had.
    #[error("listening on the UDP port {port} for the device {name}")]
    Bind {
        /// The device.
        name: String,
        /// The port.
        port: u16,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The descriptors could not be waited on.
    #[error("handing the device {name} to a thread")]
    Register {
        /// The device.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The socket that configures it could not be made.
    #[error("making the socket {} of the device {name}", .path.display())]
    Uapi {
        /// The device.
        name: String,
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

#[derive(Debug)]
pub(crate) struct Threads {
    workers: Vec<Worker>,
    uapi: uapi::Server,
    directory: PathBuf,
}

#[derive(Debug)]
struct Worker {
    courier: Option<Courier<Command>>,
    devices: Arc<AtomicUsize>,
    /// Taken when it ends.
    thread: Option<JoinHandle<()>>,
}

impl Pool {
    /// Starts the threads, and one more that answers [`UAPI_DIRECTORY`]'s sockets.
    ///
    /// # Errors
    /// Without descriptors or threads.
    pub fn start(threads: NonZeroUsize) -> Result<Self, StartError> {
        Self::start_in(threads, Path::new(UAPI_DIRECTORY))
    }

    /// As [`Pool::start`], with the sockets of its devices in another directory.
    ///
    /// # Errors
    /// Without descriptors or threads.
    pub fn start_in(threads: NonZeroUsize, directory: &Path) -> Result<Self, StartError> {
        let workers = (0..threads.get()).map(|number| {
            let (courier, thread) = worker::start(number)?;
            Ok(Worker {
                courier: Some(courier),
                devices: Arc::default(),
                thread: Some(thread),
            })
        });
        let threads = Threads {
            workers: workers.collect::<Result<_, _>>()?,
            uapi: uapi::Server::start()?,
            directory: directory.to_owned(),
        };
        Ok(Self {
            threads: Arc::new(threads),
            offloads: Offloads::ALL,
            lasting: false,
        })
    }

    /// A handle to the same threads by which links are opened that last: they stay, with their
    /// addresses and routes, when their devices are closed, and the next device of a name takes its
    /// link over. So a process that is started again finds everything in its place, and the kernel,
    /// which takes some 20 ms to end a link, has none to end. Whoever wants a link gone removes it.
    #[must_use]
    pub fn with_lasting_links(mut self) -> Self {
        self.lasting = true;
        self
    }

    /// A handle to the same threads by which devices are opened with fewer offloads.
    #[must_use]
    pub fn with_offloads(mut self, offloads: Offloads) -> Self {
        self.offloads = offloads;
        self
    }

    /// Opens a device: a link in the tenant's namespace, which is down and has no addresses, a UDP
    /// port in the host's, and a socket that `wg` configures it by.
    ///
    /// # Errors
    /// Says what was refused; nothing is left behind.
    pub fn open(&self, open: Open<'_>) -> Result<Device, OpenError> {
        let name = || open.name.to_owned();
        let host = open
            .host
            .try_clone()
            .map_err(|source| OpenError::Namespace {
                name: name(),
                source,
            })?;
        let offloads = self.offloads;
        let border = Border::open(open.tenant, open.name, offloads.link, self.lasting);
        let border = border.map_err(|source| OpenError::Tun {
            name: name(),
            source,
        })?;
        set_mtu(open.tenant, open.name, open.mtu).map_err(|source| OpenError::Mtu {
            name: name(),
            mtu: open.mtu,
            source,
        })?;
        let sockets = bind(open.host, open.listen_port, offloads.receive).map_err(|source| {
            OpenError::Bind {
                name: name(),
                port: open.listen_port,
                source,
            }
        })?;
        let core = Core::new(open.private_key, open.mtu, Box::new(random()));
        let link = Link::new(core, border, sockets, offloads.send);
        let shared = self.hand_over(link, open.name, host)?;
        let path = self.threads.directory.join(format!("{}.sock", open.name));
        let refused = |source| OpenError::Uapi {
            name: name(),
            path: path.clone(),
            source,
        };
        let socket = self.threads.uapi.open(&path, &shared).map_err(refused)?;
        Ok(Device::new(shared, socket))
    }

    /// Gives a device to the thread that has the fewest.
    fn hand_over(&self, link: Link, name: &str, host: Netns) -> Result<Arc<Shared>, OpenError> {
        let failed = |source| OpenError::Register {
            name: name.to_owned(),
            source,
        };
        let load = |worker: &&Worker| worker.devices.load(Ordering::Relaxed);
        let workers = self.threads.workers.iter();
        let Some(worker) = workers.min_by_key(load) else {
            return Err(failed(io::ErrorKind::NotFound.into()));
        };
        let Some(courier) = worker.courier.clone() else {
            return Err(failed(io::ErrorKind::BrokenPipe.into()));
        };
        let link = Box::new(link);
        let opened = courier.ask(|answer| Command::Open { link, answer });
        let id = opened.map_err(|_| failed(io::ErrorKind::BrokenPipe.into()))?;
        let id = id.map_err(failed)?;
        worker.devices.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Shared {
            name: name.to_owned(),
            host,
            offloads: self.offloads,
            id,
            courier,
            devices: worker.devices.clone(),
            _threads: self.threads.clone(),
        }))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            worker.courier = None;
            if let Some(thread) = worker.thread.take() {
                // One that panicked has nothing more to say.
                let _ = thread.join();
            }
        }
    }
}

/// Sets the MTU of a link by its name, and how many packets the kernel leaves together for it.
pub(crate) fn set_mtu(tenant: &Netns, name: &str, mtu: u16) -> io::Result<()> {
    let socket = tenant.enter(|| datagram::open(any_v4(0), 0))?;
    tun::set_mtu(socket.as_fd(), name, mtu)?;
    // Where that is refused, some super-packets take two sends, which is slower and right.
    let links = tenant.enter(tun::link_socket);
    let _ = links.and_then(|links| tun::set_segments_max(links.as_fd(), name, run_of(mtu)));
    Ok(())
}

/// How many full packets are sent in one call: so many a super-packet should hold, and no more.
fn run_of(mtu: u16) -> u32 {
    let datagram = usize::from(mtu) + DATA_OVERHEAD;
    let run = (RUN_BYTES_MAX / datagram).clamp(1, RUN_DATAGRAMS_MAX);
    u32::try_from(run).unwrap_or(1)
}

/// Binds one port for IPv4 and IPv6 in a namespace; for IPv4 alone on a host without IPv6. What
/// arrives may come `together`.
pub(crate) fn bind(host: &Netns, port: u16, together: bool) -> io::Result<Sockets> {
    let open = |address: SocketAddr| {
        let socket = host.enter(|| datagram::open(address, SOCKET_BUFFER_BYTES))?;
        if !together {
            // A kernel that cannot even be told never does it.
            let _ = datagram::keep_apart(socket.as_fd());
        }
        Ok(socket)
    };
    let mut tries = 0;
    loop {
        let v4: OwnedFd = open(any_v4(port))?;
        let bound = socket::local_address(v4.as_fd())?.port();
        tries += 1;
        match open(SocketAddr::from((Ipv6Addr::UNSPECIFIED, bound))) {
            Ok(v6) => return Ok(Sockets::new(v4, Some(v6), bound)),
            Err(error) if is(&error, Errno::EAFNOSUPPORT) => {
                return Ok(Sockets::new(v4, None, bound));
            }
            Err(error) if is(&error, Errno::EADDRINUSE) && port == 0 && tries < PORT_TRIES => {}
            Err(error) => return Err(error),
        }
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

fn any_v4(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))
}

/// Numbers that nobody outside can guess: SipHash under a key that the standard library has from
/// the kernel. For indices that is plenty.
fn random() -> impl FnMut() -> u32 + Send {
    use std::hash::{BuildHasher as _, RandomState};
    let (state, mut number) = (RandomState::new(), 0_u64);
    move || {
        number += 1;
        let [a, b, c, d, ..] = state.hash_one(number).to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }
}
