//! What is to be had, from what is declared.

use std::{collections::BTreeMap, path::PathBuf};

use control_api::boot::{Acme, Boot, CertificateFiles, CertificateName, OwnName};

use crate::schedule::Terms;

/// Everything that there are to be certificates for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Names whose certificates are obtained, and how.
    pub names: BTreeMap<CertificateName, Terms>,
    /// Certificates in files. Their paths begin at `folder`.
    pub files: Vec<WantedFiles>,
    /// What is served where nothing else is.
    pub default: Option<CertificateFiles>,
    /// The boot file's folder.
    pub folder: PathBuf,
}

/// A certificate in files, and whose it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedFiles {
    /// The port of the network that it is for; none for the gateway's own.
    pub network: Option<u16>,
    /// Where it is.
    pub files: CertificateFiles,
}

impl Wants {
    /// What a boot file says.
    pub fn of_boot(boot: &Boot, folder: PathBuf) -> Self {
        let own = boot.acme.names.iter().flatten();
        let names = own.filter_map(|own| Some((own.name.clone(), terms(&boot.acme, own)?)));
        let files = boot.tls.files.iter().flatten();
        Self {
            names: names.collect(),
            files: files
                .map(|files| WantedFiles {
                    network: None,
                    files: files.clone(),
                })
                .collect(),
            default: boot.tls.default.clone(),
            folder,
        }
    }
}

/// The boot file was checked, so that every name of its own has a directory.
fn terms(acme: &Acme, own: &OwnName) -> Option<Terms> {
    Some(Terms {
        network: None,
        directory: acme.directory(own.directory.as_ref())?.name.clone(),
        challenge: acme.challenge(&own.name, own.challenge),
        on_demand: false,
    })
}
