//! The network between a peer and its gateway, where a test wants it to be worse than a cable: a
//! relay of datagrams that loses, doubles and swaps them, and keeps copies.
//!
//! ```text
//!   peer ──► Underlay ──► gateway
//!            0.0.0.0:port, for one peer, whoever spoke last
//! ```

use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result};
use nix::sys::socket::{setsockopt, sockopt};

use crate::random::Random;

/// What happens on the way, each to so many of a thousand datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// Never arrive.
    pub lost: u64,
    /// Arrive twice.
    pub doubled: u64,
    /// Arrive after the one behind them.
    pub swapped: u64,
}

/// Copies that are kept of what went to the gateway: the youngest ones.
const COPIES_MAX: usize = 4_096;
/// How long a datagram that is to be swapped waits for the next one; and how soon a relay sees that
/// it is to end.
const TICK: Duration = Duration::from_millis(5);
/// Room for what comes in one burst.
const BUFFER_BYTES: usize = 4 << 20;

/// A relay in front of a gateway. It ends when dropped.
#[derive(Debug)]
pub struct Underlay {
    /// Where the peer finds it.
    pub port: u16,
    shared: Arc<Shared>,
    relays: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    peer: Mutex<Option<SocketAddr>>,
    copies: Mutex<VecDeque<Vec<u8>>>,
    ended: AtomicBool,
}

impl Underlay {
    /// Listens in the lab's own namespace, and leads to the gateway there.
    ///
    /// # Errors
    /// When no port or thread is left.
    pub fn before(gateway_port: u16, weather: Weather, random: &mut Random) -> Result<Self> {
        let (front, back) = (open()?, open()?);
        back.connect((Ipv4Addr::LOCALHOST, gateway_port))?;
        let port = front.local_addr()?.port();
        let shared = Arc::new(Shared::default());
        let up = {
            let (shared, back) = (shared.clone(), back.try_clone()?);
            move |datagram: &[u8]| {
                keep(&mut lock(&shared.copies), datagram);
                back.send(datagram).map(drop)
            }
        };
        let down = {
            let (shared, front) = (shared.clone(), front.try_clone()?);
            move |datagram: &[u8]| match *lock(&shared.peer) {
                Some(peer) => front.send_to(datagram, peer).map(drop),
                None => Ok(()),
            }
        };
        let relays = vec![
            relay(front, &shared, Mixer::new(weather, random, up))?,
            relay(back, &shared, Mixer::new(weather, random, down))?,
        ];
        Ok(Self {
            port,
            shared,
            relays,
        })
    }

    /// The last messages that went to the gateway, oldest first.
    pub fn copies(&self) -> Vec<Vec<u8>> {
        lock(&self.shared.copies).iter().cloned().collect()
    }
}

impl Drop for Underlay {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        for relay in self.relays.drain(..) {
            // One that panicked is done as well.
            let _ = relay.join();
        }
    }
}

fn open() -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES)?;
    socket.set_read_timeout(Some(TICK))?;
    Ok(socket)
}

fn keep(copies: &mut VecDeque<Vec<u8>>, datagram: &[u8]) {
    if copies.len() == COPIES_MAX {
        copies.pop_front();
    }
    copies.push_back(datagram.to_vec());
}

fn relay(
    from: UdpSocket,
    shared: &Arc<Shared>,
    mut mixer: Mixer<impl FnMut(&[u8]) -> io::Result<()> + Send + 'static>,
) -> Result<JoinHandle<()>> {
    let shared = shared.clone();
    let is_front = from.peer_addr().is_err();
    let work = move || {
        let mut buffer = vec![0; 65_536];
        while !shared.ended.load(Ordering::Relaxed) {
            match from.recv_from(&mut buffer) {
                Ok((length, sender)) => {
                    if is_front {
                        *lock(&shared.peer) = Some(sender);
                    }
                    mixer.take(&buffer[..length]);
                }
                // The timeout; or a port that was closed, which is told once.
                Err(_) => mixer.flush(),
            }
        }
    };
    let builder = thread::Builder::new().name("underlay".into());
    builder.spawn(work).context("starting a relay")
}

/// Does to datagrams what the weather is.
struct Mixer<S> {
    weather: Weather,
    random: Random,
    held: Option<Vec<u8>>,
    send: S,
}

impl<S: FnMut(&[u8]) -> io::Result<()>> Mixer<S> {
    fn new(weather: Weather, random: &mut Random, send: S) -> Self {
        Self {
            weather,
            random: random.fork(),
            held: None,
            send,
        }
    }

    fn take(&mut self, datagram: &[u8]) {
        if self.happens(self.weather.lost) {
            return;
        }
        if self.held.is_none() && self.happens(self.weather.swapped) {
            self.held = Some(datagram.to_vec());
            return;
        }
        self.pass(datagram);
        if self.happens(self.weather.doubled) {
            self.pass(datagram);
        }
        self.flush();
    }

    fn flush(&mut self) {
        if let Some(held) = self.held.take() {
            self.pass(&held);
        }
    }

    /// What is refused is lost, as anything may be here.
    fn pass(&mut self, datagram: &[u8]) {
        let _ = (self.send)(datagram);
    }

    fn happens(&mut self, of_a_thousand: u64) -> bool {
        of_a_thousand > 0 && self.random.below(1_000) < of_a_thousand
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weather_happens_as_often_as_it_is_said_to() {
        let weather = Weather {
            lost: 100,
            doubled: 50,
            swapped: 200,
        };
        let mut arrived = Vec::new();
        let send = |datagram: &[u8]| {
            arrived.push(u32::from_be_bytes(datagram.try_into().unwrap()));
            Ok(())
        };
        let mut mixer = Mixer::new(weather, &mut Random::seeded(7), send);
        for number in 0..10_000_u32 {
            mixer.take(&number.to_be_bytes());
        }
        mixer.flush();
        let swapped = arrived.windows(2).filter(|pair| pair[0] > pair[1]).count();
        let doubled = arrived.windows(2).filter(|pair| pair[0] == pair[1]).count();
        let mut once = arrived.clone();
        once.sort_unstable();
        once.dedup();
        assert!((8_800..9_200).contains(&once.len()), "{}", once.len());
        assert!((1_200..1_900).contains(&swapped), "{swapped}");
        assert!((300..600).contains(&doubled), "{doubled}");
    }
}
