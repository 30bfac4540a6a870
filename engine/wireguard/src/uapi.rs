//! The sockets that `wg` configures userspace devices by
//! (<https://www.wireguard.com/xplatform/#configuration-protocol>).
//!
//! One thread answers all of them. It never waits for a client: what a client does not send or take
//! at once is left until it does.

use std::{
    collections::HashMap,
    fs, io,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd},
        unix::{
            fs::DirBuilderExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    thread::{self, JoinHandle},
};

use crossbeam_channel::Sender;
use nix::{
    errno::Errno,
    sys::{
        epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
        socket::{self, AddressFamily, Backlog, SockFlag, SockType, UnixAddr},
        stat::{Mode, fchmod},
    },
};

use self::conversation::{Conversation, Next};
use crate::{
    courier::{self, Courier, Mailbox},
    device::Shared,
    pool::StartError,
};

mod answer;
mod conversation;
mod request;

/// Conversations of one device at a time; further clients wait in the socket's queue, whose length
/// this is too.
const CLIENTS_MAX: usize = 8;
/// The event of the doorbell.
const DOORBELL: u64 = u64::MAX;

/// The thread that answers.
#[derive(Debug)]
pub(crate) struct Server {
    courier: Option<Courier<Command>>,
    thread: Option<JoinHandle<()>>,
}

/// The socket of one device. Dropping it closes it and removes its file.
#[derive(Debug)]
pub(crate) struct Socket {
    number: u64,
    path: PathBuf,
    courier: Courier<Command>,
}

#[derive(Debug)]
enum Command {
    Open {
        listener: UnixListener,
        device: Weak<Shared>,
        answer: Sender<io::Result<u64>>,
    },
    Close {
        number: u64,
        answer: Sender<()>,
    },
}

impl Server {
    /// Starts the thread.
    pub(crate) fn start() -> Result<Self, StartError> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC);
        let epoll = epoll.map_err(|errno| StartError::Poll(errno.into()))?;
        let (courier, mailbox) = courier::pair().map_err(StartError::Poll)?;
        mailbox.watch(&epoll, DOORBELL).map_err(StartError::Poll)?;
        let clerk = Clerk {
            epoll,
            mailbox,
            listeners: HashMap::new(),
            clients: HashMap::new(),
            next: 0,
        };
        let thread = thread::Builder::new()
            .name("wireguard-uapi".into())
            .spawn(move || clerk.run())
            .map_err(StartError::Thread)?;
        Ok(Self {
            courier: Some(courier),
            thread: Some(thread),
        })
    }

    /// Makes the socket of a device, in place of one that was left behind.
    pub(crate) fn open(&self, path: &Path, device: &Arc<Shared>) -> io::Result<Socket> {
        let courier = self.courier.clone().ok_or(io::ErrorKind::BrokenPipe)?;
        let listener = listen(path)?;
        let device = Arc::downgrade(device);
        let opened = courier.ask(|answer| Command::Open {
            listener,
            device,
            answer,
        });
        let number = opened.map_err(|_| io::ErrorKind::BrokenPipe)??;
        Ok(Socket {
            number,
            path: path.to_owned(),
            courier,
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.courier = None;
        if let Some(thread) = self.thread.take() {
            // One that panicked has nothing more to say.
            let _ = thread.join();
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let number = self.number;
        // A thread that has ended has closed it already; somebody else may have removed the file.
        let _ = self.courier.ask(|answer| Command::Close { number, answer });
        let _ = fs::remove_file(&self.path);
    }
}

/// Binds a socket that only its owner may connect to.
fn listen(path: &Path) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(directory)?;
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // The file takes the mode of the socket (`unix_bind_bsd` in net/unix/af_unix.c), so there is no
    // moment in which others may connect.
    fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let address = UnixAddr::new(path)?;
    let bind = || socket::bind(socket.as_raw_fd(), &address);
    match bind() {
        Err(Errno::EADDRINUSE) if is_left_behind(&address) => {
            fs::remove_file(path)?;
            bind()?;
        }
        bound => bound?,
    }
    let clients = i32::try_from(CLIENTS_MAX).unwrap_or(1);
    socket::listen(&socket, Backlog::new(clients)?)?;
    Ok(socket.into())
}

/// Whether a socket's file has nobody behind it any longer.
fn is_left_behind(address: &UnixAddr) -> bool {
    // Non-blocking: somebody with a full queue is somebody.
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket::socket(AddressFamily::Unix, SockType::Stream, flags, None);
    let connected = probe.and_then(|probe| socket::connect(probe.as_raw_fd(), address));
    connected == Err(Errno::ECONNREFUSED)
}

struct Clerk {
    epoll: Epoll,
    mailbox: Mailbox<Command>,
    listeners: HashMap<u64, Listener>,
    clients: HashMap<u64, Client>,
    next: u64,
}

struct Listener {
    socket: UnixListener,
    device: Weak<Shared>,
    clients: usize,
}

struct Client {
    stream: UnixStream,
    conversation: Conversation,
    listener: u64,
}

impl Clerk {
    fn run(mut self) {
        let mut events = [EpollEvent::empty(); 16];
        loop {
            let ready = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(errno) => {
                    tracing::error!(%errno, "the WireGuard sockets are not answered any longer");
                    return;
                }
            };
            let mut rung = false;
            for event in &events[..ready] {
                match event.data() {
                    DOORBELL => rung = true,
                    number if self.listeners.contains_key(&number) => self.accept(number),
                    number => self.converse(number),
                }
            }
            if rung {
                let Ok(commands) = self.mailbox.take() else {
                    return;
                };
                for command in commands {
                    self.obey(command);
                }
            }
        }
    }

    /// Whoever asked may have gone: then nobody takes the answer.
    fn obey(&mut self, command: Command) {
        match command {
            Command::Open {
                listener,
                device,
                answer,
            } => {
                let number = self.next();
                let watched = self.watch(listener.as_fd(), number, EpollFlags::EPOLLIN);
                let socket = Listener {
                    socket: listener,
                    device,
                    clients: 0,
                };
                self.listeners.insert(number, socket);
                let _ = answer.send(watched.map(|()| number));
            }
            Command::Close { number, answer } => {
                self.listeners.remove(&number);
                self.clients.retain(|_, client| client.listener != number);
                let _ = answer.send(());
            }
        }
    }

    fn accept(&mut self, number: u64) {
        let Some(listener) = self.listeners.get_mut(&number) else {
            return;
        };
        let Ok((stream, _)) = listener.socket.accept() else {
            return;
        };
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        listener.clients += 1;
        if listener.clients == CLIENTS_MAX {
            let _ = self.epoll.delete(&listener.socket);
        }
        let client = self.next();
        let watched = self.watch(stream.as_fd(), client, EpollFlags::EPOLLIN);
        let conversation = Client {
            stream,
            conversation: Conversation::default(),
            listener: number,
        };
        self.clients.insert(client, conversation);
        if watched.is_err() {
            self.dismiss(client);
        }
    }

    fn converse(&mut self, number: u64) {
        let Some(client) = self.clients.get_mut(&number) else {
            return;
        };
        let device = self.listeners.get(&client.listener);
        let device = device.and_then(|listener| listener.device.upgrade());
        let next = match device {
            Some(device) => client.conversation.go_on(&mut client.stream, &*device),
            None => Next::End,
        };
        let flags = match next {
            Next::Read => EpollFlags::EPOLLIN,
            Next::Write => EpollFlags::EPOLLOUT,
            Next::End => return self.dismiss(number),
        };
        let mut event = EpollEvent::new(flags, number);
        if self.epoll.modify(&client.stream, &mut event).is_err() {
            self.dismiss(number);
        }
    }

    fn dismiss(&mut self, number: u64) {
        let Some(client) = self.clients.remove(&number) else {
            return;
        };
        let Some(listener) = self.listeners.get_mut(&client.listener) else {
            return;
        };
        listener.clients -= 1;
        if listener.clients + 1 == CLIENTS_MAX {
            let event = EpollEvent::new(EpollFlags::EPOLLIN, client.listener);
            // It was there a moment ago: only memory could be lacking, and the next client that
            // leaves tries again.
            let _ = self.epoll.add(&listener.socket, event);
        }
    }

    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn watch(&self, fd: BorrowedFd<'_>, number: u64, flags: EpollFlags) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(flags, number))?)
    }
}
