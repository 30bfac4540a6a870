//! The descriptors of one device, and its core between them.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use engine_sys::datagram::{self, Inbox, Path};
use nix::errno::Errno;

use crate::core::{
    Core, Now,
    outbox::{MESSAGE_BYTES_MAX, Outbox, Run},
    path,
};

/// Packets that are read from a tenant before others get their turn.
const PACKETS_PER_TURN: usize = 128;

/// One device: its link, its port, its core.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) core: Core,
    pub(crate) tun: OwnedFd,
    pub(crate) sockets: Sockets,
    /// The kernel cuts runs for its sockets.
    cuts: bool,
}

/// The UDP port of a device.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) v4: OwnedFd,
    /// A host may be without IPv6.
    pub(crate) v6: Option<OwnedFd>,
    pub(crate) port: u16,
}

/// Which of a device's descriptors is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The link.
    Tun,
    /// The port, over IPv4.
    V4,
    /// The port, over IPv6.
    V6,
}

/// The link is gone: somebody deleted it, or its namespace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lost;

/// Memory that a thread uses for whichever device it serves, so that a device at rest has none.
#[derive(Debug)]
pub(crate) struct Scratch {
    inbox: Inbox,
    outbox: Outbox,
    /// A packet of the tenant, with room for its padding.
    packet: Box<[u8]>,
    /// What was in a datagram.
    plain: Box<[u8]>,
}

impl Default for Scratch {
    fn default() -> Self {
        let buffer = || vec![0; MESSAGE_BYTES_MAX].into_boxed_slice();
        Self {
            inbox: Inbox::default(),
            outbox: Outbox::default(),
            packet: buffer(),
            plain: buffer(),
        }
    }
}

impl Sockets {
    pub(crate) fn new(v4: OwnedFd, v6: Option<OwnedFd>, port: u16) -> Self {
        Self { v4, v6, port }
    }

    fn towards(&self, to: SocketAddr) -> Option<BorrowedFd<'_>> {
        match to {
            SocketAddr::V4(_) => Some(self.v4.as_fd()),
            SocketAddr::V6(_) => self.v6.as_ref().map(OwnedFd::as_fd),
        }
    }
}

impl Link {
    pub(crate) fn new(core: Core, tun: OwnedFd, sockets: Sockets) -> Self {
        Self {
            core,
            tun,
            sockets,
            cuts: true,
        }
    }

    /// Serves a descriptor that is ready, for a bounded while.
    pub(crate) fn serve(&mut self, end: End, now: Now, scratch: &mut Scratch) -> Result<(), Lost> {
        let served = match end {
            End::Tun => self.serve_tenant(now, scratch),
            End::V4 | End::V6 => self.serve_peers(end, now, scratch),
        };
        self.flush(&mut scratch.outbox);
        served
    }

    /// Does what is due.
    pub(crate) fn turn(&mut self, now: Now, scratch: &mut Scratch) {
        self.core.turn(now, &mut scratch.outbox);
        self.flush(&mut scratch.outbox);
    }

    fn serve_tenant(&mut self, now: Now, scratch: &mut Scratch) -> Result<(), Lost> {
        // The core keeps 16 bytes of padding and 32 of its own off the longest packet.
        let longest = usize::from(u16::MAX);
        for _ in 0..PACKETS_PER_TURN {
            let len = match nix::unistd::read(&self.tun, &mut scratch.packet[..longest]) {
                Ok(len) => len,
                // TUN says so when its link, or the namespace of it, is gone.
                Err(Errno::EBADFD) => return Err(Lost),
                Err(_) => break,
            };
            // What cannot be sent is dropped, as routers do.
            let _ = self
                .core
                .send(now, &mut scratch.packet, len, &mut scratch.outbox);
            self.make_room(&mut scratch.outbox);
        }
        Ok(())
    }

    fn serve_peers(&mut self, end: End, now: Now, scratch: &mut Scratch) -> Result<(), Lost> {
        let Scratch {
            inbox,
            outbox,
            plain,
            ..
        } = scratch;
        let socket = match end {
            End::V6 => self.sockets.v6.as_ref(),
            End::V4 | End::Tun => Some(&self.sockets.v4),
        };
        // What an earlier datagram met on its way is not for us to act on.
        let received = socket.map_or(Ok(0), |socket| inbox.receive(socket.as_fd()));
        for index in 0..received.unwrap_or(0) {
            let Some((path, datagrams)) = inbox.arrival(index) else {
                continue;
            };
            let path = path::Path {
                remote: path.remote,
                local: path.local,
            };
            for datagram in datagrams {
                let packet = self.core.receive(now, path, datagram, plain, outbox);
                // A link that is down takes nothing (EIO), as does one without memory: dropped.
                let written = packet.map(|packet| nix::unistd::write(&self.tun, packet));
                if written == Some(Err(Errno::EBADFD)) {
                    return Err(Lost);
                }
                self.make_room(outbox);
            }
        }
        Ok(())
    }

    fn make_room(&mut self, outbox: &mut Outbox) {
        if !outbox.has_room() {
            self.flush(outbox);
        }
    }

    /// Sends what there is to send. What the network does not take is dropped, and not counted.
    fn flush(&mut self, outbox: &mut Outbox) {
        for (run, bytes) in outbox.runs() {
            let sent = match self.sockets.towards(run.path.remote) {
                Some(socket) => transmit(socket, run, bytes, &mut self.cuts),
                None => 0,
            };
            if let Some(peer) = run.peer.filter(|_| sent < bytes.len()) {
                self.core.unsent(peer, bytes.len() - sent);
            }
        }
        outbox.clear();
    }
}

/// Sends a run and answers how many of its bytes were taken.
fn transmit(socket: BorrowedFd<'_>, run: Run, bytes: &[u8], cuts: &mut bool) -> usize {
    let path = Path {
        remote: run.path.remote,
        local: run.path.local,
    };
    let sent = match transmit_on(socket, path, run, bytes, cuts) {
        Err(error) if path.local.is_some() && error.kind() != io::ErrorKind::WouldBlock => {
            // The address that the peer spoke to may have gone from this host.
            transmit_on(socket, Path::to(path.remote), run, bytes, cuts)
        }
        sent => sent,
    };
    sent.unwrap_or(0)
}

fn transmit_on(
    socket: BorrowedFd<'_>,
    path: Path,
    run: Run,
    bytes: &[u8],
    cuts: &mut bool,
) -> io::Result<usize> {
    let Some(segment) = run.segment() else {
        return datagram::send(socket, bytes, None, path).map(|()| bytes.len());
    };
    if *cuts {
        match datagram::send(socket, bytes, Some(segment), path) {
            Err(error) if is_refusal_to_cut(&error) => {
                // This route is too narrow for a segment (EINVAL), which says nothing of others; or
                // the link cannot do checksums (EIO), or the kernel no cutting.
                *cuts = error.raw_os_error() == Some(Errno::EINVAL as i32);
            }
            sent => return sent.map(|()| bytes.len()),
        }
    }
    let sent = datagram::send_each(socket, bytes, segment, path)?;
    Ok((sent * usize::from(segment.get())).min(bytes.len()))
}

fn is_refusal_to_cut(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    let refusals = [
        Errno::EINVAL,
        Errno::EIO,
        Errno::EOPNOTSUPP,
        Errno::ENOPROTOOPT,
        Errno::EMSGSIZE,
    ];
    errno.is_some_and(|errno| refusals.contains(&errno))
}
