//! The TUN device of a link: where packets cross between the tenant's namespace and the core.

use std::{
    fs::File,
    io::{self, IoSlice, Read as _, Write as _},
    iter,
    os::fd::{AsFd, BorrowedFd},
};

use engine_sys::{
    netns::Netns,
    tun::{self, Offload},
};
use nix::errno::Errno;

use crate::superpacket::{HEADER_BYTES, Kind, Kinds, PACKETS_MAX, Super};

/// A TUN device, and what its kernel takes.
#[derive(Debug)]
pub(crate) struct Border {
    device: File,
    offload: Offload,
    /// The super-packets that it was not seen to refuse.
    kinds: Kinds,
}

/// The link is gone: somebody deleted it, or its namespace.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Lost;

impl Border {
    /// Makes a link in the tenant's namespace that offloads `most` at most. One that is `lasting`
    /// may be there already, and stays.
    pub(crate) fn open(
        tenant: &Netns,
        name: &str,
        most: Offload,
        lasting: bool,
    ) -> io::Result<Self> {
        let headers = most > Offload::None;
        let open = if lasting {
            tun::open_lasting
        } else {
            tun::open
        };
        let device = tenant.enter(|| open(name, headers))?;
        let offload = if headers {
            tun::set_offload(device.as_fd(), most)
        } else {
            Offload::None
        };
        Ok(Self {
            device: device.into(),
            offload,
            kinds: Kinds {
                tcp: offload >= Offload::Tcp,
                udp: offload >= Offload::TcpUdp,
            },
        })
    }

    /// The super-packets that the tenant's kernel takes; `None` where there is nothing to say which
    /// kind one is.
    pub(crate) fn kinds(&self) -> Option<Kinds> {
        (self.offload > Offload::None).then_some(self.kinds)
    }

    /// Takes a packet or super-packet of the tenant into `bytes`, and answers its header and length;
    /// `None` when there is none.
    pub(crate) fn take(
        &self,
        bytes: &mut [u8],
    ) -> Result<Option<([u8; HEADER_BYTES], usize)>, Lost> {
        let mut header = [0; HEADER_BYTES];
        let longest = bytes.len().min(usize::from(u16::MAX));
        let bytes = &mut bytes[..longest];
        let taken = if self.offload == Offload::None {
            (&self.device).read(bytes)
        } else {
            let mut pieces = [io::IoSliceMut::new(&mut header), io::IoSliceMut::new(bytes)];
            let read = (&self.device).read_vectored(&mut pieces);
            read.map(|len| len.saturating_sub(HEADER_BYTES))
        };
        match taken {
            Ok(len) => Ok(Some((header, len))),
            Err(error) if is_lost(&error) => Err(Lost),
            Err(_) => Ok(None),
        }
    }

    /// Gives the tenant a packet of which nothing is known. What the link does not take is dropped:
    /// one that is down takes nothing (`EIO`).
    pub(crate) fn put_alone(&self, packet: &[u8]) -> Result<(), Lost> {
        let header: &[u8] = match self.offload {
            Offload::None => &[],
            Offload::Header | Offload::Tcp | Offload::TcpEcn | Offload::TcpUdp => {
                &[0; HEADER_BYTES]
            }
        };
        match self.write(header, iter::once(packet)) {
            Err(error) if is_lost(&error) => Err(Lost),
            _ => Ok(()),
        }
    }

    /// Gives the tenant a packet or super-packet. If its kernel does not take that kind (some refuse
    /// UDP), it gets the packets one by one, and from then on always.
    pub(crate) fn put(&mut self, packets: &Super<'_>) -> Result<(), Lost> {
        match self.write(packets.head(), packets.pieces()) {
            Ok(()) => Ok(()),
            Err(error) if is_lost(&error) => Err(Lost),
            Err(_) if packets.kind() == Kind::Packet => Ok(()),
            Err(error) => self.put_each(packets, &error),
        }
    }

    fn put_each(&mut self, packets: &Super<'_>, refusal: &io::Error) -> Result<(), Lost> {
        let head = packets.head_of_each();
        let mut taken = 0;
        for packet in packets.packets() {
            match self.write(&head, iter::once(packet)) {
                Ok(()) => taken += 1,
                Err(error) if is_lost(&error) => return Err(Lost),
                // The link is down, or the memory short: that was it, and not the kind.
                Err(_) => break,
            }
        }
        if taken > 0 && is_refusal(refusal) {
            match packets.kind() {
                Kind::Udp => self.kinds.udp = false,
                Kind::TcpV4 | Kind::TcpV6 | Kind::Packet => self.kinds.tcp = false,
            }
        }
        Ok(())
    }

    fn write<'b>(&self, head: &[u8], pieces: impl Iterator<Item = &'b [u8]>) -> io::Result<()> {
        let mut slices = [IoSlice::new(&[]); 1 + PACKETS_MAX];
        slices[0] = IoSlice::new(head);
        let mut count = 1;
        for (slice, piece) in slices[1..].iter_mut().zip(pieces) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        // A TUN device takes all or nothing.
        (&self.device).write_vectored(&slices[..count]).map(drop)
    }
}

impl AsFd for Border {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

/// What TUN says when its link, or the namespace of it, is gone.
fn is_lost(error: &io::Error) -> bool {
    error.raw_os_error() == Some(Errno::EBADFD as i32)
}

fn is_refusal(error: &io::Error) -> bool {
    let refusals = [Errno::EINVAL, Errno::EIO].map(|errno| Some(errno as i32));
    refusals.contains(&error.raw_os_error())
}

#[cfg(test)]
mod tests;
