//! The accounts over the wire.

use control_api::{
    answer::{RoutesTraffic, TrafficInfo},
    place::{NetworkKey, NetworkName},
    state::PublicKey,
};
use control_store::{PeerSample, Raw, RelaySample, Sample};
use serde_json::json;

use crate::{
    gateway::{Gateway, NOW, OTHER_PEER, PEER},
    wire::Request,
};

const PORT: NetworkKey = NetworkKey::new(51820).unwrap();

fn sample(time_unix: u64, rx: u64, tx: u64) -> Sample {
    let key = |text: &str| text.parse::<PublicKey>().unwrap();
    Sample {
        time_unix,
        peers: vec![PeerSample {
            network: PORT,
            network_key: key(&OTHER_PEER),
            peer: key(&PEER),
            raw: Raw { epoch: 1, rx, tx },
            last_handshake: None,
            endpoint: None,
        }],
        relays: vec![RelaySample {
            network: NetworkName::Port(PORT),
            network_key: Some(key(&OTHER_PEER)),
            route: "a.example.com".to_owned(),
            client: Some("192.0.2.1".parse().unwrap()),
            peer: None,
            bytes_in: 10,
            bytes_out: 20,
            connections: 1,
        }],
    }
}

#[tokio::test]
async fn asking_again_from_the_stop_time_counts_every_byte_once() {
    let gateway = Gateway::open().await;
    gateway
        .store
        .accounts()
        .record_sample(&sample(NOW, 100, 200));
    let first = gateway.get("/api/v1/traffic").await.json();
    assert_eq!(
        (&first["start_time"], &first["stop_time"]),
        (&json!(0), &json!(NOW))
    );
    assert_eq!(first["traffic"], json!({ "rx": 100, "tx": 200 }));
    let device = &first["networks"][OTHER_PEER.as_str()]["devices"][PEER.as_str()];
    assert_eq!(
        device["times"],
        json!({ (NOW.to_string()): { "rx": 100, "tx": 200 } })
    );
    let nothing = gateway
        .get(&format!("/api/v1/traffic?since={NOW}"))
        .await
        .json();
    assert_eq!(
        (&nothing["traffic"]["rx"], &nothing["stop_time"]),
        (&json!(0), &json!(NOW))
    );
    gateway
        .store
        .accounts()
        .record_sample(&sample(NOW + 5, 101, 200));
    for query in [format!("since={NOW}"), format!("start={NOW}")] {
        let later = gateway
            .get(&format!("/api/v1/traffic.json?{query}"))
            .await
            .json();
        assert_eq!(later["traffic"], json!({ "rx": 1, "tx": 0 }), "{query}");
    }
}

#[tokio::test]
async fn one_network_and_one_peer_are_picked_by_port_and_by_key() {
    let gateway = Gateway::open().await;
    gateway.store.accounts().record_sample(&sample(NOW, 7, 0));
    let escaped = PEER
        .replace('+', "%2B")
        .replace('/', "%2F")
        .replace('=', "%3D");
    for (query, rx) in [
        ("network=51820".to_owned(), 7),
        ("network=network-51820".to_owned(), 7),
        (format!("network={}", *OTHER_PEER), 7),
        ("network=51821".to_owned(), 0),
        (format!("peer={escaped}"), 7),
        // As people paste it, though a form takes `+` for a space.
        (format!("peer={}", *PEER), 7),
        (format!("peer={}", *OTHER_PEER), 0),
        ("group=hour".to_owned(), 7),
        ("group=day".to_owned(), 7),
        (format!("until={}", NOW - 1), 0),
    ] {
        let answer = gateway.get(&format!("/api/v1/traffic?{query}")).await;
        assert_eq!(answer.json()["traffic"]["rx"], rx, "{query}: {answer:?}");
    }
    for query in [
        "network=x",
        "peer=51820",
        "group=week",
        "since=yesterday",
        "since=-1",
        "limit=1",
    ] {
        let answer = gateway.get(&format!("/api/v1/traffic?{query}")).await;
        assert_eq!(answer.status, 400, "{query}");
        assert!(!answer.error().is_empty());
    }
}

#[tokio::test]
async fn what_was_relayed_is_told_by_route_and_client() {
    let gateway = Gateway::open().await;
    gateway.store.accounts().record_sample(&sample(NOW, 1, 1));
    let answer = gateway
        .get("/api/v1/traffic/routes?network=51820")
        .await
        .json();
    assert_eq!(
        answer["traffic"],
        json!({ "bytes_in": 10, "bytes_out": 20, "connections": 1 })
    );
    let route = &answer["networks"][OTHER_PEER.as_str()]["routes"]["a.example.com"];
    assert_eq!(route["clients"]["192.0.2.1"]["traffic"]["bytes_out"], 20);
}

/// The gateway writes the store's types and its clients read control-api's.
#[tokio::test]
async fn clients_read_what_the_store_writes() {
    let gateway = Gateway::open().await;
    gateway.store.accounts().record_sample(&sample(NOW, 7, 8));
    let written = gateway.get("/api/v1/traffic").await;
    let read: TrafficInfo = serde_json::from_str(&written.body).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), written.json());
    let written = gateway.get("/api/v1/traffic/routes").await;
    let read: RoutesTraffic = serde_json::from_str(&written.body).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), written.json());
}

#[tokio::test]
async fn the_audit_log_is_read_page_by_page() {
    let gateway = Gateway::open().await;
    for _ in 0..5 {
        gateway.post("/api/v1/apply", &json!({})).await;
    }
    gateway.audit(5).await;
    let page = gateway.get("/api/v1/audit?limit=2").await.json();
    let ids: Vec<u64> = page["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, [5, 4]);
    let page = gateway
        .ask(Request::new("GET", "/api/v1/audit?limit=9&before=4"))
        .await
        .json();
    assert_eq!(page["entries"].as_array().unwrap().len(), 3);
    assert_eq!(page["entries"][0]["action"], "POST /api/v1/apply");
    assert_eq!(page["entries"][0]["source"], "127.0.0.1");
}
