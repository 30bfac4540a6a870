//! Changes of the desired state, over the wire.
//!
//! Method: the stand-in for the reconciler edits, stores and answers as the gateway's own does.

use serde_json::{Value, json};

use crate::{
    gateway::{
        ADMIN, Gateway, OTHER_PEER, PEER, PRIVATE, SLASHES, Wanted, document, replace, three_tokens,
    },
    wire::{Answer, PATIENCE, Request},
};
use control_http::ChangeRefused;

#[tokio::test]
async fn applying_the_same_document_twice_changes_nothing() {
    let gateway = Gateway::open().await;
    let first = gateway.post("/api/v1/apply", &document()).await;
    assert_eq!(first.status, 200);
    let first = first.json();
    assert_eq!(
        (&first["generation"], &first["changed"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(first["steps"][0]["op"], "set");
    assert_eq!(first.get("dry_run"), None);
    let wrapped = json!({ "networks": document() });
    let again = gateway.post("/api/v1/config.json", &wrapped).await.json();
    assert_eq!(
        (&again["generation"], &again["changed"]),
        (&json!(1), &json!(false))
    );
    assert_eq!(again["steps"], json!([]));
    assert_eq!(
        gateway.audit(2).await,
        [
            "local admin POST /api/v1/apply applied",
            "local admin POST /api/v1/config.json unchanged",
        ]
    );
}

#[tokio::test]
async fn a_document_is_refused_with_all_that_is_wrong_with_it() {
    let gateway = Gateway::open().await;
    let wrong =
        json!({ "0": {}, "51820": { "private_key": "x", "mtu": 5, "peers": {}, "address": [] } });
    let answer = gateway.post("/api/v1/apply", &wrong).await;
    assert_eq!(answer.status, 400);
    let answer = answer.json();
    let problems = answer["problems"].as_array().unwrap();
    let pointers: Vec<&str> = problems
        .iter()
        .map(|one| one["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(
        pointers,
        ["/0", "/51820/private_key", "/51820/mtu", "/51820/address"]
    );
    assert!(
        problems[0]["hint"]
            .as_str()
            .unwrap()
            .contains("from 1 to 65535")
    );
    assert!(
        problems[1]["message"]
            .as_str()
            .unwrap()
            .contains("32 bytes in base64")
    );
    assert_eq!(gateway.get("/api/v1/config").await.json(), json!({}));
    for body in ["", "{", "[]", "null", "{\"51820\": 1}"] {
        let request = Request::new("POST", "/api/v1/apply").body(body.as_bytes());
        let answer = gateway.ask(request).await;
        assert_eq!(answer.status, 400, "{body}");
        assert_eq!(
            answer.json()["problems"].as_array().unwrap().len(),
            1,
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_dry_run_answers_the_plan_and_does_nothing() {
    let gateway = Gateway::open().await;
    let answer = gateway
        .post("/api/v1/apply?dry_run=true", &document())
        .await
        .json();
    assert_eq!(answer["dry_run"], true);
    assert_eq!(
        (&answer["changed"], &answer["generation"]),
        (&json!(true), &json!(0))
    );
    assert_eq!(gateway.get("/api/v1/config").await.json(), json!({}));
    let answer = gateway
        .post("/api/v1/apply?wait=true", &document())
        .await
        .json();
    assert_eq!(answer["steps"][0]["detail"], "waited");
    assert_eq!(
        gateway.audit(1).await.len(),
        1,
        "a dry run is nobody's change"
    );
}

#[tokio::test]
async fn a_change_may_ask_for_the_generation_that_it_begins_from() {
    let gateway = Gateway::open().await;
    gateway.post("/api/v1/apply", &document()).await;
    let config = gateway.get("/api/v1/config").await;
    assert_eq!(config.header("etag"), Some("\"1\""));
    let remove = |tag: &'static str| {
        Request::new("DELETE", "/api/v1/networks/51820").header("If-Match", tag)
    };
    let conflict = gateway.ask(remove("\"7\"")).await;
    assert_eq!(conflict.status, 409);
    assert_eq!(
        conflict.error(),
        "generation 7 is not the one that changed this last: 1 is"
    );
    assert_eq!(gateway.ask(remove("W/\"1\"")).await.status, 400);
    assert_eq!(gateway.ask(remove("1, 2")).await.status, 400);
    let twice = gateway.ask(remove("1").header("If-Match", "7")).await;
    assert_eq!(twice.status, 400);
    assert_eq!(twice.error(), "`if-match` is there twice");
    assert_eq!(gateway.ask(remove("1")).await.status, 200);
    assert_eq!(gateway.post("/api/v1/apply", &document()).await.status, 200);
    assert_eq!(gateway.ask(remove("*")).await.status, 200);
}

#[tokio::test]
async fn the_answer_can_be_posted_back_and_hides_its_secrets() {
    let gateway = Gateway::open().await;
    gateway.post("/api/v1/apply", &document()).await;
    for path in ["/api/v1/config", "/api/v1/config.json"] {
        let config = gateway.get(path).await;
        assert!(!config.body.contains(PRIVATE), "{config:?}");
        let config = config.json();
        assert_eq!(config["51820"]["private_key"], "(kept)");
        assert_eq!(
            config["51820"]["peers"][PEER.as_str()]["preshared_key"],
            "(kept)"
        );
        let answer = gateway.post("/api/v1/apply", &config).await.json();
        assert_eq!(answer["changed"], false, "{answer}");
    }
    let secrets = gateway.get("/api/v1/config?secrets=true").await.json();
    assert_eq!(secrets["51820"]["private_key"], PRIVATE);
    let log = gateway.audit(4).await;
    assert!(
        log.contains(&"local admin GET /api/v1/config shown".to_owned()),
        "{log:?}"
    );
    // Where there is nothing to keep, it is refused.
    let gateway = Gateway::open().await;
    let masked =
        json!({ "51820": { "private_key": "(kept)", "address": ["10.0.0.1/24"], "peers": {} } });
    let answer = gateway.post("/api/v1/apply", &masked).await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.json()["problems"][0]["pointer"],
        "/51820/private_key"
    );
}

#[tokio::test]
async fn one_network_is_patched_and_removed() {
    let gateway = Gateway::open().await;
    gateway.post("/api/v1/apply", &document()).await;
    let patch = async |port: &str, patch: &str| {
        let path = format!("/api/v1/networks/{port}");
        let request = Request::new("PATCH", &path).body(patch.as_bytes());
        gateway.ask(request).await
    };
    assert_eq!(
        patch("51820", r#"{"mtu": 1400}"#).await.json()["changed"],
        true
    );
    assert_eq!(
        patch("51820", r#"{"mtu": 1400}"#).await.json()["changed"],
        false
    );
    let wrong = patch("51820", r#"{"mtu": 1}"#).await;
    assert_eq!(
        (wrong.status, &wrong.json()["problems"][0]["pointer"]),
        (400, &json!("/mtu"))
    );
    let config = gateway.get("/api/v1/config").await.json();
    assert_eq!(config["51820"]["mtu"], 1400);
    let unknown = patch("9", "{}").await;
    assert_eq!(
        (unknown.status, unknown.error().as_str()),
        (404, "there is no network 9")
    );
    for port in ["0", "65536", "x", "%FF"] {
        let status = patch(port, "{}").await.status;
        assert!(status == 404 || status == 400, "{port}: {status}");
    }
    let remove = || Request::new("DELETE", "/api/v1/networks/51820");
    assert_eq!(gateway.ask(remove()).await.json()["changed"], true);
    assert_eq!(gateway.ask(remove()).await.status, 404);
}

#[tokio::test]
async fn a_network_and_its_routes_are_put_shown_and_removed() {
    let gateway = Gateway::open().await;
    let network = json!({ "netns": "blue" });
    let put = async |path: &str, body: &Value| {
        let body = body.to_string();
        gateway
            .ask(Request::new("PUT", path).body(body.as_bytes()))
            .await
    };
    let path = "/api/v1/networks/51821";
    assert_eq!(gateway.get(path).await.status, 404);
    assert_eq!(put(path, &network).await.json()["changed"], true);
    assert_eq!(put(path, &network).await.json()["changed"], false);
    let shown = gateway.get(path).await;
    assert_eq!(shown.header("etag"), Some("\"1\""));
    assert_eq!(shown.json(), json!({ "netns": "blue", "proxy": {} }));

    let path = "/api/v1/networks/51821/routes/shop.api-1";
    let rule = json!({ "host": "shop.example", "to": ["10.0.0.2:80"] });
    let unknown = gateway.get(path).await;
    assert_eq!(
        (unknown.status, unknown.error().as_str()),
        (404, "network 51821 has no route shop.api-1")
    );
    assert_eq!(put(path, &rule).await.json()["generation"], 2);
    let shown = gateway.get(path).await;
    assert_eq!(shown.header("etag"), Some("\"2\""));
    let mut named = rule.clone();
    named["id"] = "shop.api-1".into();
    assert_eq!(shown.json(), named);
    assert_eq!(put(path, &named).await.json()["changed"], false);
    let wrong = put(path, &json!({ "host": "shop.example", "to": [] })).await;
    assert_eq!(
        (wrong.status, &wrong.json()["problems"][0]["pointer"]),
        (400, &json!("/to"))
    );
    for odd in ["-a", "A", "a%2Fb", "%FF"] {
        let path = format!("/api/v1/networks/51821/routes/{odd}");
        let status = put(&path, &rule).await.status;
        assert!(status == 404 || status == 400, "{odd}: {status}");
    }
    let nowhere = put("/api/v1/networks/9/routes/a", &rule).await;
    assert_eq!(nowhere.error(), "there is no network 9");

    let remove = || Request::new("DELETE", path);
    assert_eq!(
        gateway.ask(remove().header("If-Match", "1")).await.status,
        409
    );
    assert_eq!(gateway.ask(remove()).await.json()["changed"], true);
    assert_eq!(gateway.ask(remove()).await.status, 404);
    let list = gateway.get("/api/v1/generations").await.json();
    assert_eq!(
        list["generations"][0]["note"],
        "remove route shop.api-1 of network-51821"
    );
}

/// A route shows its secrets no more than the whole document does.
#[tokio::test]
async fn one_network_hides_its_secrets() {
    let gateway = Gateway::open().await;
    gateway.post("/api/v1/apply", &document()).await;
    let shown = gateway.get("/api/v1/networks/51820").await;
    assert!(!shown.body.contains(PRIVATE), "{shown:?}");
    assert_eq!(shown.json()["private_key"], "(kept)");
}

#[tokio::test]
async fn a_peer_is_put_and_removed_by_any_form_of_its_key() {
    let gateway = Gateway::open().await;
    gateway.post("/api/v1/apply", &document()).await;
    assert!(PEER.contains('/') && PEER.contains('+'), "the key has both");
    let forms = [
        PEER.clone(),
        PEER.replace('/', "%2F"),
        PEER.replace('/', "%2f")
            .replace('+', "%2B")
            .replace('=', "%3D"),
        PEER.replace('/', "_").replace('+', "-"),
        PEER.replace('/', "_").replace('+', "-").replace('=', ""),
    ];
    for form in &forms {
        let path = format!("/api/v1/networks/51820/peers/{form}");
        let removed = gateway.ask(Request::new("DELETE", &path)).await;
        assert_eq!(removed.status, 200, "{form}: {removed:?}");
        let again = gateway.ask(Request::new("DELETE", &path)).await;
        assert_eq!(again.status, 404, "{form}");
        let put = Request::new("PUT", &path).body(br#"{"allowed_ips": ["10.0.0.9/32"]}"#);
        assert_eq!(gateway.ask(put).await.json()["changed"], true, "{form}");
    }
    let config = gateway.get("/api/v1/config").await.json();
    let peers = config["51820"]["peers"].as_object().unwrap();
    assert_eq!(peers.keys().collect::<Vec<_>>(), [PEER.as_str()]);
    // Nothing makes one slash of two.
    assert!(SLASHES.starts_with("//"), "{}", *SLASHES);
    let path = format!("/api/v1/networks/51820/peers/{}", *SLASHES);
    let put = Request::new("PUT", &path).body(br#"{"allowed_ips": []}"#);
    assert_eq!(gateway.ask(put).await.json()["changed"], true);
    let config = gateway.get("/api/v1/config").await.json();
    assert!(
        config["51820"]["peers"][SLASHES.as_str()].is_object(),
        "{config}"
    );
    let path = format!("/api/v1/networks/51820/peers/{}", *OTHER_PEER);
    let wrong = Request::new("PUT", &path).body(br#"{"allowed_ips": "all"}"#);
    let wrong = gateway.ask(wrong).await;
    assert_eq!(
        (wrong.status, &wrong.json()["problems"][0]["pointer"]),
        (400, &json!("/allowed_ips"))
    );
    let no_key = Request::new("DELETE", "/api/v1/networks/51820/peers/abc");
    assert_eq!(gateway.ask(no_key).await.status, 404);
}

#[tokio::test]
async fn an_earlier_generation_comes_back() {
    let gateway = Gateway::open().await;
    gateway.post("/api/v1/apply", &document()).await;
    gateway.post("/api/v1/apply", &json!({})).await;
    let back = gateway
        .ask(Request::new("POST", "/api/v1/rollback/1"))
        .await;
    assert_eq!(back.json()["generation"], 3);
    let secrets = gateway.get("/api/v1/config?secrets=true").await.json();
    assert_eq!(secrets["51820"]["private_key"], PRIVATE);
    for generation in ["4", "0", "18446744073709551615", "x", "-1"] {
        let path = format!("/api/v1/rollback/{generation}");
        assert_eq!(
            gateway.ask(Request::new("POST", &path)).await.status,
            404,
            "{path}"
        );
    }
    let list = gateway.get("/api/v1/generations").await.json();
    assert_eq!((&list["desired"], &list["running"]), (&json!(3), &json!(3)));
    let notes: Vec<&Value> = list["generations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["note"])
        .collect();
    assert_eq!(notes, ["roll back to generation 1", "apply", "apply"]);
    let newest = gateway.get("/api/v1/generations?limit=1").await.json();
    assert_eq!(newest["generations"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn changes_beyond_those_that_may_wait_are_refused_as_busy() {
    let gateway = Gateway::start(Wanted {
        changes: 1,
        is_stuck: true,
        api: "limits: {request_timeout: 300ms, body_timeout: 300ms}",
        ..Wanted::default()
    })
    .await;
    let body = document();
    let (first, second) = tokio::join!(
        gateway.post("/api/v1/apply", &body),
        gateway.post("/api/v1/apply", &body)
    );
    let mut errors = [first, second].map(|answer| {
        assert_eq!(
            (answer.status, answer.header("retry-after")),
            (503, Some("1"))
        );
        answer.error()
    });
    errors.sort_unstable();
    assert_eq!(
        errors,
        [
            "the change was not made: 1 wait for their turn already",
            "the change was not made: its turn did not come within 0 s, and others were first",
        ]
    );
}

/// What somebody was told is not done is not done later either.
#[tokio::test]
async fn a_change_that_was_not_begun_in_time_is_never_made() {
    let (gateway, mut requests) =
        Gateway::without_reconciler("limits: {request_timeout: 100ms}").await;
    let late = gateway.post("/api/v1/apply", &document()).await;
    assert_eq!((late.status, late.header("retry-after")), (503, Some("1")));
    assert!(
        late.error().starts_with("the change was not made"),
        "{late:?}"
    );
    assert!(!requests.recv().await.unwrap().claim.take());
    // Neither is what its client does not wait for.
    use tokio::io::AsyncWriteExt;
    let body = document().to_string();
    let request = Request::new("POST", "/api/v1/apply").body(body.as_bytes());
    let mut stream = gateway.connect().await;
    stream.write_all(&request.bytes()).await.unwrap();
    let request = requests.recv().await.unwrap();
    drop(stream);
    let withdrawn = async {
        while !gateway
            .get("/metrics")
            .await
            .body
            .contains("ringway_api_connections 1.0\n")
        {}
    };
    tokio::time::timeout(PATIENCE, withdrawn).await.unwrap();
    assert!(!request.claim.take());
}

#[tokio::test]
async fn what_became_of_a_change_that_took_too_long_is_told_in_the_next_answer() {
    let (gateway, mut requests) =
        Gateway::without_reconciler("limits: {request_timeout: 100ms}").await;
    let body = document();
    let (late, request) = tokio::join!(gateway.post("/api/v1/apply", &body), async {
        let request = requests.recv().await.unwrap();
        assert!(request.claim.take());
        request
    });
    assert_eq!(late.status, 503);
    assert!(
        late.error().starts_with("the change is being made"),
        "{late:?}"
    );
    let earlier = |answer: &Answer| answer.header("ringway-earlier-change").map(str::to_owned);
    assert_eq!(earlier(&gateway.get("/api/v1/status").await), None);
    let refused = ChangeRefused::NotRunning { generation: 7 };
    request.reply.send(Err(refused)).unwrap();
    let told = async {
        loop {
            if let Some(told) = earlier(&gateway.get("/api/v1/status").await) {
                return told;
            }
        }
    };
    let told = tokio::time::timeout(PATIENCE, told).await.unwrap();
    assert_eq!(
        told,
        "refused; generation 7 is stored, and not every worker runs it yet"
    );
    assert_eq!(earlier(&gateway.get("/api/v1/status").await), None, "once");
}

#[tokio::test]
async fn a_document_that_waits_takes_its_memory_until_it_is_done_with() {
    let gateway = Gateway::start(Wanted {
        changes: 100,
        is_stuck: true,
        api: "limits: {body_bytes_max: 1KiB, request_timeout: 100ms, body_timeout: 200ms}",
        ..Wanted::default()
    })
    .await;
    let mut errors = Vec::new();
    // Four of the largest, in units of 1 KiB, each rounded up: eight of these.
    for _ in 0..9 {
        let answer = gateway.post("/api/v1/apply", &json!({})).await;
        assert_eq!(answer.status, 503, "{answer:?}");
        errors.push(answer.error());
    }
    let last = errors.pop();
    let is_late = |error: &String| error.contains("its turn did not come");
    assert!(errors.iter().all(is_late), "{errors:?}");
    assert_eq!(last.as_deref(), Some("too many large requests at once"));
}

#[tokio::test]
async fn a_change_counts_and_is_noted_also_when_its_client_hangs_up() {
    use tokio::io::AsyncWriteExt;
    let gateway = Gateway::start(Wanted {
        tokens: three_tokens(),
        ..Wanted::default()
    })
    .await;
    let body = document().to_string();
    let request = Request::new("POST", "/api/v1/apply")
        .bearer(ADMIN)
        .body(body.as_bytes());
    let mut stream = gateway.connect().await;
    stream.write_all(&request.bytes()).await.unwrap();
    let mut view = gateway.view.subscribe();
    view.wait_for(|view| view.generation == 1).await.unwrap();
    drop(stream);
    assert_eq!(
        gateway.audit(1).await,
        ["ann admin POST /api/v1/apply applied"]
    );
}

#[tokio::test]
async fn what_is_not_there_is_refused_as_json_too() {
    let gateway = Gateway::open().await;
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/api", 404),
        ("GET", "/api/v1/nothing", 404),
        ("POST", "/api/v1/status", 405),
        ("GET", "/api/v1/apply", 405),
        ("BREW", "/api/v1/config", 405),
        ("GET", "/api/v1/config?secret=true", 400),
        ("GET", "/api/v1/config?secrets=maybe", 400),
        ("POST", "/api/v1/apply?dryrun=true", 400),
        ("GET", "/api/v1/status?network=9", 404),
    ] {
        let answer = gateway.ask(Request::new(method, path).body(b"{}")).await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert!(!answer.error().is_empty(), "{method} {path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    }
    // A change never shows what it holds.
    assert_eq!(format!("{:?}", replace(PRIVATE)), "Change(apply)");
}

#[tokio::test]
async fn a_listener_of_a_network_is_put_shown_and_removed() {
    let gateway = Gateway::open().await;
    let put = async |path: &str, body: &Value| {
        let body = body.to_string();
        gateway
            .ask(Request::new("PUT", path).body(body.as_bytes()))
            .await
    };
    put("/api/v1/networks/51821", &json!({ "netns": "blue" })).await;
    let path = "/api/v1/networks/51821/listeners/db";
    let listener = json!({ "bind": "10.0.0.1:5432", "protocol": "tcp", "to": ["10.0.0.2:5432"] });
    let unknown = gateway.get(path).await;
    assert_eq!(
        (unknown.status, unknown.error().as_str()),
        (404, "network 51821 has no listener db")
    );
    assert_eq!(put(path, &listener).await.json()["generation"], 2);
    let shown = gateway.get(path).await;
    assert_eq!(shown.header("etag"), Some("\"2\""));
    assert_eq!(shown.json(), listener);
    assert_eq!(put(path, &listener).await.json()["changed"], false);
    let wrong = put(
        path,
        &json!({ "bind": "10.0.0.1:5432", "protocol": "tcp", "to": [] }),
    )
    .await;
    assert_eq!(
        (wrong.status, &wrong.json()["problems"][0]["pointer"]),
        (400, &json!("/to"))
    );
    let nowhere = put("/api/v1/networks/9/listeners/db", &listener).await;
    assert_eq!(nowhere.error(), "there is no network 9");
    let remove = || Request::new("DELETE", path);
    assert_eq!(gateway.ask(remove()).await.json()["changed"], true);
    assert_eq!(gateway.ask(remove()).await.status, 404);
    let list = gateway.get("/api/v1/generations").await.json();
    assert_eq!(
        list["generations"][0]["note"],
        "remove listener db of network-51821"
    );
}
