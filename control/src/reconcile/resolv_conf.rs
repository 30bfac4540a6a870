//! Whom the host asks for names: resolv.conf(5).

use std::{
    fs::File,
    io::Read as _,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
};

/// Where the host says whom it asks.
const PATH: &str = "/etc/resolv.conf";

/// As much of the file is read.
const BYTES_MAX: u64 = 64 << 10;

/// As many servers as the C library asks (MAXNS).
const SERVERS_MAX: usize = 3;

const PORT: u16 = 53;

/// The name servers of the host, as its file says now.
pub(super) fn name_servers() -> Vec<SocketAddr> {
    servers(&read(Path::new(PATH)).unwrap_or_default())
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = Vec::new();
    File::open(path)?.take(BYTES_MAX).read_to_end(&mut text)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The servers that a text names; without any, the one on this machine.
fn servers(text: &str) -> Vec<SocketAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let is_server = words.next() == Some("nameserver");
        let address = words.next().filter(|_| is_server)?;
        let ip: IpAddr = address.parse().ok()?;
        Some(SocketAddr::new(ip, PORT))
    };
    let mut servers: Vec<SocketAddr> = text.lines().filter_map(server).take(SERVERS_MAX).collect();
    if servers.is_empty() {
        servers.push((Ipv4Addr::LOCALHOST, PORT).into());
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_three_servers_count_and_nothing_else() {
        let text = "# nameserver 1.1.1.1\nsearch example.org\nnameserver 10.0.0.53\n\
            nameserver\t::1 # this machine\nnameserver nonsense\n  nameserver 10.0.0.54\n\
            nameserver 10.0.0.55\noptions ndots:2\n";
        let expected = ["10.0.0.53:53", "[::1]:53", "10.0.0.54:53"];
        assert_eq!(servers(text), expected.map(|it| it.parse().unwrap()));
    }

    #[test]
    fn without_a_server_this_machine_is_asked() {
        for text in ["", "search example.org\n"] {
            assert_eq!(servers(text), ["127.0.0.1:53".parse().unwrap()]);
        }
    }
}
