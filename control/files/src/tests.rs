use std::{
    fs,
    path::PathBuf,
    sync::mpsc,
    time::{Duration, Instant},
};

use rustix::fs::{FileType as Node, mknodat};
use tempfile::TempDir;

use super::*;

fn place(name: &str) -> (TempDir, PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(name);
    (folder, path)
}

#[test]
fn what_is_no_regular_file_is_refused_at_once() {
    let (folder, fifo) = place("fifo");
    mknodat(CWD, &fifo, Node::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let socket = folder.path().join("socket");
    let _bound = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&fifo, &link).unwrap();
    let begun = Instant::now();
    for (path, kind) in [
        (fifo.as_path(), "a pipe"),
        (&link, "a pipe"),
        (folder.path(), "a folder"),
        (&socket, "a socket"),
        (Path::new("/dev/zero"), "a device"),
    ] {
        let error = read(path, 10).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{path:?}: {error}");
        assert!(error.to_string().contains(kind), "{path:?}: {error}");
        assert_eq!(look(path).unwrap_err().to_string(), error.to_string());
    }
    assert!(begun.elapsed() < DEADLINE);
}

#[test]
fn a_file_is_read_whole_or_not_at_all() {
    let (_folder, path) = place("file");
    fs::write(&path, "0123456789").unwrap();
    assert_eq!(&**read(&path, 10).unwrap(), b"0123456789");
    assert_eq!(read_text(&path, 10).unwrap().as_str(), "0123456789");
    let error = read(&path, 9).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    assert_eq!(look(&path).unwrap().len(), 10);
    // Ten gigabytes, and no block of them.
    File::create(&path).unwrap().set_len(10 << 30).unwrap();
    let error = read(&path, 1 << 20).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::FileTooLarge);
    fs::write(&path, [0xff]).unwrap();
    let error = read_text(&path, 10).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    // Says that it has no bytes.
    assert!(!read(Path::new("/proc/self/stat"), 4096).unwrap().is_empty());
    fs::remove_file(&path).unwrap();
    assert_eq!(read(&path, 9).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_hangs_is_left_behind_and_not_tried_again_before_it_is_back() {
    let path = PathBuf::from("/a/mount/that/hangs");
    let (free, held) = mpsc::channel::<()>();
    let short = Duration::from_millis(20);
    let hung = within(Whose::Networks, short, &path, move || held.recv().is_err());
    assert_eq!(hung.unwrap_err().kind(), ErrorKind::TimedOut);
    let begun = Instant::now();
    let again = within(Whose::Networks, DEADLINE, &path, || {
        panic!("it is tried again")
    });
    assert_eq!(again.unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(begun.elapsed() < DEADLINE);
    let other = within(Whose::Networks, DEADLINE, Path::new("/another"), || 1);
    assert_eq!(other.unwrap(), 1);
    drop(free);
    let begun = Instant::now();
    while within(Whose::Networks, DEADLINE, &path, || ()).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::yield_now();
    }
}

#[test]
fn callers_of_one_path_have_one_thread_after_the_other() {
    let path = Path::new("/one/at/a/time");
    let (begin, begun) = mpsc::channel();
    let (free, held) = mpsc::channel::<()>();
    let long = Duration::from_secs(20);
    let work = move || {
        begin.send(()).unwrap();
        held.recv().is_ok()
    };
    let first = std::thread::spawn(move || within(Whose::Networks, long, path, work).unwrap());
    begun.recv().unwrap();
    // Who waits no longer leaves nothing behind.
    let short = Duration::from_millis(10);
    let early = within(Whose::Networks, short, path, || panic!("there are two"));
    assert_eq!(early.unwrap_err().kind(), ErrorKind::TimedOut);
    let second = std::thread::spawn(move || within(Whose::Networks, long, path, || 2).unwrap());
    free.send(()).unwrap();
    assert!(first.join().unwrap());
    assert_eq!(second.join().unwrap(), 2);
}

#[test]
fn a_panic_after_the_deadline_frees_the_path() {
    let path = Path::new("/panics/late");
    let (free, held) = mpsc::channel::<()>();
    let work = move || -> () {
        let _ = held.recv();
        panic!("it is meant to");
    };
    let hung = within(Whose::Networks, Duration::from_millis(20), path, work);
    assert_eq!(hung.unwrap_err().kind(), ErrorKind::TimedOut);
    drop(free);
    let begun = Instant::now();
    while within(Whose::Networks, DEADLINE, path, || ()).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::yield_now();
    }
}
