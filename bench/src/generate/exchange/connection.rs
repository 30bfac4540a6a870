//! One connection of the exchange client: a message out, the same message back.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// Time for the hello to come back through the proxy.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a message that tell it from all others: connection and number.
const HEAD_BYTES: usize = 16;

/// Bytes read at a time: more than the answer, so that too long a one shows.
const READ_BYTES: usize = 4096;

/// What the last events led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The answer is not complete.
    Waiting,
    /// The answer is right; the exchange had started then.
    Answered(Instant),
    /// The answer is not what was sent; the connection is out of use.
    Wrong,
    /// The connection broke; it is out of use.
    Failed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Waiting { since: Instant },
    Broken,
}

/// A connection and the exchange on it.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    state: State,
    message: Vec<u8>,
    sent: usize,
    got: usize,
    number: u64,
}

impl Connection {
    /// Connects; if there is a `hello`, sends it and reads it back.
    ///
    /// # Errors
    /// When the connection is refused, or the hello does not come back.
    pub(crate) fn open(
        target: SocketAddr,
        hello: Option<&[u8]>,
        connection: usize,
        bytes: usize,
    ) -> io::Result<Self> {
        let mut stream = TcpStream::connect(target)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(OPEN_TIMEOUT))?;
        if let Some(hello) = hello {
            stream.write_all(hello)?;
            let mut back = vec![0; hello.len()];
            stream.read_exact(&mut back)?;
            if back != hello {
                return Err(io::Error::new(
                    ErrorKind::InvalidData,
                    "the hello came back changed",
                ));
            }
        }
        stream.set_nonblocking(true)?;
        let mut message: Vec<u8> = (0..251).cycle().take(bytes).collect();
        message[..8].copy_from_slice(&(connection as u64).to_le_bytes());
        Ok(Self {
            stream,
            state: State::Idle,
            message,
            sent: 0,
            got: 0,
            number: 0,
        })
    }

    /// The socket, to watch.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether an exchange can start.
    pub(crate) fn is_idle(&self) -> bool {
        self.state == State::Idle
    }

    /// Whether an answer is to come.
    pub(crate) fn is_waiting(&self) -> bool {
        self.waiting_since().is_some()
    }

    /// When the exchange that waits for its answer started.
    pub(crate) fn waiting_since(&self) -> Option<Instant> {
        match self.state {
            State::Waiting { since } => Some(since),
            State::Idle | State::Broken => None,
        }
    }

    /// Sends the next message. An error shows at the next event.
    pub(crate) fn start(&mut self, since: Instant) {
        self.number += 1;
        self.message[8..HEAD_BYTES].copy_from_slice(&self.number.to_le_bytes());
        (self.sent, self.got) = (0, 0);
        self.state = State::Waiting { since };
        let _ = self.send();
    }

    /// Goes on after an event.
    pub(crate) fn progress(&mut self) -> Progress {
        let State::Waiting { since } = self.state else {
            return Progress::Waiting;
        };
        if self.send().is_err() {
            return self.broken(Progress::Failed);
        }
        let mut buffer = [0; READ_BYTES];
        while self.got < self.message.len() {
            match self.stream.read(&mut buffer) {
                Ok(0) => return self.broken(Progress::Failed),
                Ok(count) => {
                    let expected = self.message.get(self.got..self.got + count);
                    if expected != Some(&buffer[..count]) {
                        return self.broken(Progress::Wrong);
                    }
                    self.got += count;
                }
                Err(error) if again(&error) => return Progress::Waiting,
                Err(_) => return self.broken(Progress::Failed),
            }
        }
        self.state = State::Idle;
        Progress::Answered(since)
    }

    fn broken(&mut self, progress: Progress) -> Progress {
        self.state = State::Broken;
        progress
    }

    fn send(&mut self) -> io::Result<()> {
        while self.sent < self.message.len() {
            match self.stream.write(&self.message[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(error) if again(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn again(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
