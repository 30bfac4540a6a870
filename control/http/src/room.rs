//! Room for connections: how many there may be, and which one goes when another one comes.
//!
//! Whoever sends half a request and then nothing costs little, but takes a place. So a connection
//! without a whole request gives way to a new one, the oldest first, of the source that has the most:
//! however many hold on to theirs, a probe is answered at once. What is being answered is never
//! broken off.

use std::{
    collections::{BTreeMap, HashMap},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::source::Prefix;

/// How long a place is waited for before it is looked again for somebody who gives way.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// All connections.
#[derive(Debug)]
pub(crate) struct Room {
    places: Arc<Semaphore>,
    of_source_max: u32,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    next: u64,
    /// By age.
    connections: BTreeMap<u64, Connection>,
    counts: HashMap<Prefix, u32>,
}

#[derive(Debug)]
struct Connection {
    source: Prefix,
    work: Arc<Work>,
}

/// What a connection is doing.
#[derive(Debug, Default)]
pub(crate) struct Work {
    /// Requests that came whole and are not answered yet: one, or none.
    requests: AtomicU32,
    leave: Notify,
}

/// The place of one connection, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    room: Arc<Room>,
    id: u64,
    pub(crate) work: Arc<Work>,
    _place: OwnedSemaphorePermit,
}

impl Room {
    pub(crate) fn new(places: usize, of_source_max: u32) -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS))),
            of_source_max,
            open: Mutex::default(),
        })
    }

    /// A place for a connection that was accepted; none when its source has as many as it may, and
    /// all of them are being answered. Waits while everybody's are.
    pub(crate) async fn enter(self: &Arc<Self>, source: Prefix) -> Option<Place> {
        let id = self.admit(source)?;
        let place = loop {
            let places = Arc::clone(&self.places);
            if let Ok(place) = Arc::clone(&places).try_acquire_owned() {
                break place;
            }
            self.make_room(id);
            match timeout(LOOK_INTERVAL, places.acquire_owned()).await {
                Ok(Ok(place)) => break place,
                // The semaphore is never closed.
                Ok(Err(_)) => return None,
                Err(_elapsed) => {}
            }
        };
        let work = Arc::clone(&self.lock().connections.get(&id)?.work);
        Some(Place {
            room: Arc::clone(self),
            id,
            work,
            _place: place,
        })
    }

    fn admit(&self, source: Prefix) -> Option<u64> {
        let mut open = self.lock();
        let count = open.counts.get(&source).copied().unwrap_or_default();
        if count >= self.of_source_max && !open.send_away(source) {
            return None;
        }
        let id = open.next;
        open.next += 1;
        *open.counts.entry(source).or_insert(0) += 1;
        let work = Arc::new(Work::default());
        open.connections.insert(id, Connection { source, work });
        Some(id)
    }

    /// Sends somebody away for the connection of this number, if anybody waits for a request.
    fn make_room(&self, id: u64) {
        let mut open = self.lock();
        if let Some(most) = open.source_with_most(Some(id)) {
            open.send_away(most);
        }
    }

    /// Sends somebody away who waits for a request; false when nobody does.
    pub(crate) fn send_somebody_away(&self) -> bool {
        let mut open = self.lock();
        let most = open.source_with_most(None);
        most.is_some_and(|most| open.send_away(most))
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// The source that has the most connections of those that somebody could be sent away from;
    /// `but` is the one that asks for a place.
    fn source_with_most(&self, but: Option<u64>) -> Option<Prefix> {
        let waiting = self.connections.iter();
        let waiting =
            waiting.filter(|(id, connection)| Some(**id) != but && connection.is_waiting());
        let most = waiting.max_by_key(|(_, connection)| self.counts.get(&connection.source));
        most.map(|(_, connection)| connection.source)
    }

    /// Sends the oldest connection of a source away that waits for a request, if there is one.
    fn send_away(&mut self, source: Prefix) -> bool {
        let mut connections = self.connections.iter();
        let oldest = connections.find(|(_, it)| it.source == source && it.is_waiting());
        let Some(id) = oldest.map(|(id, _)| *id) else {
            return false;
        };
        if let Some(connection) = self.remove(id) {
            connection.work.leave.notify_one();
        }
        true
    }

    fn remove(&mut self, id: u64) -> Option<Connection> {
        let connection = self.connections.remove(&id)?;
        if let Some(count) = self.counts.get_mut(&connection.source) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&connection.source);
            }
        }
        Some(connection)
    }
}

impl Connection {
    fn is_waiting(&self) -> bool {
        self.work.requests.load(Ordering::Relaxed) == 0
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.lock().remove(self.id);
    }
}

impl Work {
    /// Waits until the connection is to give way.
    pub(crate) async fn sent_away(&self) {
        self.leave.notified().await;
    }

    /// A request came, but for its body.
    pub(crate) fn begin(self: &Arc<Self>) -> Answering {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Answering(Arc::clone(self))
    }

    /// Counts the connection as one that waits, as long as the body of its request is read.
    pub(crate) fn read_body(self: &Arc<Self>) -> Reading {
        self.requests.fetch_sub(1, Ordering::Relaxed);
        Reading(Arc::clone(self))
    }
}

/// A request that is being answered, until it is dropped.
#[derive(Debug)]
pub(crate) struct Answering(Arc<Work>);

/// A body that is being read, until it is dropped.
#[derive(Debug)]
pub(crate) struct Reading(Arc<Work>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.requests.fetch_add(1, Ordering::Relaxed);
    }
}

/// The body of an answer: its request is being answered until all of it was taken.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) body: Body,
    pub(crate) _answering: Answering,
}

impl HttpBody for Answered {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const ONE: Prefix = Prefix::User(1);
    const OTHER: Prefix = Prefix::User(2);

    fn leaves(place: &Place) -> bool {
        place.work.sent_away().now_or_never().is_some()
    }

    #[tokio::test]
    async fn the_oldest_that_waits_of_the_source_with_most_gives_way() {
        let room = Room::new(4, 10);
        let lonely = room.enter(OTHER).await.unwrap();
        let answered = room.enter(ONE).await.unwrap();
        let _answering = answered.work.begin();
        let waiting = room.enter(ONE).await.unwrap();
        let younger = room.enter(ONE).await.unwrap();
        let mut next = Box::pin(room.enter(OTHER));
        assert!(next.as_mut().now_or_never().is_none());
        assert!(!leaves(&lonely) && !leaves(&answered) && !leaves(&younger));
        assert!(leaves(&waiting));
        drop(waiting);
        next.await.unwrap();
    }

    #[tokio::test]
    async fn a_source_beyond_its_most_gives_way_to_itself() {
        let room = Room::new(10, 2);
        let first = room.enter(ONE).await.unwrap();
        let second = room.enter(ONE).await.unwrap();
        let third = room.enter(ONE).await.unwrap();
        assert!(leaves(&first) && !leaves(&second));
        let _answering = [second.work.begin(), third.work.begin()];
        assert!(room.enter(ONE).await.is_none());
        // Half a document is no request yet.
        let reading = second.work.read_body();
        let fourth = room.enter(ONE).await.unwrap();
        assert!(leaves(&second));
        drop((reading, first, second, third, fourth));
        let open = room.lock();
        assert!(open.connections.is_empty() && open.counts.is_empty());
    }
}
