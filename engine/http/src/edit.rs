//! What a rule changes in a message that passes.

use std::borrow::Cow;

use crate::{chunked, field::Known, octet};

/// Fields that a rule removes and writes, after everything that the gateway does by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldEdits {
    /// Compared as [`octet::is_same_name`] says.
    removed: Box<[Box<[u8]>]>,
    written: Box<[Written]>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Written {
    name: Box<[u8]>,
    value: Box<[u8]>,
}

/// Why a field cannot be edited.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// Not a token (RFC 9110 section 5.1).
    #[error("{name:?} is not a field name")]
    Name {
        /// As it was given.
        name: String,
    },
    /// A control character in the value, or whitespace at its ends.
    #[error("the value of {name} has a character that fields cannot have")]
    Value {
        /// The field.
        name: String,
    },
    /// A field that says how a message is framed or where it goes, which the gateway writes.
    #[error("{name} is written by the gateway itself")]
    Reserved {
        /// The field.
        name: String,
    },
}

impl FieldEdits {
    /// Fields to `set` (in place of any of that name), to `add`, and to `remove`.
    ///
    /// # Errors
    /// All fields that cannot be edited.
    pub fn new(
        set: &[(&str, &str)],
        add: &[(&str, &str)],
        remove: &[&str],
    ) -> Result<Self, Vec<EditError>> {
        let names = set.iter().chain(add).map(|(name, _)| name).chain(remove);
        let wrong_names = names.filter_map(|name| check_name(name).err());
        let values = set.iter().chain(add);
        let wrong_values = values.filter_map(|(name, value)| check_value(name, value).err());
        let errors: Vec<EditError> = wrong_names.chain(wrong_values).collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        let removed = set.iter().map(|(name, _)| name).chain(remove);
        Ok(Self {
            removed: removed.map(|name| name.as_bytes().into()).collect(),
            written: set
                .iter()
                .chain(add)
                .map(|(name, value)| Written {
                    name: name.as_bytes().into(),
                    value: value.as_bytes().into(),
                })
                .collect(),
        })
    }

    /// Whether a field is not to be passed on. A name with `_` for `-` is the same name: an upstream
    /// that takes the two for one would otherwise see the client's value beside the rule's.
    pub fn removes(&self, name: &[u8]) -> bool {
        self.removed
            .iter()
            .any(|removed| octet::is_same_name(removed, name))
    }

    /// Whether a field is removed or written.
    pub(crate) fn touches(&self, name: &[u8]) -> bool {
        self.removes(name)
            || self
                .written()
                .any(|(own, _)| octet::is_same_name(own, name))
    }

    /// Trailers as they are passed on: without the fields that are removed, since whoever merges trailers
    /// into the head would take them for the rule's (RFC 9110 section 6.5.1). `lines` are those of
    /// [`chunked::Decoder::trailers`].
    pub fn trailers<'t>(&self, lines: &'t [u8]) -> Cow<'t, [u8]> {
        let fields = || chunked::trailer_fields(lines).into_iter();
        if self.removed.is_empty() || !fields().any(|field| self.removes(field.name)) {
            return Cow::Borrowed(lines);
        }
        let mut kept = Vec::with_capacity(lines.len());
        for field in fields().filter(|field| !self.removes(field.name)) {
            for part in [field.name, b": ", field.value, b"\r\n"] {
                kept.extend_from_slice(part);
            }
        }
        Cow::Owned(kept)
    }

    /// Names and values to write.
    pub fn written(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.written
            .iter()
            .map(|field| (&*field.name, &*field.value))
    }
}

fn check_name(name: &str) -> Result<(), EditError> {
    if !octet::is_token(name.as_bytes()) {
        return Err(EditError::Name { name: name.into() });
    }
    match Known::of(name.as_bytes()) {
        Some(
            Known::Connection
            | Known::ContentLength
            | Known::Expect
            | Known::Host
            | Known::Te
            | Known::Trailer
            | Known::TransferEncoding
            | Known::Upgrade
            | Known::KeepAlive
            | Known::HopByHop
            | Known::ForProxy
            | Known::XRequestId,
        ) => Err(EditError::Reserved { name: name.into() }),
        Some(
            Known::Forwarded
            | Known::XForwardedFor
            | Known::XForwardedProto
            | Known::XForwardedHost
            | Known::XForwardedOther
            | Known::ClientCert
            | Known::OfProxy
            | Known::Proxy
            | Known::XRealIp
            | Known::TraceParent
            | Known::StrictTransportSecurity
            | Known::Disguised,
        )
        | None => Ok(()),
    }
}

fn check_value(name: &str, value: &str) -> Result<(), EditError> {
    let bytes = value.as_bytes();
    if bytes.iter().copied().all(octet::is_value) && octet::trim(bytes).len() == bytes.len() {
        return Ok(());
    }
    Err(EditError::Value { name: name.into() })
}

/// What becomes of the target of a request that is passed on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrite {
    prefix: Option<Box<str>>,
    host: Option<Box<str>>,
}

/// Why a target cannot be rewritten.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// Not a path.
    #[error("{prefix:?} is not a path that begins with /")]
    Prefix {
        /// As it was given.
        prefix: String,
    },
    /// Not a host with at most a port.
    #[error("{host:?} is not a host")]
    Host {
        /// As it was given.
        host: String,
    },
}

impl Rewrite {
    /// Puts `prefix` in place of the path prefix that a rule was found by, and `host` in Host.
    ///
    /// # Errors
    /// Says which of the two cannot be written.
    pub fn new(prefix: Option<&str>, host: Option<&str>) -> Result<Self, RewriteError> {
        let is_path = |path: &str| {
            path.starts_with('/')
                && !path.contains(['?', '\\'])
                && path.bytes().all(octet::is_target)
        };
        if let Some(prefix) = prefix.filter(|prefix| !is_path(prefix)) {
            let prefix = prefix.into();
            return Err(RewriteError::Prefix { prefix });
        }
        if let Some(host) = host.filter(|host| crate::host::Host::parse(host.as_bytes()).is_none())
        {
            let host = host.into();
            return Err(RewriteError::Host { host });
        }
        Ok(Self {
            prefix: prefix.map(Into::into),
            host: host.map(Into::into),
        })
    }

    /// The host to ask for, if not the client's.
    pub fn host(&self) -> Option<&str> {
        self.host.as_deref()
    }

    /// Appends the path to ask for: `path` with its first `matched` bytes replaced. Slashes meet
    /// once: `/api` as `/` makes `/x` of `/api/x`, and of `/api//x`, too: a path that begins with
    /// two slashes is a host's name to many readers (RFC 3986 section 4.2).
    pub fn write_path(&self, path: &str, matched: usize, out: &mut Vec<u8>) {
        let (Some(prefix), Some(rest)) = (&self.prefix, path.get(matched..)) else {
            out.extend_from_slice(path.as_bytes());
            return;
        };
        let bare = prefix.strip_suffix('/').unwrap_or(prefix);
        let rest = match bare.is_empty() {
            true => rest.trim_start_matches('/'),
            false => rest.strip_prefix('/').unwrap_or(rest),
        };
        if rest.is_empty() && !path.ends_with('/') {
            out.extend_from_slice(prefix.as_bytes());
            return;
        }
        out.extend_from_slice(bare.as_bytes());
        out.push(b'/');
        out.extend_from_slice(rest.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_replaced_with_slashes_in_place() {
        for (prefix, path, matched, expected) in [
            ("/", "/api/x", 4, "/x"),
            ("/", "/api", 4, "/"),
            ("/v2", "/api/x", 4, "/v2/x"),
            ("/v2/", "/api/x", 4, "/v2/x"),
            ("/v2", "/api/", 4, "/v2/"),
            ("/v2", "/api", 4, "/v2"),
            ("/base", "/x", 1, "/base/x"),
            ("/base", "/", 1, "/base/"),
            ("/base", "/x", 0, "/base/x"),
            ("/", "/rw//evil.example", 3, "/evil.example"),
            ("/", "/rw///evil.example/", 4, "/evil.example/"),
            ("/v2", "/bucket//key", 7, "/v2//key"),
            ("/v2/", "/dir", 4, "/v2/"),
        ] {
            let mut out = Vec::new();
            let rewrite = Rewrite::new(Some(prefix), None).unwrap();
            rewrite.write_path(path, matched, &mut out);
            assert_eq!(out, expected.as_bytes(), "{path} with {prefix}");
        }
    }

    #[test]
    fn a_removed_field_is_removed_in_every_spelling_that_upstreams_read_as_its_name() {
        let edits = FieldEdits::new(&[("x-tenant", "a")], &[], &["X_Role-Name"]).unwrap();
        for name in [
            "x-tenant",
            "X_Tenant",
            "x_tenant",
            "X-ROLE-NAME",
            "x_role_name",
        ] {
            assert!(edits.removes(name.as_bytes()), "{name}");
        }
        for name in ["x-tenants", "xtenant", "x.tenant", "x-role"] {
            assert!(!edits.removes(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn what_would_break_a_message_cannot_be_written() {
        let errors = FieldEdits::new(
            &[("x y", "1"), ("x", "a\r\nb: c"), ("Content-Length", "3")],
            &[("transfer_encoding", "chunked")],
            &["Connection", "x-ok"],
        )
        .unwrap_err();
        assert_eq!(errors.len(), 4);
        assert!(Rewrite::new(Some("x"), None).is_err());
        assert!(Rewrite::new(Some("/a b"), None).is_err());
        assert!(Rewrite::new(None, Some("a/b")).is_err());
        assert!(Rewrite::new(Some("/a"), Some("b.example:8080")).is_ok());
    }
}
