//! Namespaces that lose their names or their contents: a tenant's misfortune is its own.

use std::{fs, io::Write as _, net::TcpStream, path::Path, process::ExitCode};

use anyhow::{Context as _, Result, ensure};
use control_kernel::links::{self, State};
use engine_sys::netns::Netns;
use nix::mount::{MntFlags, umount2};
use serde_json::json;
use tests::{
    lab::{GATEWAY, Lab, Tenant, tls},
    server::{self, Server},
    stream, tests, tls as client,
    wait::eventually,
};

fn main() -> ExitCode {
    tests::runner::main(tests![
        a_deleted_name_ends_nothing_and_is_made_again,
        a_name_given_to_another_namespace_is_left_alone,
        a_tenant_without_its_link_fails_alone,
        a_missing_namespace_is_made_with_its_loopback,
        a_named_namespace_is_taken_up_when_it_appears,
    ])
}

fn live(name: &str) -> Result<TcpStream> {
    let mut stream = stream::connect(GATEWAY)?;
    let hello = client::hello(name)?;
    stream.write_all(&hello)?;
    stream::expect(&mut stream, &hello)?;
    Ok(stream)
}

fn still_lives(stream: &mut TcpStream) -> Result<()> {
    stream.write_all(b"still there?")?;
    stream::expect(stream, b"still there?")
}

/// As `ip netns delete` does it.
fn delete(name: &Path) -> Result<()> {
    umount2(name, MntFlags::MNT_DETACH)?;
    Ok(fs::remove_file(name)?)
}

fn path(tenant: &Tenant) -> std::path::PathBuf {
    Path::new("/run/netns").join(&tenant.name)
}

fn a_deleted_name_ends_nothing_and_is_made_again(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(443)?, server::echo)?;
    let state = tenant.state(json!({ "blue.example": ["10.0.0.2:443"] }));
    let gateway = lab.gateway(tls(json!({})), state)?;
    let mut before = live("blue.example")?;
    let mut count = 1;
    for _ in 0..3 {
        delete(&path(&tenant))?;
        still_lives(&mut before)?;
        // New connections all the while, until the name is back.
        eventually("the name leads to the same namespace again", || {
            let connected = live("blue.example").and_then(|mut stream| still_lives(&mut stream));
            count += 1;
            if let Err(error) = connected {
                return Some(Err(error));
            }
            let found = Netns::open(&path(&tenant)).ok()?;
            (found.identity() == tenant.netns.identity()).then_some(Ok(()))
        })??;
    }
    still_lives(&mut before)?;
    drop(before);
    let records = gateway.wait_for_records(count)?;
    ensure!(
        records.iter().all(|record| record["outcome"] == "done"),
        "{records:?}"
    );
    Ok(())
}

fn a_name_given_to_another_namespace_is_left_alone(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(443)?, server::echo)?;
    let state = tenant.state(json!({ "blue.example": ["10.0.0.2:443"] }));
    let gateway = lab.gateway(tls(json!({})), state)?;
    let mut stream = live("blue.example")?;
    delete(&path(&tenant))?;
    let mut others = control_kernel::namespaces::Namespaces::default();
    let other = others.ensure(&tenant.name)?;
    gateway.wait_for_log("the name leads to something else now")?;
    still_lives(&mut stream)?;
    live("blue.example").context("it dials from the namespace that it holds")?;
    ensure!(Netns::open(&path(&tenant))?.identity() == other.identity());
    others.remove(&tenant.name)?;
    eventually("the name is free and made again", || {
        let found = Netns::open(&path(&tenant)).ok()?;
        (found.identity() == tenant.netns.identity()).then_some(())
    })
}

fn a_tenant_without_its_link_fails_alone(lab: &mut Lab) -> Result<()> {
    let (blue, green) = (lab.tenant(51_820)?, lab.tenant(51_821)?);
    let _servers = [
        Server::start(blue.listen(443)?, server::echo)?,
        Server::start(green.listen(443)?, server::echo)?,
    ];
    let state = json!({
        "51820": blue.network(json!({ "blue.example": ["10.0.0.2:443"] })),
        "51821": green.network(json!({ "green.example": ["10.0.0.2:443"] })),
    });
    let gateway = lab.gateway(tls(json!({ "connect_timeout": "500ms" })), state)?;
    let mut of_green = live("green.example")?;
    drop(live("blue.example")?);
    links::within(&blue.netns, async |links| links.remove("lan").await)?;
    for _ in 0..10 {
        let mut stream = stream::connect(GATEWAY)?;
        stream.write_all(&client::hello("blue.example")?)?;
        stream::read_to_any_end(&mut stream)?;
        still_lives(&mut of_green)?;
        drop(live("green.example")?);
    }
    drop(of_green);
    let records = gateway.wait_for_records(22)?;
    let of = |name: &str, outcome: &str| {
        records
            .iter()
            .filter(|r| r["name"] == name && r["outcome"] == outcome)
            .count()
    };
    ensure!(of("green.example", "done") == 11, "{records:?}");
    ensure!(of("blue.example", "unreachable") == 10, "{records:?}");
    // A link that comes back is enough.
    links::within(&blue.netns, async |links| {
        links.veth("lan", "uplink", &blue.machine).await?;
        links
            .add_address(
                "lan",
                ipnet::IpNet::new_assert(tests::lab::TENANT.into(), 24),
            )
            .await?;
        links.set("lan", State::Up).await
    })?;
    links::within(&blue.machine, async |links| {
        let machine = ipnet::IpNet::new_assert(tests::lab::MACHINE.into(), 24);
        links.add_address("uplink", machine).await?;
        links.set("uplink", State::Up).await
    })?;
    drop(live("blue.example").context("after the link came back")?);
    Ok(())
}

fn a_missing_namespace_is_made_with_its_loopback(lab: &mut Lab) -> Result<()> {
    // Only the state document names it. Its machine is the namespace itself.
    let state = json!({ "51899": {
        "private_key": "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
        "address": ["10.0.0.1/24"],
        "peers": {},
        "proxy": { "blue.example": ["127.0.0.1:443"] },
    } });
    lab.gateway(tls(json!({})), state)?;
    let name = Path::new("/run/netns/network-51899");
    let netns = Netns::open(name).context("the namespace was made")?;
    let bind = || Ok(std::net::TcpListener::bind("127.0.0.1:443")?.into());
    let _server = Server::start(netns.enter(bind)?.into(), server::echo)?;
    drop(live("blue.example")?);
    // It is the gateway's to keep; the lab removes it here, so that nothing is left.
    lab.remove_later(name);
    Ok(())
}

fn a_named_namespace_is_taken_up_when_it_appears(lab: &mut Lab) -> Result<()> {
    let state = json!({ "51820": {
        "netns": "network-51820",
        "proxy": { "blue.example": ["10.0.0.2:443"] },
    } });
    let gateway = lab.gateway(tls(json!({})), state)?;
    gateway.expect_error("the networks of this namespace cannot be reached");
    let mut stream = stream::connect(GATEWAY)?;
    stream.write_all(&client::hello("blue.example")?)?;
    stream::read_to_any_end(&mut stream)?;
    let record = &gateway.wait_for_records(1)?[0];
    ensure!(record["outcome"] == "unreachable", "{record}");
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(443)?, server::echo)?;
    let stream = eventually("the namespace is taken up", || live("blue.example").ok())?;
    drop(stream);
    Ok(())
}
