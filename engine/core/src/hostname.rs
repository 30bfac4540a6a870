//! Hostnames as routes are looked up by: lower case, A-labels, no dot at the end.

use std::{borrow::Borrow, fmt, net::IpAddr, sync::Arc};

/// Longest hostname in bytes, without the final dot (RFC 1035 section 2.3.4).
pub const HOSTNAME_BYTES_MAX: usize = 253;
/// Longest label in bytes (RFC 1035 section 2.3.4).
pub const LABEL_BYTES_MAX: usize = 63;

/// A valid hostname: lower-case ASCII, without a trailing dot. A copy shares its text.
///
/// Letters, digits, hyphens and underscores are allowed in a label, and a label neither starts nor
/// ends with a hyphen (RFC 1123 section 2.1; underscores because real service names carry them).
/// Internationalised names arrive as A-labels (RFC 6066 section 3). IP literals are not hostnames.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hostname(Arc<str>);

impl Hostname {
    /// Parses `raw`, folding upper case and dropping one trailing dot.
    ///
    /// # Errors
    /// Says which rule the name breaks.
    pub fn parse(raw: &[u8]) -> Result<Self, HostnameError> {
        let raw = raw.strip_suffix(b".").unwrap_or(raw);
        if raw.is_empty() {
            return Err(HostnameError::Empty);
        }
        if raw.len() > HOSTNAME_BYTES_MAX {
            return Err(HostnameError::TooLong);
        }
        raw.split(|&byte| byte == b'.').try_for_each(check_label)?;
        let name: String = raw
            .iter()
            .map(|byte| byte.to_ascii_lowercase() as char)
            .collect();
        if name.parse::<IpAddr>().is_ok() {
            return Err(HostnameError::IpLiteral);
        }
        Ok(Self(name.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The domains above this name, nearest first: `a.b.c` gives `b.c`, then `c`.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('.').map(|(dot, _)| &self.0[dot + 1..])
    }
}

fn check_label(label: &[u8]) -> Result<(), HostnameError> {
    let (Some(first), Some(last)) = (label.first(), label.last()) else {
        return Err(HostnameError::EmptyLabel);
    };
    if label.len() > LABEL_BYTES_MAX {
        return Err(HostnameError::LabelTooLong);
    }
    let known = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if *first == b'-' || *last == b'-' || !label.iter().all(known) {
        return Err(HostnameError::Character);
    }
    Ok(())
}

impl Borrow<str> for Hostname {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why some bytes are not a hostname.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HostnameError {
    /// Nothing but at most a dot.
    #[error("the name is empty")]
    Empty,
    /// More than [`HOSTNAME_BYTES_MAX`] bytes.
    #[error("the name is longer than {HOSTNAME_BYTES_MAX} bytes")]
    TooLong,
    /// Two dots in a row, or a dot in front.
    #[error("the name has an empty label")]
    EmptyLabel,
    /// A label of more than [`LABEL_BYTES_MAX`] bytes.
    #[error("a label of the name is longer than {LABEL_BYTES_MAX} bytes")]
    LabelTooLong,
    /// Something other than letters, digits, `-` and `_`, or a hyphen at a label's edge.
    #[error("the name has a character that hostnames cannot have there (write IDN as A-labels)")]
    Character,
    /// An IPv4 or IPv6 address.
    #[error("an IP address is not a hostname")]
    IpLiteral,
}

/// What a route is declared for: a name, or every name below a domain.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostPattern {
    /// This name alone.
    Exact(Hostname),
    /// `*.domain`: every name below the domain, at any depth, and not the domain itself.
    Wildcard(Hostname),
}

impl HostPattern {
    /// Parses `name` or `*.name`.
    ///
    /// # Errors
    /// Says which rule the name breaks; a `*` anywhere else than in front is a wrong character.
    pub fn parse(raw: &str) -> Result<Self, HostnameError> {
        match raw.strip_prefix("*.") {
            Some(domain) => Hostname::parse(domain.as_bytes()).map(Self::Wildcard),
            None => Hostname::parse(raw.as_bytes()).map(Self::Exact),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => name.fmt(f),
            Self::Wildcard(domain) => write!(f, "*.{domain}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_case_and_the_final_dot() {
        let name = Hostname::parse(b"WWW.Example.COM.").unwrap();
        assert_eq!(name.as_str(), "www.example.com");
        assert_eq!(name.parents().collect::<Vec<_>>(), ["example.com", "com"]);
    }

    #[test]
    fn refuses_what_is_not_a_hostname() {
        let long_label = [b'a'; 64];
        let long_name = [b"a.".as_slice(); 128].concat();
        for (raw, error) in [
            (b"".as_slice(), HostnameError::Empty),
            (b".", HostnameError::Empty),
            (b"a..b", HostnameError::EmptyLabel),
            (b".a", HostnameError::EmptyLabel),
            (b"a..", HostnameError::EmptyLabel),
            (b"10.0.0.1", HostnameError::IpLiteral),
            (b"-a.b", HostnameError::Character),
            (b"a_b-.c", HostnameError::Character),
            ("bücher.example".as_bytes(), HostnameError::Character),
            (b"a b", HostnameError::Character),
            (b"a\0b", HostnameError::Character),
            (&long_label, HostnameError::LabelTooLong),
            (&long_name, HostnameError::TooLong),
        ] {
            assert_eq!(
                Hostname::parse(raw),
                Err(error),
                "{}",
                String::from_utf8_lossy(raw)
            );
        }
    }

    #[test]
    fn patterns_are_exact_or_below_a_domain() {
        assert_eq!(
            HostPattern::parse("*.Example.com").unwrap().to_string(),
            "*.example.com"
        );
        assert_eq!(
            HostPattern::parse("xn--bcher-kva.example")
                .unwrap()
                .to_string(),
            "xn--bcher-kva.example"
        );
        assert_eq!(HostPattern::parse("a.*.com"), Err(HostnameError::Character));
        assert_eq!(HostPattern::parse("*"), Err(HostnameError::Character));
    }
}
