//! `kill -9` at any moment: nothing that was answered is lost, and the file opens again.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::{
    DesiredStore as _, NewGeneration, Store, TrafficQuery,
    lab::{peer, peers, port, raw, relay},
};

/// Tells the process that is to be killed which file it writes to.
const FILE: &str = "RINGWAY_STORE_TO_BE_KILLED";

const ROUNDS: u32 = 30;

/// Not a test: what runs in the process that is killed. Says after each step what is safe.
#[test]
#[ignore = "the other process of the test below"]
fn writes_until_it_is_killed() {
    let Some(path) = env::var_os(FILE).map(PathBuf::from) else {
        return;
    };
    let store = Store::open(&path).unwrap();
    let first = counted(&store) + 1;
    for step in first.. {
        let mut sample = peers(step, &[peer(1, raw(1, step, 2 * step))]);
        sample.relays.push(relay("a", "192.0.2.1", 1, 2));
        store.accounts().record_sample(&sample);
        if step % 3 == 0 {
            let new = NewGeneration {
                document: Some(format!("{{\"step\": {step}}}")),
                ..NewGeneration::default()
            };
            let id = store.desired().commit(new).wait().unwrap();
            println!("SAFE generation {id}");
        }
        store
            .desired()
            .own(port(51820), step.to_string())
            .wait()
            .unwrap();
        println!("SAFE owned {step}");
        store.accounts().flush().wait().unwrap();
        println!("SAFE counted {step}");
        if step % 5 == 0 {
            let info = store
                .accounts()
                .traffic(TrafficQuery::default())
                .wait()
                .unwrap();
            println!("SAFE told {}", info.traffic.rx);
        }
    }
}

fn counted(store: &Store) -> u64 {
    let totals = store.accounts().peer_totals().wait().unwrap();
    totals.first().map_or(0, |total| total.traffic.rx)
}

/// The last number that the process said was safe, of each kind.
#[derive(Debug, Default)]
struct Safe {
    generation: u64,
    owned: u64,
    counted: u64,
    told: u64,
}

impl Safe {
    fn read(&mut self, line: &str) {
        let Some((kind, number)) = line.strip_prefix("SAFE ").and_then(|it| it.split_once(' '))
        else {
            return;
        };
        let number = number.parse().unwrap();
        match kind {
            "generation" => self.generation = number,
            "owned" => self.owned = number,
            "counted" => self.counted = number,
            "told" => self.told = number,
            kind => panic!("{kind}"),
        }
    }
}

fn start(path: &Path) -> Child {
    let name = "store::tests::crash::writes_until_it_is_killed";
    let arguments = ["--exact", name, "--ignored", "--nocapture"];
    Command::new(env::current_exe().unwrap())
        .args(arguments)
        .env(FILE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Lets it write for a while, kills it in the middle, and reads all that it had said.
fn run_and_kill(path: &Path, lines: u32) -> Safe {
    let mut child = start(path);
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut safe = Safe::default();
    for line in output.by_ref().take(lines.try_into().unwrap()) {
        safe.read(&line.unwrap());
    }
    child.kill().unwrap();
    child.wait().unwrap();
    // A line may have been cut off by the end.
    let rest: Vec<_> = output.map_while(Result::ok).collect();
    let whole = rest.split_last().map_or(&[][..], |(_, whole)| whole);
    for line in whole {
        safe.read(line);
    }
    safe
}

#[test]
fn a_process_that_is_killed_loses_nothing_that_it_was_told_is_safe() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("ringway.db");
    let mut before = 0;
    for round in 0..ROUNDS {
        // From the first moments on, and never at the same place.
        let safe = run_and_kill(&path, 1 + round * 7 % 60);
        let store = Store::open(&path).unwrap();
        let counted = counted(&store);
        // A line that was cut off, and a step that was on its way, may be there as well.
        let least = safe.counted.max(before);
        assert!(
            (least..=least + 2).contains(&counted),
            "{counted}, {safe:?}"
        );
        before = counted;
        let generation = store
            .desired()
            .current()
            .wait()
            .unwrap()
            .map_or(0, |it| it.id);
        assert!(generation >= safe.generation, "{generation}, {safe:?}");
        let owned = store.desired().owned().wait().unwrap();
        let owned: u64 = owned.get("51820").map_or(0, |text| text.parse().unwrap());
        assert!(owned >= safe.owned, "{owned}, {safe:?}");
        let info = store
            .accounts()
            .traffic(TrafficQuery::default())
            .wait()
            .unwrap();
        assert!(counted >= safe.told);
        assert_eq!((info.traffic.rx, info.traffic.tx), (counted, 2 * counted));
        let routes = store
            .accounts()
            .routes_traffic(TrafficQuery::default())
            .wait()
            .unwrap();
        let relayed = routes.traffic;
        assert_eq!(
            (relayed.bytes_in, relayed.bytes_out),
            (counted, 2 * counted)
        );
        drop(store);
        sound(&path);
    }
    assert!(fs::metadata(&path).unwrap().len() < 10 << 20);
}

fn sound(path: &Path) {
    let connection = rusqlite::Connection::open(path).unwrap();
    let verdict: String = connection
        .pragma_query_value(None, "integrity_check", |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
}
