//! Content of any length: every byte arrives, and none of it is kept.

use std::{
    io::Write as _,
    net::TcpStream,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc,
    },
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde_json::json;
use tests::{
    gateway::Gateway,
    http::{self, Content, Message, Wire},
    lab::{self, Lab},
    leak,
    random::Random,
    runner::Test,
    server::Server,
    stream::Pattern,
    tests,
    wait::eventually,
};

use crate::NAME;

pub(crate) const TESTS: &[Test] = tests![
    uploads_arrive_whole_and_in_bounded_memory: 120,
    downloads_arrive_whole_and_in_bounded_memory: 120,
    a_stalled_upstream_stops_the_client_and_not_the_memory,
    a_stalled_client_stops_the_upstream_and_not_the_memory,
    content_that_is_cut_short_is_seen_to_be,
];

/// Both framings, and how much of each is sent.
const FRAMINGS: [(Framing, u64); 2] = [(Framing::Length, 384 << 20), (Framing::Chunked, 96 << 20)];

/// Memory that the first connection may take: the allocator fills each kind of page that is used for
/// the first time in huge pages of 2 MiB.
const SLACK: u64 = 32 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length,
    Chunked,
}

impl Framing {
    fn field(self, length: u64) -> String {
        match self {
            Self::Length => format!("Content-Length: {length}\r\n"),
            Self::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
        }
    }

    /// Sends the first bytes of a pattern, in pieces of changing lengths.
    fn send(self, pattern: &Pattern, to: &mut TcpStream, length: u64) -> Result<()> {
        if self == Self::Length {
            return Ok(pattern.send(to, length, 256 << 10)?);
        }
        let mut random = Random::seeded(3);
        let mut framed = Vec::new();
        let mut position = 0;
        while position < length {
            let limit = if random.one_in(3) { 300 } else { 200_000 };
            let piece = 1 + random.index(limit);
            let piece = pattern.at(position, piece.min(usize::try_from(length - position)?));
            framed.clear();
            write!(framed, "{:X}\r\n", piece.len())?;
            framed.extend_from_slice(piece);
            framed.extend_from_slice(b"\r\n");
            to.write_all(&framed)?;
            position += piece.len() as u64;
        }
        Ok(to.write_all(b"0\r\n\r\n")?)
    }
}

/// Reads content and compares it with the pattern; answers how much came.
fn receive(wire: &mut Wire, content: Content, pattern: &Pattern) -> Result<u64> {
    let mut position = 0;
    let take = |bytes: &[u8]| {
        pattern.check(position, bytes)?;
        position += bytes.len() as u64;
        Ok(())
    };
    wire.content(content, take, &mut Vec::new())?;
    Ok(position)
}

fn gateway(lab: &mut Lab, tenant: &lab::Tenant) -> Result<Arc<Gateway>> {
    let state = tenant.state(json!({ format!("http://{NAME}"): ["10.0.0.2:80"] }));
    lab.gateway(lab::http(json!({})), state)
}

/// Watches the gateway's memory while something happens; answers how much it grew at most.
fn growth_during(gateway: &Arc<Gateway>, happens: impl FnOnce() -> Result<()>) -> Result<u64> {
    let before = leak::memory(gateway.process())?;
    let done = Arc::new(AtomicBool::new(false));
    let watcher = thread::spawn({
        let (gateway, done) = (Arc::clone(gateway), Arc::clone(&done));
        move || {
            let mut most = 0;
            while !done.load(Relaxed) {
                most = most.max(leak::memory(gateway.process()).unwrap_or(0));
                thread::sleep(Duration::from_millis(20));
            }
            most
        }
    });
    let happened = happens();
    done.store(true, Relaxed);
    let most = watcher
        .join()
        .map_err(|_| anyhow!("the watcher panicked"))?;
    happened?;
    Ok(most.saturating_sub(before))
}

fn uploads_arrive_whole_and_in_bounded_memory(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let pattern = Pattern::new(&mut Random::seeded(11));
    let server = Server::start(tenant.listen(80)?, {
        let pattern = pattern.clone();
        move |stream, _| {
            let mut wire = Wire::new(stream);
            let request = wire.head()?.context("no request")?;
            let content = Content::of_request(&request)?;
            let count = receive(&mut wire, content, &pattern)?;
            wire.send(http::reply(
                "200 OK",
                "Connection: close\r\n",
                count.to_string(),
            ))?;
            wire.expect_end()?;
            Ok(content)
        }
    })?;
    let gateway = gateway(lab, &tenant)?;
    for (framing, length) in FRAMINGS {
        let upload = || {
            let mut client = http::dial()?;
            client.send(http::request("PUT", NAME, "/big", &framing.field(length)))?;
            framing.send(&pattern, &mut client.socket().try_clone()?, length)?;
            let answer = client.answer("PUT")?;
            ensure!(answer.text() == length.to_string(), "{answer:?}");
            Ok(())
        };
        let grown = growth_during(&gateway, upload).with_context(|| format!("{framing:?}"))?;
        ensure!(grown < SLACK, "{framing:?}: {grown} bytes more");
        ensure!((server.next()? == Content::Chunked) == (framing == Framing::Chunked));
    }
    Ok(())
}

fn downloads_arrive_whole_and_in_bounded_memory(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let pattern = Pattern::new(&mut Random::seeded(12));
    let server = Server::start(tenant.listen(80)?, {
        let pattern = pattern.clone();
        move |stream, _| {
            let mut wire = Wire::new(stream);
            let request = wire.head()?.context("no request")?;
            let which = usize::from(request.target() == "/chunked");
            let (framing, length) = FRAMINGS[which];
            let fields = framing.field(length);
            wire.send(format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\n{fields}\r\n"
            ))?;
            framing.send(&pattern, &mut wire.socket().try_clone()?, length)?;
            wire.expect_end()
        }
    })?;
    let gateway = gateway(lab, &tenant)?;
    for ((framing, length), path) in FRAMINGS.into_iter().zip(["/length", "/chunked"]) {
        let download = || {
            let mut client = http::dial()?;
            client.send(http::request("GET", NAME, path, ""))?;
            let answer = client.head()?.context("no answer")?;
            let content = Content::of_answer(&answer, "GET")?;
            ensure!((content == Content::Chunked) == (framing == Framing::Chunked));
            let count = receive(&mut client, content, &pattern)?;
            ensure!(count == length, "{count} of {length}");
            Ok(())
        };
        let grown = growth_during(&gateway, download).with_context(|| format!("{framing:?}"))?;
        ensure!(grown < SLACK, "{framing:?}: {grown} bytes more");
        server.next()?;
    }
    Ok(())
}

/// Writes until nothing goes any more: all buffers on the way are full. Answers how much went.
fn fill(to: &mut TcpStream, piece: &[u8]) -> Result<u64> {
    to.set_write_timeout(Some(Duration::from_millis(700)))?;
    let mut sent: u64 = 0;
    while let Ok(count) = to.write(piece) {
        sent += count as u64;
        ensure!(sent < 1 << 30, "nothing stops the writer");
    }
    Ok(sent)
}

/// Content that never ends in a test: one chunk, or an announced length.
fn endless(framing: Framing) -> (String, &'static str) {
    let before = match framing {
        Framing::Length => "",
        Framing::Chunked => "ffffffff\r\n",
    };
    (framing.field(u64::from(u32::MAX)), before)
}

fn a_stalled_upstream_stops_the_client_and_not_the_memory(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = Arc::new(Mutex::new(wait));
    let server = Server::start(tenant.listen(80)?, move |stream, _| {
        let mut wire = Wire::new(stream);
        wire.head()?.context("no request")?;
        // Reads nothing until told.
        let _ = wait.lock().map(|wait| wait.recv());
        Ok(())
    })?;
    let gateway = gateway(lab, &tenant)?;
    for framing in [Framing::Length, Framing::Chunked] {
        let grown = growth_during(&gateway, || {
            let mut client = http::dial()?;
            let (fields, before) = endless(framing);
            client.send(http::request("POST", NAME, "/", &fields))?;
            client.send(before)?;
            let mut stream = client.socket().try_clone()?;
            fill(&mut stream, &vec![b'x'; 256 << 10])?;
            go_on.send(())?;
            server.next()
        });
        let grown = grown.with_context(|| format!("{framing:?}"))?;
        ensure!(grown < SLACK, "{framing:?}: {grown} bytes more");
    }
    Ok(())
}

fn a_stalled_client_stops_the_upstream_and_not_the_memory(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let server = Server::start(tenant.listen(80)?, |stream, _| {
        let mut wire = Wire::new(stream);
        let request: Message = wire.head()?.context("no request")?;
        let framing = match request.target() {
            "/chunked" => Framing::Chunked,
            _ => Framing::Length,
        };
        let (fields, before) = endless(framing);
        wire.send(format!("HTTP/1.1 200 OK\r\n{fields}\r\n{before}"))?;
        fill(&mut wire.socket().try_clone()?, &vec![b'x'; 256 << 10])
    })?;
    let gateway = gateway(lab, &tenant)?;
    for path in ["/length", "/chunked"] {
        let grown = growth_during(&gateway, || {
            let mut client = http::dial()?;
            client.send(http::request("GET", NAME, path, ""))?;
            let sent = server.next()?;
            ensure!(sent > 0);
            Ok(())
        });
        let grown = grown.with_context(|| path.to_owned())?;
        ensure!(grown < SLACK, "{path}: {grown} bytes more");
    }
    Ok(())
}

fn content_that_is_cut_short_is_seen_to_be(lab: &mut Lab) -> Result<()> {
    let tenant = lab.tenant(51_820)?;
    let server = Server::start(tenant.listen(80)?, |stream, _| {
        let mut wire = Wire::new(stream);
        let request = wire.head()?.context("no request")?;
        match request.target() {
            "/length" => wire.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart")?,
            "/chunked" => {
                wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n")?;
            }
            _ => {
                // What the client did not send must not look whole to the upstream either.
                let content = Content::of_request(&request)?;
                let received = wire.content(content, |_| Ok(()), &mut Vec::new());
                ensure!(received.is_err(), "{} came whole", request.target());
            }
        }
        Ok(())
    })?;
    let gateway = gateway(lab, &tenant)?;
    for path in ["/length", "/chunked"] {
        let mut client = http::dial()?;
        client.send(http::request("GET", NAME, path, ""))?;
        let answer = client.head()?.context("no answer")?;
        let content = Content::of_answer(&answer, "GET")?;
        let received = client.content(content, |_| Ok(()), &mut Vec::new());
        ensure!(received.is_err(), "{path} looks whole");
        server.next()?;
    }
    for (framing, part) in [
        (Framing::Length, "part"),
        (Framing::Chunked, "4\r\npart\r\n"),
    ] {
        let mut client = http::dial()?;
        client.send(http::request("POST", NAME, "/up", &framing.field(9)))?;
        client.send(part)?;
        tests::stream::half_close(client.socket())?;
        server.next().with_context(|| format!("{framing:?}"))?;
    }
    eventually("the gateway is quiet", || gateway.wait_until_quiet().ok())
}
