//! Basic authentication (RFC 7617).
//!
//! Passwords are kept as `{SSHA256}`: the SHA-256 of password and salt, as directory servers keep
//! them. A slow hash (bcrypt, Argon2) would take a worker tens of milliseconds for every request
//! that anybody sends with any password, and with it the other tenants of that worker. A fast one
//! is as good for what belongs here, passwords drawn by a machine: 128 random bits are not guessed,
//! however fast. For passwords that people think of, the application behind has its own sign-in.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};

use crate::{field::Fields, octet};

/// What stands in front of a hash.
const SCHEME: &str = "{SSHA256}";

/// Shortest salt in bytes.
pub const SALT_BYTES_MIN: usize = 8;

/// Longest salt in bytes.
pub const SALT_BYTES_MAX: usize = 64;

/// Longest name and password together in bytes.
pub const CREDENTIALS_BYTES_MAX: usize = 512;

/// Most users of one rule: each is compared with.
pub const USERS_MAX: usize = 256;

/// Names and passwords that a rule asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    challenge: Box<str>,
    users: Box<[User]>,
}

#[derive(Clone, PartialEq, Eq)]
struct User {
    name: Box<str>,
    hash: [u8; 32],
    salt: Box<[u8]>,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Why a rule's users are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// No user, or more than [`USERS_MAX`].
    #[error("from 1 to {USERS_MAX} users are possible")]
    Users,
    /// A realm with a quote, a backslash or a control character.
    #[error("{realm:?} cannot be a realm")]
    Realm {
        /// As it was given.
        realm: String,
    },
    /// A name that is empty, or has a colon (RFC 7617 section 2) or a control character.
    #[error("{name:?} cannot be a user name")]
    Name {
        /// As it was given.
        name: String,
    },
    /// Not `{SSHA256}` with the Base64 of hash and salt.
    #[error(
        "the password of {name} is not {SCHEME} with the Base64 of SHA-256 and \
         {SALT_BYTES_MIN} to {SALT_BYTES_MAX} bytes of salt"
    )]
    Password {
        /// Whose.
        name: String,
    },
}

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checked<'a> {
    Granted(&'a str),
    Absent,
    Wrong,
}

impl Auth {
    /// Takes a realm, and names with hashed passwords.
    ///
    /// # Errors
    /// The first of them that is not possible.
    pub fn new(realm: &str, users: &[(&str, &str)]) -> Result<Self, AuthError> {
        let plain = |text: &str| text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if !plain(realm) || realm.contains(['"', '\\']) {
            let realm = realm.into();
            return Err(AuthError::Realm { realm });
        }
        if !(1..=USERS_MAX).contains(&users.len()) {
            return Err(AuthError::Users);
        }
        let users = users.iter().map(|(name, password)| {
            if name.is_empty() || name.contains(':') || name.chars().any(char::is_control) {
                let name = (*name).into();
                return Err(AuthError::Name { name });
            }
            User::new(name, password).ok_or_else(|| AuthError::Password {
                name: (*name).into(),
            })
        });
        Ok(Self {
            challenge: format!("Basic realm=\"{realm}\", charset=\"UTF-8\"").into(),
            users: users.collect::<Result<_, _>>()?,
        })
    }

    /// The value of `WWW-Authenticate` for who is not let in.
    pub fn challenge(&self) -> &str {
        &self.challenge
    }

    /// Hashes a password in the form that [`Auth::new`] takes.
    pub fn hash(password: &str, salt: &[u8]) -> String {
        let mut raw = digest(password.as_bytes(), salt).to_vec();
        raw.extend_from_slice(salt);
        format!("{SCHEME}{}", STANDARD.encode(raw))
    }

    /// Looks for a user with the name and password of a request. How long it takes depends on
    /// neither, but for their length.
    pub(crate) fn check(&self, fields: Fields<'_>) -> Checked<'_> {
        let mut values = fields.all("authorization");
        let (Some(value), None) = (values.next(), values.next()) else {
            return Checked::Absent;
        };
        let Some(encoded) = credentials(value) else {
            return Checked::Absent;
        };
        let mut place = [0; CREDENTIALS_BYTES_MAX];
        let decoded = STANDARD.decode_slice(encoded, &mut place).ok();
        let decoded = decoded.and_then(|len| place.get(..len));
        let colon = decoded.and_then(|decoded| memchr::memchr(b':', decoded));
        let (Some(decoded), Some(colon)) = (decoded, colon) else {
            return Checked::Wrong;
        };
        let (name, password) = (&decoded[..colon], &decoded[colon + 1..]);
        let mut found = u32::MAX;
        for (index, user) in (0_u32..).zip(&self.users) {
            let same = user.is(name, password);
            found.conditional_assign(&index, same);
        }
        match self.users.get(found as usize) {
            Some(user) => Checked::Granted(&user.name),
            None => Checked::Wrong,
        }
    }
}

impl User {
    fn new(name: &str, password: &str) -> Option<Self> {
        let raw = STANDARD.decode(password.strip_prefix(SCHEME)?).ok()?;
        let (hash, salt) = raw.split_first_chunk::<32>()?;
        (SALT_BYTES_MIN..=SALT_BYTES_MAX)
            .contains(&salt.len())
            .then(|| Self {
                name: name.into(),
                hash: *hash,
                salt: salt.into(),
            })
    }

    fn is(&self, name: &[u8], password: &[u8]) -> Choice {
        let hash = digest(password, &self.salt);
        self.name.as_bytes().ct_eq(name) & self.hash.ct_eq(&hash)
    }
}

/// The credentials behind `Basic`, in any case (RFC 7617 section 2).
fn credentials(value: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = value.split_at_checked("Basic ".len())?;
    scheme
        .eq_ignore_ascii_case(b"Basic ")
        .then(|| octet::trim(rest))
}

fn digest(password: &[u8], salt: &[u8]) -> [u8; 32] {
    let mut sha256 = Sha256::new();
    sha256.update(password);
    sha256.update(salt);
    sha256.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<'a>(auth: &'a Auth, lines: &str) -> Checked<'a> {
        auth.check(Fields::checked(lines.as_bytes()))
    }

    #[test]
    fn only_the_right_name_with_its_password_is_let_in() {
        let (alice, bob) = (
            Auth::hash("s3cret:x", b"saltsalt"),
            Auth::hash("", b"saltsal2"),
        );
        let auth = Auth::new("area", &[("alice", &alice), ("bob", &bob)]).unwrap();
        let with = |scheme: &str, pair: &str| {
            check(
                &auth,
                &format!("Authorization: {scheme} {}\r\n", STANDARD.encode(pair)),
            )
        };
        assert_eq!(with("Basic", "alice:s3cret:x"), Checked::Granted("alice"));
        assert_eq!(with("bAsIc", "bob:"), Checked::Granted("bob"));
        assert_eq!(with("Basic", "bob:s3cret:x"), Checked::Wrong);
        assert_eq!(with("Basic", "alice:s3cret"), Checked::Wrong);
        assert_eq!(with("Basic", "alice"), Checked::Wrong);
        assert_eq!(with("Basic", &"a:b".repeat(500)), Checked::Wrong);
        assert_eq!(with("Bearer", "alice:s3cret:x"), Checked::Absent);
        assert_eq!(check(&auth, ""), Checked::Absent);
        assert_eq!(check(&auth, "Authorization: Basic %%\r\n"), Checked::Wrong);
        assert_eq!(auth.challenge(), "Basic realm=\"area\", charset=\"UTF-8\"");
        assert!(
            !format!("{auth:?}").contains("salt"),
            "hashes stay out of logs"
        );
    }

    #[test]
    fn what_cannot_be_a_user_is_refused() {
        let hash = Auth::hash("x", b"12345678");
        assert!(Auth::new("a\"b", &[("a", &hash)]).is_err());
        assert!(Auth::new("a", &[]).is_err());
        assert!(Auth::new("a", &[("a:b", &hash)]).is_err());
        assert!(Auth::new("a", &[("a", "plain")]).is_err());
        assert!(Auth::new("a", &[("a", &Auth::hash("x", b"short"))]).is_err());
    }
}
