//! Handing runs of datagrams to a socket.

use std::{io, os::fd::BorrowedFd};

use engine_sys::datagram::{self, Path};
use nix::errno::Errno;

use crate::core::outbox::Run;

/// What became of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transmitted {
    /// How many of its bytes were taken.
    pub(super) bytes: usize,
    /// It left, but not from the address that the peer spoke to, which this host has no longer.
    pub(super) is_source_gone: bool,
}

/// Sends a run.
pub(super) fn transmit(
    socket: BorrowedFd<'_>,
    run: Run,
    bytes: &[u8],
    cuts: &mut bool,
) -> Transmitted {
    let path = Path {
        remote: run.path.remote,
        local: run.path.local,
    };
    let (sent, is_retried) = match transmit_on(socket, path, run, bytes, cuts) {
        Err(error) if path.local.is_some() && error.kind() != io::ErrorKind::WouldBlock => {
            // The address that the peer spoke to may have gone from this host.
            let path = Path::to(path.remote);
            (transmit_on(socket, path, run, bytes, cuts), true)
        }
        sent => (sent, false),
    };
    Transmitted {
        is_source_gone: is_retried && sent.is_ok(),
        bytes: sent.unwrap_or(0),
    }
}

fn transmit_on(
    socket: BorrowedFd<'_>,
    path: Path,
    run: Run,
    bytes: &[u8],
    cuts: &mut bool,
) -> io::Result<usize> {
    let Some(segment) = run.segment() else {
        return datagram::send(socket, bytes, None, path, run.class).map(|()| bytes.len());
    };
    if *cuts {
        match datagram::send(socket, bytes, Some(segment), path, run.class) {
            Err(error) if is_refusal_to_cut(&error) => {
                // This route is too narrow for a segment (EINVAL), which says nothing of others; or
                // the link cannot do checksums (EIO), or the kernel no cutting.
                *cuts = error.raw_os_error() == Some(Errno::EINVAL as i32);
            }
            sent => return sent.map(|()| bytes.len()),
        }
    }
    let sent = datagram::send_each(socket, bytes, segment, path, run.class)?;
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
