use super::*;
use crate::{
    ReadError, Retention, Store, WriteError,
    lab::{self, Lab, port},
};

fn document(text: &str, expected: Option<u64>) -> NewGeneration {
    NewGeneration {
        expected,
        time: 1_000,
        actor: "ops".to_owned(),
        note: "POST /api/v1/apply".to_owned(),
        document: Some(text.to_owned()),
        ..NewGeneration::default()
    }
}

#[test]
fn the_last_commit_is_the_current_generation_after_a_restart_too() {
    let lab = Lab::new();
    assert_eq!(lab.store.desired().current().wait().unwrap(), None);
    for (id, text) in [(1, "{}"), (2, r#"{"51820": {}}"#)] {
        let committed = lab.store.desired().commit(document(text, None)).wait();
        assert_eq!(committed.unwrap(), id);
    }
    let lab = lab.restart();
    let current = lab.store.desired().current().wait().unwrap().unwrap();
    assert_eq!(current.id, 2);
    assert_eq!(current.document, r#"{"51820": {}}"#);
    assert_eq!((current.time, current.actor.as_str()), (1_000, "ops"));
    let first = lab.store.desired().generation(1).wait().unwrap().unwrap();
    assert_eq!(first.document, "{}");
    assert_eq!(lab.store.desired().generation(3).wait().unwrap(), None);
}

#[test]
fn a_commit_on_top_of_another_generation_is_refused() {
    let lab = Lab::new();
    let commit = |expected| {
        let new = document("{}", Some(expected));
        lab.store.desired().commit(new).wait()
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
    assert_eq!(lab.store.desired().current().wait().unwrap().unwrap().id, 2);
}

#[test]
fn old_generations_go_and_their_numbers_do_not_come_back() {
    let lab = Lab::with(Retention {
        generations_max: 3,
        ..Retention::default()
    });
    for _ in 0..5 {
        let commit = lab.store.desired().commit(document("{}", None));
        commit.wait().unwrap();
    }
    let lab = lab.restart();
    let ids = |limit| -> Vec<u64> {
        let generations = lab.store.desired().generations(None, limit).wait().unwrap();
        generations
            .iter()
            .map(|generation| generation.generation)
            .collect()
    };
    assert_eq!(ids(100), [5, 4, 3]);
    assert_eq!(ids(2), [5, 4]);
    assert_eq!(lab.store.desired().generation(2).wait().unwrap(), None);
    let next = lab.store.desired().commit(document("{}", None)).wait();
    assert_eq!(next.unwrap(), 6);
}

fn commit_of(store: &Store, owners: &[&str], present: &[&str]) -> u64 {
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let new = NewGeneration {
        owners: set(owners),
        present: set(present),
        ..document("{}", None)
    };
    store.desired().commit(new).wait().unwrap()
}

fn ids_of(store: &Store, owner: Option<&str>) -> Vec<u64> {
    let owner = owner.map(ToOwned::to_owned);
    let listed = store.desired().generations(owner, 1000).wait().unwrap();
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
    let second = &store.desired().generations(None, 4).wait().unwrap()[3];
    assert_eq!(second.owners, ["api"], "blue remembers three later ones");
    let lab = lab.restart();
    let owners = lab.store.desired().owner_generations().wait().unwrap();
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
    let owners = lab.store.desired().owner_generations().wait().unwrap();
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
        let asked = store
            .threads
            .write(|writer| Ok::<_, WriteError>(writer.synchronous() == 2));
        asked.wait().unwrap()
    };
    let event = || {
        let event = store.audit().append_event(1, String::new(), String::new());
        event.wait().unwrap();
    };
    event();
    assert!(!synced());
    let commit = store.desired().commit(document("{}", None));
    commit.wait().unwrap();
    assert!(synced());
    event();
    store.desired().own(port(1), String::new()).wait().unwrap();
    assert!(synced());
    event();
    store.desired().disown(port(1)).wait().unwrap();
    assert!(synced());
    let one = lab::peer(1, lab::raw(1, 1, 1));
    store.accounts().record_sample(&lab::peers(1, &[one]));
    store.accounts().flush().wait().unwrap();
    assert!(!synced());
}

#[test]
fn no_debug_output_shows_a_document() {
    let new = document("secret", None);
    assert!(!format!("{new:?}").contains("secret"));
    let lab = Lab::new();
    lab.store.desired().commit(new).wait().unwrap();
    let current = lab.store.desired().current().wait().unwrap();
    assert!(!format!("{current:?}").contains("secret"));
}

#[test]
fn namespaces_are_owned_until_they_are_disowned() {
    let lab = Lab::new();
    let desired = lab.store.desired();
    for (number, identity) in [
        (51820, "boot:4026532"),
        (51821, "boot:4026533"),
        (51820, "boot:4026534"),
    ] {
        let owned = desired.own(port(number), identity.to_owned());
        owned.wait().unwrap();
    }
    desired.disown(port(51821)).wait().unwrap();
    desired.disown(port(51822)).wait().unwrap();
    drop(desired);
    let lab = lab.restart();
    let owned = lab.store.desired().owned().wait().unwrap();
    assert_eq!(
        owned.into_iter().collect::<Vec<_>>(),
        [("51820".to_owned(), "boot:4026534".to_owned())]
    );
}

/// One network of the number is put, with a name that makes it so many bytes long.
fn put(number: u64, bytes: usize) -> NewGeneration {
    let name = "x".repeat(bytes);
    NewGeneration {
        difference: format!(r#"[{{"network":"{number}","value":{{"netns":"{name}"}}}}]"#),
        document: None,
        ..document("", None)
    }
}

fn text(store: &Store, id: u64) -> Option<String> {
    let generation = store.desired().generation(id).wait().unwrap();
    generation.map(|generation| generation.document)
}

fn with_networks(names: &[&str]) -> String {
    let networks = names
        .iter()
        .map(|name| format!(r#""{name}":{{"netns":"xx"}}"#));
    format!("{{{}}}", networks.collect::<Vec<_>>().join(","))
}

#[test]
fn a_generation_is_stored_as_its_difference_and_read_as_a_document() {
    let lab = Lab::new();
    let commit = |new| lab.store.desired().commit(new).wait().unwrap();
    assert_eq!(commit(put(1, 2)), 1, "from nothing");
    assert_eq!(commit(put(2, 2)), 2);
    assert_eq!(commit(document(r#"{"7":{"netns":"xx"}}"#, Some(2))), 3);
    assert_eq!(commit(put(8, 2)), 4);
    let removal = NewGeneration {
        difference: r#"[{"network":"7"}]"#.to_owned(),
        ..put(0, 0)
    };
    assert_eq!(commit(removal), 5);
    let expected = [
        (1, &["1"][..]),
        (2, &["1", "2"]),
        (3, &["7"]),
        (4, &["7", "8"]),
        (5, &["8"]),
    ];
    let lab = lab.restart();
    for (id, networks) in expected {
        assert_eq!(text(&lab.store, id), Some(with_networks(networks)), "{id}");
    }
    let current = lab.store.desired().current().wait().unwrap().unwrap();
    assert_eq!((current.id, current.document), (5, with_networks(&["8"])));
    let lengths = "SELECT group_concat(length(document)) FROM generations";
    let lengths: String = lab
        .connection()
        .query_row(lengths, [], |row| row.get(0))
        .unwrap();
    assert_eq!(lengths, "0,0,20,0,0");
}

#[test]
fn a_difference_that_leads_nowhere_is_told_and_named() {
    let lab = Lab::new();
    let difference = r#"[{"network":"1","listener":"a"}]"#.to_owned();
    let new = NewGeneration {
        difference,
        ..put(0, 0)
    };
    lab.store.desired().commit(new).wait().unwrap();
    let wrong = lab.store.desired().current().wait().unwrap_err();
    assert!(matches!(wrong, ReadError::Compose { generation: 1, .. }));
}

fn commit_and_tidy(lab: &Lab, new: NewGeneration) -> u64 {
    let id = lab.store.desired().commit(new).wait().unwrap();
    lab.tidy();
    id
}

#[test]
fn what_a_kept_generation_builds_on_stays_and_goes_with_it() {
    let lab = Lab::with(Retention {
        generations_max: 3,
        ..Retention::default()
    });
    let of = |owner: &str, new: NewGeneration| NewGeneration {
        owners: [owner.to_owned()].into(),
        present: ["api".to_owned(), "blue".to_owned()].into(),
        ..new
    };
    commit_and_tidy(&lab, of("blue", document("{}", None)));
    commit_and_tidy(&lab, of("api", put(1, 2)));
    for number in 2..9 {
        commit_and_tidy(&lab, of("blue", put(number, 2)));
    }
    // Listed are those that somebody remembers; each is composed of all before it.
    assert_eq!(ids_of(&lab.store, None), [9, 8, 7, 2]);
    assert_eq!(text(&lab.store, 1), None, "nobody remembers it");
    assert_eq!(text(&lab.store, 2), Some(with_networks(&["1"])));
    let all: Vec<String> = (1..8).map(|number| number.to_string()).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    assert_eq!(text(&lab.store, 8), Some(with_networks(&all)));
    assert_eq!(lab.count("generations"), 9);
    // Before a full document, only what is remembered needs those before it.
    let full = text(&lab.store, 9).unwrap();
    lab.store.desired().compact(9, full).wait().unwrap();
    lab.tidy();
    assert_eq!(lab.count("generations"), 9, "8 is still kept");
    for number in 9..12 {
        commit_and_tidy(&lab, of("blue", put(number, 2)));
    }
    assert_eq!(ids_of(&lab.store, None), [12, 11, 10, 2]);
    assert_eq!(lab.count("generations"), 6, "1, 2 and 9 to 12");
    let lab = lab.restart();
    assert_eq!(text(&lab.store, 2), Some(with_networks(&["1"])));
    for number in 12..15 {
        commit_and_tidy(&lab, of("api", put(number, 2)));
    }
    assert_eq!(ids_of(&lab.store, None), [15, 14, 13, 12, 11, 10]);
    assert_eq!(lab.count("generations"), 7, "9 to 15");
    assert_eq!(lab.count("generations WHERE difference IS NULL"), 1);
}

#[test]
fn what_was_left_to_be_removed_is_removed_after_a_restart() {
    let lab = Lab::with(Retention {
        generations_max: 1,
        ..Retention::default()
    });
    for _ in 0..200 {
        let commit = lab.store.desired().commit(put(1, 2));
        commit.wait().unwrap();
    }
    assert_eq!(lab.count("generations"), 200, "the last one builds on all");
    let sql = "UPDATE generations SET document = '{}', difference = NULL WHERE id = 200";
    assert_eq!(lab.connection().execute(sql, []), Ok(1));
    let lab = lab.restart();
    lab.tidy();
    assert_eq!(lab.count("generations"), 1);
}

#[test]
fn a_full_document_is_asked_for_once_when_it_is_due_and_again_after_a_restart() {
    let lab = Lab::new();
    let desired = lab.store.desired();
    desired.commit(document("{}", None)).wait().unwrap();
    assert!(!desired.takes_document());
    let long = 1 << 16;
    let id = desired.commit(put(1, long)).wait().unwrap();
    assert!(desired.takes_document() && !desired.takes_document());
    desired.commit(put(2, long)).wait().unwrap();
    assert!(!desired.takes_document(), "it is on its way");
    drop(desired);
    let lab = lab.restart();
    let desired = lab.store.desired();
    assert!(desired.takes_document());
    let full = desired.generation(id).wait().unwrap().unwrap();
    desired.compact(id, full.document).wait().unwrap();
    assert!(desired.takes_document(), "more came since than it has");
    let current = desired.current().wait().unwrap().unwrap();
    let document = current.document.clone();
    desired.compact(current.id, document).wait().unwrap();
    assert!(!desired.takes_document());
    assert_eq!(desired.current().wait().unwrap(), Some(current));
    // Of a generation that is gone there is nothing to store.
    desired.compact(77, "{}".to_owned()).wait().unwrap();
    assert_eq!(lab.count("generations"), 3);
}
