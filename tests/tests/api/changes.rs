//! Every way to change the desired state.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::{
    curl::Curl,
    gateway::SOCKET,
    lab::{Lab, tls},
    network::Network,
    peer::Keys,
    runner::Test,
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    a_document_is_applied_whole_and_once,
    secrets_are_kept_when_the_answer_is_posted_back,
    networks_and_peers_are_changed_one_by_one,
    routes_are_changed_one_by_one,
    owners_change_what_they_have_and_nothing_else,
    a_key_in_a_path_has_three_forms,
    an_earlier_generation_comes_back,
];

const PORT: u16 = 50_000;

fn start(lab: &mut Lab) -> Result<Curl> {
    let gateway = lab.gateway(tls(json!({})), json!({}))?;
    Ok(Curl::through(&gateway.directory().join(SOCKET)))
}

/// Networks stay when their gateway ends, so it ends without any.
fn end(curl: &Curl) -> Result<()> {
    curl.change("POST", "/api/v1/apply?wait=true", Some(&json!({})))?;
    Ok(())
}

fn a_document_is_applied_whole_and_once(lab: &mut Lab) -> Result<()> {
    let curl = start(lab)?;
    let mut network = Network::new(PORT)?;
    network.publish("blue.example", "10.0.0.2:443");
    let document = network.state();
    let plan = curl.change("POST", "/api/v1/apply?dry_run=true", Some(&document))?;
    ensure!(plan["dry_run"] == true && plan["changed"] == true, "{plan}");
    ensure!(plan["generation"] == 1, "the seed is the first: {plan}");
    ensure!(network.netns().is_err(), "a dry run made something");
    let applied = curl.change("POST", "/api/v1/apply?wait=true", Some(&document))?;
    ensure!(
        applied["generation"] == 2 && applied["changed"] == true,
        "{applied}"
    );
    ensure!(applied["steps"] == plan["steps"], "{plan}, then {applied}");
    let object = json!("network-50000/wg50000");
    let steps = applied["steps"].as_array().context("no steps")?;
    ensure!(
        steps
            .iter()
            .any(|step| step["op"] == "make" && step["object"] == object)
    );
    for path in ["/api/v1/apply", "/api/v1/config.json"] {
        let again = curl.change("POST", path, Some(&document))?;
        ensure!(
            again["changed"] == false && again["steps"] == json!([]),
            "{again}"
        );
        ensure!(again["generation"] == 2, "{again}");
    }
    let stale = curl.clone().header("If-Match: 1");
    stale.refuse(409, "POST", "/api/v1/apply", Some("{}"))?;
    let mut wrong = document;
    wrong["50000"]["mtu"] = json!(12);
    wrong["70000"] = json!({});
    wrong["50000"]["address"] = json!(["10.0.0.1/40"]);
    let refusal = curl.refuse(400, "POST", "/api/v1/apply", Some(&wrong.to_string()))?;
    let pointers: Vec<&str> = refusal["problems"]
        .as_array()
        .context("no problems")?
        .iter()
        .filter_map(|problem| problem["pointer"].as_str())
        .collect();
    for pointer in ["/50000/mtu", "/50000/address/0", "/70000"] {
        ensure!(pointers.contains(&pointer), "no {pointer} in {refusal}");
    }
    curl.refuse(400, "POST", "/api/v1/apply", Some("{"))?;
    let status = curl.get("/api/v1/status")?;
    ensure!(status["generation"]["running"] == 2, "{status}");
    let fresh = curl.header("If-Match: 2");
    fresh.change("POST", "/api/v1/apply?wait=true", Some(&json!({})))?;
    ensure!(network.netns().is_err(), "it was not removed");
    Ok(())
}

fn secrets_are_kept_when_the_answer_is_posted_back(lab: &mut Lab) -> Result<()> {
    let curl = start(lab)?;
    let mut network = Network::new(PORT)?;
    let (peer, secret) = (Keys::generate()?.public, Keys::preshared()?);
    network.admit(&peer, &["10.0.0.2/32"]);
    network.document["peers"][&peer]["preshared_key"] = secret.as_str().into();
    curl.change("POST", "/api/v1/apply?wait=true", Some(&network.state()))?;
    let masked = curl.get("/api/v1/config")?;
    let shown = masked.to_string();
    ensure!(
        !shown.contains(&network.keys.private) && !shown.contains(&secret),
        "{shown}"
    );
    ensure!(masked["50000"]["private_key"] == "(kept)", "{masked}");
    ensure!(
        masked["50000"]["peers"][&peer]["preshared_key"] == "(kept)",
        "{masked}"
    );
    let again = curl.change("POST", "/api/v1/apply", Some(&masked))?;
    ensure!(again["changed"] == false, "{again}");
    let mut changed = masked;
    changed["50000"]["mtu"] = json!(1400);
    curl.change("POST", "/api/v1/apply?wait=true", Some(&changed))?;
    let whole = curl.get("/api/v1/config?secrets=true")?;
    ensure!(
        whole["50000"]["private_key"] == network.document["private_key"],
        "{whole}"
    );
    ensure!(
        whole["50000"]["peers"][&peer]["preshared_key"] == json!(secret),
        "{whole}"
    );
    ensure!(network.show("preshared-keys")?.contains(&secret));
    end(&curl)
}

fn networks_and_peers_are_changed_one_by_one(lab: &mut Lab) -> Result<()> {
    let curl = start(lab)?;
    let network = Network::new(PORT)?;
    curl.change("POST", "/api/v1/apply?wait=true", Some(&network.state()))?;
    let path = "/api/v1/networks/50000";
    let patch = json!({ "mtu": 1400, "proxy": { "https://blue.example": ["10.0.0.2:443"] } });
    curl.change("PATCH", &format!("{path}?wait=true"), Some(&patch))?;
    let config = curl.get("/api/v1/config")?;
    ensure!(config["50000"]["mtu"] == 1400, "{config}");
    ensure!(config["50000"]["proxy"] == patch["proxy"], "{config}");
    ensure!(
        config["50000"]["address"] == network.document["address"],
        "{config}"
    );
    let removal = json!({ "mtu": null, "proxy": { "https://blue.example": null } });
    curl.change("PATCH", path, Some(&removal))?;
    let config = curl.get("/api/v1/config")?;
    ensure!(config["50000"]["mtu"] == 1420, "{config}");
    ensure!(config["50000"]["proxy"] == json!({}), "{config}");
    curl.refuse(400, "PATCH", path, Some(r#"{ "mtu": 1 }"#))?;
    for method in ["PATCH", "DELETE"] {
        let body = (method == "PATCH").then_some("{}");
        curl.refuse(404, method, "/api/v1/networks/50001", body)?;
    }
    let peer = Keys::generate()?.public;
    let url_safe = peer.replace('+', "-").replace('/', "_");
    let of_peer = format!("{path}/peers/{url_safe}?wait=true");
    for allowed in ["10.0.0.2/32", "10.0.0.3/32"] {
        let body = json!({ "allowed_ips": [allowed] });
        curl.change("PUT", &of_peer, Some(&body))?;
        ensure!(network.show("allowed-ips")?.contains(allowed));
    }
    curl.refuse(
        400,
        "PUT",
        &of_peer,
        Some(r#"{ "allowed_ips": ["nonsense"] }"#),
    )?;
    curl.change("DELETE", &of_peer, None)?;
    ensure!(network.show("peers")?.is_empty());
    curl.refuse(404, "DELETE", &of_peer, None)?;
    curl.change("DELETE", &format!("{path}?wait=true"), None)?;
    ensure!(network.netns().is_err(), "it was not removed");
    Ok(())
}

fn routes_are_changed_one_by_one(lab: &mut Lab) -> Result<()> {
    let curl = start(lab)?;
    let path = "/api/v1/networks/50000";
    let network = json!({ "netns": null });
    curl.change("PUT", &format!("{path}?wait=true"), Some(&network))?;
    let route = format!("{path}/routes/shop");
    let rule = json!({ "host": "shop.example", "to": ["127.0.0.1:80"] });
    curl.refuse(404, "GET", &route, None)?;
    let put = curl.change("PUT", &format!("{route}?wait=true"), Some(&rule))?;
    ensure!(put["changed"] == true, "{put}");
    let again = curl.change("PUT", &route, Some(&rule))?;
    ensure!(again["changed"] == false, "{again}");
    let shown = curl.get(&route)?;
    ensure!(
        shown["id"] == "shop" && shown["host"] == rule["host"],
        "{shown}"
    );
    let config = curl.get("/api/v1/config")?;
    ensure!(config["50000"]["routes"] == json!([shown]), "{config}");
    let status = curl.get("/api/v1/status?network=50000")?;
    ensure!(
        status["networks"]["50000"]["routes"][0]["route"] == "shop.example/",
        "{status}"
    );
    let same = json!({ "host": "shop.example", "maintenance": true });
    let refused = curl.refuse(
        400,
        "PUT",
        &format!("{path}/routes/b"),
        Some(&same.to_string()),
    )?;
    let said = "rule `shop` takes the same requests";
    ensure!(refused["problems"][0]["message"] == said, "{refused}");
    curl.change("DELETE", &format!("{route}?wait=true"), None)?;
    curl.refuse(404, "DELETE", &route, None)?;
    ensure!(curl.get(path)?["routes"].is_null());
    end(&curl)
}

/// Two owners over one gateway: what each has is served, kept and told apart.
fn owners_change_what_they_have_and_nothing_else(lab: &mut Lab) -> Result<()> {
    let curl = start(lab)?;
    let base = json!({ "50000": { "netns": null, "routes": [
        { "host": "shop.example", "path": "/base", "maintenance": true },
    ] } });
    curl.change("POST", "/api/v1/apply?wait=true", Some(&base))?;
    let blue = json!({
        "50000": { "routes": [{ "id": "blue", "host": "shop.example", "path": "/blue", "maintenance": true }] },
        "50001": { "netns": null, "proxy": { "https://blue.example": ["127.0.0.1:1"] } },
    });
    let apply = "/api/v1/apply?owner=blue";
    curl.change("POST", &format!("{apply}&wait=true"), Some(&blue))?;
    let own = |curl: &Curl| curl.get("/api/v1/config?owner=blue");
    ensure!(own(&curl)? == blue, "{}", own(&curl)?);
    let labels = |curl: &Curl| -> Result<String> {
        let status = curl.get("/api/v1/status?network=50000")?;
        Ok(status["networks"]["50000"]["routes"].to_string())
    };
    let served = labels(&curl)?;
    for route in ["shop.example/base", "shop.example/blue"] {
        ensure!(served.contains(route), "no {route} in {served}");
    }
    // The base is applied again, and does not take what is not its own.
    curl.change("POST", "/api/v1/apply?wait=true", Some(&base))?;
    ensure!(own(&curl)? == blue);
    let taken = json!({ "50001": { "netns": null } }).to_string();
    let refused = curl.refuse(400, "POST", "/api/v1/apply", Some(&taken))?;
    let said = refused["problems"].to_string();
    ensure!(said.contains("network-50001 belongs to `blue`"), "{said}");
    curl.refuse(409, "DELETE", "/api/v1/networks/50001", None)?;
    curl.refuse(400, "POST", "/api/v1/apply", Some("{}"))?;
    curl.refuse(400, "POST", "/api/v1/apply?owner=edge", Some("{}"))?;
    // Each goes back to what it had itself.
    curl.change("POST", &format!("{apply}&wait=true"), Some(&json!({})))?;
    ensure!(!labels(&curl)?.contains("blue"), "{}", labels(&curl)?);
    let list = curl.get("/api/v1/generations?owner=blue")?;
    let generation = &list["generations"][1]["generation"];
    let back = format!("/api/v1/rollback/{generation}?owner=blue&wait=true");
    curl.change("POST", &back, None)?;
    ensure!(own(&curl)? == blue);
    let events = curl.get("/api/v1/audit")?;
    ensure!(events["entries"][0]["owner"] == "blue", "{events}");
    curl.change(
        "POST",
        "/api/v1/apply?owners=all&wait=true",
        Some(&json!({})),
    )?;
    ensure!(curl.get("/api/v1/config?owners=all")? == json!({}));
    Ok(())
}

fn a_key_in_a_path_has_three_forms(lab: &mut Lab) -> Result<()> {
    let curl = start(lab)?;
    let network = Network::new(PORT)?;
    curl.change("POST", "/api/v1/apply?wait=true", Some(&network.state()))?;
    // Half of all keys have a slash, and half a plus sign.
    let key = "a/b+c/d+e/f+AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    let forms = [
        key.to_owned(),
        key.replace('/', "%2F").replace('+', "%2B"),
        key.replace('/', "_").replace('+', "-"),
    ];
    for form in &forms {
        let path = format!("/api/v1/networks/50000/peers/{form}?wait=true");
        let body = json!({ "allowed_ips": ["10.0.0.2/32"] });
        curl.change("PUT", &path, Some(&body))
            .context(form.clone())?;
        let config = curl.get("/api/v1/config")?;
        ensure!(
            config["50000"]["peers"][key]["allowed_ips"] == json!(["10.0.0.2/32"]),
            "{config}"
        );
        curl.change("DELETE", &path, None).context(form.clone())?;
    }
    curl.refuse(404, "DELETE", "/api/v1/networks/50000/peers/short", None)?;
    end(&curl)
}

fn an_earlier_generation_comes_back(lab: &mut Lab) -> Result<()> {
    let curl = start(lab)?;
    let network = Network::new(PORT)?;
    let applied = curl.change("POST", "/api/v1/apply?wait=true", Some(&network.state()))?;
    let generation = applied["generation"].as_u64().context("no generation")?;
    end(&curl)?;
    ensure!(network.netns().is_err());
    let path = format!("/api/v1/rollback/{generation}?wait=true");
    let back = curl.change("POST", &path, None)?;
    ensure!(back["generation"] == json!(generation + 2), "{back}");
    ensure!(network.show("public-key")?.trim() == network.keys.public);
    curl.refuse(404, "POST", "/api/v1/rollback/999", None)?;
    let generations = curl.get("/api/v1/generations")?;
    let list = generations["generations"].as_array().context("no list")?;
    ensure!(list.len() == 4, "{generations}");
    let shown = |entry: &Value| entry["id"].is_u64() || entry["generation"].is_u64();
    ensure!(list.iter().all(shown), "{generations}");
    end(&curl)
}
