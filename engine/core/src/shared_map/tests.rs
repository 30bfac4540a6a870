use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
};

use proptest::prelude::*;

use super::*;

/// A key that meets others in one place down to the last level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Colliding(u16);

impl Hash for Colliding {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.0 % 3).hash(state);
    }
}

fn edits() -> impl Strategy<Value = Vec<(u16, Option<u8>)>> {
    // Few keys, so that most are met again.
    prop::collection::vec(
        (0..400_u16, prop::option::weighted(0.6, any::<u8>())),
        0..1500,
    )
}

fn check<K>(edits: Vec<(u16, Option<u8>)>, key: impl Fn(u16) -> K) -> Result<(), TestCaseError>
where
    K: Hash + Eq + Clone + fmt::Debug,
{
    let (mut map, mut model) = (SharedMap::new(), HashMap::new());
    let (mut before, mut model_before) = (map.clone(), model.clone());
    for (step, (number, value)) in edits.into_iter().enumerate() {
        let key = key(number);
        match value {
            Some(value) => {
                prop_assert_eq!(map.insert(key.clone(), value), model.insert(key, value));
            }
            None => prop_assert_eq!(map.remove(&key), model.remove(&key)),
        }
        if step % 97 == 0 {
            let changes = before.changes(&map, u8::eq);
            for change in &changes {
                prop_assert_ne!(change.before, change.after);
                prop_assert_eq!(change.before, model_before.get(change.key));
                prop_assert_eq!(change.after, model.get(change.key));
            }
            let all = model.keys().chain(model_before.keys());
            let all: std::collections::HashSet<&K> = all.collect();
            let differ = all
                .iter()
                .filter(|key| model.get(key) != model_before.get(key));
            prop_assert_eq!(changes.len(), differ.count());
            prop_assert_eq!(map.len(), model.len());
            let collected: HashMap<K, u8> = map.iter().map(|(k, v)| (k.clone(), *v)).collect();
            prop_assert_eq!(&collected, &model);
            (before, model_before) = (map.clone(), model.clone());
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn it_is_a_map_whose_versions_stay_as_they_were(edits in edits()) {
        check(edits, |key| key)?;
    }

    #[test]
    fn keys_that_meet_in_one_place_are_told_apart(edits in edits()) {
        check(edits, |key| Colliding(key % 90))?;
    }
}

#[test]
fn a_change_copies_what_is_above_it_and_shares_the_rest() {
    let map: SharedMap<u32, Arc<u32>> = (0..50_000).map(|key| (key, Arc::new(key))).collect();
    let mut next = map.clone();
    assert!(next.is_same(&map));
    next.insert(7, Arc::new(0));
    next.remove(&8);
    next.insert(50_000, Arc::new(0));
    assert!(!next.is_same(&map));
    let compared = std::cell::Cell::new(0);
    let is_same = |one: &Arc<u32>, other: &Arc<u32>| {
        compared.set(compared.get() + 1);
        Arc::ptr_eq(one, other)
    };
    let mut changed: Vec<u32> = map
        .changes(&next, is_same)
        .iter()
        .map(|it| *it.key)
        .collect();
    changed.sort_unstable();
    assert_eq!(changed, [7, 8, 50_000]);
    assert!(compared.get() <= 3 * LEAF_MAX, "{}", compared.get());
    let is_shared = |key: &u32| Arc::ptr_eq(map.get(key).unwrap(), next.get(key).unwrap());
    assert!((100..50_000).all(|key| is_shared(&key)));
}

#[test]
fn what_is_not_there_is_taken_out_without_a_copy() {
    let map: SharedMap<u32, u32> = (0..1000).map(|key| (key, key)).collect();
    let mut next = map.clone();
    assert_eq!(next.remove(&1000), None);
    assert!(next.is_same(&map));
}

#[test]
fn a_map_that_shrinks_gives_its_nodes_up() {
    let mut map: SharedMap<u32, u32> = (0..10_000).map(|key| (key, key)).collect();
    for key in 0..9_990 {
        map.remove(&key);
    }
    assert!(
        map.root
            .entries()
            .is_some_and(|entries| entries.len() == 10)
    );
    for key in 9_990..10_000 {
        map.remove(&key);
    }
    assert!(map.is_empty() && map.root.is_same(&Node::Empty));
}
