//! What leaves towards an upstream means the same to everybody: each generated request goes to
//! parsers of other people, and to the strict one of the lab, over connections that are used again.

use std::{collections::BTreeMap, ffi::OsStr, fs, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tests::{
    http::{self, Message, Then, Upstream, reply},
    lab::{self, Lab, MACHINE, Tenant},
    program::{Program, fixture},
    random::Random,
    runner::Test,
    tests,
};

pub(crate) const TESTS: &[Test] = tests![what_leaves_means_the_same_to_all_parsers: 120];

/// Requests to each parser.
const COUNT: usize = 120;

/// Who reads what leaves, and the port where it does.
const PARSERS: [(&str, u16); 6] = [
    ("lab.example", 80),
    ("h11.example", 8005),
    ("stdlib.example", 8006),
    ("node.example", 8007),
    ("nginx.example", 8002),
    ("apache.example", 8004),
];

/// What somebody takes a request for.
#[derive(Debug, PartialEq, Eq)]
struct Meaning {
    method: String,
    target: String,
    /// Names in lower case; those of a field that comes twice in their order.
    fields: BTreeMap<String, Vec<String>>,
    body: Vec<u8>,
}

/// Fields that differ from one exchange to the next, or that an HTTP server between the gateway and
/// the lab writes in its own way. Framing is judged by what content was found.
const OWN: [&str; 6] = [
    "expect",
    "connection",
    "content-length",
    "transfer-encoding",
    "x-request-id",
    "te",
];

impl Meaning {
    fn new(
        method: &str,
        target: &str,
        fields: Vec<(String, String)>,
        body: Vec<u8>,
        host: &str,
    ) -> Self {
        let mut sorted: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (name, value) in fields {
            let name = name.to_ascii_lowercase();
            if !OWN.contains(&&*name) {
                // Each parser is asked by a name of its own.
                let value = value.replace(host, "HOST");
                sorted.entry(name).or_default().push(value);
            }
        }
        // A list may be written in one field or in several (RFC 9110 section 5.3).
        let joined = sorted
            .into_iter()
            .map(|(name, values)| (name, vec![values.join(", ")]));
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            fields: joined.collect(),
            body,
        }
    }

    fn of_message(request: &Message, host: &str) -> Self {
        let (method, target) = (request.method(), request.target());
        Self::new(
            method,
            target,
            request.fields.clone(),
            request.body.clone(),
            host,
        )
    }

    /// What an echoing server answered.
    fn told(answer: &Message, host: &str) -> Result<Self> {
        let told = answer.json()?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let fields = told["fields"].as_array().context("no fields")?;
        let fields = fields.iter().map(|pair| (text(&pair[0]), text(&pair[1])));
        let body = BASE64_STANDARD.decode(text(&told["body"]))?;
        let (method, target) = (text(&told["method"]), text(&told["target"]));
        Ok(Self::new(&method, &target, fields.collect(), body, host))
    }
}

/// Starts everybody in the tenant's machine.
fn start(lab: &Lab, tenant: &Tenant) -> Result<Vec<Program>> {
    let at = |port| SocketAddr::from((MACHINE, port));
    let python = |script: &str, port: u16| {
        let (script, number) = (fixture(script), port.to_string());
        let arguments = [script.as_os_str(), OsStr::new(&number)];
        Program::serving(
            &tenant.machine,
            lab.directory(),
            "/usr/bin/python3",
            &arguments,
            at(port),
        )
    };
    Ok(vec![
        python("echo_h11.py", 8005)?,
        python("echo_stdlib.py", 8006)?,
        crate::parts::node(lab, tenant, 8007)?,
        crate::parts::nginx(lab, tenant)?,
        crate::parts::apache(lab, tenant)?,
    ])
}

/// A request as a client might send it, harmless or not, for the host `HOST`.
fn generate(random: &mut Random) -> String {
    const LINES: &[&str] = &[
        "Cookie: a=1; b=\"2\"",
        "Accept: */*;q=0.5, text/html",
        "User-Agent: m (x; y) \"z\"",
        "X-Empty:",
        "X-Spaces:  \t a  b\t ",
        "X-Colon: a:b: c",
        "x-lower: 1",
        "X-Twice: 1\r\nX-Twice: 2",
        "Connection: close",
        "Connection: keep-alive, X-Hop\r\nX-Hop: 1",
        "Keep-Alive: timeout=5",
        "TE: trailers",
        "Upgrade: h2c\r\nConnection: Upgrade",
        "X-Forwarded-For: 198.51.100.7",
        "X_Forwarded_For: 198.51.100.7",
        "Forwarded: for=198.51.100.7",
        "Transfer_Encoding: chunked",
        "Content_Length: 3",
        "Content-Type: application/x-www-form-urlencoded",
        "Range: bytes=0-1",
        "If-None-Match: W/\"x\"",
        "Authorization: Basic eDp5",
        "Proxy-Authorization: Basic eDp5",
        "X-Symbols: !#$%&'*+-.^_`|~()<>@,;:\\\"/[]?={}",
        "Content-Encoding: gzip",
        "Pragma: no-cache",
        "Expect: 100-continue",
    ];
    const PATHS: &[&str] = &[
        "/",
        "/a",
        "/a/b/",
        "/a/../b",
        "/./a",
        "/a//b",
        "/%41%2f%7E",
        "/a%20b",
        "/a;b=c",
        "/a.b/c..d",
        "/~user",
        "/a?",
        "/a?b=c&d=%20",
        "/a?x=/../",
        "/a?b?c",
        "http://HOST/abs?x",
        "/%C3%A9",
        "/a+b,c:d@e",
        "/!$&'()*=",
        "/-._~",
    ];
    const CONTENT: &[&str] = &[
        "",
        "x",
        "GET / HTTP/1.1\r\nHost: evil\r\n\r\n",
        "0\r\n\r\n",
        "a=b&c=d",
    ];
    let mut lines = String::new();
    for _ in 0..random.index(7) {
        let line = LINES[random.index(LINES.len())];
        let name = line.split(':').next().unwrap_or_default();
        // Only once where several would be refused, or mean something to who passes them on.
        if !lines.contains(name) {
            lines += &format!("{line}\r\n");
        }
    }
    let path = PATHS[random.index(PATHS.len())];
    let content = CONTENT[random.index(CONTENT.len())];
    let (method, framing, content) = match random.below(4) {
        0 => (
            ["GET", "DELETE", "OPTIONS", "HEAD"][random.index(4)],
            String::new(),
            String::new(),
        ),
        1 | 2 => (
            ["POST", "PUT"][random.index(2)],
            format!("Content-Length: {}\r\n", content.len()),
            content.to_owned(),
        ),
        _ => {
            let chunk = match content.len() {
                0 => String::new(),
                length => format!("{length:X};ext=\"1\"\r\n{content}\r\n"),
            };
            let framing = "Transfer-Encoding: chunked\r\n".to_owned();
            (
                ["POST", "PATCH"][random.index(2)],
                framing,
                format!("{chunk}0\r\n\r\n"),
            )
        }
    };
    if framing.is_empty() {
        lines = lines.replace("Expect: 100-continue\r\n", "");
    }
    format!("{method} {path} HTTP/1.1\r\nHost: HOST\r\n{lines}{framing}\r\n{content}")
}

fn what_leaves_means_the_same_to_all_parsers(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    fs::create_dir(lab.directory().join("files"))?;
    let answer = |_: &Message, wire: &mut http::Wire| {
        wire.send(reply("200 OK", "", ""))?;
        Ok(Then::Next)
    };
    let direct = Upstream::start(tenant.listen(80)?, answer)?;
    let behind = Upstream::start(tenant.listen(81)?, answer)?;
    let _programs = start(lab, &tenant)?;
    let proxy = PARSERS.map(|(host, port)| {
        (
            format!("http://{host}"),
            json!([format!("10.0.0.2:{port}")]),
        )
    });
    lab.gateway(
        lab::http(json!({})),
        tenant.state(Value::Object(proxy.into_iter().collect())),
    )?;
    let mut random = Random::from_environment();
    for number in 0..COUNT {
        let request = generate(&mut random);
        let mut expected = None;
        for (host, _) in PARSERS {
            let echoes = !matches!(host, "lab.example" | "nginx.example" | "apache.example");
            let is_chunked = request.contains("\r\nTransfer-Encoding: chunked\r\n");
            let is_head = request.starts_with("HEAD ");
            // An echo needs content, and http.server leaves chunks to who uses it.
            if echoes && is_head || host == "stdlib.example" && is_chunked {
                continue;
            }
            let said =
                ask(host, &request).with_context(|| format!("{host} {number}: {request:?}"))?;
            let meaning = match host {
                "lab.example" => Meaning::of_message(&direct.last()?, host),
                "nginx.example" | "apache.example" => Meaning::of_message(&behind.last()?, host),
                _ => Meaning::told(&said, host)?,
            };
            match &expected {
                None => expected = Some(meaning),
                Some(expected) => ensure!(
                    *expected == meaning,
                    "{host} takes {request:?} for\n  {meaning:?}\nand not for\n  {expected:?}"
                ),
            }
        }
    }
    ensure!(
        direct.asked().len() == COUNT && behind.asked().len() == 2 * COUNT,
        "others came"
    );
    // One worker: had anybody seen another end of a request, the next one would have shown it.
    // What may not be repeated goes over new connections, and those for the others are kept.
    ensure!(
        direct.connections() < COUNT,
        "{} connections",
        direct.connections()
    );
    Ok(())
}

fn ask(host: &str, request: &str) -> Result<Message> {
    let request = request.replace("HOST", host);
    let mut client = http::dial()?;
    client.send(&request)?;
    let method = request.split(' ').next().unwrap_or_default();
    let answer = client.answer(method)?;
    answer.expect(200)?;
    Ok(answer)
}
