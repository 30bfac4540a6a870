use rcgen::{CertificateParams, date_time_ymd};

use super::*;
use crate::{
    Cause, Certificates, Policy, ServerTlsConfig, SessionError,
    peer::Peer,
    policy::{Clients, Protocols},
    testing::{Authority, Both, carry, curve_key, terms},
};

fn serving(bundle: &Arc<Bundle>, policy: &Policy) -> Arc<ServerTlsConfig> {
    let certificates = Certificates::default();
    certificates.add(bundle, std::time::SystemTime::now());
    terms(&certificates, policy)
}

fn trusting(trust: Trust) -> Origin {
    Origin::new(&Settings {
        trust,
        ..Settings::default()
    })
    .unwrap()
}

/// What the gateway and the origin make of each other.
fn causes(origin: &Origin, terms: &ServerTlsConfig) -> [Option<Cause>; 2] {
    let mut both = Both::meet(origin.connect("a.example").unwrap(), terms).unwrap();
    let (client, server) = both.shake();
    // One more turn, for the alert.
    carry(&mut both.near, &mut both.far);
    let server = match server {
        Err(SessionError::WouldBlock) => both.server.handshake(&mut both.far, &mut both.scratch),
        other => other,
    };
    [client, server].map(|result| result.err().and_then(|error| error.cause()))
}

#[test]
fn an_origin_is_believed_if_its_own_authority_vouches_for_its_name() {
    let authority = Authority::new();
    let terms = serving(&authority.bundle(&["a.example"]), &Policy::default());
    let own = trusting(Trust::Own(authority.roots()));
    assert_eq!(causes(&own, &terms), [None, None]);
}

#[test]
fn an_origin_that_cannot_be_believed_is_refused_with_the_reason() {
    let authority = Authority::new();
    let good = serving(&authority.bundle(&["a.example"]), &Policy::default());
    let expected = [
        Some(Cause::CertificateIssuer),
        Some(Cause::CertificateRefused),
    ];
    assert_eq!(causes(&trusting(Trust::Public), &good), expected);
    let other = trusting(Trust::Own(Authority::new().roots()));
    assert_eq!(causes(&other, &good), expected);

    let own = trusting(Trust::Own(authority.roots()));
    let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
    params.not_after = date_time_ymd(2020, 1, 1);
    let (chain, key) = authority.pem_of(params, &curve_key());
    let old = Arc::new(Bundle::from_pem(chain.as_bytes(), key.as_bytes()).unwrap());
    let found = causes(&own, &serving(&old, &Policy::default()));
    assert_eq!(
        found,
        [
            Some(Cause::CertificateExpired),
            Some(Cause::CertificateRefused)
        ]
    );

    let elsewhere = Certificates::default();
    elsewhere.set_default(&[authority.bundle(&["b.example"])]);
    let lenient = Policy {
        unknown: crate::policy::UnknownName::Default,
        ..Policy::default()
    };
    let found = causes(&own, &terms(&elsewhere, &lenient));
    assert_eq!(
        found,
        [
            Some(Cause::CertificateName),
            Some(Cause::CertificateRefused)
        ]
    );
}

#[test]
fn whoever_answers_is_believed_where_that_is_asked_for() {
    let terms = serving(&Authority::new().bundle(&["a.example"]), &Policy::default());
    assert_eq!(causes(&trusting(Trust::Anyone), &terms), [None, None]);
    assert!(matches!(Trust::default(), Trust::Public));
}

#[test]
fn the_gateways_own_certificate_is_shown_when_asked_for() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let policy = Policy {
        clients: Clients::Required(clients.roots()),
        ..Policy::default()
    };
    let terms = serving(&authority.bundle(&["a.example"]), &policy);
    let settings = Settings {
        trust: Trust::Own(authority.roots()),
        identity: Some(clients.bundle(&["gateway.example"])),
        ..Settings::default()
    };
    let origin = Origin::new(&settings).unwrap();
    let both = Both::shaken(origin.connect("a.example").unwrap(), &terms);
    assert_eq!(
        Peer(both.server.peer().unwrap()).subject().unwrap(),
        "CN=leaf"
    );
}

#[test]
fn http2_is_agreed_on_where_both_speak_it() {
    let authority = Authority::new();
    for (protocols, agreed) in [
        (Protocols::Http2, b"h2".as_slice()),
        (Protocols::Http1, b"http/1.1"),
    ] {
        let policy = Policy {
            protocols,
            ..Policy::default()
        };
        let settings = Settings {
            trust: Trust::Own(authority.roots()),
            speaks: Speaks::Http2,
            ..Settings::default()
        };
        let origin = Origin::new(&settings).unwrap();
        let terms = serving(&authority.bundle(&["a.example"]), &policy);
        let both = Both::shaken(origin.connect("a.example").unwrap(), &terms);
        assert_eq!(both.client.agreed().unwrap().protocol, Some(agreed));
    }
}

#[test]
fn a_worker_resumes_its_own_sessions_and_no_other_workers() {
    let authority = Authority::new();
    let terms = serving(&authority.bundle(&["a.example"]), &Policy::default());
    let origin = trusting(Trust::Own(authority.roots()));
    let other = origin.for_worker();
    let mut both = Both::shaken(origin.connect("a.example").unwrap(), &terms);
    carry(&mut both.far, &mut both.near);
    let ticket = both
        .client
        .recv(&mut both.near, &mut both.scratch, &mut [0; 9]);
    assert!(matches!(ticket, Err(SessionError::WouldBlock)));
    for (worker, resumed) in [(&origin, true), (&other, false)] {
        let both = Both::shaken(worker.connect("a.example").unwrap(), &terms);
        assert_eq!(both.client.agreed().unwrap().resumed, resumed);
    }
}

#[test]
fn settings_that_cannot_work_are_refused() {
    let new = |trust| {
        Origin::new(&Settings {
            trust,
            ..Settings::default()
        })
    };
    assert!(matches!(
        new(Trust::Own([].into())),
        Err(OriginError::NoRoots)
    ));
    let bad = new(Trust::Own([Box::from([0].as_slice())].into()));
    assert!(matches!(bad, Err(OriginError::Root { position: 0, .. })));
    let name = trusting(Trust::Public).connect("not a name");
    assert!(matches!(name, Err(ConnectError::Name(_))));
}

#[test]
fn an_address_is_an_origins_name_too() {
    trusting(Trust::Public).connect("10.0.0.1").unwrap();
    trusting(Trust::Public).connect("2001:db8::1").unwrap();
}
