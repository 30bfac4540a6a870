//! Notices that something changed underneath: rtnetlink(7) and nftables groups in each namespace,
//! inotify(7) on the directory of their names. One thread waits for all of them.

mod source;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use control_api::place::NetworkKey;

use crossbeam_channel::{Receiver, Sender, TrySendError};
use engine_sys::netns::{Identity, Netns};
use nix::sys::{
    epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
    eventfd::{EfdFlags, EventFd},
};

use self::source::Source;

/// How long changes are gathered before they are told, so that a burst of them is one notice.
const GATHERING: Duration = Duration::from_millis(50);

/// Notices that wait to be taken. Further ones wait with the thread, each once.
const NOTICES_MAX: usize = 1024;

/// Events that are taken from the kernel at once.
const EVENTS_MAX: usize = 64;

/// The token of the descriptor that ends the thread; those of sources count on from it.
const STOP: u64 = 0;

/// What may have changed. Whoever gets one looks for itself; Ringway's own steps cause them, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Notice {
    /// Something of this network: a link, an address, a route, its table.
    Network(NetworkKey),
    /// A name of a namespace was made or deleted.
    Names,
}

/// The thread and what it listens to. It ends with this value.
#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    followed: BTreeMap<NetworkKey, Followed>,
    tokens: u64,
    notices: Receiver<Notice>,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Followed {
    identity: Identity,
    tokens: Vec<u64>,
}

#[derive(Debug)]
struct Shared {
    epoll: Epoll,
    sources: Mutex<BTreeMap<u64, Source>>,
}

impl Watch {
    /// Starts with the directory of names.
    pub(super) fn start(names: &Path) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            sources: Mutex::default(),
        });
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let stop = Arc::new(EventFd::from_value_and_flags(0, flags)?);
        let readable = EpollFlags::EPOLLIN;
        shared.epoll.add(&*stop, EpollEvent::new(readable, STOP))?;
        let (sender, notices) = crossbeam_channel::bounded(NOTICES_MAX);
        let listener = Listener {
            shared: Arc::clone(&shared),
            notices: sender,
            pending: BTreeSet::new(),
        };
        let thread = thread::Builder::new().name("watch".into());
        let thread = thread.spawn(move || listener.run())?;
        let mut watch = Self {
            shared,
            followed: BTreeMap::new(),
            tokens: STOP,
            notices,
            stop,
            thread: Some(thread),
        };
        match Source::names(names) {
            Ok(source) => drop(watch.add(source)?),
            // Whoever may not make it makes no names, either.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(watch)
    }

    pub(super) fn notices(&self) -> Receiver<Notice> {
        self.notices.clone()
    }

    /// Listens in the namespace of a network. Where that is not the network's own, only what is
    /// about its device counts: `only` has its name, and its index when there is one.
    pub(super) fn follow(
        &mut self,
        network: NetworkKey,
        netns: &Netns,
        only: Option<(&str, Option<u32>)>,
    ) -> io::Result<()> {
        let identity = netns.identity();
        let followed = self.followed.get(&network);
        if followed.is_some_and(|followed| followed.identity == identity) {
            return Ok(());
        }
        self.unfollow(network);
        let mut tokens = Vec::new();
        for source in Source::of_network(network, netns, only)? {
            tokens.push(self.add(source)?);
        }
        self.followed.insert(network, Followed { identity, tokens });
        Ok(())
    }

    /// Listens no longer.
    pub(super) fn unfollow(&mut self, network: NetworkKey) {
        let Some(followed) = self.followed.remove(&network) else {
            return;
        };
        let mut sources = self.shared.lock();
        for token in followed.tokens {
            if let Some(source) = sources.remove(&token) {
                // Closing it would do as well.
                let _ = self.shared.epoll.delete(&source);
            }
        }
    }

    fn add(&mut self, source: Source) -> io::Result<u64> {
        self.tokens += 1;
        let token = self.tokens;
        let mut sources = self.shared.lock();
        let event = EpollEvent::new(EpollFlags::EPOLLIN, token);
        self.shared.epoll.add(&source, event)?;
        sources.insert(token, source);
        Ok(token)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // Neither can fail: the counter is far from full, and the thread does not panic.
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, Source>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the thread knows.
struct Listener {
    shared: Arc<Shared>,
    notices: Sender<Notice>,
    pending: BTreeSet<Notice>,
}

impl Listener {
    fn run(mut self) {
        let mut due: Option<Instant> = None;
        loop {
            let mut events = [EpollEvent::empty(); EVENTS_MAX];
            let timeout = due.map(|due| due.saturating_duration_since(Instant::now()));
            let timeout = timeout.map_or(EpollTimeout::NONE, |left| {
                // Rounded up: at zero it would spin.
                let left = left + Duration::from_millis(1);
                EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
            });
            let ready = self.shared.epoll.wait(&mut events, timeout).unwrap_or(0);
            for event in events.iter().take(ready) {
                if event.data() == STOP {
                    return;
                }
                let mut sources = self.shared.lock();
                let source = sources.get_mut(&event.data());
                self.pending.extend(source.and_then(Source::read));
            }
            let now = Instant::now();
            if due.is_some_and(|due| due <= now) {
                if self.tell().is_err() {
                    return;
                }
                due = None;
            }
            if due.is_none() && !self.pending.is_empty() {
                due = Some(now + GATHERING);
            }
        }
    }

    /// Tells as much as there is room for.
    fn tell(&mut self) -> Result<(), Unheard> {
        while let Some(notice) = self.pending.pop_first() {
            match self.notices.try_send(notice) {
                Ok(()) => {}
                Err(TrySendError::Full(notice)) => {
                    self.pending.insert(notice);
                    return Ok(());
                }
                Err(TrySendError::Disconnected(_)) => return Err(Unheard),
            }
        }
        Ok(())
    }
}

/// Nobody takes notices any longer.
struct Unheard;

#[cfg(test)]
mod tests;
