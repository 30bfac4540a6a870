//! Who may come, and what clients are given to remember.

use std::{collections::BTreeMap, fmt, str::FromStr, time::Duration};

use engine_http::rules;
use engine_tls::policy::{Clients, Roots};
use serde_json::{Value, json};

use super::{CookieName, Secret};
use crate::{
    document::{Duplicates, Spot},
    field::{Field, words},
    problem::Problems,
    section::Check,
    state::{part::part, pem::Authorities},
    word::printable,
};

/// Most users of one rule.
pub const USERS_MAX: usize = rules::USERS_MAX;
/// Longest name of a user in bytes.
const NAME_BYTES_MAX: usize = 128;
/// Longest realm in bytes.
const REALM_BYTES_MAX: usize = 128;

part! {
    /// Names and passwords that a rule asks for.
    pub struct Auth {
        /// The realm that a browser shows.
        realm: Realm = "restricted", r#""Staff""#;
        /// User names, at most 256, with hashed passwords: `{SSHA256}` and the base64 of the
        /// SHA-256 of password and salt, followed by the salt (8 to 64 bytes). The API shows
        /// `(kept)` in place of a hash.
        users: Users, r#"{"alice": "{SSHA256}/ns6zJE/32NE8cKSZF9az8X5lArEIFIDTnq8kcJ5W2k3YjBkNGYxYzlhMmU2ODM1"}"#;
    }
}

impl Auth {
    /// As the engine asks for them; `None` while a password is still to be kept.
    pub fn auth(&self) -> Option<rules::Auth> {
        let users = self.users.0.iter();
        let users: Option<Vec<(&str, &str)>> = users
            .map(|(name, password)| Some((&**name, password.expose()?)))
            .collect();
        rules::Auth::new(self.realm.as_str(), &users?).ok()
    }
}

impl Check for Auth {}

/// Names, each with a hashed password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Users(BTreeMap<Box<str>, Secret>);

impl Users {
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Secret)> {
        self.0.iter().map(|(name, password)| (&**name, password))
    }

    pub(super) fn passwords_mut(&mut self) -> impl Iterator<Item = (&str, &mut Secret)> {
        let users = self.0.iter_mut();
        users.map(|(name, password)| (&**name, password))
    }
}

/// Reads a user. A password is never repeated in what is said of it.
fn read_user(entry: &Spot<'_>, problems: &mut Problems) -> Option<(Box<str>, Secret)> {
    let name = entry.key();
    let secret = Secret::read(entry, problems)?;
    if name.len() > NAME_BYTES_MAX {
        entry.error(
            problems,
            format_args!("a name has at most {NAME_BYTES_MAX} bytes"),
        );
        return None;
    }
    // A stand-in for a password that is to be kept: the name is checked all the same.
    let hash = rules::Auth::hash("", b"stand-in");
    let password = secret.expose().unwrap_or(&hash);
    match rules::Auth::new("", &[(name, password)]) {
        Ok(_) => Some((name.into(), secret)),
        Err(rules::AuthError::Password { .. }) => {
            let hint = "`{SSHA256}` and base64 of the SHA-256 of password and salt, and the salt";
            entry.error_with_hint(problems, "a hashed password is expected", hint);
            None
        }
        Err(error) => {
            entry.error(problems, error);
            None
        }
    }
}

impl Field for Users {
    const SYNTAX: &'static str = "map of name to hashed password";

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        let entries = spot.entries(Duplicates::Refused, problems)?;
        if !(1..=USERS_MAX).contains(&entries.len()) {
            spot.error(
                problems,
                format_args!("from 1 to {USERS_MAX} users are allowed"),
            );
            return None;
        }
        let users: Vec<_> = entries
            .iter()
            .map(|entry| read_user(entry, problems))
            .collect();
        users.into_iter().collect::<Option<_>>().map(Self)
    }

    fn write(&self) -> Value {
        let users = self.0.iter();
        Value::Object(
            users
                .map(|(name, password)| (name.to_string(), password.write()))
                .collect(),
        )
    }

    fn schema() -> Value {
        json!({
            "type": "object",
            "propertyNames": {
                "pattern": "^[^:\\u0000-\\u001f\\u007f-\\u009f]+$", "maxLength": NAME_BYTES_MAX,
            },
            "additionalProperties": {
                "type": "string",
                "pattern": r"^(\(kept\)|\{SSHA256\}[A-Za-z0-9+/]{54,128}={0,2})$",
            },
            "minProperties": 1,
            "maxProperties": USERS_MAX,
        })
    }
}

/// What a password is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realm(Box<str>);

/// Why a text is no realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a realm has up to {REALM_BYTES_MAX} letters, digits and signs of ASCII but \" and \\")]
pub struct RealmError;

impl Realm {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Realm {
    type Err = RealmError;

    fn from_str(text: &str) -> Result<Self, RealmError> {
        let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        match text.len() <= REALM_BYTES_MAX && text.bytes().all(plain) {
            true => Ok(Self(text.into())),
            false => Err(RealmError),
        }
    }
}

impl Field for Realm {
    const SYNTAX: &'static str = "text";

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        // A default is a plain word.
        let text = spot.text(problems)?;
        let wrong = |error| format!("`{}`: {error}", printable(text));
        text.parse()
            .map_err(|error| spot.error(problems, wrong(error)))
            .ok()
    }

    fn write(&self) -> Value {
        self.as_str().into()
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[ !#-\\[\\]-~]*$", "maxLength": REALM_BYTES_MAX })
    }
}

part! {
    /// A cookie that keeps a client with its target.
    pub struct Sticky {
        /// The name of the cookie.
        cookie: CookieName, r#""at""#;
        /// How long a browser keeps the cookie; by default until it is closed.
        max_age: Option<Duration> where in "1s"..="400d", r#""1h""#;
    }
}

impl Check for Sticky {}

part! {
    /// The promise that a host speaks TLS (RFC 6797), which browsers keep.
    pub struct Hsts {
        /// For how long. `0s` revokes it.
        max_age: Duration where in "0s"..="1000d", r#""365d""#;
        /// Whether all hosts below this one are included.
        include_subdomains: bool = "false", "true";
        /// Whether browsers may preload it.
        preload: bool = "false", "true";
    }
}

impl Check for Hsts {}

impl fmt::Display for Hsts {
    /// As in `Strict-Transport-Security`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "max-age={}", self.max_age.as_secs())?;
        if self.include_subdomains {
            f.write_str("; includeSubDomains")?;
        }
        if self.preload {
            f.write_str("; preload")?;
        }
        Ok(())
    }
}

part! {
    /// Certificates of the clients of a host.
    pub struct ClientCertificates {
        /// Whether a client without a certificate is accepted.
        mode: ClientMode = "required", r#""optional""#;
        /// The authorities that verify clients: certificates in PEM, at most 64.
        roots: Authorities, r#""-----BEGIN CERTIFICATE-----\nMIHCMHYCAQEwBQYDK2VwMA0xCzAJBgNVBAMMAmNhMCAXDTI2MTEyMTE2MDE0NFoY\nDzIxMjYxMDI4MTYwMTQ0WjANMQswCQYDVQQDDAJjYTAqMAUGAytlcAMhAIBOAt37\nr8zd9jUqNWMHKgxLwAGAk1miTVV49Wuyeek7MAUGAytlcANBAL3ngogn80D1pUlQ\nmPqvqXSEC2wjW7J1vM1REeFIGUky1Kx6ghWyCI+Xmze/Nl/lIBvVELbocsH6o6Xt\nEuKYSAM=\n-----END CERTIFICATE-----\n""#;
    }
}

words! {
    /// Whether a client may come without a certificate.
    pub enum ClientMode {
        /// No certificate, no connection.
        Required = "required",
        /// Who shows one is verified.
        Optional = "optional",
    }
}

impl Check for ClientCertificates {}

impl ClientCertificates {
    /// As the engine asks for them.
    pub fn clients(&self) -> Clients {
        let roots: Roots = self.roots.roots();
        match self.mode {
            ClientMode::Required => Clients::Required(roots),
            ClientMode::Optional => Clients::Optional(roots),
        }
    }
}
