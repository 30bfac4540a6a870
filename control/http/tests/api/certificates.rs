//! The list of certificates: whole, in part, page by page.

use std::sync::Arc;

use control_api::answer::{CertificateState, CertificateStatus, CertificatesView};

use crate::gateway::{Gateway, Wanted};

/// Fifty of them: every other one is a network's, every fifth one failed.
fn view() -> CertificatesView {
    let certificates = (0..50).map(|n| CertificateStatus {
        name: format!("n{n:02}.example"),
        network: (n % 2 == 0).then_some(51820),
        state: if n % 5 == 0 {
            CertificateState::Failed
        } else {
            CertificateState::Ok
        },
        source: "one".to_owned(),
        not_after: Some(1_900_000_000),
        ..CertificateStatus::default()
    });
    CertificatesView {
        certificates: certificates.collect(),
        ..CertificatesView::default()
    }
}

async fn names(gateway: &Gateway, query: &str) -> (u64, Vec<String>) {
    let answer = gateway.get(&format!("/api/v1/certificates{query}")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    let names = answer["certificates"].as_array().unwrap().iter();
    let names = names.map(|it| it["name"].as_str().unwrap().to_owned());
    (answer["total"].as_u64().unwrap(), names.collect())
}

#[tokio::test]
async fn certificates_are_found_by_any_of_their_names_and_by_their_file() {
    let gateway = Gateway::start(Wanted::default()).await;
    let certificate = |name: &str, names: &[&str], source: &str| CertificateStatus {
        name: name.to_owned(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        source: source.to_owned(),
        ..CertificateStatus::default()
    };
    gateway
        .certificates
        .send_replace(Arc::new(CertificatesView {
            certificates: vec![
                certificate("", &[], "/etc/c.pem"),
                certificate("*.b.example", &["*.b.example", "b.example"], "one"),
                certificate("a.example", &[], "one"),
            ],
            ..CertificatesView::default()
        }));
    for (asked, found) in [
        ("a.example", "a.example"),
        ("B.example", "*.b.example"),
        ("x.b.example", "*.b.example"),
        ("*.b.example", "*.b.example"),
        ("/etc/c.pem", ""),
    ] {
        let found = (1, vec![found.to_owned()]);
        assert_eq!(
            names(&gateway, &format!("?name={asked}")).await,
            found,
            "{asked}"
        );
    }
    for asked in ["example", "y.x.b.example", "*.a.example"] {
        let none = (0, Vec::new());
        assert_eq!(
            names(&gateway, &format!("?name={asked}")).await,
            none,
            "{asked}"
        );
    }
}

#[tokio::test]
async fn certificates_are_listed_whole_in_part_and_page_by_page() {
    let gateway = Gateway::start(Wanted::default()).await;
    assert_eq!(names(&gateway, "").await, (0, Vec::new()));
    gateway.certificates.send_replace(Arc::new(view()));
    let (total, all) = names(&gateway, "").await;
    assert_eq!((total, all.len()), (50, 50));
    let (total, some) = names(&gateway, "?network=51820&state=failed").await;
    assert_eq!(
        (total, some.join(" ").as_str()),
        (
            5,
            "n00.example n10.example n20.example n30.example n40.example"
        )
    );
    let mut paged = Vec::new();
    let mut after = String::new();
    loop {
        let (total, page) = names(&gateway, &format!("?limit=7&after={after}")).await;
        assert_eq!(total, 50);
        let Some(last) = page.last() else { break };
        after.clone_from(last);
        paged.extend(page);
    }
    assert_eq!(paged, all);
    let wrong = gateway.get("/api/v1/certificates?state=good").await;
    assert_eq!(wrong.status, 400);
}
