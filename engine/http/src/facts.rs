//! What the fields of a message say about its framing and its connection.

use crate::{
    field::{Field, Fields, Known},
    limits::CONNECTION_OPTIONS_MAX,
    octet,
    refusal::Refusal,
};

/// Where the content of a request ends (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After so many bytes.
    Length(u64),
    /// Where the chunks end; in HTTP/2, where the stream ends.
    Chunked,
}

/// What Connection names (RFC 9110 section 7.6.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection {
    /// `close`
    pub close: bool,
    /// `keep-alive`
    pub keep_alive: bool,
    /// `upgrade`
    pub upgrade: bool,
    /// Anything else: fields that end at this hop.
    pub names: bool,
}

impl Connection {
    /// Gives how many options there are.
    fn add(&mut self, value: &[u8]) -> usize {
        let mut count = 0;
        for option in octet::list(value) {
            count += 1;
            if option.eq_ignore_ascii_case(b"close") {
                self.close = true;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.keep_alive = true;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.upgrade = true;
            } else {
                self.names = true;
            }
        }
        count
    }
}

/// The fields that Connection says end at this hop (RFC 9110 section 7.6.1), read once for a head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named<'a> {
    /// Those of [`Named::count`] are written.
    options: [&'a [u8]; CONNECTION_OPTIONS_MAX],
    count: usize,
}

impl<'a> Named<'a> {
    /// What `connection` and the fields that it was read from name.
    pub(crate) fn of(connection: Connection, fields: Fields<'a>) -> Self {
        let mut named = Self {
            options: [b""; CONNECTION_OPTIONS_MAX],
            count: 0,
        };
        if connection.names {
            let options = fields.all("connection").flat_map(octet::list);
            for (place, option) in named.options.iter_mut().zip(options) {
                *place = option;
                named.count += 1;
            }
        }
        named
    }

    /// Whether it names a field.
    pub(crate) fn has(&self, name: &[u8]) -> bool {
        let options = self.options.iter().take(self.count);
        options
            .into_iter()
            .any(|option| option.eq_ignore_ascii_case(name))
    }
}

/// A field that may come once.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) enum Once<'a> {
    #[default]
    Never,
    One(&'a [u8]),
    /// Several times, and always with the same value.
    Same(&'a [u8]),
    /// Several times.
    Several,
}

impl<'a> Once<'a> {
    fn add(&mut self, value: &'a [u8]) {
        *self = match *self {
            Self::Never => Self::One(value),
            Self::One(before) | Self::Same(before) if before == value => Self::Same(value),
            Self::One(_) | Self::Same(_) | Self::Several => Self::Several,
        };
    }
}

/// The fields that decide about framing, connection and routing, gathered in one pass.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Facts<'a> {
    connection: Connection,
    /// How many options Connection has.
    options: usize,
    pub(crate) host: Once<'a>,
    pub(crate) length: Once<'a>,
    pub(crate) coding: Once<'a>,
    pub(crate) upgrade: Once<'a>,
    /// `100-continue`
    pub(crate) expects_continue: bool,
    /// An expectation other than that.
    pub(crate) expects_other: bool,
    /// TE names `trailers`.
    pub(crate) te_trailers: bool,
    /// A field that has no place in HTTP/2 (RFC 9113 section 8.2.2).
    pub(crate) of_connection: bool,
    /// Keep-Alive
    keep_alive: Option<&'a [u8]>,
}

impl<'a> Facts<'a> {
    /// Gathers what some fields say.
    pub(crate) fn of(fields: impl IntoIterator<Item = Field<'a>>) -> Self {
        let mut facts = Self::default();
        for field in fields {
            if let Some(known) = Known::of(field.name) {
                facts.add(known, field.value);
            }
        }
        facts
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other fields say nothing here"
    )]
    fn add(&mut self, known: Known, value: &'a [u8]) {
        match known {
            Known::Connection => {
                self.options += self.connection.add(value);
                self.of_connection = true;
            }
            Known::ContentLength => self.length.add(value),
            Known::Expect => {
                for expectation in octet::list(value) {
                    let known = expectation.eq_ignore_ascii_case(b"100-continue");
                    self.expects_continue |= known;
                    self.expects_other |= !known;
                }
            }
            Known::Host => self.host.add(value),
            Known::Te => {
                for coding in octet::list(value) {
                    let trailers = coding.eq_ignore_ascii_case(b"trailers");
                    self.te_trailers |= trailers;
                    self.of_connection |= !trailers;
                }
            }
            Known::TransferEncoding => {
                self.coding.add(value);
                self.of_connection = true;
            }
            Known::Upgrade => {
                self.upgrade.add(value);
                self.of_connection = true;
            }
            Known::KeepAlive => {
                self.keep_alive = self.keep_alive.or(Some(value));
                self.of_connection = true;
            }
            Known::HopByHop => self.of_connection = true,
            _ => {}
        }
    }

    /// What Connection says.
    pub(crate) fn connection(&self) -> Result<Connection, Refusal> {
        match self.options {
            0..=CONNECTION_OPTIONS_MAX => Ok(self.connection),
            _ => Err(Refusal::TooManyOptions),
        }
    }

    /// How long the sender keeps the connection open between two messages, in seconds:
    /// `Keep-Alive: timeout=N` (RFC 2068 section 19.7.1.1). What is malformed says nothing.
    pub(crate) fn rests_for(&self) -> Option<u32> {
        octet::list(self.keep_alive?).find_map(|parameter| {
            let (name, value) = parameter.split_at_checked("timeout=".len())?;
            let seconds = value.iter().all(u8::is_ascii_digit).then_some(value)?;
            let seconds = std::str::from_utf8(seconds).ok()?.parse().ok();
            seconds.filter(|_| name.eq_ignore_ascii_case(b"timeout="))
        })
    }

    /// What Content-Length says.
    pub(crate) fn length(&self) -> Result<Option<u64>, Refusal> {
        match self.length {
            Once::Never => Ok(None),
            Once::One(digits) => parse_length(digits).map(Some).ok_or(Refusal::Length),
            Once::Same(_) | Once::Several => Err(Refusal::SeveralLengths),
        }
    }

    /// Takes a length that a response repeats for the one that it means (RFC 9110 section 8.6): in
    /// several fields, or in one as a list.
    ///
    /// # Errors
    /// Where it says different ones.
    pub(crate) fn merge_lengths(&mut self) -> Result<(), Refusal> {
        let value = match self.length {
            Once::One(value) | Once::Same(value) => value,
            Once::Never => return Ok(()),
            Once::Several => return Err(Refusal::SeveralLengths),
        };
        let mut lengths = value.split(|&byte| byte == b',').map(octet::trim);
        let first = lengths.next().unwrap_or_default();
        if !lengths.all(|length| length == first) {
            return Err(Refusal::SeveralLengths);
        }
        self.length = Once::One(first);
        Ok(())
    }

    /// Whether the content is chunked. Nothing but `chunked` alone is taken.
    pub(crate) fn chunked(&self) -> Result<bool, Refusal> {
        match self.coding {
            Once::Never => Ok(false),
            Once::One(coding) if coding.eq_ignore_ascii_case(b"chunked") => Ok(true),
            Once::One(_) => Err(Refusal::Coding),
            Once::Same(_) | Once::Several => Err(Refusal::SeveralCodings),
        }
    }

    /// Framing as both fields together give it, for a version that knows transfer codings or not.
    pub(crate) fn framing(&self, codings: bool) -> Result<Framing, Refusal> {
        let length = self.length()?;
        match (self.coding, length) {
            (Once::Never, None) => return Ok(Framing::None),
            (Once::Never, Some(length)) => return Ok(Framing::Length(length)),
            (Once::One(_) | Once::Same(_) | Once::Several, Some(_)) => {
                return Err(Refusal::LengthAndCoding);
            }
            (Once::One(_) | Once::Same(_) | Once::Several, None) => {}
        }
        if !codings {
            return Err(Refusal::CodingVersion);
        }
        Ok(match self.chunked()? {
            true => Framing::Chunked,
            false => Framing::None,
        })
    }
}

/// Digits alone, and no more than 64 bits (RFC 9110 section 8.6).
fn parse_length(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}
