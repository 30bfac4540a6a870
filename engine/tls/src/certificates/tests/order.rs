//! Whose certificate serves which host, and which of several.

use engine_core::ids::NetworkId;
use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::*;
use crate::testing::curve_key;

const OURS: Option<NetworkId> = Some(NetworkId(1));
const THEIRS: Option<NetworkId> = Some(NetworkId(2));

/// A certificate that is valid between two years.
fn between(names: &[&str], (from, until): (i32, i32), key: &KeyPair) -> Arc<Bundle> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(until, 1, 1);
    let (chain, key) = Authority::new().pem_of(params, key);
    Arc::new(Bundle::from_pem(chain.as_bytes(), key.as_bytes()).unwrap())
}

fn valid(names: &[&str]) -> Arc<Bundle> {
    between(names, (2000, 2090), &curve_key())
}

fn declared(bundle: &Arc<Bundle>, network: Option<NetworkId>) -> Offer {
    Offer {
        bundle: Arc::clone(bundle),
        network,
        is_declared: true,
    }
}

fn pattern(text: &str) -> HostPattern {
    HostPattern::parse(text).unwrap()
}

fn owners(hosts: &[(&str, Option<NetworkId>)]) -> Owners {
    let mut owners = Owners::default();
    for (host, network) in hosts {
        let host = (*host != "*").then(|| pattern(host));
        owners.insert(host.as_ref(), network.unwrap());
    }
    owners
}

fn replace(certificates: &Certificates, offers: &[(&str, Offer)], owners: Owners) {
    let offers = offers.iter().cloned();
    let offers = offers.map(|(host, offer)| (pattern(host), offer));
    certificates.replace(offers, owners, SystemTime::now());
}

/// What the most capable client is shown.
fn first(certificates: &Certificates, name: &str) -> Option<Arc<Bundle>> {
    let index = certificates.0.load();
    let pair = index.find(name)?;
    pair.bundles().next().cloned()
}

fn assert_serves(certificates: &Certificates, name: &str, wanted: Option<&Arc<Bundle>>) {
    let found = first(certificates, name);
    let is_same = match (&found, wanted) {
        (Some(found), Some(wanted)) => Arc::ptr_eq(found, wanted),
        (None, None) => true,
        (Some(_), None) | (None, Some(_)) => false,
    };
    assert!(is_same, "{name}: {found:?} instead of {wanted:?}");
}

#[test]
fn a_networks_certificate_serves_the_hosts_that_it_routes_and_no_others() {
    let certificates = Certificates::default();
    let (ours, theirs) = (valid(&["*.a.example"]), valid(&["x.b.example"]));
    let owners = owners(&[
        ("*.a.example", OURS),
        ("theirs.a.example", THEIRS),
        ("x.b.example", OURS),
    ]);
    let offers = [
        ("*.a.example", declared(&ours, OURS)),
        ("x.b.example", declared(&theirs, THEIRS)),
    ];
    replace(&certificates, &offers, owners);
    assert_serves(&certificates, "www.a.example", Some(&ours));
    assert_serves(&certificates, "theirs.a.example", None);
    assert_serves(&certificates, "x.b.example", None);
    assert!(!certificates.may_carry(Some(&host("www.a.example")), &host("theirs.a.example")));
    assert!(certificates.may_carry(Some(&host("www.a.example")), &host("ftp.a.example")));
    // One by one the same holds.
    certificates.set(
        &pattern("x.b.example"),
        &[declared(&theirs, THEIRS)],
        SystemTime::now(),
    );
    assert_serves(&certificates, "x.b.example", None);
}

#[test]
fn a_host_that_nobody_routes_gets_no_networks_certificate_but_the_gateways_own() {
    let certificates = Certificates::default();
    let (ours, own) = (valid(&["*.a.example"]), valid(&["*.a.example"]));
    let offers = [
        ("*.a.example", Offer::general(Arc::clone(&own))),
        ("*.a.example", declared(&ours, OURS)),
    ];
    replace(
        &certificates,
        &offers,
        owners(&[("www.a.example", OURS), ("x.a.example", THEIRS)]),
    );
    assert_serves(&certificates, "www.a.example", Some(&ours));
    assert_serves(&certificates, "x.a.example", Some(&own));
    assert_serves(&certificates, "y.a.example", Some(&own));
    replace(
        &certificates,
        &offers,
        owners(&[("*", OURS), ("x.a.example", THEIRS)]),
    );
    assert_serves(&certificates, "y.a.example", Some(&ours));
}

/// In whichever order they come, and whichever way.
#[test]
fn valid_goes_before_declared_and_declared_before_what_ends_later() {
    let key = curve_key();
    let names = ["a.example"];
    let expired = declared(&between(&names, (2000, 2001), &key), OURS);
    let to_come = declared(&between(&names, (2080, 2099), &key), OURS);
    let general = Offer::general(between(&names, (2000, 2095), &key));
    let sooner = declared(&between(&names, (2000, 2090), &key), OURS);
    let later = declared(&between(&names, (2000, 2091), &key), OURS);
    let worst_first = [expired, to_come, general, sooner, later];
    let routed = || owners(&[("a.example", OURS)]);
    for (worse, better) in
        (0..5).flat_map(|worse| (worse + 1..5).map(move |better| (worse, better)))
    {
        let (worse, better) = (&worst_first[worse], &worst_first[better]);
        for order in [[worse, better], [better, worse]] {
            let offers = order.map(Offer::clone);
            let certificates = Certificates::default();
            replace(&certificates, &[], routed());
            certificates.set(&pattern("a.example"), &offers, SystemTime::now());
            assert_serves(&certificates, "a.example", Some(&better.bundle));
            replace(
                &certificates,
                &offers.map(|offer| ("a.example", offer)),
                routed(),
            );
            assert_serves(&certificates, "a.example", Some(&better.bundle));
        }
    }
}

#[test]
fn what_is_added_takes_the_place_of_no_better_one() {
    let key = curve_key();
    let (later, sooner) = (2092, 2091);
    let [later, sooner] = [later, sooner].map(|end| between(&["a.example"], (2000, end), &key));
    let certificates = Certificates::default();
    for bundle in [&later, &sooner] {
        certificates.add(bundle, SystemTime::now());
        assert_serves(&certificates, "a.example", Some(&later));
    }
}

#[test]
fn a_valid_wildcard_goes_before_an_exact_name_that_is_not() {
    let certificates = Certificates::default();
    let exact = between(&["www.a.example"], (2000, 2001), &curve_key());
    let wildcard = valid(&["*.a.example"]);
    load(&certificates, [Arc::clone(&exact)]);
    assert_serves(&certificates, "www.a.example", Some(&exact));
    load(&certificates, [exact, Arc::clone(&wildcard)]);
    assert_serves(&certificates, "www.a.example", Some(&wildcard));
}

#[test]
fn keys_of_both_kinds_stand_side_by_side_unless_one_has_expired() {
    let certificates = Certificates::default();
    let rsa = between(&["a.example"], (2000, 2090), &rsa_key());
    let curve = valid(&["a.example"]);
    load(&certificates, [Arc::clone(&rsa), Arc::clone(&curve)]);
    let count = |certificates: &Certificates| {
        let index = certificates.0.load();
        index.find("a.example").unwrap().bundles().count()
    };
    assert_eq!(count(&certificates), 2);
    let expired = between(&["a.example"], (2000, 2001), &curve_key());
    load(&certificates, [expired, Arc::clone(&rsa)]);
    assert_eq!(count(&certificates), 1);
    assert_serves(&certificates, "a.example", Some(&rsa));
}
