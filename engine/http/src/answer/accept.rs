//! Which form of an error the client likes better.

use crate::{field::Fields, octet};

/// A form of the gateway's own bodies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `application/json`
    Json,
    /// `text/html`
    Html,
}

/// Reads Accept (RFC 9110 section 12.5.1). HTML is for who asks for it by name or range and likes
/// it better than JSON, which browsers do; everybody else gets JSON, also who would take neither.
pub fn negotiate(fields: Fields<'_>) -> Form {
    let mut quality = [Quality::default(); 2];
    for value in fields.all("accept") {
        for range in octet::list(value) {
            let (media, weight) = read(range);
            quality[0].offer(media, b"application/json", weight);
            quality[1].offer(media, b"text/html", weight);
        }
    }
    match quality[1].weight > quality[0].weight {
        true => Form::Html,
        false => Form::Json,
    }
}

/// The weight of a media type in thousandths: that of the most specific range that covers it.
#[derive(Clone, Copy, Default)]
struct Quality {
    specificity: u8,
    weight: u16,
}

impl Quality {
    fn offer(&mut self, range: &[u8], media: &[u8], weight: u16) {
        let kind = media.split_inclusive(|byte| *byte == b'/').next();
        let specificity = if range.eq_ignore_ascii_case(media) {
            3
        } else if range.strip_suffix(b"*").is_some_and(|it| Some(it) == kind) {
            2
        } else if range == b"*/*" {
            1
        } else {
            return;
        };
        if specificity > self.specificity {
            *self = Self {
                specificity,
                weight,
            };
        }
    }
}

/// The range without its parameters, and its weight; 1 where none is given, 0 where it is
/// malformed.
fn read(range: &[u8]) -> (&[u8], u16) {
    let mut parts = range.split(|byte| *byte == b';').map(octet::trim);
    let media = parts.next().unwrap_or_default();
    let weight = parts
        .find_map(|part| part.strip_prefix(b"q=").or(part.strip_prefix(b"Q=")))
        .map_or(1000, thousandths);
    (media, weight)
}

/// A weight (RFC 9110 section 12.4.2): 0 or 1, with up to three digits behind the dot.
fn thousandths(text: &[u8]) -> u16 {
    let (whole, rest) = match text {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', rest @ ..] if rest.len() <= 3 => (whole, rest),
        _ => return 0,
    };
    if !rest.iter().all(u8::is_ascii_digit) {
        return 0;
    }
    let digit = |at: usize| u16::from(rest.get(at).map_or(0, |byte| byte - b'0'));
    (u16::from(whole - b'0') * 1000 + digit(0) * 100 + digit(1) * 10 + digit(2)).min(1000)
}
