//! Clients that prove who they are with a certificate.

use std::sync::Arc;

use anyhow::{Result, ensure};
use rustls::ClientConfig;
use serde_json::json;
use tests::{
    http::{self, Message, Then, Upstream, Wire, reply},
    lab::{self, Lab},
    runner::Test,
    tests,
    tls::{Authority, Identity},
};

use crate::{NAME, dial, start, to};

pub(crate) const TESTS: &[Test] = tests![
    who_must_prove_itself_is_not_served_otherwise,
    who_may_prove_itself_is_served_and_known,
];

fn ok(_: &Message, wire: &mut Wire) -> Result<Then> {
    wire.send(reply("200 OK", "", "ok"))?;
    Ok(Then::Next)
}

/// A client that trusts the lab's authority, and shows a certificate.
fn showing(lab: &Lab, identity: Option<&Identity>) -> Result<Arc<ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(lab.authority().der())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    Ok(Arc::new(match identity {
        Some(identity) => {
            let (chain, key) = identity.der();
            builder.with_client_auth_cert(chain, key)?
        }
        None => builder.with_no_client_auth(),
    }))
}

/// Asks once; answers what came, if anything.
fn ask(config: &Arc<ClientConfig>) -> Result<Message> {
    let claims = "Client-Cert: :eA==:\r\nX-Client-Cert-Subject: CN=admin\r\n";
    dial(config, NAME)?.ask(http::request("GET", NAME, "/", claims))
}

/// A gateway that asks clients of [`NAME`] for certificates of an authority.
fn asking(lab: &mut Lab, mode: &str, clients: &Authority) -> Result<Upstream> {
    let tenant = lab.tenant(51_820)?;
    let upstream = Upstream::start(tenant.listen(80)?, ok)?;
    let mut rule = to(NAME, 80);
    rule["client_certificates"] = json!({ "mode": mode, "roots": clients.pem() });
    start(lab, lab::https(json!({})), &tenant, &[NAME], json!([rule]))?;
    Ok(upstream)
}

fn who_must_prove_itself_is_not_served_otherwise(lab: &mut Lab) -> Result<()> {
    let clients = Authority::new()?;
    let upstream = asking(lab, "required", &clients)?;
    let stranger = Authority::new()?.certify(&["x.example"], "alice")?;
    ensure!(ask(&showing(lab, None)?).is_err(), "nobody is served");
    ensure!(
        ask(&showing(lab, Some(&stranger))?).is_err(),
        "a stranger is served"
    );
    ensure!(upstream.asked().is_empty());
    let alice = clients.certify(&["x.example"], "alice")?;
    let config = showing(lab, Some(&alice))?;
    // Also where the session is resumed.
    for _ in 0..3 {
        ask(&config)?.expect(200)?;
        let asked = upstream.last()?;
        let subject = asked.field("x-client-cert-subject").unwrap_or_default();
        ensure!(subject.contains("alice"), "{asked:?}");
        ensure!(
            asked.field("client-cert").is_some_and(|it| it.len() > 100),
            "{asked:?}"
        );
    }
    Ok(())
}

fn who_may_prove_itself_is_served_and_known(lab: &mut Lab) -> Result<()> {
    let clients = Authority::new()?;
    let upstream = asking(lab, "optional", &clients)?;
    ask(&showing(lab, None)?)?.expect(200)?;
    let asked = upstream.last()?;
    for name in [
        "client-cert",
        "x-client-cert-subject",
        "x-client-cert-sha256",
    ] {
        ensure!(
            asked.all(name).is_empty(),
            "a claim is passed on: {asked:?}"
        );
    }
    let alice = clients.certify(&["x.example"], "alice")?;
    ask(&showing(lab, Some(&alice))?)?.expect(200)?;
    let asked = upstream.last()?;
    ensure!(asked.all("x-client-cert-subject").len() == 1, "{asked:?}");
    ensure!(
        asked
            .field("x-client-cert-subject")
            .is_some_and(|it| it.contains("alice"))
    );
    let stranger = Authority::new()?.certify(&["x.example"], "mallory")?;
    ensure!(
        ask(&showing(lab, Some(&stranger))?).is_err(),
        "a bad proof is taken for none"
    );
    Ok(())
}
