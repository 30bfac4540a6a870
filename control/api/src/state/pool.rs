//! Where the connections of a host go: the values of `proxy`.
//!
//! A list of targets, or `{"targets": [...], "balance": "least_connections"}`. A target is
//! `"ip:port"` or `"name:port"`, or `{"to": "ip:port", "proxy_protocol": "v1"|"v2", "weight": n, "backup": true}`.

use engine_core::{
    balance::{Balance, WEIGHT_MAX},
    endpoint::Endpoint,
    proxy_protocol::Version,
};
use serde_json::{Map, Value, json};

use crate::{
    document::{Content, Fields, Spot},
    field::{Field as _, number, word},
    problem::Problems,
};

/// Most targets of one host.
pub const TARGETS_MAX: usize = 256;

/// The targets of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pool {
    /// At least one; no address twice.
    pub targets: Vec<PoolTarget>,
    /// How connections are spread over them.
    pub balance: Balance,
}

/// One machine that connections go to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolTarget {
    /// Where it is in the network.
    pub endpoint: Endpoint,
    /// Its share of connections, from 1 to [`WEIGHT_MAX`]; 1 when nothing is written.
    pub weight: u16,
    /// Only dialed when no other target answers.
    pub backup: bool,
    /// The PROXY protocol header that it asks for.
    pub proxy_protocol: Option<Version>,
}

const BALANCES: [(&str, Balance); 2] = [
    ("round_robin", Balance::RoundRobin),
    ("least_connections", Balance::LeastConnections),
];

/// A name that targets are written by, as a regular expression: its last label is no number.
const NAME: &str = concat!(
    r"([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*",
    r"([0-9]*[A-Za-z_]|[0-9]+-+[0-9A-Za-z_])([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?",
);

const VERSIONS: [(&str, Version); 2] = [("v1", Version::V1), ("v2", Version::V2)];

/// A pool while the keys that mean the same host are being merged.
#[derive(Clone, Debug, Default)]
pub(super) struct Draft {
    targets: Vec<PoolTarget>,
    balance: Option<Balance>,
}

impl Draft {
    /// Adds what another key says of the same host. What contradicts it is noted.
    pub(super) fn merge(&mut self, other: Self, spot: &Spot<'_>, problems: &mut Problems) {
        for target in other.targets {
            self.add(target, spot, problems);
        }
        match (self.balance.take(), other.balance) {
            (Some(mine), Some(theirs)) if mine != theirs => {
                spot.error(
                    problems,
                    "another key of the same host has another `balance`",
                );
                self.balance = Some(mine);
            }
            (mine, theirs) => self.balance = mine.or(theirs),
        }
    }

    fn add(&mut self, target: PoolTarget, spot: &Spot<'_>, problems: &mut Problems) {
        let endpoint = &target.endpoint;
        match self
            .targets
            .iter()
            .find(|known| known.endpoint == *endpoint)
        {
            Some(known) if *known == target => {}
            Some(_) => spot.error(
                problems,
                format_args!("target {endpoint} of this host is declared twice, and differently"),
            ),
            None if self.targets.len() == TARGETS_MAX => spot.error(
                problems,
                format_args!("this host has more than {TARGETS_MAX} targets"),
            ),
            None => self.targets.push(target),
        }
    }

    pub(super) fn finish(self) -> Pool {
        Pool {
            targets: self.targets,
            balance: self.balance.unwrap_or_default(),
        }
    }
}

pub(super) fn read(spot: &Spot<'_>, problems: &mut Problems) -> Option<Draft> {
    let Content::Map(_) = &spot.node.content else {
        let targets = read_targets(spot, problems, &mut read_endpoint)?;
        return Some(Draft {
            targets,
            balance: None,
        });
    };
    let fields = Fields::open(spot, &["targets", "balance"], problems)?;
    let balance = match fields.find("balance").filter(|spot| !spot.is_null()) {
        Some(spot) => word(spot, problems, &BALANCES).map(Some),
        None => Some(None),
    };
    let targets = fields.need("targets", problems)?;
    let targets = read_targets(targets, problems, &mut read_endpoint)?;
    Some(Draft {
        targets,
        balance: balance?,
    })
}

/// Reads where a target is.
pub(super) type ReadEndpoint<'r> =
    dyn FnMut(&Spot<'_>, &str, &mut Problems) -> Option<Endpoint> + 'r;

pub(super) fn read_targets(
    spot: &Spot<'_>,
    problems: &mut Problems,
    read_endpoint: &mut ReadEndpoint<'_>,
) -> Option<Vec<PoolTarget>> {
    let items = spot.items(problems)?;
    if items.len() == 0 {
        spot.error(problems, "at least one target is needed");
        return None;
    }
    let mut draft = Draft::default();
    let mut complete = true;
    for item in items {
        match read_target(&item, problems, read_endpoint) {
            Some(target) => draft.add(target, &item, problems),
            None => complete = false,
        }
    }
    complete.then_some(draft.targets)
}

fn read_target(
    spot: &Spot<'_>,
    problems: &mut Problems,
    read_endpoint: &mut ReadEndpoint<'_>,
) -> Option<PoolTarget> {
    let Content::Map(_) = &spot.node.content else {
        let text = spot.text(problems)?;
        return Some(PoolTarget {
            endpoint: read_endpoint(spot, text, problems)?,
            weight: 1,
            backup: false,
            proxy_protocol: None,
        });
    };
    let known = ["to", "proxy_protocol", "weight", "backup"];
    let fields = Fields::open(spot, &known, problems)?;
    let present = |key| fields.find(key).filter(|spot| !spot.is_null());
    let weight = match present("weight") {
        Some(spot) => read_weight(spot, problems),
        None => Some(1),
    };
    let backup = match present("backup") {
        Some(spot) => bool::read(spot, problems),
        None => Some(false),
    };
    let proxy_protocol = match present("proxy_protocol") {
        Some(spot) => word(spot, problems, &VERSIONS).map(Some),
        None => Some(None),
    };
    let to = fields.need("to", problems);
    let endpoint = to.and_then(|spot| read_endpoint(spot, spot.text(problems)?, problems));
    Some(PoolTarget {
        endpoint: endpoint?,
        weight: weight?,
        backup: backup?,
        proxy_protocol: proxy_protocol?,
    })
}

pub(super) fn read_endpoint(
    spot: &Spot<'_>,
    text: &str,
    problems: &mut Problems,
) -> Option<Endpoint> {
    Endpoint::parse(text)
        .map_err(|error| {
            let text = crate::word::printable(text);
            let message = format_args!("`{text}` is no target: {error}");
            spot.error_with_hint(
                problems,
                message,
                "write `ip:port`, `[ip]:port` or `name:port`",
            );
        })
        .ok()
}

fn read_weight(spot: &Spot<'_>, problems: &mut Problems) -> Option<u16> {
    let weight = number(spot, problems, "whole number")?;
    if !(1..=WEIGHT_MAX).contains(&weight) {
        spot.error(problems, format_args!("a weight is from 1 to {WEIGHT_MAX}"));
        return None;
    }
    Some(weight)
}

pub(super) fn write(pool: &Pool) -> Value {
    let targets: Value = pool
        .targets
        .iter()
        .map(|target| write_target(target, ""))
        .collect();
    if pool.balance == Balance::RoundRobin {
        return targets;
    }
    json!({ "targets": targets, "balance": said(&BALANCES, &pool.balance) })
}

/// A target as it is written, with a scheme in front of its address.
pub(super) fn write_target(target: &PoolTarget, scheme: &str) -> Value {
    let to = format!("{scheme}{}", target.endpoint);
    let mut map = Map::new();
    if target.weight != 1 {
        map.insert("weight".to_owned(), target.weight.into());
    }
    if target.backup {
        map.insert("backup".to_owned(), true.into());
    }
    if let Some(version) = target.proxy_protocol {
        map.insert(
            "proxy_protocol".to_owned(),
            said(&VERSIONS, &version).into(),
        );
    }
    if map.is_empty() {
        return to.into();
    }
    map.insert("to".to_owned(), to.into());
    Value::Object(map)
}

fn said<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> Option<&'static str> {
    words
        .iter()
        .find(|(_, known)| known == value)
        .map(|&(word, _)| word)
}

/// What `proxy` takes for the targets of a host, as JSON Schema.
pub(super) fn schema() -> Value {
    let targets = targets_schema("^");
    let balances: Vec<Option<&str>> = BALANCES
        .iter()
        .map(|(word, _)| Some(*word))
        .chain([None])
        .collect();
    json!({ "oneOf": [targets, {
        "type": "object",
        "properties": { "targets": targets, "balance": { "enum": balances } },
        "required": ["targets"],
        "additionalProperties": false,
    }] })
}

/// A list of targets whose addresses begin with a pattern.
pub(super) fn targets_schema(prefix: &str) -> Value {
    let address = json!({
        "type": "string",
        "pattern": format!(r"{prefix}([0-9.]+|\[[0-9A-Fa-f:.]+\]|{NAME}):[0-9]{{1,5}}$"),
    });
    let versions: Vec<Option<&str>> = VERSIONS
        .iter()
        .map(|(word, _)| Some(*word))
        .chain([None])
        .collect();
    let target = json!({
        "type": "object",
        "properties": {
            "to": address,
            "weight": { "type": ["integer", "null"], "minimum": 1, "maximum": WEIGHT_MAX },
            "backup": { "type": ["boolean", "null"] },
            "proxy_protocol": { "enum": versions },
        },
        "required": ["to"],
        "additionalProperties": false,
    });
    json!({
        "type": "array",
        "items": { "oneOf": [address, target] },
        "minItems": 1,
        "maxItems": TARGETS_MAX,
    })
}
