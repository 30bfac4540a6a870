mod order;
mod scale;

use rustls::{SignatureAlgorithm, version::TLS12};

use super::*;
use crate::{
    Policy,
    policy::{AcceptError, UnknownName},
    testing::{Authority, Both, Client, rsa_key, terms},
};

fn host(name: &str) -> Hostname {
    Hostname::parse(name.as_bytes()).unwrap()
}

/// Puts the gateway's own certificates in force, each for the names of its leaf.
fn load(certificates: &Certificates, bundles: impl IntoIterator<Item = Arc<Bundle>>) {
    let offers = bundles.into_iter().flat_map(|bundle| {
        let names = bundle.names().to_vec().into_iter();
        names.map(move |name| (name, Offer::general(Arc::clone(&bundle))))
    });
    certificates.replace(offers, Owners::default(), SystemTime::now());
}

/// Which certificate a client gets that asks for `name`.
fn shown(certificates: &Certificates, client: Client, name: &'static str) -> Vec<u8> {
    let both = Both::shaken(
        client.connect(name),
        &terms(certificates, &Policy::default()),
    );
    both.client.peer().unwrap().to_vec()
}

fn leaf(bundle: &Bundle) -> Vec<u8> {
    bundle.certified_key().unwrap().cert[0].to_vec()
}

#[test]
fn an_exact_name_goes_before_a_wildcard_which_stands_for_one_label() {
    let authority = Authority::new();
    let certificates = Certificates::default();
    let exact = authority.bundle(&["www.a.example"]);
    let wildcard = authority.bundle(&["*.a.example"]);
    load(&certificates, [exact.clone(), wildcard.clone()]);
    assert_eq!(
        shown(&certificates, Client::new(&authority), "www.a.example"),
        leaf(&exact)
    );
    assert_eq!(
        shown(&certificates, Client::new(&authority), "WWW.A.example"),
        leaf(&exact)
    );
    assert_eq!(
        shown(&certificates, Client::new(&authority), "api.a.example"),
        leaf(&wildcard)
    );
    for (name, known) in [
        ("www.a.example", true),
        ("api.a.example", true),
        ("a.example", false),
        ("x.api.a.example", false),
        ("example", false),
    ] {
        assert_eq!(certificates.has(&host(name)), known, "{name}");
    }
    assert_eq!(certificates.len(), 2);
}

#[test]
fn a_client_gets_the_kind_of_key_that_it_can_verify() {
    let authority = Authority::new();
    let certificates = Certificates::default();
    let curve = authority.bundle(&["a.example"]);
    let rsa = authority.bundle_with(&["a.example"], &rsa_key());
    load(&certificates, [rsa.clone(), curve.clone()]);
    assert_eq!(
        shown(&certificates, Client::new(&authority), "a.example"),
        leaf(&curve)
    );
    let old = Client::new(&authority).versions(&[&TLS12]).suites(|suite| {
        suite.tls13().is_none() && suite.usable_for_signature_algorithm(SignatureAlgorithm::RSA)
    });
    assert_eq!(shown(&certificates, old, "a.example"), leaf(&rsa));
}

#[test]
fn changes_are_seen_by_the_next_handshake() {
    let authority = Authority::new();
    let certificates = Certificates::default();
    let terms = terms(&certificates, &Policy::default());
    let meet = |name| Both::meet(Client::new(&authority).connect(name), &terms);
    let shown = |name| {
        Both::shaken(Client::new(&authority).connect(name), &terms)
            .client
            .peer()
            .unwrap()
            .to_vec()
    };
    assert!(matches!(meet("a.example"), Err(AcceptError::UnknownName)));

    let first = authority.bundle(&["a.example", "b.example"]);
    certificates.add(&first, SystemTime::now());
    assert_eq!(shown("a.example"), leaf(&first));
    let renewed = authority.bundle(&["a.example"]);
    certificates.add(&renewed, SystemTime::now());
    assert_eq!(shown("a.example"), leaf(&renewed));
    assert_eq!(shown("b.example"), leaf(&first));

    certificates.remove(&HostPattern::Exact(host("a.example")));
    assert!(matches!(meet("a.example"), Err(AcceptError::UnknownName)));
    assert_eq!(shown("b.example"), leaf(&first));
    load(&certificates, [renewed.clone()]);
    assert_eq!(shown("a.example"), leaf(&renewed));
    assert!(matches!(meet("b.example"), Err(AcceptError::UnknownName)));
}

#[test]
fn of_two_for_one_name_the_one_that_expires_last_is_loaded() {
    use rcgen::{CertificateParams, date_time_ymd};
    let authority = Authority::new();
    let until = |year| {
        let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
        params.not_after = date_time_ymd(year, 1, 1);
        let (chain, key) = authority.pem_of(params, &crate::testing::curve_key());
        Arc::new(Bundle::from_pem(chain.as_bytes(), key.as_bytes()).unwrap())
    };
    let (sooner, later) = (until(2090), until(2091));
    for order in [[&sooner, &later], [&later, &sooner]] {
        let certificates = Certificates::default();
        load(&certificates, order.map(Arc::clone));
        assert_eq!(
            shown(&certificates, Client::new(&authority), "a.example"),
            leaf(&later)
        );
    }
}

#[test]
fn an_unknown_name_gets_the_default_only_where_that_is_permitted() {
    let authority = Authority::new();
    let certificates = Certificates::default();
    let default = authority.bundle(&["x.example"]);
    certificates.set_default(&[default]);
    let refused = Both::meet(
        Client::new(&authority).connect("x.example"),
        &terms(&certificates, &Policy::default()),
    );
    let Err(error) = refused else {
        panic!("accepted")
    };
    assert_eq!(error.alert(), Some([21, 3, 3, 0, 2, 2, 112].as_slice()));

    let lenient = Policy {
        unknown: UnknownName::Default,
        ..Policy::default()
    };
    Both::shaken(
        Client::new(&authority).connect("x.example"),
        &terms(&certificates, &lenient),
    );
}

#[test]
fn a_connection_carries_the_names_that_its_certificate_covers() {
    let authority = Authority::new();
    let certificates = Certificates::default();
    let bundles = [&["a.example", "*.a.example"][..], &["b.example"]];
    load(&certificates, bundles.map(|names| authority.bundle(names)));
    let name = host("a.example");
    assert!(certificates.may_carry(Some(&name), &host("a.example")));
    assert!(certificates.may_carry(Some(&name), &host("www.a.example")));
    assert!(!certificates.may_carry(Some(&name), &host("b.example")));
    assert!(!certificates.may_carry(None, &host("b.example")));
}
