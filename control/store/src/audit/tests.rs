use super::*;
use crate::{Retention, lab::Lab};

fn small() -> Lab {
    Lab::with(Retention {
        audit_max: 3,
        events_max: 3,
        ..Retention::default()
    })
}

#[test]
fn events_count_up_and_the_oldest_go() {
    let lab = small();
    assert_eq!(lab.store.audit().last_event().wait().unwrap(), 0);
    for time in 1..=5 {
        let json = format!(r#"{{"n":{time}}}"#);
        let id = lab
            .store
            .audit()
            .append_event(time, "peer_connected".to_owned(), json);
        assert_eq!(id.wait().unwrap(), time);
    }
    let lab = lab.restart();
    let after = |id, limit| -> Vec<u64> {
        let events = lab.store.audit().events_after(id, limit).wait().unwrap();
        events.iter().map(|event| event.id).collect()
    };
    assert_eq!(after(0, 100), [3, 4, 5]);
    assert_eq!(after(3, 1), [4]);
    assert!(after(5, 100).is_empty());
    assert_eq!(lab.store.audit().last_event().wait().unwrap(), 5);
    let fifth = &lab.store.audit().events_after(4, 1).wait().unwrap()[0];
    let expected = Event {
        id: 5,
        time: 5,
        kind: "peer_connected".to_owned(),
        json: r#"{"n":5}"#.to_owned(),
    };
    assert_eq!(*fifth, expected);
}

#[test]
fn the_audit_log_tells_the_newest_first_and_forgets_the_oldest() {
    let lab = small();
    for number in 1..=4_u64 {
        let entry = AuditEntry {
            id: 99,
            time: number,
            actor: "ops".to_owned(),
            role: "operator".to_owned(),
            source: "127.0.0.1".to_owned(),
            action: "apply".to_owned(),
            generation: number.checked_sub(1),
            result: "ok".to_owned(),
            detail: String::new(),
            owner: "api".to_owned(),
        };
        assert_eq!(lab.store.audit().append(entry).wait().unwrap(), number);
    }
    let ids = |before, limit| -> Vec<u64> {
        let entries = lab.store.audit().entries(before, limit).wait().unwrap();
        entries.iter().map(|entry| entry.id).collect()
    };
    assert_eq!(ids(None, 100), [4, 3, 2]);
    assert_eq!(ids(Some(4), 1), [3]);
    let last = &lab.store.audit().entries(None, 1).wait().unwrap()[0];
    assert_eq!((last.generation, last.role.as_str()), (Some(3), "operator"));
}

#[test]
fn each_owner_has_entries_and_events_of_its_own() {
    let lab = small();
    let audit = |owner: &str| {
        let owner = owner.to_owned();
        let entry = AuditEntry {
            owner,
            ..AuditEntry::default()
        };
        lab.store.audit().append(entry).wait().unwrap();
    };
    let event = |owner: &str| {
        let appended = lab.store.audit().append_event_of(
            owner.to_owned(),
            1,
            "state_applied".to_owned(),
            "{}".to_owned(),
        );
        appended.wait().unwrap();
    };
    audit("api");
    event("api");
    for _ in 0..10 {
        audit("blue");
        event("blue");
    }
    let entries = lab.store.audit().entries(None, 100).wait().unwrap();
    let owners: Vec<&str> = entries.iter().map(|entry| &*entry.owner).collect();
    assert_eq!(owners, ["blue", "blue", "blue", "api"]);
    let events = lab.store.audit().events_after(0, 100).wait().unwrap();
    let ids: Vec<u64> = events.iter().map(|event| event.id).collect();
    assert_eq!(ids, [1, 9, 10, 11]);
}

/// Whoever may ask for changes may name any owner.
#[test]
fn many_owners_do_not_make_the_lists_endless() {
    let lab = small();
    for number in 0..300 {
        let entry = AuditEntry {
            owner: format!("o{number}"),
            ..AuditEntry::default()
        };
        lab.store.audit().append(entry).wait().unwrap();
    }
    assert_eq!(
        lab.store.audit().entries(None, 1000).wait().unwrap().len(),
        3 * 64
    );
}
