//! A map whose versions share what they have in common.
//!
//! A copy costs nothing, a change of it copies the few nodes above the entry, and what is different of two
//! versions is found by going down only where they are not the same node: all in proportion to the change,
//! whatever the map holds. It is a trie of the keys' hashes: `FANOUT` ways at each level, and at the end of
//! a way up to `LEAF_MAX` entries beside each other.

use std::{
    borrow::Borrow,
    fmt,
    hash::Hash,
    slice,
    sync::{Arc, LazyLock},
};

use ahash::RandomState;

#[cfg(test)]
mod tests;

/// Bits of the hash that each level takes.
const LEVEL_BITS: u32 = 4;

/// Ways from one node on.
const FANOUT: usize = 1 << LEVEL_BITS;

/// Most entries beside each other: they are gone through one by one.
const LEAF_MAX: usize = 32;

/// So few entries need no node above them any more.
const MERGE_AT: usize = LEAF_MAX / 2;

/// Levels that the hash lasts for. What is below is kept beside each other, however much it is.
const LEVELS_MAX: u32 = u64::BITS / LEVEL_BITS;

/// One for all maps, or two of them could not be compared by their nodes. Its keys are drawn when the process
/// starts, so that nobody can choose names that meet in one place.
static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

/// See [the module](self). Keys and values are copied when an entry beside theirs changes: large ones
/// belong behind an [`Arc`].
pub struct SharedMap<K, V> {
    root: Node<K, V>,
    len: usize,
}

enum Node<K, V> {
    Empty,
    Leaf(Arc<[Entry<K, V>]>),
    Branch(Arc<[Self; FANOUT]>),
}

struct Entry<K, V> {
    /// The upper half of the key's hash.
    tag: u32,
    key: K,
    value: V,
}

/// What became of a key from one version to another.
#[derive(Debug)]
pub struct Change<'a, K, V> {
    /// The key.
    pub key: &'a K,
    /// What it had; `None` where it was not there.
    pub before: Option<&'a V>,
    /// What it has; `None` where it is gone.
    pub after: Option<&'a V>,
}

fn hash_of<Q: Hash + ?Sized>(key: &Q) -> u64 {
    HASHER.hash_one(key)
}

fn tag_of(hash: u64) -> u32 {
    u32::try_from(hash >> u32::BITS).unwrap_or_default()
}

/// The way that a hash takes at a level.
fn way(hash: u64, level: u32) -> usize {
    usize::try_from((hash >> (level * LEVEL_BITS)) % FANOUT as u64).unwrap_or_default()
}

impl<K, V> SharedMap<K, V> {
    /// One without entries.
    pub const fn new() -> Self {
        Self {
            root: Node::Empty,
            len: 0,
        }
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether both are one version, so that they need not be compared. Two that are not may be equal
    /// nevertheless.
    pub fn is_same(&self, other: &Self) -> bool {
        self.root.is_same(&other.root)
    }

    /// The entries, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        Entries::below(&self.root).map(|entry| (&entry.key, &entry.value))
    }

    /// The keys, in no particular order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// The values, in no particular order.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

impl<K: Hash + Eq, V> SharedMap<K, V> {
    /// What a key has.
    pub fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let hash = hash_of(key);
        self.root.get(hash, hash, key)
    }

    /// Whether it has an entry for a key.
    pub fn contains_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }

    /// What is different in the version `after`, in no particular order. Values that are not in one and the
    /// same node are the same where `is_same` says so. Two maps that do not come from each other are
    /// compared whole.
    pub fn changes<'a>(
        &'a self,
        after: &'a Self,
        is_same: impl Fn(&V, &V) -> bool,
    ) -> Vec<Change<'a, K, V>> {
        let mut changes = Vec::new();
        let both = (&self.root, &after.root);
        compare(both, 0, &is_same, &mut changes);
        changes
    }
}

impl<K: Hash + Eq + Clone, V: Clone> SharedMap<K, V> {
    /// Gives a key a value. The answer is the one before.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let hash = hash_of(&key);
        let tag = tag_of(hash);
        let before = self.root.insert(hash, 0, Entry { tag, key, value });
        self.len += usize::from(before.is_none());
        before
    }

    /// Takes a key out. The answer is what it had.
    pub fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        // What is not there changes nothing, so that nothing is copied.
        let before = self.get(key)?.clone();
        self.root.remove(hash_of(key), 0, key);
        self.len -= 1;
        Some(before)
    }
}

impl<K, V> Node<K, V> {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Empty, Self::Empty) => true,
            (Self::Leaf(one), Self::Leaf(other)) => Arc::ptr_eq(one, other),
            (Self::Branch(one), Self::Branch(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }

    /// The entries beside each other, where it has no node below it.
    fn entries(&self) -> Option<&[Entry<K, V>]> {
        match self {
            Self::Empty => Some(&[]),
            Self::Leaf(entries) => Some(entries),
            Self::Branch(_) => None,
        }
    }
}

impl<K: Eq, V> Node<K, V> {
    /// `ways` are the bits of the hash that are left for this node and those below it.
    fn get<Q: Eq + ?Sized>(&self, hash: u64, mut ways: u64, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let mut node = self;
        while let Self::Branch(nodes) = node {
            node = &nodes[way(ways, 0)];
            ways >>= LEVEL_BITS;
        }
        let entries = node.entries()?;
        let place = place_of(entries, tag_of(hash), key)?;
        Some(&entries[place].value)
    }
}

fn place_of<K: Borrow<Q>, V, Q: Eq + ?Sized>(
    entries: &[Entry<K, V>],
    tag: u32,
    key: &Q,
) -> Option<usize> {
    let is_it = |entry: &Entry<K, V>| entry.tag == tag && entry.key.borrow() == key;
    entries.iter().position(is_it)
}

impl<K: Hash + Eq + Clone, V: Clone> Node<K, V> {
    fn insert(&mut self, hash: u64, level: u32, entry: Entry<K, V>) -> Option<V> {
        let entries = match self {
            Self::Branch(nodes) => {
                let node = &mut Arc::make_mut(nodes)[way(hash, level)];
                return node.insert(hash, level + 1, entry);
            }
            Self::Empty => {
                *self = Self::Leaf([entry].into());
                return None;
            }
            Self::Leaf(entries) => entries,
        };
        match place_of(entries, entry.tag, &entry.key) {
            Some(place) => {
                let held = &mut Arc::make_mut(entries)[place];
                Some(std::mem::replace(&mut held.value, entry.value))
            }
            None if entries.len() < LEAF_MAX || level == LEVELS_MAX => {
                let all = entries.iter().cloned().chain([entry]);
                *self = Self::Leaf(all.collect());
                None
            }
            None => {
                let all = entries.iter().cloned().chain([entry]);
                *self = Self::split(all, level);
                None
            }
        }
    }

    /// A node for more entries than are kept beside each other.
    fn split(all: impl Iterator<Item = Entry<K, V>>, level: u32) -> Self {
        let mut below: [Vec<Entry<K, V>>; FANOUT] = std::array::from_fn(|_| Vec::new());
        for entry in all {
            below[way(hash_of(&entry.key), level)].push(entry);
        }
        Self::Branch(Arc::new(below.map(|entries| match entries.len() {
            0 => Self::Empty,
            1..=LEAF_MAX => Self::Leaf(entries.into()),
            _ if level + 1 == LEVELS_MAX => Self::Leaf(entries.into()),
            _ => Self::split(entries.into_iter(), level + 1),
        })))
    }

    /// Takes out a key that is there.
    fn remove<Q: Eq + ?Sized>(&mut self, hash: u64, level: u32, key: &Q)
    where
        K: Borrow<Q>,
    {
        match self {
            Self::Empty => {}
            Self::Leaf(entries) => {
                let tag = tag_of(hash);
                let is_it = |entry: &&Entry<K, V>| entry.tag == tag && entry.key.borrow() == key;
                let rest = entries.iter().filter(|entry| !is_it(entry)).cloned();
                *self = match rest.collect::<Vec<_>>() {
                    rest if rest.is_empty() => Self::Empty,
                    rest => Self::Leaf(rest.into()),
                };
            }
            Self::Branch(nodes) => {
                let below = &mut Arc::make_mut(nodes)[way(hash, level)];
                below.remove(hash, level + 1, key);
                if let Some(few) = few_of(nodes.as_slice()) {
                    *self = match few {
                        few if few.is_empty() => Self::Empty,
                        few => Self::Leaf(few.into()),
                    };
                }
            }
        }
    }
}

/// The entries of the nodes below one, where they are so few that they can be beside each other.
fn few_of<K: Clone, V: Clone>(nodes: &[Node<K, V>]) -> Option<Vec<Entry<K, V>>> {
    let mut count = 0;
    for node in nodes {
        count += node.entries()?.len();
        if count > MERGE_AT {
            return None;
        }
    }
    let all = nodes.iter().filter_map(Node::entries).flatten();
    Some(all.cloned().collect())
}

fn compare<'a, K: Hash + Eq, V>(
    (before, after): (&'a Node<K, V>, &'a Node<K, V>),
    level: u32,
    is_same: &impl Fn(&V, &V) -> bool,
    changes: &mut Vec<Change<'a, K, V>>,
) {
    if before.is_same(after) {
        return;
    }
    if let (Node::Branch(before), Node::Branch(after)) = (before, after) {
        for both in before.iter().zip(after.iter()) {
            compare(both, level + 1, is_same, changes);
        }
        return;
    }
    // One of them is short: the other is so as well, or has grown or shrunk by what is different.
    let find = |node: &'a Node<K, V>, entry: &'a Entry<K, V>| {
        let hash = hash_of(&entry.key);
        let ways = hash.checked_shr(level * LEVEL_BITS).unwrap_or_default();
        node.get(hash, ways, &entry.key)
    };
    for entry in Entries::below(before) {
        let (before, after) = (Some(&entry.value), find(after, entry));
        if !before
            .zip(after)
            .is_some_and(|(one, other)| is_same(one, other))
        {
            let key = &entry.key;
            changes.push(Change { key, before, after });
        }
    }
    let came = Entries::below(after).filter(|entry| find(before, entry).is_none());
    changes.extend(came.map(|entry| Change {
        key: &entry.key,
        before: None,
        after: Some(&entry.value),
    }));
}

/// The entries below a node, one after the other.
struct Entries<'a, K, V> {
    /// The nodes that are left, on each level of the way down.
    nodes: Vec<slice::Iter<'a, Node<K, V>>>,
    entries: slice::Iter<'a, Entry<K, V>>,
}

impl<'a, K, V> Entries<'a, K, V> {
    fn below(node: &'a Node<K, V>) -> Self {
        Self {
            nodes: vec![slice::from_ref(node).iter()],
            entries: [].iter(),
        }
    }
}

impl<'a, K, V> Iterator for Entries<'a, K, V> {
    type Item = &'a Entry<K, V>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Some(entry);
            }
            match self.nodes.last_mut()?.next() {
                Some(Node::Branch(nodes)) => self.nodes.push(nodes.iter()),
                Some(Node::Leaf(entries)) => self.entries = entries.iter(),
                Some(Node::Empty) => {}
                None => {
                    self.nodes.pop();
                }
            }
        }
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K, V> Clone for SharedMap<K, V> {
    fn clone(&self) -> Self {
        Self {
            root: self.root.clone(),
            len: self.len,
        }
    }
}

impl<K, V> Clone for Node<K, V> {
    fn clone(&self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Leaf(entries) => Self::Leaf(Arc::clone(entries)),
            Self::Branch(nodes) => Self::Branch(Arc::clone(nodes)),
        }
    }
}

impl<K: Clone, V: Clone> Clone for Entry<K, V> {
    fn clone(&self) -> Self {
        Self {
            tag: self.tag,
            key: self.key.clone(),
            value: self.value.clone(),
        }
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Extend<(K, V)> for SharedMap<K, V> {
    fn extend<T: IntoIterator<Item = (K, V)>>(&mut self, entries: T) {
        for (key, value) in entries {
            self.insert(key, value);
        }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(entries: T) -> Self {
        let mut map = Self::new();
        map.extend(entries);
        map
    }
}

impl<K: Hash + Eq + Clone, V: Clone, const N: usize> From<[(K, V); N]> for SharedMap<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}
