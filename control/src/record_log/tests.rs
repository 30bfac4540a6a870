use std::{fs, path::Path, time::SystemTime};

use engine::Durations;
use engine_core::{ids::WorkerId, outcome::Outcome};
use serde_json::{Value, json};

use super::*;

fn record(name: &str) -> Record {
    Record {
        time: SystemTime::UNIX_EPOCH + Duration::from_micros(1_500_000),
        listener: "https".into(),
        worker: WorkerId(3),
        client: "[2001:db8::1]:5000".parse().unwrap(),
        name: Some(name.into()),
        alpn: Some(b"h2\xff"[..].into()),
        ech: false,
        route: Some("*.example".into()),
        network: Some("network-51820".into()),
        target: Some("10.0.0.2:443".parse().unwrap()),
        bytes_in: 1,
        bytes_out: u64::MAX,
        durations: Durations {
            accept: Duration::from_nanos(1999),
            hello: Some(Duration::from_millis(2)),
            dial: None,
            first_byte: None,
            total: Duration::from_secs(3),
        },
        relay: "copy",
        outcome: Outcome::ClientReset,
        reason: Some("tls_alert"),
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

fn eventually(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}

fn start(file: &LogFile, queue: NonZeroU32) -> io::Result<(RecordLog, Option<Sender<Record>>)> {
    RecordLog::start(CONNECTIONS, file, &Guarded::default(), queue)
}

fn open(path: &Path, queue: u32) -> (RecordLog, Sender<Record>) {
    let file = LogFile::Path(path.to_owned());
    let (log, records) = start(&file, NonZeroU32::new(queue).unwrap()).unwrap();
    (log, records.unwrap())
}

#[test]
fn a_line_has_every_field_of_its_connection() {
    let mut batch = Vec::new();
    line::write(&record("a.example"), &mut batch);
    assert_eq!(batch.pop(), Some(b'\n'));
    assert_eq!(
        serde_json::from_slice::<Value>(&batch).unwrap(),
        json!({
            "time": "1970-01-01T00:00:01.500000Z", "listener": "https", "worker": 3,
            "client": "[2001:db8::1]:5000", "name": "a.example", "alpn": "h2\u{fffd}",
            "route": "*.example", "network": "network-51820", "target": "10.0.0.2:443",
            "bytes_in": 1, "bytes_out": u64::MAX, "accept_us": 1, "hello_us": 2000, "dial_us": null,
            "first_byte_us": null, "total_us": 3_000_000, "relay": "copy",
            "outcome": "client_reset", "fault": "client", "reason": "tls_alert",
        })
    );
}

#[test]
fn every_record_is_written_once_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let (log, records) = open(&path, 8);
    for index in 0..1000 {
        records.send(record(&format!("n{index}"))).unwrap();
    }
    log.finish();
    let names: Vec<_> = lines(&path)
        .iter()
        .map(|line| line["name"].clone())
        .collect();
    let expected: Vec<Value> = (0..1000).map(|index| format!("n{index}").into()).collect();
    assert_eq!(names, expected);
}

#[test]
fn a_rotated_file_is_opened_again_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let (path, rotated) = (folder.path().join("log"), folder.path().join("log.1"));
    let (log, records) = open(&path, 8);
    records.send(record("before")).unwrap();
    eventually("the first line", || {
        fs::read_to_string(&path).is_ok_and(|text| !text.is_empty())
    });
    fs::rename(&path, &rotated).unwrap();
    log.reopen();
    eventually("the new file", || path.exists());
    records.send(record("after")).unwrap();
    log.finish();
    assert_eq!(lines(&rotated)[0]["name"], "before");
    assert_eq!(lines(&path)[0]["name"], "after");
    assert_eq!((lines(&rotated).len(), lines(&path).len()), (1, 1));
}

#[test]
fn a_log_that_cannot_be_written_counts_what_it_loses() {
    let (log, records) = open(Path::new("/dev/full"), 8);
    for _ in 0..5 {
        records.send(record("a.example")).unwrap();
    }
    assert_eq!(log.finish(), 5);
}

#[test]
fn the_writer_ends_with_the_engine() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let (log, records) = open(&path, 8);
    records.send(record("last")).unwrap();
    drop(records);
    eventually("the end of the thread", || {
        log.thread.as_ref().unwrap().is_finished()
    });
    assert_eq!(lines(&path).len(), 1);
}

#[test]
fn a_file_that_cannot_be_opened_is_said_at_once() {
    let file = LogFile::Path("/nonexistent/folder/log".into());
    assert!(start(&file, NonZeroU32::MIN).is_err());
}

#[test]
fn a_log_to_nowhere_asks_for_no_records() {
    let (log, records) = start(&LogFile::None, NonZeroU32::MIN).unwrap();
    assert!(records.is_none());
    log.reopen();
    assert_eq!(log.finish(), 0);
}
