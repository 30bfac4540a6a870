//! Sessions that are resumed, by whichever worker takes the next connection.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion, version};
use serde_json::json;
use tests::{
    http::{self, Upstream},
    lab::{self, Lab},
    runner::Test,
    tests,
};

use crate::{NAME, dial, network, serve, start, to};

pub(crate) const TESTS: &[Test] = tests![
    sessions_are_resumed_by_all_workers,
    a_session_of_one_name_is_not_resumed_for_another,
];

/// Asks once, and says how the handshake went.
fn handshake(config: &Arc<ClientConfig>, name: &str) -> Result<(HandshakeKind, ProtocolVersion)> {
    let mut client = dial(config, name)?;
    client
        .ask(http::request("GET", name, "/", ""))?
        .expect(200)?;
    let (stream, _) = client.into_parts();
    let kind = stream.conn.handshake_kind().context("no handshake")?;
    Ok((kind, stream.conn.protocol_version().context("no version")?))
}

/// A client of one version only.
fn speaking(
    lab: &Lab,
    version: &'static rustls::SupportedProtocolVersion,
) -> Result<Arc<ClientConfig>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(lab.authority().der())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn sessions_are_resumed_by_all_workers(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _upstream = Upstream::saying(tenant.listen(80)?, "ok")?;
    let mut boot = lab::https(json!({}));
    boot["workers"] = json!(4);
    start(lab, boot, &tenant, &[NAME], json!([to(NAME, 80)]))?;
    for version in [&version::TLS12, &version::TLS13] {
        let config = speaking(lab, version)?;
        let (first, spoken) = handshake(&config, NAME)?;
        ensure!(first != HandshakeKind::Resumed && spoken == version.version);
        // Whichever worker takes it: of sixteen connections, hardly one in a billion times all go to
        // the worker of the first.
        for _ in 0..16 {
            let (kind, _) = handshake(&config, NAME)?;
            ensure!(kind == HandshakeKind::Resumed, "{spoken:?}: {kind:?}");
        }
    }
    Ok(())
}

fn a_session_of_one_name_is_not_resumed_for_another(lab: &mut Lab) -> Result<()> {
    let (blue, green) = (lab.tenant(51_820)?, lab.tenant(51_821)?);
    let _upstreams = [
        Upstream::saying(blue.listen(80)?, "I am blue")?,
        Upstream::saying(green.listen(80)?, "I am green")?,
    ];
    let other = "green.example";
    let both = json!({
        "51820": network(lab, &blue, &[NAME], json!([to(NAME, 80)]))?,
        "51821": network(lab, &green, &[other], json!([to(other, 80)]))?,
    });
    serve(lab, lab::https(json!({})), both)?;
    let config = lab.authority().client()?;
    for name in [NAME, other] {
        ensure!(
            handshake(&config, name)?.0 != HandshakeKind::Resumed,
            "{name}"
        );
        ensure!(
            handshake(&config, name)?.0 == HandshakeKind::Resumed,
            "{name}"
        );
    }
    // A request for a name that the connection is not for finds nobody.
    let mut client = dial(&config, NAME)?;
    let answer = client.ask(http::request("GET", other, "/", ""))?;
    answer.expect(421)?;
    ensure!(answer.json()?["code"] == "MISDIRECTED", "{answer:?}");
    Ok(())
}
