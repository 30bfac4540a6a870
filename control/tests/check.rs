//! `ringway check` as its users meet it.
//! Files are written, the binary is run, and its output and exit status are compared.
#![allow(clippy::unwrap_used, reason = "a failing step fails the test")]

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};

const BOOT: &str = "listeners:\n- { name: a, bind: 127.0.0.1:0, protocol: tls }\n";

struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        Self(folder)
    }

    fn check(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_ringway"))
            .current_dir(self.0.path())
            .env_clear()
            .envs(variables.iter().copied())
            .arg("check")
            .args(arguments)
            .output()
            .unwrap()
    }

    /// Exit status and lines of `ringway check FILES`.
    fn lines(&self, files: &[&str]) -> (i32, Vec<String>) {
        answer(&self.check(files, &[]))
    }
}

fn answer(output: &Output) -> (i32, Vec<String>) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (
        output.status.code().unwrap(),
        text.lines().map(str::to_owned).collect(),
    )
}

#[test]
fn the_examples_are_valid() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ringway"))
        .current_dir(examples)
        .env_clear()
        // Whoever tests may not have the default's folder.
        .env("RINGWAY_STORE", folder.path().join("ringway.db"))
        .args(["check", "ringway.yaml", "state.json"])
        .output()
        .unwrap();
    assert_eq!(answer(&output), (0, vec![]));
}

/// The code blocks of the README in a language.
fn of_readme(language: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = fs::read_to_string(path).unwrap();
    let fence = format!("```{language}\n");
    let blocks = readme.split(&fence).skip(1);
    let blocks = blocks.map(|rest| rest.split("```").next().unwrap().to_owned());
    blocks.collect()
}

fn check_with_store(folder: &Folder) -> (i32, Vec<String>) {
    let store = folder.0.path().join("ringway.db");
    let variables = [("RINGWAY_STORE", store.to_str().unwrap())];
    answer(&folder.check(&["boot.yaml", "state.json"], &variables))
}

#[test]
fn the_reverse_proxy_of_the_readme_is_valid() {
    let (boot, state) = (of_readme("yaml"), of_readme("json"));
    assert_eq!((boot.len(), state.len()), (1, 1));
    assert!(boot[0].lines().count() + state[0].lines().count() <= 20);
    let folder = Folder::with(&[("boot.yaml", &boot[0]), ("state.json", &state[0])]);
    assert_eq!(check_with_store(&folder), (0, vec![]));
}

/// Its commands are run, with a `wg` that knows two pairs of keys.
#[test]
fn the_machine_behind_nat_of_the_readme_is_valid() {
    const WG: &str = r#"#!/bin/sh
case "$1" in
genkey) if [ -e used ]; then echo "$SECOND"; else echo "$FIRST"; touch used; fi ;;
pubkey) if [ "$(cat)" = "$FIRST" ]; then echo "$FIRST_PUBLIC"; else echo "$SECOND_PUBLIC"; fi ;;
esac
"#;
    const FIRST: [&str; 2] = [
        "+CEUQvi23mvWnZZENL11tkFmMOhpHDJEPRBZgysvUgA=",
        "CWocOJzJ7SSJqnqCDIoGO9tqOfDvQ+9P0MR2pSUP0mg=",
    ];
    const SECOND: [&str; 2] = [
        "EDZ6rLZ6SgF8jairlWgsyzkIY3gPcRTdoKDgxVZEx0Q=",
        "MYEFT5iW+8PMNT/dBExdc23ww+VaWzffKs7dj5oU73E=",
    ];
    let blocks = of_readme("sh");
    let commands = blocks
        .iter()
        .find(|block| block.contains("wg genkey"))
        .unwrap();
    assert!(commands.lines().count() <= 22);
    let folder = Folder::with(&[("boot.yaml", &of_readme("yaml")[0]), ("wg", WG)]);
    let root = folder.0.path();
    fs::set_permissions(root.join("wg"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", root.display(), std::env::var("PATH").unwrap());
    let output = Command::new("sh")
        .args(["-euc", commands])
        .current_dir(root)
        .envs([
            ("PATH", &*path),
            ("FIRST", FIRST[0]),
            ("FIRST_PUBLIC", FIRST[1]),
        ])
        .envs([("SECOND", SECOND[0]), ("SECOND_PUBLIC", SECOND[1])])
        .output()
        .unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    assert_eq!(check_with_store(&folder), (0, vec![]));
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
    let state: Value = serde_json::from_str(&read("state.json")).unwrap();
    let network = &state["51821"];
    assert_eq!(network["private_key"], FIRST[0]);
    assert!(network["peers"][SECOND[1]].is_object(), "{state}");
    let machine = read("wg0.conf");
    for line in [
        format!("PrivateKey = {}", SECOND[0]),
        format!("PublicKey = {}", FIRST[1]),
        "Endpoint = gateway.example.com:51821".to_owned(),
    ] {
        assert!(
            machine.lines().any(|found| found == line),
            "{line}: {machine}"
        );
    }
}

#[test]
fn every_problem_has_a_line_of_its_own_and_the_status_is_1() {
    let folder = Folder::with(&[
        (
            "boot.yaml",
            "worker: 1\nlisteners:\n- { name: a, bind: x, protocol: tls }\n",
        ),
        (
            "state.json",
            "{\n\"1\": {\"netns\": null,\n\"proxy\": {\"a.example\": []}},\n\"x\": {}}",
        ),
    ]);
    assert_eq!(
        folder.lines(&["boot.yaml", "state.json"]),
        (
            1,
            vec![
                "boot.yaml:1: /worker: `worker` is not a key here (did you mean `workers`?)".into(),
                "boot.yaml:3: /listeners/0/bind: `x`: `ip:port` or `[ip]:port` is expected, such as [::]:443".into(),
                "state.json:3: /1/proxy/a.example: at least one target is needed".into(),
                "state.json:4: /x: `x` is not a port (networks are keyed by their public WireGuard port, from 1 to 65535)".into(),
            ]
        )
    );
}

#[test]
fn warnings_are_printed_and_do_not_fail() {
    let state = "{\"1\": {\"netns\": null, \"proxy\": {\"ssh://a.example\": [\"10.0.0.1:22\"]}}}";
    let folder = Folder::with(&[("state.json", state)]);
    assert_eq!(
        folder.lines(&["state.json"]),
        (
            0,
            vec!["state.json:1: /1/proxy/ssh:~1~1a.example: warning: ssh is not served yet".into()]
        )
    );
}

#[test]
fn a_boot_file_is_checked_with_the_state_that_it_names() {
    let boot = format!(
        "{BOOT}- name: db\n  bind: 127.0.0.1:0\n  protocol: tcp\n  to: network-7/10.0.0.2:1\nstate: state.json\n"
    );
    let missing = "boot.yaml:6: /listeners/1/to: network-7 is not in the state document (declare it there, or write `host` or `netns:NAME`)";
    let folder = Folder::with(&[("boot.yaml", &boot), ("state.json", "{}")]);
    assert_eq!(folder.lines(&["boot.yaml"]), (1, vec![missing.into()]));
    let folder = Folder::with(&[
        ("boot.yaml", &boot),
        ("state.json", "{\"7\": {\"netns\": \"blue\"}}"),
    ]);
    assert_eq!(folder.lines(&["boot.yaml"]), (0, vec![]));
    let folder = Folder::with(&[("boot.yaml", &boot), ("state.json", "{\"0\": {}}")]);
    let (status, lines) = folder.lines(&["boot.yaml", "state.json"]);
    assert_eq!((status, lines.len()), (1, 1), "each file once: {lines:?}");
    assert!(lines[0].starts_with("state.json:1: /0: "), "{lines:?}");
    let (status, lines) = Folder::with(&[("boot.yaml", &boot)]).lines(&["boot.yaml"]);
    assert_eq!((status, lines.len()), (0, 1));
    assert!(
        lines[0].starts_with("boot.yaml:7: /state: warning: state.json cannot be read"),
        "{lines:?}"
    );
}

/// Nothing of it is touched: whoever checks may have named the wrong file.
#[test]
fn files_that_would_be_written_are_looked_at() {
    let boot = |keys: &str| format!("{BOOT}{keys}");
    let line = |keys: &str| {
        let folder = Folder::with(&[("boot.yaml", &boot(keys)), ("notes.txt", "notes")]);
        let (status, mut lines) = folder.lines(&["boot.yaml"]);
        assert_eq!((status, lines.len()), (1, 1), "{keys}: {lines:?}");
        assert_eq!(fs::read_dir(folder.0.path()).unwrap().count(), 2);
        lines.remove(0)
    };
    for (keys, line_number, expected) in [
        ("store: .", 3, "it is a folder"),
        ("store: /tmp", 3, "it is a folder"),
        ("store: notes.txt", 3, "is not a file of Ringway's"),
        (
            "store: /proc/self/new/db",
            3,
            "the folder /proc/self cannot be written",
        ),
        ("store: db\nlog: { file: db }", 4, "is also `store`"),
        ("store: db\nlog: { requests: /tmp }", 4, "is a folder"),
    ] {
        let line = line(keys);
        let start = format!("boot.yaml:{line_number}: /");
        assert!(
            line.starts_with(&start) && line.contains(expected),
            "{keys}: {line}"
        );
    }
}

#[test]
fn the_environment_is_part_of_the_boot_file() {
    let folder = Folder::with(&[("boot.yaml", BOOT)]);
    let check = |variables: &[(&str, &str)]| answer(&folder.check(&["boot.yaml"], variables));
    assert_eq!(
        check(&[("RINGWAY_WORKERS", "2"), ("RINGWAY_CONFIG", "x")]),
        (0, vec![])
    );
    let wrong = "RINGWAY_WORKERS: /workers: `none`: `auto` or a number from 1 to 1024 is expected";
    assert_eq!(
        check(&[("RINGWAY_WORKERS", "none")]),
        (1, vec![wrong.into()])
    );
    let unknown = "RINGWAY_WORKER: /: RINGWAY_WORKER is not a variable of Ringway (did you mean RINGWAY_WORKERS?)";
    assert_eq!(check(&[("RINGWAY_WORKER", "2")]), (1, vec![unknown.into()]));
}

#[test]
fn json_says_the_same() {
    let folder = Folder::with(&[
        ("boot.yaml", "workers: 1"),
        ("state.json", "{\"1\": {\"netns\": null}}"),
    ]);
    let output = folder.check(&["--json", "boot.yaml", "state.json"], &[]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        serde_json::from_slice::<Value>(&output.stdout).unwrap(),
        json!({ "valid": false, "unlisted": 0, "problems": [{
            "file": "boot.yaml", "severity": "error", "line": 1, "variable": null, "pointer": "",
            "message": "`listeners` is missing", "hint": null,
        }]})
    );
    let output = folder.check(&["--json", "state.json"], &[]);
    assert_eq!(output.status.code(), Some(0));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        answer,
        json!({ "valid": true, "unlisted": 0, "problems": [] })
    );
}

#[test]
fn files_that_are_no_text_or_not_there_are_problems_too() {
    let folder = Folder::with(&[]);
    fs::write(folder.0.path().join("binary"), [0xff, 0xfe, 0]).unwrap();
    let (status, lines) = folder.lines(&["binary", "absent", "."]);
    assert_eq!((status, lines.len()), (1, 3), "{lines:?}");
    assert_eq!(
        lines[0],
        "binary: /: the file cannot be read: the file is not UTF-8 text"
    );
    assert!(
        lines[1].starts_with("absent: /: the file cannot be read: No such file"),
        "{lines:?}"
    );
}

#[test]
fn a_wrong_command_line_is_status_2() {
    let folder = Folder::with(&[]);
    for arguments in [&[][..], &["--jsn", "x"]] {
        let output = folder.check(arguments, &[]);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(!output.stderr.is_empty());
    }
}

/// A certificate for a name and its key, in PEM.
fn certificate(name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

#[test]
fn files_that_are_named_are_opened_and_matched() {
    let (chain, key) = certificate("a.example");
    let (_, other_key) = certificate("b.example");
    let boot = |tls: &str| format!("{BOOT}tls: {{ files: [{tls}] }}\n");
    let lines = |text: &str| {
        Folder::with(&[
            ("boot.yaml", text),
            ("a.pem", &chain),
            ("a.key", &key),
            ("b.key", &other_key),
        ])
        .lines(&["boot.yaml"])
    };
    let good = boot("{ certificate: a.pem, key: a.key }");
    assert_eq!(lines(&good), (0, vec![]));
    for (text, expected) in [
        (boot("{ certificate: a.pem, key: b.key }"), "/tls/files/0: "),
        (
            boot("{ certificate: a.pem, key: none.key }"),
            "No such file",
        ),
        (boot("{ certificate: a.pem, key: . }"), "it is a folder"),
        (format!("{BOOT}api: {{ token_file: none }}\n"), "/api: "),
    ] {
        let (status, lines) = lines(&text);
        assert_eq!((status, lines.len()), (1, 1), "{text}: {lines:?}");
        assert!(lines[0].contains(expected), "{lines:?}");
    }
}

/// Those of a document, too: errors beside a boot file, which is the gateway's.
#[test]
fn certificates_of_a_state_document_are_for_its_hosts() {
    let (chain, key) = certificate("a.example");
    let folder = Folder::with(&[("a.pem", &chain), ("a.key", &key)]);
    let path = |name: &str| folder.0.path().join(name).display().to_string();
    let write = |name: &str, text: &str| fs::write(folder.0.path().join(name), text).unwrap();
    let https = "listeners:\n- { name: a, bind: 127.0.0.1:0, protocol: https }\n";
    write("boot.yaml", https);
    let state = |hosts: Value, file: &str| {
        let files = json!([{ "hosts": hosts, "certificate": path(file), "key": path("a.key") }]);
        json!({ "1": { "netns": null, "tls": { "files": files } } }).to_string()
    };
    write("state.json", &state(json!(["a.example"]), "a.pem"));
    assert_eq!(folder.lines(&["boot.yaml", "state.json"]), (0, vec![]));
    write(
        "state.json",
        &state(json!(["a.example", "b.example"]), "a.pem"),
    );
    let (status, lines) = folder.lines(&["state.json"]);
    assert_eq!((status, lines.len()), (1, 1), "{lines:?}");
    assert!(
        lines[0].contains("/1/tls/files/0/hosts/1: the certificate in "),
        "{lines:?}"
    );
    write("state.json", &state(json!(["a.example"]), "none.pem"));
    assert_eq!(
        folder.lines(&["state.json"]).0,
        0,
        "it may be there on the gateway"
    );
    assert_eq!(folder.lines(&["boot.yaml", "state.json"]).0, 1);
}

#[test]
fn files_that_are_given_together_are_checked_together() {
    let boot = format!(
        "{BOOT}- {{ name: db, bind: 127.0.0.1:0, protocol: tcp, to: network-7/10.0.0.2:1 }}\n"
    );
    let state = json!({ "8": { "netns": null,
        "proxy": { "http://a.example": ["127.0.0.1:80"] },
        "routes": [{ "host": "b.example", "to": ["127.0.0.1:80"], "tls": "terminate" }],
        "tls": { "acme": { "hosts": ["c.example"] } },
    } });
    let folder = Folder::with(&[("boot.yaml", &boot), ("state.json", &state.to_string())]);
    let (status, lines) = folder.lines(&["state.json", "boot.yaml"]);
    assert_eq!((status, lines.len()), (1, 4), "{lines:?}");
    let mut expected = [
        (
            "state.json:1: /8/proxy/http:~1~1a.example: warning: ",
            "no listener",
        ),
        (
            "state.json:1: /8/tls/acme/hosts/0: warning: ",
            "no certificate can be obtained",
        ),
        (
            "state.json:1: /8/routes/0: warning: ",
            "TLS of b.example is terminated",
        ),
        (
            "boot.yaml:3: /listeners/1/to: ",
            "network-7 is not in the state document",
        ),
    ]
    .into_iter()
    .zip(&lines);
    assert!(
        expected.all(|((start, part), line)| line.starts_with(start) && line.contains(part)),
        "{lines:?}"
    );
}
