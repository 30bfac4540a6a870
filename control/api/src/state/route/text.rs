//! The words that rules are found by.

use std::{fmt, str::FromStr};

use engine_core::hostname::{HostPattern, HostnameError};
use engine_http::{is_token, path::Path, rules::is_prefix};
use serde_json::{Value, json};

use crate::{
    document::Spot, field::Field, problem::Problems, state::part::quoted, word::printable,
};

/// Longest path of a rule in bytes.
const PATH_BYTES_MAX: usize = 1024;
/// Longest name of a header, method or cookie in bytes.
const TOKEN_BYTES_MAX: usize = 128;

/// Reads a JSON string by `FromStr`. What is wrong is repeated with what is said about it.
pub(super) fn read_text<T: FromStr<Err: fmt::Display>>(
    spot: &Spot<'_>,
    problems: &mut Problems,
) -> Option<T> {
    let text = quoted(spot, problems)?;
    text.parse()
        .map_err(|error: T::Err| {
            spot.error(problems, format_args!("`{}`: {error}", printable(text)));
        })
        .ok()
}

/// A field that is a JSON string, and a pattern that says most of what it may be.
macro_rules! string_field {
    ($type:ty, $syntax:literal, $schema:tt) => {
        impl Field for $type {
            const SYNTAX: &'static str = $syntax;

            fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
                super::text::read_text(spot, problems)
            }

            fn write(&self) -> Value {
                self.to_string().into()
            }

            fn schema() -> Value {
                json!($schema)
            }
        }
    };
}
pub(super) use string_field;

/// Whose requests: a host's, those of all hosts below a domain, or of all that nobody declared.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteHost(Option<HostPattern>);

impl RouteHost {
    /// The host or domain; `None` is every host that nobody declared.
    pub fn pattern(&self) -> Option<&HostPattern> {
        self.0.as_ref()
    }
}

impl FromStr for RouteHost {
    type Err = HostnameError;

    fn from_str(text: &str) -> Result<Self, HostnameError> {
        match text {
            "*" => Ok(Self(None)),
            text => HostPattern::parse(text).map(Some).map(Self),
        }
    }
}

impl fmt::Display for RouteHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(pattern) => pattern.fmt(f),
            None => f.write_str("*"),
        }
    }
}

string_field!(RouteHost, "host, `*.domain` or `*`", {
    "type": "string",
    "pattern": format!(r"^\*$|{}", crate::state::HOST_PATTERN),
});

/// The beginning of paths, in the form that they are compared in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PathPrefix(Box<str>);

/// Why a text is no beginning of paths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// It does not begin with `/`, or has what no path has.
    #[error("a path is expected that begins with `/` and has no query")]
    Shape,
    /// More than [`PATH_BYTES_MAX`] bytes.
    #[error("a path has at most {PATH_BYTES_MAX} bytes")]
    TooLong,
}

impl PathPrefix {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PathPrefix {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, PathError> {
        if text.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong);
        }
        match Path::read(text) {
            Ok(path) if is_prefix(text) => Ok(Self(path.as_str().into())),
            Ok(_) | Err(_) => Err(PathError::Shape),
        }
    }
}

impl fmt::Display for PathPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Field for PathPrefix {
    const SYNTAX: &'static str = "path";

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        // A default is a plain word.
        let text = spot.text(problems)?;
        text.parse()
            .map_err(|error| spot.error(problems, format_args!("`{}`: {error}", printable(text))))
            .ok()
    }

    fn write(&self) -> Value {
        self.as_str().into()
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^/[!-\"$->@-\\[\\]-~]*$", "maxLength": PATH_BYTES_MAX })
    }
}

/// Why a text is no word of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WordError {
    /// Not a token (RFC 9110 section 5.6.2), or longer than [`TOKEN_BYTES_MAX`] bytes.
    #[error("from 1 to {TOKEN_BYTES_MAX} letters, digits and !#$%&'*+-.^_`|~ are expected")]
    Token,
    /// Methods are told apart by case (RFC 9110 section 9.1), and nobody sends these.
    #[error("methods are written in capitals")]
    LowerCase,
}

fn token(text: &str) -> Result<Box<str>, WordError> {
    match text.len() <= TOKEN_BYTES_MAX && is_token(text.as_bytes()) {
        true => Ok(text.into()),
        false => Err(WordError::Token),
    }
}

macro_rules! tokens {
    ($($(#[$doc:meta])* $name:ident, $syntax:literal, $pattern:literal, $parse:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Box<str>);

        impl $name {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = WordError;

            fn from_str(text: &str) -> Result<Self, WordError> {
                let parse: fn(&str) -> Result<Box<str>, WordError> = $parse;
                parse(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        string_field!($name, $syntax, {
            "type": "string", "pattern": $pattern, "maxLength": TOKEN_BYTES_MAX,
        });
    )*};
}

tokens! {
    /// A method, in capitals.
    MethodName, "method", "^[A-Z0-9!#$%&'*+.^_`|~-]+$", |text| {
        match text.bytes().any(|byte| byte.is_ascii_lowercase()) {
            true => Err(WordError::LowerCase),
            false => token(text),
        }
    };
    /// The name of a header.
    HeaderName, "header", "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", token;
    /// The name of a cookie (RFC 6265 section 4.1.1).
    CookieName, "cookie", "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$", token;
}
