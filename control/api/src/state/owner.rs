//! Whose the objects of the desired state are.
//!
//! What is applied is the base and belongs to `api`. Others have networks, rules and peers beside it,
//! or rules and peers in networks that are not theirs. Each changes what it has, and nothing else.

use std::{fmt, str::FromStr, sync::Arc};

use serde_json::{Value, json};

use crate::{document::Spot, field::Field, problem::Problems, word::printable};

/// Most owners that have something in a desired state at once.
pub const OWNERS_MAX: usize = 64;

/// Longest name of an owner in bytes.
const NAME_BYTES_MAX: usize = 32;

/// The owner of all that nobody else is said to own.
const API: &str = "api";

/// Front doors and stores that have objects of their own: a request cannot name them.
const RESERVED: [&str; 11] = [
    "boot",
    "controller",
    "edge",
    "etcd",
    "file",
    "gateway",
    "join",
    "mesh",
    "node",
    "resolver",
    "sessions",
];

/// Names that say who is meant, and so name nobody.
const WORDS: [&str; 2] = ["all", "none"];

/// Who an object of the desired state belongs to. In order: `api`, then the others by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(Option<Arc<str>>);

/// The text names no owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "an owner is expected: 1 to {NAME_BYTES_MAX} of a to z, 0 to 9, `_` and `-`, beginning with a \
     letter, but not `all` or `none`"
)]
pub struct OwnerError;

impl Owner {
    /// The name.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or(API)
    }

    /// Whether it is the base's.
    pub fn is_api(&self) -> bool {
        self.0.is_none()
    }

    /// Whether it is a front door's or a store's, which alone change what they have.
    pub fn is_reserved(&self) -> bool {
        RESERVED.contains(&self.as_str())
    }
}

impl FromStr for Owner {
    type Err = OwnerError;

    fn from_str(text: &str) -> Result<Self, OwnerError> {
        let begins_well = text.starts_with(|first: char| first.is_ascii_lowercase());
        let is_known = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'_' | b'-')
        };
        let is_name = begins_well && text.len() <= NAME_BYTES_MAX && text.bytes().all(is_known);
        match text {
            API => Ok(Self(None)),
            text if is_name && !WORDS.contains(&text) => Ok(Self(Some(text.into()))),
            _ => Err(OwnerError),
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Field for Owner {
    const SYNTAX: &'static str = "owner";

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        let text = spot.text(problems)?;
        text.parse()
            .map_err(|error| spot.error(problems, format_args!("`{}`: {error}", printable(text))))
            .ok()
    }

    fn write(&self) -> Value {
        self.as_str().into()
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[a-z][a-z0-9_-]{0,31}$" })
    }
}

/// Whose objects a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// One owner's.
    One(Owner),
    /// Everybody's.
    All,
}

impl Default for Whose {
    /// What a request means that says nothing of owners.
    fn default() -> Self {
        Self::One(Owner::default())
    }
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(owner) => owner.fmt(f),
            Self::All => f.write_str("all"),
        }
    }
}

impl Whose {
    /// Whether an object of an owner is among those that are meant.
    pub fn has(&self, owner: &Owner) -> bool {
        match self {
            Self::One(one) => one == owner,
            Self::All => true,
        }
    }

    /// Whose an object is that is written with `owner`, or without, which reads as `api`.
    pub(super) fn settle(
        &self,
        written: Owner,
        spot: &Spot<'_>,
        problems: &mut Problems,
    ) -> Option<Owner> {
        match self {
            Self::All => Some(written),
            Self::One(owner) if written.is_api() || written == *owner => Some(owner.clone()),
            Self::One(_) => {
                spot.error_with_hint(
                    problems,
                    format_args!("this is an object of `{written}`"),
                    "leave `owner` out, or ask for `?owners=all`",
                );
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_has_a_short_and_plain_name() {
        let longest = "a".repeat(NAME_BYTES_MAX);
        for name in ["api", "blue", "b2_c-d", "edge", &longest] {
            let owner: Owner = name.parse().unwrap();
            assert_eq!(owner.as_str(), name);
        }
        let longer = "a".repeat(NAME_BYTES_MAX + 1);
        for text in [
            "", "2", "-a", "A", "a.b", "a b", "all", "none", "é", &longer,
        ] {
            assert_eq!(text.parse::<Owner>(), Err(OwnerError), "{text}");
        }
    }

    #[test]
    fn the_base_comes_first_and_front_doors_are_told_apart() {
        let owner = |name: &str| name.parse::<Owner>().unwrap();
        assert_eq!(owner("api"), Owner::default());
        assert!(owner("api") < owner("a") && owner("a") < owner("b"));
        assert!(owner("edge").is_reserved() && owner("etcd").is_reserved());
        assert!(!owner("api").is_reserved() && !owner("edges").is_reserved());
    }
}
