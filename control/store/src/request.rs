//! Questions to a thread, and its answers.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use crossbeam_channel::{Receiver, Sender, TrySendError};
use tokio::sync::oneshot;

/// Work for a thread that owns a `W`.
pub(crate) type Work<W> = Box<dyn FnOnce(&mut W) + Send>;

/// Why a question was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Too many are waiting already: the disk is slow, or locked.
    #[error("the store has too many requests waiting")]
    Busy,
    /// Its thread has ended.
    #[error("the store is closed")]
    Closed,
}

/// An answer to come: await it, or [`wait`](Self::wait) for it.
///
/// What was asked for is done even if the answer is dropped.
#[derive(Debug)]
#[must_use = "nobody learns whether it failed"]
pub struct Answer<T, E>(State<T, E>);

#[derive(Debug)]
enum State<T, E> {
    Waiting(oneshot::Receiver<Result<T, E>>),
    Refused(Refused),
}

impl<T, E> Answer<T, E> {
    /// An answer that is there already: of a store that has no thread.
    pub fn ready(answer: Result<T, E>) -> Self {
        let (sender, receiver) = oneshot::channel();
        // The other end is here.
        let _ = sender.send(answer);
        Self(State::Waiting(receiver))
    }

    /// Whether the question was not taken.
    pub(crate) fn is_refused(&self) -> bool {
        matches!(self.0, State::Refused(_))
    }

    /// Nobody will answer.
    pub(crate) fn closed() -> Self {
        Self(State::Refused(Refused::Closed))
    }
}

impl<T, E: From<Refused>> Answer<T, E> {
    /// Blocks the thread until the answer is there.
    ///
    /// # Errors
    /// The answer itself, or that nobody will give one.
    ///
    /// # Panics
    /// On a thread that runs async tasks, which has to await instead.
    pub fn wait(self) -> Result<T, E> {
        match self.0 {
            State::Waiting(answer) => answer
                .blocking_recv()
                .unwrap_or_else(|_| Err(Refused::Closed.into())),
            State::Refused(why) => Err(why.into()),
        }
    }
}

impl<T, E: From<Refused>> Future for Answer<T, E> {
    type Output = Result<T, E>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.get_mut().0 {
            State::Waiting(answer) => Pin::new(answer)
                .poll(context)
                .map(|answer| answer.unwrap_or_else(|_| Err(Refused::Closed.into()))),
            State::Refused(why) => Poll::Ready(Err((*why).into())),
        }
    }
}

/// The way to a thread that owns a `W`.
pub(crate) struct Requests<W>(Sender<Work<W>>);

impl<W> Requests<W> {
    /// A way that holds so many requests.
    pub(crate) fn bounded(requests_max: usize) -> (Self, Receiver<Work<W>>) {
        let (sender, receiver) = crossbeam_channel::bounded(requests_max);
        (Self(sender), receiver)
    }

    /// Has work done, unless too much is waiting.
    pub(crate) fn post(&self, work: Work<W>) -> Result<(), Refused> {
        self.0.try_send(work).map_err(|error| match error {
            TrySendError::Full(_) => Refused::Busy,
            TrySendError::Disconnected(_) => Refused::Closed,
        })
    }

    /// Has work done, and its result answered.
    pub(crate) fn ask<T, E>(
        &self,
        work: impl FnOnce(&mut W) -> Result<T, E> + Send + 'static,
    ) -> Answer<T, E>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let posted = self.post(Box::new(move |owner| {
            // Who dropped the answer does not want it.
            drop(sender.send(work(owner)));
        }));
        Answer(match posted {
            Ok(()) => State::Waiting(receiver),
            Err(why) => State::Refused(why),
        })
    }
}

impl<W> Clone for Requests<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<W> fmt::Debug for Requests<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Requests({} waiting)", self.0.len())
    }
}
