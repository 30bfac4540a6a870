//! Parts of the state document: one definition gives the type, its documentation, its parser, its
//! defaults, its rendering, its JSON Schema and its rows of the reference table.
//!
//! What sets them apart from the sections of the boot file: a document is shown again and compared,
//! so that a key that says what is so anyway is left out, and each key has an example.

use serde_json::{Map, Value, json};

use crate::{
    document::{Content, Spot},
    field::Field,
    problem::Problems,
    section::Key,
};

/// Defines a part. Each key is written `name: Type = "default" where in "min"..="max",
/// "example";`, where
/// default and range may be left out, and the example is JSON.
macro_rules! part {
    (
        $(#[doc = $about:literal])*
        pub struct $name:ident {
            $(
                $(#[doc = $doc:literal])*
                $key:ident: $kind:ty $(= $default:literal)? $(where in $min:literal..=$max:literal)?,
                $example:literal;
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
                $(#[doc = concat!("\n\nFrom `", $min, "` to `", $max, "`.")])?
                pub $key: $kind,
            )*
        }

        impl $crate::field::Field for $name {
            const SYNTAX: &'static str = "map";
            const KEYS: &'static [$crate::section::Key] = &[$({
                #[allow(unused_mut, reason = "a key may have nothing but a name and a type")]
                let mut key = $crate::section::Key::new(
                    $crate::state::part::plain(stringify!($key)),
                    <$kind as $crate::field::Field>::SYNTAX,
                    &[$($doc),*],
                );
                $(key.default = Some($default);)?
                $(key.range = Some(($min, $max));)?
                key.example = Some($example);
                key.list = <$kind as $crate::field::Field>::LIST;
                key.keys = <$kind as $crate::field::Field>::KEYS;
                key
            }),*];

            fn read(
                spot: &$crate::document::Spot<'_>,
                problems: &mut $crate::problem::Problems,
            ) -> Option<Self> {
                let fields =
                    $crate::document::Fields::open(spot, &[$($crate::state::part::plain(stringify!($key))),*], problems)?;
                // All keys are read before any of them ends the reading.
                $(
                    let $key = match fields.find($crate::state::part::plain(stringify!($key))).filter(|spot| !spot.is_null()) {
                        Some(spot) => {
                            let value = <$kind as $crate::field::Field>::read(spot, problems);
                            $(
                                if let Some(value) = &value {
                                    $crate::section::within(value, ($min, $max), spot, problems);
                                }
                            )?
                            value
                        }
                        None => {
                            let value = $crate::state::part::unsaid::<$kind>(None $(.or(Some($default)))?);
                            if value.is_none() {
                                fields.need($crate::state::part::plain(stringify!($key)), problems);
                            }
                            value
                        }
                    };
                )*
                let part = Self { $($key: $key?),* };
                $crate::section::Check::check(&part, spot, problems);
                Some(part)
            }

            fn absent() -> Option<Self> {
                Some(Self {
                    $($key: $crate::state::part::unsaid::<$kind>(None $(.or(Some($default)))?)?,)*
                })
            }

            fn write(&self) -> serde_json::Value {
                let mut map = serde_json::Map::new();
                $(
                    let unsaid = $crate::state::part::unsaid::<$kind>(None $(.or(Some($default)))?);
                    if unsaid.as_ref() != Some(&self.$key) {
                        let value = $crate::field::Field::write(&self.$key);
                        let key = $crate::state::part::plain(stringify!($key));
                        map.insert(key.to_owned(), value);
                    }
                )*
                serde_json::Value::Object(map)
            }

            fn schema() -> serde_json::Value {
                let mut schema = $crate::state::part::Object::default();
                $(
                    let unsaid = $crate::state::part::unsaid::<$kind>(None $(.or(Some($default)))?);
                    let key = $crate::state::part::plain(stringify!($key));
                    schema.add::<$kind>(key, unsaid.is_none());
                )*
                schema.finish(<Self as $crate::field::Field>::KEYS)
            }
        }
    };
}
pub(super) use part;

/// A key as it is written in a document: one that is a word of Rust's is a raw identifier here.
pub(crate) const fn plain(name: &'static str) -> &'static str {
    match name.as_bytes() {
        [b'r', b'#', rest @ ..] => match std::str::from_utf8(rest) {
            Ok(plain) => plain,
            Err(_) => name,
        },
        _ => name,
    }
}

/// The value of a key that nobody wrote: what its default reads as, or what absence means.
pub(super) fn unsaid<T: Field>(default: Option<&str>) -> Option<T> {
    match default {
        Some(default) => crate::section::from_literal(default),
        None => T::absent(),
    }
}

/// The JSON Schema of a map with known keys, while it is being made.
#[derive(Debug, Default)]
pub(super) struct Object {
    properties: Map<String, Value>,
    required: Vec<Value>,
}

impl Object {
    /// Adds a key. One that may be left out may also be null, which means the same.
    pub(super) fn add<T: Field>(&mut self, key: &str, is_needed: bool) {
        let mut schema = T::schema();
        if is_needed {
            self.required.push(key.into());
        } else {
            allow_null(&mut schema);
        }
        self.properties.insert(key.to_owned(), schema);
    }

    /// Ends the making, with what is known of the keys beside their types.
    pub(super) fn finish(mut self, keys: &[Key]) -> Value {
        for key in keys {
            if let Some(schema) = self.properties.get_mut(key.name) {
                annotate(schema, key);
            }
        }
        let mut schema = json!({
            "type": "object",
            "properties": self.properties,
            "additionalProperties": false,
        });
        if !self.required.is_empty() {
            schema["required"] = self.required.into();
        }
        schema
    }
}

fn annotate(schema: &mut Value, key: &Key) {
    let mut description = key.meaning();
    if let Some((min, max)) = key.range {
        let numbers = (min.parse::<u64>(), max.parse::<u64>());
        if let (Ok(min), Ok(max)) = numbers {
            schema["minimum"] = min.into();
            schema["maximum"] = max.into();
        }
        description.push_str(&format!(" From {min} to {max}."));
    }
    if let Some(default) = key.default {
        description.push_str(&format!(" `{default}` by default."));
    }
    schema["description"] = description.into();
    if let Some(example) = key.example() {
        schema["examples"] = json!([example]);
    }
}

/// Lets a schema take null as well.
pub(super) fn allow_null(schema: &mut Value) {
    if let Some(choices) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
        choices.push(json!({ "type": "null" }));
        return;
    }
    if let Some(words) = schema.get_mut("enum").and_then(Value::as_array_mut) {
        words.push(Value::Null);
    }
    if let Some(kind) = schema.get("type").cloned() {
        schema["type"] = json!([kind, "null"]);
    }
}

/// A list of at most `MAX` items. Without any it is left out: an empty one could be taken for "none
/// of them" as well as for "all".
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List<T, const MAX: usize>(Vec<T>);

impl<T, const MAX: usize> std::ops::Deref for List<T, MAX> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Field, const MAX: usize> Field for List<T, MAX> {
    const SYNTAX: &'static str = T::SYNTAX;
    const KEYS: &'static [Key] = T::KEYS;
    const LIST: bool = true;

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        let items = spot.items(problems)?;
        if items.len() > MAX {
            spot.error(problems, format_args!("more than {MAX} are not allowed"));
            return None;
        }
        if items.len() == 0 {
            spot.error_with_hint(problems, "at least one is needed", "leave the key out");
            return None;
        }
        // Every item is read, so that every problem is found.
        let read: Vec<Option<T>> = items.map(|item| T::read(&item, problems)).collect();
        read.into_iter().collect::<Option<_>>().map(Self)
    }

    fn absent() -> Option<Self> {
        Some(Self(Vec::new()))
    }

    fn write(&self) -> Value {
        self.0.iter().map(T::write).collect()
    }

    fn schema() -> Value {
        json!({ "type": "array", "items": T::schema(), "minItems": 1, "maxItems": MAX })
    }
}

/// The text of a JSON string.
pub(super) fn quoted<'a>(spot: &Spot<'a>, problems: &mut Problems) -> Option<&'a str> {
    if let Content::Text(text) = &spot.node.content {
        return Some(text);
    }
    spot.expected(problems, "a string");
    None
}
