//! Several owners over one desired state, over the wire.

use serde_json::{Value, json};

use crate::{
    gateway::{Gateway, document},
    wire::{Answer, Request},
};

fn blues() -> Value {
    json!({
        "51820": { "routes": [{ "id": "blue", "host": "blue.example", "to": ["10.0.0.2:80"] }] },
        "51900": { "netns": "blue", "proxy": { "https://own.example": ["10.0.0.2:443"] } },
    })
}

/// The base, and what `blue` has beside it: generations 1 and 2.
async fn both() -> Gateway {
    let gateway = Gateway::open().await;
    gateway.post("/api/v1/apply", &document()).await;
    let applied = gateway.post("/api/v1/apply?owner=blue", &blues()).await;
    assert_eq!(applied.json()["generation"], 2);
    gateway
}

async fn send(gateway: &Gateway, method: &str, path: &str, body: &Value) -> Answer {
    let body = body.to_string();
    let request = Request::new(method, path).body(body.as_bytes());
    gateway.ask(request).await
}

#[tokio::test]
async fn each_owner_sees_and_replaces_its_own_part() {
    let gateway = both().await;
    let base = gateway.get("/api/v1/config").await;
    assert_eq!(base.header("etag"), Some("\"1\""), "not changed since");
    let base = base.json();
    assert_eq!(base["51900"], Value::Null);
    assert_eq!(base["51820"]["routes"].as_array().unwrap().len(), 1);
    let blue = gateway.get("/api/v1/config?owner=blue").await;
    assert_eq!(blue.header("etag"), Some("\"2\""));
    assert_eq!(blue.json(), blues());
    let all = gateway.get("/api/v1/config?owners=all").await;
    assert_eq!(all.header("etag"), Some("\"2\""));
    assert_eq!(all.json()["51900"]["owner"], "blue");
    let nobody = gateway.get("/api/v1/config?owner=nobody").await;
    assert_eq!(nobody.header("etag"), Some("\"0\""));
    assert_eq!(nobody.json(), json!({}));
    // Each part may be posted back.
    for (query, part) in [
        ("", &base),
        ("?owner=blue", &blue.json()),
        ("?owners=all", &all.json()),
    ] {
        let path = format!("/api/v1/apply{query}");
        let again = gateway.post(&path, part).await.json();
        assert_eq!(again["changed"], false, "{query}: {again}");
    }
    let emptied = gateway.post("/api/v1/apply?owner=blue", &json!({})).await;
    assert_eq!(emptied.json()["changed"], true);
    assert_eq!(gateway.get("/api/v1/config?owners=all").await.json(), base);
}

#[tokio::test]
async fn a_change_begins_from_the_generation_that_changed_the_part_last() {
    let gateway = both().await;
    let put = async |tag: &str, owner: &str| {
        let path = format!("/api/v1/networks/51820/routes/x?owner={owner}");
        let rule = json!({ "host": format!("{owner}.example"), "path": "/x", "maintenance": true });
        let rule = rule.to_string();
        let request = Request::new("PUT", &path).body(rule.as_bytes());
        gateway.ask(request.header("If-Match", tag)).await
    };
    let late = put("1", "blue").await;
    assert_eq!(late.status, 409);
    assert_eq!(
        late.error(),
        "generation 1 is not the one that changed this last: 2 is"
    );
    assert_eq!(put("2", "blue").await.json()["generation"], 3);
    // The base did not change meanwhile.
    let path = "/api/v1/apply";
    let body = json!({}).to_string();
    let request = Request::new("POST", path).body(body.as_bytes());
    let refused = gateway.ask(request.header("If-Match", "1")).await;
    assert_eq!(refused.status, 400, "others have something in the network");
    let cascade = Request::new("POST", "/api/v1/apply?cascade=true").body(body.as_bytes());
    let applied = gateway.ask(cascade.header("If-Match", "1")).await;
    assert_eq!(applied.json()["generation"], 4);
    let blue = gateway.get("/api/v1/config?owner=blue").await;
    assert_eq!(blue.header("etag"), Some("\"4\""), "it lost something");
    assert_eq!(blue.json()["51820"], Value::Null);
}

#[tokio::test]
async fn what_belongs_to_another_owner_is_a_conflict() {
    let gateway = both().await;
    let route = "/api/v1/networks/51820/routes/blue";
    let taken = gateway.ask(Request::new("DELETE", route)).await;
    assert_eq!(
        (taken.status, taken.error().as_str()),
        (409, "route blue of network-51820 belongs to `blue`")
    );
    let network = gateway
        .ask(Request::new("DELETE", "/api/v1/networks/51900"))
        .await;
    assert_eq!(network.status, 409);
    assert_eq!(gateway.get(route).await.status, 404);
    assert_eq!(
        gateway.get(&format!("{route}?owner=blue")).await.json()["host"],
        "blue.example"
    );
    let nothing = gateway.get("/api/v1/networks/51900").await;
    assert_eq!(
        (nothing.status, nothing.error().as_str()),
        (
            404,
            "`api` has nothing in network 51900, which is of `blue`"
        )
    );
    let own = gateway.get("/api/v1/networks/51900?owner=blue").await;
    assert_eq!(own.json(), blues()["51900"]);
    let removed = gateway
        .ask(Request::new("DELETE", &format!("{route}?owners=all")))
        .await;
    assert_eq!(removed.status, 200);
}

#[tokio::test]
async fn front_doors_and_unknown_words_are_no_owners() {
    let gateway = both().await;
    for query in [
        "owner=edge",
        "owner=etcd",
        "owner=ALL",
        "owner=",
        "owners=blue",
        "owner=blue&owners=all",
        "cascade=maybe",
    ] {
        let answer = gateway
            .post(&format!("/api/v1/apply?{query}"), &json!({}))
            .await;
        assert_eq!(answer.status, 400, "{query}: {answer:?}");
    }
    // What they have is shown.
    assert_eq!(
        gateway.get("/api/v1/config?owner=edge").await.json(),
        json!({})
    );
}

#[tokio::test]
async fn an_earlier_generation_comes_back_for_one_owner_or_for_all() {
    let gateway = both().await;
    gateway.post("/api/v1/apply?owner=blue", &json!({})).await;
    gateway.post("/api/v1/apply", &json!({})).await;
    let back = async |query: &str| {
        let path = format!("/api/v1/rollback/2{query}");
        gateway.ask(Request::new("POST", &path)).await
    };
    // What blue had in a network of the base has no place now.
    let refused = back("?owner=blue").await;
    assert_eq!(refused.status, 400, "{refused:?}");
    assert_eq!(back("").await.json()["changed"], true);
    let all = gateway.get("/api/v1/config?owners=all").await.json();
    assert_eq!(all["51900"], Value::Null);
    assert_eq!(back("?owner=blue").await.status, 200);
    let blue = gateway.get("/api/v1/config?owner=blue").await.json();
    assert_eq!(blue, blues());
    send(&gateway, "POST", "/api/v1/apply?owners=all", &json!({})).await;
    assert_eq!(back("?owners=all").await.status, 200);
    let blue = gateway.get("/api/v1/config?owner=blue").await.json();
    assert_eq!(blue, blues());
}

#[tokio::test]
async fn generations_and_the_audit_log_say_whose_part_it_was() {
    let gateway = both().await;
    let list = |query: &'static str| {
        let gateway = &gateway;
        async move {
            let path = format!("/api/v1/generations{query}");
            let list = gateway.get(&path).await.json();
            let entries = list["generations"].as_array().unwrap().clone();
            let pairs = entries
                .iter()
                .map(|it| (it["generation"].clone(), it["owners"].clone()));
            pairs.collect::<Vec<_>>()
        }
    };
    let (one, two) = ((json!(1), json!(["api"])), (json!(2), json!(["blue"])));
    assert_eq!(list("").await, [two.clone(), one.clone()]);
    assert_eq!(list("?owner=api").await, [one]);
    assert_eq!(list("?owner=blue").await, [two]);
    gateway.audit(2).await;
    let log = gateway.get("/api/v1/audit").await.json();
    let owners: Vec<&Value> = log["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["owner"])
        .collect();
    assert_eq!(owners, ["blue", "api"]);
}
