//! Real programs on both sides: nginx, Apache, Node and Python behind the gateway; curl and a browser
//! in front of it.

use std::{collections::BTreeSet, ffi::OsStr, fs, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use engine_sys::netns::Netns;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tests::{
    lab::{self, GATEWAY, Lab, MACHINE, Tenant},
    program::{Program, fixture},
    random::Random,
    runner::Test,
    tests,
    tool::Tool,
    wait::within,
};

pub(crate) const TESTS: &[Test] = tests![
    curl_has_files_of_nginx_and_apache_whole_and_in_ranges: 120,
    curl_uploads_to_node_with_and_without_a_length: 120,
    a_browser_loads_a_page_and_speaks_over_a_websocket: 120,
    python_speaks_over_a_websocket,
];

/// How long a browser may take: it starts slowly where cores are few.
const BROWSER: Duration = Duration::from_secs(50);

fn at(port: u16) -> SocketAddr {
    SocketAddr::from((MACHINE, port))
}

/// nginx on `fixtures/http/nginx.conf`.
pub(crate) fn nginx(lab: &Lab, tenant: &Tenant) -> Result<Program> {
    let (configuration, prefix) = (fixture("nginx.conf"), lab.directory());
    let arguments = [
        "-p".as_ref(),
        prefix.as_os_str(),
        "-c".as_ref(),
        configuration.as_os_str(),
    ];
    Program::serving(&tenant.machine, prefix, "nginx", &arguments, at(8002))
}

/// Apache on `fixtures/http/apache.conf`.
pub(crate) fn apache(lab: &Lab, tenant: &Tenant) -> Result<Program> {
    let (configuration, root) = (fixture("apache.conf"), lab.directory());
    let run = format!("Define RUN {}", root.display());
    let arguments = [
        "-DFOREGROUND".as_ref(),
        "-d".as_ref(),
        root.as_os_str(),
        "-C".as_ref(),
        OsStr::new(&run),
        "-f".as_ref(),
        configuration.as_os_str(),
    ];
    Program::serving(&tenant.machine, root, "apache2", &arguments, at(8004))
}

/// Node on `fixtures/http/node.mjs`.
pub(crate) fn node(lab: &Lab, tenant: &Tenant, port: u16) -> Result<Program> {
    let (script, number) = (fixture("node.mjs"), port.to_string());
    let result = lab.directory().join("result.json");
    let arguments = [script.as_os_str(), OsStr::new(&number), result.as_os_str()];
    Program::serving(
        &tenant.machine,
        lab.directory(),
        "node",
        &arguments,
        at(port),
    )
}

/// A request of curl's through the gateway.
fn curl(arguments: &str, host: &str, path: &str) -> Tool {
    let tool = Tool::new(
        "curl",
        "--silent --show-error --fail --max-time 60 --http1.1",
    );
    let tool = tool
        .argument("--resolve")
        .argument(format!("{host}:{}:127.0.0.1", GATEWAY.port()));
    let tool = arguments.split_whitespace().fold(tool, Tool::argument);
    tool.argument(format!("http://{host}:{}{path}", GATEWAY.port()))
}

fn digest(bytes: &[u8]) -> String {
    let sum = Sha256::digest(bytes);
    sum.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn state(tenant: &Tenant, hosts: &[(&str, u16)]) -> Value {
    let proxy = hosts.iter();
    let proxy = proxy.map(|(host, port)| {
        (
            format!("http://{host}"),
            json!([format!("10.0.0.2:{port}")]),
        )
    });
    tenant.state(Value::Object(proxy.collect()))
}

fn curl_has_files_of_nginx_and_apache_whole_and_in_ranges(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let files = lab.directory().join("files");
    fs::create_dir(&files)?;
    let bytes = Random::seeded(21).bytes(20 << 20);
    fs::write(files.join("big"), &bytes)?;
    let _programs = [nginx(lab, &tenant)?, apache(lab, &tenant)?];
    let hosts = [("nginx.example", 8001), ("apache.example", 8003)];
    lab.gateway(lab::http(json!({})), state(&tenant, &hosts))?;
    let got = lab.directory().join("got");
    for (host, _) in hosts {
        let into = format!("--output {}", got.display());
        curl(&into, host, "/big").run()?;
        ensure!(
            digest(&fs::read(&got)?) == digest(&bytes),
            "{host}: other bytes"
        );
        for (range, expected) in [("0-0", 0..1), ("1000000-9999999", 1_000_000..10_000_000)] {
            curl(&format!("{into} --range {range}"), host, "/big").run()?;
            ensure!(fs::read(&got)? == bytes[expected], "{host}: {range}");
        }
        let half = bytes.len() / 2;
        fs::write(&got, &bytes[..half])?;
        curl(&format!("{into} --continue-at -"), host, "/big").run()?;
        ensure!(fs::read(&got)? == bytes, "{host}: a download that went on");
        let head = curl("--head", host, "/big").run()?;
        ensure!(
            head.contains(&format!("Content-Length: {}", bytes.len())),
            "{head}"
        );
        let again = "--write-out %{http_code} --output /dev/null";
        let tag = head
            .lines()
            .find_map(|line| line.strip_prefix("ETag: "))
            .context("no ETag")?;
        let condition = curl(again, host, "/big")
            .argument("--header")
            .argument(format!("If-None-Match: {}", tag.trim()));
        ensure!(condition.run()? == "304", "{host}");
        // Many at once, over few connections.
        let urls = (0..60).map(|number| format!("http://{host}:{}/big?{number}", GATEWAY.port()));
        let many = urls.fold(
            curl(
                "--parallel --parallel-max 12 --range 0-99999 --output /dev/null",
                host,
                "/big",
            ),
            |tool, url| {
                tool.argument("--output")
                    .argument("/dev/null")
                    .argument(url)
            },
        );
        many.argument("--no-progress-meter").run()?;
    }
    Ok(())
}

fn curl_uploads_to_node_with_and_without_a_length(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let _node = node(lab, &tenant, 8007)?;
    lab.gateway(
        lab::http(json!({})),
        state(&tenant, &[("node.example", 8007)]),
    )?;
    let bytes = Random::seeded(22).bytes(12 << 20);
    let file = lab.directory().join("upload");
    fs::write(&file, &bytes)?;
    let data = format!("--data-binary @{}", file.display());
    for framing in [
        "",
        "--header Transfer-Encoding:chunked",
        "--header Expect:",
        "--header Expect:100-continue",
    ] {
        let said = curl(&format!("{data} {framing}"), "node.example", "/upload").run()?;
        ensure!(said == digest(&bytes), "{framing}: {said}");
    }
    Ok(())
}

fn a_browser_loads_a_page_and_speaks_over_a_websocket(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let (script, port) = (fixture("echo_websocket.py"), "8008");
    let arguments = [script.as_os_str(), "serve".as_ref(), port.as_ref()];
    let (python, machine) = ("/usr/bin/python3", &tenant.machine);
    let _programs = [
        node(lab, &tenant, 8007)?,
        Program::serving(machine, lab.directory(), python, &arguments, at(8008))?,
    ];
    let hosts = [("page.example", 8007), ("ws.example", 8008)];
    let gateway = lab.gateway(lab::http(json!({})), state(&tenant, &hosts))?;
    let profile = format!(
        "--user-data-dir={}",
        lab.directory().join("profile").display()
    );
    let page = format!("http://page.example:{}/page", GATEWAY.port());
    let arguments = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--host-resolver-rules=MAP * 127.0.0.1",
        &profile,
        &page,
    ];
    let arguments = arguments.map(OsStr::new);
    let browser = Program::start(&Netns::current()?, lab.directory(), "chromium", &arguments)?;
    let result = lab.directory().join("result.json");
    let result: Value = within(BROWSER, "the page tells its result", || {
        serde_json::from_slice(&fs::read(&result).ok()?).ok()
    })
    .with_context(|| {
        fs::read_to_string(lab.directory().join("chromium.log")).unwrap_or_default()
    })?;
    drop(browser);
    let sent: Vec<u8> = (0..3_000_000_u32)
        .map(|at| u8::try_from(at % 251).unwrap_or(0))
        .collect();
    let expected = json!({
        "protocol": "http/1.1",
        "loaded": true,
        "upload": { "status": 200, "digest": digest(&sent) },
        "socket": { "wasClean": true, "code": 1000 },
    });
    ensure!(result == expected, "{result}");
    let names: BTreeSet<String> = gateway
        .records()?
        .iter()
        .filter_map(|record| record["outcome"].as_str().map(str::to_owned))
        .collect();
    ensure!(
        names
            .iter()
            .all(|outcome| ["done", "client_reset", "hello_eof"].contains(&&**outcome)),
        "{names:?}"
    );
    Ok(())
}

fn python_speaks_over_a_websocket(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let script = fixture("echo_websocket.py");
    let arguments = [script.as_os_str(), "serve".as_ref(), "8008".as_ref()];
    let python = "/usr/bin/python3";
    let _server = Program::serving(
        &tenant.machine,
        lab.directory(),
        python,
        &arguments,
        at(8008),
    )?;
    lab.gateway(
        lab::http(json!({})),
        state(&tenant, &[("ws.example", 8008)]),
    )?;
    let uri = format!("ws://ws.example:{}/chat", GATEWAY.port());
    let client = Tool::new(python, "")
        .argument(&script)
        .argument("ask")
        .argument(uri);
    let said = client
        .argument("127.0.0.1")
        .argument(GATEWAY.port().to_string())
        .run()?;
    ensure!(said.trim() == "fine", "{said}");
    Ok(())
}
