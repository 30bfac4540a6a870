//! Peers in memory, and certificates for them.

use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use engine_core::classify::{ClientHello, HelloReader, Verdict};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256,
};

use rustls::{
    CipherSuite, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    SupportedCipherSuite, SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::CryptoProvider,
    pki_types::{CertificateDer, ServerName, UnixTime},
    sign::SingleCertAndKey,
    version::{TLS12, TLS13},
};

use crate::{
    Bundle, Certificates, ClientSession, Policies, Policy, Scratch, ServerSession, ServerTlsConfig,
    SessionError, Tickets, Wire,
    policy::{AcceptError, Roots},
    provider::provider,
    tickets::{Keys, Secret},
};

/// One end of a connection in memory.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) inward: VecDeque<u8>,
    pub(crate) outward: VecDeque<u8>,
    /// How many bytes may lie in `outward`.
    pub(crate) room: usize,
    /// Nothing more comes behind `inward`.
    pub(crate) cut: bool,
    /// Most bytes that one call moves.
    pub(crate) piece: usize,
}

impl Default for End {
    fn default() -> Self {
        Self {
            inward: VecDeque::new(),
            outward: VecDeque::new(),
            room: usize::MAX,
            cut: false,
            piece: usize::MAX,
        }
    }
}

impl Wire for End {
    fn recv(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.inward.is_empty() && !self.cut {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let piece = into.len().min(self.piece);
        io::Read::read(&mut self.inward, &mut into[..piece])
    }

    fn send(&mut self, from: &[u8]) -> io::Result<usize> {
        let room = self.room.saturating_sub(self.outward.len()).min(self.piece);
        if room == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = from.len().min(room);
        self.outward.extend(&from[..count]);
        Ok(count)
    }
}

/// Carries everything from one end to the other.
pub(crate) fn carry(from: &mut End, to: &mut End) {
    to.inward.append(&mut from.outward);
}

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) der: Box<[u8]>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        // Names of their own, so that one is not taken for another.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, format!("authority {number}"));
        let certificate = params.self_signed(&key).unwrap();
        Self {
            der: certificate.der().to_vec().into(),
            issuer: Issuer::new(params, key),
        }
    }

    pub(crate) fn roots(&self) -> Roots {
        [self.der.clone()].into()
    }

    /// PEM of a chain and of its key.
    pub(crate) fn pem(&self, names: &[&str], key: &KeyPair) -> (String, String) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        self.pem_of(CertificateParams::new(names).unwrap(), key)
    }

    pub(crate) fn pem_of(&self, mut params: CertificateParams, key: &KeyPair) -> (String, String) {
        params.distinguished_name.push(DnType::CommonName, "leaf");
        let leaf = params.signed_by(key, &self.issuer).unwrap();
        (leaf.pem(), key.serialize_pem())
    }

    pub(crate) fn bundle(&self, names: &[&str]) -> Arc<Bundle> {
        self.bundle_with(names, &curve_key())
    }

    pub(crate) fn bundle_with(&self, names: &[&str], key: &KeyPair) -> Arc<Bundle> {
        let (chain, key) = self.pem(names, key);
        Arc::new(Bundle::from_pem(chain.as_bytes(), key.as_bytes()).unwrap())
    }
}

pub(crate) fn curve_key() -> KeyPair {
    KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap()
}

/// An RSA key: made once, because that takes long.
pub(crate) fn rsa_key() -> KeyPair {
    static PEM: &str = include_str!("testing/rsa.pem");
    KeyPair::from_pem_and_sign_algo(PEM, &PKCS_RSA_SHA256).unwrap()
}

pub(crate) fn tickets() -> Tickets {
    Tickets::new(Keys::new(
        &Secret::random().unwrap(),
        SystemTime::UNIX_EPOCH,
    ))
}

/// Seconds from the epoch to the beginning of a year.
pub(crate) fn seconds_of(year: i32) -> u64 {
    rcgen::date_time_ymd(year, 1, 1)
        .unix_timestamp()
        .try_into()
        .unwrap()
}

/// Terms with a policy's defaults for these certificates.
pub(crate) fn terms(certificates: &Certificates, policy: &Policy) -> Arc<ServerTlsConfig> {
    let mut policies = Policies::new(certificates.clone(), tickets()).unwrap();
    policies.terms(policy).unwrap()
}

/// What a client of the tests is like.
pub(crate) struct Client {
    roots: RootCertStore,
    versions: Vec<&'static SupportedProtocolVersion>,
    protocols: Vec<Vec<u8>>,
    identity: Option<Arc<Bundle>>,
    provider: CryptoProvider,
}

impl Client {
    pub(crate) fn new(authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.der.to_vec().into()).unwrap();
        Self {
            roots,
            versions: vec![&TLS13, &TLS12],
            protocols: vec![b"http/1.1".to_vec()],
            identity: None,
            provider: (*provider()).clone(),
        }
    }

    pub(crate) fn versions(mut self, versions: &[&'static SupportedProtocolVersion]) -> Self {
        self.versions = versions.to_vec();
        self
    }

    pub(crate) fn protocols(mut self, protocols: &[&str]) -> Self {
        self.protocols = protocols
            .iter()
            .map(|name| name.as_bytes().to_vec())
            .collect();
        self
    }

    pub(crate) fn identity(mut self, bundle: &Arc<Bundle>) -> Self {
        self.identity = Some(bundle.clone());
        self
    }

    /// Leaves out all cipher suites but those that `keep`.
    pub(crate) fn suites(mut self, keep: impl Fn(&SupportedCipherSuite) -> bool) -> Self {
        self.provider.cipher_suites.retain(keep);
        self
    }

    /// Prefers these cipher suites.
    pub(crate) fn first_suites(mut self, first: &[CipherSuite]) -> Self {
        self.provider
            .cipher_suites
            .sort_by_key(|suite| !first.contains(&suite.suite()));
        self
    }

    /// A configuration that keeps sessions for as long as it lives.
    pub(crate) fn config(self) -> Arc<ClientConfig> {
        let builder = ClientConfig::builder_with_provider(Arc::new(self.provider))
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(self.roots);
        let mut config = match self.identity {
            None => builder.with_no_client_auth(),
            Some(bundle) => {
                let key = bundle.certified_key().unwrap();
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(key)))
            }
        };
        config.alpn_protocols = self.protocols;
        Arc::new(config)
    }

    pub(crate) fn connect(self, name: &'static str) -> ClientSession {
        ClientSession::connect(self.config(), name.try_into().unwrap()).unwrap()
    }
}

/// Looks at no certificate: rustls cannot read an ACME proof, and directories do not use rustls.
#[derive(Debug)]
struct Directory;

impl ServerCertVerifier for Directory {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// A client that offers `protocols` and takes any certificate, as ACME directories do.
pub(crate) fn blind(protocols: &[&[u8]]) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Directory))
        .with_no_client_auth();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

/// A client and a server with the wires between them.
pub(crate) struct Both {
    pub(crate) client: ClientSession,
    pub(crate) server: ServerSession,
    pub(crate) near: End,
    pub(crate) far: End,
    pub(crate) scratch: Scratch,
}

/// Reads the hello as the engine does.
pub(crate) fn hello_of(bytes: &[u8]) -> ClientHello {
    let verdict = HelloReader::new(64 * 1024).read(bytes);
    let Verdict::ClientHello(hello) = verdict else {
        panic!("{verdict:?}");
    };
    hello
}

impl Both {
    /// Has the client say its hello and the server accept it.
    pub(crate) fn meet(
        mut client: ClientSession,
        terms: &ServerTlsConfig,
    ) -> Result<Self, AcceptError> {
        let (mut near, far, mut scratch) = (End::default(), End::default(), Scratch::default());
        let waits = client.handshake(&mut near, &mut scratch);
        assert!(matches!(waits, Err(SessionError::WouldBlock)), "{waits:?}");
        let hello: Vec<u8> = near.outward.drain(..).collect();
        let server = terms.accept(&hello_of(&hello), &hello)?;
        Ok(Self {
            client,
            server,
            near,
            far,
            scratch,
        })
    }

    /// Goes on until both sides are done or one has failed. Answers client's and server's results.
    pub(crate) fn shake(&mut self) -> (Result<(), SessionError>, Result<(), SessionError>) {
        for _ in 0..100_000 {
            let server = self.server.handshake(&mut self.far, &mut self.scratch);
            carry(&mut self.far, &mut self.near);
            let client = self.client.handshake(&mut self.near, &mut self.scratch);
            carry(&mut self.near, &mut self.far);
            let goes_on = |result: &Result<(), SessionError>| {
                matches!(result, Ok(()) | Err(SessionError::WouldBlock))
            };
            if client.is_ok() && server.is_ok() || !goes_on(&client) || !goes_on(&server) {
                return (client, server);
            }
        }
        panic!("the handshake does not end");
    }

    /// A pair whose handshake went well.
    pub(crate) fn shaken(client: ClientSession, terms: &ServerTlsConfig) -> Self {
        let mut both = Self::meet(client, terms).unwrap();
        let (client, server) = both.shake();
        client.unwrap();
        server.unwrap();
        both
    }
}
