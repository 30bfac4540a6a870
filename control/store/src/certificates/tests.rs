use super::*;
use crate::lab::Lab;

fn certificate(name: &str, intermediates: &[u8]) -> StoredCertificate {
    StoredCertificate {
        name: name.to_owned(),
        network: Some(51820),
        directory: "https://acme.test/directory".to_owned(),
        on_demand: name.starts_with('*'),
        issuer: "CN=Test".to_owned(),
        not_before: 10,
        not_after: 20,
        leaf: vec![1, 2, 3],
        intermediates: intermediates.into(),
        key: Zeroizing::new(b"a very secret key".to_vec()),
    }
}

#[test]
fn a_certificate_is_there_after_a_restart_and_replaced_by_a_newer_one() {
    let lab = Lab::new();
    let first = certificate("a.example", b"one");
    let other = certificate("*.b.example", b"one");
    for certificate in [&first, &other] {
        lab.store
            .certificates()
            .put(certificate.clone())
            .wait()
            .unwrap();
    }
    let lab = lab.restart();
    assert_eq!(
        lab.store.certificates().all().wait().unwrap(),
        [other.clone(), first]
    );
    let renewed = StoredCertificate {
        not_after: 30,
        network: None,
        ..certificate("a.example", b"two")
    };
    lab.store
        .certificates()
        .put(renewed.clone())
        .wait()
        .unwrap();
    assert_eq!(
        lab.store.certificates().all().wait().unwrap(),
        [other, renewed.clone()]
    );
    lab.store
        .certificates()
        .remove("*.b.example".to_owned())
        .wait()
        .unwrap();
    assert_eq!(lab.store.certificates().all().wait().unwrap(), [renewed]);
}

#[test]
fn chains_are_kept_once_and_for_as_long_as_they_are_used() {
    let lab = Lab::new();
    for name in ["a.example", "b.example", "c.example"] {
        let stored = lab.store.certificates().put(certificate(name, b"one"));
        stored.wait().unwrap();
    }
    assert_eq!(lab.count("chains"), 1);
    let read = lab.store.certificates().all().wait().unwrap();
    assert!(Arc::ptr_eq(&read[0].intermediates, &read[2].intermediates));
    for name in ["a.example", "b.example", "c.example"] {
        let stored = lab.store.certificates().put(certificate(name, b"two"));
        stored.wait().unwrap();
    }
    assert_eq!(lab.count("chains"), 1);
}

#[test]
fn no_debug_output_shows_a_key() {
    let shown = format!("{:?}", certificate("a.example", b""));
    assert!(!shown.contains("97"), "{shown}");
    assert!(shown.contains("a.example"));
}

#[test]
fn accounts_are_kept_by_directory() {
    let lab = Lab::new();
    let account = |lab: &Lab, directory: &str| {
        let read = lab.store.certificates().acme_account(directory.to_owned());
        read.wait().unwrap().map(|account| account.to_string())
    };
    assert_eq!(account(&lab, "https://one"), None);
    for (directory, text) in [
        ("https://one", "1"),
        ("https://two", "2"),
        ("https://one", "3"),
    ] {
        let put = lab
            .store
            .certificates()
            .put_acme_account(directory.to_owned(), Zeroizing::new(text.to_owned()));
        put.wait().unwrap();
    }
    let lab = lab.restart();
    assert_eq!(account(&lab, "https://one").as_deref(), Some("3"));
    assert_eq!(account(&lab, "https://two").as_deref(), Some("2"));
    let removed = lab
        .store
        .certificates()
        .remove_acme_account("https://one".to_owned());
    removed.wait().unwrap();
    assert_eq!(account(&lab, "https://one"), None);
}

#[test]
fn a_failure_is_forgotten_when_there_is_a_certificate() {
    let lab = Lab::new();
    let failure = |name: &str, failures| StoredFailure {
        name: name.to_owned(),
        failures,
        retry_at: 77,
        reason: "no such host".to_owned(),
    };
    for stored in [
        failure("a.example", 1),
        failure("b.example", 1),
        failure("a.example", 2),
    ] {
        lab.store
            .certificates()
            .put_acme_failure(stored)
            .wait()
            .unwrap();
    }
    assert_eq!(
        lab.store.certificates().acme_failures().wait().unwrap(),
        [failure("a.example", 2), failure("b.example", 1)]
    );
    let stored = lab.store.certificates().put(certificate("a.example", b""));
    stored.wait().unwrap();
    let removed = lab
        .store
        .certificates()
        .remove_acme_failure("b.example".to_owned());
    removed.wait().unwrap();
    assert_eq!(lab.store.certificates().acme_failures().wait().unwrap(), []);
}

#[test]
fn orders_of_late_are_told_in_order() {
    let lab = Lab::new();
    let order = |time, network| StoredOrder {
        time,
        directory: "https://one".to_owned(),
        network,
    };
    for order in [order(5, None), order(7, Some(1)), order(9, None)] {
        lab.store
            .certificates()
            .note_acme_order(order)
            .wait()
            .unwrap();
    }
    assert_eq!(
        lab.store
            .certificates()
            .acme_orders_after(5)
            .wait()
            .unwrap(),
        [order(7, Some(1)), order(9, None)]
    );
}
