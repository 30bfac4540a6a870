//! What came of reading the boot file again, for the verb `reload`.
//!
//! A signal has no answer. So whoever sends SIGHUP and wants to know what came of it connects first, to
//! a socket without a file that is named after the process (unix(7), "Abstract socket addresses"), and
//! is told after the next reload. Only root and the gateway's own user are.

use std::{
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixListener as StdListener},
    },
    sync::Arc,
    time::Duration,
};

use rustix::process::geteuid;
use tokio::{
    io::AsyncWriteExt as _,
    net::{UnixListener, UnixStream},
    sync::{Semaphore, broadcast},
    task::AbortHandle,
    time::{sleep, timeout},
};

/// What is said once the next reload will be told.
pub(crate) const READY: &str = "ready";
/// What a result begins with.
pub(crate) const TAKEN: &str = "taken";
pub(crate) const REFUSED: &str = "refused";

/// Those who wait at once, and for how long.
const WAITING_MAX: usize = 8;
const PATIENCE: Duration = Duration::from_secs(600);
/// How long accepting rests after it failed.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// The address of a process.
///
/// # Errors
/// None: the name is short.
pub(crate) fn address(pid: u32) -> io::Result<SocketAddr> {
    SocketAddr::from_abstract_name(format!("{NAME}{pid}"))
}

/// What the address of a gateway begins with.
pub(crate) const NAME: &str = "ringway-reload-";

/// Tells results to whoever waits, until it is dropped.
#[derive(Debug)]
pub(super) struct Results {
    sender: broadcast::Sender<Arc<str>>,
    task: Option<AbortHandle>,
}

impl Results {
    /// Has others wait from now on. Without it a gateway serves all the same.
    pub(super) fn start() -> Self {
        let (sender, _) = broadcast::channel(WAITING_MAX);
        let task = match listen() {
            Ok(listener) => Some(tokio::spawn(accept_all(listener, sender.clone())).abort_handle()),
            Err(error) => {
                tracing::warn!(%error, "`ringway reload` will not learn what comes of it");
                None
            }
        };
        Self { sender, task }
    }

    /// Tells everybody who waits what came of a reload, and what is said of the file.
    pub(super) fn tell(&self, is_taken: bool, lines: &str) {
        let verdict = match is_taken {
            true => TAKEN,
            false => REFUSED,
        };
        // Mostly nobody waits.
        let _ = self.sender.send(format!("{verdict}\n{lines}").into());
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

fn listen() -> io::Result<UnixListener> {
    let listener = StdListener::bind_addr(&address(std::process::id())?)?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

async fn accept_all(listener: UnixListener, sender: broadcast::Sender<Arc<str>>) {
    let places = Arc::new(Semaphore::new(WAITING_MAX));
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(ACCEPT_REST).await;
            continue;
        };
        let user = stream.peer_cred().map(|peer| peer.uid());
        let is_allowed = user.is_ok_and(|user| user == 0 || user == geteuid().as_raw());
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        if is_allowed {
            let results = sender.subscribe();
            tokio::spawn(async move {
                // Whoever does not wait any more is not told.
                let _ = timeout(PATIENCE, answer(stream, results)).await;
                drop(place);
            });
        }
    }
}

async fn answer(
    mut stream: UnixStream,
    mut results: broadcast::Receiver<Arc<str>>,
) -> io::Result<()> {
    stream.write_all(format!("{READY}\n").as_bytes()).await?;
    // Without a sender the gateway is going down, which the end of the stream says.
    if let Ok(result) = results.recv().await {
        stream.write_all(result.as_bytes()).await?;
    }
    Ok(())
}
