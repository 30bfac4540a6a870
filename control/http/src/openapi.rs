//! The OpenAPI document, made from the functions that answer.

use std::sync::LazyLock;

use serde_json::{Value, json};
use utoipa::{
    Modify, OpenApi as _,
    openapi::{
        Content, OpenApi, Ref, ResponseBuilder,
        path::Operation,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::routes;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Ringway",
        description = "Networks are declared, and Ringway makes them so and keeps them so. \
            Readers see everything but secrets, operators also change the state, admins also see \
            secrets. Every refusal is `{\"error\", \"problems\"}`.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    servers((url = "/")),
    tags(
        (name = "state", description = "What is desired, and what is"),
        (name = "accounts", description = "Exact traffic of peers and routes"),
        (name = "history", description = "What happened, and who asked for it"),
        (name = "probes", description = "For machines that watch"),
        (name = "documents", description = "What describes this API"),
    ),
)]
struct Document;

/// Paths as OpenAPI writes them: a key that reaches over slashes is a name like any other.
struct PlainPaths;

impl Modify for PlainPaths {
    fn modify(&self, document: &mut OpenApi) {
        let paths = std::mem::take(&mut document.paths.paths).into_iter();
        document.paths.paths = paths
            .map(|(path, item)| (path.replace("{*", "{"), item))
            .collect();
    }
}

/// The two ways to give a token.
struct Tokens;

impl Modify for Tokens {
    fn modify(&self, document: &mut OpenApi) {
        let components = document.components.get_or_insert_default();
        let bearer = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer));
        let token = ApiKey::Header(ApiKeyValue::new("Token"));
        components.add_security_scheme("token", SecurityScheme::ApiKey(token));
    }
}

/// What may be answered wherever something is changed, sent or guarded.
struct Refusals;

impl Modify for Refusals {
    fn modify(&self, document: &mut OpenApi) {
        for path in document.paths.paths.values_mut() {
            let reads = [&mut path.get];
            let changes = [
                &mut path.post,
                &mut path.put,
                &mut path.patch,
                &mut path.delete,
            ];
            for operation in reads.into_iter().flatten() {
                if operation.security.is_some() {
                    add(operation, &GUARDED);
                }
                if operation.parameters.is_some() {
                    add(operation, &ASKING);
                }
            }
            for operation in changes.into_iter().flatten() {
                add(operation, &GUARDED);
                add(operation, &ASKING);
                add(operation, &CHANGING);
                if operation.request_body.is_some() {
                    add(operation, &SENDING);
                }
            }
        }
    }
}

const ASKING: [(&str, &str); 1] = [(
    "400",
    "The request is wrong: its query, a header, or a document with all its problems",
)];

const GUARDED: [(&str, &str); 2] = [
    ("401", "No token, or an unknown one"),
    ("429", "Too many wrong tokens from this source"),
];

const CHANGING: [(&str, &str); 3] = [
    ("403", "The token's role may not do this"),
    (
        "409",
        "Another generation changed the owner's part last than `If-Match` says, or what is to be \
            changed belongs to another owner",
    ),
    (
        "503",
        "Not now: too many changes wait, its turn did not come in time, or nothing can be stored. \
            What became of a change that was begun is in `Ringway-Earlier-Change` of the next answer \
            to the same token and address",
    ),
];

const SENDING: [(&str, &str); 2] = [
    ("408", "The document did not come in time"),
    ("413", "The document is too large"),
];

fn add(operation: &mut Operation, refusals: &[(&str, &str)]) {
    for (status, meaning) in refusals {
        let schema = Ref::from_schema_name("Refused");
        let response = ResponseBuilder::new()
            .description(*meaning)
            .content("application/json", Content::new(Some(schema)))
            .build();
        let responses = &mut operation.responses.responses;
        // What a path says itself is more exact.
        responses
            .entry((*status).to_owned())
            .or_insert_with(|| response.into());
    }
}

/// Where a schema of the state document belongs: the way to the content, and which part it is.
const PARTS: [(&str, &str); 5] = [
    ("/paths/~1api~1v1~1apply/post/requestBody", "StateDocument"),
    ("/paths/~1api~1v1~1config/get/responses/200", "Networks"),
    (
        "/paths/~1api~1v1~1networks~1{port}~1peers~1{key}/put/requestBody",
        "Peer",
    ),
    (
        "/paths/~1api~1v1~1networks~1{port}~1listeners~1{name}/put/requestBody",
        "Listener",
    ),
    (
        "/paths/~1api~1v1~1networks~1{port}/patch/requestBody",
        "NetworkPatch",
    ),
];

/// The document.
pub(crate) fn document() -> &'static Value {
    static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
        let mut document = Document::openapi();
        document.merge(routes::paths().into_openapi());
        let parts: [&dyn Modify; 3] = [&PlainPaths, &Tokens, &Refusals];
        parts.iter().for_each(|part| part.modify(&mut document));
        let mut document = json!(document);
        add_state(&mut document);
        say_what_is_open(&mut document);
        document
    });
    &DOCUMENT
}

/// Says of each operation that needs no token that it is meant so: left out, it reads as forgotten.
fn say_what_is_open(document: &mut Value) {
    let paths = document["paths"].as_object_mut();
    let operations = paths.into_iter().flat_map(|paths| paths.values_mut());
    for operation in operations
        .filter_map(Value::as_object_mut)
        .flat_map(|it| it.values_mut())
    {
        if operation.get("security").is_none() {
            operation["security"] = json!([]);
        }
    }
}

/// The state document has a JSON Schema of its own. OpenAPI 3.1 takes it as it is; only its parts
/// stand somewhere else.
fn add_state(document: &mut Value) {
    let mut parts = control_api::state::schema_parts();
    let whole = json!({
        "description": "The whole desired state.",
        "oneOf": [{ "$ref": "#/$defs/Networks" }, {
            "type": "object",
            "properties": { "networks": { "$ref": "#/$defs/Networks" } },
            "required": ["networks"],
            "additionalProperties": false,
        }],
    });
    parts.insert("StateDocument".to_owned(), whole);
    let patch = "A JSON Merge Patch (RFC 7396) of a Network: null removes, lists are replaced.";
    let patch = json!({ "type": "object", "description": patch });
    parts.insert("NetworkPatch".to_owned(), patch);
    if let Some(schemas) = document["components"]["schemas"].as_object_mut() {
        for (name, mut part) in parts {
            move_references(&mut part);
            schemas.insert(name, part);
        }
    }
    for (place, part) in PARTS {
        if let Some(place) = document.pointer_mut(place) {
            let part = format!("#/components/schemas/{part}");
            place["content"]["application/json"]["schema"] = json!({ "$ref": part });
        }
    }
}

fn move_references(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            if let Some(Value::String(reference)) = members.get_mut("$ref") {
                *reference = reference.replace("#/$defs/", "#/components/schemas/");
            }
            members.values_mut().for_each(move_references);
        }
        Value::Array(items) => items.iter_mut().for_each(move_references),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
