use super::*;
use crate::{
    Retention, WriteError,
    lab::{self, Lab},
};

fn document(text: &str, expected: Option<u64>) -> NewGeneration {
    NewGeneration {
        expected,
        time: 1_000,
        actor: "ops".to_owned(),
        note: "POST /api/v1/apply".to_owned(),
        document: text.to_owned(),
        ..NewGeneration::default()
    }
}

#[test]
fn the_last_commit_is_the_current_generation_after_a_restart_too() {
    let lab = Lab::new();
    assert_eq!(lab.store.current().wait().unwrap(), None);
    for (id, text) in [(1, "{}"), (2, r#"{"51820": {}}"#)] {
        let committed = lab.store.commit_generation(document(text, None)).wait();
        assert_eq!(committed.unwrap(), id);
    }
    let lab = lab.restart();
    let current = lab.store.current().wait().unwrap().unwrap();
    assert_eq!(current.id, 2);
    assert_eq!(current.document, r#"{"51820": {}}"#);
    assert_eq!((current.time, current.actor.as_str()), (1_000, "ops"));
    let first = lab.store.generation(1).wait().unwrap().unwrap();
    assert_eq!(first.document, "{}");
    assert_eq!(lab.store.generation(3).wait().unwrap(), None);
}

#[test]
fn a_commit_on_top_of_another_generation_is_refused() {
    let lab = Lab::new();
    let commit = |expected| {
        let new = document("{}", Some(expected));
        lab.store.commit_generation(new).wait()
    };
    assert!(matches!(
        commit(3),
        Err(CommitError::Conflict {
            expected: 3,
            current: 0
        })
    ));
    assert_eq!(commit(0).unwrap(), 1);
    assert_eq!(commit(1).unwrap(), 2);
    let refused = commit(1).unwrap_err();
    let text = refused.to_string();
    assert_eq!(text, "generation 1 is not the current one: 2 is");
    assert_eq!(lab.store.current().wait().unwrap().unwrap().id, 2);
}

#[test]
fn old_generations_go_and_their_numbers_do_not_come_back() {
    let lab = Lab::with(Retention {
        generations_max: 3,
        ..Retention::default()
    });
    for _ in 0..5 {
        let commit = lab.store.commit_generation(document("{}", None));
        commit.wait().unwrap();
    }
    let lab = lab.restart();
    let ids = |limit| -> Vec<u64> {
        let generations = lab.store.generations(None, limit).wait().unwrap();
        generations
            .iter()
            .map(|generation| generation.generation)
            .collect()
    };
    assert_eq!(ids(100), [5, 4, 3]);
    assert_eq!(ids(2), [5, 4]);
    assert_eq!(lab.store.generation(2).wait().unwrap(), None);
    let next = lab.store.commit_generation(document("{}", None)).wait();
    assert_eq!(next.unwrap(), 6);
}

fn commit_of(store: &Store, owners: &[&str], present: &[&str]) -> u64 {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let new = NewGeneration {
        owners: set(owners),
        present: set(present),
        ..document("{}", None)
    };
    store.commit_generation(new).wait().unwrap()
}

fn ids_of(store: &Store, owner: Option<&str>) -> Vec<u64> {
    let owner = owner.map(ToOwned::to_owned);
    let listed = store.generations(owner, 1000).wait().unwrap();
    listed.iter().map(|entry| entry.generation).collect()
}

#[test]
fn the_churn_of_one_owner_leaves_the_history_of_the_others() {
    let lab = Lab::with(Retention {
        generations_max: 3,
        ..Retention::default()
    });
    let store = &lab.store;
    commit_of(store, &["api"], &[]);
    commit_of(store, &["api", "blue"], &["api", "blue"]);
    for _ in 0..10 {
        commit_of(store, &["blue"], &["api", "blue"]);
    }
    assert_eq!(ids_of(store, None), [12, 11, 10, 2, 1]);
    assert_eq!(ids_of(store, Some("api")), [2, 1]);
    assert_eq!(ids_of(store, Some("blue")), [12, 11, 10]);
    assert_eq!(ids_of(store, Some("green")), [0_u64; 0]);
    let second = &store.generations(None, 4).wait().unwrap()[3];
    assert_eq!(second.owners, ["api"], "blue remembers three later ones");
    let lab = lab.restart();
    let owners = lab.store.owner_generations().wait().unwrap();
    let expected = [("api".to_owned(), 2), ("blue".to_owned(), 12)];
    assert_eq!(owners, expected.into_iter().collect());
}

#[test]
fn owners_who_are_gone_are_forgotten_beyond_a_bound() {
    let lab = Lab::new();
    commit_of(&lab.store, &["api"], &["api", "stays"]);
    commit_of(&lab.store, &["stays"], &["api", "stays"]);
    for number in 0..100 {
        commit_of(&lab.store, &[&format!("o{number}")], &["api", "stays"]);
    }
    let owners = lab.store.owner_generations().wait().unwrap();
    assert_eq!(owners.len(), 2 + OWNERS_GONE_MAX as usize);
    assert!(owners.contains_key("stays") && owners.contains_key("o99"));
    assert!(!owners.contains_key("o0"));
    assert_eq!(ids_of(&lab.store, None).len(), 2 + OWNERS_GONE_MAX as usize);
}

#[test]
fn what_has_to_survive_a_power_cut_is_synced_and_the_rest_is_not() {
    let lab = Lab::new();
    let store = &lab.store;
    let synced = || {
        let asked = store.write(|writer| Ok::<_, WriteError>(writer.synchronous() == 2));
        asked.wait().unwrap()
    };
    let event = || {
        let event = store.append_event(1, String::new(), String::new());
        event.wait().unwrap();
    };
    event();
    assert!(!synced());
    let commit = store.commit_generation(document("{}", None));
    commit.wait().unwrap();
    assert!(synced());
    event();
    store.own(1, String::new()).wait().unwrap();
    assert!(synced());
    event();
    store.disown(1).wait().unwrap();
    assert!(synced());
    let one = lab::peer(1, lab::raw(1, 1, 1));
    store.record_sample(&lab::peers(1, &[one]));
    store.flush().wait().unwrap();
    assert!(!synced());
}

#[test]
fn no_debug_output_shows_a_document() {
    let new = document("secret", None);
    assert!(!format!("{new:?}").contains("secret"));
    let lab = Lab::new();
    lab.store.commit_generation(new).wait().unwrap();
    let current = lab.store.current().wait().unwrap();
    assert!(!format!("{current:?}").contains("secret"));
}

#[test]
fn namespaces_are_owned_until_they_are_disowned() {
    let lab = Lab::new();
    lab.store
        .own(51820, "boot:4026532".to_owned())
        .wait()
        .unwrap();
    lab.store
        .own(51821, "boot:4026533".to_owned())
        .wait()
        .unwrap();
    lab.store
        .own(51820, "boot:4026534".to_owned())
        .wait()
        .unwrap();
    lab.store.disown(51821).wait().unwrap();
    lab.store.disown(51822).wait().unwrap();
    let lab = lab.restart();
    let owned = lab.store.owned().wait().unwrap();
    assert_eq!(
        owned.into_iter().collect::<Vec<_>>(),
        [(51820, "boot:4026534".to_owned())]
    );
}
