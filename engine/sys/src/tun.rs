//! TUN devices (`Documentation/networking/tuntap.rst`): network links whose other end is a
//! descriptor.
//!
//! With a header before each packet (`struct virtio_net_hdr`, `include/uapi/linux/virtio_net.h`) a
//! read gives, and a write takes, up to 64 KiB that the kernel has not cut into packets yet, and
//! checksums that are not finished.

use std::{
    fs::OpenOptions,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
};

pub use self::segments::{link_socket, set_segments_max};

mod segments;

/// Bytes of the header before each packet of a device that was opened with one.
pub const HEADER_BYTES: usize = 10;

/// What the kernel leaves to the reader of a device, from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Offload {
    /// Whole packets, with no header before them.
    None,
    /// Whole packets, each after a header.
    Header,
    /// Segments of TCP together, and checksums to finish.
    Tcp,
    /// Those that carry congestion marks too.
    TcpEcn,
    /// UDP datagrams of one length together as well (Linux 6.2).
    TcpUdp,
}

/// Where the kernel gives them out.
const CLONE_DEVICE: &str = "/dev/net/tun";

/// Makes a TUN device in the namespace that the thread is in. Packets are read from and written to
/// the descriptor, one each; `headers` puts [`HEADER_BYTES`] before them, all of them zero until
/// [`set_offload`] asks for more. The device is down at first, and ends with the descriptor. Reading
/// and writing never block.
///
/// # Errors
/// `InvalidInput` for a name that is empty or over 15 bytes; `EBUSY` when there is such a TUN
/// device, `EINVAL` when there is such a link of another kind; `EPERM` without `CAP_NET_ADMIN`;
/// `NotFound` without the `tun` module.
pub fn open(name: &str, headers: bool) -> io::Result<OwnedFd> {
    // Only ever a new one, never one that somebody else left there.
    attach(name, flags(headers, libc::IFF_TUN_EXCL))
}

/// As [`open`], but for a device that outlasts its descriptor: one of that name that nobody serves
/// is taken over as it is, with its addresses and routes, and the device is there until its link or
/// its namespace is removed.
///
/// # Errors
/// Those of [`open`]; `EBUSY` when somebody serves the device.
pub fn open_lasting(name: &str, headers: bool) -> io::Result<OwnedFd> {
    let device = attach(name, flags(headers, 0))?;
    // Whoever had it before may have wanted more to be left to him. Without headers there is
    // nothing to refuse.
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETOFFLOAD, 0 as libc::c_ulong) };
    // SAFETY: TUNSETPERSIST takes its argument by value.
    let kept = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETPERSIST, 1 as libc::c_ulong) };
    answer(kept)?;
    Ok(device)
}

fn attach(name: &str, flags: libc::c_short) -> io::Result<OwnedFd> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_flags = flags;
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
        .open(CLONE_DEVICE)?;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which `request` is; it outlives the call.
    let made = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
    answer(made)?;
    Ok(device.into())
}

/// A layer 3 device; no protocol number before each packet.
fn flags(headers: bool, more: libc::c_int) -> libc::c_short {
    let header = if headers { libc::IFF_VNET_HDR } else { 0 };
    let flags = libc::IFF_TUN | libc::IFF_NO_PI | header | more;
    // Bits 0, 12, 14 and 15 of a field of 16.
    let [low, high, ..] = flags.to_le_bytes();
    libc::c_short::from_le_bytes([low, high])
}

/// Asks for `most`, or for as much of it as the kernel has, of a device that was opened with
/// headers, and answers what that is.
pub fn set_offload(device: BorrowedFd<'_>, most: Offload) -> Offload {
    let wanted = [
        (Offload::TcpUdp, CHECKSUM | TSO | TSO_ECN | USO),
        (Offload::TcpEcn, CHECKSUM | TSO | TSO_ECN),
        (Offload::Tcp, CHECKSUM | TSO),
    ];
    for (offload, bits) in wanted.into_iter().filter(|(offload, _)| *offload <= most) {
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        let set = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETOFFLOAD, bits) };
        if set >= 0 {
            return offload;
        }
    }
    most.min(Offload::Header)
}

/// `TUN_F_CSUM` and so on, of `include/uapi/linux/if_tun.h`.
const CHECKSUM: libc::c_ulong = 0x01;
const TSO: libc::c_ulong = 0x02 | 0x04;
const TSO_ECN: libc::c_ulong = 0x08;
const USO: libc::c_ulong = 0x20 | 0x40;

/// Sets the MTU of the link `name` in the namespace that `socket`, any internet socket, is in.
///
/// # Errors
/// `ENODEV` when there is no such link; `EINVAL` for an MTU that it does not take.
pub fn set_mtu(socket: BorrowedFd<'_>, name: &str, mtu: u16) -> io::Result<()> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_mtu = i32::from(mtu);
    // SAFETY: SIOCSIFMTU reads one ifreq, which `request` is; it outlives the call.
    let set = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFMTU, &raw mut request) };
    answer(set)
}

fn request(name: &str) -> io::Result<libc::ifreq> {
    let invalid = name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(['\0', '/']);
    if invalid {
        let message = "the name of a link has 1 to 15 bytes";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    // SAFETY: an ifreq is integers and unions of them; all zeros is one of its values.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    Ok(request)
}

fn answer(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, net::UdpSocket, os::fd::AsFd as _, path::Path};

    use super::*;
    use crate::netns::Netns;

    fn is_there(netns: &Netns, name: &str) -> bool {
        let path = Path::new("/proc/thread-self/net/dev_snmp6").join(name);
        netns.run(|| fs::exists(path)).unwrap()
    }

    #[test]
    fn a_device_appears_in_the_namespace_and_ends_with_its_descriptor() {
        let tenant = Netns::create().expect("needs CAP_SYS_ADMIN");
        let device = tenant.enter(|| open("wg7", true)).unwrap();
        assert!(is_there(&tenant, "wg7"));
        let mut packet = [0; 64];
        let error = nix::unistd::read(&device, &mut packet).unwrap_err();
        assert_eq!(error, nix::Error::EAGAIN);
        drop(device);
        assert!(!is_there(&tenant, "wg7"));
    }

    #[test]
    fn a_lasting_device_is_taken_over_and_goes_with_its_namespace() {
        let tenant = Netns::create().expect("needs CAP_SYS_ADMIN");
        let first = tenant.enter(|| open_lasting("wg7", true)).unwrap();
        let error = tenant.enter(|| open_lasting("wg7", true)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
        drop(first);
        assert!(is_there(&tenant, "wg7"));
        let error = tenant.enter(|| open("wg7", true)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
        for headers in [false, true] {
            drop(tenant.enter(|| open_lasting("wg7", headers)).unwrap());
        }
    }

    #[test]
    fn a_name_is_given_out_once() {
        let tenant = Netns::create().expect("needs CAP_SYS_ADMIN");
        let _first = tenant.enter(|| open("wg7", true)).unwrap();
        let error = tenant.enter(|| open("wg7", true)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    }

    #[test]
    fn names_that_no_link_can_have_are_refused_before_the_kernel_sees_them() {
        for name in ["", "sixteen-letters-", "a/b", "a\0b"] {
            let error = open(name, true).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
    }

    #[test]
    fn no_more_is_offloaded_than_was_asked_for() {
        let tenant = Netns::create().expect("needs CAP_SYS_ADMIN");
        let device = tenant.enter(|| open("wg7", true)).unwrap();
        use Offload::{Header, None, Tcp, TcpEcn, TcpUdp};
        for most in [TcpUdp, TcpEcn, Tcp, Header, None] {
            assert_eq!(set_offload(device.as_fd(), most), most);
        }
        let unlike: OwnedFd = tenant
            .enter(|| Ok(UdpSocket::bind("0.0.0.0:0")?.into()))
            .unwrap();
        assert_eq!(set_offload(unlike.as_fd(), TcpUdp), Header, "it has none");
    }

    #[test]
    fn the_segments_of_a_link_are_limited_and_a_missing_link_is_said_to_be_missing() {
        let tenant = Netns::create().expect("needs CAP_SYS_ADMIN");
        let _device = tenant.enter(|| open("wg7", true)).unwrap();
        let socket = tenant.enter(link_socket).unwrap();
        set_segments_max(socket.as_fd(), "wg7", 45).unwrap();
        let error = set_segments_max(socket.as_fd(), "wg8", 45).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        let error = set_segments_max(socket.as_fd(), "wg7", 1 << 20).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }

    #[test]
    fn an_mtu_is_set_and_a_missing_link_is_said_to_be_missing() {
        let tenant = Netns::create().expect("needs CAP_SYS_ADMIN");
        let _device = tenant.enter(|| open("wg7", true)).unwrap();
        let socket = tenant
            .enter(|| {
                Ok(UdpSocket::bind("127.0.0.1:0")
                    .or_else(|_| UdpSocket::bind("0.0.0.0:0"))?
                    .into())
            })
            .unwrap();
        set_mtu(socket.as_fd(), "wg7", 1420).unwrap();
        let error = set_mtu(socket.as_fd(), "wg8", 1420).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        let error = set_mtu(socket.as_fd(), "wg7", 1).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
