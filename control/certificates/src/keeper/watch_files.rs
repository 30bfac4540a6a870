//! The files that are looked at.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use control_api::answer::Happening;
use control_files::DEADLINE;
use engine_core::{hostname::HostPattern, ids::NetworkId};
use engine_tls::{Bundle, certificates::Offer};
use tokio::task::{JoinError, spawn_blocking};

use super::Keeper;
use crate::{
    clock,
    files::{Found, Look, Looked, Pair},
    wants::{WantedFiles, Wants},
};

/// Pairs of files that are looked at at the same time.
pub(super) const LOOKS_MAX: usize = 16;
/// How long a start waits for all files. What has not answered by then is looked at again afterwards.
const START_DEADLINE: Duration = Duration::from_secs(5);

/// All pairs of files, and the default's.
#[derive(Debug, Default)]
pub(super) struct WatchedFiles {
    pairs: Vec<Watched>,
    default: Option<Watched>,
    /// What the good ones are offered for.
    offers: HashMap<HostPattern, Vec<Offer>>,
    next: u64,
}

#[derive(Debug)]
struct Watched {
    /// Never given twice, so that a look knows its pair.
    id: u64,
    files: WantedFiles,
    pair: Pair,
    is_looked_at: bool,
}

/// What came of looks.
#[derive(Debug, Default)]
pub(super) struct News {
    happenings: Vec<Happening>,
    /// Hosts whose certificates may be others now.
    hosts: Vec<HostPattern>,
    is_default: bool,
}

impl WatchedFiles {
    /// Looks at these from now on. What stays keeps its certificate.
    pub(super) fn set(&mut self, wants: &Wants) {
        let before = std::mem::take(&mut self.pairs).into_iter();
        let mut before: HashMap<(PathBuf, PathBuf), Watched> = before
            .chain(self.default.take())
            .map(|watched| (watched.pair.paths(), watched))
            .collect();
        let next = &mut self.next;
        let mut take = |files: &WantedFiles| {
            let known = before.remove(&(files.certificate.clone(), files.key.clone()));
            let mut watched = known.unwrap_or_else(|| {
                *next += 1;
                Watched {
                    id: *next,
                    files: files.clone(),
                    pair: Pair::new(files),
                    is_looked_at: false,
                }
            });
            watched.files = files.clone();
            watched
        };
        self.pairs = wants.files.iter().map(&mut take).collect();
        self.default = wants.default.as_ref().map(take);
        self.gather();
    }

    /// What is offered for every host.
    pub(super) fn offers(&self) -> impl Iterator<Item = (&HostPattern, &Offer)> {
        let hosts = self.offers.iter();
        hosts.flat_map(|(host, offers)| offers.iter().map(move |offer| (host, offer)))
    }

    /// What is offered for a host.
    pub(super) fn offers_for(&self, host: &HostPattern) -> &[Offer] {
        self.offers.get(host).map_or(&[], Vec::as_slice)
    }

    /// The default, if it is good.
    pub(super) fn default_bundle(&self) -> Option<&Arc<Bundle>> {
        self.default.as_ref()?.pair.bundle()
    }

    /// All pairs with whose they are and what they are offered for; the default is for nothing.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (Option<u16>, &Pair, Vec<HostPattern>)> {
        let named = self.pairs.iter();
        let named = named.map(|watched| (watched.files.network, &watched.pair, watched.hosts()));
        let default = self.default.iter();
        named.chain(default.map(|watched| (None, &watched.pair, Vec::new())))
    }

    /// Hosts that a good certificate is declared for and is not for.
    pub(super) fn uncovered(&self) -> impl Iterator<Item = (&WantedFiles, &HostPattern)> {
        let good = self.pairs.iter();
        let good = good.filter(|watched| watched.pair.bundle().is_some());
        good.flat_map(|Watched { files, pair, .. }| {
            let hosts = files.hosts.iter().filter(|host| !pair.covers(host));
            hosts.map(move |host| (files, host))
        })
    }

    /// Looks at every pair that no look is under way at.
    fn looks(&mut self) -> Vec<(u64, Look)> {
        let due = self.all().filter(|watched| !watched.is_looked_at);
        due.map(|watched| {
            watched.is_looked_at = true;
            (watched.id, watched.pair.look())
        })
        .collect()
    }

    /// Takes what looks found. Those of pairs that are gone are passed over.
    fn take(&mut self, looked: impl IntoIterator<Item = (u64, Looked)>) -> News {
        let mut news = News::default();
        let mut looked: HashMap<u64, Looked> = looked.into_iter().collect();
        let default = self.default.as_ref().map(|watched| watched.id);
        for watched in self.all() {
            let Some(looked) = looked.remove(&watched.id) else {
                continue;
            };
            watched.is_looked_at = false;
            let before = watched.hosts();
            let file = watched.pair.path().display().to_string();
            match (watched.pair.take(looked), watched.pair.bundle()) {
                (Found::Same, _) | (Found::Changed, None) => {}
                (Found::Changed, Some(bundle)) => {
                    news.happenings.push(Happening::CertificateLoaded {
                        file,
                        names: bundle.names().iter().map(ToString::to_string).collect(),
                        not_after: clock::since_epoch(bundle.not_after()).as_secs(),
                    });
                    news.hosts.extend(before);
                    news.hosts.extend(watched.hosts());
                    news.is_default |= default == Some(watched.id);
                }
                (Found::Broken(reason), _) => {
                    let refused = Happening::CertificateRefused { file, reason };
                    news.happenings.push(refused);
                }
            }
        }
        if !news.hosts.is_empty() {
            self.gather();
        }
        news
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Watched> {
        self.pairs.iter_mut().chain(&mut self.default)
    }

    fn gather(&mut self) {
        self.offers.clear();
        for watched in &self.pairs {
            for host in watched.hosts() {
                let offers = self.offers.entry(host).or_default();
                offers.extend(watched.offer());
            }
        }
    }
}

impl Watched {
    /// The hosts that the certificate is offered for: those that a network declares it for, and all
    /// that the leaf names if it is the gateway's own.
    fn hosts(&self) -> Vec<HostPattern> {
        let Some(bundle) = self.pair.bundle() else {
            return Vec::new();
        };
        if self.files.network.is_none() {
            return bundle.names().to_vec();
        }
        let declared = self.files.hosts.iter();
        let covered = declared.filter(|host| self.pair.covers(host));
        covered.cloned().collect()
    }

    fn offer(&self) -> Option<Offer> {
        let network = self.files.network;
        Some(Offer {
            bundle: Arc::clone(self.pair.bundle()?),
            network: network.map(|port| NetworkId(port.into())),
            is_declared: network.is_some(),
        })
    }
}

/// Looks at many files, within a time for all of them: what has not answered then is left out.
fn look_at_all(looks: Vec<(u64, Look)>) -> Vec<(u64, Option<Looked>)> {
    let begun = Instant::now();
    let threads = looks.len().min(LOOKS_MAX);
    let waiting = Mutex::new(looks.into_iter());
    let done = Mutex::new(Vec::new());
    let work = || {
        loop {
            let next = waiting
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .next();
            let Some((id, look)) = next else { return };
            let left = START_DEADLINE.saturating_sub(begun.elapsed());
            let looked = (!left.is_zero()).then(|| look.run(left.min(DEADLINE)));
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            done.push((id, looked));
        }
    };
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Keeper {
    /// Looks at all files and waits for them, but not for long: nothing is served meanwhile.
    pub(super) fn look_at_start(&mut self) {
        let looked = look_at_all(self.files.looks());
        let late = looked.iter().filter(|(_, looked)| looked.is_none()).count();
        if late > 0 {
            tracing::warn!(
                pairs = late,
                "files of certificates are read after the start: others do not answer"
            );
        }
        for watched in self.files.all() {
            watched.is_looked_at = false;
        }
        let looked = looked.into_iter();
        let looked = looked.filter_map(|(id, looked)| Some((id, looked?)));
        let news = self.files.take(looked);
        self.tell_news(news);
    }

    /// Has all files looked at that are not being looked at: see [`Keeper::end_looks`].
    pub(super) fn look_at_files(&mut self) {
        for (id, look) in self.files.looks() {
            let turns = Arc::clone(&self.look_turns);
            self.looks.spawn(async move {
                // It is never closed.
                let _turn = turns.acquire_owned().await;
                (id, spawn_blocking(move || look.run(DEADLINE)).await)
            });
        }
    }

    /// Takes what a look found, and whatever others found meanwhile, and puts it in force.
    pub(super) fn end_looks(&mut self, first: Result<LookEnded, JoinError>) {
        let mut ended = vec![first];
        ended.extend(std::iter::from_fn(|| self.looks.try_join_next()));
        let looked = ended.into_iter().filter_map(|ended| match ended {
            Ok((id, Ok(looked))) => Some((id, looked)),
            Ok((_, Err(error))) | Err(error) => {
                tracing::error!(%error, "a look at a certificate's files has panicked");
                None
            }
        });
        let news = self.files.take(looked);
        for host in &news.hosts {
            self.serve(host);
        }
        if news.is_default {
            self.serve_default();
        }
        self.tell_news(news);
    }

    fn tell_news(&mut self, news: News) {
        self.is_stale |= !news.happenings.is_empty();
        for happening in news.happenings {
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

/// Which pair was looked at, and what was found.
pub(super) type LookEnded = (u64, Result<Looked, JoinError>);
