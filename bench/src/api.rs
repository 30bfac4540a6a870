//! A client of the gateway's API: HTTP/1.1 over its unix socket (RFC 9112).

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// Time for an answer: of applying 10,000 peers on a busy machine, too.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(600);
/// Longest line of an answer's head.
const LINE_BYTES_MAX: u64 = 16 * 1024;

/// Where an API listens.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    socket: PathBuf,
}

/// A connection that stays open from request to request.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: BufReader<UnixStream>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

/// How long an answer's body is.
enum Length {
    Bytes(usize),
    Chunked,
}

impl Api {
    /// Behind this socket.
    pub(crate) fn at(socket: &Path) -> Self {
        let socket = socket.to_owned();
        Self { socket }
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// When nobody listens.
    pub(crate) fn connect(&self) -> Result<Connection> {
        let stream = UnixStream::connect(&self.socket)
            .with_context(|| format!("cannot connect to {:?}", self.socket))?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let stream = BufReader::new(stream);
        Ok(Connection { stream })
    }

    /// What is answered with 200, as JSON, on a connection of its own.
    ///
    /// # Errors
    /// When it is anything else.
    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&str>) -> Result<Value> {
        let answer = self.connect()?.ask(method, path, body)?;
        answer.json().with_context(|| format!("{method} {path}"))
    }

    /// Makes a document the desired state, and waits until every worker runs it.
    ///
    /// # Errors
    /// When it is refused, or something of it could not be made so.
    pub(crate) fn apply(&self, document: &str) -> Result<Value> {
        let applied = self.ask("POST", "/api/v1/apply?wait=true", Some(document))?;
        let degraded = applied.get("degraded").unwrap_or(&Value::Null);
        ensure!(degraded.is_null(), "degraded: {degraded}");
        Ok(applied)
    }
}

impl Connection {
    /// Sends a request and reads its whole answer.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub(crate) fn ask(&mut self, method: &str, path: &str, body: Option<&str>) -> Result<Answer> {
        self.send(method, path, body)?;
        self.read()
            .with_context(|| format!("the answer to {method} {path}"))
    }

    /// Sends a request and does not wait for its answer.
    ///
    /// # Errors
    /// When the connection is closed.
    pub(crate) fn send(&mut self, method: &str, path: &str, body: Option<&str>) -> Result<()> {
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: gateway\r\n");
        if let Some(body) = body {
            let length = body.len();
            request += &format!("content-type: application/json\r\ncontent-length: {length}\r\n");
        }
        request += "\r\n";
        request += body.unwrap_or_default();
        Ok(self.stream.get_mut().write_all(request.as_bytes())?)
    }

    /// Reads the whole answer to the oldest request that was sent.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub(crate) fn read(&mut self) -> Result<Answer> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).context("no status")?.parse()?;
        let mut length = Length::Bytes(0);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            match line
                .split_once(':')
                .map(|(name, value)| (name, value.trim()))
            {
                None => break,
                Some(("content-length", value)) => length = Length::Bytes(value.parse()?),
                Some(("transfer-encoding", "chunked")) => length = Length::Chunked,
                Some(_) => {}
            }
        }
        let body = match length {
            Length::Bytes(bytes) => self.bytes(bytes)?,
            Length::Chunked => self.chunks()?,
        };
        Ok(Answer { status, body })
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let size = line.split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16).context("a chunk without a size")?;
            body.append(&mut self.bytes(size)?);
            self.line()?;
            if size == 0 {
                return Ok(body);
            }
        }
    }

    fn bytes(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        self.stream.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// The next line, without its end.
    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        (&mut self.stream)
            .take(LINE_BYTES_MAX)
            .read_line(&mut line)?;
        match line.strip_suffix("\r\n") {
            Some(line) => Ok(line.to_owned()),
            None => bail!("a line without an end: {line:?}"),
        }
    }
}

impl Answer {
    /// The body of a 200.
    ///
    /// # Errors
    /// With the body when it is another status.
    pub(crate) fn json(&self) -> Result<Value> {
        self.expect_ok()?;
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// Whether all went well.
    ///
    /// # Errors
    /// With the body when it did not.
    pub(crate) fn expect_ok(&self) -> Result<()> {
        let body = String::from_utf8_lossy(&self.body);
        ensure!(self.status == 200, "{}: {body}", self.status);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    /// What is read of an answer that a server writes as it stands.
    fn read(written: &'static str) -> Result<Answer> {
        let (mut server, client) = UnixStream::pair()?;
        let server = thread::spawn(move || server.write_all(written.as_bytes()));
        let stream = BufReader::new(client);
        let answer = Connection { stream }.read();
        assert!(server.join().is_ok());
        answer
    }

    #[test]
    fn an_answer_ends_where_its_length_says() {
        let answer = read("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1").unwrap();
        assert_eq!((answer.status, &answer.body[..]), (200, &b"{}"[..]));
    }

    #[test]
    fn chunks_are_put_together() {
        let text = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n[1\r\nb;x\r\n,2,3,4,5,6]\r\n0\r\n\r\n";
        let answer = read(text).unwrap();
        assert_eq!(answer.json().unwrap().to_string(), "[1,2,3,4,5,6]");
    }

    #[test]
    fn an_answer_that_is_cut_off_is_an_error() {
        assert!(read("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}").is_err());
        assert!(read("HTTP/1.1 200 OK\r\ncontent-le").is_err());
    }

    #[test]
    fn a_refusal_is_told_with_its_body() {
        let answer = read("HTTP/1.1 400 Bad Request\r\ncontent-length: 4\r\n\r\nnope").unwrap();
        let error = answer.json().unwrap_err().to_string();
        assert_eq!(error, "400: nope");
    }
}
