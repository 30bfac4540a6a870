//! TLS that ends at the gateway: who is served, who is not, and what passes.

use std::{io::Write as _, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use rustls::{ClientConfig, client::Resumption};
use serde_json::json;
use tests::{
    http::{self, Content, Message, Then, Upstream, Wire, reply},
    lab::{self, GATEWAY, Lab},
    leak,
    random::Random,
    runner::Test,
    server::Server,
    stream::{self, Pattern},
    tests,
    tls::UNRECOGNIZED_NAME,
    tool::Tool,
    wait::eventually,
};

use crate::{NAME, dial, roots, start, to};

pub(crate) const TESTS: &[Test] = tests![
    curl_is_served_over_both_versions_and_no_older,
    requests_are_passed_on_as_secure,
    names_without_a_certificate_are_refused,
    content_of_any_length_passes_whole: 120,
    an_answer_that_was_cut_short_has_no_farewell,
    what_is_not_tls_ends_and_reaches_nobody,
    a_new_certificate_is_taken_without_a_restart,
    clients_without_tls_are_sent_to_where_it_is,
];

fn ok(_: &Message, wire: &mut Wire) -> Result<Then> {
    wire.send(reply("200 OK", "", "ok"))?;
    Ok(Then::Next)
}

fn curl_is_served_over_both_versions_and_no_older(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _upstream = Upstream::saying(tenant.listen(80)?, "secured")?;
    start(
        lab,
        lab::https(json!({})),
        &tenant,
        &[NAME],
        json!([to(NAME, 80)]),
    )?;
    let roots = roots(lab)?;
    let port = GATEWAY.port();
    let curl = |arguments: &str| {
        let tool = Tool::new("curl", "--silent --show-error --max-time 20 --http1.1");
        let tool = tool.argument("--cacert").argument(&roots);
        let tool = tool
            .argument("--resolve")
            .argument(format!("{NAME}:{port}:127.0.0.1"));
        let tool = arguments.split_whitespace().fold(tool, Tool::argument);
        tool.argument(format!("https://{NAME}:{port}/")).run()
    };
    ensure!(curl("")? == "secured");
    ensure!(curl("--tls-max 1.2")? == "secured");
    ensure!(curl("--tlsv1.3")? == "secured");
    ensure!(
        curl("--tls-max 1.1 --ciphers DEFAULT@SECLEVEL=0").is_err(),
        "TLS 1.1 is spoken"
    );
    Ok(())
}

fn requests_are_passed_on_as_secure(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let upstream = Upstream::start(tenant.listen(80)?, ok)?;
    let mut rule = to(NAME, 80);
    rule["hsts"] = json!({ "max_age": "1d", "include_subdomains": true });
    start(lab, lab::https(json!({})), &tenant, &[NAME], json!([rule]))?;
    let mut client = dial(&lab.authority().client()?, NAME)?;
    for _ in 0..3 {
        let claims =
            "X-Forwarded-Proto: http\r\nClient-Cert: :eA==:\r\nX-Client-Cert-Subject: CN=x\r\n";
        let answer = client.ask(http::request("GET", NAME, "/", claims))?;
        answer.expect(200)?;
        let hsts = answer.field("strict-transport-security");
        ensure!(
            hsts == Some("max-age=86400; includeSubDomains"),
            "{answer:?}"
        );
        let asked = upstream.last()?;
        ensure!(
            asked.field("x-forwarded-proto") == Some("https"),
            "{asked:?}"
        );
        let forwarded = asked.field("forwarded").unwrap_or_default();
        ensure!(forwarded.ends_with("proto=https"), "{forwarded}");
        ensure!(
            asked.field("client-cert").is_none() && asked.field("x-client-cert-subject").is_none()
        );
    }
    Ok(())
}

fn names_without_a_certificate_are_refused(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let upstream = Upstream::start(tenant.listen(80)?, ok)?;
    start(
        lab,
        lab::https(json!({})),
        &tenant,
        &[NAME],
        json!([to(NAME, 80)]),
    )?;
    let mut stream = stream::connect(GATEWAY)?;
    stream.write_all(&tests::tls::hello("green.example")?)?;
    stream::expect(&mut stream, &UNRECOGNIZED_NAME)?;
    stream::read_to_any_end(&mut stream)?;
    let nameless = Tool::new("openssl", "s_client -noservername -brief -connect");
    let nameless = nameless.argument(GATEWAY.to_string()).output("")?;
    ensure!(
        !nameless.status.success(),
        "a client without a name is served"
    );
    ensure!(upstream.asked().is_empty());
    Ok(())
}

fn content_of_any_length_passes_whole(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let pattern = Pattern::new(&mut Random::seeded(31));
    let length: u64 = 96 << 20;
    let server = Server::start(tenant.listen(80)?, {
        let pattern = pattern.clone();
        move |stream, _| {
            let mut wire = Wire::new(stream);
            let request = wire.head()?.context("no request")?;
            let mut count = 0;
            let take = |bytes: &[u8]| {
                pattern.check(count, bytes)?;
                count += bytes.len() as u64;
                Ok(())
            };
            wire.content(Content::of_request(&request)?, take, &mut Vec::new())?;
            wire.send(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {count}\r\nConnection: close\r\n\r\n"
            ))?;
            pattern.send(&mut wire.socket().try_clone()?, count, 100_000)?;
            wire.expect_end()
        }
    })?;
    let gateway = start(
        lab,
        lab::https(json!({})),
        &tenant,
        &[NAME],
        json!([to(NAME, 80)]),
    )?;
    let before = leak::memory(gateway.process())?;
    let mut client = dial(&lab.authority().client()?, NAME)?;
    client.send(http::request(
        "PUT",
        NAME,
        "/",
        &format!("Content-Length: {length}\r\n"),
    ))?;
    let mut sent = 0;
    while sent < length {
        let piece = usize::try_from(length - sent)?.min(64 << 10);
        client.send(pattern.at(sent, piece))?;
        sent += piece as u64;
    }
    let answer = client.head()?.context("no answer")?;
    let mut count = 0;
    let take = |bytes: &[u8]| {
        pattern.check(count, bytes)?;
        count += bytes.len() as u64;
        Ok(())
    };
    client.content(Content::of_answer(&answer, "PUT")?, take, &mut Vec::new())?;
    ensure!(count == length, "{count} of {length}");
    let grown = leak::memory(gateway.process())?.saturating_sub(before);
    ensure!(grown < 32 << 20, "{grown} bytes more");
    server.next()
}

fn an_answer_that_was_cut_short_has_no_farewell(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(80)?, |stream, _| {
        let mut wire = Wire::new(stream);
        let request = wire.head()?.context("no request")?;
        wire.send("HTTP/1.1 200 OK\r\n\r\npart")?;
        let (stream, _) = wire.into_parts();
        match request.target() {
            "/cut" => stream::reset(stream),
            _ => stream::half_close(&stream),
        }
    })?;
    start(
        lab,
        lab::https(json!({})),
        &tenant,
        &[NAME],
        json!([to(NAME, 80)]),
    )?;
    let config = lab.authority().client()?;
    let receive = |path: &str| {
        let mut client = dial(&config, NAME)?;
        client.send(http::request("GET", NAME, path, ""))?;
        let answer = client.head()?.context("no answer")?;
        let mut text = Vec::new();
        let take = |bytes: &[u8]| {
            text.extend_from_slice(bytes);
            Ok(())
        };
        let content = Content::of_answer(&answer, "GET")?;
        client.content(content, take, &mut Vec::new())?;
        anyhow::Ok(text)
    };
    // The end of the connection is the end of the content: TLS says whether it is whole (RFC 8446
    // section 6.1).
    ensure!(receive("/whole")? == b"part");
    ensure!(receive("/cut").is_err(), "a part looks whole");
    Ok(())
}

fn what_is_not_tls_ends_and_reaches_nobody(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let upstream = Upstream::start(tenant.listen(80)?, ok)?;
    start(
        lab,
        lab::https(json!({ "hello_timeout": "1s" })),
        &tenant,
        &[NAME],
        json!([to(NAME, 80)]),
    )?;
    let request = http::request("GET", NAME, "/", "");
    let mut random = Random::from_environment();
    let hello = tests::tls::hello(NAME)?;
    let mut broken = hello.clone();
    // A handshake that begins well and goes on with noise.
    broken.extend(random.bytes(500));
    for bytes in [request.into_bytes(), random.bytes(300), hello, broken] {
        let mut stream = stream::connect(GATEWAY)?;
        stream.write_all(&bytes)?;
        stream::read_to_any_end(&mut stream)?;
    }
    ensure!(upstream.asked().is_empty());
    Ok(())
}

fn a_new_certificate_is_taken_without_a_restart(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _upstream = Upstream::saying(tenant.listen(80)?, "ok")?;
    start(
        lab,
        lab::https(json!({})),
        &tenant,
        &[NAME],
        json!([to(NAME, 80)]),
    )?;
    // A resumed session would show the certificate that it began with.
    let mut config = ClientConfig::clone(&*lab.authority().client()?);
    config.resumption = Resumption::disabled();
    let config = Arc::new(config);
    let shown = || {
        let mut client = dial(&config, NAME)?;
        client
            .ask(http::request("GET", NAME, "/", ""))?
            .expect(200)?;
        let (stream, _) = client.into_parts();
        let chain = stream.conn.peer_certificates().context("no certificate")?;
        anyhow::Ok((chain[0].as_ref().to_vec(), stream))
    };
    let (first, old) = shown()?;
    let next = lab.authority().certify(&[NAME], "next")?;
    next.write(lab.directory(), NAME)?;
    let next = next.certificate.der().as_ref().to_vec();
    ensure!(first != next);
    eventually("the new certificate is shown", || {
        (shown().ok()?.0 == next).then_some(())
    })?;
    // Who came before goes on.
    let mut old = Wire::new(old);
    old.ask(http::request("GET", NAME, "/", ""))?.expect(200)?;
    Ok(())
}

fn clients_without_tls_are_sent_to_where_it_is(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _upstream = Upstream::saying(tenant.listen(80)?, "secured")?;
    let routes = json!([
        { "host": NAME, "redirect": { "to": "https", "port": 8444 } },
        { "host": NAME, "tls": "terminate", "to": ["10.0.0.2:80"] },
    ]);
    let mut boot = lab::http(json!({}));
    if let Some(listeners) = boot["listeners"].as_array_mut() {
        listeners.push(json!({ "name": "https", "bind": "127.0.0.1:8444", "protocol": "https" }));
    }
    start(lab, boot, &tenant, &[NAME], routes)?;
    let answer = http::get(NAME, "/a?b")?;
    answer.expect(308)?;
    ensure!(
        answer.field("location") == Some("https://blue.example:8444/a?b"),
        "{answer:?}"
    );
    let config = Arc::clone(&lab.authority().client()?);
    let stream = stream::connect("127.0.0.1:8444".parse()?)?;
    let mut client = Wire::new(tests::tls::client(&config, NAME, stream)?);
    ensure!(client.ask(http::request("GET", NAME, "/a?b", ""))?.text() == "secured");
    Ok(())
}
