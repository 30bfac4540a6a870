//! The reference table of the boot file, and what a reload cannot change: both from the keys.

use std::fmt::Write as _;

use serde_json::Value;

use super::Boot;
use crate::{field::Field, section::Key};

/// The reference table in Markdown: one row for each key, in the order of the file.
pub fn reference() -> String {
    let mut table =
        String::from("| Key | Value | Default | At SIGHUP | Meaning |\n|---|---|---|---|---|\n");
    rows(Boot::KEYS, "", &mut table);
    table
}

fn rows(keys: &[Key], above: &str, table: &mut String) {
    for key in keys {
        let path = format!("{above}{}{}", key.name, if key.list { "[]" } else { "" });
        if key.keys.is_empty() {
            row(key, &path, table);
        } else {
            rows(key.keys, &format!("{path}."), table);
        }
    }
}

fn row(key: &Key, path: &str, table: &mut String) {
    let range = key
        .range
        .map(|(min, max)| format!(", {min} to {max}"))
        .unwrap_or_default();
    let default = key
        .default
        .map(|default| format!("`{default}`"))
        .unwrap_or_default();
    let reload = if key.reload { "taken" } else { "" };
    let (syntax, meaning) = (key.syntax, key.meaning());
    // Writing to a string cannot fail.
    let _ = writeln!(
        table,
        "| `{path}` | {syntax}{range} | {default} | {reload} | {meaning} |"
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
