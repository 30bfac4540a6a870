//! Who may do what, over TCP and over the socket.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tests::{
    curl::Curl,
    lab::{Lab, tls},
    network::Network,
    runner::Test,
    tests,
};

pub(crate) const TESTS: &[Test] = tests![
    roles_may_do_what_they_may,
    tokens_change_when_the_boot_file_is_read_again,
    an_api_that_others_reach_keeps_its_tokens,
    guessing_is_slowed_down,
];

const ADDRESS: &str = "http://127.0.0.1:8080";
const ADMIN: &str = "the-token-of-the-admin-0123456789";
const OPERATOR: &str = "the-token-of-the-operator-0123456789";
const READER: &str = "the-token-of-the-reader-0123456789";

fn boot(reader: &str) -> Value {
    let mut boot = tls(json!({}));
    boot["api"] = json!({
        "listen": "127.0.0.1:8080",
        "token": ADMIN,
        "tokens": [
            { "name": "deploy", "role": "operator", "token": OPERATOR },
            { "name": "graphs", "role": "reader", "token": reader },
        ],
    });
    boot
}

fn roles_may_do_what_they_may(lab: &mut Lab) -> Result<()> {
    let _gateway = lab.gateway(boot(READER), json!({}))?;
    let nobody = Curl::to(ADDRESS);
    let [admin, operator, reader] =
        [ADMIN, OPERATOR, READER].map(|token| nobody.clone().token(token));
    for path in [
        "/api/v1/status",
        "/api/v1/config",
        "/api/v1/audit",
        "/metrics",
    ] {
        nobody.refuse(401, "GET", path, None)?;
        for known in [&admin, &operator, &reader] {
            ensure!(known.ask("GET", path, None)?.status == 200, "{path}");
        }
    }
    // The older header, and probes for which no token is needed.
    let older = nobody.clone().header(&format!("Token: {READER}"));
    older.get("/api/v1/status")?;
    for path in ["/healthz", "/readyz"] {
        ensure!(nobody.ask("GET", path, None)?.status == 200, "{path}");
    }
    let network = Network::new(50_000)?;
    let document = network.state().to_string();
    reader.refuse(403, "POST", "/api/v1/apply", Some(&document))?;
    reader.refuse(403, "DELETE", "/api/v1/networks/50000", None)?;
    operator.change("POST", "/api/v1/apply?wait=true", Some(&network.state()))?;
    for known in [&operator, &reader] {
        known.refuse(403, "GET", "/api/v1/config?secrets=true", None)?;
    }
    let whole = admin.get("/api/v1/config?secrets=true")?;
    ensure!(whole["50000"]["private_key"] == network.document["private_key"]);
    let audit = admin.get("/api/v1/audit")?.to_string();
    ensure!(
        audit.contains("deploy") && audit.contains("graphs"),
        "{audit}"
    );
    ensure!(!audit.contains(OPERATOR), "{audit}");
    operator.change("POST", "/api/v1/apply?wait=true", Some(&json!({})))?;
    Ok(())
}

fn tokens_change_when_the_boot_file_is_read_again(lab: &mut Lab) -> Result<()> {
    const NEXT: &str = "the-next-token-of-the-reader-0123456789";
    let gateway = lab.gateway(boot(READER), json!({}))?;
    let [old, next] = [READER, NEXT].map(|token| Curl::to(ADDRESS).token(token));
    old.get("/api/v1/status")?;
    next.refuse(401, "GET", "/api/v1/status", None)?;
    let mut again: Value =
        serde_json::from_slice(&std::fs::read(gateway.directory().join("ringway.yaml"))?)?;
    again["api"] = boot(NEXT)["api"].clone();
    gateway.reload(&again)?;
    next.get("/api/v1/status")?;
    old.refuse(401, "GET", "/api/v1/status", None)?;
    Ok(())
}

/// The new file by itself is a good one: it names loopback, and that waits for a restart.
fn an_api_that_others_reach_keeps_its_tokens(lab: &mut Lab) -> Result<()> {
    let mut open = boot(READER);
    open["api"]["listen"] = json!("0.0.0.0:8080");
    let gateway = lab.gateway(open, json!({}))?;
    let file = gateway.directory().join("ringway.yaml");
    let mut next: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    next["api"] = json!({ "listen": "127.0.0.1:8080" });
    gateway.expect_error("without a token every client would be an admin");
    gateway.expect_error("the boot file is refused");
    gateway.reload(&next)?;
    let nobody = Curl::to(ADDRESS);
    nobody.refuse(401, "GET", "/api/v1/status", None)?;
    nobody.token(READER).get("/api/v1/status")?;
    Ok(())
}

fn guessing_is_slowed_down(lab: &mut Lab) -> Result<()> {
    let mut boot = boot(READER);
    boot["api"]["limits"] = json!({ "failures_max": 3, "body_bytes_max": "1KiB" });
    let _gateway = lab.gateway(boot, json!({}))?;
    let known = Curl::to(ADDRESS).token(ADMIN);
    known.refuse(413, "POST", "/api/v1/apply", Some(&" ".repeat(2000)))?;
    let guess = Curl::to(ADDRESS).token("a-guess-that-is-wrong-0123456789");
    for _ in 0..3 {
        guess.refuse(401, "GET", "/api/v1/status", None)?;
    }
    guess.refuse(429, "GET", "/api/v1/status", None)?;
    Ok(())
}
