//! A client of the gateway's API that is none of its own code: HTTP/1.1 over a Unix socket.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

/// How long an answer may take: making a hundred thousand names included.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where an API listens.
#[derive(Clone, Debug)]
pub struct Api {
    socket: PathBuf,
    token: Option<String>,
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The head, with its status line.
    pub head: String,
    /// The body, as it came.
    pub body: String,
}

impl Api {
    /// Behind this socket.
    pub fn at(socket: &Path) -> Self {
        Self {
            socket: socket.to_owned(),
            token: None,
        }
    }

    /// With this token.
    #[must_use]
    pub fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Where it listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends a request and reads its answer to the end.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Result<Answer> {
        let mut stream = UnixStream::connect(&self.socket)
            .with_context(|| format!("connecting to {}", self.socket.display()))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut head =
            format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        if let Some(token) = &self.token {
            head += &format!("authorization: Bearer {token}\r\n");
        }
        if let Some(body) = body {
            let length = body.len();
            head += &format!("content-type: application/json\r\ncontent-length: {length}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        stream.write_all(body.unwrap_or_default().as_bytes())?;
        let mut answer = Vec::new();
        stream
            .read_to_end(&mut answer)
            .with_context(|| format!("the answer to {method} {path}"))?;
        parse(&String::from_utf8(answer)?).with_context(|| format!("{method} {path}"))
    }

    /// Follows the events: those after a number, or from now on.
    ///
    /// # Errors
    /// When they are refused.
    pub fn events(&self, after: Option<u64>) -> Result<Events> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let after = after.map(|id| format!("last-event-id: {id}\r\n"));
        let after = after.unwrap_or_default();
        let ask = format!("GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n{after}\r\n");
        stream.write_all(ask.as_bytes())?;
        let mut lines = BufReader::new(stream).lines();
        let status = lines.next().context("no answer")??;
        ensure!(status.starts_with("HTTP/1.1 200"), "{status}");
        Ok(Events { lines })
    }

    /// What a GET answers with 200, as JSON.
    ///
    /// # Errors
    /// When it is anything else.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.ask("GET", path, None)?.ok()
    }

    /// Makes a document the desired state, and waits until every worker runs it.
    ///
    /// # Errors
    /// When it is refused.
    pub fn apply(&self, document: &Value) -> Result<Value> {
        self.try_apply(&document.to_string())?.ok()
    }

    /// Offers a document as the desired state.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn try_apply(&self, document: &str) -> Result<Answer> {
        self.ask("POST", "/api/v1/apply?wait=true", Some(document))
    }
}

/// Events as they come.
#[derive(Debug)]
pub struct Events {
    lines: io::Lines<BufReader<UnixStream>>,
}

impl Events {
    /// Waits for the next event that is like that, and answers it.
    ///
    /// # Errors
    /// When none comes within a minute.
    pub fn wait_for(&mut self, what: &str, like: impl Fn(&Value) -> bool) -> Result<Value> {
        let deadline = Instant::now() + PATIENCE;
        for line in &mut self.lines {
            let line = line.with_context(|| format!("waiting for the event: {what}"))?;
            // Comments keep the connection alive.
            ensure!(Instant::now() < deadline, "no event: {what}");
            if let Some(data) = line.strip_prefix("data: ") {
                let event = serde_json::from_str(data)?;
                if like(&event) {
                    return Ok(event);
                }
            }
        }
        bail!("the events ended without: {what}")
    }
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("not JSON: {}", self.body))
    }

    /// The body of a 200.
    ///
    /// # Errors
    /// When it is another status.
    pub fn ok(&self) -> Result<Value> {
        ensure!(self.status == 200, "{}: {}", self.status, self.body);
        self.json()
    }
}

fn parse(answer: &str) -> Result<Answer> {
    let (head, body) = answer.split_once("\r\n\r\n").context("no head")?;
    let status = head.split(' ').nth(1).context("no status")?.parse()?;
    let is_chunked = head
        .to_ascii_lowercase()
        .contains("transfer-encoding: chunked");
    let body = if is_chunked {
        unchunk(body)?
    } else {
        body.to_owned()
    };
    Ok(Answer {
        status,
        head: head.to_owned(),
        body,
    })
}

fn unchunk(mut text: &str) -> Result<String> {
    let mut body = String::new();
    loop {
        let (size, rest) = text.split_once("\r\n").context("a chunk without a size")?;
        let size = usize::from_str_radix(size.trim(), 16)?;
        if size == 0 {
            return Ok(body);
        }
        body += rest.get(..size).context("a short chunk")?;
        text = rest.get(size + 2..).context("a chunk without an end")?;
    }
}
