//! What a request says beside its body: its path, its query, `If-Match`. What is wrong is refused
//! like everything else, as JSON.

use std::{num::NonZeroU16, str::FromStr, sync::Arc};

use axum::{
    extract::{FromRequestParts, Path, Query},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts},
};
use control_api::{
    boot::ListenerName,
    place::NetworkKey,
    state::{PublicKey, RuleId, Whose},
};
use serde::{Deserialize, de::DeserializeOwned};
use utoipa::ToSchema;

use crate::{audit, refusal::Refusal, shared::Shared};

/// The query of a request.
#[derive(Debug)]
pub(crate) struct Asked<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequestParts<Arc<Shared>> for Asked<T> {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Shared>) -> Result<Self, Refusal> {
        Query::try_from_uri(&parts.uri)
            .map(|Query(asked)| Self(asked))
            .map_err(|rejection| Refusal::bad_request(rejection.body_text()))
    }
}

impl FromRequestParts<Arc<Shared>> for audit::Action {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Shared>) -> Result<Self, Refusal> {
        Ok(Self::of(parts))
    }
}

/// The word for all owners.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Everybody {
    /// All of them.
    All,
}

/// Whose objects a query is about.
pub(crate) fn whose(owner: Option<&str>, everybody: Option<Everybody>) -> Result<Whose, Refusal> {
    match (owner, everybody) {
        (None, None) => Ok(Whose::default()),
        (None, Some(Everybody::All)) => Ok(Whose::All),
        (Some(owner), None) => match owner.parse() {
            Ok(owner) => Ok(Whose::One(owner)),
            Err(error) => Err(Refusal::bad_request(format!("`owner`: {error}"))),
        },
        (Some(_), Some(Everybody::All)) => {
            let error = "`owner` names one and `owners` all: one of the two is taken";
            Err(Refusal::bad_request(error))
        }
    }
}

/// Whose objects are to be changed. Front doors and stores change what they have themselves.
pub(crate) fn whose_change(
    owner: Option<&str>,
    everybody: Option<Everybody>,
) -> Result<Whose, Refusal> {
    let whose = whose(owner, everybody)?;
    match &whose {
        Whose::One(owner) if owner.is_reserved() => Err(Refusal::bad_request(format!(
            "`owner`: what `{owner}` has is changed by it alone"
        ))),
        Whose::One(_) | Whose::All => Ok(whose),
    }
}

/// The network of a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfNetwork(pub(crate) NetworkKey);

impl FromRequestParts<Arc<Shared>> for OfNetwork {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Refusal> {
        let Path(port) = path::<String>(parts, shared).await?;
        parse_port(&port).map(Self)
    }
}

/// The network and the peer of a path. Keys hold slashes, which may be there as they are or as
/// `%2F`: the key is all of the rest.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfPeer(pub(crate) NetworkKey, pub(crate) PublicKey);

impl FromRequestParts<Arc<Shared>> for OfPeer {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Refusal> {
        let Path((port, key)) = path::<(String, String)>(parts, shared).await?;
        let key = key.parse().map_err(|error| not_found(&error))?;
        Ok(Self(parse_port(&port)?, key))
    }
}

/// The network and the rule of a path.
#[derive(Clone, Debug)]
pub(crate) struct OfRoute(pub(crate) NetworkKey, pub(crate) RuleId);

impl FromRequestParts<Arc<Shared>> for OfRoute {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Refusal> {
        let Path((port, id)) = path::<(String, String)>(parts, shared).await?;
        let id = id.parse().map_err(|error| not_found(&error))?;
        Ok(Self(parse_port(&port)?, id))
    }
}

/// The network and the listener of a path.
#[derive(Clone, Debug)]
pub(crate) struct OfListener(pub(crate) NetworkKey, pub(crate) ListenerName);

impl FromRequestParts<Arc<Shared>> for OfListener {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Refusal> {
        let Path((port, name)) = path::<(String, String)>(parts, shared).await?;
        let name = name.parse().map_err(|error| not_found(&error))?;
        Ok(Self(parse_port(&port)?, name))
    }
}

/// The generation of a path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OfGeneration(pub(crate) u64);

impl FromRequestParts<Arc<Shared>> for OfGeneration {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Refusal> {
        let Path(generation) = path::<String>(parts, shared).await?;
        generation
            .parse()
            .map(Self)
            .map_err(|_| not_found(&"a generation is a number"))
    }
}

async fn path<T: DeserializeOwned + Send>(
    parts: &mut Parts,
    shared: &Arc<Shared>,
) -> Result<Path<T>, Refusal> {
    Path::from_request_parts(parts, shared)
        .await
        .map_err(|rejection| Refusal::bad_request(rejection.body_text()))
}

fn parse_port(text: &str) -> Result<NetworkKey, Refusal> {
    text.parse::<NonZeroU16>()
        .map(NetworkKey::from)
        .map_err(|_| not_found(&"networks are named by their port, from 1 to 65535"))
}

fn not_found(why: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, why.to_string())
}

/// The generation that a change has to begin from: `If-Match: 7`, with or without quotes.
///
/// One of them: of two, one would be passed over, and the change be made on what was not asked for.
pub(crate) fn if_match(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    only_one(headers, &header::IF_MATCH)?;
    let Some(value) = number(headers.get(header::IF_MATCH)) else {
        return Ok(None);
    };
    value.map(Some).map_err(|()| {
        Refusal::bad_request("`If-Match` takes the number of one generation, such as \"7\"")
    })
}

/// Refuses a header that is there twice and has one value.
pub(crate) fn only_one(headers: &HeaderMap, name: &HeaderName) -> Result<(), Refusal> {
    match headers.get_all(name).iter().nth(1) {
        None => Ok(()),
        Some(_) => Err(Refusal::bad_request(format!("`{name}` is there twice"))),
    }
}

/// A number of a header, with or without quotes. `*` asks for none in particular.
pub(crate) fn number(value: Option<&HeaderValue>) -> Option<Result<u64, ()>> {
    let text = value?.to_str().unwrap_or_default().trim();
    if text == "*" {
        return None;
    }
    let quoted = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'));
    Some(quoted.unwrap_or(text).parse().map_err(|_| ()))
}

/// A key in a query: forms write a space as `+` (application/x-www-form-urlencoded), which base64
/// has as a digit and no key has as a space.
pub(crate) fn key_text<T: FromStr>(text: &str) -> Result<T, T::Err> {
    text.replace(' ', "+").parse()
}
