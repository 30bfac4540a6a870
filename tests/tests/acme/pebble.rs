//! The directory, and a gateway that obtains from it.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};
use tests::{
    gateway::Gateway,
    lab::{GATEWAY, Lab},
    tool::Tool,
    wait::{eventually, within},
};

/// Where clients of HTTP, and the directory, come in.
pub(crate) const HTTP: &str = "127.0.0.1:8081";
/// Where the directory is.
const LISTEN: &str = "127.0.0.1:14000";
const MANAGEMENT: &str = "127.0.0.1:15000";
/// Where its challenge server answers DNS, and takes what it is to answer.
const DNS: &str = "127.0.0.1:8053";
const DNS_MANAGEMENT: &str = "127.0.0.1:8055";

/// What a tenant's server answers everything with: status 200 and `tenant`.
pub(crate) const TENANT: &str =
    "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\ntenant";

/// How long an order may take: some forty requests, for many of which the nonce is refused first.
const ORDER: std::time::Duration = std::time::Duration::from_secs(60);

/// A key for external account binding, as Pebble's own example has it.
pub(crate) const EAB: (&str, &str) = (
    "kid-1",
    "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W",
);

/// How a directory is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Whether it wants accounts to be bound.
    pub(crate) is_binding: bool,
    /// For how many seconds its certificates are good.
    pub(crate) lifetime_s: u64,
    /// Who answers its questions about names; its challenge server without.
    pub(crate) dns: Option<&'static str>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            is_binding: false,
            lifetime_s: 90 * 86_400,
            dns: None,
        }
    }
}

/// A running directory. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Pebble {
    children: Children,
    directory: PathBuf,
    /// What its server is verified by.
    pub(crate) roots: PathBuf,
}

impl Pebble {
    /// Starts one, and waits until it answers.
    pub(crate) fn start(lab: &Lab, options: Options) -> Result<Self> {
        let directory = lab.directory().join("pebble");
        fs::create_dir_all(&directory)?;
        let roots = certify(&directory)?;
        let config = json!({ "pebble": {
            "listenAddress": LISTEN,
            "managementListenAddress": MANAGEMENT,
            "certificate": directory.join("server.pem"),
            "privateKey": directory.join("server.key"),
            "httpPort": 8081,
            "tlsPort": GATEWAY.port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": options.is_binding,
            "externalAccountMACKeys": { EAB.0: EAB.1 },
            "certificateValidityPeriod": options.lifetime_s,
        }});
        let file = directory.join("config.json");
        fs::write(&file, config.to_string())?;
        let mut pebble = Self {
            children: Children::default(),
            directory: directory.clone(),
            roots,
        };
        if options.dns.is_none() {
            let arguments = format!(
                "-dns01 {DNS} -management {DNS_MANAGEMENT} -http01= -https01= -tlsalpn01= \
                 -defaultIPv4 127.0.0.1 -defaultIPv6="
            );
            let mut names = Command::new("pebble-challtestsrv");
            names.args(arguments.split_whitespace());
            pebble
                .children
                .run(&mut names, &directory.join("names.log"))?;
        }
        let mut server = Command::new("pebble");
        server
            .arg("-config")
            .arg(&file)
            .args(["-dnsserver", options.dns.unwrap_or(DNS)])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", "20")
            .env("PEBBLE_AUTHZREUSE", "0");
        pebble
            .children
            .run(&mut server, &directory.join("pebble.log"))?;
        pebble.await_port(LISTEN)?;
        if options.dns.is_none() {
            pebble.await_port(DNS_MANAGEMENT)?;
        }
        Ok(pebble)
    }

    fn await_port(&self, address: &str) -> Result<()> {
        let address: SocketAddr = address.parse()?;
        eventually(&format!("{address} answers"), || {
            TcpStream::connect(address).ok()
        })?;
        Ok(())
    }

    /// What a boot file says of it.
    pub(crate) fn declared(&self) -> Value {
        self.declared_at(LISTEN)
    }

    /// [`Pebble::declared`], as it is reached elsewhere.
    pub(crate) fn declared_at(&self, address: &str) -> Value {
        json!({
            "name": "pebble",
            "url": format!("https://{address}/dir"),
            "contact": ["mailto:ops@example.com"],
            "roots": self.roots,
        })
    }

    /// The file with the certificate that vouches for what it issues.
    pub(crate) fn root(&self, lab: &Lab) -> Result<PathBuf> {
        let roots = self.roots.display();
        let url = format!("https://{MANAGEMENT}/roots/0");
        let pem = Tool::new("curl", &format!("-sS --fail --cacert {roots} {url}")).run()?;
        let file = lab.directory().join("issued-by.pem");
        fs::write(&file, pem)?;
        Ok(file)
    }

    /// How its own server is configured.
    pub(crate) fn server_config(&self) -> Result<Arc<ServerConfig>> {
        let chain = CertificateDer::from_pem_file(self.directory.join("server.pem"))?;
        let key = PrivateKeyDer::from_pem_file(self.directory.join("server.key"))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![chain], key)?;
        Ok(Arc::new(config))
    }

    /// How its clients are configured.
    pub(crate) fn client_config(&self) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(&self.roots)?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(config))
    }
}

/// Programs that end when dropped.
#[derive(Debug, Default)]
pub(crate) struct Children(Vec<Child>);

impl Children {
    /// Starts one more, which writes to a log.
    pub(crate) fn run(&mut self, command: &mut Command, log: &Path) -> Result<()> {
        let log = fs::File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn();
        let program = command.get_program().display();
        let child = child.with_context(|| format!("starting {program}: is it installed?"));
        self.0.push(child?);
        Ok(())
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // Both fail only when it is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A certificate for the directory's own server, and the authority that vouches for it.
fn certify(directory: &Path) -> Result<PathBuf> {
    let issuer = authority()?;
    let key = KeyPair::generate()?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
    fs::write(directory.join("server.pem"), certificate.pem())?;
    fs::write(directory.join("server.key"), key.serialize_pem())?;
    let roots = directory.join("roots.pem");
    fs::write(&roots, issuer.pem())?;
    Ok(roots)
}

/// An authority. Its name is its own: by what rcgen writes otherwise, everything that it signs looks
/// as if it had signed itself.
pub(crate) fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let name = &mut parameters.distinguished_name;
    name.push(DnType::CommonName, "the lab's authority");
    Ok(CertifiedIssuer::self_signed(
        parameters,
        KeyPair::generate()?,
    )?)
}

/// A certificate for one name, that vouches for itself, and its key.
pub(crate) fn self_signed(name: &str) -> Result<(String, String)> {
    let key = KeyPair::generate()?;
    let certificate = CertificateParams::new(vec![name.to_owned()])?.self_signed(&key)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// A boot file with a listener for HTTP, one for TLS, and these keys of `acme`.
pub(crate) fn boot(acme: Value) -> Value {
    json!({
        "listeners": [
            { "name": "http", "bind": HTTP, "protocol": "http" },
            { "name": "https", "bind": GATEWAY, "protocol": "https" },
        ],
        "acme": acme,
    })
}

/// Waits until a certificate is like that, and answers what is shown of it.
pub(crate) fn await_certificate(
    gateway: &Arc<Gateway>,
    name: &str,
    like: impl Fn(&Value) -> bool,
) -> Result<Value> {
    let mut last = Value::Null;
    let found = within(ORDER, &format!("the certificate of {name}"), || {
        let shown = gateway.api().get("/api/v1/certificates").ok()?;
        let certificates = shown["certificates"].as_array()?.iter();
        let certificate = certificates.clone().find(|it| it["name"] == name)?;
        last = certificate.clone();
        like(certificate).then(|| certificate.clone())
    });
    found.with_context(|| format!("it is {last}"))
}

/// Asks the gateway for `/` by TLS as a client that believes these roots alone: the status and the
/// body.
pub(crate) fn fetch(roots: &Path, host: &str) -> Result<String> {
    let port = GATEWAY.port();
    let arguments = format!(
        "-sS --http1.1 --max-time 10 --cacert {} --resolve {host}:{port}:127.0.0.1 -w \\n%{{http_code}} \
         https://{host}:{port}/",
        roots.display()
    );
    let said = Tool::new("curl", &arguments).run()?;
    let (body, status) = said.rsplit_once('\n').context("no status")?;
    Ok(format!("{status} {}", body.trim()))
}

/// Waits until [`fetch`] answers exactly that.
pub(crate) fn await_answer(roots: &Path, host: &str, answer: &str) -> Result<()> {
    let mut last = String::new();
    let found = eventually(&format!("{host} answers {answer:?}"), || {
        last = fetch(roots, host).unwrap_or_else(|error| format!("{error:#}"));
        (last == answer).then_some(())
    });
    found.with_context(|| format!("it said {last:?}"))
}

/// Whether a certificate is served and all is well.
pub(crate) fn is_ok(certificate: &Value) -> bool {
    certificate["state"] == "ok"
}

/// There, and its renewal is planned, which is said a moment later.
pub(crate) fn is_planned(certificate: &Value) -> bool {
    is_ok(certificate) && certificate["due"].is_u64()
}

/// Makes sure that nothing that looks like a key is anywhere that it should not be.
pub(crate) fn no_key_is_shown(gateway: &Arc<Gateway>) -> Result<()> {
    let shown = gateway.api().get("/api/v1/certificates")?.to_string();
    let log = gateway.log()?;
    let log: Vec<String> = log.iter().map(ToString::to_string).collect();
    for text in log.iter().chain([&shown]) {
        ensure!(!text.contains("PRIVATE KEY"), "{text}");
        ensure!(!text.contains("key_pkcs8"), "{text}");
        ensure!(!text.contains(EAB.1), "{text}");
    }
    Ok(())
}
