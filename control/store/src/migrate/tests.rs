use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt as _, path::Path};

use tempfile::TempDir;

use super::*;
use crate::{DesiredStore as _, NewGeneration, OpenError, Store, file};

/// A file as an older version left it.
fn fixture(path: &Path, version: usize, content: &str) {
    let connection = Connection::open(path).unwrap();
    for migration in &MIGRATIONS[..version] {
        connection.execute_batch(migration).unwrap();
    }
    connection
        .pragma_update(None, "application_id", APPLICATION)
        .unwrap();
    connection
        .pragma_update(None, "user_version", version_after(version))
        .unwrap();
    connection.execute_batch(content).unwrap();
}

/// A generation of a version that knows differences, and the full one before it.
const DIFFERENCE: &str = "INSERT INTO generations (time, actor, note, document, difference)
    VALUES (8, 'ops', 'put', '', '[{\"network\":\"1\",\"value\":{}}]');";

const GENERATION: &str =
    "INSERT INTO generations (time, actor, note, document) VALUES (7, 'ops', 'apply', '{}');
    INSERT INTO namespaces VALUES (51820, 'boot:1');";

fn open(path: &Path) -> Result<Store, MigrateError> {
    match Store::open(path) {
        Ok(store) => Ok(store),
        Err(OpenError::Migrate { source, .. }) => Err(source),
        Err(
            error @ (OpenError::Directory { .. }
            | OpenError::File { .. }
            | OpenError::NotOurs { .. }
            | OpenError::Database { .. }
            | OpenError::Thread { .. }),
        ) => panic!("{error}"),
    }
}

#[test]
fn a_store_of_every_older_form_is_brought_up_to_date_with_all_that_is_in_it() {
    for version in 1..=MIGRATIONS.len() {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("ringway.db");
        fixture(&path, version, GENERATION);
        let store = open(&path).unwrap();
        let current = store.desired().current().wait().unwrap().unwrap();
        assert_eq!((current.id, current.time), (1, 7), "from {version}");
        assert_eq!(current.document, "{}");
        assert_eq!(store.desired().owned().wait().unwrap()["51820"], "boot:1");
        let owners = store.desired().owner_generations().wait().unwrap();
        // From then on, whoever commits says whose it is.
        let is_older = version < 7;
        let expected = is_older.then(|| ("api".to_owned(), 1));
        let expected: BTreeMap<_, _> = expected.into_iter().collect();
        assert_eq!(owners, expected, "what was there is the API's");
        // What came later works.
        let event = store
            .audit()
            .append_event(1, "applied".to_owned(), "{}".to_owned());
        assert_eq!(event.wait().unwrap(), 1);
        assert_eq!(store.accounts().peer_totals().wait().unwrap(), []);
        let new = NewGeneration {
            difference: r#"[{"network":"2","value":{}}]"#.to_owned(),
            ..NewGeneration::default()
        };
        assert_eq!(store.desired().commit(new).wait().unwrap(), 2);
        let current = store.desired().current().wait().unwrap().unwrap();
        assert_eq!(current.document, r#"{"2":{}}"#, "on top of a full one");
        drop(store);
        let connection = Connection::open(&path).unwrap();
        let now = pragma(&connection, "user_version").unwrap();
        assert_eq!(now, version_after(MIGRATIONS.len()));
    }
}

#[test]
fn a_generation_of_a_store_with_differences_is_read_as_a_document() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ringway.db");
    fixture(&path, 8, &format!("{GENERATION}{DIFFERENCE}"));
    let store = open(&path).unwrap();
    let current = store.desired().current().wait().unwrap().unwrap();
    assert_eq!((current.id, &*current.document), (2, r#"{"1":{}}"#));
}

#[test]
fn a_store_of_a_later_version_is_refused_and_left_as_it_is() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ringway.db");
    fixture(&path, MIGRATIONS.len(), "PRAGMA user_version = 99");
    let before = fs::read(&path).unwrap();
    let refused = open(&path).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "its form is 99, and this version of Ringway knows forms up to 9 only"
    );
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_database_of_something_else_is_refused_and_left_as_it_is() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ringway.db");
    let theirs = Connection::open(&path).unwrap();
    theirs.execute_batch("CREATE TABLE theirs (x)").unwrap();
    drop(theirs);
    let before = fs::read(&path).unwrap();
    assert!(matches!(Store::open(&path), Err(OpenError::NotOurs { .. })));
    assert_eq!(fs::read(&path).unwrap(), before);
}

/// Of one page, and private to this user: as a store that was just made, until SQLite is asked.
#[test]
fn a_small_database_of_something_else_is_refused_with_its_log_as_it_is() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ringway.db");
    let theirs = Connection::open(&path).unwrap();
    theirs.pragma_update(None, "journal_mode", "WAL").unwrap();
    theirs.execute_batch("CREATE TABLE theirs (x)").unwrap();
    // As a process leaves it that is killed: the table is in the log alone.
    let read = |ending: &str| fs::read(file::beside(&path, ending)).unwrap();
    let (database, log) = (read(""), read("-wal"));
    drop(theirs);
    for (ending, bytes) in [("", &database), ("-wal", &log)] {
        let path = file::beside(&path, ending);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }
    assert!(matches!(open(&path), Err(MigrateError::Foreign)));
    assert_eq!((read(""), read("-wal")), (database, log));
}

#[test]
fn nobody_else_may_read_the_store() {
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ringway/ringway.db");
    let store = Store::open(&path).unwrap();
    store.accounts().flush().wait().unwrap();
    assert_eq!(mode(path.parent().unwrap()), 0o700);
    for name in ["ringway.db", "ringway.db-wal", "ringway.db-shm"] {
        assert_eq!(mode(&path.with_file_name(name)), 0o600, "{name}");
    }
    drop(store);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    drop(Store::open(&path).unwrap());
    assert_eq!(mode(&path), 0o600);
}
