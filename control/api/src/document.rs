//! A parsed file before it means anything: a tree in which every node knows its place.
//!
//! Both formats become the same tree, so that everything after it is written once.

mod json;
mod spot;
mod yaml;

use std::sync::Arc;

pub(crate) use spot::{Duplicates, Fields, Spot};

use crate::problem::{Problem, Problems, Severity};

/// Largest boot file in bytes.
pub(crate) const BOOT_BYTES_MAX: usize = 4 << 20;
/// Largest state document in bytes: room for about four million names.
pub const STATE_BYTES_MAX: usize = 256 << 20;
/// Deepest nesting of lists and maps. The formats need six.
pub(crate) const DEPTH_MAX: usize = 32;

/// Where a node was written.
#[derive(Clone, Debug)]
pub(crate) enum At {
    Line(u32),
    Variable(Arc<str>),
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) content: Content,
}

#[derive(Clone, Debug)]
pub(crate) enum Content {
    Null,
    Bool(bool),
    /// A scalar without quotes: a JSON number, a plain YAML scalar, a variable's value.
    Plain(Box<str>),
    /// A string in quotes.
    Text(Box<str>),
    List(Vec<Node>),
    /// In the order of the file, duplicates included.
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Box<str>,
    pub(crate) at: At,
    pub(crate) value: Node,
}

impl At {
    /// The line, or the variable.
    pub(crate) fn place(&self) -> (Option<u32>, Option<String>) {
        match self {
            Self::Line(line) => (Some(*line), None),
            Self::Variable(name) => (None, Some(name.to_string())),
        }
    }
}

impl Node {
    /// Where the nearest node on the way to `pointer` is. Keys of the boot file need no escapes.
    pub(crate) fn at(&self, pointer: &str) -> Option<&At> {
        let (mut node, mut at) = (self, &self.at);
        for part in pointer.split('/').skip(1) {
            match &node.content {
                Content::List(items) => {
                    node = items.get(part.parse::<usize>().ok()?)?;
                    at = &node.at;
                }
                Content::Map(entries) => {
                    // RFC 6901 section 4.
                    let part = part.replace("~1", "/").replace("~0", "~");
                    let entry = entries.iter().rfind(|entry| *entry.key == *part)?;
                    (node, at) = (&entry.value, &entry.at);
                }
                Content::Null | Content::Bool(_) | Content::Plain(_) | Content::Text(_) => break,
            }
        }
        Some(at)
    }

    pub(crate) fn new(at: At, content: Content) -> Self {
        Self { at, content }
    }

    /// What it is, as a sentence says it.
    pub(crate) fn noun(&self) -> &'static str {
        match self.content {
            Content::Null => "nothing",
            Content::Bool(_) => "a truth value",
            Content::Plain(_) => "a plain value",
            Content::Text(_) => "a string",
            Content::List(_) => "a list",
            Content::Map(_) => "a map",
        }
    }
}

/// Why a text is not a document.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DocumentError {
    #[error("the file has {bytes} bytes, and at most {max} are allowed")]
    TooLong { bytes: usize, max: usize },
    #[error("nested deeper than {DEPTH_MAX} levels")]
    TooDeep { line: u32 },
    #[error("{what}")]
    Syntax { line: u32, what: String },
    #[error("anchors and aliases are not allowed: write the value out")]
    Alias { line: u32 },
    #[error("tags are not allowed")]
    Tag { line: u32 },
    #[error("a second document starts here, but only one is allowed")]
    SecondDocument { line: u32 },
    #[error("a key has to be a plain word or a string")]
    Key { line: u32 },
}

impl DocumentError {
    fn line(&self) -> Option<u32> {
        match *self {
            Self::TooLong { .. } => None,
            Self::TooDeep { line }
            | Self::Syntax { line, .. }
            | Self::Alias { line }
            | Self::Tag { line }
            | Self::SecondDocument { line }
            | Self::Key { line } => Some(line),
        }
    }

    fn into_problem(self) -> Problem {
        Problem {
            line: self.line(),
            ..Problem::whole(Severity::Error, self.to_string())
        }
    }
}

/// Reads YAML 1.2, without anchors, aliases, tags and second documents.
pub(crate) fn read_yaml(text: &str, problems: &mut Problems) -> Option<Node> {
    within(text, BOOT_BYTES_MAX)
        .and_then(|()| yaml::read(text))
        .map_err(|error| problems.push(error.into_problem()))
        .ok()
}

/// Reads strict JSON (RFC 8259).
pub(crate) fn read_json(text: &str, problems: &mut Problems) -> Option<Node> {
    within(text, STATE_BYTES_MAX)
        .and_then(|()| json::read(text))
        .map_err(|error| problems.push(error.into_problem()))
        .ok()
}

/// Reads the JSON that an environment variable holds.
pub(crate) fn read_variable(name: &Arc<str>, text: &str) -> Result<Node, String> {
    within(text, BOOT_BYTES_MAX)
        .and_then(|()| json::read_from_variable(name, text))
        .map_err(|error| error.to_string())
}

fn within(text: &str, max: usize) -> Result<(), DocumentError> {
    let bytes = text.len();
    if bytes > max {
        return Err(DocumentError::TooLong { bytes, max });
    }
    Ok(())
}

/// The two kinds of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// `ringway.yaml`.
    Boot,
    /// The desired state, JSON.
    State,
}

/// Tells the kinds apart by content: a state document is a JSON object, and none of its keys is a
/// key of the boot file. All else is taken for a boot file. A broken JSON object is told by its
/// first bytes, `{` and a quote or `}`.
pub fn kind_of(text: &str) -> FileKind {
    let Some(inside) = text.trim_start().strip_prefix('{') else {
        return FileKind::Boot;
    };
    let inside = inside.trim_start();
    if !inside.starts_with(['"', '}']) && !inside.is_empty() {
        return FileKind::Boot;
    }
    let boot_key = |entry: &Entry| crate::boot::has_key(&entry.key);
    match json::read(text).map(|node| node.content) {
        Ok(Content::Map(entries)) if entries.iter().any(boot_key) => FileKind::Boot,
        _ => FileKind::State,
    }
}

#[cfg(test)]
mod tests;
