//! The files that a boot file and state documents name and that are read: certificates, keys, tokens
//! and programs. `check` opens each and matches what belongs together, and so does a change of the
//! desired state with those of the networks that it is about.

use std::{
    collections::BTreeSet,
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use control_api::{
    Problem, Problems, Severity,
    boot::{Boot, CertificateFiles},
    place::NetworkKey,
    state::{Desired, Network},
};
use engine_core::hostname::HostPattern;
use engine_tls::{
    Bundle,
    bundle::{BundleError, FILE_BYTES_MAX},
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};

use crate::{files::folder_of, tokens};

/// Longest file of a key for a directory or a zone.
const KEY_BYTES_MAX: u64 = 64 << 10;
/// Any of the bits that let somebody run a file.
const EXECUTABLE: u32 = 0o111;

/// What was found in the files.
#[derive(Debug, Default)]
pub(crate) struct Examined {
    pub(crate) problems: Problems,
    /// The certificates that are good.
    bundles: Vec<Bundle>,
    /// How bad it is that a file cannot be opened.
    missing: Option<Severity>,
    /// After which no more files are opened; absent for all of them.
    until: Option<Instant>,
    /// The first place that was left out for that.
    left_out: Option<String>,
}

/// Opens what a boot file names.
pub(crate) fn in_boot(boot_file: &Path, boot: &Boot) -> Examined {
    let folder = folder_of(boot_file);
    let mut examined = Examined::default();
    let files = boot.tls.files.iter().flatten().enumerate();
    let files = files.map(|(index, files)| (format!("/tls/files/{index}"), files));
    let default = boot.tls.default.iter();
    let default = default.map(|files| ("/tls/default".to_owned(), files));
    for (
        pointer,
        CertificateFiles {
            certificate, key, ..
        },
    ) in files.chain(default)
    {
        examined.pair(pointer, folder.join(certificate), folder.join(key));
    }
    for (index, directory) in boot.acme.directories.iter().flatten().enumerate() {
        let at = |key: &str| format!("/acme/directories/{index}/{key}");
        if let Some(roots) = &directory.roots {
            let looked = has_certificate(&folder.join(roots));
            examined.note(at("roots"), looked, roots);
        }
        if let Some(key) = &directory.eab_key_file {
            examined.note(at("eab_key_file"), has_text(&folder.join(key)), key);
        }
    }
    for (index, zone) in boot.acme.dns.zones.iter().flatten().enumerate() {
        let pointer = format!("/acme/dns/zones/{index}/key_file");
        let looked = has_text(&folder.join(&zone.key_file));
        examined.note(pointer, looked, &zone.key_file);
    }
    if let Some(hook) = &boot.acme.dns.hook {
        let looked = is_program(&folder.join(hook));
        examined.note("/acme/dns/hook".to_owned(), looked, hook);
    }
    if let Err(problems) = tokens::read(boot_file, &boot.api) {
        let tokens = problems.iter().cloned();
        tokens.for_each(|problem| examined.problems.push(problem));
    }
    examined
}

/// Opens what a state document names. `missing` is how bad it is that a file cannot be opened: a
/// document may be checked on another machine than the gateway's.
pub(crate) fn in_state(desired: &Desired, missing: Severity) -> Examined {
    let mut examined = Examined {
        missing: Some(missing),
        ..Examined::default()
    };
    desired
        .networks
        .values()
        .for_each(|network| examined.network(network));
    examined
}

/// What is wrong with the files that some networks name, as [`in_state`] says it. After
/// `patience` no more of them are opened.
pub(crate) fn in_networks(
    desired: &Desired,
    only: &BTreeSet<NetworkKey>,
    patience: Duration,
) -> Problems {
    let mut examined = Examined {
        until: Some(Instant::now() + patience),
        ..Examined::default()
    };
    only.iter()
        .filter_map(|port| desired.networks.get(port))
        .for_each(|network| examined.network(network));
    if let Some(pointer) = examined.left_out.take() {
        let message = format!(
            "from here on files are not looked at: the others took {} s",
            patience.as_secs()
        );
        examined.problems.push(Problem {
            pointer,
            hint: Some("`ringway check` waits for all of them".to_owned()),
            ..Problem::whole(Severity::Warning, message)
        });
    }
    examined.problems
}

/// Whether a network names files.
pub(crate) fn names_files(network: &Network) -> bool {
    network.tls.iter().any(|tls| !tls.files.is_empty())
}

impl Examined {
    /// Whether one of the good certificates is for a host; of hosts that nobody declared, whether
    /// there is any.
    pub(crate) fn is_covered(&self, host: Option<&HostPattern>) -> bool {
        let Some(host) = host else {
            return !self.bundles.is_empty();
        };
        let mut names = self.bundles.iter().flat_map(|bundle| bundle.names());
        names.any(|name| control_plan::covers(name, host))
    }

    /// Opens what a network names.
    fn network(&mut self, network: &Network) {
        let files = network.tls.iter().flat_map(|tls| tls.files.iter());
        for (index, files) in files.enumerate() {
            let pointer = format!("/{}/tls/files/{index}", network.port);
            if self.until.is_some_and(|until| Instant::now() >= until) {
                self.left_out.get_or_insert(pointer);
                return;
            }
            let (certificate, key) = (files.certificate.clone(), files.key.clone());
            let Some(bundle) = self.pair(pointer.clone(), certificate, key) else {
                continue;
            };
            let is_for = |host: &HostPattern| {
                let mut names = bundle.names().iter();
                names.any(|name| control_plan::covers(name, host))
            };
            let hosts = files.hosts.iter().enumerate();
            let others: Vec<Problem> = hosts
                .filter(|(_, host)| !is_for(host))
                .map(|(index, host)| {
                    let file = files.certificate.display();
                    let message = format!("the certificate in {file} is not for {host}");
                    Problem {
                        pointer: format!("{pointer}/hosts/{index}"),
                        ..Problem::whole(Severity::Error, message)
                    }
                })
                .collect();
            others.into_iter().for_each(|it| self.problems.push(it));
        }
    }

    /// Reads a certificate and its key, and says whether they belong together.
    fn pair(&mut self, pointer: String, certificate: PathBuf, key: PathBuf) -> Option<&Bundle> {
        let path = certificate.clone();
        let read = |path: &Path| control_files::read(path, FILE_BYTES_MAX);
        match Bundle::load(certificate, key, read) {
            Ok(bundle) => {
                if bundle.not_after() < SystemTime::now() {
                    let message = format!("the certificate in {} has expired", path.display());
                    self.problems.push(Problem {
                        pointer,
                        ..Problem::whole(Severity::Warning, message)
                    });
                }
                self.bundles.push(bundle);
                self.bundles.last()
            }
            Err(BundleError::Read { path, source }) => {
                self.note(pointer, Err::<(), _>(source), &path);
                None
            }
            Err(error @ (BundleError::Content { .. } | BundleError::Pair { .. })) => {
                let message = format!("{:#}", anyhow::Error::from(error));
                self.problems.push(Problem {
                    pointer,
                    ..Problem::whole(Severity::Error, message)
                });
                None
            }
        }
    }

    fn note<T>(&mut self, pointer: String, looked: io::Result<T>, path: &Path) {
        let Err(error) = looked else { return };
        let is_missing = error.kind() == io::ErrorKind::NotFound;
        let severity = self.missing.filter(|_| is_missing);
        let severity = severity.unwrap_or(Severity::Error);
        let message = format!("{} is of no use: {error}", path.display());
        self.problems.push(Problem {
            pointer,
            ..Problem::whole(severity, message)
        });
    }
}

fn has_certificate(path: &Path) -> io::Result<()> {
    let pem = control_files::read(path, FILE_BYTES_MAX)?;
    let mut certificates = CertificateDer::pem_slice_iter(&pem);
    match certificates.next() {
        Some(Ok(_)) => Ok(()),
        Some(Err(error)) => Err(io::Error::other(error)),
        None => Err(io::Error::other("there is no CERTIFICATE section in it")),
    }
}

fn has_text(path: &Path) -> io::Result<()> {
    let text = control_files::read_text(path, KEY_BYTES_MAX)?;
    match text.trim().is_empty() {
        true => Err(io::Error::other("it is empty")),
        false => Ok(()),
    }
}

fn is_program(path: &Path) -> io::Result<()> {
    let found = control_files::look(path)?;
    let mode = found.permissions().mode();
    match mode & EXECUTABLE {
        0 => Err(io::Error::other("it cannot be executed")),
        _ => Ok(()),
    }
}
