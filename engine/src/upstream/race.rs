//! Connects to the first of several addresses of one target that takes it (RFC 8305 section 5).

use std::{
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    os::fd::AsFd,
    pin::Pin,
    task::Poll,
    time::{Duration, Instant},
};

use engine_sys::{netns::Netns, socket, socket::Liveness};

use crate::rt::{self, Readiness};

/// How long an address is given before the next one is tried beside it.
const NEXT_AFTER: Duration = Duration::from_millis(250);

/// Starts to connect to an address, from inside a namespace.
///
/// # Errors
/// Those that are known at once.
pub(crate) fn start(
    netns: &Netns,
    address: SocketAddr,
    liveness: Liveness,
) -> io::Result<Readiness> {
    let socket = netns.enter(|| socket::dialer(address, liveness))?;
    socket::connect(socket.as_fd(), address)?;
    Readiness::new(socket)
}

/// A connection that is being made.
type Attempt = Pin<Box<dyn Future<Output = io::Result<(Readiness, SocketAddr)>>>>;

/// Connects to whichever address takes it first. They are tried in their order: the next one when the one
/// before fails, or has not answered for a while. All others are given up then.
///
/// # Errors
/// What the last one failed with; `TimedOut` at the deadline; `NotFound` without any address.
pub(crate) async fn race(
    netns: &Netns,
    addresses: &[SocketAddr],
    liveness: Liveness,
    deadline: Instant,
) -> io::Result<(Readiness, SocketAddr)> {
    let mut running: Vec<Attempt> = Vec::new();
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    let mut left = addresses.iter().copied();
    loop {
        if let Some(address) = left.next() {
            match start(netns, address, liveness) {
                Ok(socket) => running.push(Box::pin(connected(socket, address))),
                Err(error) => {
                    failure = error;
                    continue;
                }
            }
        }
        if running.is_empty() {
            return Err(failure);
        }
        let until = match left.len() {
            0 => deadline,
            _ => deadline.min(Instant::now() + NEXT_AFTER),
        };
        match rt::until(until, first(&mut running)).await {
            Ok(Ok(won)) => return Ok(won),
            Ok(Err(error)) => failure = error,
            Err(_) if Instant::now() >= deadline => return Err(io::ErrorKind::TimedOut.into()),
            Err(_) => {}
        }
    }
}

async fn connected(socket: Readiness, address: SocketAddr) -> io::Result<(Readiness, SocketAddr)> {
    socket.writable().await?;
    socket::take_error(socket.as_fd())?;
    Ok((socket, address))
}

/// The end of whichever comes first; it is no longer among them then.
async fn first(running: &mut Vec<Attempt>) -> io::Result<(Readiness, SocketAddr)> {
    poll_fn(|cx| {
        for place in 0..running.len() {
            if let Poll::Ready(ended) = running[place].as_mut().poll(cx) {
                drop(running.swap_remove(place));
                return Poll::Ready(ended);
            }
        }
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::rt::Driver;

    const LIVENESS: Liveness = Liveness {
        keep_alive: Duration::from_secs(60),
        user_timeout: Duration::from_secs(60),
    };

    fn raced(addresses: &[SocketAddr], within: Duration) -> io::Result<SocketAddr> {
        rt::run(Driver::Epoll, async {
            let netns = Netns::current()?;
            let raced = race(&netns, addresses, LIVENESS, Instant::now() + within).await;
            raced.map(|(_, address)| address)
        })
        .unwrap()
    }

    /// A listener whose queue is full: it neither takes connections nor refuses them.
    fn silent() -> (TcpListener, Vec<std::net::TcpStream>) {
        let listener = socket::listen(
            "127.0.0.1:0".parse().unwrap(),
            socket::Listen {
                backlog: 0,
                client_first: false,
                liveness: LIVENESS,
            },
        );
        let listener = TcpListener::from(listener.unwrap());
        let address = listener.local_addr().unwrap();
        let short = Duration::from_millis(200);
        let mut queued = Vec::new();
        while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, short) {
            queued.push(stream);
        }
        (listener, queued)
    }

    fn refusing() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    }

    #[test]
    fn a_refusal_is_followed_by_the_next_address_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let began = Instant::now();
        let addresses = [refusing(), refusing(), address];
        assert_eq!(raced(&addresses, Duration::from_secs(5)).unwrap(), address);
        assert!(began.elapsed() < NEXT_AFTER, "{:?}", began.elapsed());
    }

    #[test]
    fn silence_is_followed_by_the_next_address_after_a_while() {
        let (silent, _queued) = silent();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let addresses = [silent.local_addr().unwrap(), address];
        let began = Instant::now();
        assert_eq!(raced(&addresses, Duration::from_secs(5)).unwrap(), address);
        assert!(began.elapsed() >= NEXT_AFTER, "{:?}", began.elapsed());
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
    }

    #[test]
    fn when_none_takes_it_the_last_failure_is_told_and_the_deadline_holds() {
        let error = raced(&[refusing()], Duration::from_secs(5)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(
            raced(&[], Duration::from_secs(5)).unwrap_err().kind(),
            io::ErrorKind::NotFound
        );
        let (silent, _queued) = silent();
        let began = Instant::now();
        let address = silent.local_addr().unwrap();
        let error = raced(&[address], Duration::from_millis(300)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
    }
}
