//! As many certificates as a large gateway has.

use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::*;
use crate::testing::curve_key;

const COUNT: usize = 100_000;

/// Bundles like a directory's, each with a leaf of its own: one real certificate whose name was
/// overwritten with another of the same length. No client verifies these.
fn bundles(count: usize) -> impl Iterator<Item = Arc<Bundle>> {
    let authority = Authority::new();
    let key = curve_key();
    let leaf = leaf(&authority.bundle_with(&["n000000.example"], &key));
    let at = leaf
        .windows(15)
        .position(|bytes| bytes == b"n000000.example")
        .unwrap();
    let issuer: Arc<[u8]> = authority.der.to_vec().into();
    (0..count).map(move |number| {
        let mut leaf = leaf.clone();
        leaf[at..at + 7].copy_from_slice(format!("n{number:06}").as_bytes());
        let key = Zeroizing::new(key.serialize_der());
        Arc::new(Bundle::from_stored(vec![leaf.into(), issuer.clone()], key).unwrap())
    })
}

#[test]
fn a_hundred_thousand_certificates_load_in_seconds_and_are_found_as_fast_as_ten() {
    let few = Certificates::default();
    load(&few, bundles(10));
    let many = Certificates::default();
    let begun = Instant::now();
    load(&many, bundles(COUNT));
    let loaded = begun.elapsed();
    assert_eq!(many.len(), COUNT);

    let lookup = |certificates: &Certificates, among: usize| {
        let begun = Instant::now();
        for turn in 0..COUNT {
            let name = host(&format!("n{:06}.example", turn * 7919 % among));
            assert!(certificates.has(&name));
        }
        begun.elapsed() / u32::try_from(COUNT).unwrap()
    };
    let (in_few, in_many) = (lookup(&few, 10), lookup(&many, COUNT));
    let renewed = bundles(1).next().unwrap();
    let begun = Instant::now();
    many.add(&renewed, SystemTime::now());
    let changed = begun.elapsed();
    println!(
        "{COUNT}: loaded in {loaded:?}, lookup {in_many:?} (of ten: {in_few:?}), change {changed:?}"
    );
    // With all that a busy machine may add.
    assert!(loaded < Duration::from_secs(20), "{loaded:?}");
    assert!(
        in_many < in_few * 20 + Duration::from_micros(20),
        "{in_many:?} and {in_few:?}"
    );
}

#[test]
fn keys_made_ready_are_bounded() {
    let resting = bundles(parsed::PARSED_MAX.get() + 10).collect::<Vec<_>>();
    for bundle in &resting {
        assert!(parsed::parsed(bundle).is_some());
    }
    assert_eq!(parsed::count(), parsed::PARSED_MAX.get());
    // What was made ready first has gone, and is made again.
    assert!(parsed::parsed(&resting[0]).is_some());
}
