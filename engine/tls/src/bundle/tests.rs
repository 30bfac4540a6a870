use std::{fs, path::Path};

use engine_core::hostname::Hostname;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519, date_time_ymd};
use tempfile::TempDir;

use super::*;
use crate::testing::{Authority, curve_key, rsa_key};

fn write(directory: &TempDir, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    fs::read(path).map(Zeroizing::new)
}

fn content_error(result: Result<Bundle, BundleError>, of: &Path) -> ContentError {
    let Err(BundleError::Content { path, source }) = result else {
        panic!("{result:?}");
    };
    assert_eq!(path, of);
    source
}

#[test]
fn the_leaf_says_its_names_its_expiry_and_its_kind_of_key() {
    let mut params = CertificateParams::new(["A.example".into(), "*.b.example".into()]).unwrap();
    params.not_after = date_time_ymd(2031, 5, 6);
    let (chain, key) = Authority::new().pem_of(params, &curve_key());
    let bundle = Bundle::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    let names: Vec<String> = bundle.names().iter().map(ToString::to_string).collect();
    assert_eq!(names, ["a.example", "*.b.example"]);
    assert_eq!(bundle.algorithm(), Algorithm::Curve);
    let seconds = bundle
        .not_after()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    assert_eq!(seconds, 1_935_792_000);
    for (name, covered) in [
        ("a.example", true),
        ("x.b.example", true),
        ("b.example", false),
        ("y.x.b.example", false),
    ] {
        assert_eq!(
            bundle.covers(&Hostname::parse(name.as_bytes()).unwrap()),
            covered,
            "{name}"
        );
    }
}

#[test]
fn keys_are_read_in_each_of_their_encodings() {
    let authority = Authority::new();
    // The same key as PKCS#8 and as openssl's older encodings.
    let cases = [
        (
            include_str!("../testing/rsa.pem"),
            include_str!("../testing/rsa.pkcs1.pem"),
        ),
        (
            include_str!("../testing/curve.pem"),
            include_str!("../testing/curve.sec1.pem"),
        ),
    ];
    for (pkcs8, older) in cases {
        let (chain, _) = authority.pem(&["a.example"], &KeyPair::from_pem(pkcs8).unwrap());
        for key in [pkcs8, older] {
            Bundle::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
        }
    }
    let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let (chain, key) = authority.pem(&["a.example"], &key);
    let bundle = Bundle::from_pem(chain.as_bytes(), key.as_bytes()).unwrap();
    assert_eq!(bundle.algorithm(), Algorithm::Curve);
}

#[test]
fn chain_and_key_may_lie_in_one_file() {
    let directory = TempDir::new().unwrap();
    let (chain, key) = Authority::new().pem(&["a.example"], &rsa_key());
    let path = write(&directory, "both.pem", format!("{key}{chain}"));
    let bundle = Bundle::load(&path, &path, read).unwrap();
    assert_eq!(bundle.algorithm(), Algorithm::Rsa);
}

#[test]
fn what_is_wrong_is_told_with_the_file_that_it_is_in() {
    let directory = TempDir::new().unwrap();
    let (chain, key) = Authority::new().pem(&["a.example"], &curve_key());
    let chain_path = write(&directory, "chain.pem", &chain);
    let key_path = write(&directory, "key.pem", &key);
    let load = |chain: &PathBuf, key: &PathBuf| Bundle::load(chain, key, read);

    let missing = directory.path().join("missing.pem");
    let error = load(&missing, &key_path).unwrap_err();
    assert_eq!(error.to_string(), format!("reading {}", missing.display()));
    assert_eq!(
        content_error(load(&key_path, &key_path), &key_path),
        ContentError::NoCertificate
    );
    assert_eq!(
        content_error(load(&chain_path, &chain_path), &chain_path),
        ContentError::NoKey
    );

    let broken = write(
        &directory,
        "broken.pem",
        chain.replace("-----END CERTIFICATE-----", ""),
    );
    let expected = ContentError::Pem(PemFault::NoEnd);
    assert_eq!(content_error(load(&broken, &key_path), &broken), expected);

    let base64 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let no_x509 = write(&directory, "no-x509.pem", base64);
    assert_eq!(
        content_error(load(&no_x509, &key_path), &no_x509),
        ContentError::Certificate
    );

    let long = write(&directory, "long.pem", chain.repeat(CHAIN_MAX + 1));
    assert_eq!(
        content_error(load(&long, &key_path), &long),
        ContentError::ChainTooLong
    );

    let other = write(&directory, "other.pem", curve_key().serialize_pem());
    let error = load(&chain_path, &other).unwrap_err();
    let expected = format!(
        "{} does not go with {}",
        other.display(),
        chain_path.display()
    );
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_certificate_without_names_is_refused() {
    let (chain, key) = Authority::new().pem(&[], &curve_key());
    let error = Bundle::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
    assert_eq!(error, ContentError::NoNames);
}

#[test]
fn keys_are_in_no_debug_text() {
    let bundle = Authority::new().bundle(&["a.example"]);
    let text = format!("{bundle:?} {bundle:#?}");
    // As a list of decimal numbers, as debug prints bytes, or as text.
    let bytes = &bundle.key.bytes[bundle.key.bytes.len() - 8..];
    assert!(!text.contains(&format!("{bytes:?}")[1..20]), "{text}");
    assert!(!text.contains("key"), "{text}");
    assert!(text.contains("a.example"));
}
