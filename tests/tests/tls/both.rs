//! One port for names that pass through and names whose TLS ends here.

use std::{io::Write as _, net::TcpStream};

use anyhow::{Result, ensure};
use serde_json::json;
use tests::{
    http::{self, Upstream},
    lab::{self, GATEWAY, Lab},
    runner::Test,
    server::Server,
    stream, tests,
    tls::{self as client, UNRECOGNIZED_NAME},
};

use crate::{NAME, dial, start, to};

pub(crate) const TESTS: &[Test] = tests![
    names_on_one_port_go_each_its_way,
    a_proof_for_a_name_that_passes_through_is_its_owners_affair,
];

/// A name that the gateway has no certificate for.
const PASSED: &str = "passed.example";

fn names_on_one_port_go_each_its_way(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let ended = Upstream::saying(tenant.listen(80)?, "ended here")?;
    let site = client::site(lab.authority().server(PASSED)?, "passed through");
    let _site = Server::start(tenant.listen(443)?, site)?;
    let routes = json!([
        to(NAME, 80),
        { "host": PASSED, "tls": "passthrough", "to": ["10.0.0.2:443"] },
    ]);
    start(lab, lab::tls(json!({})), &tenant, &[NAME], routes)?;
    let config = lab.authority().client()?;
    for _ in 0..5 {
        let through = client::get(&config, PASSED, stream::connect(GATEWAY)?)?;
        ensure!(through == "passed through");
        let answer = dial(&config, NAME)?.ask(http::request("GET", NAME, "/", ""))?;
        ensure!(answer.text() == "ended here", "{answer:?}");
    }
    // Who came for the one name is not let to the other.
    let mut misled = dial(&config, NAME)?;
    misled
        .ask(http::request("GET", PASSED, "/", ""))?
        .expect(421)?;
    ensure!(ended.asked().len() == 5);
    let mut stream = stream::connect(GATEWAY)?;
    stream.write_all(&client::hello("nobody.example")?)?;
    stream::expect(&mut stream, &UNRECOGNIZED_NAME)?;
    stream::read_to_any_end(&mut stream)?;
    Ok(())
}

fn a_proof_for_a_name_that_passes_through_is_its_owners_affair(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let hello = client::hello_with(PASSED, vec![b"acme-tls/1".to_vec()])?;
    let expected = hello.clone();
    let server = Server::start(tenant.listen(443)?, move |mut stream: TcpStream, _| {
        stream::expect(&mut stream, &expected)
    })?;
    let routes = json!([
        to(NAME, 80),
        { "host": PASSED, "tls": "passthrough", "to": ["10.0.0.2:443"] },
    ]);
    start(lab, lab::tls(json!({})), &tenant, &[NAME], routes)?;
    let mut directory = stream::connect(GATEWAY)?;
    directory.write_all(&hello)?;
    server.next()?;
    stream::read_to_any_end(&mut directory)?;
    Ok(())
}
