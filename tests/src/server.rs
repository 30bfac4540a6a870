//! Servers in the machines of tenants: a thread for each connection, and what each thread found.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    sync::mpsc::{self, Receiver},
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result};
use nix::sys::socket;

use crate::{stream, wait::PATIENCE};

/// A listening machine. It stops listening when dropped.
#[derive(Debug)]
pub struct Server<T> {
    listener: TcpListener,
    acceptor: Option<JoinHandle<()>>,
    served: Receiver<Result<T>>,
}

impl<T: Send + 'static> Server<T> {
    /// Accepts on the listener and gives each connection to `serve` on a thread of its own.
    ///
    /// # Errors
    /// When no thread or descriptor is left.
    pub fn start(
        listener: TcpListener,
        serve: impl Fn(TcpStream, SocketAddr) -> Result<T> + Clone + Send + 'static,
    ) -> Result<Self> {
        let (done, served) = mpsc::channel();
        let accepting = listener.try_clone()?;
        let acceptor = thread::Builder::new()
            .name("acceptor".into())
            .spawn(move || {
                while let Ok((stream, from)) = accepting.accept() {
                    let (serve, done) = (serve.clone(), done.clone());
                    let connection = move || {
                        let result = stream::patient(&stream).and_then(|()| serve(stream, from));
                        // The test may have seen enough.
                        let _ = done.send(result);
                    };
                    if thread::Builder::new().spawn(connection).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self {
            listener,
            acceptor: Some(acceptor),
            served,
        })
    }

    /// What the next connection to end made of it.
    ///
    /// # Errors
    /// The connection's; or that none ended.
    pub fn next(&self) -> Result<T> {
        self.served
            .recv_timeout(PATIENCE)
            .context("no connection ended at the server")?
    }

    /// What ended meanwhile, without waiting.
    pub fn ended(&self) -> Vec<Result<T>> {
        self.served.try_iter().collect()
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the listener is none.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl<T> Drop for Server<T> {
    fn drop(&mut self) {
        // Wakes the acceptor: shutdown(2) on a listening socket ends accept(2) with EINVAL.
        let _ = socket::shutdown(self.listener.as_raw_fd(), socket::Shutdown::Both);
        if let Some(acceptor) = self.acceptor.take() {
            let _ = acceptor.join();
        }
    }
}

/// Sends back what comes, until the end of it; answers how many bytes.
///
/// # Errors
/// When the connection breaks.
pub fn echo(mut stream: TcpStream, _from: SocketAddr) -> Result<u64> {
    let count = io::copy(&mut stream.try_clone()?, &mut stream)?;
    stream.shutdown(Shutdown::Write)?;
    Ok(count)
}

/// Answers with a name and closes, without waiting for anything: a protocol whose server speaks
/// first.
pub fn greet(name: &str) -> impl Fn(TcpStream, SocketAddr) -> Result<SocketAddr> + Clone + use<> {
    let name = name.to_owned();
    move |mut stream, from| {
        io::Write::write_all(&mut stream, name.as_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        // Closing with unread bytes would reset what was just sent.
        io::copy(&mut stream, &mut io::sink())?;
        Ok(from)
    }
}
