//! Who may do what.
//!
//! Method: the API with one token of each role, or without any, asked in every way.

use std::sync::Arc;

use serde_json::json;

use crate::{
    gateway::{ADMIN, Gateway, OPERATOR, READER, Wanted, document, three_tokens},
    wire::{Answer, PATIENCE, Request, exchange},
};

#[tokio::test]
async fn every_way_to_give_a_token_is_taken() {
    let gateway = Gateway::guarded().await;
    for (name, value) in [
        ("Token", READER.to_owned()),
        ("token", READER.to_owned()),
        ("Authorization", format!("Bearer {READER}")),
        ("Authorization", format!("bearer  {READER}")),
    ] {
        let request = Request::new("GET", "/api/v1/status").header(name, &value);
        assert_eq!(gateway.ask(request).await.status, 200, "{name}: {value}");
    }
    // Any of several counts.
    let request = Request::new("GET", "/api/v1/status")
        .header("Token", "not-a-known-token")
        .header("Token", READER);
    assert_eq!(gateway.ask(request).await.status, 200);
}

#[tokio::test]
async fn no_token_and_an_unknown_one_are_told_apart_from_a_lesser_role() {
    let gateway = Gateway::guarded().await;
    let nothing = gateway.get("/api/v1/status").await;
    assert_eq!(nothing.status, 401);
    assert!(nothing.error().contains("a token is needed"));
    assert_eq!(
        nothing.header("www-authenticate"),
        Some("Bearer realm=\"ringway\"")
    );
    let unknown = Request::new("GET", "/api/v1/status").bearer("guessed");
    let unknown = gateway.ask(unknown).await;
    assert_eq!(
        (unknown.status, unknown.error().as_str()),
        (401, "the token is not known")
    );
    let lesser = Request::new("POST", "/api/v1/apply")
        .bearer(READER)
        .body(b"{}");
    let lesser = gateway.ask(lesser).await;
    assert_eq!(lesser.status, 403);
    assert!(
        lesser
            .error()
            .contains("of the role reader, and this takes operator")
    );
    // One entry stands for a minute of a source.
    let log = gateway.audit(2).await;
    assert_eq!(
        log,
        [
            "- - GET /api/v1/status refused",
            "eve reader POST /api/v1/apply refused",
        ]
    );
}

/// Whether a role gets past the check, whatever comes of the request then.
#[tokio::test]
async fn each_role_may_do_what_it_may_and_no_more() {
    let gateway = Gateway::guarded().await;
    let peer = "/api/v1/networks/9/peers/AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI=";
    let all = [true, true, true];
    let changes = [false, true, true];
    for (method, path, allowed) in [
        ("GET", "/api/v1/config", all),
        ("GET", "/api/v1/status", all),
        ("GET", "/api/v1/generations", all),
        ("GET", "/api/v1/traffic", all),
        ("GET", "/api/v1/traffic/routes", all),
        ("GET", "/api/v1/audit", all),
        ("GET", "/metrics", all),
        ("GET", "/api/v1/config?secrets=true", [false, false, true]),
        ("POST", "/api/v1/apply", changes),
        ("POST", "/api/v1/config.json", changes),
        ("POST", "/api/v1/rollback/9", changes),
        ("PATCH", "/api/v1/networks/9", changes),
        ("DELETE", "/api/v1/networks/9", changes),
        ("GET", "/api/v1/networks/9", all),
        ("PUT", "/api/v1/networks/9", changes),
        ("GET", "/api/v1/networks/9/routes/a", all),
        ("PUT", "/api/v1/networks/9/routes/a", changes),
        ("DELETE", "/api/v1/networks/9/routes/a", changes),
        ("GET", "/api/v1/networks/9/listeners/a", all),
        ("PUT", "/api/v1/networks/9/listeners/a", changes),
        ("DELETE", "/api/v1/networks/9/listeners/a", changes),
        ("PUT", peer, changes),
        ("DELETE", peer, changes),
    ] {
        for (token, allowed) in [READER, OPERATOR, ADMIN].into_iter().zip(allowed) {
            let request = Request::new(method, path).bearer(token).body(b"{}");
            let status = gateway.ask(request).await.status;
            assert_ne!(status, 401, "{method} {path} as {token}");
            assert_eq!(
                status != 403,
                allowed,
                "{method} {path} as {token}: {status}"
            );
        }
        let request = Request::new(method, path).body(b"{}");
        assert_eq!(gateway.ask(request).await.status, 401, "{method} {path}");
    }
    for path in ["/healthz", "/readyz", "/api/docs", "/api/v1/openapi.json"] {
        assert_eq!(
            gateway.get(path).await.status,
            200,
            "{path} is for everybody"
        );
    }
}

#[tokio::test]
async fn guessing_is_limited_by_source() {
    let gateway = Gateway::start(Wanted {
        api: "limits: {failures_max: 3, failures_window: 1h}",
        tokens: three_tokens(),
        ..Wanted::default()
    })
    .await;
    let try_token = async |token: &str| {
        let request = Request::new("GET", "/api/v1/status").bearer(token);
        gateway.ask(request).await
    };
    for guess in ["one", "two", "three"] {
        assert_eq!(try_token(guess).await.status, 401);
    }
    let blocked = try_token("four").await;
    assert_eq!(blocked.status, 429);
    let wait: u64 = blocked.header("retry-after").unwrap().parse().unwrap();
    assert!((3590..=3601).contains(&wait), "{wait}");
    // Whoever shares the address and knows a token is let in all the same.
    assert_eq!(try_token(ADMIN).await.status, 200);
    assert_eq!(try_token("five").await.status, 429);
    // Others are not held up.
    let elsewhere = gateway.connect_from("127.0.0.2").await;
    let request = Request::new("GET", "/api/v1/status").bearer(ADMIN).bytes();
    assert_eq!(exchange(elsewhere, &request).await.status, 200);
    assert_eq!(
        gateway.audit(1).await.len(),
        1,
        "one entry stands for all of them"
    );
}

#[tokio::test]
async fn strangers_do_not_flood_the_audit_log() {
    let gateway = Gateway::start(Wanted {
        api: "limits: {failures_max: 2, failures_window: 1h}",
        tokens: three_tokens(),
        ..Wanted::default()
    })
    .await;
    for guess in 0..20 {
        assert_eq!(gateway.get("/api/v1/status").await.status, 401);
        let guess = format!("guess-{guess}");
        let guess = Request::new("POST", "/api/v1/apply").bearer(&guess);
        let status = gateway.ask(guess).await.status;
        assert!(status == 401 || status == 429, "{status}");
    }
    let request = Request::new("POST", "/api/v1/apply")
        .bearer(ADMIN)
        .body(b"{}");
    assert_eq!(gateway.ask(request).await.status, 200);
    let log = gateway.audit(2).await;
    assert_eq!(log.len(), 2, "{log:?}");
    assert_eq!(log[1], "ann admin POST /api/v1/apply unchanged");
}

#[tokio::test]
async fn tokens_change_while_it_runs() {
    let gateway = Gateway::guarded().await;
    assert_eq!(gateway.get("/api/v1/status").await.status, 401);
    gateway.tokens.send_replace(Arc::default());
    assert_eq!(gateway.get("/api/v1/status").await.status, 200);
    gateway.tokens.send_replace(Arc::new(three_tokens()));
    assert_eq!(gateway.get("/api/v1/status").await.status, 401);
}

#[tokio::test]
async fn without_a_token_this_machine_is_admin_and_the_status_warns() {
    let gateway = Gateway::open().await;
    let status = gateway.get("/api/v1/status").await.json();
    let warnings = status["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0]
            .as_str()
            .unwrap()
            .contains("no token is configured")
    );
    assert_eq!(gateway.get("/api/v1/config?secrets=true").await.status, 200);
    gateway.tokens.send_replace(Arc::new(three_tokens()));
    let request = Request::new("GET", "/api/v1/status").bearer(READER);
    assert_eq!(gateway.ask(request).await.json()["warnings"], json!([]));
}

#[tokio::test]
async fn a_web_page_of_somebody_else_cannot_use_an_api_without_tokens() {
    let gateway = Gateway::open().await;
    let body = document().to_string();
    let apply = || Request::new("POST", "/api/v1/apply").body(body.as_bytes());
    let own = format!("http://{}", gateway.address());
    let host = gateway.address().to_string();
    for request in [
        apply().header("Host", "evil.example.com"),
        apply().header("Host", "evil.example.com:8080"),
        apply().header("Origin", "http://evil.example.com"),
        apply().header("Origin", "null"),
        apply().header("Sec-Fetch-Site", "cross-site"),
        apply()
            .header("Host", "evil.example.com")
            .header("Origin", "http://evil.example.com"),
    ] {
        let answer: Answer = gateway.ask(request).await;
        assert_eq!(answer.status, 403, "{answer:?}");
    }
    assert_eq!(gateway.get("/api/v1/config").await.json(), json!({}));
    // The page that the API itself serves.
    let page = apply().header("Host", &host).header("Origin", &own);
    assert_eq!(gateway.ask(page).await.status, 200);
    // Nobody guesses a token: with one, any page may ask that has it.
    gateway.tokens.send_replace(Arc::new(three_tokens()));
    let page = apply().bearer(ADMIN).header("Host", "gateway.example.com");
    assert_eq!(gateway.ask(page).await.status, 200);
}

#[tokio::test]
async fn a_unix_socket_is_for_its_owner_and_group_and_goes_with_the_api() {
    use std::os::unix::fs::PermissionsExt;
    let wanted = || Wanted {
        on_unix: true,
        ..Wanted::default()
    };
    let mut gateway = Gateway::start(wanted()).await;
    let socket = gateway.socket();
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    assert_eq!(gateway.post("/api/v1/apply", &document()).await.status, 200);
    // No browser speaks over it, so any name may be asked for.
    let named = Request::new("GET", "/api/v1/status").header("Host", "gateway");
    assert_eq!(gateway.ask(named).await.status, 200);
    let user = nix::unistd::getuid();
    gateway.audit(1).await;
    let log = gateway.store.audit().entries(None, 1).await.unwrap();
    assert_eq!(log[0].source, format!("unix:uid={user}"));
    // Whoever answers there is not pushed aside; what a killed process left is.
    let again = control_http::Listener::bind(&gateway.listen).await;
    assert!(
        again
            .unwrap_err()
            .to_string()
            .contains("is in use by another process")
    );
    gateway.close().await;
    assert!(!socket.exists());
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(socket.exists());
    let bound = tokio::time::timeout(PATIENCE, control_http::Listener::bind(&gateway.listen));
    drop(bound.await.unwrap().unwrap());
    std::fs::write(&socket, "a file").unwrap();
    let file = control_http::Listener::bind(&gateway.listen).await;
    assert!(
        file.unwrap_err()
            .to_string()
            .contains("exists and is no socket")
    );
}
