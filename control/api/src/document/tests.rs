use proptest::prelude::*;

use super::*;

/// The tree as JSON again, for comparing; a plain scalar is told from a string by `=`.
fn plain(node: &Node) -> serde_json::Value {
    match &node.content {
        Content::Null => serde_json::Value::Null,
        Content::Bool(truth) => (*truth).into(),
        Content::Plain(text) => format!("={text}").into(),
        Content::Text(text) => (**text).into(),
        Content::List(items) => items.iter().map(plain).collect(),
        Content::Map(entries) => entries
            .iter()
            .map(|entry| (entry.key.to_string(), plain(&entry.value)))
            .collect(),
    }
}

fn yaml_error(text: &str) -> DocumentError {
    yaml::read(text).unwrap_err()
}

#[test]
fn both_formats_become_the_same_tree() {
    let json = r#"{"a": [1, "b", true, null], "c": {"d": "x\ny"}}"#;
    let yaml = "a:\n  - 1\n  - 'b'\n  - true\n  -\nc: {d: \"x\\ny\"}\n";
    let tree = plain(&json::read(json).unwrap());
    assert_eq!(tree, plain(&yaml::read(yaml).unwrap()));
    assert_eq!(
        tree,
        serde_json::json!({"a": ["=1", "b", true, null], "c": {"d": "x\ny"}})
    );
}

#[test]
fn every_node_knows_its_line() {
    let json = json::read("{\n\n\"a\": [\n1,\n2]\n}").unwrap();
    let yaml = yaml::read("# c\n\na:\n  - 1\n  - 2\n").unwrap();
    for (tree, lines) in [(json, [3, 4, 5]), (yaml, [3, 4, 5])] {
        let Content::Map(entries) = &tree.content else {
            panic!("{tree:?}")
        };
        let Content::List(items) = &entries[0].value.content else {
            panic!("{tree:?}")
        };
        let ats = [&entries[0].at, &items[0].at, &items[1].at];
        for (at, line) in ats.into_iter().zip(lines) {
            assert!(
                matches!(at, At::Line(here) if *here == line),
                "{at:?}, {line}"
            );
        }
    }
}

#[test]
fn yaml_is_data_and_nothing_else() {
    assert_eq!(yaml_error("a: &x 1"), DocumentError::Alias { line: 1 });
    assert_eq!(yaml_error("\na: *x").line(), Some(2));
    assert_eq!(yaml_error("a: !!str 1"), DocumentError::Tag { line: 1 });
    assert_eq!(
        yaml_error("a: 1\n---\nb: 2"),
        DocumentError::SecondDocument { line: 2 }
    );
    assert_eq!(yaml_error("? [a]\n: 1"), DocumentError::Key { line: 1 });
    assert!(matches!(
        yaml_error("a: [1\nb: 2"),
        DocumentError::Syntax { .. }
    ));
}

#[test]
fn json_is_strict() {
    for text in [
        "",
        "{",
        "{'a': 1}",
        "{\"a\": 1,}",
        "{a: 1}",
        "[01]",
        "[1] []",
        "[nan]",
        "[\"\\ud800\"]",
        "// c\n{}",
    ] {
        assert!(
            matches!(json::read(text), Err(DocumentError::Syntax { .. })),
            "{text}"
        );
    }
    let error = json::read("{\n\"a\": 1\n\"b\": 2}").unwrap_err();
    assert_eq!(error.line(), Some(3));
    assert_eq!(error.to_string(), "not JSON: expected `,` or `}`");
    // What serde_json only sees when the string itself is read.
    let error = json::read("{\n\"a\":\n\"\\ud800\"}").unwrap_err();
    assert_eq!(error.line(), Some(3));
}

#[test]
fn depth_and_size_are_bounded() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for depth in [DEPTH_MAX, DEPTH_MAX + 1] {
        assert_eq!(json::read(&nested(depth)).is_ok(), depth == DEPTH_MAX);
        assert_eq!(yaml::read(&nested(depth)).is_ok(), depth == DEPTH_MAX);
    }
    for text in [
        nested(100_000),
        "[".repeat(100_000),
        "{\"a\":".repeat(100_000),
    ] {
        assert!(json::read(&text).is_err());
        assert!(yaml::read(&text).is_err());
    }
    let mut problems = Problems::default();
    assert!(read_yaml(&" ".repeat(BOOT_BYTES_MAX + 1), &mut problems).is_none());
    assert!(problems.refuse());
}

#[test]
fn the_kinds_of_files_are_told_apart() {
    for (text, kind) in [
        ("workers: auto", FileKind::Boot),
        ("{workers: auto}", FileKind::Boot),
        ("{\"workers\": \"auto\"}", FileKind::Boot),
        ("", FileKind::Boot),
        ("[]", FileKind::Boot),
        ("{}", FileKind::State),
        (" \n{", FileKind::State),
        ("{\"51820\": {}}", FileKind::State),
        ("{\"51820\": {\"workers\": 1", FileKind::State),
    ] {
        assert_eq!(kind_of(text), kind, "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "\\PC*", lines in "([a-z&*!?|>'\"\\[\\]{}:,#% \\-]{0,6}\n){0,12}") {
        for text in [&text, &lines] {
            let _ = (json::read(text), yaml::read(text), kind_of(text));
        }
    }

    /// JSON is nearly YAML; what both accept they must read alike.
    #[test]
    fn json_reads_alike_as_yaml(pairs in prop::collection::vec(("[a-z]{1,8}", "[ -~]{0,12}", 0..9u32), 0..6)) {
        let text = serde_json::to_string_pretty(&pairs).unwrap();
        prop_assert_eq!(plain(&json::read(&text).unwrap()), plain(&yaml::read(&text).unwrap()));
    }
}
