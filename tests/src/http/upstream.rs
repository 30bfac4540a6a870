//! A tenant's HTTP server that remembers everything it was asked.

use std::{
    collections::BTreeMap,
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use anyhow::{Context as _, Result};

use super::{Content, Message, Wire};
use crate::{server::Server, wait::eventually};

/// A recording HTTP server. It closes all its connections when dropped.
#[derive(Debug)]
pub struct Upstream {
    seen: Arc<Seen>,
    /// Dropped last: no connection begins after the others were closed.
    server: Server<()>,
}

/// A request that reached the upstream, if only its head.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The connection that it came on, counted from 0.
    pub connection: usize,
    /// The request, with as much content as came.
    pub request: Message,
    /// Whether it came to its end.
    pub is_whole: bool,
}

/// What follows an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// The next request.
    Next,
    /// The end of the connection.
    Close,
}

#[derive(Debug, Default)]
struct Seen {
    connections: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
    asked: Mutex<Vec<Asked>>,
    /// Of each connection, after each answer.
    counts: Mutex<BTreeMap<usize, (u64, u64)>>,
}

/// An answer with content of a known length. `fields` are whole lines.
pub fn reply(status: &str, fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

impl Upstream {
    /// Answers every request with what `answer` makes of it.
    ///
    /// # Errors
    /// When no thread or descriptor is left.
    pub fn start(
        listener: TcpListener,
        answer: impl Fn(&Message, &mut Wire) -> Result<Then> + Clone + Send + 'static,
    ) -> Result<Self> {
        let seen = Arc::<Seen>::default();
        let recording = Arc::clone(&seen);
        let server = Server::start(listener, move |stream, _| {
            let socket = stream.try_clone()?;
            let served = recording.serve(stream, &answer);
            // The copy among the open ones would keep it; it may be closed already.
            let _ = socket.shutdown(Shutdown::Both);
            served
        })?;
        Ok(Self { seen, server })
    }

    /// Answers every request with 200 and this text.
    ///
    /// # Errors
    /// When no thread or descriptor is left.
    pub fn saying(listener: TcpListener, text: &str) -> Result<Self> {
        let answer = reply("200 OK", "", text);
        Self::start(listener, move |request, wire| {
            let head_only = request.method() == "HEAD";
            let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
            let length = end
                .filter(|_| head_only)
                .map_or(answer.len(), |end| end + 4);
            wire.send(&answer[..length])?;
            Ok(Then::Next)
        })
    }

    /// What it was asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.seen.asked).clone()
    }

    /// How many connections it was given so far.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Relaxed)
    }

    /// How many bytes came and went, of all requests that were answered.
    pub fn counts(&self) -> (u64, u64) {
        let counts = lock(&self.seen.counts);
        let add = |sum: (u64, u64), (received, sent): &(u64, u64)| (sum.0 + received, sum.1 + sent);
        counts.values().fold((0, 0), add)
    }

    /// The last request that came.
    ///
    /// # Errors
    /// When there was none.
    pub fn last(&self) -> Result<Message> {
        let asked = self
            .asked()
            .pop()
            .context("the upstream was asked nothing")?;
        Ok(asked.request)
    }

    /// Waits until it was asked so often.
    ///
    /// # Errors
    /// When that does not happen.
    pub fn wait_for(&self, count: usize) -> Result<Vec<Asked>> {
        eventually(&format!("{count} requests reach the upstream"), || {
            let asked = self.asked();
            (asked.len() >= count).then_some(asked)
        })
    }

    /// What the next connection to end came to.
    ///
    /// # Errors
    /// The connection's; or that none ended.
    pub fn next(&self) -> Result<()> {
        self.server.next()
    }

    /// Closes all its connections, and goes on listening.
    pub fn hang_up(&self) {
        for stream in lock(&self.seen.open).drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Seen {
    /// Serves one connection.
    fn serve(
        &self,
        stream: TcpStream,
        answer: &impl Fn(&Message, &mut Wire) -> Result<Then>,
    ) -> Result<()> {
        let connection = self.connections.fetch_add(1, Relaxed);
        // It may rest between two requests for as long as the gateway likes.
        stream.set_read_timeout(None)?;
        lock(&self.open).push(stream.try_clone()?);
        let mut wire = Wire::new(stream);
        while let Some(head) = wire.head()? {
            let request = self.receive(connection, head, &mut wire)?;
            let then = answer(&request, &mut wire)?;
            lock(&self.counts).insert(connection, wire.counts());
            if then == Then::Close {
                break;
            }
        }
        Ok(())
    }

    /// Remembers a request from its head on, and reads its content.
    fn receive(&self, connection: usize, head: Message, wire: &mut Wire) -> Result<Message> {
        let content = Content::of_request(&head);
        let place = {
            let mut asked = lock(&self.asked);
            asked.push(Asked {
                connection,
                request: head.clone(),
                is_whole: false,
            });
            asked.len() - 1
        };
        let mut request = head;
        if request.field("expect").is_some() {
            wire.send("HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let received = wire.collect(content?, &mut request);
        let mut asked = lock(&self.asked);
        asked[place].request = request.clone();
        asked[place].is_whole = received.is_ok();
        received.map(|()| request)
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.hang_up();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
