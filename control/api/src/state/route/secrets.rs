//! Secrets of rules: hashed passwords, and keys of certificates.

use std::{collections::HashMap, fmt};

use engine_http::rules::Match;
use serde_json::{Value, json};

use super::Route;
use crate::{
    document::Spot,
    field::Field,
    problem::Problems,
    state::{KEPT, pem},
};

/// A secret text, or the wish to keep the one that is there: a value that was read has the text.
///
/// `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Option<Box<str>>);

impl Secret {
    /// The secret; `None` while it is still to be kept.
    pub fn expose(&self) -> Option<&str> {
        self.0.as_deref()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Field for Secret {
    const SYNTAX: &'static str = "key in PEM";

    fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Self> {
        let text = pem::read_pem(spot, problems)?;
        Some(Self((text != KEPT).then(|| text.into())))
    }

    /// With the secret; [`mask`] takes it out again.
    fn write(&self) -> Value {
        Value::from(self.0.as_deref().unwrap_or(KEPT))
    }

    fn schema() -> Value {
        json!({
            "type": "string",
            "pattern": r"^\(kept\)$|-----BEGIN ([A-Z]+ )?PRIVATE KEY-----",
            "maxLength": pem::PEM_BYTES_MAX,
        })
    }
}

/// Puts [`KEPT`] in the place of each secret of a rendered rule.
pub(in crate::state) fn mask(route: &mut Value) {
    let users = route.pointer_mut("/auth/users");
    let passwords = users.and_then(Value::as_object_mut).into_iter().flatten();
    for (_, password) in passwords {
        *password = KEPT.into();
    }
    if let Some(key) = route.pointer_mut("/upstream_tls/private_key") {
        *key = KEPT.into();
    }
}

/// Takes the secrets that are to be kept from the rules as they were: from the rule that was found
/// by the same.
pub(in crate::state) fn resolve(
    spots: &[Spot<'_>],
    routes: &mut [Route],
    kept: &[Route],
    problems: &mut Problems,
) {
    let mut before: Option<HashMap<Match, &Route>> = None;
    for (spot, route) in spots.iter().zip(routes) {
        if !wants_kept(route) {
            continue;
        }
        let before = before
            .get_or_insert_with(|| kept.iter().map(|route| (route.found_by(), route)).collect());
        let old = before.get(&route.found_by()).copied();
        take(spot, route, old, problems);
        if let Some(upstream) = &route.upstream_tls
            && let Err(error) = upstream.identity()
        {
            spot.error(problems, error);
        }
    }
}

fn wants_kept(route: &Route) -> bool {
    let users = route.auth.iter().flat_map(|auth| auth.users.iter());
    let mut passwords = users.map(|(_, password)| password);
    let upstream = route.upstream_tls.as_ref();
    let key = upstream.and_then(|upstream| upstream.private_key.as_ref());
    passwords.any(|password| password.0.is_none()) || key.is_some_and(|key| key.0.is_none())
}

fn take(spot: &Spot<'_>, route: &mut Route, old: Option<&Route>, problems: &mut Problems) {
    let old_users = old
        .and_then(|old| old.auth.as_ref())
        .map(|auth| &auth.users);
    let users = route.auth.iter_mut();
    for (name, password) in users.flat_map(|auth| auth.users.passwords_mut()) {
        if password.0.is_some() {
            continue;
        }
        let kept = old_users.and_then(|users| users.iter().find(|(known, _)| *known == name));
        match kept {
            Some((_, kept)) => *password = kept.clone(),
            None => missing(spot, &format!("the password of {name}"), problems),
        }
    }
    let key = route.upstream_tls.as_mut();
    let Some(key) = key.and_then(|upstream| upstream.private_key.as_mut()) else {
        return;
    };
    if key.0.is_none() {
        let upstream = old.and_then(|old| old.upstream_tls.as_ref());
        match upstream.and_then(|upstream| upstream.private_key.as_ref()) {
            Some(kept) => *key = kept.clone(),
            None => missing(spot, "the key of `upstream_tls`", problems),
        }
    }
}

fn missing(spot: &Spot<'_>, what: &str, problems: &mut Problems) {
    spot.error_with_hint(
        problems,
        format_args!("`{KEPT}` keeps {what} that is there, and none is"),
        "write it, or leave host, path, methods and headers of the rule as they were",
    );
}
