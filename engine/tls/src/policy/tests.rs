use std::time::SystemTime;

use rcgen::{CertificateParams, CustomExtension};
use rustls::{
    CipherSuite::{self, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256},
    ClientConfig,
    version::{TLS12, TLS13},
};

use super::*;
use crate::{
    Bundle, Cause, ClientSession, SessionError,
    peer::Peer,
    testing::{Authority, Both, Client, carry, curve_key, terms, tickets},
    tickets::{LIFETIME, Secret},
};

fn certificates(authority: &Authority) -> Certificates {
    let certificates = Certificates::default();
    certificates.add(&authority.bundle(&["a.example"]), SystemTime::now());
    certificates
}

/// What client and server say to each other under `policy`.
fn results(policy: &Policy, authority: &Authority, client: Client) -> (Both, [Option<Cause>; 2]) {
    let terms = terms(&certificates(authority), policy);
    let mut both = Both::meet(client.connect("a.example"), &terms).unwrap();
    let (client, server) = both.shake();
    let server = server.err().and_then(|error| error.cause());
    let client = match client {
        // In TLS 1.3 the client is done before the server has seen its certificate.
        Ok(()) => {
            let told = both
                .client
                .recv(&mut both.near, &mut both.scratch, &mut [0; 9]);
            told.err().and_then(|error| error.cause())
        }
        Err(error) => error.cause(),
    };
    (both, [client, server])
}

#[test]
fn the_preferred_common_protocol_is_agreed_on() {
    let authority = Authority::new();
    type Case = (Protocols, &'static [&'static str], Option<&'static [u8]>);
    let cases: [Case; 7] = [
        (Protocols::Http2, &["http/1.0"], Some(b"http/1.0")),
        (
            Protocols::Http1,
            &["http/1.0", "http/1.1"],
            Some(b"http/1.1"),
        ),
        (Protocols::Http2, &["http/1.1", "h2"], Some(b"h2")),
        (Protocols::Http2, &["http/1.1"], Some(b"http/1.1")),
        (Protocols::Http1, &["h2", "http/1.1"], Some(b"http/1.1")),
        (Protocols::Any, &["postgresql"], None),
        (Protocols::Http2, &[], None),
    ];
    for (protocols, offered, agreed) in cases {
        let policy = Policy {
            protocols,
            ..Policy::default()
        };
        let (both, _) = results(
            &policy,
            &authority,
            Client::new(&authority).protocols(offered),
        );
        assert_eq!(
            both.server.agreed().unwrap().protocol,
            agreed,
            "{protocols:?}"
        );
    }
}

#[test]
fn clients_with_nothing_in_common_are_told_what_it_is() {
    let authority = Authority::new();
    let default = Policy::default();
    let (_, causes) = results(
        &default,
        &authority,
        Client::new(&authority).protocols(&["spdy/1"]),
    );
    assert_eq!(causes, [Some(Cause::Protocol); 2]);

    let strict = Policy {
        version: MinVersion::Tls13,
        ..Policy::default()
    };
    let (_, causes) = results(
        &strict,
        &authority,
        Client::new(&authority).versions(&[&TLS12]),
    );
    assert_eq!(causes, [Some(Cause::Version); 2]);
}

#[test]
fn the_cipher_is_aes_128_unless_the_client_would_rather_have_chacha() {
    let authority = Authority::new();
    let cases: [(_, &[CipherSuite], _); 3] = [
        (
            &TLS13,
            &[TLS13_AES_256_GCM_SHA384],
            "TLS13_AES_128_GCM_SHA256",
        ),
        (
            &TLS13,
            &[TLS13_CHACHA20_POLY1305_SHA256],
            "TLS13_CHACHA20_POLY1305_SHA256",
        ),
        (&TLS12, &[], "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"),
    ];
    for (version, first, chosen) in cases {
        let client = Client::new(&authority)
            .versions(&[version])
            .first_suites(first);
        let (both, causes) = results(&Policy::default(), &authority, client);
        assert_eq!(causes, [None, None]);
        assert_eq!(both.server.agreed().unwrap().cipher, chosen);
    }
}

#[test]
fn required_client_certificates_are_verified_and_passed_on() {
    for versions in [&TLS12, &TLS13] {
        let (authority, clients) = (Authority::new(), Authority::new());
        let policy = Policy {
            clients: Clients::Required(clients.roots()),
            ..Policy::default()
        };
        let client = || Client::new(&authority).versions(&[versions]);

        let (_, causes) = results(&policy, &authority, client());
        assert_eq!(causes[1], Some(Cause::CertificateMissing));
        let stranger = Authority::new().bundle(&["c.example"]);
        let (_, causes) = results(&policy, &authority, client().identity(&stranger));
        assert_eq!(
            causes,
            [
                Some(Cause::CertificateRefused),
                Some(Cause::CertificateIssuer)
            ]
        );

        let known = clients.bundle(&["c.example"]);
        let (both, causes) = results(&policy, &authority, client().identity(&known));
        assert_eq!(causes, [None, None]);
        let peer = Peer(both.server.peer().unwrap());
        assert_eq!(peer.subject().unwrap(), "CN=leaf");
        assert_eq!(peer.sha256().len(), 64);
        let value = peer.client_cert();
        let base64 = value.trim_matches(':');
        let pem = format!("-----BEGIN CERTIFICATE-----\n{base64}\n-----END CERTIFICATE-----\n");
        let again = <CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(
            pem.as_bytes(),
        );
        assert_eq!(&again.unwrap(), peer.0);
    }
}

#[test]
fn optional_client_certificates_may_be_missing_but_not_wrong() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let policy = Policy {
        clients: Clients::Optional(clients.roots()),
        ..Policy::default()
    };
    let (both, causes) = results(&policy, &authority, Client::new(&authority));
    assert_eq!((causes, both.server.peer()), ([None, None], None));
    let stranger = Authority::new().bundle(&["c.example"]);
    let (_, causes) = results(
        &policy,
        &authority,
        Client::new(&authority).identity(&stranger),
    );
    assert_eq!(causes[1], Some(Cause::CertificateIssuer));
}

#[test]
fn equal_policies_share_their_terms_and_unused_ones_are_let_go() {
    let mut policies = Policies::new(Certificates::default(), tickets()).unwrap();
    let first = policies.terms(&Policy::default()).unwrap();
    assert!(Arc::ptr_eq(
        &first,
        &policies.terms(&Policy::default()).unwrap()
    ));
    let other = Policy {
        version: MinVersion::Tls13,
        ..Policy::default()
    };
    assert!(!Arc::ptr_eq(&first, &policies.terms(&other).unwrap()));
    let weak = Arc::downgrade(&first);
    drop(first);
    assert!(weak.upgrade().is_none());
}

#[test]
fn roots_that_are_no_certificates_are_told() {
    let mut policies = Policies::new(Certificates::default(), tickets()).unwrap();
    let mut terms = |roots: Roots| {
        let policy = Policy {
            clients: Clients::Required(roots),
            ..Policy::default()
        };
        policies.terms(&policy).map(|_| ())
    };
    let good = Authority::new().der;
    let bad = terms([good, Box::from([1, 2, 3].as_slice())].into());
    assert!(
        matches!(bad, Err(PolicyError::Root { position: 1, .. })),
        "{bad:?}"
    );
    assert!(matches!(terms([].into()), Err(PolicyError::Verifier(_))));
}

/// A proof as RFC 8737 section 3 describes it.
fn proof(authority: &Authority, name: &str) -> Arc<Bundle> {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    let mut extension = CustomExtension::from_oid_content(
        &[1, 3, 6, 1, 5, 5, 7, 1, 31],
        [[4, 32].as_slice(), &[7; 32]].concat(),
    );
    extension.set_criticality(true);
    params.custom_extensions.push(extension);
    let (chain, key) = authority.pem_of(params, &curve_key());
    Arc::new(Bundle::from_pem(chain.as_bytes(), key.as_bytes()).unwrap())
}

#[test]
fn a_proof_is_shown_to_its_protocol_and_to_no_other() {
    let authority = Authority::new();
    let certificates = certificates(&authority);
    let name = Hostname::parse(b"b.example").unwrap();
    let terms = terms(&certificates, &Policy::default());
    let acme = || {
        ClientSession::connect(
            crate::testing::blind(&[ACME_PROTOCOL]),
            "b.example".try_into().unwrap(),
        )
        .unwrap()
    };

    let early = Both::meet(acme(), &terms).map(|_| ());
    assert_eq!(
        early.unwrap_err().alert(),
        Some([21, 3, 3, 0, 2, 2, 120].as_slice())
    );
    let proof = proof(&authority, "b.example");
    certificates.set_challenge(&name, proof.clone());
    assert!(certificates.has_challenge(&name));
    let both = Both::shaken(acme(), &terms);
    assert_eq!(
        both.client.peer(),
        proof.certified_key().unwrap().cert.first()
    );
    assert_eq!(both.client.agreed().unwrap().protocol, Some(ACME_PROTOCOL));

    // Others do not get it, and a name with a proof alone is not known.
    let web = Both::meet(Client::new(&authority).connect("b.example"), &terms).map(|_| ());
    assert!(matches!(web, Err(AcceptError::UnknownName)));
    certificates.remove_challenge(&name);
    assert!(Both::meet(acme(), &terms).is_err());
}

/// Whether a session that began with one of the terms goes on with the other.
fn resumes(
    client: &Arc<ClientConfig>,
    first: &ServerTlsConfig,
    between: impl Fn(),
    second: &ServerTlsConfig,
) -> bool {
    let connect =
        || ClientSession::connect(client.clone(), "a.example".try_into().unwrap()).unwrap();
    let mut both = Both::shaken(connect(), first);
    assert!(!both.server.agreed().unwrap().resumed);
    take_tickets(&mut both);
    between();
    let again = Both::shaken(connect(), second);
    let resumed = again.server.agreed().unwrap().resumed;
    assert_eq!(again.client.agreed().unwrap().resumed, resumed);
    resumed
}

/// TLS 1.3 sends its tickets behind the handshake.
fn take_tickets(both: &mut Both) {
    carry(&mut both.far, &mut both.near);
    let ticket = both
        .client
        .recv(&mut both.near, &mut both.scratch, &mut [0; 9]);
    assert!(
        matches!(ticket, Err(SessionError::WouldBlock)),
        "{ticket:?}"
    );
}

#[test]
fn sessions_go_on_at_another_worker_until_their_key_is_two_turns_old() {
    let authority = Authority::new();
    for version in [&TLS12, &TLS13] {
        for (turns, resumed) in [(0, true), (1, true), (2, false)] {
            let tickets = tickets();
            let worker = || {
                let policies = Policies::new(certificates(&authority), tickets.clone());
                policies.unwrap().terms(&Policy::default()).unwrap()
            };
            let client = Client::new(&authority).versions(&[version]).config();
            let (first, second) = (worker(), worker());
            let between = || {
                for turn in 0..turns {
                    let later = SystemTime::UNIX_EPOCH + LIFETIME * (turn + 1);
                    let secret = Secret::random().unwrap();
                    tickets.publish(tickets.keys().rotated(&secret, later));
                }
            };
            assert_eq!(
                resumes(&client, &first, between, &second),
                resumed,
                "{version:?} {turns}"
            );
        }
    }
}

/// In 2090, when the client's certificate has expired.
fn later() -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(crate::testing::seconds_of(2090))
}

/// By rustls' own sessions, whose encoding is its own.
#[test]
fn a_session_goes_on_no_longer_than_a_day_and_its_client_is_verified_anew() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let identity = clients.bundle(&["c.example"]);
    let required = Policy {
        clients: Clients::Required(clients.roots()),
        ..Policy::default()
    };
    for version in [&TLS12, &TLS13] {
        for policy in [&required, &Policy::default()] {
            let tickets = tickets();
            let terms = |tickets| {
                let policies = Policies::new(certificates(&authority), tickets);
                policies.unwrap().terms(policy).unwrap()
            };
            // Each with no tickets yet.
            let client = || {
                let client = Client::new(&authority).versions(&[version]);
                client.identity(&identity).config()
            };
            let (now, then) = (terms(tickets.clone()), terms(tickets.by(later)));
            assert!(resumes(&client(), &now, || (), &now), "{version:?}");
            assert!(!resumes(&client(), &now, || (), &then), "{version:?}");
        }
    }
}

#[test]
fn a_session_does_not_get_around_client_certificates() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let identity = clients.bundle(&["c.example"]);
    let tickets = tickets();
    let mut policies = Policies::new(certificates(&authority), tickets).unwrap();
    let mut terms = |clients: Clients| {
        policies
            .terms(&Policy {
                clients,
                ..Policy::default()
            })
            .unwrap()
    };
    let unasked = terms(Clients::Unasked);
    let optional = terms(Clients::Optional(clients.roots()));
    let required = terms(Clients::Required(clients.roots()));
    let client = || Client::new(&authority).identity(&identity).config();
    assert!(!resumes(&client(), &unasked, || (), &required));
    assert!(!resumes(&client(), &optional, || (), &required));
    assert!(resumes(&client(), &required, || (), &required));
}
