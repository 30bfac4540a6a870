//! What one generation's document has that the one before had not, object by object.
//!
//! A generation is stored as its difference, and its document is composed when it is asked for: from
//! the last full document before it, and every difference since. What composing gives is what
//! [`super::Desired::render_with_secrets`] writes of the state that the generation is.

use std::{cmp::Ordering, collections::HashMap, fmt, mem};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::PublicKey;

mod between;

const ROUTES: &str = "routes";
const PEERS: &str = "peers";
const LISTENERS: &str = "listeners";
const OWNER: &str = "owner";
const ID: &str = "id";
/// Where a peer has its key that stands in a list.
const PUBLIC_KEY: &str = "public_key";

/// Objects that were put or removed, in the order of the change. They have their secrets in them, which
/// `Debug` does not show.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Difference(Vec<ObjectDifference>);

/// One object that was put or removed.
#[derive(Clone, PartialEq, Eq)]
pub struct ObjectDifference {
    /// The key of its network in the document.
    pub network: String,
    /// Which object of the network.
    pub object: Object,
    /// What stands in the document from then on; nothing of what was removed.
    pub value: Option<Value>,
}

/// An object of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// The network with all that is in it.
    Network,
    /// The rule with this id: in the place of the one that had it, otherwise behind all others of its
    /// owner.
    Route(String),
    /// The peer with this public key.
    Peer(String),
    /// The listener of this name.
    Listener(String),
}

/// Why a difference does not go with a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DifferenceError {
    /// It is no difference.
    #[error("the text is no difference of two documents")]
    Unreadable,
    /// The document is none of networks.
    #[error("the document is no object of networks")]
    NoDocument,
    /// It is about a network that the document does not have.
    #[error("the document has no network `{0}`")]
    NoNetwork(String),
    /// It is about a peer of a network that has no device.
    #[error("network `{0}` has no peers")]
    NoPeers(String),
}

/// One object as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    network: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    route: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    peer: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    listener: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<Value>,
}

impl Difference {
    /// Adds what happened to one more object.
    pub fn push(&mut self, object: ObjectDifference) {
        self.0.push(object);
    }

    /// The objects, in the order in which they were changed.
    pub fn iter(&self) -> impl Iterator<Item = &ObjectDifference> {
        self.0.iter()
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A JSON array with one object for each change, which [`parse`](Self::parse) reads.
    pub fn to_text(&self) -> String {
        let list: Value = self.0.iter().map(Entry::value_of).collect();
        list.to_string()
    }

    /// Reads what [`to_text`](Self::to_text) wrote.
    ///
    /// # Errors
    /// When it is something else.
    pub fn parse(text: &str) -> Result<Self, DifferenceError> {
        let entries: Vec<Entry> =
            serde_json::from_str(text).map_err(|_| DifferenceError::Unreadable)?;
        let objects = entries.into_iter().map(Entry::object);
        let objects = objects.collect::<Option<Vec<_>>>();
        objects.map(Self).ok_or(DifferenceError::Unreadable)
    }
}

impl FromIterator<ObjectDifference> for Difference {
    fn from_iter<I: IntoIterator<Item = ObjectDifference>>(objects: I) -> Self {
        Self(objects.into_iter().collect())
    }
}

impl fmt::Debug for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

impl fmt::Debug for ObjectDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.value {
            Some(_) => "put",
            None => "remove",
        };
        write!(f, "{word} {:?} of {}", self.object, self.network)
    }
}

impl Entry {
    fn value_of(object: &ObjectDifference) -> Value {
        let mut map = Map::new();
        map.insert("network".to_owned(), object.network.clone().into());
        let named = match &object.object {
            Object::Network => None,
            Object::Route(id) => Some(("route", id)),
            Object::Peer(key) => Some(("peer", key)),
            Object::Listener(name) => Some(("listener", name)),
        };
        map.extend(named.map(|(kind, name)| (kind.to_owned(), name.clone().into())));
        let value = object.value.clone();
        map.extend(value.map(|value| ("value".to_owned(), value)));
        Value::Object(map)
    }

    fn object(self) -> Option<ObjectDifference> {
        let object = match (self.route, self.peer, self.listener) {
            (None, None, None) => Object::Network,
            (Some(id), None, None) => Object::Route(id),
            (None, Some(key), None) => Object::Peer(key),
            (None, None, Some(name)) => Object::Listener(name),
            _ => return None,
        };
        Some(ObjectDifference {
            network: self.network,
            object,
            value: self.value,
        })
    }
}

/// Makes a document the one of the next generation.
///
/// # Errors
/// When the difference is not one of this document. The document is then as far as it came.
pub fn apply(document: &mut Value, difference: &Difference) -> Result<(), DifferenceError> {
    let mut composition = Composition::of(mem::take(document))?;
    let applied = composition.apply(difference);
    *document = composition.finish();
    applied
}

/// A document that differences are applied to, one after the other: each costs what it changes, and
/// nothing of what else the document has.
pub struct Composition {
    networks: Map<String, Value>,
    /// The rules of the networks that had some changed.
    rules: HashMap<String, Rules>,
}

impl Composition {
    /// Begins with a full document.
    ///
    /// # Errors
    /// When it is no object of networks.
    pub fn of(document: Value) -> Result<Self, DifferenceError> {
        let Value::Object(networks) = document else {
            return Err(DifferenceError::NoDocument);
        };
        Ok(Self {
            networks,
            rules: HashMap::new(),
        })
    }

    /// Applies one more difference.
    ///
    /// # Errors
    /// When it is not one of this document.
    pub fn apply(&mut self, difference: &Difference) -> Result<(), DifferenceError> {
        difference.iter().try_for_each(|object| self.put(object))
    }

    /// The document that all of it comes to.
    pub fn finish(mut self) -> Value {
        for (key, rules) in self.rules {
            if let Some(network) = self.networks.get_mut(&key).and_then(Value::as_object_mut) {
                let list = rules.settled();
                if !list.is_empty() {
                    network.insert(ROUTES.to_owned(), Value::Array(list));
                }
            }
        }
        Value::Object(self.networks)
    }

    fn put(&mut self, difference: &ObjectDifference) -> Result<(), DifferenceError> {
        let ObjectDifference {
            network: key,
            object,
            value,
        } = difference;
        if *object == Object::Network {
            self.rules.remove(key);
            match value {
                Some(value) => drop(self.networks.insert(key.clone(), value.clone())),
                None => drop(self.networks.remove(key)),
            }
            return Ok(());
        }
        let network = self.networks.get_mut(key).and_then(Value::as_object_mut);
        let network = network.ok_or_else(|| DifferenceError::NoNetwork(key.clone()))?;
        match object {
            Object::Network => {}
            Object::Route(id) => {
                let rules = self.rules.entry(key.clone());
                let rules = rules.or_insert_with(|| Rules::take(network));
                rules.put(id, value.as_ref());
            }
            Object::Listener(name) => put_listener(network, name, value.as_ref()),
            Object::Peer(peer) => put_peer(network, peer, value.as_ref())
                .ok_or_else(|| DifferenceError::NoPeers(key.clone()))?,
        }
        Ok(())
    }
}

impl fmt::Debug for Composition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Composition of {} networks", self.networks.len())
    }
}

fn put_listener(network: &mut Map<String, Value>, name: &str, value: Option<&Value>) {
    let listeners = network
        .entry(LISTENERS)
        .or_insert_with(|| Map::new().into());
    let Some(listeners) = listeners.as_object_mut() else {
        return;
    };
    match value {
        Some(value) => drop(listeners.insert(name.to_owned(), value.clone())),
        None => drop(listeners.remove(name)),
    }
    // A network without any says nothing of them.
    if listeners.is_empty() {
        network.remove(LISTENERS);
    }
}

/// `None` where the network has no place for peers.
fn put_peer(network: &mut Map<String, Value>, key: &str, value: Option<&Value>) -> Option<()> {
    match network.get_mut(PEERS)? {
        Value::Object(peers) => match value {
            Some(value) => drop(peers.insert(key.to_owned(), value.clone())),
            None => drop(peers.remove(key)),
        },
        Value::Array(peers) => list_peer(peers, key, value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return None,
    }
    Some(())
}

/// Documents of the first generation list their peers, in the order of the bytes of their keys.
fn list_peer(peers: &mut Vec<Value>, key: &str, value: Option<&Value>) {
    let bytes = |text: &str| text.parse::<PublicKey>().ok();
    let of = |peer: &Value| peer[PUBLIC_KEY].as_str().and_then(bytes);
    let at = peers.binary_search_by(|peer| of(peer).cmp(&bytes(key)));
    let value = value.map(|value| {
        let mut value = value.clone();
        value[PUBLIC_KEY] = key.into();
        value
    });
    match (at, value) {
        (Ok(at), Some(value)) => peers[at] = value,
        (Ok(at), None) => drop(peers.remove(at)),
        (Err(at), Some(value)) => peers.insert(at, value),
        (Err(_), None) => {}
    }
}

/// The list of a network's rules while it is changed: those that were removed leave gaps, and those that
/// were added stand at its end, until it is put in order.
#[derive(Default)]
struct Rules {
    list: Vec<Value>,
    places: HashMap<String, usize>,
}

impl Rules {
    fn take(network: &mut Map<String, Value>) -> Self {
        match network.remove(ROUTES) {
            Some(Value::Array(list)) => Self::of(list),
            Some(_) | None => Self::default(),
        }
    }

    fn of(list: Vec<Value>) -> Self {
        let ids = list.iter().enumerate();
        let ids = ids.filter_map(|(at, rule)| Some((rule[ID].as_str()?.to_owned(), at)));
        Self {
            places: ids.collect(),
            list,
        }
    }

    fn put(&mut self, id: &str, value: Option<&Value>) {
        let Some(value) = value else {
            if let Some(rule) = self.places.remove(id).and_then(|at| self.list.get_mut(at)) {
                rule.take();
            }
            return;
        };
        let Some(at) = self.places.get(id).copied() else {
            self.places.insert(id.to_owned(), self.list.len());
            self.list.push(value.clone());
            return;
        };
        if by_owner(&self.list[at], value).is_eq() {
            self.list[at] = value.clone();
            return;
        }
        // It goes elsewhere, behind those that are at their place by then.
        *self = Self::of(mem::take(self).settled());
        if let Some(at) = self.places.get(id).copied() {
            self.list[at] = value.clone();
        }
        *self = Self::of(mem::take(self).settled());
    }

    /// The list in the order in which rules of several owners are.
    fn settled(self) -> Vec<Value> {
        let mut list = self.list;
        list.retain(|rule| !rule.is_null());
        // Stable: rules of the base stay in their order.
        list.sort_by(by_owner);
        list
    }
}

/// The order of rules: those of `api` as they are written, then the others by owner and id.
fn by_owner(one: &Value, other: &Value) -> Ordering {
    fn key(rule: &Value) -> Option<(&str, Option<&str>)> {
        Some((rule[OWNER].as_str()?, rule[ID].as_str()))
    }
    key(one).cmp(&key(other))
}

#[cfg(test)]
mod tests;
