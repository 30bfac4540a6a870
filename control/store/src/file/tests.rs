use std::os::unix::{fs::symlink, net::UnixListener};

use tempfile::TempDir;

use super::*;
use crate::{
    CommitError, DesiredStore as _, NewGeneration, OpenError, Store, WriteError, lab::Lab,
};

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Everything in a folder: name, mode and content.
fn everything(folder: &Path) -> Vec<(String, u32, Option<Vec<u8>>)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let path = entry.path();
        let is_file = entry.file_type().unwrap().is_file();
        let content = is_file.then(|| fs::read(&path).unwrap());
        (
            entry.file_name().into_string().unwrap(),
            mode(&path),
            content,
        )
    });
    let mut entries: Vec<_> = entries.collect();
    entries.sort();
    entries
}

fn refusal(path: &Path) -> String {
    let examined = examine(path).unwrap_err().to_string();
    match Store::open(path) {
        Err(OpenError::NotOurs { source, .. }) => assert_eq!(source.to_string(), examined),
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("{} was opened", path.display()),
    }
    examined
}

#[test]
fn what_is_no_store_is_named_and_left_as_it_is() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("folder")).unwrap();
    set_mode(&at("folder"), 0o1777);
    fs::write(at("text"), "networks:\n".repeat(500)).unwrap();
    fs::write(at("empty"), "").unwrap();
    fs::write(at("key"), "-----BEGIN PRIVATE KEY-----\n").unwrap();
    for name in ["text", "empty", "key"] {
        set_mode(&at(name), 0o644);
    }
    drop(Store::open(&at("store")).unwrap());
    symlink(at("store"), at("link")).unwrap();
    symlink(at("nowhere"), at("dangling")).unwrap();
    let _socket = UnixListener::bind(at("socket")).unwrap();
    rustix::fs::mknodat(
        CWD,
        at("pipe"),
        rustix::fs::FileType::Fifo,
        Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    let before = everything(folder.path());
    for (name, why) in [
        ("folder", "is a folder"),
        ("folder/", "is a folder"),
        ("text", "is not a file of Ringway's"),
        ("empty", "is not a file of Ringway's"),
        ("key", "is not a file of Ringway's"),
        ("link", "is a symbolic link"),
        ("dangling", "is a symbolic link"),
        ("socket", "is no regular file"),
        ("pipe", "is no regular file"),
    ] {
        let refusal = refusal(&at(name));
        assert!(refusal.contains(why), "{name}: {refusal}");
    }
    assert_eq!(everything(folder.path()), before);
}

/// A log that is somebody else's would be taken for one of the database.
#[test]
fn what_is_no_log_is_left_as_it_is_beside_a_new_store() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ringway.db");
    fs::write(beside(&path, "-wal"), "minutes of a meeting").unwrap();
    let before = everything(folder.path());
    assert!(refusal(&path).contains("ringway.db-wal is not a file"));
    assert_eq!(everything(folder.path()), before);
    fs::remove_file(beside(&path, "-wal")).unwrap();
    fs::write(folder.path().join("elsewhere"), "").unwrap();
    symlink(folder.path().join("elsewhere"), beside(&path, "-shm")).unwrap();
    assert!(refusal(&path).contains("ringway.db-shm is a symbolic link"));
}

#[test]
fn a_store_that_was_never_written_is_made_anew() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ringway.db");
    fs::write(&path, "").unwrap();
    set_mode(&path, FILE_MODE);
    examine(&path).unwrap();
    drop(Store::open(&path).unwrap());
    // From its first byte on it says whose it is.
    assert!(is_ours(&File::open(&path).unwrap()).unwrap());
}

#[test]
fn a_store_is_found_behind_links_of_its_folder_alone() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("data")).unwrap();
    symlink(at("data"), at("linked")).unwrap();
    drop(Store::open(&at("linked/ringway.db")).unwrap());
    assert!(at("data/ringway.db").exists());
    drop(Store::open(&at("data/ringway.db")).unwrap());
}

#[test]
fn a_folder_that_takes_no_file_is_found_out_without_trying() {
    examine(Path::new("/proc/self/ringway.db")).unwrap_err();
    let missing = examine(Path::new("/proc/self/new/ringway.db")).unwrap_err();
    assert!(matches!(missing, FileError::Unwritable { .. }), "{missing}");
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    examine(&folder.path().join("file/ringway.db")).unwrap_err();
    examine(&folder.path().join("new/ringway.db")).unwrap();
    assert_eq!(everything(folder.path()).len(), 1);
}

/// The document that a generation commits, and what the store says of it.
fn commit(lab: &Lab) -> Result<u64, CommitError> {
    lab.store.desired().commit(NewGeneration::default()).wait()
}

#[test]
fn nothing_is_acknowledged_that_goes_into_a_file_which_is_gone() {
    for ending in ["", "-wal"] {
        let lab = Lab::new();
        assert_eq!(commit(&lab).unwrap(), 1);
        let path = beside(&lab.path(), ending);
        let aside = beside(&path, ".aside");
        fs::rename(&path, &aside).unwrap();
        let refused = commit(&lab).unwrap_err();
        let moved = matches!(&refused, CommitError::Write(WriteError::Moved { .. }));
        assert!(moved, "{ending}: {refused}");
        // Also with nothing to write.
        lab.store.accounts().flush().wait().unwrap_err();
        let health = lab.store.accounts().health();
        assert!(!health.ok && health.error.unwrap().contains("was deleted or replaced"));
        // Another file in its place is not it.
        fs::copy(&aside, &path).unwrap();
        commit(&lab).unwrap_err();
        // Nothing was written into the one that was away, so that all goes on when it comes back.
        fs::rename(&aside, &path).unwrap();
        assert_eq!(commit(&lab).unwrap(), 2);
        lab.store.accounts().flush().wait().unwrap();
        assert!(lab.store.accounts().health().ok);
    }
}
