//! Whether a value is what an OpenAPI schema says: the part of JSON Schema (draft 2020-12) that the
//! API's own document uses, and stricter in one point: what is not declared is not allowed.

use serde_json::Value;

/// Everything that is wrong with a value, by place.
pub(crate) fn violations(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(document, schema, value, "", &mut found);
    found
}

fn resolve<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    let Some(reference) = schema["$ref"].as_str() else {
        return schema;
    };
    let pointer = reference.strip_prefix('#').expect("a local reference");
    let target = document.pointer(pointer);
    resolve(
        document,
        target.unwrap_or_else(|| panic!("{reference} leads nowhere")),
    )
}

fn check(document: &Value, schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    let schema = resolve(document, schema);
    for word in ["oneOf", "anyOf"] {
        let Some(choices) = schema[word].as_array() else {
            continue;
        };
        let fits = |choice: &Value| violations(document, choice, value).is_empty();
        if !choices.iter().any(fits) {
            let attempts: Vec<Vec<String>> = choices
                .iter()
                .map(|choice| violations(document, choice, value))
                .collect();
            found.push(format!(
                "{place}: {value} fits none of {word}: {attempts:?}"
            ));
        }
        return;
    }
    if let Some(parts) = schema["allOf"].as_array() {
        return check_parts(document, parts, value, place, found);
    }
    check_type(schema, value, place, found);
    if let Some(values) = schema["enum"].as_array()
        && !values.contains(value)
    {
        found.push(format!("{place}: {value} is none of {values:?}"));
    }
    if let Some(items) = value.as_array() {
        for (index, item) in items.iter().enumerate() {
            check(
                document,
                &schema["items"],
                item,
                &format!("{place}/{index}"),
                found,
            );
        }
    }
    if let Some(members) = value.as_object() {
        check_members(document, schema, members, place, found);
    }
}

/// Parts of one object: each member has to be declared by one of them.
fn check_parts(
    document: &Value,
    parts: &[Value],
    value: &Value,
    place: &str,
    found: &mut Vec<String>,
) {
    let undeclared = |violation: &String| violation.ends_with("is not declared");
    let lists: Vec<Vec<String>> = parts
        .iter()
        .map(|part| match resolve(document, part)["oneOf"].as_array() {
            // The choice that fits but for the members of the other parts.
            Some(choices) => choices
                .iter()
                .map(|choice| violations(document, choice, value))
                .min_by_key(|list| list.iter().filter(|one| !undeclared(one)).count())
                .unwrap_or_default(),
            None => violations(document, part, value),
        })
        .collect();
    for violation in lists.iter().flatten() {
        let everywhere = lists.iter().all(|list| list.contains(violation));
        if !undeclared(violation) || everywhere {
            found.push(format!("{place}{violation}"));
        }
    }
}

fn check_members(
    document: &Value,
    schema: &Value,
    members: &serde_json::Map<String, Value>,
    place: &str,
    found: &mut Vec<String>,
) {
    for name in schema["required"].as_array().into_iter().flatten() {
        if !members.contains_key(name.as_str().expect("a name")) {
            found.push(format!("{place}: {name} is missing"));
        }
    }
    let is_open =
        schema.get("properties").is_none() && schema.get("additionalProperties").is_none();
    for (name, member) in members {
        let place = format!("{place}/{name}");
        let declared = schema["properties"].get(name);
        match declared.or_else(|| schema.get("additionalProperties")) {
            Some(schema) => check(document, schema, member, &place, found),
            None if is_open => {}
            None => found.push(format!("{place} is not declared")),
        }
    }
}

fn check_type(schema: &Value, value: &Value, place: &str, found: &mut Vec<String>) {
    let is = |kind: &Value| match kind.as_str() {
        Some("null") => value.is_null(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("number") => value.is_number(),
        Some("string") => value.is_string(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        other => panic!("{place}: type {other:?}"),
    };
    let fits = match schema.get("type") {
        None => true,
        Some(Value::Array(kinds)) => kinds.iter().any(is),
        Some(kind) => is(kind),
    };
    if !fits {
        found.push(format!("{place}: {value} is not {}", schema["type"]));
    }
}

#[test]
fn what_is_wrong_is_found() {
    use serde_json::json;
    let document = json!({ "components": { "schemas": { "Port": { "type": "integer" } } } });
    let schema = json!({
        "type": "object", "required": ["port"],
        "properties": { "port": { "$ref": "#/components/schemas/Port" }, "why": { "type": ["string", "null"] } },
    });
    assert!(violations(&document, &schema, &json!({ "port": 1, "why": null })).is_empty());
    for (value, wrong) in [
        (json!({}), ": \"port\" is missing"),
        (json!({ "port": "1" }), "/port: \"1\" is not \"integer\""),
        (json!({ "port": 1, "colour": 2 }), "/colour is not declared"),
        (json!([]), ": [] is not \"object\""),
    ] {
        assert_eq!(violations(&document, &schema, &value), [wrong], "{value}");
    }
}
