//! Who has a UDP port, for a sentence that helps: looked up only when a port was refused.

use std::{fmt, fs, num::NonZeroU16, path::Path};

/// Where the sockets of this process' namespace are listed (proc_net(5)).
const LISTS: [&str; 2] = ["/proc/thread-self/net/udp", "/proc/thread-self/net/udp6"];

/// Processes that are looked at.
const PROCESSES_MAX: usize = 32_768;

/// Sockets with the port that are looked for.
const SOCKETS_MAX: usize = 16;

/// A process that has a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holder {
    name: String,
    pid: u32,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// The process that has a UDP port in the namespace of this thread. Absent where it is the
/// kernel's, such as a WireGuard device of somebody else's, or of a process that is not seen from
/// here.
pub(super) fn of_port(port: NonZeroU16) -> Option<Holder> {
    let lists = LISTS
        .iter()
        .filter_map(|list| fs::read_to_string(list).ok());
    let sockets: Vec<String> = lists
        .flat_map(|list| sockets_in(&list, port))
        .take(SOCKETS_MAX)
        .collect();
    let processes = fs::read_dir("/proc").ok()?.flatten().take(PROCESSES_MAX);
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let pid: u32 = pids.find(|pid| has_one_of(*pid, &sockets))?;
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    let name = name.trim_end().to_owned();
    Some(Holder { name, pid })
}

/// What links of `/proc/PID/fd` say for the sockets with this port.
fn sockets_in(list: &str, port: NonZeroU16) -> Vec<String> {
    let is_of_port = |line: &&str| {
        let local = line.split_ascii_whitespace().nth(1);
        let number = local.and_then(|local| local.rsplit(':').next());
        number.is_some_and(|number| u16::from_str_radix(number, 16) == Ok(port.get()))
    };
    let lines = list.lines().skip(1).filter(is_of_port);
    lines
        .filter_map(|line| line.split_ascii_whitespace().nth(9))
        .filter(|inode| *inode != "0")
        .map(|inode| format!("socket:[{inode}]"))
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
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn the_process_that_has_a_port_is_named() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let socket = UdpSocket::bind(address).unwrap();
            let port = socket.local_addr().unwrap().port();
            let holder = of_port(NonZeroU16::new(port).unwrap()).unwrap();
            assert_eq!(holder.pid, std::process::id(), "{address}");
            assert!(!holder.name.is_empty());
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
        let port = NonZeroU16::new(51820).unwrap();
        assert_eq!(sockets_in(list, port), ["socket:[4711]"]);
    }
}
