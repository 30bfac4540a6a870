//! Sections of the boot file: one definition gives the type, its documentation, its parser, its
//! defaults, its rendering and its rows of the reference table.

use crate::{
    document::{At, Content, Node, Spot},
    problem::Problems,
};

/// What is known of a key of the boot file, or of a part of the state document.
#[derive(Debug)]
pub struct Key {
    /// As in the file.
    pub name: &'static str,
    /// What to write.
    pub syntax: &'static str,
    /// The value of an absent key, as it would be written.
    pub default: Option<&'static str>,
    /// Whether something has to be written.
    pub required: bool,
    /// Smallest and largest value.
    pub range: Option<(&'static str, &'static str)>,
    /// Whether a running gateway takes a new value at SIGHUP.
    pub reload: bool,
    /// Whether it is a list, which in the environment is written as JSON.
    pub list: bool,
    /// The keys below it, for sections.
    pub keys: &'static [Self],
    /// How it may be written, as JSON.
    pub(crate) example: Option<&'static str>,
    doc: &'static [&'static str],
}

impl Key {
    /// What it means, in one line.
    pub fn meaning(&self) -> String {
        let lines: Vec<&str> = self.doc.iter().map(|line| line.trim()).collect();
        lines.join(" ")
    }

    /// How it may be written; keys of the state document have one.
    pub fn example(&self) -> Option<serde_json::Value> {
        serde_json::from_str(self.example?).ok()
    }

    pub(crate) const fn new(
        name: &'static str,
        syntax: &'static str,
        doc: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            syntax,
            default: None,
            required: false,
            range: None,
            reload: false,
            list: false,
            keys: &[],
            example: None,
            doc,
        }
    }
}

/// Reads a default, or the bounds of a range: they are written as in the file.
pub(crate) fn from_literal<T: crate::field::Field>(literal: &str) -> Option<T> {
    let content = match literal {
        "true" => Content::Bool(true),
        "false" => Content::Bool(false),
        plain => Content::Plain(plain.into()),
    };
    let node = Node::new(At::Line(1), content);
    let mut problems = Problems::default();
    let value = T::read(&Spot::root(&node), &mut problems);
    debug_assert!(problems.is_empty(), "{literal}: {problems:?}");
    value
}

/// Checks what concerns several keys of a section at once.
pub(crate) trait Check {
    fn check(&self, _spot: &Spot<'_>, _problems: &mut Problems) {}
}

/// Notes a value outside of the range of its key.
pub(crate) fn within<T: crate::field::Field + PartialOrd>(
    value: &T,
    (min, max): (&str, &str),
    spot: &Spot<'_>,
    problems: &mut Problems,
) {
    let below = from_literal::<T>(min).is_some_and(|min| *value < min);
    let above = from_literal::<T>(max).is_some_and(|max| *value > max);
    if below || above {
        let written = value.write();
        let value = written
            .as_str()
            .map_or_else(|| written.to_string(), str::to_owned);
        spot.error(
            problems,
            format_args!("`{value}` is not from {min} to {max}"),
        );
    }
}

/// Defines a section. Each key is written `name: Type = "default" in "min"..="max", reload;` where
/// a range needs a default, and all but the name and the type are optional.
macro_rules! section {
    (
        $(#[doc = $about:literal])*
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $key:ident: $kind:ty $(= $default:literal $(in $min:literal..=$max:literal)?)?
                $(, $reload:ident)?;
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct $name {
            $(
                $(#[doc = $doc])*
                $(#[doc = concat!("\n\nDefault: `", $default, "`.")])?
                $($(#[doc = concat!("\n\nFrom `", $min, "` to `", $max, "`.")])?)?
                pub $key: $kind,
            )*
        }

        impl $crate::field::Field for $name {
            const SYNTAX: &'static str = "map";
            const KEYS: &'static [$crate::section::Key] = &[$({
                #[allow(unused_mut, reason = "a key may have nothing but a name and a type")]
                let mut key = $crate::section::Key::new(
                    stringify!($key),
                    <$kind as $crate::field::Field>::SYNTAX,
                    &[$($doc),*],
                );
                $(key.default = Some($default);)?
                $($(key.range = Some(($min, $max));)?)?
                $(key.reload = $crate::section::flag!($reload);)?
                key.list = <$kind as $crate::field::Field>::LIST;
                key.keys = <$kind as $crate::field::Field>::KEYS;
                key
            }),*];

            fn read(
                spot: &$crate::document::Spot<'_>,
                problems: &mut $crate::problem::Problems,
            ) -> Option<Self> {
                let fields =
                    $crate::document::Fields::open(spot, &[$(stringify!($key)),*], problems)?;
                // All keys are read before any of them ends the reading.
                $(
                    let $key = match fields.find(stringify!($key)).filter(|spot| !spot.is_null()) {
                        Some(spot) => {
                            let value = <$kind as $crate::field::Field>::read(spot, problems);
                            $($(
                                if let Some(value) = &value {
                                    $crate::section::within(value, ($min, $max), spot, problems);
                                }
                            )?)?
                            value
                        }
                        None => {
                            let value = <$kind as $crate::field::Field>::absent();
                            $(
                                let value =
                                    value.or_else(|| $crate::section::from_literal($default));
                            )?
                            if value.is_none() {
                                fields.need(stringify!($key), problems);
                            }
                            value
                        }
                    };
                )*
                let section = Self { $($key: $key?),* };
                $crate::section::Check::check(&section, spot, problems);
                Some(section)
            }

            fn absent() -> Option<Self> {
                let empty = $crate::document::Node::new(
                    $crate::document::At::Line(1),
                    $crate::document::Content::Map(Vec::new()),
                );
                let spot = $crate::document::Spot::root(&empty);
                // A section that needs something may not be absent: its own `need` says so.
                <Self as $crate::field::Field>::read(&spot, &mut $crate::problem::Problems::default())
            }

            fn write(&self) -> serde_json::Value {
                serde_json::Value::Object(serde_json::Map::from_iter([
                    $((stringify!($key).to_owned(), $crate::field::Field::write(&self.$key)),)*
                ]))
            }
        }
    };
}
pub(crate) use section;

macro_rules! flag {
    (reload) => {
        true
    };
}
pub(crate) use flag;
