//! One thread: it waits for any of its devices, serves a little of each that is ready, and starts
//! over.

use std::{
    collections::BTreeSet,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crossbeam_channel::Sender;
use nix::{
    errno::Errno,
    sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout},
};
use slab::Slab;

use super::{
    StartError,
    link::{End, Link, Scratch, Sockets},
};
use crate::{
    change::Change,
    core::{Now, configure::TooMany},
    courier::{self, Courier, Mailbox},
    state::State,
};

/// Descriptors that are reported at a time. Those that are ready and were not reported come first
/// the next time (`ep_send_events` in `fs/eventpoll.c`), so nobody is passed over.
const EVENTS: usize = 64;
/// Devices whose timers are run before the others get their turn again.
const TURNS: usize = 64;
/// The event of the doorbell: no device has this number.
const DOORBELL: u64 = u64::MAX;

/// What a thread is asked to do. It answers when it is done.
#[derive(Debug)]
pub(crate) enum Command {
    /// Serve a device from now on; answers its number.
    Open {
        link: Box<Link>,
        answer: Sender<io::Result<usize>>,
    },
    /// Change a device, and move it to other sockets where there are some.
    Configure {
        id: usize,
        change: Change,
        sockets: Option<Sockets>,
        answer: Sender<Result<(), Refused>>,
    },
    /// Tell the state of a device.
    State {
        id: usize,
        answer: Sender<Result<State, Refused>>,
    },
    /// Know that the link has another MTU.
    SetMtu {
        id: usize,
        mtu: u16,
        answer: Sender<Result<(), Refused>>,
    },
    /// Close a device.
    Close { id: usize, answer: Sender<()> },
}

/// Why a thread did not do what it was asked to.
#[derive(Debug)]
pub(crate) enum Refused {
    /// There is no such device, or not any longer.
    Lost,
    /// The change is out of bounds.
    TooMany(TooMany),
    /// The new sockets cannot be waited on.
    Register(io::Error),
}

/// Starts a thread.
pub(super) fn start(number: usize) -> Result<(Courier<Command>, JoinHandle<()>), StartError> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC);
    let epoll = epoll.map_err(|errno| StartError::Poll(errno.into()))?;
    let (courier, mailbox) = courier::pair().map_err(StartError::Poll)?;
    mailbox.watch(&epoll, DOORBELL).map_err(StartError::Poll)?;
    let worker = Worker {
        epoll,
        mailbox,
        links: Slab::new(),
        schedule: BTreeSet::new(),
        scratch: Scratch::default(),
    };
    let thread = thread::Builder::new()
        .name(format!("wireguard-{number}"))
        .spawn(move || worker.run())
        .map_err(StartError::Thread)?;
    Ok((courier, thread))
}

struct Worker {
    epoll: Epoll,
    mailbox: Mailbox<Command>,
    links: Slab<Served>,
    /// When which device has something due.
    schedule: BTreeSet<(Instant, usize)>,
    scratch: Scratch,
}

struct Served {
    link: Box<Link>,
    scheduled: Option<Instant>,
    /// The link is gone; the device waits for its handle to go too.
    lost: bool,
}

impl Worker {
    fn run(mut self) {
        let mut events = [EpollEvent::empty(); EVENTS];
        loop {
            let ready = match self.epoll.wait(&mut events, self.patience()) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(errno) => {
                    tracing::error!(%errno, "a WireGuard thread cannot wait any longer");
                    return;
                }
            };
            let now = Now::read();
            let mut rung = false;
            for event in &events[..ready] {
                match event.data() {
                    DOORBELL => rung = true,
                    data => self.serve(data, now),
                }
            }
            self.run_due(now);
            // After the events, so that none of them is for a device that came later.
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

    /// How long nothing is due.
    fn patience(&self) -> EpollTimeout {
        let Some((at, _)) = self.schedule.first() else {
            return EpollTimeout::NONE;
        };
        let left = at.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return EpollTimeout::ZERO;
        }
        // Rounded up: waking a little too early would only be waking twice.
        let left = left + Duration::from_millis(1);
        EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
    }

    fn serve(&mut self, data: u64, now: Now) {
        let (id, end) = decode(data);
        let Some(served) = self.links.get_mut(id) else {
            return;
        };
        if served.link.serve(end, now, &mut self.scratch).is_err() {
            served.lost = true;
            // Its descriptor would be ready for ever.
            let _ = self.epoll.delete(&served.link.border);
        }
        self.reschedule(id);
    }

    fn run_due(&mut self, now: Now) {
        for _ in 0..TURNS {
            match self.schedule.first().copied() {
                Some((at, id)) if at <= now.instant => {
                    if let Some(served) = self.links.get_mut(id) {
                        served.link.turn(now, &mut self.scratch);
                    }
                    self.reschedule(id);
                }
                _ => return,
            }
        }
    }

    fn reschedule(&mut self, id: usize) {
        let Some(served) = self.links.get_mut(id) else {
            return;
        };
        let next = served.link.core.next_turn();
        if next == served.scheduled {
            return;
        }
        if let Some(at) = served.scheduled {
            self.schedule.remove(&(at, id));
        }
        self.schedule.extend(next.map(|at| (at, id)));
        served.scheduled = next;
    }

    /// Whoever asked may have gone: then nobody takes the answer.
    fn obey(&mut self, command: Command) {
        match command {
            Command::Open { link, answer } => {
                let _ = answer.send(self.open(link));
            }
            Command::Configure {
                id,
                change,
                sockets,
                answer,
            } => {
                let _ = answer.send(self.configure(id, change, sockets));
            }
            Command::State { id, answer } => {
                let served = self.served(id);
                let state = |served: &mut Served| {
                    let port = served.link.sockets.port;
                    served.link.core.state(port)
                };
                let _ = answer.send(served.map(state));
            }
            Command::SetMtu { id, mtu, answer } => {
                let set = |served: &mut Served| served.link.core.set_mtu(mtu);
                let _ = answer.send(self.served(id).map(set));
            }
            Command::Close { id, answer } => {
                self.close(id);
                let _ = answer.send(());
            }
        }
    }

    fn served(&mut self, id: usize) -> Result<&mut Served, Refused> {
        let served = self.links.get_mut(id).filter(|served| !served.lost);
        served.ok_or(Refused::Lost)
    }

    fn open(&mut self, link: Box<Link>) -> io::Result<usize> {
        let id = self.links.vacant_key();
        // The descriptors leave epoll by being closed, when `link` is dropped half-way.
        self.watch(link.border.as_fd(), id, End::Tun)?;
        self.watch_sockets(&link.sockets, id)?;
        let id = self.links.insert(Served {
            link,
            scheduled: None,
            lost: false,
        });
        self.reschedule(id);
        Ok(id)
    }

    fn configure(
        &mut self,
        id: usize,
        change: Change,
        sockets: Option<Sockets>,
    ) -> Result<(), Refused> {
        let served = self.served(id)?;
        served.link.core.check(&change).map_err(Refused::TooMany)?;
        if let Some(sockets) = sockets {
            self.watch_sockets(&sockets, id)
                .map_err(Refused::Register)?;
            self.served(id)?.link.sockets = sockets;
        }
        let served = self.served(id)?;
        served.link.core.configure(Instant::now(), change);
        self.reschedule(id);
        Ok(())
    }

    fn close(&mut self, id: usize) {
        let scheduled = self
            .links
            .try_remove(id)
            .and_then(|served| served.scheduled);
        if let Some(at) = scheduled {
            self.schedule.remove(&(at, id));
        }
    }

    fn watch_sockets(&self, sockets: &Sockets, id: usize) -> io::Result<()> {
        self.watch(sockets.v4.as_fd(), id, End::V4)?;
        match &sockets.v6 {
            Some(v6) => self.watch(v6.as_fd(), id, End::V6),
            None => Ok(()),
        }
    }

    fn watch(&self, fd: BorrowedFd<'_>, id: usize, end: End) -> io::Result<()> {
        let event = EpollEvent::new(EpollFlags::EPOLLIN, encode(id, end));
        Ok(self.epoll.add(fd, event)?)
    }
}

/// The number that epoll gives back: the device's, and which of its ends.
fn encode(id: usize, end: End) -> u64 {
    let end = match end {
        End::Tun => 0,
        End::V4 => 1,
        End::V6 => 2,
    };
    (id as u64) << 2 | end
}

fn decode(data: u64) -> (usize, End) {
    let end = match data & 3 {
        0 => End::Tun,
        1 => End::V4,
        _ => End::V6,
    };
    (usize::try_from(data >> 2).unwrap_or(usize::MAX), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_an_event_tells_the_device_and_its_end() {
        for id in [0, 1, 499, 1 << 32] {
            for end in [End::Tun, End::V4, End::V6] {
                assert_ne!(encode(id, end), DOORBELL);
                assert_eq!(decode(encode(id, end)), (id, end));
            }
        }
    }
}
