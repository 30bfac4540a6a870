//! Namespaces that lose their names or their contents: a tenant's misfortune is its own. What
//! becomes of namespaces that are Ringway's own is in the suite of networks.

use std::{
    fs,
    io::Write as _,
    net::{TcpListener, TcpStream},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use engine_sys::netns::Netns;
use ipnet::IpNet;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::json;
use tests::{
    lab::{GATEWAY, Lab, MACHINE, Tenant, tls},
    links::{self, State},
    namespaces::Namespaces,
    server::{self, Server},
    stream, tests, tls as client,
    wait::{eventually, within},
};

fn main() -> ExitCode {
    tests::runner::main(tests![
        a_deleted_name_ends_nothing_and_stays_its_owners,
        a_name_that_leads_elsewhere_takes_new_connections_along,
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

fn a_deleted_name_ends_nothing_and_stays_its_owners(lab: &mut Lab) -> Result<()> {
    let (tenant, other) = (lab.tenant(51_820)?, lab.tenant(51_821)?);
    let _server = Server::start(tenant.listen(443)?, server::echo)?;
    let state = tenant.state(json!({ "blue.example": ["10.0.0.2:443"] }));
    let gateway = lab.gateway(tls(json!({})), state)?;
    let mut before = live("blue.example")?;
    delete(&path(&tenant))?;
    still_lives(&mut before)?;
    drop(live("blue.example").context("it dials from the namespace that it holds")?);
    // A change of something else has the gateway look at everything; the name is not its to make.
    let both = json!({
        "51820": tenant.network(json!({ "blue.example": ["10.0.0.2:443"] })),
        "51821": other.network(json!({ "green.example": ["10.0.0.2:443"] })),
    });
    gateway.api().apply(&both)?;
    still_lives(&mut before)?;
    drop(live("blue.example").context("after the change")?);
    ensure!(
        !path(&tenant).exists(),
        "a name that is not its own was made"
    );
    drop(before);
    let records = gateway.wait_for_records(3)?;
    ensure!(
        records.iter().all(|record| record["outcome"] == "done"),
        "{records:?}"
    );
    // Lets go of the second namespace, too, which it did not hold when it began.
    gateway.api().apply(&json!({}))?;
    give_back(&tenant)
}

/// Makes the tenant's name again, as its owner would.
fn give_back(tenant: &Tenant) -> Result<()> {
    let name = path(tenant);
    fs::File::create(&name)?;
    let bind = || {
        // The thread's own namespace is the tenant's here.
        let own = Path::new("/proc/thread-self/ns/net");
        let none = None::<&str>;
        mount(Some(own), &name, none, MsFlags::MS_BIND, none).map_err(std::io::Error::from)
    };
    tenant.netns.run(bind).context("naming the namespace again")
}

fn a_name_that_leads_elsewhere_takes_new_connections_along(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _server = Server::start(tenant.listen(443)?, server::echo)?;
    let state = tenant.state(json!({ "blue.example": ["10.0.0.2:443"] }));
    let gateway = lab.gateway(tls(json!({})), state)?;
    let mut stream = live("blue.example")?;
    delete(&path(&tenant))?;
    let mut others = Namespaces::default();
    let other = others.ensure(&tenant.name)?;
    // Its machine is the namespace itself.
    links::within(&other, async |links| {
        let machine = IpNet::new_assert(MACHINE.into(), 32);
        links.add_address("lo", machine).await?;
        links.set("lo", State::Up).await
    })?;
    let bind = || Ok(TcpListener::bind((MACHINE, 443))?.into());
    let _other = Server::start(other.enter(bind)?.into(), server::greet("elsewhere"))?;
    let hello = client::hello("blue.example")?;
    within(
        Duration::from_secs(2),
        "new connections go elsewhere",
        || {
            let mut stream = stream::connect(GATEWAY).ok()?;
            stream.write_all(&hello).ok()?;
            stream::expect(&mut stream, b"elsewhere").ok()
        },
    )?;
    // What was dialed in the namespace before is no longer the network's: with the same addresses it may
    // be another tenant's.
    ensure!(
        still_lives(&mut stream).is_err(),
        "it stays in a namespace that the network left"
    );
    let ended = gateway.wait_for_record("its end", |it| it["outcome"] == "network_changed")?;
    ensure!(ended["fault"] == "gateway", "{ended}");
    ensure!(Netns::open(&path(&tenant))?.identity() == other.identity());
    others.remove(&tenant.name)?;
    give_back(&tenant)
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
    // Without the link its end would not get through either.
    gateway.wait_for_records(1)?;
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
            .add_address("lan", IpNet::new_assert(tests::lab::TENANT.into(), 24))
            .await?;
        links.set("lan", State::Up).await
    })?;
    links::within(&blue.machine, async |links| {
        let machine = IpNet::new_assert(MACHINE.into(), 24);
        links.add_address("uplink", machine).await?;
        links.set("uplink", State::Up).await
    })?;
    // The kernel raises the carrier some time after the call (net/core/link_watch.c): until then it
    // drops what is sent.
    let stream = eventually("the link is enough", || live("blue.example").ok())?;
    drop(stream);
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
    let bind = || Ok(TcpListener::bind("127.0.0.1:443")?.into());
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
    // Lets go of it: it was not held when the gateway began.
    gateway.api().apply(&json!({}))?;
    Ok(())
}
