//! How many packets the kernel leaves together for a link (rtnetlink(7), `IFLA_GSO_MAX_SEGS`).

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, OwnedFd},
};

use nix::sys::socket::{
    self as sock, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType,
};

/// Opens a socket that changes links of the namespace that the thread is in. It waits for answers.
///
/// # Errors
/// Without descriptors.
pub fn link_socket() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let protocol = SockProtocol::NetlinkRoute;
    Ok(sock::socket(
        AddressFamily::Netlink,
        SockType::Raw,
        flags,
        protocol,
    )?)
}

/// Has the kernel leave at most `segments` packets together for the link `name`, in the namespace of
/// `socket`, one of [`link_socket`].
///
/// # Errors
/// `InvalidInput` for a name that is empty or over 15 bytes; `ENODEV` when there is no such link;
/// `EINVAL` for more than it can have; `EOPNOTSUPP` before Linux 4.15.
pub fn set_segments_max(socket: BorrowedFd<'_>, name: &str, segments: u32) -> io::Result<()> {
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let request = request(name, segments);
    let kernel = NetlinkAddr::new(0, 0);
    sock::sendto(socket.as_raw_fd(), &request, &kernel, MsgFlags::empty())?;
    let mut answer = [0; 256];
    let len = sock::recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    read_answer(answer.get(..len).unwrap_or(&[]))
}

/// `nlmsghdr` and `ifinfomsg`, each of 16 bytes.
const HEADER: usize = 16;
const LINK: usize = 16;

/// A message of one link, found by its name, with one attribute to change.
fn request(name: &str, segments: u32) -> Vec<u8> {
    let mut message = vec![0; HEADER + LINK];
    attribute(
        &mut message,
        libc::IFLA_IFNAME,
        &[name.as_bytes(), b"\0"].concat(),
    );
    attribute(
        &mut message,
        libc::IFLA_GSO_MAX_SEGS,
        &segments.to_ne_bytes(),
    );
    let len = u32::try_from(message.len()).unwrap_or(0);
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK;
    message[..4].copy_from_slice(&len.to_ne_bytes());
    message[4..6].copy_from_slice(&libc::RTM_NEWLINK.to_ne_bytes());
    message[6..8].copy_from_slice(&u16::try_from(flags).unwrap_or(0).to_ne_bytes());
    message
}

/// Each is a length, a kind and a value, padded to four bytes.
fn attribute(message: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(4 + value.len()).unwrap_or(0);
    message.extend_from_slice(&len.to_ne_bytes());
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
}

/// An acknowledgement is an error message whose number is 0; else it is the error, negated.
fn read_answer(answer: &[u8]) -> io::Result<()> {
    let number = answer.get(HEADER..).and_then(<[u8]>::first_chunk);
    match number.map(|number| i32::from_ne_bytes(*number)) {
        Some(0) => Ok(()),
        Some(error) => Err(io::Error::from_raw_os_error(error.saturating_neg())),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}
