//! The accounts.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderValue, header},
    response::Response,
};
use control_api::answer::{Refused, RoutesTraffic, TrafficInfo};
use control_store::{Group, TrafficQuery};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::{
    access::Reader,
    ask::{Asked, key_text},
    refusal::Refusal,
    shared::Shared,
};

/// What is asked about traffic.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Span {
    /// Only what was counted after this unix time; by default everything.
    since: Option<u64>,
    /// The older name of `since`.
    start: Option<u64>,
    /// Only what was counted up to this unix time.
    until: Option<u64>,
    /// Only this network: its port, its name or its public key.
    network: Option<String>,
    /// Only this peer: its public key.
    peer: Option<String>,
    /// The resolution; by default one entry for each row.
    #[param(inline)]
    group: Option<Fineness>,
}

/// How finely traffic is told.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Fineness {
    Hour,
    Day,
}

impl Span {
    fn query(self) -> Result<TrafficQuery, Refusal> {
        let network = self.network.as_deref().map(key_text).transpose();
        let peer = self.peer.as_deref().map(key_text).transpose();
        Ok(TrafficQuery {
            since: self.since.or(self.start).unwrap_or(0),
            until: self.until,
            network: network.map_err(|error| wrong("network", &error))?,
            peer: peer.map_err(|error| wrong("peer", &error))?,
            group: self.group.map(|fineness| match fineness {
                Fineness::Hour => Group::Hour,
                Fineness::Day => Group::Day,
            }),
        })
    }
}

fn wrong(key: &str, error: &dyn std::fmt::Display) -> Refusal {
    Refusal::bad_request(format!("`{key}`: {error}"))
}

/// Tells what WireGuard counted for each peer.
#[utoipa::path(
    get,
    path = "/api/v1/traffic",
    tag = "accounts",
    summary = "Traffic of peers",
    description = "Strictly after `since`: asking again with the answer's `next`, or with its \
        `stop_time`, counts every byte once. Also at `/api/v1/traffic.json`.",
    params(Span),
    responses(
        (status = 200, description = "By network and peer", body = TrafficInfo),
        (status = 503, description = "The store cannot be read", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn peers(
    State(shared): State<Arc<Shared>>,
    _: Reader,
    Asked(span): Asked<Span>,
) -> Result<Response, Refusal> {
    let info: TrafficInfo = shared.front.accounts.traffic(span.query()?).await?;
    written(info).await
}

/// Tells what was relayed for each route and client.
#[utoipa::path(
    get,
    path = "/api/v1/traffic/routes",
    tag = "accounts",
    summary = "Traffic of routes",
    description = "What the gateway relayed, by network, route and client; with the parameters of \
        `/api/v1/traffic`.",
    params(Span),
    responses(
        (status = 200, description = "By network, route and client", body = RoutesTraffic),
        (status = 503, description = "The store cannot be read", body = Refused),
    ),
    security(("bearer" = []), ("token" = [])),
)]
pub(crate) async fn routes(
    State(shared): State<Arc<Shared>>,
    _: Reader,
    Asked(span): Asked<Span>,
) -> Result<Response, Refusal> {
    let info: RoutesTraffic = shared.front.accounts.routes_traffic(span.query()?).await?;
    written(info).await
}

/// Writes an answer of many thousand rows on a thread of its own, since the one that requests run
/// on also decides about networks.
async fn written<T: Serialize + Send + 'static>(info: T) -> Result<Response, Refusal> {
    let written = tokio::task::spawn_blocking(move || serde_json::to_vec(&info)).await;
    let Ok(Ok(bytes)) = written else {
        return Err(Refusal::unavailable("the answer could not be written"));
    };
    let mut response = Response::new(Body::from(bytes));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    Ok(response)
}
