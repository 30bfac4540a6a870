//! TLS handshakes, each on a connection of its own that ends with it: as many as go with so many
//! open at a time.

use std::{
    io::{self, ErrorKind},
    net::{Shutdown, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use nix::sys::epoll::EpollTimeout;
use rustls::{ClientConfig, ClientConnection, HandshakeKind};

use super::{
    Load,
    dial::{Events, start_to_connect},
    event::{Announcer, Event, Measured},
    latency::Stopwatch,
    on_threads,
    window::Window,
};
use crate::tls;

/// Longest wait for an event, so that the end is noticed.
const WAIT_MS: u16 = 20;

/// A handshake that takes longer than this has failed.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The client of TLS handshakes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Handshake {
    #[command(flatten)]
    pub(super) load: Load,
    /// Name that is asked for
    #[arg(long)]
    pub(super) name: String,
    /// Take up an earlier session; a full handshake counts as wrong then
    #[arg(long)]
    pub(super) resumed: bool,
}

impl Handshake {
    /// Shakes hands for as long as asked, and gives the result.
    ///
    /// # Errors
    /// When epoll fails, or the events cannot be told.
    pub(crate) fn run(&self) -> Result<()> {
        let announcer = self.load.announcer();
        let result = self.measure(announcer)?;
        announcer.say(&Event::Result(result))?;
        Ok(())
    }

    pub(super) fn measure(&self, announcer: Announcer) -> Result<Measured> {
        let window = self.load.window()?;
        let parts = on_threads(
            self.load.threads,
            |n| Worker::new(self, window)?.run(self.load.share(n)),
            || window.announce(announcer).context("cannot tell the events"),
        )?;
        let mut watch = Stopwatch::new()?;
        let mut result = Measured {
            seconds: window.seconds(),
            ..Measured::default()
        };
        for part in &parts {
            watch.add(&part.watch)?;
            result.operations += part.operations;
            result.wrong += part.wrong;
            result.failed += part.failed;
        }
        result.latency = watch.latency();
        Ok(result)
    }
}

/// What one thread measured.
#[derive(Debug)]
struct Part {
    watch: Stopwatch,
    operations: u64,
    wrong: u64,
    failed: u64,
}

/// One thread's connections.
#[derive(Debug)]
struct Worker<'a> {
    asked: &'a Handshake,
    client: Arc<ClientConfig>,
    window: Window,
    events: Events,
    part: Part,
}

/// A handshake on its way.
#[derive(Debug)]
struct Attempt {
    stream: TcpStream,
    session: ClientConnection,
    started: Instant,
    /// When both sides were through with it.
    shaken: Option<Instant>,
    has_ended: bool,
}

impl<'a> Worker<'a> {
    fn new(asked: &'a Handshake, window: Window) -> Result<Self> {
        Ok(Self {
            asked,
            client: tls::client("http/1.1", asked.resumed)?,
            window,
            events: Events::new()?,
            part: Part {
                watch: Stopwatch::new()?,
                operations: 0,
                wrong: 0,
                failed: 0,
            },
        })
    }

    fn run(mut self, connections: usize) -> Result<Part> {
        let mut slots: Vec<Option<Attempt>> =
            (0..connections).map(|slot| self.start(slot)).collect();
        loop {
            let now = Instant::now();
            if now >= self.window.stop {
                return Ok(self.part);
            }
            for slot in self.events.wait(EpollTimeout::from(WAIT_MS))? {
                self.progress(slot, &mut slots);
            }
            self.replace_stuck(now, &mut slots);
        }
    }

    /// Opens a slot's next connection, and sends its hello if that goes at once.
    fn start(&mut self, slot: usize) -> Option<Attempt> {
        let started = Instant::now();
        let open = || -> Result<Attempt> {
            let mut attempt = Attempt {
                stream: start_to_connect(self.asked.load.connect)?,
                session: tls::session(&self.client, &self.asked.name)?,
                started,
                shaken: None,
                has_ended: false,
            };
            attempt.progress()?;
            self.events.watch_edges(&attempt.stream, slot)?;
            Ok(attempt)
        };
        let opened = open();
        self.part.failed += u64::from(opened.is_err());
        opened.ok()
    }

    fn progress(&mut self, slot: usize, slots: &mut [Option<Attempt>]) {
        let Some(attempt) = &mut slots[slot] else {
            return;
        };
        match attempt.progress() {
            Ok(false) => return,
            Ok(true) => self.count(slots[slot].take()),
            Err(_) => self.part.failed += 1,
        }
        // Close first: a slot holds one descriptor.
        slots[slot] = None;
        slots[slot] = self.start(slot);
    }

    /// Counts a connection that the server has closed. Those before the measured time may be the
    /// first of their sessions.
    fn count(&mut self, ended: Option<Attempt>) {
        let Some((attempt, shaken)) = ended.and_then(|attempt| {
            let shaken = attempt.shaken?;
            Some((attempt, shaken))
        }) else {
            self.part.failed += 1;
            return;
        };
        if !self.window.contains(Instant::now()) {
            return;
        }
        let is_resumed = attempt.session.handshake_kind() == Some(HandshakeKind::Resumed);
        if is_resumed != self.asked.resumed {
            self.part.wrong += 1;
            return;
        }
        self.part.operations += 1;
        self.part.watch.record(shaken - attempt.started);
    }

    /// Gives up what hangs, and fills slots that could not open.
    fn replace_stuck(&mut self, now: Instant, slots: &mut [Option<Attempt>]) {
        for (slot, attempt) in slots.iter_mut().enumerate() {
            match attempt {
                Some(attempt) if now.saturating_duration_since(attempt.started) < TIMEOUT => {
                    continue;
                }
                Some(_) => self.part.failed += 1,
                None => {}
            }
            *attempt = None;
            *attempt = self.start(slot);
        }
    }
}

impl Attempt {
    /// Goes on after an event; true when the server has closed, which it does when it has taken in
    /// this side's last word of the handshake and its goodbye.
    fn progress(&mut self) -> Result<bool> {
        loop {
            if self.send()? {
                return Ok(false);
            }
            if self.shaken.is_some() && !self.has_ended {
                self.has_ended = true;
                self.stream.shutdown(Shutdown::Write)?;
            }
            match self.session.read_tls(&mut self.stream) {
                Ok(0) => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error.into()),
            }
            self.session.process_new_packets()?;
            if self.shaken.is_none() && !self.session.is_handshaking() {
                self.shaken = Some(Instant::now());
                self.session.send_close_notify();
            }
        }
    }

    /// Sends what the session has to say; true when the connection takes no more for now.
    fn send(&mut self) -> io::Result<bool> {
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.stream) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::TcpListener,
        thread,
    };

    use rustls::{
        ServerConfig, ServerConnection, StreamOwned,
        crypto::ring,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    };

    use super::*;

    const NAME: &str = "a.test";

    /// A server that ends TLS and waits for its client's goodbye; where.
    fn serve(tickets: usize) -> std::net::SocketAddr {
        let own = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(own.signing_key.serialize_der()));
        let provider = Arc::new(ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth();
        let mut config = config
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        config.send_tls13_tickets = tickets;
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let session = ServerConnection::new(Arc::clone(&config)).unwrap();
                let mut stream = StreamOwned::new(session, stream.unwrap());
                // A client whose time is over just goes.
                let _ = stream.read(&mut [0]);
                let _ = stream.flush();
            }
        });
        address
    }

    fn measure(connect: std::net::SocketAddr, resumed: bool) -> Measured {
        let handshake = Handshake {
            load: Load {
                connect,
                connections: 2,
                threads: 1,
                seconds: 0.5,
                warmup: 0.5,
                json: true,
            },
            name: NAME.to_owned(),
            resumed,
        };
        handshake.measure(Announcer::new(true)).unwrap()
    }

    #[test]
    fn full_and_resumed_handshakes_are_told_apart() {
        for resumed in [false, true] {
            let measured = measure(serve(1), resumed);
            assert!(measured.operations > 0, "{measured:?}");
            assert_eq!((measured.wrong, measured.failed), (0, 0), "{measured:?}");
        }
    }

    #[test]
    fn a_full_handshake_does_not_pass_for_a_resumed_one() {
        let measured = measure(serve(0), true);
        assert!(measured.wrong > 0, "{measured:?}");
        assert_eq!(measured.operations, 0, "{measured:?}");
    }
}
