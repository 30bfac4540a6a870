//! Headers: which requests a rule is for, and what it changes.

use std::{collections::BTreeMap, fmt};

use engine_http::{
    edit::FieldEdits,
    rules::{Condition, Expected},
};
use serde_json::{Map, Value, json};

use super::{CONDITIONS_MAX, HeaderName};
use crate::{
    document::{Content, Duplicates, Fields, Spot},
    field::Field,
    problem::Problems,
    section::Check,
    state::part::{List, part, quoted},
    word::printable,
};

/// Most headers that a rule sets, adds or removes, each.
const EDITS_MAX: usize = 64;
/// Longest value of a header in bytes.
const VALUE_BYTES_MAX: usize = 4096;

part! {
    /// What a rule changes of the headers of a message. Those that say how a message is framed or
    /// where it goes are the gateway's own.
    pub struct HeaderEdits {
        /// Headers to set, in place of any of that name.
        set: HeaderValues, r#"{"x-tenant": "blue"}"#;
        /// Headers to add to any of that name.
        add: HeaderValues, r#"{"cache-control": "private"}"#;
        /// Headers to remove.
        remove: List<HeaderName, EDITS_MAX>, r#"["server"]"#;
    }
}

impl HeaderEdits {
    /// As the engine does them.
    pub fn edits(&self) -> FieldEdits {
        // Checked when it was read.
        self.checked().unwrap_or_default()
    }

    fn checked(&self) -> Result<FieldEdits, Vec<engine_http::edit::EditError>> {
        let remove: Vec<&str> = self.remove.iter().map(HeaderName::as_str).collect();
        FieldEdits::new(&self.set.pairs(), &self.add.pairs(), &remove)
    }
}

impl Check for HeaderEdits {
    fn check(&self, spot: &Spot<'_>, problems: &mut Problems) {
        for error in self.checked().err().into_iter().flatten() {
            spot.error(problems, error);
        }
    }
}

/// Headers with their values.
///
/// `Debug` does not show the values: some are secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeaderValues(BTreeMap<HeaderName, Box<str>>);

impl fmt::Debug for HeaderValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// What the names of headers have in them whose values open something.
const SECRETS: [&str; 9] = [
    "auth",
    "cookie",
    "credential",
    "key",
    "passwd",
    "password",
    "secret",
    "session",
    "token",
];

/// Whether the value of a header is a secret, by its name: those of RFC 9110 section 11 and RFC 6265,
/// and what applications call theirs.
pub(super) fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRETS.iter().any(|secret| name.contains(secret))
}

impl HeaderValues {
    fn pairs(&self) -> Vec<(&str, &str)> {
        let pairs = self.0.iter();
        pairs
            .map(|(name, value)| (name.as_str(), &**value))
            .collect()
    }

    /// The value of a header.
    pub(super) fn value(&self, name: &HeaderName) -> Option<&str> {
        self.0.get(name).map(|value| &**value)
    }

    /// The headers whose values are secrets.
    pub(super) fn secrets(&self) -> impl Iterator<Item = (&HeaderName, &str)> {
        let all = self.0.iter().map(|(name, value)| (name, &**value));
        all.filter(|(name, _)| is_secret(name.as_str()))
    }

    /// The same, to be changed.
    pub(super) fn secrets_mut(&mut self) -> impl Iterator<Item = (&HeaderName, &mut Box<str>)> {
        let all = self.0.iter_mut();
        all.filter(|(name, _)| is_secret(name.as_str()))
    }
}

/// Reads a map with headers for keys, at most `max` of them, each once.
fn read_map<T>(
    spot: &Spot<'_>,
    max: usize,
    problems: &mut Problems,
    mut read: impl FnMut(&Spot<'_>, &mut Problems) -> Option<T>,
) -> Option<Vec<(HeaderName, T)>> {
    let entries = spot.entries(Duplicates::Refused, problems)?;
    if entries.len() > max {
        spot.error(problems, format_args!("more than {max} are not allowed"));
        return None;
    }
    let mut pairs: Vec<Option<(HeaderName, T)>> = Vec::new();
    for entry in &entries {
        let key = entry.key();
        let name: Option<HeaderName> = key
            .parse()
            .map_err(|error| entry.error(problems, format_args!("`{}`: {error}", printable(key))))
            .ok();
        pairs.push(name.zip(read(entry, problems)));
    }
    let pairs: Vec<_> = pairs.into_iter().collect::<Option<_>>()?;
    let mut names: Vec<String> = pairs.iter().map(|(name, _)| folded(name)).collect();
    names.sort_unstable();
    for twice in names.windows(2).filter(|pair| pair[0] == pair[1]) {
        let name = &twice[0];
        spot.error(
            problems,
            format_args!("`{name}` is declared twice (case is ignored)"),
        );
    }
    Some(pairs)
}

fn folded(name: &HeaderName) -> String {
    name.as_str().to_ascii_lowercase()
}

fn read_value(spot: &Spot<'_>, problems: &mut Problems) -> Option<Box<str>> {
    let text = quoted(spot, problems)?;
    if text.len() > VALUE_BYTES_MAX {
        spot.error(
            problems,
            format_args!("a value has at most {VALUE_BYTES_MAX} bytes"),
        );
        return None;
    }
    if text.chars().any(char::is_control) {
        spot.error(problems, "a value has no control characters");
        return None;
    }
    Some(text.into())
}

fn value_schema() -> Value {
    json!({ "type": "string", "maxLength": VALUE_BYTES_MAX, "pattern": "^[^\\u0000-\\u001f\\u007f]*$" })
}

fn map_schema(values: &Value, max: usize) -> Value {
    json!({
        "type": "object",
        "propertyNames": HeaderName::schema(),
        "additionalProperties": values,
        "maxProperties": max,
    })
}

impl Field for HeaderValues {
    const SYNTAX: &'static str = "map of header to value";

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        let pairs = read_map(spot, EDITS_MAX, problems, read_value)?;
        Some(Self(pairs.into_iter().collect()))
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn write(&self) -> Value {
        let pairs = self.0.iter();
        let pairs = pairs.map(|(name, value)| (name.to_string(), Value::from(&**value)));
        Value::Object(pairs.collect())
    }

    fn schema() -> Value {
        map_schema(&value_schema(), EDITS_MAX)
    }
}

/// What the headers of a request have to be: one condition for a header, by its name in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions(Vec<Condition>);

impl Conditions {
    /// In the order of their names.
    pub fn list(&self) -> &[Condition] {
        &self.0
    }
}

/// A condition as it stands in the label of a rule.
pub(super) fn said(condition: &Condition) -> String {
    let name = &condition.name;
    match &condition.expected {
        Expected::Present => format!(" [{name}]"),
        Expected::Exact(value) => format!(" [{name}={value}]"),
        Expected::Prefix(prefix) => format!(" [{name}={prefix}*]"),
    }
}

fn read_expected(spot: &Spot<'_>, problems: &mut Problems) -> Option<Expected> {
    match &spot.node.content {
        Content::Bool(true) => Some(Expected::Present),
        Content::Text(_) => read_value(spot, problems).map(|text| Expected::Exact(text.into())),
        Content::Map(_) => {
            let fields = Fields::open(spot, &["prefix"], problems)?;
            let prefix = read_value(fields.need("prefix", problems)?, problems)?;
            Some(Expected::Prefix(prefix.into()))
        }
        Content::Null | Content::Bool(false) | Content::Plain(_) | Content::List(_) => {
            spot.expected(problems, "true, a value or {\"prefix\": …}");
            None
        }
    }
}

impl Field for Conditions {
    const SYNTAX: &'static str = "map of header to `true`, value or `{\"prefix\": …}`";

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        let pairs = read_map(spot, CONDITIONS_MAX, problems, read_expected)?;
        let conditions = pairs.into_iter().map(|(name, expected)| Condition {
            name: folded(&name),
            expected,
        });
        let mut conditions: Vec<Condition> = conditions.collect();
        conditions.sort();
        Some(Self(conditions))
    }

    fn absent() -> Option<Self> {
        Some(Self::default())
    }

    fn write(&self) -> Value {
        let pairs = self.0.iter().map(|condition| {
            let expected = match &condition.expected {
                Expected::Present => true.into(),
                Expected::Exact(value) => value.as_str().into(),
                Expected::Prefix(prefix) => json!({ "prefix": prefix }),
            };
            (condition.name.clone(), expected)
        });
        Value::Object(Map::from_iter(pairs))
    }

    fn schema() -> Value {
        let prefix = json!({
            "type": "object",
            "properties": { "prefix": value_schema() },
            "required": ["prefix"],
            "additionalProperties": false,
        });
        let expected = json!({ "oneOf": [{ "const": true }, value_schema(), prefix] });
        map_schema(&expected, CONDITIONS_MAX)
    }
}
