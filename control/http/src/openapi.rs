//! The OpenAPI document, made from the functions that answer.

use std::sync::LazyLock;

use utoipa::{
    Modify, OpenApi as _,
    openapi::{
        OpenApi,
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

use crate::routes::{change, documents, events, journal, probe, state, traffic};

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "Ringway",
        description = "Networks are declared, and Ringway makes them so and keeps them so. \
            Readers see everything but secrets, operators also change the state, admins also see \
            secrets. Every refusal is `{\"error\", \"problems\"}`.",
        license(name = "MIT OR Apache-2.0"),
    ),
    servers((url = "/")),
    tags(
        (name = "state", description = "What is desired, and what is"),
        (name = "accounts", description = "Exact traffic of peers and routes"),
        (name = "history", description = "What happened, and who asked for it"),
        (name = "probes", description = "For machines that watch"),
        (name = "documents", description = "What describes this API"),
    ),
    paths(
        change::apply,
        state::config,
        state::status,
        state::generations,
        change::roll_back,
        change::patch_network,
        change::remove_network,
        change::put_peer,
        change::remove_peer,
        traffic::peers,
        traffic::routes,
        events::follow,
        journal::audit,
        probe::metrics,
        probe::healthz,
        probe::readyz,
        documents::openapi,
        documents::docs,
    ),
    modifiers(&Tokens),
)]
struct Document;

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

/// The document.
pub(crate) fn document() -> &'static OpenApi {
    static DOCUMENT: LazyLock<OpenApi> = LazyLock::new(Document::openapi);
    &DOCUMENT
}
