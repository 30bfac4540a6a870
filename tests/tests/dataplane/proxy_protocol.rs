//! The PROXY protocol: who may say who the client is, and who is told.

use std::{
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::{
    lab::{GATEWAY, Lab, tcp, tls},
    proxy::{self, ALPN, AUTHORITY, Header, UNIQUE_ID},
    runner::Test,
    server::Server,
    stream, tests, tls as client,
};

pub(crate) const TESTS: &[Test] = tests![
    a_target_that_asks_is_told_the_client_in_version_1,
    a_target_that_asks_is_told_the_client_and_more_in_version_2,
    a_trusted_header_is_believed_however_it_is_split,
    a_header_from_anywhere_else_is_refused,
    a_trusted_source_must_send_a_header,
    a_header_is_told_on_to_the_target,
];

const NAME: &str = "blue.example";
/// A source that headers are accepted from.
const TRUSTED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
/// What the headers of the tests say.
const CLIENT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)), 1234);
const PUBLIC: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 80)), 443);

fn asking(version: &str) -> Value {
    json!({ NAME: [{ "to": "10.0.0.2:443", "proxy_protocol": version }] })
}

fn trusting(mut boot: Value) -> Value {
    boot["listeners"][0]["proxy_protocol"] = json!({ "accept_from": ["127.0.0.2/32"] });
    boot
}

/// Sends a hello and more over the gateway and answers what the server read and the client's port.
fn send(source: IpAddr, before: &[u8]) -> Result<(SocketAddr, Vec<u8>)> {
    let hello = client::hello_with(NAME, vec![b"h2".to_vec(), b"http/1.1".to_vec()])?;
    let mut stream = stream::connect_from(source, GATEWAY)?;
    let local = stream.local_addr()?;
    stream.write_all(&[before, &hello].concat())?;
    stream::half_close(&stream)?;
    stream::read_to_any_end(&mut stream)?;
    Ok((local, hello))
}

fn read(
    header: fn(&mut &[u8]) -> Result<Header>,
) -> impl Fn(TcpStream, SocketAddr) -> Result<(Header, Vec<u8>)> + Clone {
    move |mut stream, _| {
        let bytes = stream::read_to_end(&mut stream)?;
        let mut rest = &bytes[..];
        let header = header(&mut rest)?;
        Ok((header, rest.to_vec()))
    }
}

fn a_target_that_asks_is_told_the_client_in_version_1(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let server = Server::start(tenant.listen(443)?, read(|bytes| proxy::read_v1(bytes)))?;
    lab.gateway(tls(json!({})), tenant.state(asking("v1")))?;
    let (local, hello) = send(Ipv4Addr::LOCALHOST.into(), b"")?;
    let (header, rest) = server.next()?;
    ensure!(
        (header.source, header.destination) == (local, GATEWAY),
        "{header:?}"
    );
    ensure!(rest == hello, "the hello follows, unchanged");
    Ok(())
}

fn a_target_that_asks_is_told_the_client_and_more_in_version_2(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let server = Server::start(tenant.listen(443)?, read(|bytes| proxy::read_v2(bytes)))?;
    lab.gateway(tls(json!({})), tenant.state(asking("v2")))?;
    let mut identities = Vec::new();
    for _ in 0..2 {
        let (local, hello) = send(Ipv4Addr::LOCALHOST.into(), b"")?;
        let (mut header, rest) = server.next()?;
        ensure!(
            (header.source, header.destination) == (local, GATEWAY),
            "{header:?}"
        );
        ensure!(
            header
                .additions
                .remove(&AUTHORITY)
                .is_some_and(|name| name == NAME.as_bytes())
        );
        ensure!(
            header
                .additions
                .remove(&ALPN)
                .is_some_and(|alpn| alpn == b"h2")
        );
        let identity = header.additions.remove(&UNIQUE_ID).context("no identity")?;
        ensure!(!identity.is_empty() && identity.len() <= 128);
        identities.push(identity);
        ensure!(rest == hello, "the hello follows, unchanged");
    }
    ensure!(
        identities[0] != identities[1],
        "each connection has an identity of its own"
    );
    Ok(())
}

fn a_trusted_header_is_believed_however_it_is_split(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let server = Server::start(tenant.listen(443)?, |mut stream, _| {
        stream::read_to_end(&mut stream)
    })?;
    let state = tenant.state(json!({ NAME: ["10.0.0.2:443"] }));
    let gateway = lab.gateway(trusting(tls(json!({}))), state)?;
    let hello = client::hello(NAME)?;
    let v2 = proxy::v2(
        (Ipv4Addr::new(203, 0, 113, 7), 1234),
        (Ipv4Addr::new(203, 0, 113, 80), 443),
    );
    let mut count = 0;
    for header in [proxy::v1(CLIENT, PUBLIC), v2] {
        for split in 0..=header.len() {
            let mut stream = stream::connect_from(TRUSTED, GATEWAY)?;
            stream.write_all(&header[..split])?;
            stream.write_all(&[&header[split..], &hello].concat())?;
            stream::half_close(&stream)?;
            ensure!(
                stream::read_to_end(&mut stream)?.is_empty(),
                "split at {split}"
            );
            ensure!(
                server.next()? == hello,
                "the header is not passed on; split at {split}"
            );
            count += 1;
        }
    }
    // The proxy's own connections have its own address.
    let mut stream = stream::connect_from(TRUSTED, GATEWAY)?;
    let local = stream.local_addr()?;
    stream.write_all(&[proxy::v2_local(), hello].concat())?;
    stream::half_close(&stream)?;
    stream::read_to_end(&mut stream)?;
    server.next()?;
    let records = gateway.wait_for_records(count + 1)?;
    for record in &records[..count] {
        ensure!(
            record["client"] == CLIENT.to_string() && record["outcome"] == "done",
            "{record}"
        );
    }
    ensure!(
        records[count]["client"] == local.to_string(),
        "{}",
        records[count]
    );
    Ok(())
}

fn a_header_from_anywhere_else_is_refused(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let server = Server::start(tenant.listen(443)?, |mut stream, _| {
        stream::read_to_any_end(&mut stream)
    })?;
    let state = tenant.state(json!({ NAME: ["10.0.0.2:443"] }));
    let gateway = lab.gateway(trusting(tls(json!({}))), state)?;
    let v2 = proxy::v2(
        (Ipv4Addr::new(203, 0, 113, 7), 1234),
        (Ipv4Addr::new(203, 0, 113, 80), 443),
    );
    for header in [proxy::v1(CLIENT, PUBLIC), v2, proxy::v2_local()] {
        send(Ipv4Addr::LOCALHOST.into(), &header)?;
    }
    for record in gateway.wait_for_records(3)? {
        ensure!(record["outcome"] == "untrusted_proxy_header", "{record}");
        ensure!(
            record["client"]
                .as_str()
                .is_some_and(|client| client.starts_with("127.0.0.1:"))
        );
    }
    ensure!(
        server.ended().is_empty(),
        "nothing of it reached the tenant"
    );
    // Without a header the same source is welcome.
    let (_, hello) = send(Ipv4Addr::LOCALHOST.into(), b"")?;
    ensure!(server.next()? == hello.len() as u64);
    Ok(())
}

fn a_trusted_source_must_send_a_header(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let state = tenant.state(json!({ NAME: ["10.0.0.2:443"] }));
    let gateway = lab.gateway(trusting(tls(json!({}))), state)?;
    for before in [
        &b""[..],
        b"PROXY TCP4 nonsense\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x01\0",
    ] {
        send(TRUSTED, before)?;
    }
    for record in gateway.wait_for_records(3)? {
        ensure!(
            record["outcome"] == "bad_proxy_header" && record["fault"] == "client",
            "{record}"
        );
    }
    Ok(())
}

fn a_header_is_told_on_to_the_target(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let server = Server::start(tenant.listen(443)?, read(|bytes| proxy::read_v2(bytes)))?;
    lab.gateway(trusting(tls(json!({}))), tenant.state(asking("v2")))?;
    send(TRUSTED, &proxy::v1(CLIENT, PUBLIC))?;
    let (header, _) = server.next()?;
    ensure!(
        (header.source, header.destination) == (CLIENT, PUBLIC),
        "{header:?}"
    );

    // A TCP listener believes headers just as well.
    let mut boot = trusting(tcp("network-51820/10.0.0.2:5432", json!({})));
    boot["listeners"][0]["bind"] = json!("127.0.0.1:5432");
    let echo = Server::start(tenant.listen(5432)?, tests::server::echo)?;
    let gateway = lab.gateway(boot, tenant.state(json!({})))?;
    let mut stream = stream::connect_from(TRUSTED, SocketAddr::from(([127, 0, 0, 1], 5432)))?;
    stream.write_all(&[&proxy::v1(CLIENT, PUBLIC)[..], b"query"].concat())?;
    stream::half_close(&stream)?;
    ensure!(stream::read_to_end(&mut stream)? == b"query");
    ensure!(echo.next()? == 5);
    ensure!(gateway.wait_for_records(1)?[0]["client"] == CLIENT.to_string());
    Ok(())
}
