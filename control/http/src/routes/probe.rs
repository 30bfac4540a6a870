//! For machines that watch: whether it lives, whether it is ready, and all that it counts.

use std::sync::Arc;

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode, header},
};

use crate::{
    access::Reader,
    metrics::{self, Rendered},
    refusal::Refusal,
    shared::Shared,
};

/// Tells that requests are answered.
#[utoipa::path(
    get,
    path = "/healthz",
    tag = "probes",
    summary = "Whether the process answers",
    responses((status = 200, description = "It does", body = String, content_type = "text/plain")),
)]
pub(crate) async fn healthz() -> &'static str {
    "ok\n"
}

/// Tells whether traffic is carried as desired.
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "probes",
    summary = "Whether clients are accepted and every worker runs the desired state",
    responses(
        (status = 200, description = "It does", body = String, content_type = "text/plain"),
        (status = 503, description = "Not yet, or not any more", body = String, content_type = "text/plain"),
    ),
)]
pub(crate) async fn readyz(State(shared): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    let is_ready = shared.front.view.borrow().ready && !*shared.closing.borrow();
    if is_ready {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}

/// Shows everything that is counted.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "probes",
    summary = "Metrics for Prometheus",
    description = "The classic text format of Prometheus, or OpenMetrics 1.0 where `Accept` asks for \
        `application/openmetrics-text`.",
    responses(
        (status = 200, description = "Every metric", content(
            (String = "text/plain"), (String = "application/openmetrics-text"),
        )),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn metrics(
    State(shared): State<Arc<Shared>>,
    _: Reader,
    headers: HeaderMap,
) -> Result<([(HeaderName, &'static str); 1], String), Refusal> {
    // They are as many as there are networks: not on the thread that all requests share.
    let rendered = tokio::task::spawn_blocking(move || metrics::render(&shared, &headers)).await;
    let Ok(Ok(Rendered { content_type, text })) = rendered else {
        return Err(Refusal::unavailable("the metrics could not be written"));
    };
    Ok(([(header::CONTENT_TYPE, content_type)], text))
}
