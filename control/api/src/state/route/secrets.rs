//! Secrets of rules: hashed passwords, keys of certificates, and headers that open something.

use std::{collections::HashMap, fmt, sync::Arc};

use engine_http::rules::Match;
use serde_json::{Value, json};

use super::{HeaderEdits, HeaderValues, Route, headers::is_secret};
use crate::{
    document::Spot,
    field::Field,
    problem::Problems,
    state::{KEPT, Owner, pem},
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
    for (edits, how) in [
        ("request_headers", "set"),
        ("request_headers", "add"),
        ("response_headers", "set"),
        ("response_headers", "add"),
    ] {
        let values = route.pointer_mut(&format!("/{edits}/{how}"));
        let values = values.and_then(Value::as_object_mut).into_iter().flatten();
        for (_, value) in values.filter(|(name, _)| is_secret(name)) {
            *value = KEPT.into();
        }
    }
}

type Place = fn(&Route) -> Option<&HeaderValues>;

/// Every place of a rule where headers have values, with its name.
const PLACES: [(&str, Place); 4] = [
    ("request_headers.set", |route| {
        set(route.request_headers.as_ref())
    }),
    ("request_headers.add", |route| {
        add(route.request_headers.as_ref())
    }),
    ("response_headers.set", |route| {
        set(route.response_headers.as_ref())
    }),
    ("response_headers.add", |route| {
        add(route.response_headers.as_ref())
    }),
];

fn set(edits: Option<&HeaderEdits>) -> Option<&HeaderValues> {
    edits.map(|edits| &edits.set)
}

fn add(edits: Option<&HeaderEdits>) -> Option<&HeaderValues> {
    edits.map(|edits| &edits.add)
}

/// The same places in the same order, to be changed.
fn places_mut(route: &mut Route) -> [Option<&mut HeaderValues>; 4] {
    let (set, add) = split(route.request_headers.as_mut());
    let (response_set, response_add) = split(route.response_headers.as_mut());
    [set, add, response_set, response_add]
}

fn split(
    edits: Option<&mut HeaderEdits>,
) -> (Option<&mut HeaderValues>, Option<&mut HeaderValues>) {
    edits.map(|edits| (&mut edits.set, &mut edits.add)).unzip()
}

/// Takes the secrets that are to be kept from the rules as they were: from the rule with the same id,
/// or else from the first that was found by the same. Those of other owners are nobody else's.
pub(in crate::state) fn resolve<'s, 'r>(
    written: impl Iterator<Item = (&'s Spot<'s>, &'r mut Route)>,
    kept: &[Arc<Route>],
    problems: &mut Problems,
) {
    let mut before: Option<HashMap<(&Owner, Match), &Arc<Route>>> = None;
    for (spot, route) in written {
        if !wants_kept(route) {
            continue;
        }
        let has_its_id =
            |old: &&Arc<Route>| old.id.is_some() && old.id == route.id && old.owner == route.owner;
        let old = kept.iter().find(has_its_id).or_else(|| {
            let before = before.get_or_insert_with(|| {
                // The first of several is the one that is taken.
                let keyed = kept.iter().rev();
                keyed
                    .map(|route| ((&route.owner, route.found_by()), route))
                    .collect()
            });
            before.get(&(&route.owner, route.found_by())).copied()
        });
        take(spot, route, old.map(|old| &**old), problems);
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
    let mut headers = PLACES.iter().filter_map(|(_, place)| place(route));
    passwords.any(|password| password.0.is_none())
        || key.is_some_and(|key| key.0.is_none())
        || headers.any(|values| values.secrets().any(|(_, value)| value == KEPT))
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
    for ((what, place), values) in PLACES.iter().zip(places_mut(route)) {
        for (name, value) in values.into_iter().flat_map(HeaderValues::secrets_mut) {
            if **value != *KEPT {
                continue;
            }
            match old.and_then(place).and_then(|old| old.value(name)) {
                Some(kept) => *value = kept.into(),
                None => missing(spot, &format!("`{name}` of `{what}`"), problems),
            }
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
        format_args!("`{KEPT}` keeps {what} that is stored, but none is"),
        "write it, or leave the id, or host, path, methods and headers of the rule as they were",
    );
}
