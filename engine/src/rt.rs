//! The only user of monoio: a worker's executor, timers and readiness.
//!
//! Sockets are driven by readiness plus plain system calls, so nothing is ever in flight inside the
//! kernel but polls: dropping a wait loses no bytes, and any wait may be timed out. What another
//! runtime would have to offer is exactly what this module exports.
//!
//! Two rules of monoio 0.2.4 hold everywhere above: no task wakes itself (its scheduler would run
//! it before every other), and nobody wakes a task from another thread (mailboxes ring an eventfd
//! instead). A task gives way by waiting for readiness: on io_uring every such wait goes through
//! the ring. The epoll driver answers at once when it remembers that the socket is ready, and so
//! would let one busy flow keep its worker: there, such an answer is sent once around through an
//! eventfd (see [`give_way`]).

use std::{
    cell::RefCell,
    future::{Future, poll_fn},
    io,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream as StdStream,
    },
    pin::{Pin, pin},
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use engine_sys::stream::Stream;
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder, net::UnixStream};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Entries in a worker's submission queue: at least twice the largest burst of new waits, which is
/// two for each of a batch of accepted connections, because monoio panics on a queue that stays
/// full.
const RING_ENTRIES: u32 = 4096;

/// What a worker waits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Driver {
    /// io_uring.
    IoUring,
    /// epoll, where io_uring is refused.
    Epoll,
}

impl Driver {
    /// The word in logs.
    pub fn label(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Epoll => "epoll",
        }
    }
}

/// Runs a worker's main future on this thread, and every task that it spawns.
///
/// # Errors
/// When the ring or the epoll instance cannot be made.
pub(crate) fn run<F: Future>(driver: Driver, main: F) -> io::Result<F::Output> {
    match driver {
        Driver::IoUring => {
            let mut ring = io_uring::IoUring::builder();
            engine_sys::probe::ring_flags(&mut ring);
            let builder = RuntimeBuilder::<IoUringDriver>::new().with_entries(RING_ENTRIES);
            let mut runtime = builder.uring_builder(ring).enable_timer().build()?;
            runtime.block_on(async {
                start_giving_way()?;
                Ok(main.await)
            })
        }
        Driver::Epoll => {
            let builder = RuntimeBuilder::<LegacyDriver>::new().with_entries(RING_ENTRIES);
            builder.enable_timer().build()?.block_on(async {
                start_giving_way()?;
                Ok(main.await)
            })
        }
    }
}

/// Starts a task on this worker. It runs until it ends.
pub(crate) fn spawn(task: impl Future<Output = ()> + 'static) {
    drop(monoio::spawn(task));
}

/// Waits for a time.
pub(crate) async fn sleep(duration: Duration) {
    monoio::time::sleep(duration).await;
}

/// A descriptor whose readiness this worker can wait for: a socket, a listener or an eventfd.
#[derive(Debug)]
pub(crate) struct Readiness(Stream);

// A wait with a deadline is boxed: monoio's timer takes 600 bytes, aligned to 128, which would
// otherwise be part of every connection's task for its whole life.

/// A wait that took too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimedOut;

impl Readiness {
    /// Takes a non-blocking descriptor over; it is closed when this is dropped.
    ///
    /// # Errors
    /// When the epoll driver cannot register it.
    pub(crate) fn new(fd: OwnedFd) -> io::Result<Self> {
        // Whatever the descriptor is: monoio asks nothing of it but that it can be polled, and of
        // its wrappers this one is the smallest (8 bytes; its TCP stream has 80).
        Ok(Self(Stream(UnixStream::from_std(StdStream::from(fd))?)))
    }

    /// Waits until there is something to read, or the end of the stream, or an error.
    ///
    /// # Errors
    /// When the kernel refuses the wait.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        around(pin!(self.0.0.readable(false))).await
    }

    /// Waits until there is room to write, or an error.
    ///
    /// # Errors
    /// When the kernel refuses the wait.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        around(pin!(self.0.0.writable(false))).await
    }

    /// [`Readiness::writable`], until a deadline.
    ///
    /// # Errors
    /// When the deadline came first. A refused wait counts as readiness: the write that follows
    /// says what is wrong.
    pub(crate) async fn writable_until(&self, deadline: Instant) -> Result<(), TimedOut> {
        until(deadline, self.writable()).await.map(drop)
    }
}

/// Waits until a deadline.
///
/// # Errors
/// When the deadline came first.
pub(crate) async fn until<F: Future>(deadline: Instant, wait: F) -> Result<F::Output, TimedOut> {
    let timed = Box::pin(monoio::time::timeout_at(deadline.into(), wait));
    timed.await.map_err(|_| TimedOut)
}

thread_local! {
    /// Tasks that gave way, and the eventfd that their turn comes through.
    static GIVEN_WAY: (RefCell<Vec<Waker>>, RefCell<Option<EventFd>>) = const {
        (RefCell::new(Vec::new()), RefCell::new(None))
    };
}

/// Lets every other task have its turn before a wait that was over at once.
async fn around(mut wait: Pin<&mut impl Future<Output = io::Result<()>>>) -> io::Result<()> {
    let mut has_waited = false;
    let waited = poll_fn(|cx| {
        let polled = wait.as_mut().poll(cx);
        has_waited |= polled.is_pending();
        polled
    });
    waited.await?;
    if !has_waited {
        give_way().await;
    }
    Ok(())
}

/// Comes back after the driver has looked at every socket and timer again: for tasks that have more
/// to do without waiting.
pub(crate) async fn give_way() {
    let mut is_back = false;
    poll_fn(|cx| {
        if is_back {
            return Poll::Ready(());
        }
        is_back = true;
        GIVEN_WAY.with(|(tasks, bell)| {
            tasks.borrow_mut().push(cx.waker().clone());
            match &*bell.borrow() {
                // Fails only when it has rung already, more often than a number can say.
                Some(bell) => drop(bell.write(1)),
                None => tasks.take().into_iter().for_each(Waker::wake),
            }
        });
        Poll::Pending
    })
    .await;
}

/// Starts the task that gives turns to those who gave way.
fn start_giving_way() -> io::Result<()> {
    let bell = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
    let rung = Readiness::new(bell.as_fd().try_clone_to_owned()?)?;
    GIVEN_WAY.with(|(_, place)| place.replace(Some(bell)));
    spawn(async move {
        while rung.0.0.readable(false).await.is_ok() {
            let tasks = GIVEN_WAY.with(|(tasks, bell)| {
                if let Some(bell) = &*bell.borrow() {
                    // Empty when it was a false alarm.
                    let _ = bell.read();
                }
                tasks.take()
            });
            tasks.into_iter().for_each(Waker::wake);
        }
    });
    Ok(())
}

impl AsFd for Readiness {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::Cell,
        io::Write,
        net::{TcpListener, TcpStream},
        rc::Rc,
    };

    use super::*;

    fn readable_socket() -> (TcpStream, Readiness) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (reader, _) = listener.accept().unwrap();
        reader.set_nonblocking(true).unwrap();
        writer.write_all(b"always readable").unwrap();
        (writer, Readiness::new(reader.into()).unwrap())
    }

    /// Tasks that always find their socket ready must starve neither each other nor a timer: the
    /// danger of DEFER_TASKRUN, under which completions wait until the ring is entered for them.
    #[test]
    fn busy_tasks_starve_neither_each_other_nor_timers() {
        for driver in [Driver::IoUring, Driver::Epoll] {
            run(driver, async {
                let turns: Rc<[Cell<u32>; 4]> = Rc::default();
                let is_over = Rc::new(Cell::new(false));
                for index in 0..4 {
                    let (turns, is_over) = (Rc::clone(&turns), Rc::clone(&is_over));
                    spawn(async move {
                        let (_writer, socket) = readable_socket();
                        while !is_over.get() {
                            socket.readable().await.unwrap();
                            turns[index].set(turns[index].get() + 1);
                        }
                    });
                }
                let begin = Instant::now();
                sleep(Duration::from_millis(100)).await;
                is_over.set(true);
                assert!(
                    begin.elapsed() < Duration::from_secs(2),
                    "{driver:?}: the timer starved"
                );
                let turns = turns.each_ref().map(Cell::get);
                let (least, most) = (turns.iter().min().unwrap(), turns.iter().max().unwrap());
                assert!(
                    *least > 10 && *most < 4 * *least,
                    "{driver:?}: turns {turns:?}"
                );
                sleep(Duration::from_millis(5)).await;
            })
            .unwrap();
        }
    }

    #[test]
    fn a_wait_that_times_out_loses_nothing() {
        for driver in [Driver::IoUring, Driver::Epoll] {
            run(driver, async {
                let listener = TcpListener::bind("127.0.0.1:0").unwrap();
                let mut writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                let (reader, _) = listener.accept().unwrap();
                reader.set_nonblocking(true).unwrap();
                let socket = Readiness::new(reader.into()).unwrap();
                let soon = Instant::now() + Duration::from_millis(20);
                let waited = until(soon, socket.readable()).await;
                assert!(matches!(waited, Err(TimedOut)), "{driver:?}");
                writer.write_all(b"late").unwrap();
                let later = Instant::now() + Duration::from_secs(5);
                let waited = until(later, socket.readable()).await;
                assert!(matches!(waited, Ok(Ok(()))), "{driver:?}");
                let mut bytes = [0; 8];
                assert_eq!(
                    engine_sys::socket::recv(socket.as_fd(), &mut bytes).unwrap(),
                    4
                );
            })
            .unwrap();
        }
    }
}
