//! Receiving many datagrams at a time.

use std::{
    fmt, io,
    net::SocketAddr,
    os::fd::{AsRawFd as _, BorrowedFd},
    ptr,
};

use nix::sys::socket::{SockaddrLike as _, SockaddrStorage};

use super::{
    NO_HEADER, NO_PIECE, Path,
    control::{CONTROL_BYTES, Control},
    size_of_u32,
};

/// Buffers that one call fills at most.
pub const BATCH: usize = 64;

/// The longest that a buffer can be: the payload of one UDP datagram, or of several that came
/// together (`net/ipv4/udp_offload.c` keeps them under 64 KiB).
const BUFFER_BYTES: usize = 65_536;

/// From one buffer to the next. Were it a power of two, the beginnings of all buffers would share a
/// few sets of the processor's caches, and short datagrams would push each other out.
const STRIDE_BYTES: usize = BUFFER_BYTES + 24 * 64;

/// Buffers for what arrives: [`BATCH`] of 64 KiB, of which the kernel touches only what it fills.
pub struct Inbox {
    bytes: Box<[u8]>,
    names: Box<[Name]>,
    controls: Box<[Control]>,
    taken: [Option<Taken>; BATCH],
}

#[derive(Clone, Copy, Debug)]
struct Taken {
    len: usize,
    segment: usize,
    path: Path,
    class: u8,
}

/// What is in one buffer: datagrams that came the same way in a row.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The way that they came.
    pub path: Path,
    /// Their traffic class: the byte of DSCP and ECN in the IP header (RFC 2474, RFC 3168).
    pub class: u8,
    /// All of them.
    pub bytes: &'a [u8],
    /// The length of each but the last, which may be shorter.
    pub segment: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            bytes: vec![0; BATCH * STRIDE_BYTES].into_boxed_slice(),
            names: vec![Name::EMPTY; BATCH].into_boxed_slice(),
            controls: vec![Control::EMPTY; BATCH].into_boxed_slice(),
            taken: [None; BATCH],
        }
    }
}

impl Inbox {
    /// Takes what has arrived, up to `most` buffers and [`BATCH`], in place of what was here before,
    /// and answers how many there are.
    ///
    /// # Errors
    /// `WouldBlock` when nothing has arrived; an error that an earlier datagram met on its way
    /// (`ECONNREFUSED`, `EHOSTUNREACH`), which is told once.
    pub fn receive(&mut self, socket: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        self.taken = [None; BATCH];
        let most = most.min(BATCH);
        let mut pieces = [NO_PIECE; BATCH];
        let mut headers = [NO_HEADER; BATCH];
        let buffers = self.bytes.chunks_exact_mut(STRIDE_BYTES);
        let beside = self.names.iter_mut().zip(self.controls.iter_mut());
        let slots = pieces.iter_mut().zip(headers.iter_mut()).take(most);
        for ((buffer, (name, control)), (piece, header)) in buffers.zip(beside).zip(slots) {
            piece.iov_base = buffer.as_mut_ptr().cast();
            piece.iov_len = BUFFER_BYTES;
            let header = &mut header.msg_hdr;
            header.msg_name = (&raw mut *name).cast();
            header.msg_namelen = size_of_u32::<Name>();
            header.msg_iov = piece;
            header.msg_iovlen = 1;
            header.msg_control = (&raw mut *control).cast();
            header.msg_controllen = CONTROL_BYTES;
        }
        // SAFETY: each of the first `most` headers points at a name, a buffer and a control area of
        // the lengths that it gives, all alive and borrowed by nothing else until the call returns.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                headers.as_mut_ptr(),
                libc::c_uint::try_from(most).unwrap_or(1),
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for (index, header) in headers.iter().enumerate().take(received) {
            let len = usize::try_from(header.msg_len).unwrap_or(0);
            let len = len.min(BUFFER_BYTES);
            let said = self.controls[index].read(header.msg_hdr.msg_controllen);
            self.taken[index] = self.names[index].read().map(|remote| Taken {
                len,
                segment: said.segment.unwrap_or(len).max(1),
                path: Path {
                    remote,
                    local: said.local,
                },
                class: said.class,
            });
        }
        Ok(received)
    }

    /// What is in buffer `index`. Nothing beyond what [`Inbox::receive`] answered.
    pub fn arrival(&self, index: usize) -> Option<Arrival<'_>> {
        let taken = (*self.taken.get(index)?)?;
        let start = index * STRIDE_BYTES;
        Some(Arrival {
            path: taken.path,
            class: taken.class,
            bytes: self.bytes.get(start..start + taken.len)?,
            segment: taken.segment,
        })
    }
}

impl<'a> Arrival<'a> {
    /// The datagrams one by one. Empty ones are passed over.
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.bytes.chunks(self.segment)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("taken", &self.taken)
            .finish_non_exhaustive()
    }
}

/// Room for the address of a sender.
#[derive(Clone, Copy)]
struct Name(libc::sockaddr_storage);

impl Name {
    // SAFETY: integers; zero is a value of each.
    const EMPTY: Self = Self(unsafe { std::mem::zeroed() });

    fn read(&self) -> Option<SocketAddr> {
        let address = (&raw const self.0).cast::<libc::sockaddr>();
        // SAFETY: a whole sockaddr_storage that the kernel wrote an address of its family into.
        let address = unsafe { SockaddrStorage::from_raw(address, Some(size_of_u32::<Self>())) }?;
        let v4 = address
            .as_sockaddr_in()
            .map(|v4| SocketAddr::V4((*v4).into()));
        v4.or_else(|| {
            address
                .as_sockaddr_in6()
                .map(|v6| SocketAddr::V6((*v6).into()))
        })
    }
}
