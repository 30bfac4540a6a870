//! Tables are put together here, and what contradicts itself is refused.

use std::{collections::HashMap, sync::Arc};

use engine_core::hostname::HostPattern;

use super::{Action, Entry, RULES_PER_HOST_MAX, Rule, RuleHost, Table};
use crate::{
    field::Fields,
    health::{Check, Probe},
    host::Host,
    method::Scheme,
    octet, path,
    path::Path,
};

/// What a rule is found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Match {
    /// With TLS, or without it; `None` is either.
    pub scheme: Option<Scheme>,
    /// The host; `None` is any that has no rules of its own.
    pub host: Option<HostPattern>,
    /// A path prefix, which ends at a slash or with a segment. One that ends at a slash also takes the
    /// path without it, unless a rule of that very path does.
    pub path: String,
    /// One of these methods; any if empty. GET is also HEAD, unless a rule that is as specific names
    /// HEAD.
    pub methods: Vec<String>,
    /// All of these conditions.
    pub fields: Vec<Condition>,
}

/// A condition on a field of the request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Condition {
    /// The field; case does not matter, and neither does `_` for `-`: what an upstream takes for the
    /// field is the field.
    pub name: String,
    /// What it must be.
    pub expected: Expected,
}

/// What a field must be. A field that comes several times meets a condition if one of its values
/// does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Expected {
    /// There, whatever its value.
    Present,
    /// This value, in this case.
    Exact(String),
    /// A value that begins so.
    Prefix(String),
}

impl Condition {
    pub(super) fn holds(&self, fields: Fields<'_>) -> bool {
        let mut values = fields
            .into_iter()
            .filter(|field| octet::is_same_name(field.name, self.name.as_bytes()))
            .map(|field| field.value);
        match &self.expected {
            Expected::Present => values.next().is_some(),
            Expected::Exact(expected) => values.any(|value| value == expected.as_bytes()),
            Expected::Prefix(prefix) => values.any(|value| value.starts_with(prefix.as_bytes())),
        }
    }
}

/// What contradicts itself in a table.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// A rule that passes requests on to nobody.
    #[error("rule {rule} has no target")]
    NoTarget {
        /// Its label.
        rule: Arc<str>,
    },
    /// Two rules with one id.
    #[error("rule {rule} has the id of another rule")]
    DuplicateId {
        /// The later one's label.
        rule: Arc<str>,
    },
    /// Two rules that take the same requests.
    #[error("rule {rule} takes the same requests as a rule before it")]
    DuplicateMatch {
        /// The later one's label.
        rule: Arc<str>,
    },
    /// A path that is no prefix of any request's.
    #[error("rule {rule}: {path:?} is not a path that begins with /")]
    Path {
        /// The rule's label.
        rule: Arc<str>,
        /// As it was given.
        path: String,
    },
    /// A method that is no token.
    #[error("rule {rule}: {method:?} is not a method")]
    Method {
        /// The rule's label.
        rule: Arc<str>,
        /// As it was given.
        method: String,
    },
    /// A field name that is no token.
    #[error("rule {rule}: {name:?} is not a field name")]
    Field {
        /// The rule's label.
        rule: Arc<str>,
        /// As it was given.
        name: String,
    },
    /// A path or host to check targets by that no request can have.
    #[error("rule {rule}: {what:?} cannot be asked for in a check")]
    Check {
        /// The rule's label.
        rule: Arc<str>,
        /// The path or host, as it was given.
        what: String,
    },
    /// More than [`RULES_PER_HOST_MAX`] rules for one host.
    #[error("{host} has more than {RULES_PER_HOST_MAX} rules")]
    TooManyRules {
        /// The host's pattern.
        host: String,
    },
}

/// Puts a [`Table`] together: from nothing, or as a change of another one, at the cost of the hosts whose
/// rules change.
#[derive(Debug, Default)]
pub struct TableBuilder {
    /// What it began with.
    base: Table,
    /// All rules of those hosts that have others than at the beginning.
    hosts: HashMap<Option<HostPattern>, Vec<Entry>>,
    errors: Vec<TableError>,
}

impl TableBuilder {
    /// Starts an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts with all that another table has. What is not changed is shared with it.
    pub fn after(base: &Table) -> Self {
        Self {
            base: base.clone(),
            ..Self::default()
        }
    }

    /// Takes out all rules that are declared for a host, or for any host (`None`): those that are added from
    /// then on are all that it has.
    pub fn clear(&mut self, host: Option<&HostPattern>) -> &mut Self {
        self.hosts.insert(host.cloned(), Vec::new());
        self
    }

    /// Adds a rule behind those that its host has.
    pub fn rule(&mut self, found_by: Match, rule: Rule) -> &mut Self {
        let label = &rule.route.label;
        if matches!(rule.action, Action::Proxy) && rule.route.targets.is_empty() {
            let rule = label.clone();
            self.errors.push(TableError::NoTarget { rule });
        }
        self.errors
            .extend(rule.policy.check.iter().flat_map(|check| {
                let odd = odd_parts(check).into_iter().flatten();
                odd.map(|what| TableError::Check {
                    rule: label.clone(),
                    what: what.to_owned(),
                })
            }));
        match entry(&found_by, rule) {
            Ok(entry) => self.insert(found_by.host, entry),
            Err(errors) => self.errors.extend(errors),
        }
        self
    }

    fn insert(&mut self, host: Option<HostPattern>, entry: Entry) {
        let at = host.as_ref().map_or(RuleHost::Any, RuleHost::from);
        let declared = self.base.declared(at).unwrap_or_default();
        let had = || declared.to_vec();
        let entries = self.hosts.entry(host.clone()).or_insert_with(had);
        let same = |other: &Entry| {
            other.scheme == entry.scheme
                && other.path == entry.path
                && other.methods == entry.methods
                && other.fields == entry.fields
        };
        if entries.iter().any(same) {
            let rule = entry.rule.route.label.clone();
            self.errors.push(TableError::DuplicateMatch { rule });
        }
        entries.push(entry);
    }

    /// Ends the building.
    ///
    /// # Errors
    /// All contradictions.
    pub fn build(mut self) -> Result<Table, Vec<TableError>> {
        let mut table = self.base.clone();
        for host in self.hosts.keys() {
            let at = host.as_ref().map_or(RuleHost::Any, RuleHost::from);
            for entry in self.base.declared(at).unwrap_or_default() {
                table.ids.remove(&entry.rule.id);
            }
        }
        for (host, mut entries) in self.hosts {
            if entries.len() > RULES_PER_HOST_MAX {
                let host = host.map_or("any host".into(), |host| host.to_string());
                self.errors.push(TableError::TooManyRules { host });
                continue;
            }
            for entry in &entries {
                if table.ids.insert(entry.rule.id, ()).is_some() {
                    let rule = entry.rule.route.label.clone();
                    self.errors.push(TableError::DuplicateId { rule });
                }
            }
            // A stable sort: those declared first stay first.
            entries.sort_by_key(|entry| std::cmp::Reverse(entry.rank()));
            let named = match &host {
                Some(HostPattern::Exact(name)) => Some((&mut table.exact, name)),
                Some(HostPattern::Wildcard(domain)) => Some((&mut table.wildcard, domain)),
                None => None,
            };
            match named {
                Some((hosts, name)) if entries.is_empty() => {
                    hosts.remove(name);
                }
                Some((hosts, name)) => {
                    hosts.insert(name.clone(), entries.into());
                }
                None => table.any = entries.into(),
            }
        }
        match self.errors.is_empty() {
            true => Ok(table),
            false => Err(self.errors),
        }
    }
}

/// The path and the host of a check, as far as they would not make a request.
fn odd_parts(check: &Check) -> [Option<&str>; 2] {
    let Probe::Http { path, host, .. } = &check.probe else {
        return [None, None];
    };
    let is_path = path.starts_with('/') && path.bytes().all(octet::is_target);
    let is_odd = |host: &&str| Host::parse(host.as_bytes()).is_none();
    [
        (!is_path).then_some(path.as_str()),
        host.as_deref().filter(is_odd),
    ]
}

/// Whether a rule can be found by a path: one that begins with `/`, as far as it goes without a
/// query, and does not lead above the root.
pub fn is_prefix(path: &str) -> bool {
    read_prefix(path).is_some()
}

/// A prefix in the form that is compared, strictly and loosely.
fn read_prefix(path: &str) -> Option<(Path<'_>, Vec<u8>)> {
    if !path.starts_with('/') || path.contains('?') || !path.bytes().all(octet::is_target) {
        return None;
    }
    let read = Path::read(path).ok()?;
    let loose = path::read_loosely(read.as_str()).ok()?;
    Some((read, loose))
}

fn entry(found_by: &Match, rule: Rule) -> Result<Entry, Vec<TableError>> {
    let label = &rule.route.label;
    let mut errors = Vec::new();
    let prefix = read_prefix(&found_by.path);
    if prefix.is_none() {
        let (rule, path) = (label.clone(), found_by.path.clone());
        errors.push(TableError::Path { rule, path });
    }
    let wrong = |method: &&String| !octet::is_token(method.as_bytes());
    errors.extend(found_by.methods.iter().filter(wrong).map(|method| {
        let (rule, method) = (label.clone(), method.clone());
        TableError::Method { rule, method }
    }));
    let wrong = |field: &&Condition| !octet::is_token(field.name.as_bytes());
    errors.extend(found_by.fields.iter().filter(wrong).map(|field| {
        let (rule, name) = (label.clone(), field.name.clone());
        TableError::Field { rule, name }
    }));
    let (Some((path, loose)), true) = (prefix, errors.is_empty()) else {
        return Err(errors);
    };
    let methods = found_by.methods.iter();
    let is_other = loose != path.as_str().as_bytes();
    Ok(Entry {
        scheme: found_by.scheme,
        path: path.as_str().into(),
        loose: is_other.then(|| loose.into()),
        methods: methods.map(|method| method.as_str().into()).collect(),
        fields: found_by.fields.as_slice().into(),
        rule: Arc::new(rule),
    })
}
