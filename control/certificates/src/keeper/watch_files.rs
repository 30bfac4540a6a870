//! The files that are looked at.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use control_api::answer::Happening;
use engine_core::hostname::HostPattern;
use engine_tls::Bundle;

use super::Keeper;
use crate::{
    clock,
    files::{Found, Pair},
    wants::{WantedFiles, Wants},
};

/// All pairs of files, and the default's.
#[derive(Debug, Default)]
pub(super) struct WatchedFiles {
    pairs: Vec<(WantedFiles, Pair)>,
    default: Option<Pair>,
}

impl WatchedFiles {
    /// Looks at these from now on. What stays keeps its certificate.
    pub(super) fn set(&mut self, wants: &Wants) {
        let named = std::mem::take(&mut self.pairs)
            .into_iter()
            .map(|(_, pair)| pair);
        let mut before: HashMap<(PathBuf, PathBuf), Pair> = named
            .chain(self.default.take())
            .map(|pair| (pair.paths(), pair))
            .collect();
        let mut take = |files: &WantedFiles| {
            let known = before.remove(&(files.certificate.clone(), files.key.clone()));
            known.unwrap_or_else(|| Pair::new(files))
        };
        self.pairs = wants
            .files
            .iter()
            .map(|files| (files.clone(), take(files)))
            .collect();
        self.default = wants.default.as_ref().map(take);
    }

    /// The good certificates for names.
    pub(super) fn bundles(&self) -> impl Iterator<Item = &Arc<Bundle>> {
        self.pairs.iter().filter_map(|(_, pair)| pair.bundle())
    }

    /// The default, if it is good.
    pub(super) fn default_bundle(&self) -> Option<&Arc<Bundle>> {
        self.default.as_ref()?.bundle()
    }

    /// All pairs with whose they are.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (Option<u16>, &Pair)> {
        let named = self.pairs.iter().map(|(files, pair)| (files.network, pair));
        named.chain(self.default.iter().map(|pair| (None, pair)))
    }

    /// Hosts that a good certificate is declared for and is not for.
    pub(super) fn uncovered(&self) -> impl Iterator<Item = (&WantedFiles, &HostPattern)> {
        let good = self
            .pairs
            .iter()
            .filter(|(_, pair)| pair.bundle().is_some());
        good.flat_map(|(files, pair)| {
            let hosts = files.hosts.iter().filter(|host| !pair.covers(host));
            hosts.map(move |host| (files, host))
        })
    }

    /// Looks at all of them. What was found in those that changed.
    fn look(&mut self) -> Vec<Happening> {
        let named = self.pairs.iter_mut().map(|(_, pair)| pair);
        let all = named.chain(&mut self.default);
        all.filter_map(|pair| {
            let file = pair.path().display().to_string();
            match pair.look() {
                Found::Same => None,
                Found::Changed => {
                    let bundle = pair.bundle()?;
                    Some(Happening::CertificateLoaded {
                        file,
                        names: bundle.names().iter().map(ToString::to_string).collect(),
                        not_after: clock::since_epoch(bundle.not_after()).as_secs(),
                    })
                }
                Found::Broken(reason) => Some(Happening::CertificateRefused { file, reason }),
            }
        })
        .collect()
    }
}

impl Keeper {
    /// Looks at the files and puts in force what changed.
    pub(super) fn look_at_files(&mut self) {
        let found = self.files.look();
        if found.is_empty() {
            return;
        }
        self.is_stale = true;
        self.enforce();
        for happening in found {
            if let Happening::CertificateLoaded { file, names, .. } = &happening {
                tracing::info!(file, ?names, "a certificate was loaded");
            }
            if let Happening::CertificateRefused { file, reason } = &happening {
                tracing::error!(
                    file,
                    reason,
                    "a certificate's file is refused, what was before stays"
                );
            }
            self.tell(happening);
        }
    }
}
