use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use control_api::{boot, state};
use engine_core::hostname::{HostPattern, Hostname};
use rcgen::{CertificateParams, KeyPair};
use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use zeroize::Zeroizing;

use super::{turn::Ended, *};
use crate::{acme::Obtained, leaf};

const ACME: &str = "acme: { directories: [{ name: one, url: 'https://127.0.0.1:1/d' }], \
                    on_demand: { ask: 'http://127.0.0.1:1/ask' } }";
const ROUTED: &str = r#""proxy": { "https://a.example": ["10.0.0.1:1"] }"#;

struct World {
    folder: TempDir,
    boot: Boot,
    keeper: Keeper,
    runtime: Runtime,
    _happenings: mpsc::Receiver<Happening>,
}

type Boot = boot::Boot;

fn boot(more: &str) -> Boot {
    let listeners = "listeners: [{ name: a, bind: 127.0.0.1:0, protocol: https }]";
    let text = format!("{listeners}\n{ACME}\n{more}");
    let none = BTreeMap::<String, String>::new();
    boot::parse(&text, &none).unwrap().value
}

fn write_pair(folder: &Path, name: &str) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    fs::write(folder.join("c.pem"), certificate.pem()).unwrap();
    fs::write(folder.join("k.pem"), key.serialize_pem()).unwrap();
}

fn obtained(name: &str) -> Obtained {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let (chain, pem) = (certificate.pem(), key.serialize_pem());
    let bundle = engine_tls::Bundle::from_pem(chain.as_bytes(), pem.as_bytes()).unwrap();
    Obtained {
        leaf: leaf::read(bundle.leaf()).unwrap(),
        chain: vec![bundle.leaf().to_vec()],
        bundle: Arc::new(bundle),
        key: Zeroizing::new(key.serialize_der()),
    }
}

fn name(text: &str) -> CertificateName {
    text.parse().unwrap()
}

fn host(text: &str) -> Hostname {
    Hostname::parse(text.as_bytes()).unwrap()
}

impl World {
    fn new(more: &str, network: &str, prepare: impl FnOnce(&Path)) -> Self {
        let folder = TempDir::new().unwrap();
        prepare(folder.path());
        let boot = boot(more);
        let (happenings, waiting) = mpsc::channel(100);
        let setting = Setting {
            acme: boot.acme.clone(),
            look_interval: Duration::from_secs(60),
            folder: folder.path().to_owned(),
            store: control_store::Store::open(&folder.path().join("db"))
                .unwrap()
                .certificates(),
            certificates: Certificates::default(),
            challenges: Challenges::default(),
            happenings,
        };
        let wants = wants(&boot, network, folder.path());
        let (keeper, _) = Keeper::start(setting, wants).unwrap();
        Self {
            folder,
            boot,
            keeper,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            _happenings: waiting,
        }
    }

    fn want(&mut self, network: &str) {
        let wants = wants(&self.boot, network, self.folder.path());
        self.keeper.take_wants(wants);
    }

    fn serves(&self, name: &str) -> bool {
        self.keeper.certificates.has(&host(name))
    }

    fn end(&mut self, ended: Ended) {
        self.runtime.block_on(self.keeper.end_turn(ended));
    }

    /// Looks at all files, and waits for what is found.
    fn look(&mut self) {
        let _inside = self.runtime.enter();
        self.keeper.look_at_files();
        while let Some(ended) = self.runtime.block_on(self.keeper.looks.join_next()) {
            self.keeper.end_looks(ended);
        }
    }
}

fn wants(boot: &Boot, network: &str, folder: &Path) -> Arc<Wants> {
    let document = format!(r#"{{ "1": {{ "netns": null, {network} }} }}"#);
    let document = document.replace("FOLDER", &folder.display().to_string());
    let desired = state::parse(&document).unwrap().value;
    Arc::new(Wants::of(boot, &desired, folder))
}

const OWN_FILE: &str = "tls: { files: [{ certificate: c.pem, key: k.pem }] }";

#[test]
fn an_order_that_ends_when_nobody_wants_it_leaves_the_files_certificate_in_service() {
    let network = format!(r#"{ROUTED}, "tls": {{ "acme": {{ "hosts": ["a.example"] }} }}"#);
    let mut world = World::new(OWN_FILE, &network, |folder| write_pair(folder, "b.example"));
    let wanted = name("a.example");
    let now = clock::now();
    let (_, terms, _) = world.keeper.schedule.next(now).unwrap();
    // The file becomes one for this name while the order runs, and the order is not wanted any more.
    write_pair(world.folder.path(), "a.example");
    world.look();
    world.want(ROUTED);
    world.end(Ended::Order {
        name: wanted,
        terms,
        result: Ok(obtained("a.example")),
    });
    assert!(world.serves("a.example"));
}

#[test]
fn a_certificate_that_is_taken_away_brings_the_files_back_into_service() {
    let network = format!(r#"{ROUTED}, "tls": {{ "acme": {{ "hosts": ["a.example"] }} }}"#);
    let mut world = World::new(OWN_FILE, &network, |folder| write_pair(folder, "a.example"));
    let (wanted, terms, _) = world.keeper.schedule.next(clock::now()).unwrap();
    world.end(Ended::Order {
        name: wanted,
        terms,
        result: Ok(obtained("a.example")),
    });
    world.want(ROUTED);
    assert!(world.serves("a.example"));
}

#[test]
fn a_name_on_demand_that_got_a_file_later_is_served_by_it_when_the_name_is_withdrawn() {
    let mut world = World::new("", ROUTED, |folder| write_pair(folder, "a.example"));
    world.end(Ended::Asked {
        name: host("a.example"),
        result: Ok(()),
    });
    let (wanted, terms, _) = world.keeper.schedule.next(clock::now()).unwrap();
    world.end(Ended::Order {
        name: wanted.clone(),
        terms,
        result: Ok(obtained("a.example")),
    });
    assert!(world.serves("a.example"));
    world.want(&format!(
        r#"{ROUTED}, "tls": {{ "files": [{{ "hosts": ["a.example"],
            "certificate": "FOLDER/c.pem", "key": "FOLDER/k.pem" }}] }}"#
    ));
    world.look();
    world.keeper.schedule.next(clock::now() + 1).unwrap();
    let why = "no".to_owned();
    world.end(Ended::Withdrawn { name: wanted, why });
    assert!(world.serves("a.example"));
}

#[test]
fn a_networks_file_serves_the_hosts_that_it_is_declared_for_and_that_are_routed() {
    let files = r#""tls": { "files": [{ "hosts": ["a.example"],
        "certificate": "FOLDER/c.pem", "key": "FOLDER/k.pem" }] }"#;
    let mut world = World::new("", &format!("{ROUTED}, {files}"), |folder| {
        let key = KeyPair::generate().unwrap();
        let names = ["a.example", "b.example"].map(str::to_owned);
        let certificate = CertificateParams::new(names).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        fs::write(folder.join("c.pem"), certificate.pem()).unwrap();
        fs::write(folder.join("k.pem"), key.serialize_pem()).unwrap();
    });
    assert!(world.serves("a.example") && !world.serves("b.example"));
    world.want(files);
    assert!(!world.serves("a.example"));
}

#[test]
fn a_certificate_is_shown_with_its_names_and_with_the_hosts_that_it_serves() {
    let network = r#""proxy": { "https://a.example": ["10.0.0.1:1"] }, "tls": { "files": [
        { "hosts": ["a.example"], "certificate": "FOLDER/own.pem", "key": "FOLDER/own.pem" }] }"#;
    let more = "tls: { default: { certificate: c.pem, key: k.pem }, \
                files: [{ certificate: both.pem, key: both.pem }] }";
    let world = World::new(more, network, |folder| {
        write_pair(folder, "z.example");
        for (file, names) in [
            ("both.pem", &["a.example", "*.c.example"][..]),
            ("own.pem", &["a.example", "b.example"]),
        ] {
            let key = KeyPair::generate().unwrap();
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            let certificate = CertificateParams::new(names).unwrap();
            let certificate = certificate.self_signed(&key).unwrap();
            fs::write(folder.join(file), certificate.pem() + &key.serialize_pem()).unwrap();
        }
    });
    let shown = world.keeper.shown.borrow().certificates.clone();
    let shown = shown.iter().map(|it| {
        assert!(it.not_before.is_some() && it.not_after.is_some(), "{it:?}");
        let (names, hosts) = (it.names.join(" "), it.hosts.join(" "));
        (it.network, names, hosts)
    });
    let shown: Vec<_> = shown.collect();
    let expected = [
        // The network's is declared for the host, the gateway's merely names it.
        (None, "a.example *.c.example", "*.c.example"),
        (Some(1), "a.example b.example", "a.example"),
        (None, "z.example", "*"),
    ];
    let expected =
        expected.map(|(network, names, hosts)| (network, names.to_owned(), hosts.to_owned()));
    assert_eq!(shown, expected);
}

/// A pipe, and a folder in place of a certificate: the start comes back, and the next look finds
/// what has come there meanwhile.
#[test]
fn a_file_that_cannot_be_read_keeps_nobody_from_being_served() {
    let network = r#""proxy": { "https://a.example": ["10.0.0.1:1"], "https://b.example": ["10.0.0.1:1"] },
        "tls": { "files": [
        { "hosts": ["b.example"], "certificate": "FOLDER/fifo", "key": "FOLDER/fifo" },
        { "hosts": ["a.example"], "certificate": "FOLDER/c.pem", "key": "FOLDER/k.pem" }] }"#;
    let begun = Instant::now();
    let mut world = World::new("", network, |folder| {
        write_pair(folder, "a.example");
        mknodat(
            CWD,
            folder.join("fifo"),
            FileType::Fifo,
            Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
    });
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(world.serves("a.example") && !world.serves("b.example"));
    let shown = world.keeper.shown.borrow().certificates.clone();
    let errors: Vec<String> = shown.into_iter().filter_map(|shown| shown.error).collect();
    assert!(
        errors.iter().any(|error| error.contains("it is a pipe")),
        "{errors:?}"
    );
    let fifo = world.folder.path().join("fifo");
    fs::remove_file(&fifo).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["b.example".to_owned()]).unwrap();
    let both = params.self_signed(&key).unwrap().pem() + &key.serialize_pem();
    fs::write(&fifo, both).unwrap();
    world.look();
    assert!(world.serves("b.example"));
}

#[test]
fn certificates_are_judged_anew_when_one_expires() {
    let mut world = World::new("", ROUTED, |_| ());
    assert_eq!(world.keeper.changes_at, None);
    world.end(Ended::Asked {
        name: host("a.example"),
        result: Ok(()),
    });
    let (wanted, terms, _) = world.keeper.schedule.next(clock::now()).unwrap();
    let result = Ok(obtained("a.example"));
    world.end(Ended::Order {
        name: wanted,
        terms,
        result,
    });
    assert!(world.keeper.changes_at.is_some());
    world.keeper.changes_at = Some(SystemTime::UNIX_EPOCH);
    world.keeper.heed_time();
    assert!(world.keeper.changes_at > Some(clock::time()));
    let pattern = HostPattern::Exact(host("a.example"));
    assert!(world.keeper.files.offers_for(&pattern).is_empty());
}
