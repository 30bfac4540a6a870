//! Where the API listens.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::unix::fs::FileTypeExt as _,
    path::{Path, PathBuf},
    str::FromStr,
};

/// The socket that is looked for when no address is given.
pub(crate) const SOCKET: &str = "/run/ringway/api.sock";
/// The port of `api.listen`, unless the boot file says otherwise.
const PORT: u16 = 8080;

/// An address of the API.
///
/// Names are not resolved: the release binary is static, and a resolver would load the host's
/// libraries into it (getaddrinfo(3) of a static glibc).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// `http://ip:port`
    Tcp(SocketAddr),
    /// `unix:/path`
    Unix(PathBuf),
}

/// Why a text is no address of an API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    /// `https://…`
    #[error(
        "the API speaks plain HTTP: reach it through loopback, its unix socket or an SSH tunnel"
    )]
    Https,
    /// A path after the address.
    #[error("only an address is wanted, without a path")]
    Path,
    /// A relative socket path.
    #[error("the path of a unix socket has to be absolute, as in unix:/run/ringway/api.sock")]
    Relative,
    /// Neither form.
    #[error("write http://127.0.0.1:8080 (an IP address) or unix:/run/ringway/api.sock")]
    Form,
}

impl Address {
    /// The unix socket where there is one, else the default of `api.listen`.
    pub(crate) fn find() -> Self {
        Self::find_beside(Path::new(SOCKET))
    }

    fn find_beside(socket: &Path) -> Self {
        let exists = socket
            .metadata()
            .is_ok_and(|file| file.file_type().is_socket());
        if exists {
            Self::Unix(socket.to_owned())
        } else {
            Self::Tcp((Ipv4Addr::LOCALHOST, PORT).into())
        }
    }

    /// The `Host` header. On a unix socket nobody else can be meant.
    pub(crate) fn host(&self) -> String {
        match self {
            Self::Tcp(address) => address.to_string(),
            Self::Unix(_) => "localhost".into(),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path.starts_with('/') {
                true => Ok(Self::Unix(path.into())),
                false => Err(AddressError::Relative),
            };
        }
        if text.starts_with("https:") {
            return Err(AddressError::Https);
        }
        let authority = text.strip_prefix("http://").unwrap_or(text);
        let authority = authority.strip_suffix('/').unwrap_or(authority);
        if authority.contains('/') {
            return Err(AddressError::Path);
        }
        tcp(authority).map(Self::Tcp).ok_or(AddressError::Form)
    }
}

/// `ip:port`, `ip`, or the one name that needs no resolver (RFC 6761 section 6.3).
fn tcp(authority: &str) -> Option<SocketAddr> {
    if let Some(port) = authority.strip_prefix("localhost") {
        let port = match port.strip_prefix(':') {
            Some(port) => port.parse().ok()?,
            None if port.is_empty() => PORT,
            None => return None,
        };
        return Some((Ipv4Addr::LOCALHOST, port).into());
    }
    if let Ok(address) = authority.parse() {
        return Some(address);
    }
    let bare = authority
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(authority);
    bare.parse::<IpAddr>().ok().map(|ip| (ip, PORT).into())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_two_forms_and_the_default_port() {
        let tcp = |text: &str| Ok(Address::Tcp(text.parse().unwrap()));
        for (text, expected) in [
            ("http://127.0.0.1:8080", tcp("127.0.0.1:8080")),
            ("http://127.0.0.1:8080/", tcp("127.0.0.1:8080")),
            ("192.0.2.1:99", tcp("192.0.2.1:99")),
            ("192.0.2.1", tcp("192.0.2.1:8080")),
            ("http://[::1]:8081", tcp("[::1]:8081")),
            ("[::1]", tcp("[::1]:8080")),
            ("localhost", tcp("127.0.0.1:8080")),
            ("http://localhost:1", tcp("127.0.0.1:1")),
            ("unix:/run/a.sock", Ok(Address::Unix("/run/a.sock".into()))),
            ("unix:///run/a", Ok(Address::Unix("/run/a".into()))),
            ("unix:a.sock", Err(AddressError::Relative)),
            ("https://127.0.0.1", Err(AddressError::Https)),
            ("http://127.0.0.1/api", Err(AddressError::Path)),
            ("localhost.example.com", Err(AddressError::Form)),
            ("gateway:8080", Err(AddressError::Form)),
            ("", Err(AddressError::Form)),
        ] {
            assert_eq!(text.parse::<Address>(), expected, "{text}");
        }
    }

    #[test]
    fn the_socket_is_taken_only_where_there_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api.sock");
        assert_eq!(
            Address::find_beside(&path).to_string(),
            "http://127.0.0.1:8080"
        );
        std::fs::write(&path, "").unwrap();
        assert_eq!(
            Address::find_beside(&path).to_string(),
            "http://127.0.0.1:8080"
        );
        std::fs::remove_file(&path).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(Address::find_beside(&path), Address::Unix(path));
    }
}
