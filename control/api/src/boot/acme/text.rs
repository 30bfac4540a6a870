//! What the keys of `acme` are written as.

use std::{fmt, str::FromStr};

use engine_core::hostname::{HostPattern, Hostname, HostnameError};

use crate::field::text_field;

/// Longest URL.
const URL_BYTES_MAX: usize = 2048;
/// Longest name of a directory.
const NAME_BYTES_MAX: usize = 64;
/// Longest address of a contact, and longest identifier of a key.
const TEXT_BYTES_MAX: usize = 320;

/// Defines a type for texts that are checked once.
macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $error:ident, $wrong:literal, $syntax:literal, $is_good:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        #[doc = concat!("Why a text is no [`", stringify!($name), "`].")]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
        #[error($wrong)]
        pub struct $error;

        impl $name {
            /// As it is written.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = $error;

            fn from_str(text: &str) -> Result<Self, $error> {
                let is_good: fn(&str) -> bool = $is_good;
                if is_good(text) { Ok(Self(text.into())) } else { Err($error) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        text_field!($name, $syntax);
    };
}

text! {
    /// What an ACME directory is called in files, answers and metrics.
    DirectoryName, DirectoryNameError,
    "a name has from 1 to 64 letters, digits, `-`, `_` and `.`",
    "name",
    |text| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(known)
    }
}

text! {
    /// Where an ACME directory is: over TLS always (RFC 8555 section 6.1).
    DirectoryUrl, DirectoryUrlError,
    "an https URL is expected, such as https://acme-v02.api.letsencrypt.org/directory",
    "`https://…`",
    |text| is_url(text, &["https://"])
}

text! {
    /// Who is asked whether a name may have a certificate.
    AskUrl, AskUrlError,
    "an http or https URL without `?` is expected, such as http://127.0.0.1:9000/ask",
    "`http://…` or `https://…`",
    |text| is_url(text, &["https://", "http://"]) && !text.contains('?')
}

text! {
    /// Whom a directory tells about its certificates.
    Contact, ContactError,
    "a contact is a `mailto:` URL, such as mailto:ops@example.com",
    "`mailto:ADDRESS`",
    |text| text.strip_prefix("mailto:").is_some_and(|address| {
        address.contains('@') && is_plain(address)
    })
}

text! {
    /// The identifier that an authority gave a key.
    KeyId, KeyIdError,
    "an identifier has from 1 to 320 visible ASCII characters",
    "text",
    is_plain
}

fn is_plain(text: &str) -> bool {
    (1..=TEXT_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_url(text: &str, schemes: &[&str]) -> bool {
    let host = schemes.iter().find_map(|scheme| text.strip_prefix(scheme));
    // A fragment never leaves a client (RFC 9110 section 7.1), and who logs URLs logs passwords.
    host.is_some_and(|host| {
        !host.starts_with(['/', ':', '?'])
            && !host.is_empty()
            && !host.contains(['#', '@'])
            && text.len() <= URL_BYTES_MAX
            && text.bytes().all(|byte| byte.is_ascii_graphic())
    })
}

/// A name that a certificate is for: a host or `*.domain`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CertificateName(pub HostPattern);

impl CertificateName {
    /// Whether it stands for every host below a domain, which only dns-01 can prove
    /// (RFC 8555 section 7.1.3 leaves it to the authority, and every public one has it so).
    pub fn is_wildcard(&self) -> bool {
        matches!(self.0, HostPattern::Wildcard(_))
    }

    /// The host, or the domain below which the hosts are.
    pub fn domain(&self) -> &Hostname {
        match &self.0 {
            HostPattern::Exact(name) | HostPattern::Wildcard(name) => name,
        }
    }
}

impl FromStr for CertificateName {
    type Err = HostnameError;

    fn from_str(text: &str) -> Result<Self, HostnameError> {
        HostPattern::parse(text).map(Self)
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_field!(CertificateName, "host or `*.domain`");

/// A DNS zone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Zone(Hostname);

impl Zone {
    /// Its name, without a dot at the end.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether a name is the zone's or below it.
    pub fn holds(&self, name: &Hostname) -> bool {
        self.0 == *name || name.parents().any(|parent| parent == self.0.as_str())
    }
}

impl FromStr for Zone {
    type Err = HostnameError;

    fn from_str(text: &str) -> Result<Self, HostnameError> {
        Hostname::parse(text.as_bytes()).map(Self)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

text_field!(Zone, "domain");
