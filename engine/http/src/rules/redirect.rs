//! Where a redirect leads.

use crate::{host::Kind, octet, request::Request};

/// The statuses of a redirect (RFC 9110 section 15.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RedirectStatus {
    /// 301
    MovedPermanently,
    /// 302
    Found,
    /// 303
    SeeOther,
    /// 307
    TemporaryRedirect,
    /// 308
    PermanentRedirect,
}

impl RedirectStatus {
    /// The status of a number.
    pub fn from_code(code: u16) -> Option<Self> {
        Some(match code {
            301 => Self::MovedPermanently,
            302 => Self::Found,
            303 => Self::SeeOther,
            307 => Self::TemporaryRedirect,
            308 => Self::PermanentRedirect,
            _ => return None,
        })
    }

    /// Its number.
    pub fn code(self) -> u16 {
        match self {
            Self::MovedPermanently => 301,
            Self::Found => 302,
            Self::SeeOther => 303,
            Self::TemporaryRedirect => 307,
            Self::PermanentRedirect => 308,
        }
    }

    /// The words behind it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::MovedPermanently => "Moved Permanently",
            Self::Found => "Found",
            Self::SeeOther => "See Other",
            Self::TemporaryRedirect => "Temporary Redirect",
            Self::PermanentRedirect => "Permanent Redirect",
        }
    }
}

/// A redirect: a status, and a location with places for parts of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    status: RedirectStatus,
    parts: Box<[Part]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Host,
    Path,
    Query,
}

/// Why a location is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedirectError {
    /// Empty, or with a byte that no URI has.
    #[error("{location:?} is not a location")]
    Location {
        /// As it was given.
        location: String,
    },
    /// Something in braces that does not exist.
    #[error("a location has {{host}}, {{path}} and {{query}}, and not {{{place}}}")]
    Place {
        /// What is in the braces.
        place: String,
    },
}

impl Redirect {
    /// Takes a location in which `{host}` stands for the host without its port, `{path}` for the
    /// path, and `{query}` for the query with its question mark, if there is one.
    ///
    /// # Errors
    /// Says why a location is not taken.
    pub fn new(status: RedirectStatus, location: &str) -> Result<Self, RedirectError> {
        let mut parts = Vec::new();
        let wrong = || RedirectError::Location {
            location: location.into(),
        };
        let mut rest = location;
        while let Some((text, behind)) = rest.split_once('{') {
            let (place, behind) = behind.split_once('}').ok_or_else(wrong)?;
            parts.push(Part::Text(text.into()));
            parts.push(match place {
                "host" => Part::Host,
                "path" => Part::Path,
                "query" => Part::Query,
                other => {
                    let place = other.into();
                    return Err(RedirectError::Place { place });
                }
            });
            rest = behind;
        }
        parts.push(Part::Text(rest.into()));
        let is_uri = |byte: u8| octet::is_target(byte) || byte == b'#';
        if location.is_empty() || !location.bytes().all(is_uri) {
            return Err(wrong());
        }
        Ok(Self {
            status,
            parts: parts.into(),
        })
    }

    /// To the same host, path and query with TLS, on the port that clients reach it at.
    pub fn to_https(status: RedirectStatus, port: u16) -> Self {
        let port: Box<str> = match port {
            443 => "".into(),
            port => format!(":{port}").into(),
        };
        let parts = [
            Part::Text("https://".into()),
            Part::Host,
            Part::Text(port),
            Part::Path,
            Part::Query,
        ];
        Self {
            status,
            parts: parts.into(),
        }
    }

    /// Its status.
    pub fn status(&self) -> RedirectStatus {
        self.status
    }

    /// Appends the location for a request.
    ///
    /// A path begins with one slash here: with two of them, a location that begins with the path
    /// would name a host (RFC 3986 section 4.2), and a link to this host would lead to any other.
    pub fn write_location(&self, request: &Request<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Host => {
                    if let Some(host) = request.host {
                        let text = host.text();
                        let bare = match host.kind() {
                            Kind::Name => text.strip_suffix('.').unwrap_or(text),
                            Kind::Ip(_) => text,
                        };
                        out.extend_from_slice(bare.as_bytes());
                    }
                }
                Part::Path => {
                    let path = request.target.path.trim_start_matches(['/', '\\', '*']);
                    out.push(b'/');
                    out.extend_from_slice(path.as_bytes());
                }
                Part::Query => {
                    if let Some(query) = request.target.query {
                        out.push(b'?');
                        out.extend_from_slice(query.as_bytes());
                    }
                }
            }
        }
    }
}
