//! What is wrong with a file, and where.

use std::fmt;

use serde::Serialize;

/// Most problems reported for one file; the rest is only counted.
pub const PROBLEMS_MAX: usize = 1000;

/// Whether a problem refuses the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The file is refused whole.
    Error,
    /// The file is accepted; somebody should look.
    Warning,
}

/// One thing that is wrong, with its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// Whether it refuses the file.
    pub severity: Severity,
    /// Line in the file, from 1. `None` when something is missing from an empty file, or when the
    /// value came from the environment.
    pub line: Option<u32>,
    /// The environment variable that the value came from.
    pub variable: Option<String>,
    /// Place in the document as a JSON pointer (RFC 6901); empty for the whole document.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead, where that can be said.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem of a file as a whole, or of something outside of any file.
    pub fn whole(severity: Severity, message: impl Into<String>) -> Self {
        Self {
            severity,
            line: None,
            variable: None,
            pointer: String::new(),
            message: message.into(),
            hint: None,
        }
    }
}

impl fmt::Display for Problem {
    /// `pointer: message (hint)`, with `warning:` in front of the message of a warning.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pointer = match self.pointer.as_str() {
            "" => "/".to_owned(),
            pointer => harmless(pointer),
        };
        let severity = match self.severity {
            Severity::Error => "",
            Severity::Warning => "warning: ",
        };
        write!(f, "{pointer}: {severity}{}", self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// Keys of a file are a stranger's words: no control character of theirs reaches a terminal.
fn harmless(pointer: &str) -> String {
    let escape = |char: char| char.is_control();
    pointer.replace(escape, "\u{fffd}")
}

/// All problems of one file, in the order of its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    list: Vec<Problem>,
    errors: usize,
    unlisted: usize,
}

impl Problems {
    /// Notes a problem.
    pub fn push(&mut self, problem: Problem) {
        self.errors += usize::from(problem.severity == Severity::Error);
        if self.list.len() < PROBLEMS_MAX {
            self.list.push(problem);
        } else {
            self.unlisted += 1;
        }
    }

    /// Whether one of them refuses the file.
    pub fn refuse(&self) -> bool {
        self.errors > 0
    }

    /// The first [`PROBLEMS_MAX`] of them.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter()
    }

    /// Those of [`Problems::iter`] that refuse the file.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.iter()
            .filter(|problem| problem.severity == Severity::Error)
    }

    /// How many there are beyond those of [`Problems::iter`].
    pub fn unlisted(&self) -> usize {
        self.unlisted
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The value with its warnings, or everything that is wrong.
    pub(crate) fn decide<T>(mut self, value: Option<T>) -> Result<Valid<T>, Self> {
        // In the order of the file; what has no line is at the end.
        self.list
            .sort_by_key(|problem| problem.line.unwrap_or(u32::MAX));
        match value {
            Some(value) if !self.refuse() => Ok(Valid {
                value,
                warnings: self,
            }),
            Some(_) | None => {
                debug_assert!(self.refuse(), "a value is missing without a reason");
                Err(self)
            }
        }
    }
}

/// A valid value, and what should still be looked at.
#[derive(Clone, Debug)]
pub struct Valid<T> {
    /// The value.
    pub value: T,
    /// Warnings only.
    pub warnings: Problems,
}
