//! Who has a port, for a sentence that helps: looked up only when a port was refused.

use std::{
    fmt, fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use control_api::place::NetworkKey;

/// Where the sockets of this process' namespace are listed (proc_net(5)).
const UDP: [&str; 2] = ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"];
const TCP: [&str; 2] = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];

/// What the lists say of a socket that listens (TCP_LISTEN in the kernel's tcp_states.h).
const LISTENS: &str = "0A";

/// Processes that are looked at.
const PROCESSES_MAX: usize = 32_768;

/// Sockets with the port that are looked for.
const SOCKETS_MAX: usize = 16;

/// A process that has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    name: String,
    /// Its process.
    pub pid: u32,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// The process that has a UDP port in the namespace of this thread. Absent where it is the
/// kernel's, such as a WireGuard device of somebody else's, or of a process that is not seen from
/// here.
pub(super) fn of_port(port: NetworkKey) -> Option<Holder> {
    holder_of(UDP, |entry| entry.address.port() == port.get())
}

/// The process that listens on a TCP port at an address, or at one that takes its connections, in the
/// namespace of this thread. Absent where it is not seen from here.
pub fn of_listener(address: SocketAddr) -> Option<Holder> {
    holder_of(TCP, |entry| {
        let (theirs, ours) = (entry.address, address);
        let is_same = theirs.ip().to_canonical() == ours.ip().to_canonical();
        let is_any = theirs.ip().is_unspecified() || ours.ip().is_unspecified();
        entry.state == LISTENS && theirs.port() == ours.port() && (is_same || is_any)
    })
}

fn holder_of(lists: [&str; 2], is_it: impl Fn(&Entry<'_>) -> bool) -> Option<Holder> {
    let lists = lists
        .iter()
        .filter_map(|list| fs::read_to_string(list).ok());
    let sockets: Vec<String> = lists
        .flat_map(|list| sockets_in(&list, &is_it))
        .take(SOCKETS_MAX)
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten().take(PROCESSES_MAX);
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let pid: u32 = pids.find(|pid| has_one_of(*pid, &sockets))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let name = name.trim_end().to_owned();
    Some(Holder { name, pid })
}

/// A line of a list.
struct Entry<'l> {
    address: SocketAddr,
    state: &'l str,
    inode: &'l str,
}

impl<'l> Entry<'l> {
    fn read(line: &'l str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let address = fields.nth(1).and_then(read_address)?;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?;
        Some(Self {
            address,
            state,
            inode,
        })
    }
}

/// An address as the lists write it: words of 32 bits in the byte order of the machine, and the port.
fn read_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let word = u32::from_str_radix(ip.get(8 * at..8 * at + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(word(0)?)),
        _ => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bytes: [u8; 16] = words.as_flattened().try_into().ok()?;
            IpAddr::from(Ipv6Addr::from(bytes))
        }
    };
    Some(SocketAddr::new(ip, port))
}

/// What links of `/proc/PID/fd` say for the sockets that are looked for.
fn sockets_in(list: &str, is_it: impl Fn(&Entry<'_>) -> bool) -> Vec<String> {
    let entries = list.lines().skip(1).filter_map(Entry::read);
    entries
        .filter(|entry| entry.inode != "0" && is_it(entry))
        .map(|entry| format!("socket:[{}]", entry.inode))
        .collect()
}

fn has_one_of(pid: u32, sockets: &[String]) -> bool {
    let Ok(descriptors) = fs::read_dir(Path::new("/proc").join(pid.to_string()).join("fd")) else {
        return false;
    };
    descriptors.flatten().any(|descriptor| {
        let link = fs::read_link(descriptor.path()).ok();
        let link = link.as_ref().and_then(|link| link.to_str());
        link.is_some_and(|link| sockets.iter().any(|socket| socket == link))
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn the_process_that_has_a_port_is_named() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let socket = UdpSocket::bind(address).unwrap();
            let port = socket.local_addr().unwrap().port();
            let holder = of_port(NetworkKey::new(port).unwrap()).unwrap();
            assert_eq!(holder.pid, std::process::id(), "{address}");
            assert!(!holder.name.is_empty());
        }
    }

    #[test]
    fn the_process_that_takes_the_connections_of_an_address_is_named() {
        for (bind, asked, is_held) in [
            ("127.0.0.1:0", "127.0.0.1", true),
            ("127.0.0.1:0", "0.0.0.0", true),
            ("127.0.0.1:0", "::", true),
            ("127.0.0.1:0", "127.0.0.2", false),
            ("0.0.0.0:0", "127.0.0.9", true),
            ("[::1]:0", "::1", true),
            ("[::1]:0", "::2", false),
        ] {
            let listener = TcpListener::bind(bind).unwrap();
            let port = listener.local_addr().unwrap().port();
            let holder = of_listener(SocketAddr::new(asked.parse().unwrap(), port));
            let expected = is_held.then_some(std::process::id());
            assert_eq!(holder.map(|it| it.pid), expected, "{bind}, {asked}");
        }
    }

    #[test]
    fn sockets_of_other_ports_and_of_the_kernel_are_nobodys() {
        let list = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   \
                    uid  timeout inode ref pointer drops\n  \
                    1: 0100007F:CA6C 00000000:0000 07 00000000:00000000 00:00000000 00000000     \
                    0        0 4711 2 0000000000000000 0\n  \
                    2: 00000000:CA6C 00000000:0000 07 00000000:00000000 00:00000000 00000000     \
                    0        0 0 2 0000000000000000 0\n  \
                    3: 00000000:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     \
                    0        0 4712 2 0000000000000000 0\n";
        let is_it = |entry: &Entry<'_>| entry.address.port() == 51820;
        assert_eq!(sockets_in(list, is_it), ["socket:[4711]"]);
    }
}
