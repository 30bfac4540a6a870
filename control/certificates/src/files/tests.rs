use std::fs;

use control_api::boot::CertificateName;
use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;

fn pem(name: &str) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new([name.to_owned()]).unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        Self { folder }
    }

    fn write(&self, certificate: &str, key: &str) {
        for (name, text) in [("c.pem", certificate), ("k.pem", key)] {
            let next = self.folder.path().join("next");
            fs::write(&next, text).unwrap();
            fs::rename(next, self.folder.path().join(name)).unwrap();
        }
    }

    fn pair(&self) -> Pair {
        Pair::new(&WantedFiles {
            network: None,
            certificate: self.folder.path().join("c.pem"),
            key: self.folder.path().join("k.pem"),
            hosts: Vec::new(),
        })
    }
}

fn look(pair: &mut Pair) -> Found {
    let looked = pair.look().run(control_files::DEADLINE);
    pair.take(looked)
}

fn name(pair: &Pair) -> String {
    pair.bundle().unwrap().names()[0].to_string()
}

#[test]
fn a_changed_file_is_taken_and_an_unchanged_one_is_not_read_again() {
    let place = Place::new();
    let (certificate, key) = pem("a.example");
    place.write(&certificate, &key);
    let mut pair = place.pair();
    assert_eq!(look(&mut pair), Found::Changed);
    let first = pair.bundle().unwrap().clone();
    assert_eq!(look(&mut pair), Found::Same);
    assert!(Arc::ptr_eq(pair.bundle().unwrap(), &first));
    let (certificate, key) = pem("b.example");
    place.write(&certificate, &key);
    assert_eq!(look(&mut pair), Found::Changed);
    assert_eq!(name(&pair), "b.example");
    let covers = |host: &str| pair.covers(&host.parse::<CertificateName>().unwrap().0);
    assert!(covers("b.example"));
    assert!(!covers("a.example") && !covers("*.b.example"));
}

#[test]
fn a_broken_file_is_said_once_and_leaves_the_old_certificate() {
    let place = Place::new();
    let (certificate, key) = pem("a.example");
    place.write(&certificate, &key);
    let mut pair = place.pair();
    look(&mut pair);
    let (other, _) = pem("b.example");
    place.write(&other, &key);
    let Found::Broken(why) = look(&mut pair) else {
        panic!("taken")
    };
    assert!(why.contains("c.pem") && why.contains("k.pem"), "{why}");
    assert_eq!(look(&mut pair), Found::Same);
    assert_eq!(pair.error(), Some(why.as_str()));
    assert_eq!(name(&pair), "a.example");
    fs::remove_file(pair.path()).unwrap();
    assert!(matches!(look(&mut pair), Found::Broken(_)));
    assert_eq!(look(&mut pair), Found::Same);
    place.write(&certificate, &key);
    assert_eq!(look(&mut pair), Found::Changed);
    assert_eq!(pair.error(), None);
}

#[test]
fn what_is_no_file_is_said_and_leaves_the_old_certificate() {
    let place = Place::new();
    let (certificate, key) = pem("a.example");
    place.write(&certificate, &key);
    let mut pair = place.pair();
    look(&mut pair);
    fs::remove_file(pair.path()).unwrap();
    fs::create_dir(pair.path()).unwrap();
    let Found::Broken(why) = look(&mut pair) else {
        panic!("taken")
    };
    assert!(why.contains("it is a folder"), "{why}");
    assert_eq!(name(&pair), "a.example");
    assert_eq!(look(&mut pair), Found::Same);
}
