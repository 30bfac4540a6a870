//! HTTP/1.1 as a strict peer speaks it, with none of the gateway's own code: whatever is not
//! exactly as RFC 9112 writes it is an error, so a gateway that leans on tolerance is found out.

mod message;
mod upstream;

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
};

use anyhow::{Context as _, Result, bail, ensure};

pub use message::{Content, Message};
pub use upstream::{Asked, Then, Upstream, reply};

use crate::{lab::GATEWAY, stream};

/// Longest line that is read; far above what any test sends through.
const LINE_BYTES_MAX: usize = 256 << 10;

/// How much is read at once.
const PIECE_BYTES: usize = 64 << 10;

/// One side of a connection that carries HTTP/1.
#[derive(Debug)]
pub struct Wire<S = TcpStream> {
    stream: S,
    /// What was read, and where what is not used yet begins.
    ahead: Vec<u8>,
    start: usize,
    received: u64,
    sent: u64,
}

/// Connects to the gateway.
///
/// # Errors
/// When it does not listen.
pub fn dial() -> Result<Wire> {
    Ok(Wire::new(stream::connect(GATEWAY)?))
}

/// Sends a whole request on a connection of its own, and reads the answer.
///
/// # Errors
/// When no answer comes.
pub fn ask(request: impl AsRef<[u8]>) -> Result<Message> {
    dial()?.ask(request)
}

/// Asks a host for a path on a connection of its own.
///
/// # Errors
/// When no answer comes.
pub fn get(host: &str, path: &str) -> Result<Message> {
    ask(request("GET", host, path, ""))
}

/// A request without content. `fields` are whole lines.
pub fn request(method: &str, host: &str, path: &str, fields: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")
}

impl Wire {
    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }
}

impl<S: Read + Write> Wire<S> {
    /// Over this stream.
    pub fn new(stream: S) -> Self {
        Self {
            stream,
            ahead: Vec::new(),
            start: 0,
            received: 0,
            sent: 0,
        }
    }

    /// How many bytes came, and how many went.
    pub fn counts(&self) -> (u64, u64) {
        (self.received, self.sent)
    }

    /// Sends bytes.
    ///
    /// # Errors
    /// When the other side is gone.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<()> {
        let bytes = bytes.as_ref();
        self.stream.write_all(bytes).context("sending")?;
        self.sent += bytes.len() as u64;
        Ok(self.stream.flush()?)
    }

    /// Sends a whole request and reads its answer.
    ///
    /// # Errors
    /// When no answer comes.
    pub fn ask(&mut self, request: impl AsRef<[u8]>) -> Result<Message> {
        let request = request.as_ref();
        // One that is refused early may not be read to its end.
        let sent = self.send(request);
        let method = request
            .split(|byte| *byte == b' ')
            .next()
            .unwrap_or_default();
        let answer = self.answer(&String::from_utf8_lossy(method));
        match (sent, answer) {
            (_, Ok(answer)) => Ok(answer),
            (Err(error), Err(_)) | (Ok(()), Err(error)) => Err(error),
        }
    }

    /// Reads the head of a message; `None` where the connection ends in order before it.
    ///
    /// # Errors
    /// At a line that is malformed, and at an end in the middle.
    pub fn head(&mut self) -> Result<Option<Message>> {
        if self.unused().is_empty() && self.receive().context("a head")? == 0 {
            return Ok(None);
        }
        let line = self.line()?;
        let mut message = Message {
            line,
            ..Message::default()
        };
        self.fields(&mut message.fields)?;
        Ok(Some(message))
    }

    /// Reads a request with its content; `None` where the connection ends before one.
    ///
    /// # Errors
    /// When it is malformed or cut short.
    pub fn request(&mut self) -> Result<Option<Message>> {
        let Some(mut request) = self.head()? else {
            return Ok(None);
        };
        let content = Content::of_request(&request)?;
        self.collect(content, &mut request)?;
        Ok(Some(request))
    }

    /// Reads the final answer to a request of that method; interim ones are skipped.
    ///
    /// # Errors
    /// When it is malformed or cut short, or none comes.
    pub fn answer(&mut self, method: &str) -> Result<Message> {
        loop {
            let mut answer = self.head()?.context("the connection ended unanswered")?;
            if (100..200).contains(&answer.status()?) && answer.status()? != 101 {
                continue;
            }
            let content = Content::of_answer(&answer, method)?;
            self.collect(content, &mut answer)?;
            return Ok(answer);
        }
    }

    /// Reads content into a message.
    ///
    /// # Errors
    /// When its framing is malformed, or it is cut short.
    pub fn collect(&mut self, content: Content, message: &mut Message) -> Result<()> {
        let Message { body, trailers, .. } = message;
        let gather = |bytes: &[u8]| {
            body.extend_from_slice(bytes);
            Ok(())
        };
        self.content(content, gather, trailers)
    }

    /// Reads content piece by piece.
    ///
    /// # Errors
    /// When its framing is malformed, or it is cut short; and those of `take`.
    pub fn content(
        &mut self,
        content: Content,
        mut take: impl FnMut(&[u8]) -> Result<()>,
        trailers: &mut Vec<(String, String)>,
    ) -> Result<()> {
        match content {
            Content::None => Ok(()),
            Content::Length(length) => self.pass(length, &mut take),
            Content::UntilEnd => loop {
                take(self.unused())?;
                self.use_up(self.unused().len());
                if self.receive()? == 0 {
                    return Ok(());
                }
            },
            Content::Chunked => loop {
                let size = self.line().context("the size of a chunk")?;
                let is_hex = size.bytes().all(|byte| byte.is_ascii_hexdigit());
                ensure!(is_hex && !size.is_empty(), "the size of a chunk: {size:?}");
                let size = u64::from_str_radix(&size, 16)?;
                if size == 0 {
                    return self.fields(trailers);
                }
                self.pass(size, &mut take)?;
                ensure!(self.line()?.is_empty(), "a chunk is longer than its size");
            },
        }
    }

    /// Makes sure that the other side ends in order, without another byte.
    ///
    /// # Errors
    /// When it does not.
    pub fn expect_end(&mut self) -> Result<()> {
        let count = self.receive().context("waiting for the end")?;
        ensure!(
            count == 0 && self.unused().is_empty(),
            "more came: {:?}",
            String::from_utf8_lossy(self.unused())
        );
        Ok(())
    }

    /// Makes sure that exactly these bytes come next.
    ///
    /// # Errors
    /// When others come.
    pub fn expect(&mut self, bytes: &[u8]) -> Result<()> {
        while self.unused().len() < bytes.len() {
            ensure!(self.receive()? > 0, "ended before {bytes:?}");
        }
        let found = &self.unused()[..bytes.len()];
        ensure!(found == bytes, "{:?}", String::from_utf8_lossy(found));
        self.use_up(bytes.len());
        Ok(())
    }

    /// The stream, and what was read of it and not used.
    pub fn into_parts(self) -> (S, Vec<u8>) {
        let ahead = self.unused().to_vec();
        (self.stream, ahead)
    }

    fn unused(&self) -> &[u8] {
        &self.ahead[self.start..]
    }

    fn use_up(&mut self, count: usize) {
        self.start += count;
        if self.start == self.ahead.len() {
            self.ahead.clear();
            self.start = 0;
        }
    }

    fn receive(&mut self) -> std::io::Result<usize> {
        let length = self.ahead.len();
        self.ahead.resize(length + PIECE_BYTES, 0);
        let read = loop {
            match self.stream.read(&mut self.ahead[length..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let count = *read.as_ref().unwrap_or(&0);
        self.ahead.truncate(length + count);
        self.received += count as u64;
        read
    }

    fn pass(&mut self, length: u64, take: &mut impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut left = length;
        while left > 0 {
            if self.unused().is_empty() {
                let count = self
                    .receive()
                    .with_context(|| format!("{left} of {length} bytes are missing"))?;
                ensure!(count > 0, "ended {left} of {length} bytes early");
            }
            let unused = self.unused();
            let count = usize::try_from(left).map_or(unused.len(), |left| left.min(unused.len()));
            take(&unused[..count])?;
            self.use_up(count);
            left -= count as u64;
        }
        Ok(())
    }

    fn fields(&mut self, fields: &mut Vec<(String, String)>) -> Result<()> {
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(());
            }
            let (name, value) = line
                .split_once(':')
                .with_context(|| format!("no colon in {line:?}"))?;
            let is_name =
                |byte: u8| byte.is_ascii_graphic() && !b"\"(),/:;<=>?@[\\]{}".contains(&byte);
            ensure!(
                !name.is_empty() && name.bytes().all(is_name),
                "the name of {line:?}"
            );
            fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
        }
    }

    /// A line without its CR LF.
    fn line(&mut self) -> Result<String> {
        let mut seen = 0;
        loop {
            let unused = self.unused();
            if let Some(end) = unused[seen..].iter().position(|byte| *byte == b'\n') {
                let line = unused[..seen + end]
                    .strip_suffix(b"\r")
                    .context("a line ends without CR")?;
                let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
                if line.iter().any(is_control) {
                    bail!("a control character: {:?}", String::from_utf8_lossy(line));
                }
                let text = String::from_utf8_lossy(line).into_owned();
                self.use_up(seen + end + 1);
                return Ok(text);
            }
            seen = unused.len();
            ensure!(seen < LINE_BYTES_MAX, "a line without end");
            ensure!(self.receive()? > 0, "ended in the middle of a line");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn read(bytes: &str) -> Result<Message> {
        let mut wire = Wire::new(Cursor::new(bytes.as_bytes().to_vec()));
        wire.request()?.context("nothing")
    }

    #[test]
    fn a_message_is_read_to_its_end() {
        let chunked = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nSum: 7\r\n\r\n";
        let message = read(&format!("POST / HTTP/1.1\r\n{chunked}")).unwrap();
        assert_eq!(message.body, b"abc");
        assert_eq!(message.trailers, [("Sum".to_owned(), "7".to_owned())]);
        let measured = read("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nab").unwrap();
        assert_eq!((measured.method(), &*measured.body), ("POST", &b"ab"[..]));
    }

    #[test]
    fn whatever_is_not_exact_is_an_error() {
        for wrong in [
            "GET / HTTP/1.1\n\r\n",
            "GET / HTTP/1.1\r\nA : b\r\n\r\n",
            "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            "GET / HTTP/1.1\r\nA: \x00\r\n\r\n",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na",
            "GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
            "GET / HTTP/1.1\r\nContent-Length: 2\r\n\r\na",
            "GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;x\r\na\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
            "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n",
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
