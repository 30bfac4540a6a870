//! Streams of any length that both ends take the SHA-256 of.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use engine_sys::netns::Netns;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, connect, listen, setsockopt,
    socket, sockopt,
};
use sha2::{Digest as _, Sha256};

use crate::{random::Random, stream};

/// How much is written at once. Each piece has its number in it, so that no two are alike.
const PIECE_BYTES: usize = 256 << 10;

/// What came through a stream, and how long that took.
#[derive(Clone, Copy, Debug)]
pub struct Passed {
    /// Bytes each way.
    pub bytes: u64,
    /// From the first byte to the last.
    pub took: Duration,
}

impl Passed {
    /// Bits in a second, of all bytes that passed one way.
    #[expect(
        clippy::cast_precision_loss,
        reason = "a figure for people, from byte counts far under 2^52"
    )]
    pub fn gigabits(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.took.as_secs_f64() / 1e9
    }
}

/// Which way bytes go between two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the one that dialed.
    Up,
    /// To the one that dialed.
    Down,
}

/// Two ends of one TCP connection.
#[derive(Debug)]
pub struct Ends {
    /// The one that dialed.
    pub dialer: TcpStream,
    /// The one that listened.
    pub listener: TcpStream,
}

impl Ends {
    /// Connects one namespace with another at its address there. With `segment_bytes` no segment
    /// is longer (`TCP_MAXSEG`, tcp(7)).
    ///
    /// # Errors
    /// When the way is not there.
    pub fn join(
        from: &Netns,
        to: &Netns,
        address: IpAddr,
        segment_bytes: Option<u32>,
    ) -> Result<Self> {
        let open = |netns: &Netns| {
            let family = match address {
                IpAddr::V4(_) => AddressFamily::Inet,
                IpAddr::V6(_) => AddressFamily::Inet6,
            };
            let flags = SockFlag::SOCK_CLOEXEC;
            let open = || Ok(socket(family, SockType::Stream, flags, None)?);
            let socket = netns.enter(open)?;
            if let Some(bytes) = segment_bytes {
                setsockopt(&socket, sockopt::TcpMaxSeg, &bytes)?;
            }
            anyhow::Ok(socket)
        };
        let listener = open(to)?;
        let any = SockaddrStorage::from(SocketAddr::new(address, 0));
        bind(listener.as_raw_fd(), &any).with_context(|| format!("binding to {address}"))?;
        listen(&listener, Backlog::new(1)?)?;
        let listener = TcpListener::from(listener);
        let target = listener.local_addr()?;
        let dialer = open(from)?;
        connect(dialer.as_raw_fd(), &SockaddrStorage::from(target))
            .with_context(|| format!("connecting to {target}"))?;
        let ends = Self {
            dialer: dialer.into(),
            listener: listener.accept()?.0,
        };
        stream::patient(&ends.dialer)?;
        stream::patient(&ends.listener)?;
        Ok(ends)
    }

    /// Sends so many bytes one way, and compares the digests of both ends.
    ///
    /// # Errors
    /// When other bytes arrive, or the connection breaks.
    pub fn pass(&self, direction: Direction, bytes: u64, random: &mut Random) -> Result<Passed> {
        let (from, to) = match direction {
            Direction::Up => (&self.dialer, &self.listener),
            Direction::Down => (&self.listener, &self.dialer),
        };
        let began = Instant::now();
        let noise = random.bytes(PIECE_BYTES);
        let (sent, received) = thread::scope(|scope| {
            let sending = scope.spawn(move || pour(from, noise, bytes));
            let received = drain(to, bytes);
            (sending.join(), received)
        });
        let sent = sent.map_err(|_| anyhow!("the sender panicked"))?;
        let (sent, received) = (sent.context("sending")?, received.context("receiving")?);
        ensure!(sent == received, "what arrived is not what was sent");
        let took = began.elapsed();
        Ok(Passed { bytes, took })
    }

    /// [`Ends::pass`] one way and then the other.
    ///
    /// # Errors
    /// When other bytes arrive, or the connection breaks.
    pub fn pass_both_ways(&self, bytes: u64, random: &mut Random) -> Result<[Passed; 2]> {
        let up = self.pass(Direction::Up, bytes, random)?;
        let down = self.pass(Direction::Down, bytes, random)?;
        Ok([up, down])
    }

    /// Ends both directions in order.
    ///
    /// # Errors
    /// When something was left to read.
    pub fn end(mut self) -> Result<()> {
        stream::half_close(&self.dialer)?;
        stream::half_close(&self.listener)?;
        for end in [&mut self.dialer, &mut self.listener] {
            let rest = stream::read_to_end(end)?;
            ensure!(rest.is_empty(), "{} bytes too many", rest.len());
        }
        Ok(())
    }
}

type Sum = [u8; 32];

fn pour(mut to: &TcpStream, mut noise: Vec<u8>, bytes: u64) -> Result<Sum> {
    let mut sum = Sha256::new();
    let mut left = bytes;
    let mut number = 0_u64;
    while left > 0 {
        noise[..8].copy_from_slice(&number.to_be_bytes());
        number += 1;
        let length = usize::try_from(left)
            .unwrap_or(noise.len())
            .min(noise.len());
        let piece = &noise[..length];
        to.write_all(piece)
            .with_context(|| format!("{left} of {bytes} bytes left"))?;
        sum.update(piece);
        left -= length as u64;
    }
    Ok(sum.finalize().into())
}

fn drain(mut from: &TcpStream, bytes: u64) -> Result<Sum> {
    let mut sum = Sha256::new();
    let mut left = bytes;
    let mut buffer = vec![0; PIECE_BYTES];
    while left > 0 {
        let most = usize::try_from(left)
            .unwrap_or(PIECE_BYTES)
            .min(PIECE_BYTES);
        let length = from
            .read(&mut buffer[..most])
            .with_context(|| format!("{left} of {bytes} bytes left"))?;
        ensure!(length > 0, "ended {left} bytes early");
        sum.update(&buffer[..length]);
        left -= length as u64;
    }
    Ok(sum.finalize().into())
}
