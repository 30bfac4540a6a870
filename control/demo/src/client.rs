//! A real TLS client that counts what it sends and receives on the wire.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, Stream, pki_types::ServerName};

/// Longest silence that is waited for.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 * 1024;

/// An answer, and the bytes that it took below TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    /// Head and body.
    pub(super) text: String,
    /// What the client put into its socket.
    pub(super) sent: u64,
    /// What the client took out of it.
    pub(super) received: u64,
}

impl Answer {
    /// The body of an answer with status 200.
    pub(super) fn body(&self) -> Option<&str> {
        let (head, body) = self.text.split_once("\r\n\r\n")?;
        head.starts_with("HTTP/1.1 200 ").then_some(body.trim_end())
    }
}

/// Asks `hostname` for `/` over a gateway, verifying its certificate, and reads to the end of the
/// connection.
pub(super) fn ask(
    gateway: SocketAddr,
    hostname: &'static str,
    tls: &Arc<ClientConfig>,
) -> io::Result<Answer> {
    let stream = TcpStream::connect_timeout(&gateway, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut socket = Counted {
        stream,
        sent: 0,
        received: 0,
    };
    let name = ServerName::try_from(hostname).map_err(io::Error::other)?;
    let mut connection = ClientConnection::new(tls.clone(), name).map_err(io::Error::other)?;
    let mut text = String::new();
    let mut stream = Stream::new(&mut connection, &mut socket);
    write!(stream, "GET / HTTP/1.1\r\nHost: {hostname}\r\n\r\n")?;
    stream.conn.send_close_notify();
    stream.flush()?;
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut text)?;
    // The end of the connection, and not only of TLS: then everything is counted on both sides.
    io::copy(&mut socket, &mut io::sink())?;
    Ok(Answer {
        text,
        sent: socket.sent,
        received: socket.received,
    })
}

struct Counted {
    stream: TcpStream,
    sent: u64,
    received: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.stream.read(buffer)?;
        self.received += length as u64;
        Ok(length)
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.stream.write(bytes)?;
        self.sent += length as u64;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
