//! The fields of a head: names and values, in the order in which they came.

use crate::octet;

mod known;

pub use known::Known;

/// One field line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// A token, in the case in which it was sent.
    pub name: &'a [u8],
    /// Without whitespace at its ends; no control characters but HTAB.
    pub value: &'a [u8],
}

impl Field<'_> {
    /// Whether this is its name, which is given in lower case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// Checked field lines: `name: value CR LF` each, and nothing else.
///
/// This is the form in which fields of every version are held: HTTP/1's as they came, HTTP/2's
/// written out once. Walking over them allocates nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Fields<'a> {
    lines: &'a [u8],
}

impl<'a> Fields<'a> {
    /// No field at all.
    pub const NONE: Self = Self { lines: &[] };

    /// Takes lines that were checked.
    pub(crate) fn checked(lines: &'a [u8]) -> Self {
        Self { lines }
    }

    /// The lines as they are written.
    pub fn lines(self) -> &'a [u8] {
        self.lines
    }

    /// The value of the first field of a name, which is given in lower case.
    pub fn first(self, name: &str) -> Option<&'a [u8]> {
        self.into_iter()
            .find(|field| field.is(name))
            .map(|field| field.value)
    }

    /// The values of all fields of a name, which is given in lower case.
    pub fn all(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.into_iter()
            .filter(move |field| field.is(name))
            .map(|field| field.value)
    }
}

impl<'a> IntoIterator for Fields<'a> {
    type Item = Field<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        Iter { rest: self.lines }
    }
}

/// Walks over [`Fields`].
#[derive(Clone, Debug)]
pub struct Iter<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Iter<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        let end = memchr::memchr(b'\n', self.rest)?;
        let (line, rest) = self.rest.split_at_checked(end + 1)?;
        self.rest = rest;
        let line = line.strip_suffix(b"\r\n")?;
        let colon = memchr::memchr(b':', line)?;
        Some(Field {
            name: &line[..colon],
            value: octet::trim(&line[colon + 1..]),
        })
    }
}

/// The values of the cookies of one name in a request (RFC 6265 section 5.4), in order.
pub fn cookies<'a>(fields: Fields<'a>, name: &str) -> impl Iterator<Item = &'a [u8]> {
    fields.all("cookie").flat_map(move |pairs| {
        pairs.split(|&byte| byte == b';').filter_map(move |pair| {
            let pair = octet::trim(pair);
            pair.strip_prefix(name.as_bytes())?.strip_prefix(b"=")
        })
    })
}
