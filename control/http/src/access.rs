//! Who may do what. A function that answers requests takes [`Reader`] or [`Operator`], and so cannot
//! be reached by anybody else.

use std::sync::{Arc, OnceLock};

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
};
use control_api::boot::Role;

use crate::{
    audit::{self, Action},
    browser,
    failures::Verdict,
    front::Actor,
    refusal::Refusal,
    shared::Shared,
    source::Source,
    tokens::Tokens,
};

/// Tokens of one request that are tried.
const ATTEMPTS_MAX: usize = 4;
/// Who asks where no token is needed.
const LOCAL: &str = "local";

/// What the answer to a request says beside what was asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Aside(pub(crate) Arc<OnceLock<HeaderValue>>);

/// Somebody who may look at everything but secrets.
#[derive(Debug)]
pub(crate) struct Reader(pub(crate) Actor);

/// Somebody who may change the desired state.
#[derive(Debug)]
pub(crate) struct Operator(pub(crate) Actor);

impl FromRequestParts<Arc<Shared>> for Reader {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Refusal> {
        allow(parts, shared, Role::Reader).map(Self)
    }
}

impl FromRequestParts<Arc<Shared>> for Operator {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, shared: &Arc<Shared>) -> Result<Self, Refusal> {
        allow(parts, shared, Role::Operator).map(Self)
    }
}

/// Refuses whoever has a lesser role, and notes it.
pub(crate) fn demand(
    shared: &Arc<Shared>,
    actor: &Actor,
    needed: Role,
    action: Action,
) -> Result<(), Refusal> {
    if actor.role >= needed {
        return Ok(());
    }
    shared.tally.unauthorized.add();
    let Actor { name, role, .. } = actor;
    let (role, needed) = (role.word(), needed.word());
    let error = format!("the token `{name}` is of the role {role}, and this takes {needed}");
    let refusal = Refusal::new(StatusCode::FORBIDDEN, error);
    if let Some(passed_over) = shared.holders.count(Arc::clone(name)) {
        let result = audit::Result::of(&refusal).after(passed_over);
        audit::note(shared, actor, action, result);
    }
    Err(refusal)
}

fn allow(parts: &Parts, shared: &Arc<Shared>, needed: Role) -> Result<Actor, Refusal> {
    let Some(source) = parts.extensions.get::<Source>() else {
        let error = "the connection's source is not known";
        return Err(Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, error));
    };
    let tokens = Arc::clone(&shared.front.tokens.borrow());
    if tokens.is_empty() {
        if source.may_be_browser() {
            browser::refuse_strangers(&parts.headers)?;
        }
        let actor = Actor {
            name: LOCAL.into(),
            role: Role::Admin,
            source: Arc::clone(&source.text),
        };
        tell_outcome(parts, shared, &actor);
        return Ok(actor);
    }
    let actor = identify(parts, shared, source, &tokens)?;
    tell_outcome(parts, shared, &actor);
    demand(shared, &actor, needed, Action::of(parts))?;
    Ok(actor)
}

/// Has the answer say what came of an earlier change, where this one's sender was not told.
fn tell_outcome(parts: &Parts, shared: &Arc<Shared>, actor: &Actor) {
    let aside = parts.extensions.get::<Aside>();
    if let Some(aside) = aside.filter(|aside| aside.0.get().is_none())
        && let Some(outcome) = shared.outcomes.take(actor)
    {
        let _ = aside.0.set(outcome);
    }
}

fn identify(
    parts: &Parts,
    shared: &Arc<Shared>,
    source: &Source,
    tokens: &Tokens,
) -> Result<Actor, Refusal> {
    let mut attempts = attempts(&parts.headers).take(ATTEMPTS_MAX).peekable();
    let is_tokenless = attempts.peek().is_none();
    // Whatever its source did before: an admin is not kept out by whoever shares the address. What
    // limits guessing is the length of a token; what is limited below is what guessing costs.
    if let Some(holder) = attempts.find_map(|attempt| tokens.holder(attempt)) {
        return Ok(Actor {
            name: Arc::clone(&holder.name),
            role: holder.role,
            source: Arc::clone(&source.text),
        });
    }
    shared.tally.unauthorized.add();
    let refusal = refuse(shared, source, is_tokenless);
    if let Some(passed_over) = shared.strangers.count(source.prefix) {
        let result = audit::Result::of(&refusal).after(passed_over);
        audit::note_stranger(shared, &source.text, Action::of(parts), result);
    }
    Err(refusal)
}

fn refuse(shared: &Arc<Shared>, source: &Source, is_tokenless: bool) -> Refusal {
    if is_tokenless {
        let error = "a token is needed: `Authorization: Bearer TOKEN`, or the header `Token`";
        return Refusal::new(StatusCode::UNAUTHORIZED, error);
    }
    if let Some(left) = shared.guesses.blocked(source.prefix) {
        let seconds = left.as_secs().saturating_add(1);
        let error = format!("too many wrong tokens from {source}: wait for {seconds} s");
        return Refusal::too_many(error, seconds);
    }
    if shared.guesses.note(source.prefix) == Verdict::Last {
        tracing::warn!(%source, "too many wrong tokens: answering 429 for a while");
    }
    Refusal::new(StatusCode::UNAUTHORIZED, "the token is not known")
}

/// Everything that a request gives as a token.
fn attempts(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    let direct = headers
        .get_all("token")
        .iter()
        .map(|value| value.as_bytes());
    let bearer = headers.get_all(header::AUTHORIZATION).iter();
    let bearer = bearer.filter_map(|value| {
        let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
        scheme
            .eq_ignore_ascii_case(b"Bearer ")
            .then(|| token.trim_ascii())
    });
    direct.chain(bearer)
}
