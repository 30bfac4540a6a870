//! The environment over the boot file.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    document::{At, Content, Entry, Node, read_variable},
    problem::{Problem, Problems, Severity},
    section::Key,
    word::{nearest, printable},
};

/// What the names of all variables start with.
pub const VARIABLE_PREFIX: &str = "RINGWAY_";

/// Variables with the prefix that are not keys of the boot file: where it is, and what the client
/// verbs read.
pub const OTHER_VARIABLES: [&str; 4] = [
    "RINGWAY_CONFIG",
    "RINGWAY_API",
    "RINGWAY_TOKEN",
    "RINGWAY_TOKEN_FILE",
];

/// Where environment variables come from; tests pass a map.
pub trait Source {
    /// The variables whose names start with [`VARIABLE_PREFIX`], with their values.
    fn variables(&self) -> Vec<(String, String)>;
}

impl Source for BTreeMap<String, String> {
    fn variables(&self) -> Vec<(String, String)> {
        self.iter()
            .filter(|(name, _)| name.starts_with(VARIABLE_PREFIX))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }
}

/// A key that a variable can set.
pub(super) struct Settable {
    pub(super) variable: String,
    path: Vec<&'static str>,
    list: bool,
}

/// Every key that a variable can set: values and lists, but not whole sections.
pub(super) fn settable(keys: &[Key]) -> Vec<Settable> {
    let mut found = Vec::new();
    collect(keys, &mut Vec::new(), &mut found);
    found
}

fn collect(keys: &[Key], path: &mut Vec<&'static str>, found: &mut Vec<Settable>) {
    for key in keys {
        path.push(key.name);
        if key.keys.is_empty() || key.list {
            found.push(Settable {
                variable: format!("{VARIABLE_PREFIX}{}", path.join("__").to_ascii_uppercase()),
                path: path.clone(),
                list: key.list,
            });
        } else {
            collect(key.keys, path, found);
        }
        path.pop();
    }
}

/// Writes the variables into the document.
pub(super) fn overlay(
    root: &mut Node,
    source: &impl Source,
    keys: &[Key],
    problems: &mut Problems,
) {
    let settable = settable(keys);
    for (name, value) in source.variables() {
        if value.is_empty() || OTHER_VARIABLES.contains(&name.as_str()) {
            continue;
        }
        let Some(key) = settable.iter().find(|key| key.variable == name) else {
            problems.push(unknown(&name, &settable));
            continue;
        };
        let shared: Arc<str> = name.as_str().into();
        let node = if key.list {
            read_variable(&shared, &value)
        } else {
            let content = Content::Plain(value.into());
            Ok(Node::new(At::Variable(shared.clone()), content))
        };
        match node {
            Ok(node) => set(root, &key.path, node, &shared),
            Err(message) => problems.push(Problem {
                variable: Some(name),
                pointer: format!("/{}", key.path.join("/")),
                ..Problem::whole(Severity::Error, message)
            }),
        }
    }
}

fn unknown(name: &str, settable: &[Settable]) -> Problem {
    let variables = settable.iter().map(|key| key.variable.as_str());
    // Distances are taken in lower case.
    let lower: Vec<String> = variables.map(str::to_ascii_lowercase).collect();
    let near = nearest(name, lower.iter().map(String::as_str));
    Problem {
        variable: Some(name.to_owned()),
        hint: near.map(|near| format!("did you mean {}?", near.to_ascii_uppercase())),
        ..Problem::whole(
            Severity::Error,
            format!("{} is not a variable of Ringway", printable(name)),
        )
    }
}

/// Replaces what is at `path`, or adds it. What is in the way and not a map stays, and is refused
/// when it is read.
fn set(node: &mut Node, path: &[&'static str], value: Node, variable: &Arc<str>) {
    let Some((&key, below)) = path.split_first() else {
        *node = value;
        return;
    };
    if matches!(node.content, Content::Null) {
        node.content = Content::Map(Vec::new());
    }
    let Content::Map(entries) = &mut node.content else {
        return;
    };
    let found = entries.iter().rposition(|entry| &*entry.key == key);
    let index = found.unwrap_or_else(|| {
        let at = At::Variable(variable.clone());
        entries.push(Entry {
            key: key.into(),
            at: at.clone(),
            value: Node::new(at, Content::Null),
        });
        entries.len() - 1
    });
    if let Some(entry) = entries.get_mut(index) {
        if below.is_empty() {
            entry.at = value.at.clone();
        }
        set(&mut entry.value, below, value, variable);
    }
}
