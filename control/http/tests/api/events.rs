//! Events, followed over the wire.

use control_api::answer::{Event, Happening};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::{
    gateway::{Gateway, NOW, Wanted},
    wire::{PATIENCE, Request},
};

/// What a client has received so far.
struct Follower {
    stream: TcpStream,
    text: String,
}

impl Follower {
    async fn start(gateway: &Gateway, request: Request<'_>) -> Self {
        let mut stream = gateway.connect().await;
        stream.write_all(&request.bytes()).await.unwrap();
        let mut follower = Self {
            stream,
            text: String::new(),
        };
        follower.until("\r\n\r\n").await;
        follower
    }

    /// Reads until a text has come.
    async fn until(&mut self, wanted: &str) {
        let read = async {
            let mut buffer = [0; 4096];
            while !self.text.contains(wanted) {
                let read = self.stream.read(&mut buffer).await.unwrap();
                assert_ne!(read, 0, "ended before {wanted:?}: {}", self.text);
                self.text
                    .push_str(&String::from_utf8_lossy(&buffer[..read]));
            }
        };
        timeout(PATIENCE, read).await.expect(wanted);
    }

    fn ids(&self) -> Vec<u64> {
        let lines = self
            .text
            .lines()
            .filter_map(|line| line.strip_prefix("id: "));
        lines.map(|id| id.parse().unwrap()).collect()
    }
}

/// Stores an event and tells it, as the gateway does.
async fn happen(gateway: &Gateway, generation: u64) -> u64 {
    let event = store(gateway, generation).await;
    let id = event.id;
    // Nobody may be listening.
    let _ = gateway.events.send(event);
    id
}

/// Stores an event, and does not tell it yet.
async fn store(gateway: &Gateway, generation: u64) -> Event {
    let happening = Happening::StateApplied {
        generation,
        actor: "ann".to_owned(),
        owner: "api".to_owned(),
    };
    let json = serde_json::to_string(&happening).unwrap();
    let kind = happening.kind().to_owned();
    let id = gateway
        .store
        .audit()
        .append_event(NOW, kind, json)
        .await
        .unwrap();
    Event {
        id,
        time: NOW,
        happening,
    }
}

fn follow() -> Request<'static> {
    Request::new("GET", "/api/v1/events")
}

#[tokio::test]
async fn events_are_told_as_they_happen() {
    let gateway = Gateway::open().await;
    happen(&gateway, 1).await;
    let mut follower = Follower::start(&gateway, follow()).await;
    assert!(
        follower.text.starts_with("HTTP/1.1 200"),
        "{}",
        follower.text
    );
    assert!(follower.text.contains("content-type: text/event-stream"));
    happen(&gateway, 2).await;
    follower.until("\"generation\":2").await;
    assert!(follower.text.contains("event: state_applied\n"));
    assert_eq!(follower.ids(), [2], "what was before is not told");
}

#[tokio::test]
async fn events_that_are_told_in_another_order_are_all_told_in_their_own() {
    let gateway = Gateway::open().await;
    let mut follower = Follower::start(&gateway, follow()).await;
    let (first, second) = (store(&gateway, 1).await, store(&gateway, 2).await);
    gateway.events.send(second).unwrap();
    follower.until("\"generation\":2").await;
    gateway.events.send(first).unwrap();
    happen(&gateway, 3).await;
    follower.until("\"generation\":3").await;
    assert_eq!(follower.ids(), [1, 2, 3]);
}

#[tokio::test]
async fn who_comes_back_gets_everything_since() {
    let gateway = Gateway::open().await;
    for generation in 1..=600 {
        happen(&gateway, generation).await;
    }
    let back = follow().header("Last-Event-ID", "3");
    let mut follower = Follower::start(&gateway, back).await;
    follower.until("id: 600\n").await;
    happen(&gateway, 601).await;
    follower.until("id: 601\n").await;
    assert_eq!(follower.ids(), (4..=601).collect::<Vec<u64>>());
    let query = Request::new("GET", "/api/v1/events?last_event_id=599");
    let mut follower = Follower::start(&gateway, query).await;
    follower.until("id: 601\n").await;
    assert_eq!(follower.ids(), [600, 601]);
    let wrong = follow().header("Last-Event-ID", "the-last");
    assert_eq!(gateway.ask(wrong).await.status, 400);
}

#[tokio::test]
async fn a_number_of_another_store_is_followed_from_now_on() {
    let gateway = Gateway::open().await;
    happen(&gateway, 1).await;
    let back = follow().header("Last-Event-ID", "1000000");
    let mut follower = Follower::start(&gateway, back).await;
    happen(&gateway, 2).await;
    follower.until("\"generation\":2").await;
    assert_eq!(follower.ids(), [2]);
}

#[tokio::test]
async fn a_follower_that_is_far_behind_misses_nothing() {
    let gateway = Gateway::open().await;
    let mut follower = Follower::start(&gateway, follow()).await;
    // Far more than the channel holds, before the follower's task has its turn.
    let mut events = Vec::new();
    for _ in 0..900 {
        let happening = Happening::NetworkRecovered { network: 1 };
        let json = serde_json::to_string(&happening).unwrap();
        let stored = gateway
            .store
            .audit()
            .append_event(NOW, "network_recovered".to_owned(), json);
        events.push((happening, stored));
    }
    let mut told = Vec::new();
    for (happening, stored) in events {
        told.push(Event {
            id: stored.await.unwrap(),
            time: NOW,
            happening,
        });
    }
    for event in told {
        gateway.events.send(event).unwrap();
    }
    follower.until("id: 900\n").await;
    assert_eq!(follower.ids(), (1..=900).collect::<Vec<u64>>());
}

#[tokio::test]
async fn only_so_many_may_follow() {
    let gateway = Gateway::start(Wanted {
        api: "limits: {event_clients_max: 2}",
        ..Wanted::default()
    })
    .await;
    let first = Follower::start(&gateway, follow()).await;
    let _second = Follower::start(&gateway, follow()).await;
    let third = gateway.ask(follow()).await;
    assert_eq!(
        (third.status, third.error().as_str()),
        (503, "as many clients follow the events as may")
    );
    drop(first);
    let place = async {
        loop {
            let mut follower = Follower::start(&gateway, follow()).await;
            if follower.text.starts_with("HTTP/1.1 200") {
                return;
            }
            follower.text.clear();
        }
    };
    timeout(PATIENCE, place)
        .await
        .expect("the place is free again");
}

#[tokio::test]
async fn followers_end_with_the_gateway() {
    let mut gateway = Gateway::open().await;
    let mut follower = Follower::start(&gateway, follow()).await;
    gateway.close().await;
    let mut rest = Vec::new();
    let read = follower.stream.read_to_end(&mut rest);
    timeout(PATIENCE, read).await.expect("in time").unwrap();
    assert!(rest.ends_with(b"0\r\n\r\n"), "the stream ends in order");
}
