//! JSON into a located tree.
//!
//! The grammar is serde_json's. It tells no positions, but a [`RawValue`] borrows the text that it
//! stands for, and where that text starts is the position. Each level of nesting is scanned once
//! more than the one above it; the depth is bounded.

use std::{fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{At, Content, DEPTH_MAX, DocumentError, Entry, Node};

pub(super) fn read(text: &str) -> Result<Node, DocumentError> {
    Reader::new(text, None).read()
}

/// Every node is said to come from the variable.
pub(super) fn read_from_variable(name: &Arc<str>, text: &str) -> Result<Node, DocumentError> {
    Reader::new(text, Some(name.clone())).read()
}

struct Reader<'a> {
    text: &'a str,
    /// Offsets of the line ends, in order.
    line_ends: Vec<usize>,
    variable: Option<Arc<str>>,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, variable: Option<Arc<str>>) -> Self {
        let line_ends = text.match_indices('\n').map(|(offset, _)| offset).collect();
        Self {
            text,
            line_ends,
            variable,
        }
    }

    fn read(&self) -> Result<Node, DocumentError> {
        let root: &RawValue = serde_json::from_str(self.text).map_err(|error| syntax(1, &error))?;
        self.node(root.get(), DEPTH_MAX)
    }

    fn node(&self, raw: &'a str, depth: usize) -> Result<Node, DocumentError> {
        let line = self.line(raw);
        let wrong = |error: serde_json::Error| syntax(line, &error);
        let deeper = || depth.checked_sub(1).ok_or(DocumentError::TooDeep { line });
        let content = match raw.as_bytes().first() {
            Some(b'{') => {
                let depth = deeper()?;
                let Members(members) = serde_json::from_str(raw).map_err(wrong)?;
                let entries = members.into_iter().map(|(key, value)| {
                    let value = self.node(value.get(), depth)?;
                    let (key, at) = (key.into_boxed_str(), value.at.clone());
                    Ok(Entry { key, at, value })
                });
                Content::Map(entries.collect::<Result<_, _>>()?)
            }
            Some(b'[') => {
                let depth = deeper()?;
                let items: Vec<&RawValue> = serde_json::from_str(raw).map_err(wrong)?;
                let items = items.into_iter().map(|item| self.node(item.get(), depth));
                Content::List(items.collect::<Result<_, _>>()?)
            }
            Some(b'"') => Content::Text(serde_json::from_str(raw).map_err(wrong)?),
            Some(b'n') => Content::Null,
            Some(b't') => Content::Bool(true),
            Some(b'f') => Content::Bool(false),
            Some(_) | None => Content::Plain(raw.into()),
        };
        Ok(Node::new(self.at(line), content))
    }

    fn at(&self, line: u32) -> At {
        match &self.variable {
            Some(name) => At::Variable(name.clone()),
            None => At::Line(line),
        }
    }

    /// The line on which a part of the text starts.
    fn line(&self, part: &str) -> u32 {
        let offset = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let line_ends = self.line_ends.partition_point(|&end| end < offset);
        u32::try_from(line_ends + 1).unwrap_or(u32::MAX)
    }
}

/// An error in the part of the text that starts on a line.
fn syntax(line: u32, error: &serde_json::Error) -> DocumentError {
    let below = u32::try_from(error.line().saturating_sub(1)).unwrap_or(u32::MAX);
    let text = error.to_string();
    // serde_json ends its text with the position inside the part; ours is told apart.
    let what = text
        .rsplit_once(" at line ")
        .map_or(&*text, |(what, _)| what);
    DocumentError::Syntax {
        line: line.saturating_add(below),
        what: format!("not JSON: {what}"),
    }
}

/// The members of an object, duplicates included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}
