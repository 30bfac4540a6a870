//! Blocking netlink sockets (netlink(7)), one dump at a time by construction.

use std::{io, time::Duration};

use engine_sys::netns::Netns;
use netlink_packet_core::{
    DecodeError, ErrorMessage, NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_DUMP, NLM_F_DUMP_INTR,
    NLM_F_REQUEST, NetlinkBuffer, NetlinkDeserializable, NetlinkMessage, NetlinkPayload,
    NetlinkSerializable, NlasIterator,
};
use netlink_sys::{SocketAddr, protocols};
use nix::{
    errno::Errno,
    sys::{
        socket::{setsockopt, sockopt},
        time::{TimeVal, TimeValLike as _},
    },
};

/// The kernel answers on the caller's thread: only a lock that is never let go takes this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// More than the kernel puts into one part of a dump (32 KiB, `netlink_dump` in
/// `net/netlink/af_netlink.c`) and more than any single answer that is asked for here.
const RECEIVE_BYTES: usize = 64 * 1024;

/// How often a dump is begun again because what it shows changed meanwhile.
const DUMPS_MAX: usize = 8;

/// Length of a message's own header, `struct nlmsghdr`.
const HEADER_BYTES: usize = 16;

/// Where its `nlmsg_seq` is.
const SEQUENCE: std::ops::Range<usize> = 8..12;

/// The text of an extended acknowledgement (`NLMSGERR_ATTR_MSG` in `linux/netlink.h`).
const ATTRIBUTE_MESSAGE: u16 = 1;

/// Which part of the kernel a socket talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// Links, addresses and routes: rtnetlink(7).
    Route,
    /// nftables.
    Netfilter,
    /// Families that are looked up by name, such as WireGuard's.
    Generic,
}

impl Family {
    pub(crate) fn protocol(self) -> isize {
        match self {
            Self::Route => protocols::NETLINK_ROUTE,
            Self::Netfilter => protocols::NETLINK_NETFILTER,
            Self::Generic => protocols::NETLINK_GENERIC,
        }
    }
}

/// Why the kernel did not do, or did not show, what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket inside the namespace.
    #[error("opening a netlink socket in the namespace")]
    Open(#[source] io::Error),
    /// The request did not leave.
    #[error("asking the kernel")]
    Send(#[source] io::Error),
    /// No answer came.
    #[error("waiting for the kernel's answer")]
    Receive(#[source] io::Error),
    /// The kernel said no.
    #[error("the kernel refused{}", Remark(.remark))]
    Refused {
        /// What the kernel added to the error number, such as the attribute that it did not like.
        remark: String,
        /// The error number.
        source: io::Error,
    },
    /// The answer makes no sense.
    #[error("reading the kernel's answer")]
    Malformed(#[source] DecodeError),
    /// What was to be listed did not hold still.
    #[error("what the kernel lists changed {DUMPS_MAX} times while it was read")]
    Changing,
}

struct Remark<'a>(&'a str);

impl std::fmt::Display for Remark<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        write!(f, " ({})", self.0)
    }
}

impl NetlinkError {
    /// The kernel's error number, where it gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Open(source)
            | Self::Send(source)
            | Self::Receive(source)
            | Self::Refused { source, .. } => source.raw_os_error().map(Errno::from_raw),
            Self::Malformed(_) | Self::Changing => None,
        }
    }

    fn refused(message: &ErrorMessage, flags: u16) -> Self {
        Self::Refused {
            remark: remark(message, flags).unwrap_or_default(),
            source: message.to_io(),
        }
    }
}

/// The sentence of an extended acknowledgement. With `NETLINK_CAP_ACK` the request's own header is
/// all that stands before it.
fn remark(message: &ErrorMessage, flags: u16) -> Option<String> {
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let attributes = message.header.get(HEADER_BYTES..)?;
    let mut attributes = NlasIterator::new(attributes).flatten();
    let text = attributes.find(|attribute| attribute.kind() == ATTRIBUTE_MESSAGE)?;
    let text = String::from_utf8_lossy(text.value());
    Some(text.trim_end_matches('\0').to_owned())
}

/// A netlink socket of one namespace: it stays there, whatever thread uses it.
#[derive(Debug)]
pub(crate) struct Socket {
    socket: netlink_sys::Socket,
    sequence: u32,
}

impl Socket {
    /// Opens a socket of each family inside the namespace, all on one short-lived thread.
    pub(crate) fn open<const N: usize>(
        netns: &Netns,
        families: [Family; N],
    ) -> Result<[Self; N], NetlinkError> {
        let opened = netns.run(|| families.into_iter().map(Self::open_here).collect());
        let opened: Vec<Self> = opened.map_err(NetlinkError::Open)?;
        // As many as families: the array is full.
        opened.try_into().map_err(|_| {
            NetlinkError::Open(io::Error::other("not as many sockets as were asked for"))
        })
    }

    fn open_here(family: Family) -> io::Result<Self> {
        let mut socket = netlink_sys::Socket::new(family.protocol())?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        if family == Family::Route {
            // The kernel then filters dumps by what the request says.
            socket.set_netlink_get_strict_chk(true)?;
        }
        let patience = TimeVal::seconds(PATIENCE.as_secs().try_into().unwrap_or(i64::MAX));
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
        Ok(Self {
            socket,
            sequence: 0,
        })
    }

    /// Asks for a change, and waits until it happened.
    pub(crate) fn change<M>(&mut self, request: M, flags: u16) -> Result<(), NetlinkError>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        self.exchange(request, flags | NLM_F_ACK, |_: M| {})?;
        Ok(())
    }

    /// Asks for one thing.
    pub(crate) fn get<M>(&mut self, request: M) -> Result<Option<M>, NetlinkError>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        let mut answer = None;
        self.exchange(request, NLM_F_ACK, |message| answer = Some(message))?;
        Ok(answer)
    }

    /// Asks for a list, as it was at one moment.
    pub(crate) fn dump<M>(&mut self, request: M) -> Result<Vec<M>, NetlinkError>
    where
        M: NetlinkSerializable + NetlinkDeserializable + Clone,
    {
        for _ in 0..DUMPS_MAX {
            let mut answers = Vec::new();
            let whole = self.exchange(request.clone(), NLM_F_DUMP, |message| {
                answers.push(message);
            })?;
            if whole {
                return Ok(answers);
            }
        }
        Err(NetlinkError::Changing)
    }

    /// Sends one request and hands over what comes, until the kernel says that it is done. Answers
    /// whether nothing changed meanwhile.
    fn exchange<M>(
        &mut self,
        request: M,
        flags: u16,
        mut on: impl FnMut(M),
    ) -> Result<bool, NetlinkError>
    where
        M: NetlinkSerializable + NetlinkDeserializable,
    {
        let sequence = self.next_sequence();
        self.send(&encode(request, flags, sequence))?;
        let mut is_whole = true;
        let mut received = Vec::with_capacity(RECEIVE_BYTES);
        loop {
            self.receive(&mut received)?;
            for bytes in split(&received) {
                let message =
                    NetlinkMessage::<M>::deserialize(bytes).map_err(NetlinkError::Malformed)?;
                let (header, payload) = message.into_parts();
                if header.sequence_number != sequence {
                    // Left over from a request that nobody waited for any longer.
                    continue;
                }
                is_whole &= header.flags & NLM_F_DUMP_INTR == 0;
                if let NetlinkPayload::InnerMessage(message) = payload {
                    on(message);
                } else if let NetlinkPayload::Error(error) = payload {
                    return match error.code {
                        None => Ok(is_whole),
                        Some(_) => Err(NetlinkError::refused(&error, header.flags)),
                    };
                } else if let NetlinkPayload::Done(done) = payload {
                    return match done.code {
                        0 => Ok(is_whole),
                        code => Err(NetlinkError::Refused {
                            remark: String::new(),
                            source: io::Error::from_raw_os_error(code.saturating_abs()),
                        }),
                    };
                }
            }
        }
    }

    /// Sends several messages at once, as [`encode`] makes them, and waits for the acknowledgement
    /// of the last one that asks for it. The first refusal is the answer.
    pub(crate) fn batch(
        &mut self,
        mut messages: Vec<Vec<u8>>,
        acknowledged: usize,
    ) -> Result<(), NetlinkError> {
        let first = self.sequence.wrapping_add(1);
        for message in &mut messages {
            let sequence = self.next_sequence();
            if let Some(field) = message.get_mut(SEQUENCE) {
                field.copy_from_slice(&sequence.to_ne_bytes());
            }
        }
        self.send(&messages.concat())?;
        let mut received = Vec::with_capacity(RECEIVE_BYTES);
        loop {
            self.receive(&mut received)?;
            for bytes in split(&received) {
                let message = NetlinkMessage::<Uninteresting>::deserialize(bytes);
                let (header, payload) = message.map_err(NetlinkError::Malformed)?.into_parts();
                let NetlinkPayload::Error(error) = payload else {
                    continue;
                };
                let place = header.sequence_number.wrapping_sub(first);
                let place = usize::try_from(place).unwrap_or(usize::MAX);
                if place < messages.len() && error.code.is_some() {
                    return Err(NetlinkError::refused(&error, header.flags));
                }
                if place == acknowledged {
                    return Ok(());
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), NetlinkError> {
        let sent = self.socket.send(bytes, 0);
        sent.map(|_| ()).map_err(NetlinkError::Send)
    }

    fn receive(&self, into: &mut Vec<u8>) -> Result<(), NetlinkError> {
        loop {
            into.clear();
            match self.socket.recv(into, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(NetlinkError::Receive(error)),
            }
        }
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }
}

/// A message as it goes over the socket.
pub(crate) fn encode<M: NetlinkSerializable>(request: M, flags: u16, sequence: u32) -> Vec<u8> {
    let mut message = NetlinkMessage::new(
        netlink_packet_core::NetlinkHeader::default(),
        NetlinkPayload::InnerMessage(request),
    );
    message.header.flags = flags | NLM_F_REQUEST;
    message.header.sequence_number = sequence;
    message.finalize();
    // Messages follow each other at multiples of four bytes (netlink(7), NLMSG_ALIGN).
    let mut bytes = vec![0; message.buffer_len().next_multiple_of(4)];
    message.serialize(&mut bytes);
    bytes
}

/// The messages of one datagram.
pub(crate) fn split(mut datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = NetlinkBuffer::new_checked(datagram).ok()?.length();
        let length = usize::try_from(length).ok()?;
        let message = datagram.get(..length)?;
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(message)
    })
}

/// A message whose contents do not matter.
#[derive(Debug)]
struct Uninteresting;

impl NetlinkDeserializable for Uninteresting {
    type Error = DecodeError;

    fn deserialize(_: &netlink_packet_core::NetlinkHeader, _: &[u8]) -> Result<Self, Self::Error> {
        Ok(Self)
    }
}
