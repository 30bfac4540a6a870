//! What describes the API: its OpenAPI document, and a page to try it.

use std::sync::LazyLock;

use axum::{
    Json,
    http::{HeaderName, header},
    response::Html,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::openapi;

/// The page: one file that needs nothing from outside.
const PAGE: &str = include_str!("../docs.html");

/// The page's own script and style, by their hashes, and nothing else (CSP Level 3, section 8.3);
/// its script speaks with this API only.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let source = |tag: &str| {
        let inside = PAGE
            .split_once(&format!("<{tag}>"))
            .and_then(|(_, rest)| rest.split_once(&format!("</{tag}>")));
        let inside = inside.map_or("", |(inside, _)| inside);
        format!("'sha256-{}'", STANDARD.encode(Sha256::digest(inside)))
    };
    let (script, style) = (source("script"), source("style"));
    format!(
        "default-src 'none'; script-src {script}; style-src {style}; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
});

/// Answers the OpenAPI document.
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    tag = "documents",
    summary = "This document",
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value)),
)]
pub(crate) async fn openapi() -> Json<&'static Value> {
    Json(openapi::document())
}

/// Answers the JSON Schema of the state document.
#[utoipa::path(
    get,
    path = "/api/v1/schema",
    tag = "documents",
    summary = "The JSON Schema of the state document",
    responses((status = 200, description = "JSON Schema, draft 2020-12", body = serde_json::Value,
        content_type = "application/schema+json")),
)]
pub(crate) async fn schema() -> ([(HeaderName, &'static str); 1], Json<&'static Value>) {
    static SCHEMA: LazyLock<Value> = LazyLock::new(control_api::state::schema);
    let kind = (header::CONTENT_TYPE, "application/schema+json");
    ([kind], Json(&SCHEMA))
}

/// Answers a page that lists the API and tries it.
#[utoipa::path(
    get,
    path = "/api/docs",
    tag = "documents",
    summary = "A page to try the API",
    responses((status = 200, description = "HTML", body = String, content_type = "text/html")),
)]
pub(crate) async fn docs() -> ([(HeaderName, &'static str); 1], Html<&'static str>) {
    let policy = (header::CONTENT_SECURITY_POLICY, POLICY.as_str());
    ([policy], Html(PAGE))
}
