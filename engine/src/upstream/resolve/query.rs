//! Asks the name servers of a network, from inside its namespace.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::AsFd,
    pin::pin,
    time::{Duration, Instant},
};

use engine_core::{endpoint::Unresolved, hostname::Hostname};
use engine_sys::{netns::Netns, socket, socket::Liveness};
use futures::future::{Either, select};

use crate::{
    context::rng::Rng,
    rt::{self, Readiness},
    upstream::resolve::message::{self, Answer, Family},
};

/// Most name servers of a network that are asked: the first ones.
const SERVERS_MAX: usize = 3;

/// How long a server may take, the first time that it is asked and the second time.
const PATIENCE: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// How long a lookup may take, whatever the servers do.
const LOOKUP_WITHIN: Duration = Duration::from_secs(5);

/// How long the addresses of one family are waited for when those of the other are there (RFC 8305 section
/// 3 has 50 ms between a client and a server nearby; a name is looked up once for many connections).
const OTHER_FAMILY_WITHIN: Duration = Duration::from_millis(250);

/// Datagrams of others that are passed over for one question.
const STRAY_MAX: usize = 32;

/// Longest datagram of an answer without extensions (RFC 1035 section 4.2.1); longer ones of servers that
/// do not care are read as well.
const DATAGRAM_BYTES: usize = 4096;

/// Asks for the addresses of names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Query<'a> {
    pub(super) rng: &'a Rng,
    pub(super) netns: &'a Netns,
    /// At least one.
    pub(super) servers: &'a [SocketAddr],
    pub(super) liveness: Liveness,
}

/// What the servers say of a name, in both families.
pub(super) type Said = Result<(Vec<IpAddr>, Duration), (Unresolved, Duration)>;

impl Query<'_> {
    /// The addresses of a name, and how long they count; or why there are none, and how long that counts.
    pub(super) async fn look_up(&self, host: &Hostname) -> Said {
        let asked = self.both_families(host);
        let said = rt::until(Instant::now() + LOOKUP_WITHIN, asked).await;
        said.unwrap_or(Err((Unresolved::Unanswered, Duration::ZERO)))
    }

    async fn both_families(&self, host: &Hostname) -> Said {
        let four = pin!(self.ask(host, Family::V4));
        let six = pin!(self.ask(host, Family::V6));
        match select(four, six).await {
            Either::Left((first, other)) => {
                let other = rest(&first, other).await;
                merge(first, other)
            }
            Either::Right((first, other)) => {
                let other = rest(&first, other).await;
                merge(first, other)
            }
        }
    }

    /// Asks one server after the other until one answers.
    async fn ask(&self, host: &Hostname, family: Family) -> Option<Answer> {
        for patience in PATIENCE {
            for &server in self.servers.iter().take(SERVERS_MAX) {
                let deadline = Instant::now() + patience;
                let asked = rt::until(deadline, self.ask_one(server, host, family)).await;
                if let Ok(Ok(answer @ (Answer::Addresses { .. } | Answer::Nothing { .. }))) = asked
                {
                    return Some(answer);
                }
            }
        }
        None
    }

    async fn ask_one(
        &self,
        server: SocketAddr,
        host: &Hostname,
        family: Family,
    ) -> io::Result<Answer> {
        let id = u16::try_from(self.rng.draw() >> 48).unwrap_or(0);
        let question = message::question(id, host, family).ok_or(io::ErrorKind::InvalidInput)?;
        let read = |bytes: &[u8]| message::read(bytes, id, host, family);
        let answer = self.ask_by_datagram(server, &question, &read).await?;
        if answer == Answer::Truncated {
            return self.ask_by_stream(server, &question, &read).await;
        }
        Ok(answer)
    }

    async fn ask_by_datagram(
        &self,
        server: SocketAddr,
        question: &[u8],
        read: &dyn Fn(&[u8]) -> Option<Answer>,
    ) -> io::Result<Answer> {
        let socket = Readiness::new(self.netns.enter(|| socket::asker(server))?)?;
        socket::send(socket.as_fd(), question)?;
        let mut bytes = vec![0; DATAGRAM_BYTES];
        for _ in 0..STRAY_MAX {
            let count = recv(&socket, &mut bytes).await?;
            if let Some(answer) = read(&bytes[..count]) {
                return Ok(answer);
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }

    /// Over TCP, a message has its length in front (RFC 1035 section 4.2.2).
    async fn ask_by_stream(
        &self,
        server: SocketAddr,
        question: &[u8],
        read: &dyn Fn(&[u8]) -> Option<Answer>,
    ) -> io::Result<Answer> {
        let dialer = || socket::dialer(server, self.liveness);
        let socket = Readiness::new(self.netns.enter(dialer)?)?;
        socket::connect(socket.as_fd(), server)?;
        socket.writable().await?;
        socket::take_error(socket.as_fd())?;
        let length = u16::try_from(question.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        let framed = [&length.to_be_bytes(), question].concat();
        // A new connection has room for a question.
        if socket::send(socket.as_fd(), &framed)? != framed.len() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        let mut length = [0; 2];
        recv_all(&socket, &mut length).await?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        recv_all(&socket, &mut answer).await?;
        match read(&answer) {
            None | Some(Answer::Truncated) => Err(io::ErrorKind::InvalidData.into()),
            Some(answer) => Ok(answer),
        }
    }
}

/// The answer of the other family: waited for only a while where the first is worth something.
async fn rest(
    first: &Option<Answer>,
    other: impl Future<Output = Option<Answer>>,
) -> Option<Answer> {
    if let Some(Answer::Addresses { .. }) = first {
        let deadline = Instant::now() + OTHER_FAMILY_WITHIN;
        return rt::until(deadline, other).await.unwrap_or_default();
    }
    other.await
}

/// What the answers of both families come to. A family that nobody answers for makes the other one's
/// "there is nothing" no answer, because there may be addresses.
fn merge(first: Option<Answer>, other: Option<Answer>) -> Said {
    let (mut all, mut shortest) = (Vec::new(), Duration::MAX);
    let (mut negative, mut unanswered) = (Duration::MAX, false);
    for answer in [first, other] {
        match answer {
            Some(Answer::Addresses { addresses, ttl }) => {
                all.extend(addresses);
                shortest = shortest.min(ttl);
            }
            Some(Answer::Nothing { ttl }) => negative = negative.min(ttl),
            Some(Answer::Truncated | Answer::Failed) | None => unanswered = true,
        }
    }
    match (all.is_empty(), unanswered) {
        (false, _) => Ok((all, shortest)),
        (true, true) => Err((Unresolved::Unanswered, Duration::ZERO)),
        (true, false) => Err((Unresolved::Unknown, negative)),
    }
}

async fn recv(socket: &Readiness, into: &mut [u8]) -> io::Result<usize> {
    loop {
        socket.readable().await?;
        match socket::recv(socket.as_fd(), into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            received => return received,
        }
    }
}

async fn recv_all(socket: &Readiness, mut into: &mut [u8]) -> io::Result<()> {
    while !into.is_empty() {
        match recv(socket, into).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => into = &mut into[count..],
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(last: u8, ttl: u64) -> Option<Answer> {
        Some(Answer::Addresses {
            addresses: vec![[10, 0, 0, last].into()],
            ttl: Duration::from_secs(ttl),
        })
    }

    fn nothing(ttl: u64) -> Option<Answer> {
        let ttl = Duration::from_secs(ttl);
        Some(Answer::Nothing { ttl })
    }

    #[test]
    fn one_family_is_enough_and_both_count_for_the_shorter_time() {
        let one: IpAddr = [10, 0, 0, 1].into();
        let two: IpAddr = [10, 0, 0, 2].into();
        let seconds = Duration::from_secs;
        assert_eq!(
            merge(addresses(1, 30), addresses(2, 20)),
            Ok((vec![one, two], seconds(20)))
        );
        assert_eq!(
            merge(addresses(1, 30), nothing(5)),
            Ok((vec![one], seconds(30)))
        );
        assert_eq!(merge(None, addresses(2, 20)), Ok((vec![two], seconds(20))));
    }

    #[test]
    fn a_name_is_unknown_only_where_both_families_are() {
        let unknown = Err((Unresolved::Unknown, Duration::from_secs(5)));
        assert_eq!(merge(nothing(9), nothing(5)), unknown);
        let unanswered = Err((Unresolved::Unanswered, Duration::ZERO));
        for other in [None, Some(Answer::Failed)] {
            assert_eq!(merge(nothing(9), other), unanswered);
        }
    }
}
