//! The names that rules may have, by which they are changed one by one.

use std::{fmt, str::FromStr};

use serde_json::{Value, json};

use super::text::string_field;
use crate::{document::Spot, field::Field, problem::Problems};

/// Longest name of a rule in bytes.
const ID_BYTES_MAX: usize = 64;

/// The `id` of a rule: 1 to 64 of `a` to `z`, digits, `_`, `.` and `-`, of which a letter or a digit
/// comes first. No two rules of a gateway have the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(Box<str>);

/// The text is no `id` of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an id is expected: 1 to {ID_BYTES_MAX} of a to z, 0 to 9, `_`, `.` and `-`, beginning with a letter \
     or a digit"
)]
pub struct RuleIdError;

impl RuleId {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RuleId {
    type Err = RuleIdError;

    fn from_str(text: &str) -> Result<Self, RuleIdError> {
        let is_first = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_known = |byte: u8| is_first(byte) || matches!(byte, b'_' | b'.' | b'-');
        let begins_well = text.bytes().next().is_some_and(is_first);
        if begins_well && text.len() <= ID_BYTES_MAX && text.bytes().all(is_known) {
            return Ok(Self(text.into()));
        }
        Err(RuleIdError)
    }
}

impl fmt::Display for RuleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

string_field!(RuleId, "id", {
    "type": "string",
    "pattern": "^[a-z0-9][a-z0-9_.-]{0,63}$",
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_short_and_plain() {
        let longest = "a".repeat(ID_BYTES_MAX);
        for id in ["a", "0", "shop.example.com", "api_v1-2", &longest] {
            let read: Result<RuleId, _> = id.parse();
            assert_eq!(read.as_ref().map(RuleId::as_str), Ok(id));
        }
        let longer = "a".repeat(ID_BYTES_MAX + 1);
        for text in ["", "-a", ".a", "_", "A", "a/b", "a b", "é", &longer] {
            assert_eq!(text.parse::<RuleId>(), Err(RuleIdError), "{text}");
        }
    }
}
