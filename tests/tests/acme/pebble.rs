//! The directory, and a gateway that obtains from it.

use std::{
    fs,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use anyhow::{Context as _, Result, ensure};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::{Value, json};
use tests::{
    gateway::Gateway,
    lab::{GATEWAY, Lab},
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

/// How long an order may take: some forty requests, for many of which the nonce is refused first.
const ORDER: std::time::Duration = std::time::Duration::from_secs(40);

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
    children: Vec<Child>,
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
            children: Vec::new(),
            roots,
        };
        if options.dns.is_none() {
            let arguments = format!(
                "-dns01 {DNS} -management {DNS_MANAGEMENT} -http01= -https01= -tlsalpn01= \
                 -defaultIPv4 127.0.0.1 -defaultIPv6="
            );
            let mut names = Command::new("pebble-challtestsrv");
            names.args(arguments.split_whitespace());
            pebble.run(&mut names, &directory.join("names.log"))?;
        }
        let mut server = Command::new("pebble");
        server
            .arg("-config")
            .arg(&file)
            .args(["-dnsserver", options.dns.unwrap_or(DNS)])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", "20")
            .env("PEBBLE_AUTHZREUSE", "0");
        pebble.run(&mut server, &directory.join("pebble.log"))?;
        pebble.await_port(LISTEN)?;
        if options.dns.is_none() {
            pebble.await_port(DNS_MANAGEMENT)?;
        }
        Ok(pebble)
    }

    fn run(&mut self, command: &mut Command, log: &Path) -> Result<()> {
        let log = fs::File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn();
        self.children
            .push(child.context("starting pebble: is it installed?")?);
        Ok(())
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
        json!({
            "name": "pebble",
            "url": format!("https://{LISTEN}/dir"),
            "contact": ["mailto:ops@example.com"],
            "roots": self.roots,
        })
    }
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Both fail only when it is gone already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A certificate for the directory's own server, and the authority that vouches for it.
fn certify(directory: &Path) -> Result<PathBuf> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let certificate = CertificateParams::new(names)?.signed_by(&key, &issuer)?;
    fs::write(directory.join("server.pem"), certificate.pem())?;
    fs::write(directory.join("server.key"), key.serialize_pem())?;
    let roots = directory.join("roots.pem");
    fs::write(&roots, issuer.pem())?;
    Ok(roots)
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
