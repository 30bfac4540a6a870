//! The waits of a handshake.

use std::{
    future::{Future as _, poll_fn},
    os::fd::AsFd,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use engine_tls::SessionError;

use crate::{
    context::FlowContext,
    rt::{Readiness, until},
    transport::{Records, Tls, with_scratch},
};

/// Why a handshake was not done.
#[derive(Debug)]
pub(crate) enum Unshaken {
    /// It took too long.
    TimedOut,
    /// One side would not have it.
    Failed(SessionError),
}

/// Takes a session's handshake to its end, within `patience`, which is good to a second: no timer
/// is spent on one that is in time.
///
/// # Errors
/// Says why it did not come to that. What the session had to say about it is sent as far as the
/// socket took it.
pub(crate) async fn handshake(
    connection: &FlowContext<'_>,
    socket: &Readiness,
    session: &mut Tls,
    patience: Duration,
) -> Result<(), Unshaken> {
    let begun = Instant::now();
    while !step(socket, session)? {
        let left = patience.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(Unshaken::TimedOut);
        }
        let live = &connection.worker.live;
        let ready = ready(socket, session.wants_write());
        // A refused wait counts as readiness: the next call says what is wrong.
        let waited = connection.slot.within(live, left, ready).await;
        waited.map_err(|_| Unshaken::TimedOut)?;
    }
    Ok(())
}

/// [`handshake`] until a deadline, which costs timers.
///
/// # Errors
/// Those of [`handshake`].
pub(crate) async fn handshake_until(
    socket: &Readiness,
    session: &mut Tls,
    deadline: Instant,
) -> Result<(), Unshaken> {
    while !step(socket, session)? {
        let waited = until(deadline, ready(socket, session.wants_write())).await;
        waited.map_err(|_| Unshaken::TimedOut)?;
    }
    Ok(())
}

/// Goes on as far as it goes without waiting. Says whether that was to the end.
fn step(socket: &Readiness, session: &mut Tls) -> Result<bool, Unshaken> {
    let mut wire = Records(socket.as_fd());
    match with_scratch(|scratch| session.handshake(&mut wire, scratch)) {
        Ok(()) => Ok(true),
        Err(SessionError::WouldBlock) => Ok(false),
        Err(error) => Err(Unshaken::Failed(error)),
    }
}

/// Waits until the socket is readable, or writable where that is wanted.
async fn ready(socket: &Readiness, or_writable: bool) {
    if !or_writable {
        let _ = socket.readable().await;
        return;
    }
    let mut readable = pin!(socket.readable());
    let mut writable = pin!(socket.writable());
    poll_fn(|cx| {
        let is_ready =
            readable.as_mut().poll(cx).is_ready() || writable.as_mut().poll(cx).is_ready();
        if is_ready {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}
