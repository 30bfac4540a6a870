//! The types that a key of the boot file may have.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    num::{NonZeroU16, NonZeroU32},
    path::PathBuf,
    str::FromStr,
    time::Duration,
};

use ipnet::IpNet;
use serde_json::{Value, json};

use crate::{
    document::{Content, Spot},
    problem::Problems,
    section::Key,
    unit::{Written, parse_duration},
    word::{nearest, printable},
};

/// A type that a key may have.
pub(crate) trait Field: Sized {
    /// What to write, for the reference table.
    const SYNTAX: &'static str;
    /// The keys below, when the value is a map.
    const KEYS: &'static [Key] = &[];
    /// Whether the value is a list: in the environment it is written as JSON.
    const LIST: bool = false;

    /// Reads the value; what is wrong is noted, and then there is no value.
    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self>;

    /// The value of a key that is absent and has no default; `None` when the key is needed.
    fn absent() -> Option<Self> {
        None
    }

    /// What [`Field::read`] reads as the same value.
    fn write(&self) -> Value;

    /// What [`Field::read`] takes, as JSON Schema (draft 2020-12), as far as that can say it.
    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

/// Reads a scalar through its own parser; the error says what is expected.
fn scalar<T>(
    spot: &Spot<'_>,
    problems: &mut Problems,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let text = spot.text(problems)?;
    parse(text)
        .map_err(|error| spot.error(problems, format_args!("`{}`: {error}", printable(text))))
        .ok()
}

impl<T: Field> Field for Option<T> {
    const SYNTAX: &'static str = T::SYNTAX;
    const KEYS: &'static [Key] = T::KEYS;
    const LIST: bool = T::LIST;

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        T::read(spot, problems).map(Some)
    }

    fn absent() -> Option<Self> {
        Some(None)
    }

    fn write(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::write)
    }

    fn schema() -> Value {
        T::schema()
    }
}

impl<T: Field> Field for Vec<T> {
    const SYNTAX: &'static str = T::SYNTAX;
    const KEYS: &'static [Key] = T::KEYS;
    const LIST: bool = true;

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        let items: Self = spot
            .items(problems)?
            // Every item is read, so that every problem is found.
            .map(|item| T::read(&item, problems))
            .collect::<Vec<_>>()
            .into_iter()
            .collect::<Option<_>>()?;
        if items.is_empty() {
            spot.error(problems, "at least one is needed");
            return None;
        }
        Some(items)
    }

    fn write(&self) -> Value {
        self.iter().map(T::write).collect()
    }

    fn schema() -> Value {
        json!({ "type": "array", "items": T::schema(), "minItems": 1 })
    }
}

impl Field for Duration {
    const SYNTAX: &'static str = "duration";

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        scalar(spot, problems, |text| {
            parse_duration(text).map_err(|error| error.to_string())
        })
    }

    fn write(&self) -> Value {
        Written(*self).to_string().into()
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[0-9]+(ms|s|m|h|d)$" })
    }
}

impl Field for bool {
    const SYNTAX: &'static str = "`true`, `false`";

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        if let Content::Bool(truth) = spot.node.content {
            return Some(truth);
        }
        spot.expected(problems, "true or false");
        None
    }

    fn write(&self) -> Value {
        (*self).into()
    }

    fn schema() -> Value {
        json!({ "type": "boolean" })
    }
}

impl Field for u32 {
    const SYNTAX: &'static str = "number from 0 to 4294967295";

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        number(spot, problems, Self::SYNTAX)
    }

    fn write(&self) -> Value {
        (*self).into()
    }

    fn schema() -> Value {
        json!({ "type": "integer", "minimum": 0, "maximum": Self::MAX })
    }
}

macro_rules! positive_numbers {
    ($($type:ty, $syntax:literal;)*) => {$(
        impl Field for $type {
            const SYNTAX: &'static str = $syntax;

            fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
                number(spot, problems, $syntax)
            }

            fn write(&self) -> Value {
                self.get().into()
            }

            fn schema() -> Value {
                json!({ "type": "integer", "minimum": 1, "maximum": Self::MAX })
            }
        }
    )*};
}

positive_numbers! {
    NonZeroU16, "number from 1 to 65535";
    NonZeroU32, "number from 1 to 4294967295";
}

/// A number is written without quotes.
pub(crate) fn number<T: FromStr>(
    spot: &Spot<'_>,
    problems: &mut Problems,
    what: &str,
) -> Option<T> {
    let Content::Plain(text) = &spot.node.content else {
        spot.expected(problems, &format!("a {what}"));
        return None;
    };
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let value = digits.then(|| text.parse().ok()).flatten();
    if value.is_none() {
        let text = printable(text);
        spot.error(problems, format_args!("`{text}`: a {what} is expected"));
    }
    value
}

impl Field for SocketAddr {
    const SYNTAX: &'static str = "`ip:port`";

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        scalar(spot, problems, |text| {
            text.parse()
                .map_err(|_| "`ip:port` or `[ip]:port` is expected, such as [::]:443".to_owned())
        })
    }

    fn write(&self) -> Value {
        self.to_string().into()
    }
}

impl Field for IpNet {
    const SYNTAX: &'static str = "CIDR";

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        scalar(spot, problems, parse_prefix)
    }

    fn write(&self) -> Value {
        self.to_string().into()
    }

    fn schema() -> Value {
        json!({ "type": "string", "pattern": "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$" })
    }
}

/// A prefix, or an address as the prefix of that address alone.
pub(crate) fn parse_prefix(text: &str) -> Result<IpNet, String> {
    text.parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| "a prefix is expected, such as 10.0.0.0/8 or fd00::/8".to_owned())
}

impl Field for PathBuf {
    const SYNTAX: &'static str = "path";

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        scalar(spot, problems, |text| match text {
            "" => Err("a path is expected".to_owned()),
            text if text.contains('\0') => Err("a path has no NUL byte".to_owned()),
            text => Ok(text.into()),
        })
    }

    fn write(&self) -> Value {
        // It was read from a string.
        self.to_string_lossy().into()
    }
}

/// Reads one of a few words.
pub(crate) fn word<T: Clone>(
    spot: &Spot<'_>,
    problems: &mut Problems,
    words: &[(&str, T)],
) -> Option<T> {
    let text = spot.text(problems)?;
    let found = words.iter().find(|(word, _)| *word == text);
    if found.is_none() {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let known_list = known.join(", ");
        let message = format!("`{}` is none of: {known_list}", printable(text));
        match nearest(text, known.into_iter()) {
            Some(near) => {
                spot.error_with_hint(problems, message, format!("did you mean `{near}`?"))
            }
            None => spot.error(problems, message),
        }
    }
    found.map(|(_, value)| value.clone())
}

/// A field whose text is read by `FromStr` and written by `Display`.
macro_rules! text_field {
    ($type:ty, $syntax:literal) => {
        impl $crate::field::Field for $type {
            const SYNTAX: &'static str = $syntax;

            fn read(
                spot: &$crate::document::Spot<'_>,
                problems: &mut $crate::problem::Problems,
            ) -> Option<Self> {
                $crate::field::from_text(spot, problems)
            }

            fn write(&self) -> serde_json::Value {
                self.to_string().into()
            }
        }
    };
}
pub(crate) use text_field;

pub(crate) fn from_text<T: FromStr<Err: fmt::Display>>(
    spot: &Spot<'_>,
    problems: &mut Problems,
) -> Option<T> {
    scalar(spot, problems, |text| {
        text.parse().map_err(|error: T::Err| error.to_string())
    })
}

/// An enum of words, each written as given.
macro_rules! words {
    ($(#[$about:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$doc])* #[doc = concat!("Written `", $word, "`.")] $variant,)*
        }

        impl $name {
            /// Every word, in the order of the documentation.
            pub(crate) const WORDS: &'static [(&'static str, Self)] =
                &[$(($word, Self::$variant),)*];

            /// The word in files and logs.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
        }

        impl $crate::field::Field for $name {
            const SYNTAX: &'static str = $crate::field::alternatives!($($word)*);

            fn read(
                spot: &$crate::document::Spot<'_>,
                problems: &mut $crate::problem::Problems,
            ) -> Option<Self> {
                $crate::field::word(spot, problems, Self::WORDS)
            }

            fn write(&self) -> serde_json::Value {
                self.word().into()
            }

            fn schema() -> serde_json::Value {
                let words: Vec<&str> = Self::WORDS.iter().map(|(word, _)| *word).collect();
                serde_json::json!({ "type": "string", "enum": words })
            }
        }
    };
}
pub(crate) use words;

macro_rules! alternatives {
    ($first:literal $($word:literal)*) => { concat!("`", $first, "`" $(, ", `", $word, "`")*) };
}
pub(crate) use alternatives;
