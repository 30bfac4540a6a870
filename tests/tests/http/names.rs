//! Targets that are names: a tenant's own name server, bind9's named, behind the tenant's link.

use std::{
    ffi::OsStr,
    fs,
    io::Read as _,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use serde_json::{Value, json};
use tests::{
    gateway::Gateway,
    http::{self, Upstream},
    lab::{self, GATEWAY, Lab, MACHINE, Tenant},
    links,
    program::Program,
    runner::Test,
    tests,
    wait::{eventually, within},
};

use crate::NAME;

pub(crate) const TESTS: &[Test] = tests![
    a_name_is_followed_and_its_last_address_outlives_its_server,
    a_name_that_is_unknown_or_forbidden_is_503_and_in_the_status,
    a_listener_of_the_boot_file_leads_to_a_name,
    a_name_does_not_lead_to_the_api,
];

/// The zone's file, and what is in front of its records.
const ZONE: &str = "$TTL 1\n@ IN SOA ns.tenant.test. who.tenant.test. 1 60 60 60 1\n\
    @ IN NS ns\nns IN A 10.0.0.2\n";

/// The name server of a tenant's machine.
struct NameServer {
    directory: PathBuf,
    tenant: Tenant,
    running: Option<Program>,
}

impl NameServer {
    fn start(lab: &Lab, tenant: &Tenant, records: &str) -> Result<Self> {
        let directory = lab.directory().join("named");
        fs::create_dir(&directory)?;
        let conf = format!(
            "options {{ directory \"{0}\"; pid-file none; session-keyfile \"{0}/key\"; \
             listen-on {{ {MACHINE}; }}; listen-on-v6 {{ none; }}; recursion no; }};\n\
             controls {{ }};\n\
             zone \"tenant.test\" {{ type primary; file \"{0}/zone\"; }};\n",
            directory.display()
        );
        fs::write(directory.join("named.conf"), conf)?;
        let mut server = Self {
            directory,
            tenant: tenant.clone(),
            running: None,
        };
        server.says(records)?;
        Ok(server)
    }

    /// Has it say these records from now on.
    fn says(&mut self, records: &str) -> Result<()> {
        self.dies();
        fs::write(self.directory.join("zone"), format!("{ZONE}{records}"))?;
        let conf = self.directory.join("named.conf");
        let arguments = ["-f".as_ref(), "-c".as_ref(), conf.as_os_str()];
        let arguments: &[&OsStr] = &arguments;
        let address = (MACHINE, 53).into();
        let running = Program::serving(
            &self.tenant.machine,
            &self.directory,
            "named",
            arguments,
            address,
        );
        self.running = Some(running?);
        Ok(())
    }

    fn dies(&mut self) {
        drop(self.running.take());
    }
}

/// A server at one address of the tenant's machine.
fn at(tenant: &Tenant, address: &str) -> Result<Upstream> {
    let listener = tenant
        .machine
        .enter(|| Ok(TcpListener::bind((address, 80))?.into()));
    let listener = listener.with_context(|| format!("listening at {address}"))?;
    Upstream::saying(listener.into(), address)
}

fn state(tenant: &Tenant, target: &str) -> Value {
    let mut network = tenant.network(json!({ format!("http://{NAME}"): [target] }));
    network["dns"] = json!([MACHINE.to_string()]);
    json!({ tenant.port.to_string(): network })
}

fn answer() -> Result<String> {
    let answer = http::get(NAME, "/")?;
    Ok(match answer.status()? {
        200 => answer.text(),
        status => status.to_string(),
    })
}

/// Waits until the gateway answers so.
fn answers(what: &str, expected: &str) -> Result<()> {
    eventually(what, || (answer().ok()? == expected).then_some(()))
}

fn a_name_is_followed_and_its_last_address_outlives_its_server(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    links::within(&tenant.machine, async |links| {
        let second: IpNet = IpNet::new_assert([10, 0, 0, 3].into(), 24);
        links.add_address("uplink", second).await
    })?;
    let _upstreams = [at(&tenant, "10.0.0.2")?, at(&tenant, "10.0.0.3")?];
    let mut server = NameServer::start(lab, &tenant, "web IN A 10.0.0.2\n")?;
    let document = state(&tenant, "web.tenant.test:80");
    let gateway = lab.gateway(lab::http(json!({})), document)?;
    ensure!(answer()? == "10.0.0.2", "{}", answer()?);
    // Its time is a second.
    server.says("web IN A 10.0.0.3\n")?;
    answers("the new address is used", "10.0.0.3")?;
    server.dies();
    let until = std::time::Instant::now() + Duration::from_secs(4);
    while std::time::Instant::now() < until {
        ensure!(answer()? == "10.0.0.3", "{}", answer()?);
        std::thread::sleep(Duration::from_millis(100));
    }
    within(Duration::from_secs(20), "failures are counted", || {
        let is_served = answer().ok()? == "10.0.0.3";
        (is_served && lookups(&gateway, "failed").ok()? > 0).then_some(())
    })?;
    server.says("web IN A 10.0.0.2\n")?;
    within(Duration::from_secs(40), "the server is asked again", || {
        (answer().ok()? == "10.0.0.2").then_some(())
    })?;
    // An alias is followed, and so are several addresses.
    server.says("web IN CNAME all\nall IN A 10.0.0.2\nall IN A 10.0.0.3\n")?;
    let mut met = Vec::new();
    eventually("both addresses have their share", || {
        met.push(answer().ok()?);
        ["10.0.0.2", "10.0.0.3"]
            .iter()
            .all(|it| met.iter().any(|met| met == it))
            .then_some(())
    })
}

/// What the metrics say of lookups.
fn lookups(gateway: &Gateway, result: &str) -> Result<u64> {
    let metrics = gateway.api().ask("GET", "/metrics", None)?.body;
    let head = format!("ringway_name_lookups_total{{result=\"{result}\"}} ");
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix(&head));
    Ok(value.context("no such metric")?.parse()?)
}

fn a_name_that_is_unknown_or_forbidden_is_503_and_in_the_status(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _upstream = at(&tenant, "10.0.0.2")?;
    let records = "web IN A 10.0.0.2\nloop IN A 127.0.0.1\nlink IN A 169.254.169.254\n";
    let _server = NameServer::start(lab, &tenant, records)?;
    let gateway = lab.gateway(lab::http(json!({})), state(&tenant, "none.tenant.test:80"))?;
    let degraded = || {
        let status = gateway.api().get("/api/v1/status").ok()?;
        let mut list = status["degraded"].as_array()?.clone().into_iter();
        Some(list.find(|it| it["reason"] == "targets_down"))
    };
    let why = |word: &str| {
        eventually("the status says why", || {
            let found = degraded()??;
            found["why"].as_str()?.contains(word).then_some(())
        })
    };
    // Nobody has asked for it yet.
    why("none.tenant.test:80 (name_unknown)")?;
    for (name, word) in [
        ("none", "name_unknown"),
        ("loop", "name_forbidden"),
        ("link", "name_forbidden"),
    ] {
        let target = format!("{name}.tenant.test:80");
        gateway.api().apply(&state(&tenant, &target))?;
        ensure!(answer()? == "503", "{name}: {}", answer()?);
        why(&format!("{target} ({word})"))?;
    }
    ensure!(lookups(&gateway, "negative")? > 0, "nothing was negative");
    gateway.api().apply(&state(&tenant, "web.tenant.test:80"))?;
    answers("a good name is served", "10.0.0.2")?;
    eventually("nothing is degraded", || {
        degraded()?.is_none().then_some(())
    })
}

fn a_listener_of_the_boot_file_leads_to_a_name(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _upstream = at(&tenant, "10.0.0.2")?;
    let _server = NameServer::start(lab, &tenant, "web IN A 10.0.0.2\n")?;
    let mut network = tenant.network(json!({}));
    network["dns"] = json!([MACHINE.to_string()]);
    let state = json!({ tenant.port.to_string(): network });
    let to = |name: &str| format!("network-{}/{name}.tenant.test:80", tenant.port);
    let boot = lab::http(json!({ "default": to("web") }));
    let gateway = lab.gateway(boot, state)?;
    ensure!(answer()? == "10.0.0.2", "{}", answer()?);
    let text = fs::read_to_string(gateway.directory().join("ringway.yaml"))?;
    let mut boot: Value = serde_json::from_str(&text)?;
    boot["listeners"][0]["default"] = json!(to("none"));
    gateway.reload(&boot)?;
    answers("a name that is none is no target", "503")?;
    eventually("the status says why", || {
        let status = gateway.api().get("/api/v1/status").ok()?;
        let mut degraded = status["degraded"].as_array()?.iter();
        let found = degraded.find(|it| it["reason"] == "targets_down")?;
        let why = found["why"].as_str()?;
        why.contains("none.tenant.test:80 (name_unknown)")
            .then_some(())
    })
}

fn a_name_does_not_lead_to_the_api(lab: &mut Lab) -> Result<()> {
    let mut boot = lab::tcp("host/localhost:8080", json!({}));
    boot["api"] = json!({ "listen": "127.0.0.1:8080" });
    let gateway = lab.gateway(boot, json!({}))?;
    let mut client = TcpStream::connect(GATEWAY)?;
    let mut got = Vec::new();
    client.read_to_end(&mut got)?;
    ensure!(got.is_empty(), "{got:?}");
    let record = gateway.wait_for_records(1)?.remove(0);
    // What is left of the name is [::1], where nobody listens.
    ensure!(record["outcome"] == "refused", "{record}");
    ensure!(record["target"].is_null(), "{record}");
    ensure!(record["network"] == "host", "{record}");
    Ok(())
}
