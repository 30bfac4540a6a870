//! The reference table of the boot file, and what a reload cannot change: both from the keys.

use std::fmt::Write as _;

use serde_json::Value;

use super::Boot;
use crate::{field::Field, section::Key};

/// The reference in Markdown: a table for each section, with one row for each key, in the order of the file.
pub fn reference() -> String {
    let mut text = String::from("## Keys without a section\n\n");
    let (sections, single): (Vec<&Key>, Vec<&Key>) =
        Boot::KEYS.iter().partition(|key| !key.keys.is_empty());
    text.push_str(HEAD);
    for key in single {
        row(key, key.name, &mut text);
    }
    for section in sections {
        let (name, meaning) = (section.name, section.meaning());
        let list = if section.list { "[]" } else { "" };
        // Writing to a string cannot fail.
        let _ = write!(text, "\n## `{name}`\n\n{meaning}\n\n{HEAD}");
        rows(section.keys, &format!("{name}{list}."), &mut text);
    }
    text
}

const HEAD: &str = "| Key | Value | Default | Reloadable | Meaning |\n|---|---|---|---|---|\n";

fn rows(keys: &[Key], above: &str, table: &mut String) {
    for key in keys {
        let path = format!("{above}{}{}", key.name, if key.list { "[]" } else { "" });
        row(key, &path, table);
        rows(key.keys, &format!("{path}."), table);
    }
}

fn row(key: &Key, path: &str, table: &mut String) {
    let syntax = match (key.range, key.syntax.split_once(" from ")) {
        // The range of the key is narrower than that of its type.
        (Some((min, max)), Some((what, _))) => format!("{what} from {min} to {max}"),
        (Some((min, max)), None) => format!("{}, {min} to {max}", key.syntax),
        (None, _) => key.syntax.to_owned(),
    };
    let default = key
        .default
        .map(|default| format!("`{default}`"))
        .unwrap_or_default();
    let reload = if key.reload { "yes" } else { "" };
    let meaning = key.meaning();
    let _ = writeln!(
        table,
        "| `{path}` | {syntax} | {default} | {reload} | {meaning} |"
    );
}

/// The keys that differ and are not taken at SIGHUP, as JSON pointers.
pub(super) fn fixed_changes(
    keys: &[Key],
    new: &Value,
    running: &Value,
    above: &str,
    changed: &mut Vec<String>,
) {
    for key in keys {
        let (new, running) = (&new[key.name], &running[key.name]);
        let pointer = format!("{above}/{}", key.name);
        if new == running || key.reload {
            continue;
        }
        match (new, running) {
            (Value::Object(_), Value::Object(_)) => {
                fixed_changes(key.keys, new, running, &pointer, changed);
            }
            (Value::Array(new), Value::Array(running)) if new.len() == running.len() => {
                for (index, (new, running)) in new.iter().zip(running).enumerate() {
                    let pointer = format!("{pointer}/{index}");
                    if key.keys.is_empty() && new != running {
                        changed.push(pointer);
                    } else {
                        fixed_changes(key.keys, new, running, &pointer, changed);
                    }
                }
            }
            (_, _) => changed.push(pointer),
        }
    }
}
