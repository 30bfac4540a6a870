//! The schema and the parser are held against each other, and both against the documents.

use jsonschema::Validator;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{NETWORK, schema};
use crate::{
    section::Key,
    state::{Desired, parse, parse_over, reference, tests::arbitrary_network},
};

fn validator() -> Validator {
    jsonschema::draft202012::new(&schema()).expect("a schema")
}

fn document(file: &str) -> String {
    let path = format!("{}/../../{file}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).expect(&path)
}

/// A network that is good in itself, and has what the parts of some keys need beside them.
fn network() -> Value {
    json!({
        "private_key": "0c".repeat(32), "address": ["10.0.0.1/24"], "peers": {},
        "routes": [{ "host": "shop.example.com", "to": ["10.0.0.2:8080"] }],
    })
}

/// Puts the example of a key in its place, and takes away what it contradicts.
fn place(network: &mut Value, path: &[&str], example: Value) {
    let route = &mut network["routes"][0];
    match path {
        ["routes", "redirect", ..] => drop(route.as_object_mut().map(|route| route.remove("to"))),
        ["routes", "client_certificates", ..] => route["tls"] = "terminate".into(),
        ["routes", "upstream_tls", ..] => route["to"] = json!(["https://10.0.0.2:8443"]),
        ["listeners", "default"] => {
            network["listeners"]["database"] = json!({ "bind": "10.0.0.1:80", "protocol": "http" });
        }
        _ => {}
    }
    match path {
        ["routes"] => network["routes"] = example,
        ["routes", keys @ ..] => *below(&mut network["routes"][0], keys) = example,
        ["listeners", keys @ ..] if !keys.is_empty() => {
            *below(&mut network["listeners"]["database"], keys) = example;
        }
        ["tls", "files", keys @ ..] if !keys.is_empty() => {
            *below(&mut network["tls"]["files"][0], keys) = example;
        }
        keys => *below(network, keys) = example,
    }
}

fn below<'v>(value: &'v mut Value, keys: &[&str]) -> &'v mut Value {
    keys.iter().fold(value, |value, key| &mut value[*key])
}

/// Calls `check` with the way to every key, from the network on, and with its example; what
/// stands above it has its own example first.
fn each(
    keys: &[Key],
    above: &[&'static str],
    base: &Value,
    check: &mut dyn FnMut(&[&str], &Value),
) {
    for key in keys {
        let path: Vec<&'static str> = above.iter().copied().chain([key.name]).collect();
        let example = key
            .example()
            .unwrap_or_else(|| panic!("{path:?} has no example"));
        let mut document = base.clone();
        place(&mut document, &path, example);
        check(&path, &document);
        each(
            key.keys,
            &path,
            if path == ["routes"] { base } else { &document },
            check,
        );
    }
}

/// What secrets are kept from.
fn before() -> Desired {
    parse(&json!({ "51820": network() }).to_string())
        .expect("good")
        .value
}

#[test]
fn the_example_of_each_key_is_taken_by_parser_and_schema() {
    let (validator, before) = (validator(), before());
    let mut count = 0;
    each(NETWORK, &[], &network(), &mut |path, network| {
        count += 1;
        let document = json!({ "51820": network });
        let errors: Vec<String> = validator
            .iter_errors(&document)
            .map(|error| error.to_string())
            .collect();
        assert!(errors.is_empty(), "{path:?}: {errors:?}");
        // These go together, and no key belongs into a document.
        if matches!(
            path,
            ["routes", "upstream_tls", "certificate" | "private_key"]
        ) {
            return;
        }
        let parsed = parse_over(&document.to_string(), &before);
        assert!(parsed.is_ok(), "{path:?}: {parsed:?}");
    });
    assert!(count > 80, "{count}");
}

#[test]
fn the_reference_page_is_up_to_date() {
    control_reference::compare("state", &reference()).unwrap();
}

#[test]
fn state_documents_in_the_documents_are_good() {
    let validator = validator();
    for file in ["README.md", "control/reference/state.md"] {
        let text = document(file);
        let blocks: Vec<&str> = text.split("```json\n").skip(1).collect();
        assert!(!blocks.is_empty(), "{file}");
        for block in blocks {
            let (text, _) = block.split_once("```").expect("an end");
            let document: Value = serde_json::from_str(text).expect(text);
            assert!(validator.is_valid(&document), "{text}");
            let valid = parse(text);
            assert!(valid.is_ok_and(|valid| valid.warnings.is_empty()), "{text}");
        }
    }
}

/// Documents that the parser refuses by their shape, and so does the schema.
#[test]
fn the_schema_refuses_what_the_parser_refuses() {
    let validator = validator();
    let wrong = [
        json!([]),
        json!({ "0": { "netns": null } }),
        json!({ "51820": null }),
        json!({ "51820": {} }),
        json!({ "51820": { "netns": "blue", "mtu": 1400 } }),
        json!({ "51820": { "netns": true } }),
        json!({ "networks": {}, "51820": { "netns": null } }),
    ];
    let networks = [
        json!({ "proxy": [] }),
        json!({ "proxy": { "a b": ["10.0.0.2:1"] } }),
        json!({ "proxy": { "a.example": [] } }),
        json!({ "proxy": { "a.example": ["10.0.0.2"] } }),
        json!({ "proxy": { "a.example": { "balance": "round_robin" } } }),
        json!({ "proxi": {} }),
        json!({ "error_pages": { "200": "x" } }),
        json!({ "tls": { "acme": { "host": ["a.example"] } } }),
        json!({ "tls": { "files": [{ "hosts": ["a.example"], "key": "/k" }] } }),
        json!({ "adopt": null }),
        json!({ "routes": {} }),
    ];
    let routes = [
        json!({ "to": ["10.0.0.2:1"] }),
        json!({ "host": "a.example", "to": ["10.0.0.2:1"], "colour": 1 }),
        json!({ "host": "a b", "to": ["10.0.0.2:1"] }),
        json!({ "host": 5, "to": ["10.0.0.2:1"] }),
        json!({ "host": "a.example", "to": ["ftp://10.0.0.2:1"] }),
        json!({ "host": "a.example", "to": ["10.0.0.2:1"], "path": "x" }),
        json!({ "host": "a.example", "to": ["10.0.0.2:1"], "path": "/x?y" }),
        json!({ "host": "a.example", "to": ["10.0.0.2:1"], "methods": ["get"] }),
        json!({ "host": "a.example", "to": ["10.0.0.2:1"], "methods": [] }),
        json!({ "host": "a.example", "to": ["10.0.0.2:1"], "headers": { "x": false } }),
        json!({ "host": "a.example", "to": ["10.0.0.2:1"], "tls": "end" }),
        json!({ "host": "a.example", "to": ["10.0.0.2:1"], "balance": "hash" }),
        json!({ "host": "a.example", "to": ["10.0.0.2:1"], "health": {} }),
        json!({ "host": "a.example", "to": ["10.0.0.2:1"], "health": { "kind": "tcp", "rise": 101 } }),
        json!({ "host": "a.example", "to": ["10.0.0.2:1"], "timeouts": { "idle": 5 } }),
        json!({ "host": "a.example", "to": ["10.0.0.2:1"], "timeouts": { "idle": "5" } }),
        json!({ "host": "a.example", "to": ["10.0.0.2:1"], "body_max": "10MB" }),
        json!({ "host": "a.example", "to": ["10.0.0.2:1"], "retries": { "max": 11 } }),
        json!({ "host": "a.example", "to": ["10.0.0.2:1"], "auth": { "users": {} } }),
        json!({ "host": "a.example", "to": ["10.0.0.2:1"], "auth": { "users": { "a": "secret" } } }),
        json!({ "host": "a.example", "to": ["10.0.0.2:1"], "allow": ["x"] }),
        json!({ "host": "a.example", "to": ["10.0.0.2:1"], "maintenance": 1 }),
        json!({ "host": "a.example", "to": ["10.0.0.2:1"], "hsts": {} }),
        json!({ "host": "a.example", "redirect": { "to": "https", "status": 200 } }),
        json!({ "host": "a.example", "redirect": { "status": 301 } }),
    ];
    let wrapped = networks
        .into_iter()
        .chain(routes.map(|route| json!({ "routes": [route] })));
    let wrapped = wrapped.map(|mut network| {
        network["netns"] = Value::Null;
        json!({ "51820": network })
    });
    for document in wrong.into_iter().chain(wrapped) {
        assert!(
            parse(&document.to_string()).is_err(),
            "the parser takes {document}"
        );
        assert!(
            !validator.is_valid(&document),
            "the schema takes {document}"
        );
    }
}

proptest! {
    #[test]
    fn the_schema_takes_what_the_parser_takes(one in arbitrary_network(1), other in arbitrary_network(65_535)) {
        let document = Value::Object([one, other].into_iter().collect());
        if let Ok(valid) = parse(&document.to_string()) {
            let validator = validator();
            prop_assert!(validator.is_valid(&document), "{document}");
            let rendered = valid.value.render_masked();
            prop_assert!(validator.is_valid(&rendered), "{rendered}");
        }
    }
}
