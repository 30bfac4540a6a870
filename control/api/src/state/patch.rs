//! JSON Merge Patch (RFC 7396) on located trees, so that a problem is reported at its line.

use std::collections::HashMap;

use super::{key::PublicKey, proxy};
use crate::{
    document::{Content, Duplicates, Entry, Node, Spot},
    problem::Problems,
};

/// Brings the keys of a network's patch into the form in which the document is rendered, so that
/// they meet the ones that they mean: public keys as standard base64, hosts with their scheme.
pub(super) fn canonical(patch: &mut Node) {
    let Content::Map(members) = &mut patch.content else {
        return;
    };
    for member in members {
        let Content::Map(entries) = &mut member.value.content else {
            continue;
        };
        match &*member.key {
            "peers" => entries.iter_mut().for_each(canonical_peer),
            "proxy" => *entries = entries.iter().flat_map(canonical_hosts).collect(),
            _ => {}
        }
    }
}

fn canonical_peer(entry: &mut Entry) {
    if let Ok(key) = entry.key.parse::<PublicKey>() {
        entry.key = key.to_string().into();
    }
}

/// What is no host stays, and is refused when the result is read.
fn canonical_hosts(entry: &Entry) -> Vec<Entry> {
    match proxy::parse_key(&entry.key) {
        Ok(hosts) => hosts
            .keys()
            .map(|key| Entry {
                key: key.to_string().into(),
                ..entry.clone()
            })
            .collect(),
        Err(_) => vec![entry.clone()],
    }
}

/// Notes every key that a map of the patch has twice: which one was meant cannot be told.
pub(super) fn refuse_duplicates(spot: &Spot<'_>, problems: &mut Problems) {
    match &spot.node.content {
        Content::Map(_) => {
            for entry in spot
                .entries(Duplicates::Refused, problems)
                .unwrap_or_default()
            {
                refuse_duplicates(&entry, problems);
            }
        }
        Content::List(_) => {
            for item in spot.items(problems).into_iter().flatten() {
                refuse_duplicates(&item, problems);
            }
        }
        Content::Null | Content::Bool(_) | Content::Plain(_) | Content::Text(_) => {}
    }
}

/// Changes `target` by `patch` (RFC 7396 section 2): maps are merged, `null` removes, all else
/// replaces.
pub(super) fn merge(target: &mut Node, patch: Node) {
    let Content::Map(changes) = patch.content else {
        *target = patch;
        return;
    };
    if !matches!(target.content, Content::Map(_)) {
        *target = Node::new(patch.at, Content::Map(Vec::new()));
    }
    let Content::Map(entries) = &mut target.content else {
        return;
    };
    let mut places: HashMap<Box<str>, usize> = entries
        .iter()
        .enumerate()
        .map(|(place, entry)| (entry.key.clone(), place))
        .collect();
    let mut merged: Vec<Option<Entry>> = std::mem::take(entries).into_iter().map(Some).collect();
    for change in changes {
        let place = *places.entry(change.key.clone()).or_insert(merged.len());
        if place == merged.len() {
            merged.push(None);
        }
        let Some(entry) = merged.get_mut(place) else {
            continue;
        };
        if matches!(change.value.content, Content::Null) {
            *entry = None;
            continue;
        }
        let entry = entry.get_or_insert_with(|| Entry {
            key: change.key,
            at: change.at.clone(),
            value: Node::new(change.at.clone(), Content::Null),
        });
        entry.at = change.at;
        merge(&mut entry.value, change.value);
    }
    *entries = merged.into_iter().flatten().collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document;

    fn node(text: &str) -> Node {
        document::read_json(text, &mut Problems::default()).expect(text)
    }

    fn text(node: &Node) -> String {
        match &node.content {
            Content::Null => "null".to_owned(),
            Content::Bool(truth) => truth.to_string(),
            Content::Plain(plain) => plain.to_string(),
            Content::Text(string) => format!("{string:?}"),
            Content::List(items) => {
                let items: Vec<String> = items.iter().map(text).collect();
                format!("[{}]", items.join(","))
            }
            Content::Map(entries) => {
                let entries: Vec<String> = entries
                    .iter()
                    .map(|entry| format!("{:?}:{}", entry.key, text(&entry.value)))
                    .collect();
                format!("{{{}}}", entries.join(","))
            }
        }
    }

    /// The test cases of RFC 7396 appendix A.
    #[test]
    fn the_examples_of_the_rfc_are_merged_as_it_says() {
        for (target, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (
                r#"{"a":{"b":"c"}}"#,
                r#"{"a":{"b":"d","c":null}}"#,
                r#"{"a":{"b":"d"}}"#,
            ),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"["a","b"]"#, r#"["c","d"]"#, r#"["c","d"]"#),
            (r#"{"a":"b"}"#, r#"["c"]"#, r#"["c"]"#),
            (r#"{"a":"foo"}"#, "null", "null"),
            (r#"{"a":"foo"}"#, r#""bar""#, r#""bar""#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("[1,2]", r#"{"a":"b","c":null}"#, r#"{"a":"b"}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            let mut merged = node(target);
            merge(&mut merged, node(patch));
            assert_eq!(text(&merged), result, "{target} and {patch}");
        }
    }
}
