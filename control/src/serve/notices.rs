//! What the service manager is told (sd_notify(3)).

use std::{io, thread};

use crossbeam_channel::{Sender, TrySendError, bounded};
use sd_notify::NotifyState;

/// Notices that wait for a service manager that does not read.
const WAITING_MAX: usize = 16;

/// The way to the service manager, where there is one. Its socket holds a few notices, and whoever
/// sends one more waits for it: so a thread of its own does, and the control thread never.
#[derive(Debug)]
pub(super) struct Notices(Sender<Vec<NotifyState<'static>>>);

impl Notices {
    /// Starts the thread. It ends with this value.
    ///
    /// # Errors
    /// When there is no thread left.
    pub(super) fn start() -> io::Result<Self> {
        let (sender, notices) = bounded::<Vec<NotifyState<'static>>>(WAITING_MAX);
        let send = move || {
            for news in notices {
                if let Err(error) = sd_notify::notify(&news) {
                    tracing::warn!(%error, "the service manager cannot be told");
                }
            }
        };
        thread::Builder::new().name("notices".into()).spawn(send)?;
        Ok(Self(sender))
    }

    /// Tells the service manager, as soon as it reads.
    pub(super) fn tell(&self, news: impl Into<Vec<NotifyState<'static>>>) {
        match self.0.try_send(news.into()) {
            Ok(()) => {}
            Err(TrySendError::Full(news)) => {
                tracing::warn!(?news, "the service manager does not read what it is told");
            }
            Err(TrySendError::Disconnected(_)) => {
                tracing::error!("nothing tells the service manager any more");
            }
        }
    }
}
