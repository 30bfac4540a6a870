//! TUN devices (`Documentation/networking/tuntap.rst`): network links whose other end is a
//! descriptor.

use std::{
    fs::OpenOptions,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
};

/// Where the kernel gives them out.
const CLONE_DEVICE: &str = "/dev/net/tun";

/// Makes a TUN device in the namespace that the thread is in. Packets are read from and written to
/// the descriptor, one each, without any header before them. The device is down at first, and ends
/// with the descriptor. Reading and writing never block.
///
/// # Errors
/// `InvalidInput` for a name that is empty or over 15 bytes; `EBUSY` when there is such a TUN
/// device, `EINVAL` when there is such a link of another kind; `EPERM` without `CAP_NET_ADMIN`;
/// `NotFound` without the `tun` module.
pub fn open(name: &str) -> io::Result<OwnedFd> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_flags = FLAGS;
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

/// A layer 3 device; no protocol number before each packet; and only ever a new one, never one that
/// somebody else left there.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the three flags are bits 0, 12 and 15 of a field of 16"
)]
const FLAGS: libc::c_short =
    (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL) as libc::c_ushort as libc::c_short;

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
        let device = tenant.enter(|| open("wg7")).unwrap();
        assert!(is_there(&tenant, "wg7"));
        let mut packet = [0; 64];
        let error = nix::unistd::read(&device, &mut packet).unwrap_err();
        assert_eq!(error, nix::Error::EAGAIN);
        drop(device);
        assert!(!is_there(&tenant, "wg7"));
    }

    #[test]
    fn a_name_is_given_out_once() {
        let tenant = Netns::create().expect("needs CAP_SYS_ADMIN");
        let _first = tenant.enter(|| open("wg7")).unwrap();
        let error = tenant.enter(|| open("wg7")).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY));
    }

    #[test]
    fn names_that_no_link_can_have_are_refused_before_the_kernel_sees_them() {
        for name in ["", "sixteen-letters-", "a/b", "a\0b"] {
            let error = open(name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name:?}");
        }
    }

    #[test]
    fn an_mtu_is_set_and_a_missing_link_is_said_to_be_missing() {
        let tenant = Netns::create().expect("needs CAP_SYS_ADMIN");
        let _device = tenant.enter(|| open("wg7")).unwrap();
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
