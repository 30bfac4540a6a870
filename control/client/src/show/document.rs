//! What differs between two state documents.

use serde_json::{Map, Value};

use super::{Colour, Paint, paint::printable};

/// Letters of a value that are shown.
const VALUE_LETTERS_MAX: usize = 100;

/// A line for each place that differs, by its JSON pointer (RFC 6901): `+` what is new, `-` what
/// goes, `~` what becomes another.
pub(crate) fn document_changes(before: &Value, after: &Value, paint: Paint) -> String {
    let mut lines = String::new();
    compare("", before, after, &mut |colour, line| {
        lines.push_str(&paint.paint(colour, &printable(&line)));
        lines.push('\n');
    });
    lines
}

/// Lists are compared as a whole: their order counts. Only rules are found again wherever they stand:
/// by what they are for, which no two of them have in common. Documents are as deep as the API lets them be.
fn compare(pointer: &str, before: &Value, after: &Value, line: &mut impl FnMut(Colour, String)) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => members(pointer, before, after, line),
        _ if before == after => {}
        (Value::Array(before), Value::Array(after)) if pointer.ends_with("/routes") => {
            rules(pointer, before, after, line);
        }
        _ => line(
            Colour::Notice,
            format!("~  {pointer}: {} → {}", short(before), short(after)),
        ),
    }
}

fn members(
    pointer: &str,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    line: &mut impl FnMut(Colour, String),
) {
    let place = |key: &str| format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
    for (key, value) in before {
        match after.get(key) {
            Some(other) => compare(&place(key), value, other, line),
            None => line(Colour::Bad, format!("-  {}: {}", place(key), short(value))),
        }
    }
    for (key, value) in after.iter().filter(|(key, _)| !before.contains_key(*key)) {
        line(Colour::Good, format!("+  {}: {}", place(key), short(value)));
    }
}

/// What a rule is for: the members by which requests are found to be its.
fn purpose(rule: &Value) -> [&Value; 6] {
    ["host", "path", "methods", "headers", "tls", "redirect"].map(|key| match key {
        // A redirect to https is for other requests than all else.
        "redirect" if rule[key] != "https" => &Value::Null,
        key => &rule[key],
    })
}

fn rules(pointer: &str, before: &[Value], after: &[Value], line: &mut impl FnMut(Colour, String)) {
    for (at, rule) in before.iter().enumerate() {
        if !after.iter().any(|other| purpose(other) == purpose(rule)) {
            line(Colour::Bad, format!("-  {pointer}/{at}: {}", short(rule)));
        }
    }
    for (at, rule) in after.iter().enumerate() {
        let place = format!("{pointer}/{at}");
        match before
            .iter()
            .position(|other| purpose(other) == purpose(rule))
        {
            Some(was) => compare(&place, &before[was], rule, line),
            None => line(Colour::Good, format!("+  {place}: {}", short(rule))),
        }
    }
}

fn short(value: &Value) -> String {
    let mut text = value.to_string();
    if let Some((end, _)) = text.char_indices().nth(VALUE_LETTERS_MAX) {
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_place_that_differs_has_a_line() {
        let before = json!({"1": {"mtu": 1420, "proxy": {"https://a": ["x"], "b~": []}}, "2": {}});
        let after = json!({"1": {"mtu": 1380, "proxy": {"https://a": ["x", "y"]}}, "3": {}});
        assert_eq!(
            document_changes(&before, &after, Paint::PLAIN),
            "\
~  /1/mtu: 1420 → 1380
-  /1/proxy/b~0: []
~  /1/proxy/https:~1~1a: [\"x\"] → [\"x\",\"y\"]
-  /2: {}
+  /3: {}
"
        );
        assert_eq!(document_changes(&before, &before, Paint::PLAIN), "");
    }

    #[test]
    fn a_rule_is_compared_with_itself_wherever_it_stands() {
        let before = json!({"1": {"routes": [
            {"host": "a", "to": ["x"]}, {"host": "b", "path": "/b", "body_max": 5},
        ]}});
        let after = json!({"1": {"routes": [
            {"host": "b", "path": "/b", "body_max": 6}, {"host": "c"}, {"host": "a", "redirect": "https"},
        ]}});
        assert_eq!(
            document_changes(&before, &after, Paint::PLAIN),
            "\
-  /1/routes/0: {\"host\":\"a\",\"to\":[\"x\"]}
~  /1/routes/0/body_max: 5 → 6
+  /1/routes/1: {\"host\":\"c\"}
+  /1/routes/2: {\"host\":\"a\",\"redirect\":\"https\"}
"
        );
    }

    #[test]
    fn long_values_are_cut() {
        let text = short(&json!("ä".repeat(1000)));
        assert_eq!(text.chars().count(), VALUE_LETTERS_MAX + 1);
    }
}
