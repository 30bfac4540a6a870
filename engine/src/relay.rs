//! Moves bytes both ways until both sides have ended.
//!
//! ```text
//!   client ──► recv ► scratch ► send ──► upstream        in
//!   client ◄── send ◄ scratch ◄ recv ◄── upstream        out
//! ```
//!
//! Each half is one direction: it moves one piece, then waits, through the ring, for the socket that
//! holds it up. So every other connection of the worker has its turn between two pieces, and a
//! piece is the most that one flow can delay the others by.

pub(crate) mod choice;
pub(crate) mod copy;
pub(crate) mod splice;

#[cfg(test)]
mod tests;

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    os::fd::AsFd as _,
    pin::pin,
    task::Poll,
    time::{Duration, Instant},
};

use engine_core::outcome::Outcome;
use engine_sys::{process::thread_cpu_time, socket};

use crate::{
    context::{
        FlowContext, Mode,
        account::clients::Moved,
        admit::Permit,
        listener::RelayMode,
        record::{Flow, RelayedBy},
    },
    rt::Readiness,
    transport::{
        Transport,
        linger::{Linger, linger},
        streams::{ClientFlow, Parting},
    },
};
use crate::{
    relay::{
        choice::Choice,
        copy::Copier,
        splice::{Refused, Splicer},
    },
    transport::unsent::Unsent,
};

/// What one direction does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Waits until there is something to read. Where there is already, this is how it gives way.
    WaitReadable,
    /// Waits until the destination takes more.
    WaitWritable,
    /// The source ended, and everything was passed on.
    End,
    /// One side broke the connection.
    Broken(Outcome),
}

/// A direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the client to the upstream.
    In,
    /// From the upstream to the client.
    Out,
}

/// What both halves of a connection work with.
#[derive(Debug)]
pub(crate) struct Wire<'a> {
    pub(crate) connection: &'a ClientFlow<'a>,
    pub(crate) upstream: &'a Transport,
    pub(crate) permit: &'a Permit,
    pub(crate) flow: &'a Flow,
}

/// One direction of a connection.
#[derive(Debug)]
struct Half<'a> {
    wire: &'a Wire<'a>,
    direction: Direction,
    /// How many more bytes are taken from the source; `None` is all until it ends.
    left: Cell<Option<u64>>,
    /// Where its end is passed on: whether the other direction has ended, too.
    ended: Option<&'a Cell<bool>>,
}

/// How long the other direction goes on when one side takes no more.
const AFTERMATH: Duration = Duration::from_secs(5);

/// Relays until both sides ended, or one broke, or nothing moved for as long as `idle`. `first` goes
/// to the upstream before anything else.
///
/// A side that takes no more may have said something before: a server that answers early and closes
/// resets what it did not read (RFC 9112 section 9.6). So where sending fails, the other direction goes
/// on until it ends by itself, and what came that way is whole when the connection ends: in order, because
/// a reset would take away what is still on its way.
pub(crate) async fn relay(wire: &Wire<'_>, first: Unsent, idle: Duration) -> Outcome {
    let FlowContext { worker, slot, .. } = wire.connection.flow;
    slot.watch_idle(&worker.live, idle);
    wire.flow.relayed_by.set(RelayedBy::Copy);
    let ended = Cell::new(false);
    let half = |direction| Half {
        ended: Some(&ended),
        ..Half::new(wire, direction, None)
    };
    let mut half_in = pin!(half(Direction::In).run(first));
    let mut half_out = pin!(half(Direction::Out).run(Unsent::default()));
    let (mut in_ended, mut out_ended) = (None, None);
    let outcome = poll_fn(|cx| {
        if in_ended.is_none()
            && let Poll::Ready(end) = half_in.as_mut().poll(cx)
        {
            if end == Err(Outcome::UpstreamReset) && out_ended.is_none() {
                slot.watch_idle(&worker.live, idle.min(AFTERMATH));
            } else if let Err(outcome) = end {
                return Poll::Ready(outcome);
            }
            in_ended = Some(end);
        }
        if out_ended.is_none()
            && let Poll::Ready(end) = half_out.as_mut().poll(cx)
        {
            if end == Err(Outcome::ClientReset) && in_ended.is_none() {
                slot.watch_idle(&worker.live, idle.min(AFTERMATH));
            } else if let Err(outcome) = end {
                return Poll::Ready(outcome);
            }
            out_ended = Some(end);
        }
        match (in_ended, out_ended) {
            (Some(end_in), Some(end_out)) => {
                let broken = end_in.and(end_out);
                Poll::Ready(broken.err().unwrap_or(Outcome::Done))
            }
            _ => Poll::Pending,
        }
    })
    .await;
    let was_sending = in_ended.is_none() && !wire.connection.streams.client.is_quiet();
    let refused_in = in_ended == Some(Err(Outcome::UpstreamReset));
    if outcome == Outcome::UpstreamReset && (refused_in || was_sending) {
        wire.connection.streams.parting.set(Parting::InOrder);
        Box::pin(linger(wire.connection, Linger::LONG)).await;
    }
    outcome
}

/// Moves a body of a known length one way, by whatever way is cheapest. `first` is what of it has
/// been received already, and `left` how many bytes are still to come.
///
/// # Errors
/// The outcome, when a side broke the connection, or ended before the body did.
pub(crate) async fn carry(
    wire: &Wire<'_>,
    direction: Direction,
    first: Unsent,
    left: u64,
) -> Result<(), Outcome> {
    if left == 0 && first.is_empty() {
        return Ok(());
    }
    Half::new(wire, direction, Some(left)).run(first).await
}

/// Moves what one side still sends, until it ends. `first` is what has been received already. The
/// end is not passed on.
///
/// # Errors
/// The outcome, when a side broke the connection.
pub(crate) async fn carry_rest(
    wire: &Wire<'_>,
    direction: Direction,
    first: Unsent,
) -> Result<(), Outcome> {
    Half::new(wire, direction, None).run(first).await
}

impl Wire<'_> {
    /// Where bytes come from, and where they go.
    pub(crate) fn sides(&self, direction: Direction) -> (&Transport, &Transport) {
        let client = &self.connection.streams.client;
        match direction {
            Direction::In => (client, self.upstream),
            Direction::Out => (self.upstream, client),
        }
    }

    /// The outcome when reading from the sender fails.
    pub(crate) fn sender_broke(&self, direction: Direction) -> Outcome {
        match direction {
            Direction::In => Outcome::ClientReset,
            Direction::Out => Outcome::UpstreamReset,
        }
    }

    /// The outcome when the sender ends in the middle of something.
    pub(crate) fn sender_ended(&self, direction: Direction) -> Outcome {
        match direction {
            Direction::In => Outcome::Truncated,
            Direction::Out => Outcome::UpstreamReset,
        }
    }

    /// The outcome when writing to the receiver fails.
    pub(crate) fn receiver_broke(&self, direction: Direction) -> Outcome {
        match direction {
            Direction::In => Outcome::UpstreamReset,
            Direction::Out => Outcome::ClientReset,
        }
    }

    /// Counts bytes that one side gave and the other took.
    pub(crate) fn count(&self, direction: Direction, bytes: u64) {
        count(self.connection, self.permit, self.flow, direction, bytes);
    }
}

/// Counts bytes that one side gave and the other took, for the route and for the client.
pub(crate) fn count(
    connection: &ClientFlow<'_>,
    permit: &Permit,
    flow: &Flow,
    direction: Direction,
    bytes: u64,
) {
    let cell = match direction {
        Direction::In => &flow.bytes_in,
        Direction::Out => &flow.bytes_out,
    };
    cell.set(cell.get() + bytes);
    if direction == Direction::Out && flow.first_byte_at.get().is_none() {
        flow.first_byte_at.set(Some(Instant::now()));
    }
    let worker = connection.worker;
    connection.slot.touch(&worker.live);
    worker.ledger.count(&permit.route, |tally| match direction {
        Direction::In => tally.bytes_in += bytes,
        Direction::Out => tally.bytes_out += bytes,
    });
    if let Some(client) = flow.client.get() {
        let moved = match direction {
            Direction::In => Moved::In(bytes),
            Direction::Out => Moved::Out(bytes),
        };
        worker.ledger.count_moved(client, moved);
    }
}

impl<'a> Half<'a> {
    fn new(wire: &'a Wire<'a>, direction: Direction, left: Option<u64>) -> Self {
        Self {
            wire,
            direction,
            left: Cell::new(left),
            ended: None,
        }
    }
}

impl Half<'_> {
    /// How many bytes to ask the source for at most.
    fn left(&self) -> usize {
        let left = self.left.get();
        left.map_or(usize::MAX, |left| {
            usize::try_from(left).unwrap_or(usize::MAX)
        })
    }

    /// The source gave so many bytes.
    fn took(&self, bytes: usize) {
        let left = self.left.get();
        self.left
            .set(left.map(|left| left.saturating_sub(bytes as u64)));
    }

    fn from(&self) -> &Transport {
        self.wire.sides(self.direction).0
    }

    fn to(&self) -> &Transport {
        self.wire.sides(self.direction).1
    }

    /// Both sockets, where they carry the bytes themselves.
    fn sockets(&self) -> Option<(&Readiness, &Readiness)> {
        Some((self.from().as_plain()?, self.to().as_plain()?))
    }

    /// Runs the half to its end.
    ///
    /// # Errors
    /// The outcome of the connection, when a side broke it.
    async fn run(self, first: Unsent) -> Result<(), Outcome> {
        let mut mover = Mover::new(&self, first);
        loop {
            let waited = match mover.step(&self) {
                // Whoever would read has passed everything on.
                Step::WaitReadable if self.left() == 0 => break,
                Step::WaitReadable => self.from().readable().await,
                Step::WaitWritable => self.to().writable().await,
                Step::End if self.left.get().is_some() => {
                    return Err(self.wire.sender_ended(self.direction));
                }
                Step::End => break,
                Step::Broken(outcome) => return Err(outcome),
            };
            waited.map_err(|_| Outcome::GatewayError)?;
        }
        let flushed = self.to().flushed().await;
        flushed.map_err(|_| self.destination_broke())?;
        if let Some(ended) = self.ended {
            let other_ended = ended.replace(true);
            // Fails only when the other side is gone, which its own half finds out.
            let _ = match self.to().as_plain() {
                // The close that follows says it all.
                Some(_) if other_ended => Ok(()),
                Some(socket) => socket::shutdown_write(socket.as_fd()),
                None => Box::pin(self.to().shut_down()).await,
            };
        }
        Ok(())
    }

    /// Counts bytes that the source gave and the destination took.
    fn count(&self, bytes: u64) {
        self.wire.count(self.direction, bytes);
    }

    /// The outcome when reading from the source fails.
    fn source_broke(&self) -> Outcome {
        self.wire.sender_broke(self.direction)
    }

    /// The outcome when writing to the destination fails.
    fn destination_broke(&self) -> Outcome {
        self.wire.receiver_broke(self.direction)
    }
}

/// How one direction moves bytes at the moment. Bulk has state of its own, made when it begins, so that an
/// idle connection stays small.
#[derive(Debug)]
struct Mover<'a> {
    copier: Copier<'a>,
    young: u64,
    bulk: Option<Box<Bulk>>,
}

/// A flow that is big enough for the way to matter.
#[derive(Debug, Default)]
struct Bulk {
    splicer: Splicer,
    /// `None` where the listener decides.
    choice: Option<Choice>,
    was_refused: bool,
}

impl<'a> Mover<'a> {
    fn new(half: &Half<'a>, first: Unsent) -> Self {
        let FlowContext {
            worker, listener, ..
        } = half.wire.connection.flow;
        let is_spliced = listener.relay == RelayMode::Splice;
        let bulk = is_spliced.then(Box::<Bulk>::default);
        Self {
            copier: Copier::new(&worker.scratch, first),
            young: 0,
            bulk,
        }
    }

    fn step(&mut self, half: &Half<'_>) -> Step {
        if let Some(bulk) = &mut self.bulk {
            return bulk.step(half, &mut self.copier);
        }
        let (step, moved) = self.copier.step(half);
        self.young += moved;
        let is_auto = half.wire.connection.listener.relay == RelayMode::Auto;
        if is_auto && self.young >= choice::BULK_BYTES {
            let borrowed = half.wire.connection.worker.mode.get();
            let choice = Some(Choice::new(borrowed, Instant::now()));
            self.bulk = Some(Box::new(Bulk {
                choice,
                ..Bulk::default()
            }));
        }
        step
    }
}

impl Bulk {
    fn step(&mut self, half: &Half<'_>, copier: &mut Copier<'_>) -> Step {
        let is_trial = self.choice.as_ref().is_some_and(Choice::is_trial);
        let cpu_before = is_trial.then(thread_cpu_time);
        let (step, moved) = match self.mode() {
            Mode::Splice if copier.is_empty() => self.splice(half, copier),
            Mode::Copy if !self.splicer.is_empty() => self.splicer.empty(half),
            Mode::Copy | Mode::Splice => copier.step(half),
        };
        if let Some(choice) = &mut self.choice {
            let cpu = cpu_before.map(|before| thread_cpu_time().saturating_sub(before));
            choice.moved(moved, cpu.unwrap_or_default(), Instant::now());
            if is_trial && let Some(way) = choice.chosen() {
                half.wire.connection.worker.mode.set(Some(way));
            }
        }
        step
    }

    fn mode(&self) -> Mode {
        if self.was_refused {
            return Mode::Copy;
        }
        self.choice.as_ref().map_or(Mode::Splice, Choice::mode)
    }

    fn splice(&mut self, half: &Half<'_>, copier: &mut Copier<'_>) -> (Step, u64) {
        match self.splicer.step(half) {
            Ok((step, moved)) => {
                if moved > 0
                    && half.wire.flow.relayed_by.replace(RelayedBy::Splice) == RelayedBy::Copy
                {
                    half.wire.connection.worker.ledger.count_splice();
                }
                (step, moved)
            }
            Err(Refused) => {
                self.was_refused = true;
                self.choice = None;
                copier.step(half)
            }
        }
    }
}
