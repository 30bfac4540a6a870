//! A small HTTPS server: real TLS, HTTP/1.1, one thread for each connection.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use nix::sys::socket;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Longest request head in bytes, and so the most that a client can make the server keep.
const HEAD_BYTES_MAX: u64 = 16 * 1024;
/// How long a client may be silent.
const PATIENCE: Duration = Duration::from_secs(10);
/// Most connections at once; more are closed.
const CONNECTIONS_MAX: usize = 64;

/// A running server. It stops accepting when dropped.
pub(super) struct Site {
    listener: TcpListener,
    acceptor: Option<JoinHandle<()>>,
}

impl Site {
    /// Serves on the listener; `text` makes the answer from the client's address.
    pub(super) fn start(
        listener: TcpListener,
        tls: Arc<ServerConfig>,
        text: impl Fn(SocketAddr) -> String + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let accepting = listener.try_clone()?;
        let text = Arc::new(text);
        let live = Arc::new(AtomicUsize::new(0));
        let accept = move || {
            while let Ok((stream, client)) = accepting.accept() {
                if live.load(Relaxed) >= CONNECTIONS_MAX {
                    continue;
                }
                live.fetch_add(1, Relaxed);
                let (live, tls, text) = (live.clone(), tls.clone(), text.clone());
                let connection = move || {
                    // A client that goes away or talks nonsense concerns nobody else.
                    let _ = serve(stream, tls, &text(client));
                    live.fetch_sub(1, Relaxed);
                };
                if thread::Builder::new()
                    .name("site".into())
                    .spawn(connection)
                    .is_err()
                {
                    return;
                }
            }
        };
        let acceptor = thread::Builder::new().name("site".into()).spawn(accept)?;
        Ok(Self {
            listener,
            acceptor: Some(acceptor),
        })
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // On a listening socket this ends accept(2).
        let _ = socket::shutdown(self.listener.as_raw_fd(), socket::Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

fn serve(stream: TcpStream, tls: Arc<ServerConfig>, text: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let connection = ServerConnection::new(tls).map_err(io::Error::other)?;
    let mut reader = BufReader::new(StreamOwned::new(connection, stream));
    while skip_head(&mut reader)? {
        let stream = reader.get_mut();
        let length = text.len() + 1;
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{text}\n"
        )?;
        stream.flush()?;
    }
    let stream = reader.get_mut();
    stream.conn.send_close_notify();
    stream.flush()?;
    stream.sock.shutdown(Shutdown::Write)
}

/// Reads past one request head; false at the client's end.
fn skip_head(reader: &mut impl io::BufRead) -> io::Result<bool> {
    let mut head = reader.take(HEAD_BYTES_MAX);
    let mut line = Vec::new();
    loop {
        line.clear();
        match head.read_until(b'\n', &mut line) {
            Ok(0) if head.limit() == 0 => return Err(io::ErrorKind::FileTooLarge.into()),
            // rustls calls an end without close_notify an unexpected one.
            Ok(0) => return Ok(false),
            Ok(_) if line == b"\r\n" || line == b"\n" => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}
