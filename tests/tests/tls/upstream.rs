//! TLS towards the upstream: who it is, is proved.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tests::{
    http::{self, Wire, reply},
    lab::{self, Lab},
    runner::Test,
    server::Server,
    tests,
    tls::Authority,
};

use crate::NAME;

pub(crate) const TESTS: &[Test] = tests![
    only_who_proves_its_name_is_asked,
    connections_with_tls_are_used_again,
];

/// Serves HTTP in TLS until the other side ends; answers how many requests came, and the name that
/// was asked for.
fn serve(
    config: Arc<ServerConfig>,
) -> impl Fn(std::net::TcpStream, std::net::SocketAddr) -> Result<(usize, Option<String>)> + Clone {
    move |stream, _| {
        let tls = StreamOwned::new(ServerConnection::new(config.clone())?, stream);
        let mut wire = Wire::new(tls);
        let mut count = 0;
        while let Some(request) = wire.request()? {
            wire.send(reply(
                "200 OK",
                "",
                request.field("host").unwrap_or_default(),
            ))?;
            count += 1;
        }
        let (tls, _) = wire.into_parts();
        Ok((count, tls.conn.server_name().map(str::to_owned)))
    }
}

fn rule(path: &str, port: u16, upstream_tls: Value) -> Value {
    json!({
        "host": NAME,
        "path": path,
        "to": [format!("https://10.0.0.2:{port}")],
        "upstream_tls": upstream_tls,
    })
}

fn only_who_proves_its_name_is_asked(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let other = Authority::new()?;
    let _servers = [
        Server::start(
            tenant.listen(1)?,
            serve(lab.authority().server("inner.example")?),
        )?,
        Server::start(tenant.listen(2)?, serve(other.server("inner.example")?))?,
    ];
    let roots = lab.authority().pem();
    let mut network = tenant.network(json!({}));
    network["routes"] = json!([
        rule(
            "/good",
            1,
            json!({ "roots": roots, "server_name": "inner.example" })
        ),
        rule(
            "/name",
            1,
            json!({ "roots": roots, "server_name": "outer.example" })
        ),
        rule("/host", 1, json!({ "roots": roots })),
        rule(
            "/authority",
            2,
            json!({ "roots": roots, "server_name": "inner.example" })
        ),
        rule("/public", 1, json!({ "server_name": "inner.example" })),
        rule(
            "/any",
            2,
            json!({ "verify": false, "server_name": "inner.example" })
        ),
    ]);
    let mut boot = lab::http(json!({}));
    boot["limits"] = json!({ "upstream_idle_timeout": "1s" });
    lab.gateway(boot, json!({ "51820": network }))?;
    for (path, status) in [
        ("/good", 200),
        ("/name", 502),
        ("/host", 502),
        ("/authority", 502),
        ("/public", 502),
        ("/any", 200),
    ] {
        let answer = http::get(NAME, path)?;
        ensure!(answer.status()? == status, "{path}: {answer:?}");
        ensure!(
            status == 502 || answer.text() == NAME,
            "the host is kept: {answer:?}"
        );
    }
    Ok(())
}

fn connections_with_tls_are_used_again(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let server = Server::start(
        tenant.listen(443)?,
        serve(lab.authority().server("inner.example")?),
    )?;
    let mut network = tenant.network(json!({}));
    let trust = json!({ "roots": lab.authority().pem(), "server_name": "inner.example" });
    network["routes"] = json!([rule("/", 443, trust)]);
    let mut boot = lab::http(json!({}));
    // Longer than a request may take, shorter than the test waits for the end.
    boot["limits"] = json!({ "upstream_idle_timeout": "4s" });
    lab.gateway(boot, json!({ "51820": network }))?;
    for _ in 0..10 {
        http::get(NAME, "/")?.expect(200)?;
    }
    let (count, name) = server.next().context("the connection's end")?;
    ensure!(count == 10, "{count} requests on the first connection");
    ensure!(name.as_deref() == Some("inner.example"), "{name:?}");
    Ok(())
}
