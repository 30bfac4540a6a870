//! Events as they happen, as server-sent events (WHATWG HTML, section 9.2).

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName},
    response::{
        IntoResponse, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use control_api::answer::{Event, Happening, Refused};
use control_store::ReadError;
use futures::{Stream, stream};
use serde::Deserialize;
use tokio::sync::{
    OwnedSemaphorePermit,
    broadcast::{Receiver, error::RecvError},
    watch,
};
use utoipa::IntoParams;

use crate::{
    access::Reader,
    ask::{Asked, number, only_one},
    refusal::{Refusal, chain},
    shared::Shared,
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Silence after which a comment is sent, so that proxies and clients know that it goes on.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// Past events that are read from the store at once.
const PAGE: u32 = 256;

/// Where to go on from.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct After {
    /// The last event that is known already, where the header `Last-Event-ID` cannot be set.
    last_event_id: Option<u64>,
}

/// Follows events.
#[utoipa::path(
    get,
    path = "/api/v1/events",
    tag = "history",
    summary = "Follow events",
    description = "Server-sent events: each has its number as `id`, its kind as `event` and an \
        `Event` as `data`. With `Last-Event-ID` it begins with what came after that; otherwise with \
        what comes from now on. Comments are sent every 15 s.",
    params(After, ("Last-Event-ID" = Option<u64>, Header, description = "The last event that is known already.")),
    responses(
        (status = 200, description = "Events without an end", body = Event, content_type = "text/event-stream"),
        (status = 503, description = "The limit of clients that follow events is reached", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn follow(
    State(shared): State<Arc<Shared>>,
    _: Reader,
    Asked(After { last_event_id }): Asked<After>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    only_one(&headers, &LAST_EVENT_ID)?;
    let header = number(headers.get(LAST_EVENT_ID)).transpose();
    let header =
        header.map_err(|()| Refusal::bad_request("`Last-Event-ID` is the number of an event"))?;
    let place = Arc::clone(&shared.event_clients)
        .try_acquire_owned()
        .map_err(|_all_taken| Refusal::unavailable("as many clients follow the events as may"))?;
    // Listening begins before the past is read: what happens in between is in both, and told once.
    let live = shared.front.events.subscribe();
    // A number that was never given comes from another store: nothing would ever come after it.
    let newest = shared.front.audit.last_event().await?;
    let after = header.or(last_event_id).unwrap_or(newest).min(newest);
    let follower = Follower {
        closing: shared.closing.clone(),
        shared,
        live,
        past: VecDeque::new(),
        is_behind: true,
        last: after,
        _place: place,
    };
    let keep_alive = KeepAlive::new().interval(HEARTBEAT).text("heartbeat");
    let sse = Sse::new(follower.stream()).keep_alive(keep_alive);
    Ok(sse.into_response())
}

/// One client of the events.
struct Follower {
    shared: Arc<Shared>,
    live: Receiver<Event>,
    closing: watch::Receiver<bool>,
    /// Read from the store, and not told yet.
    past: VecDeque<Event>,
    /// Whether the store may have events that were not told.
    is_behind: bool,
    /// The number of the last event that was told.
    last: u64,
    _place: OwnedSemaphorePermit,
}

impl Follower {
    fn stream(self) -> impl Stream<Item = Result<sse::Event, Infallible>> {
        stream::unfold(self, |mut follower| async move {
            let event = follower.next().await?;
            follower.last = event.id;
            let told = sse::Event::default()
                .id(event.id.to_string())
                .event(event.happening.kind())
                // A value of these types is JSON: this cannot fail.
                .json_data(&event)
                .unwrap_or_default();
            Some((Ok(told), follower))
        })
    }

    /// The next event; none once the gateway is going down, or the store cannot be read: then the
    /// client comes back with the number of the last event that it has.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.past.pop_front() {
                return Some(event);
            }
            if self.is_behind {
                self.catch_up().await?;
                continue;
            }
            let received = tokio::select! {
                received = self.live.recv() => received,
                _ = self.closing.wait_for(|closing| *closing) => return None,
            };
            match received {
                Ok(event) if event.id == self.last + 1 => return Some(event),
                // Several threads tell events, and one may be told before those with lower numbers. The
                // store has all of them by then.
                Ok(event) if event.id > self.last => self.is_behind = true,
                Ok(_told_from_the_store) => {}
                Err(RecvError::Lagged(_)) => self.is_behind = true,
                Err(RecvError::Closed) => return None,
            }
        }
    }

    async fn catch_up(&mut self) -> Option<()> {
        let read: Result<_, ReadError> =
            self.shared.front.audit.events_after(self.last, PAGE).await;
        let stored = read
            .map_err(|error| tracing::warn!(error = chain(&error), "events cannot be read"))
            .ok()?;
        self.is_behind = stored.len() >= usize::try_from(PAGE).unwrap_or(usize::MAX);
        // Past whatever cannot be told, too.
        self.last = stored.last().map_or(self.last, |event| event.id);
        self.past = stored.iter().filter_map(told).collect();
        Some(())
    }
}

/// An event as the store has it; none if it is of a kind that this version does not know.
fn told(stored: &control_store::Event) -> Option<Event> {
    let happening: Happening = serde_json::from_str(&stored.json).ok()?;
    Some(Event {
        id: stored.id,
        time: stored.time,
        happening,
    })
}
