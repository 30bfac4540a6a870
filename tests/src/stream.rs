//! TCP as the peers of a gateway use and abuse it.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
    sync::Arc,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::{
    libc,
    sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect as connect_socket,
        setsockopt, socket, sockopt,
    },
};

use crate::{random::Random, wait::PATIENCE};

/// Connects; every later read and write gives up after [`PATIENCE`].
///
/// # Errors
/// When nobody answers.
pub fn connect(to: SocketAddr) -> Result<TcpStream> {
    let any = match to {
        SocketAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        SocketAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
    };
    connect_from(any, to)
}

/// [`connect`] from an address of this machine. All of `127.0.0.0/8` is.
///
/// # Errors
/// When nobody answers, or the address is not this machine's.
pub fn connect_from(source: IpAddr, to: SocketAddr) -> Result<TcpStream> {
    let family = if to.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(
        socket.as_raw_fd(),
        &SockaddrStorage::from(SocketAddr::new(source, 0)),
    )
    .with_context(|| format!("binding to {source}"))?;
    connect_socket(socket.as_raw_fd(), &SockaddrStorage::from(to))
        .with_context(|| format!("connecting to {to}"))?;
    let stream = TcpStream::from(socket);
    // A socket that happens to be at the port that it connects to is answered by itself (RFC 9293
    // section 3.5, simultaneous open), and would keep the port from whoever is to listen there.
    ensure!(stream.local_addr()? != to, "nobody listens at {to}");
    patient(&stream)?;
    Ok(stream)
}

/// Bounds every read and write of a stream.
///
/// # Errors
/// When the socket is not one.
pub fn patient(stream: &TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(())
}

/// Ends a connection with a reset in place of an orderly end (`SO_LINGER` of 0, socket(7)).
///
/// # Errors
/// When the socket is not one.
pub fn reset(stream: TcpStream) -> Result<()> {
    let now = libc::linger {
        l_onoff: 1,
        l_linger: 0,
    };
    setsockopt(&stream, sockopt::Linger, &now)?;
    drop(stream);
    Ok(())
}

/// Reads to the end, which must be an orderly one.
///
/// # Errors
/// When it was reset, or did not end.
pub fn read_to_end(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    stream
        .read_to_end(&mut bytes)
        .context("reading to the end")?;
    Ok(bytes)
}

/// Reads until the peer's reset comes, and answers how many bytes came before.
///
/// # Errors
/// When the end is an orderly one, or none comes.
pub fn read_to_reset(stream: &mut TcpStream) -> Result<u64> {
    let mut buffer = vec![0; 64 * 1024];
    let mut count = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => bail!("ended in order where a reset was due"),
            Ok(length) => count += length as u64,
            Err(error) if is_reset(&error) => return Ok(count),
            Err(error) => return Err(error).context("waiting for a reset"),
        }
    }
}

/// Reads until the connection ends in any way, and answers how many bytes came before.
///
/// # Errors
/// When it does not end.
pub fn read_to_any_end(stream: &mut TcpStream) -> Result<u64> {
    let mut buffer = vec![0; 64 * 1024];
    let mut count = 0;
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(count),
            Ok(length) => count += length as u64,
            Err(error) if is_reset(&error) => return Ok(count),
            Err(error) => return Err(error).context("waiting for the end"),
        }
    }
}

/// Reads exactly that many bytes and forgets them.
///
/// # Errors
/// When there are fewer.
pub fn skip(stream: &mut TcpStream, count: usize) -> Result<()> {
    let mut buffer = vec![0; count.min(64 * 1024)];
    let mut left = count;
    while left > 0 {
        let length = left.min(buffer.len());
        stream
            .read_exact(&mut buffer[..length])
            .context("skipping bytes")?;
        left -= length;
    }
    Ok(())
}

/// Whether an error says that the peer is gone.
pub fn is_reset(error: &io::Error) -> bool {
    [io::ErrorKind::ConnectionReset, io::ErrorKind::BrokenPipe].contains(&error.kind())
}

/// Ends what this side sends; the other side may go on.
///
/// # Errors
/// When the connection is gone already.
pub fn half_close(stream: &TcpStream) -> Result<()> {
    stream.shutdown(Shutdown::Write).context("half-closing")
}

/// Bytes that tell where in the flow they belong: the receiver knows at each position what must
/// come, so a lost, doubled, swapped or foreign piece is seen where it happens.
#[derive(Clone, Debug)]
pub struct Pattern {
    /// A prime number of random bytes, over and over: no piece that a relay moves (a power of two)
    /// is a multiple of the period. Two periods, so that any start has a whole one after it.
    twice: Arc<[u8]>,
}

/// The period of a [`Pattern`]: the largest prime number under 1 MiB.
const PERIOD: usize = 1_048_573;

impl Pattern {
    /// Another pattern for each seed.
    pub fn new(random: &mut Random) -> Self {
        let mut bytes = random.bytes(PERIOD);
        bytes.extend_from_within(..);
        Self {
            twice: bytes.into(),
        }
    }

    /// The `length` bytes from `position` on, at most a period.
    pub fn at(&self, position: u64, length: usize) -> &[u8] {
        let start = usize::try_from(position % PERIOD as u64).unwrap_or(0);
        &self.twice[start..start + length.min(PERIOD)]
    }

    /// Writes the bytes from `position` to `end`, in pieces of at most `piece`.
    ///
    /// # Errors
    /// The writer's.
    pub fn send(&self, to: &mut TcpStream, end: u64, piece: usize) -> io::Result<()> {
        let mut position = 0;
        while position < end {
            let length = usize::try_from(end - position).unwrap_or(piece).min(piece);
            let bytes = self.at(position, length);
            to.write_all(bytes)?;
            position += bytes.len() as u64;
        }
        Ok(())
    }

    /// Compares bytes with what must be at that position.
    ///
    /// # Errors
    /// Says where the first wrong byte is.
    pub fn check(&self, position: u64, bytes: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let expected = self.at(position + done as u64, bytes.len() - done);
            let found = &bytes[done..done + expected.len()];
            if found != expected {
                let wrong = found
                    .iter()
                    .zip(expected)
                    .position(|(a, b)| a != b)
                    .unwrap_or(0);
                bail!("the byte at {} is wrong", position + (done + wrong) as u64);
            }
            done += expected.len();
        }
        Ok(())
    }

    /// Reads to the orderly end, checking every byte, and answers how many came. `pause` is called
    /// before each read with the position: a slow reader waits there.
    ///
    /// # Errors
    /// At the first wrong byte, and when the end is not in order.
    pub fn receive(&self, from: &mut TcpStream, mut pause: impl FnMut(u64)) -> Result<u64> {
        let mut buffer = vec![0; 256 * 1024];
        let mut position = 0;
        loop {
            pause(position);
            let length = from
                .read(&mut buffer)
                .with_context(|| format!("reading at {position}"))?;
            if length == 0 {
                return Ok(position);
            }
            self.check(position, &buffer[..length])?;
            position += length as u64;
        }
    }
}

/// Reads exactly those bytes.
///
/// # Errors
/// When others come.
pub fn expect(stream: &mut TcpStream, bytes: &[u8]) -> Result<()> {
    let mut found = vec![0; bytes.len()];
    stream
        .read_exact(&mut found)
        .context("reading what was expected")?;
    ensure!(found == bytes, "other bytes came than expected");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_sees_a_wrong_byte_and_a_piece_in_the_wrong_place() {
        let pattern = Pattern::new(&mut Random::seeded(1));
        let start = PERIOD as u64 * 3 - 100;
        let mut piece = [pattern.at(start, 64), pattern.at(start + 64, 200)].concat();
        pattern.check(start, &piece).unwrap();
        assert!(pattern.check(start + 65_536, &piece).is_err());
        piece[200] ^= 1;
        let error = pattern.check(start, &piece).unwrap_err().to_string();
        assert_eq!(error, format!("the byte at {} is wrong", start + 200));
        let other = Pattern::new(&mut Random::seeded(2));
        assert!(other.check(start, &piece).is_err());
    }
}
