//! A disk that takes nothing: counters wait, and are all there when it does again.

use std::{
    fs::{self, File},
    io::Write as _,
    path::Path,
};

use control_api::answer::Traffic;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::{
    CommitError, DesiredStore as _, NewGeneration, Store, TrafficQuery,
    lab::{Lab, key, peer, peers, raw, relay, relays},
};

fn generation(document: String) -> NewGeneration {
    NewGeneration {
        document: Some(document),
        ..NewGeneration::default()
    }
}

fn rx(store: &Store) -> u64 {
    let totals = store.accounts().peer_totals().wait().unwrap();
    totals.first().map_or(0, |total| total.traffic.rx)
}

#[test]
fn a_locked_file_stops_no_question_and_loses_no_byte() {
    let lab = Lab::new();
    lab.store
        .accounts()
        .record_sample(&peers(1, &[peer(1, raw(1, 10, 0))]));
    assert_eq!(lab.traffic_since(0).traffic.rx, 10);
    let other: Connection = lab.connection();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    for (time, counted) in [(2, raw(1, 20, 0)), (3, raw(2, 5, 0)), (4, raw(2, 7, 0))] {
        lab.store
            .accounts()
            .record_sample(&peers(time, &[peer(1, counted)]));
        lab.store
            .accounts()
            .record_sample(&relays(time, &[relay("a", "192.0.2.1", 1, 2)]));
        assert!(lab.store.accounts().flush().wait().is_err());
    }
    let health = lab.store.accounts().health();
    assert_eq!((health.ok, health.since), (false, Some(2)));
    assert!(health.error.unwrap().contains("locked"));
    // Questions are answered with what is there.
    assert_eq!(lab.traffic_since(0).traffic.rx, 10);
    assert_eq!(rx(&lab.store), 10);
    other.execute_batch("ROLLBACK").unwrap();
    lab.store.accounts().flush().wait().unwrap();
    assert!(lab.store.accounts().health().ok);
    assert_eq!(lab.total(key(1)), Traffic { rx: 27, tx: 0 });
    assert_eq!(lab.traffic_since(1).traffic.rx, 17);
    let routes = lab
        .store
        .accounts()
        .routes_traffic(TrafficQuery::default())
        .wait();
    assert_eq!(routes.unwrap().traffic.bytes_out, 6);
}

#[test]
fn a_store_that_is_well_again_says_so_though_nothing_is_counted() {
    let lab = Lab::new();
    let other = lab.connection();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    lab.store
        .accounts()
        .record_sample(&peers(2, &[peer(1, raw(1, 1, 0))]));
    assert!(lab.store.accounts().flush().wait().is_err());
    other.execute_batch("ROLLBACK").unwrap();
    assert!(!lab.store.accounts().health().ok);
    lab.store.accounts().flush().wait().unwrap();
    assert!(lab.store.accounts().health().ok);
    // Failed again, with nothing to write but what was written.
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    lab.store.accounts().flush().wait().unwrap();
    assert!(lab.store.accounts().health().ok);
}

/// A file system of a few pages that only this thread, and the threads it starts, can see.
fn small_disk(bytes: usize) -> TempDir {
    // A thread shares its root and working directory with its process, which pins them to the
    // mount namespace they are in: CLONE_FS first (unshare(2)).
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).expect("needs CAP_SYS_ADMIN");
    let none = None::<&str>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).unwrap();
    let directory = TempDir::new().unwrap();
    let (tmpfs, size) = (Some("tmpfs"), format!("size={bytes}"));
    mount(
        tmpfs,
        directory.path(),
        tmpfs,
        MsFlags::empty(),
        Some(size.as_str()),
    )
    .unwrap();
    directory
}

/// Takes all the room that is left.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    while file.write_all(&[0; 4096]).is_ok() {}
}

/// Gives the room back. A process that another test is just starting has the file open, too, until it runs
/// its own program: what is only unlinked keeps its room as long.
fn empty(path: &Path) {
    let file = File::options().write(true).open(path).unwrap();
    file.set_len(0).unwrap();
    fs::remove_file(path).unwrap();
}

#[test]
fn a_full_disk_loses_no_byte_and_no_generation() {
    let disk = small_disk(2 << 20);
    let store = Store::open(&disk.path().join("ringway.db")).unwrap();
    let committed = store.desired().commit(generation("{}".to_owned())).wait();
    assert_eq!(committed.unwrap(), 1);
    let filler = disk.path().join("filler");
    fill(&filler);
    let mut counted = 0;
    // There may be room left in pages that the files have already.
    for time in 1..2_000 {
        counted += 3;
        let crowd: Vec<_> = (0..20).map(|id| peer(id, raw(1, counted, 0))).collect();
        store.accounts().record_sample(&peers(time, &crowd));
        drop(store.accounts().flush().wait());
        if !store.accounts().health().ok {
            break;
        }
    }
    let health = store.accounts().health();
    assert!(health.error.unwrap().contains("full"));
    let document = "x".repeat(1 << 18);
    let refused = store.desired().commit(generation(document.clone())).wait();
    assert!(matches!(refused, Err(CommitError::Write(_))));
    assert_eq!(store.desired().current().wait().unwrap().unwrap().id, 1);
    counted += 4;
    store
        .accounts()
        .record_sample(&peers(3_000, &[peer(0, raw(1, counted, 0))]));
    empty(&filler);
    store.accounts().flush().wait().unwrap();
    assert!(store.accounts().health().ok);
    assert_eq!(rx(&store), counted);
    let committed = store.desired().commit(generation(document)).wait();
    assert_eq!(committed.unwrap(), 2);
}
