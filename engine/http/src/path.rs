//! Which path a request means.
//!
//! Rules are found by the *strict* reading of a path, and that is also what is sent to the
//! upstream: percent-encoded letters, digits and `-._~` are decoded, other encodings keep their
//! octet with upper-case digits (RFC 3986 section 6.2.2), and dot segments are resolved (section
//! 5.2.4). An encoded slash is no separator, and a double slash is an empty segment.
//!
//! Upstreams are often more lenient, and a rule that denies `/admin` must not be passed by what an
//! upstream then takes for `/admin`. So a path that could be read in another way is also read
//! *loosely*: everything decoded once, backslashes and encoded slashes taken for separators,
//! parameters (`;…`) cut off each segment, empty segments left out, dot segments resolved after
//! all that. Where both readings lead to one rule, the difference is the upstream's to make. Where
//! they do not, the request is refused ([`Refusal::AmbiguousPath`]). Thus `/group%2Fproject` and
//! `/bucket//key` pass as they are, until a rule for `/group` or `/bucket/key` says something else.
//!
//! Refused in any case: a malformed encoding, an encoded NUL, a backslash, and `..` above the root.

use std::borrow::Cow;

use crate::{octet, refusal::Refusal};

/// The path of a request in both readings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path<'a> {
    strict: Cow<'a, str>,
    loose: Option<Vec<u8>>,
}

impl<'a> Path<'a> {
    /// Reads the path of a target. Allocates only for one that is not already in its strict form,
    /// or that has another reading.
    ///
    /// # Errors
    /// Says why a path has no meaning.
    pub fn read(raw: &'a str) -> Result<Self, Refusal> {
        let (mut encoded, mut dots, mut other) = (false, false, false);
        let mut before = 0;
        for byte in raw.bytes() {
            match byte {
                b'%' => encoded = true,
                b'\\' => return Err(Refusal::Target),
                b'.' if before == b'/' => dots = true,
                b';' => other = true,
                b'/' if before == b'/' => other = true,
                _ => {}
            }
            before = byte;
        }
        let mut strict = Cow::Borrowed(raw);
        if encoded {
            strict = Cow::Owned(normalise(raw)?);
            dots |= strict.contains("/.");
        }
        if dots {
            strict = Cow::Owned(resolve_text(&strict)?);
        }
        let loose = match other || strict.contains('%') {
            true => Some(read_loosely(&strict)?),
            false => None,
        };
        Ok(Self { strict, loose })
    }

    /// The strict reading: what rules are found by, and what is sent.
    pub fn as_str(&self) -> &str {
        &self.strict
    }

    /// The loose reading, where it may differ.
    pub(crate) fn loose(&self) -> Option<&[u8]> {
        self.loose.as_deref()
    }
}

/// Decodes what means the same decoded, and writes the digits of the rest in upper case.
fn normalise(raw: &str) -> Result<String, Refusal> {
    let mut strict = String::with_capacity(raw.len());
    let mut parts = raw.split('%');
    strict.push_str(parts.next().unwrap_or_default());
    for part in parts {
        let byte = decode(part.as_bytes()).ok_or(Refusal::Escape)?;
        match byte {
            0 => return Err(Refusal::EncodedNul),
            byte if octet::is_unreserved(byte) => strict.push(char::from(byte)),
            _ => {
                strict.push('%');
                strict.extend(part[..2].chars().map(|digit| digit.to_ascii_uppercase()));
            }
        }
        strict.push_str(&part[2..]);
    }
    Ok(strict)
}

/// The octet that two hex digits stand for.
fn decode(digits: &[u8]) -> Option<u8> {
    let [high, low, ..] = digits else {
        return None;
    };
    Some(octet::hex(*high)? << 4 | octet::hex(*low)?)
}

/// Resolves dot segments (RFC 3986 section 5.2.4).
fn resolve_text(path: &str) -> Result<String, Refusal> {
    let resolved = resolve(path.as_bytes().split(|&byte| byte == b'/').skip(1))?;
    // Segments of text, joined by slashes.
    String::from_utf8(resolved).map_err(|_| Refusal::Target)
}

/// The loose reading of a path in its strict form.
pub(crate) fn read_loosely(strict: &str) -> Result<Vec<u8>, Refusal> {
    let mut decoded = Vec::with_capacity(strict.len());
    let mut parts = strict.split('%');
    decoded.extend_from_slice(parts.next().unwrap_or_default().as_bytes());
    for part in parts {
        decoded.push(decode(part.as_bytes()).ok_or(Refusal::Escape)?);
        decoded.extend_from_slice(part.get(2..).unwrap_or_default().as_bytes());
    }
    let is_separator = |byte: &u8| matches!(byte, b'/' | b'\\');
    let last_is_empty = decoded.last().is_some_and(is_separator);
    let segments = decoded
        .split(is_separator)
        .map(|segment| {
            segment
                .split(|&byte| byte == b';')
                .next()
                .unwrap_or_default()
        })
        .filter(|segment| !segment.is_empty());
    let end: Option<&[u8]> = last_is_empty.then_some(b"");
    resolve(segments.chain(end))
}

/// Joins segments, of which `.` and `..` are followed.
fn resolve<'s>(segments: impl Iterator<Item = &'s [u8]>) -> Result<Vec<u8>, Refusal> {
    let mut resolved: Vec<u8> = Vec::new();
    let mut open = false;
    for segment in segments {
        open = false;
        match segment {
            b"." => open = true,
            b".." => {
                let slash = memchr::memrchr(b'/', &resolved).ok_or(Refusal::AboveRoot)?;
                resolved.truncate(slash);
                open = true;
            }
            _ => {
                resolved.push(b'/');
                resolved.extend_from_slice(segment);
            }
        }
    }
    // A dot segment at the end stands for a directory.
    if open || resolved.is_empty() {
        resolved.push(b'/');
    }
    Ok(resolved)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_strict_reading_is_the_one_of_rfc_3986() {
        for (raw, strict) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/%61dmin", "/admin"),
            ("/a%2fb", "/a%2Fb"),
            ("/%e2%82%ac", "/%E2%82%AC"),
            ("/a/./b/../c", "/a/c"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/a/b/%2e%2E/c", "/a/c"),
            ("/a//b", "/a//b"),
            ("/a//../b", "/a/b"),
            ("/..a/.b/c..", "/..a/.b/c.."),
            ("/.well-known/x", "/.well-known/x"),
        ] {
            assert_eq!(Path::read(raw).unwrap().as_str(), strict, "{raw}");
        }
    }

    #[test]
    fn paths_without_meaning_are_refused() {
        for (raw, refusal) in [
            ("/%", Refusal::Escape),
            ("/%4", Refusal::Escape),
            ("/%4g", Refusal::Escape),
            ("/%%41", Refusal::Escape),
            ("/%u0041", Refusal::Escape),
            ("/a%00b", Refusal::EncodedNul),
            ("/a\\b", Refusal::Target),
            ("/..", Refusal::AboveRoot),
            ("/a/../../b", Refusal::AboveRoot),
            ("/%2e%2e/b", Refusal::AboveRoot),
            ("/..%2fb", Refusal::AboveRoot),
            ("/..;/b", Refusal::AboveRoot),
            ("/a/..%5c..%5cb", Refusal::AboveRoot),
        ] {
            assert_eq!(Path::read(raw), Err(refusal), "{raw}");
        }
    }

    #[test]
    fn the_loose_reading_is_what_lenient_upstreams_see() {
        for (raw, loose) in [
            ("//admin", "/admin"),
            ("/x/..;/admin", "/admin"),
            ("/x%2f..%2fadmin", "/admin"),
            ("/admin;v=1/x", "/admin/x"),
            ("/x/..%5cadmin/", "/admin/"),
            ("/a%40b", "/a@b"),
        ] {
            let path = Path::read(raw).unwrap();
            assert_eq!(path.loose(), Some(loose.as_bytes()), "{raw}");
        }
        assert_eq!(Path::read("/plain/.well/x.y").unwrap().loose(), None);
    }

    proptest! {
        #[test]
        fn a_strict_path_is_its_own_strict_path(raw in "/[a-c./%;25eEfF]{0,20}") {
            if let Ok(path) = Path::read(&raw) {
                let again = Path::read(path.as_str()).unwrap();
                prop_assert_eq!(again.as_str(), path.as_str());
                prop_assert!(path.as_str().starts_with('/'));
                prop_assert!(!path.as_str().split('/').any(|it| it == "." || it == ".."));
                if let Some(loose) = path.loose() {
                    prop_assert!(loose.starts_with(b"/"));
                }
            }
        }
    }
}
