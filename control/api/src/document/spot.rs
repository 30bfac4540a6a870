//! A node while it is being read: it knows the way to itself, and problems are noted with it.

use std::{collections::HashMap, fmt};

use super::{At, Content, Entry, Node};
use crate::{
    problem::{Problem, Problems, Severity},
    word::{nearest, printable},
};

/// A node and the way to it from the document's root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spot<'a> {
    pub(crate) node: &'a Node,
    /// Where it starts: with its key, in a map.
    at: &'a At,
    part: Part<'a>,
    parent: Option<&'a Self>,
}

#[derive(Clone, Copy, Debug)]
enum Part<'a> {
    Root,
    Key(&'a str),
    Index(usize),
}

/// What to do with a key that a map has more than once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duplicates {
    Refused,
    /// The last one counts, and the others are warned of.
    LastCounts,
}

impl<'a> Spot<'a> {
    pub(crate) fn root(node: &'a Node) -> Self {
        Self {
            node,
            at: &node.at,
            part: Part::Root,
            parent: None,
        }
    }

    fn item(&'a self, index: usize, node: &'a Node) -> Self {
        Self {
            node,
            at: &node.at,
            part: Part::Index(index),
            parent: Some(self),
        }
    }

    fn member(&'a self, entry: &'a Entry) -> Self {
        Self {
            node: &entry.value,
            at: &entry.at,
            part: Part::Key(&entry.key),
            parent: Some(self),
        }
    }

    /// The last part of the way, when it is a key.
    pub(crate) fn key(&self) -> &'a str {
        match self.part {
            Part::Key(key) => key,
            Part::Root | Part::Index(_) => "",
        }
    }

    pub(crate) fn pointer(&self) -> String {
        let mut parts = Vec::new();
        let mut spot = Some(self);
        while let Some(here) = spot {
            parts.push(here.part);
            spot = here.parent;
        }
        parts.iter().rev().map(Part::to_string).collect()
    }

    pub(crate) fn error(&self, problems: &mut Problems, message: impl fmt::Display) {
        problems.push(self.problem(Severity::Error, message, None));
    }

    pub(crate) fn error_with_hint(
        &self,
        problems: &mut Problems,
        message: impl fmt::Display,
        hint: impl Into<String>,
    ) {
        problems.push(self.problem(Severity::Error, message, Some(hint.into())));
    }

    pub(crate) fn warning(&self, problems: &mut Problems, message: impl fmt::Display) {
        problems.push(self.problem(Severity::Warning, message, None));
    }

    fn problem(
        &self,
        severity: Severity,
        message: impl fmt::Display,
        hint: Option<String>,
    ) -> Problem {
        let (line, variable) = self.at.place();
        Problem {
            severity,
            line,
            variable,
            pointer: self.pointer(),
            message: message.to_string(),
            hint,
        }
    }

    /// The text of a scalar, in quotes or not.
    pub(crate) fn text(&self, problems: &mut Problems) -> Option<&'a str> {
        match &self.node.content {
            Content::Plain(text) | Content::Text(text) => Some(text),
            Content::Null | Content::Bool(_) | Content::List(_) | Content::Map(_) => {
                self.expected(problems, "a string");
                None
            }
        }
    }

    /// The items of a list.
    pub(crate) fn items(
        &'a self,
        problems: &mut Problems,
    ) -> Option<impl ExactSizeIterator<Item = Self> + use<'a>> {
        let Content::List(items) = &self.node.content else {
            self.expected(problems, "a list");
            return None;
        };
        let items = items.iter().enumerate();
        Some(items.map(|(index, node)| self.item(index, node)))
    }

    /// The values of a map, each with its key, in the order of the file.
    pub(crate) fn entries(
        &'a self,
        duplicates: Duplicates,
        problems: &mut Problems,
    ) -> Option<Vec<Self>> {
        let Content::Map(entries) = &self.node.content else {
            self.expected(problems, "a map");
            return None;
        };
        let last: HashMap<&str, usize> = entries
            .iter()
            .enumerate()
            .map(|(index, entry)| (&*entry.key, index))
            .collect();
        let mut spots = Vec::with_capacity(last.len());
        for (index, entry) in entries.iter().enumerate() {
            let spot = self.member(entry);
            if last.get(&*entry.key) == Some(&index) {
                spots.push(spot);
            } else {
                self.duplicate(entry, duplicates, problems);
            }
        }
        Some(spots)
    }

    fn duplicate(&'a self, entry: &'a Entry, duplicates: Duplicates, problems: &mut Problems) {
        let spot = self.member(entry);
        match duplicates {
            Duplicates::Refused => spot.error(problems, "this key is written again further down"),
            Duplicates::LastCounts => {
                spot.warning(
                    problems,
                    "this key is written again further down; that one counts",
                );
            }
        }
    }

    /// Notes that something else stands here than should.
    pub(crate) fn expected(&self, problems: &mut Problems, what: &str) {
        self.error(
            problems,
            format_args!("{what} is expected, not {}", self.node.noun()),
        );
    }
}

impl fmt::Display for Part<'_> {
    /// As in a JSON pointer (RFC 6901 section 3).
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => Ok(()),
            Self::Key(key) => write!(f, "/{}", key.replace('~', "~0").replace('/', "~1")),
            Self::Index(index) => write!(f, "/{index}"),
        }
    }
}

/// A map whose keys are all known.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    map: &'a Spot<'a>,
    found: Vec<Spot<'a>>,
}

impl<'a> Fields<'a> {
    /// Opens a map and notes every key that is not one of `known`, or is there twice.
    pub(crate) fn open(map: &'a Spot<'a>, known: &[&str], problems: &mut Problems) -> Option<Self> {
        let mut found = map.entries(Duplicates::Refused, problems)?;
        found.retain(|spot| {
            let is_known = known.contains(&spot.key());
            if !is_known {
                unknown(spot, known, problems);
            }
            is_known
        });
        Some(Self { map, found })
    }

    pub(crate) fn find(&self, key: &str) -> Option<&Spot<'a>> {
        self.found.iter().find(|spot| spot.key() == key)
    }

    /// The value of a key that has to be there and may not be null.
    pub(crate) fn need(&self, key: &str, problems: &mut Problems) -> Option<&Spot<'a>> {
        let found = self.find(key).filter(|spot| !spot.is_null());
        if found.is_none() {
            self.map.error(problems, format_args!("`{key}` is missing"));
        }
        found
    }
}

impl Spot<'_> {
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.node.content, Content::Null)
    }
}

fn unknown(spot: &Spot<'_>, known: &[&str], problems: &mut Problems) {
    let message = format!("`{}` is not a key here", printable(spot.key()));
    match nearest(spot.key(), known.iter().copied()) {
        Some(word) => spot.error_with_hint(problems, message, format!("did you mean `{word}`?")),
        None => spot.error_with_hint(problems, message, format!("known: {}", known.join(", "))),
    }
}
