//! Where the API is served.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    str::FromStr,
};

use crate::field::text_field;

/// Longest path of a unix socket: `sun_path` has 108 bytes with its NUL (unix(7)).
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Where the API is served.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ApiListen {
    /// On a TCP port.
    Tcp(SocketAddr),
    /// On a unix socket.
    Unix(PathBuf),
    /// Nowhere.
    Off,
}

/// Why a text does not say where the API is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiListenError {
    /// None of the forms.
    #[error("`ip:port`, `unix:/path` or `off` is expected, such as 127.0.0.1:8080")]
    Shape,
    /// A path that no unix socket can have.
    #[error(
        "the path of a unix socket starts with a slash and has at most {SOCKET_PATH_BYTES_MAX} bytes"
    )]
    Path,
}

impl ApiListen {
    /// Whether other machines could reach it.
    pub fn is_beyond_loopback(&self) -> bool {
        match self {
            Self::Tcp(address) => match address.ip() {
                IpAddr::V4(ip) => !ip.is_loopback(),
                IpAddr::V6(ip) => {
                    let mapped = ip.to_ipv4_mapped();
                    !mapped.map_or(ip.is_loopback(), |ip| ip.is_loopback())
                }
            },
            Self::Unix(_) | Self::Off => false,
        }
    }
}

impl FromStr for ApiListen {
    type Err = ApiListenError;

    fn from_str(text: &str) -> Result<Self, ApiListenError> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let Some(path) = text.strip_prefix("unix:") else {
            return text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| ApiListenError::Shape);
        };
        if !path.starts_with('/') || path.len() > SOCKET_PATH_BYTES_MAX || path.contains('\0') {
            return Err(ApiListenError::Path);
        }
        Ok(Self::Unix(path.into()))
    }
}

impl fmt::Display for ApiListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Off => f.write_str("off"),
        }
    }
}

text_field!(ApiListen, "`ip:port`, `unix:/path` or `off`");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_from_what_others_reach() {
        for (text, beyond) in [
            ("127.0.0.1:8080", false),
            ("127.9.9.9:8080", false),
            ("[::1]:8080", false),
            ("[::ffff:127.0.0.1]:8080", false),
            ("unix:/run/ringway/api.sock", false),
            ("off", false),
            ("0.0.0.0:8080", true),
            ("[::]:8080", true),
            ("192.0.2.1:8080", true),
            ("[::ffff:192.0.2.1]:8080", true),
        ] {
            let listen: ApiListen = text.parse().unwrap();
            assert_eq!(listen.is_beyond_loopback(), beyond, "{text}");
            assert_eq!(listen.to_string(), text);
        }
    }

    #[test]
    fn what_says_no_place_is_refused() {
        let long = format!("unix:/{}", "a".repeat(107));
        for (text, error) in [
            ("", ApiListenError::Shape),
            ("8080", ApiListenError::Shape),
            ("localhost:8080", ApiListenError::Shape),
            ("Off", ApiListenError::Shape),
            ("unix:", ApiListenError::Path),
            ("unix:run/api.sock", ApiListenError::Path),
            (&long, ApiListenError::Path),
        ] {
            assert_eq!(text.parse::<ApiListen>(), Err(error), "{text}");
        }
    }
}
