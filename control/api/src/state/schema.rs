//! The JSON Schema of the state document (draft 2020-12).
//!
//! It takes what the parser takes and refuses what it refuses, but for what a schema cannot say:
//! ranges of amounts, what contradicts itself, whether a key is a key. The descriptions say that.

use serde_json::{Map, Value, json};

use super::{
    ErrorPages, LISTENERS_MAX, Listener, NAME_SERVERS_MAX, Owner, Route, Tls, part, pool,
    reference::NETWORK,
};
use crate::{field::Field, section::Key};

/// A WireGuard key in one of its three forms, as a regular expression.
const KEY: &str = "[A-Za-z0-9+/_-]{43}=?|[0-9A-Fa-f]{64}";
/// An address with its port.
const ENDPOINT: &str = r"^([0-9.]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$";
/// What says that a network has a device.
const DEVICE: [&str; 5] = ["private_key", "listen_port", "mtu", "address", "peers"];

/// The schema of the document, with its parts under `$defs`.
pub fn schema() -> Value {
    let networks = json!({ "$ref": "#/$defs/Networks" });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Ringway state document",
        "description": "The whole desired state: networks by their public WireGuard port, or \
            `{\"networks\": …}` with them.",
        "oneOf": [networks, {
            "type": "object",
            "properties": { "networks": networks },
            "required": ["networks"],
            "additionalProperties": false,
        }],
        "$defs": parts(),
    })
}

/// The parts of the document: `Networks`, `Network`, `Route`, `Listener` and `Peer`.
pub fn parts() -> Map<String, Value> {
    let mut route = Route::schema();
    route["description"] = "A rule for requests, or for the TLS connections of a host.".into();
    let mut listener = Listener::schema();
    listener["description"] = "An address that clients of a network come in at.".into();
    Map::from_iter([
        ("Networks".to_owned(), networks()),
        ("Network".to_owned(), network()),
        ("Route".to_owned(), route),
        ("Listener".to_owned(), listener),
        ("Peer".to_owned(), peer(peer_fields(), &["allowed_ips"])),
    ])
}

fn networks() -> Value {
    json!({
        "type": "object",
        "description": "Networks by their public WireGuard port.",
        "propertyNames": { "pattern": "^[1-9][0-9]{0,4}$" },
        "additionalProperties": { "$ref": "#/$defs/Network" },
    })
}

fn network() -> Value {
    let mut properties = Map::from_iter([
        ("proxy".to_owned(), proxy()),
        (
            "routes".to_owned(),
            json!({
                "type": ["array", "null"], "items": { "$ref": "#/$defs/Route" },
            }),
        ),
        ("listeners".to_owned(), listeners()),
        ("tls".to_owned(), nullable(Tls::schema())),
        ("error_pages".to_owned(), nullable(ErrorPages::schema())),
        ("private_key".to_owned(), secret()),
        (
            "address".to_owned(),
            json!({ "type": ["array", "null"], "items": prefix(), "minItems": 1 }),
        ),
        (
            "mtu".to_owned(),
            json!({ "type": ["integer", "null"], "minimum": 1280, "maximum": 65535 }),
        ),
        (
            "listen_port".to_owned(),
            json!({ "type": ["integer", "null"], "minimum": 0, "maximum": 65535 }),
        ),
        ("peers".to_owned(), peers()),
        ("peer_to_peer".to_owned(), bool::schema()),
        (
            "netns".to_owned(),
            json!({
                "type": ["string", "null"],
                "pattern": r"^[^./\s\u0000-\u0020\u007f][^/\s\u0000-\u0020\u007f]*$",
                "maxLength": 255,
            }),
        ),
        ("dns".to_owned(), name_servers()),
        ("adopt".to_owned(), bool::schema()),
        ("owner".to_owned(), nullable(Owner::schema())),
    ]);
    for key in NETWORK {
        if let Some(schema) = properties.get_mut(key.name) {
            describe(schema, key);
        }
    }
    json!({
        "type": "object",
        "description": "A tenant: a namespace, the WireGuard device that leads to it, and what it serves.",
        "properties": properties,
        "additionalProperties": false,
        "if": { "allOf": [
            { "required": ["netns"] },
            { "not": { "anyOf": DEVICE.map(|key| json!({ "required": [key] })) } },
        ] },
        "else": {
            "required": ["private_key", "peers"],
            "anyOf": [
                {
                    "required": ["address"],
                    "properties": { "address": { "type": "array", "items": {} } },
                },
                { "properties": { "peers": { "type": "array", "items": {} } } },
            ],
        },
    })
}

fn name_servers() -> Value {
    json!({
        "type": ["array", "null"],
        "items": {
            "type": "string",
            "pattern": r"^([0-9.]+|\[[0-9A-Fa-f:.]+\]):[0-9]{1,5}$|^[0-9A-Fa-f:.]+$",
        },
        "maxItems": NAME_SERVERS_MAX,
    })
}

fn describe(schema: &mut Value, key: &Key) {
    let mut description = key.meaning();
    if let Some(default) = key.default {
        description.push_str(&format!(" `{default}` by default."));
    }
    schema["description"] = description.into();
    if let Some(example) = key.example() {
        schema["examples"] = json!([example]);
    }
}

fn nullable(mut schema: Value) -> Value {
    part::allow_null(&mut schema);
    schema
}

fn proxy() -> Value {
    let host = super::HOST_PATTERN.trim_start_matches('^');
    json!({
        "type": "object",
        "propertyNames": { "pattern": format!("^((https?|ssh)://)?{host}") },
        "additionalProperties": pool::schema(),
    })
}

fn listeners() -> Value {
    json!({
        "type": ["object", "null"],
        "propertyNames": { "pattern": "^[A-Za-z0-9_.-]{1,64}$" },
        "maxProperties": LISTENERS_MAX,
        "additionalProperties": { "$ref": "#/$defs/Listener" },
    })
}

fn secret() -> Value {
    json!({ "type": "string", "pattern": format!(r"^(\(kept\)|{KEY})$") })
}

fn prefix() -> Value {
    json!({ "type": "string", "pattern": "^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$" })
}

fn peer_fields() -> Map<String, Value> {
    Map::from_iter([
        ("preshared_key".to_owned(), nullable(secret())),
        (
            "allowed_ips".to_owned(),
            json!({ "type": "array", "items": prefix() }),
        ),
        (
            "endpoint".to_owned(),
            json!({ "type": ["string", "null"], "pattern": ENDPOINT }),
        ),
        (
            "preshared_secret".to_owned(),
            json!({ "deprecated": true, "description": "Means nothing." }),
        ),
        ("owner".to_owned(), nullable(Owner::schema())),
    ])
}

fn peer(properties: Map<String, Value>, required: &[&str]) -> Value {
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

fn peers() -> Value {
    let mut listed = peer_fields();
    let key = json!({ "type": "string", "pattern": format!("^({KEY})$") });
    listed.insert("public_key".to_owned(), key);
    json!({ "oneOf": [
        {
            "type": "object",
            "propertyNames": { "pattern": format!("^({KEY})$") },
            "additionalProperties": { "$ref": "#/$defs/Peer" },
        },
        {
            "type": "array",
            "items": peer(listed, &["public_key", "allowed_ips"]),
            "deprecated": true,
        },
    ] })
}

#[cfg(test)]
mod tests;
