//! The seam between the API and what stands behind it: changes go in, a view comes out.

use std::{
    collections::BTreeMap,
    fmt,
    ops::Deref,
    sync::{Arc, LazyLock},
};

use control_api::{
    answer::{Applied, CertificatesView, Event, Status},
    boot::Role,
    state::{Change, Desired, EditError, Owner, Scope, Whose},
};
use control_store::{Accounts, Audit, CommitError, DesiredStore};
use engine::Counters;
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::{pending::Claim, tokens::Tokens};

/// Events that a slow client may be behind before it is caught up from the store.
pub const EVENTS_BEHIND_MAX: usize = 256;

/// Everything that the API needs. Clones share it.
#[derive(Clone, Debug)]
pub struct Front {
    /// Where changes go. What waits there is bounded by its capacity; when it is full, a change is
    /// refused as busy.
    pub changes: mpsc::Sender<ChangeRequest>,
    /// What is desired and what is, as of a second ago at most.
    pub view: watch::Receiver<Arc<View>>,
    /// The certificates, as of a second ago at most.
    pub certificates: watch::Receiver<Arc<CertificatesView>>,
    /// Who may ask; changes at SIGHUP.
    pub tokens: watch::Receiver<Arc<Tokens>>,
    /// The generations.
    pub desired: Arc<dyn DesiredStore>,
    /// What was counted.
    pub accounts: Accounts,
    /// The audit log and past events.
    pub audit: Audit,
    /// Events as they happen: each was appended to the store first, as `kind` and the JSON of its
    /// [`control_api::answer::Happening`], and has the number that it got there. A channel of
    /// [`EVENTS_BEHIND_MAX`] is enough.
    pub events: broadcast::Sender<Event>,
}

/// One change that somebody asks for.
#[derive(Debug)]
pub struct ChangeRequest {
    /// What is to change.
    pub change: Change,
    /// Who asks.
    pub actor: Actor,
    /// Whose objects it is about.
    pub scope: Scope,
    /// Only if this is the generation that changed their part last.
    pub if_match: Option<u64>,
    /// Whether the plan is answered and nothing is done.
    pub dry_run: bool,
    /// Whether the answer comes when every worker runs it, or as soon as it is stored.
    pub wait: bool,
    /// Taken before anything is done: whoever asked may have been told by then that nothing will be.
    pub claim: Claim,
    /// Where the answer goes. Whoever asked may have gone; a change that was begun counts all the
    /// same.
    pub reply: oneshot::Sender<Result<Applied, ChangeRefused>>,
}

/// Who asks for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The name of the token; `local` where none is needed.
    pub name: Arc<str>,
    /// What the token is good for.
    pub role: Role,
    /// Where the request came from: an address, or `unix:uid=` and a user.
    pub source: Arc<str>,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}) from {}",
            self.name,
            self.role.word(),
            self.source
        )
    }
}

/// Why a change was refused. Nothing changed, but for [`ChangeRefused::NotRunning`].
#[derive(Debug, thiserror::Error)]
pub enum ChangeRefused {
    /// What it is about does not exist, or what it says is wrong.
    #[error(transparent)]
    Edit(#[from] EditError),
    /// `If-Match` names another generation than the one that changed the part last.
    #[error("generation {expected} is not the one that changed this last: {current} is")]
    Conflict {
        /// What was asked for.
        expected: u64,
        /// What is.
        current: u64,
    },
    /// The new generation could not be stored.
    #[error("storing the new generation")]
    Unstored(#[source] CommitError),
    /// It is stored, and was not running everywhere when the wait ended.
    #[error("generation {generation} is stored, and not every worker runs it yet")]
    NotRunning {
        /// The new one.
        generation: u64,
    },
    /// Its turn did not come before whoever asked stopped waiting.
    #[error("the change was not made: its turn did not come in time")]
    Withdrawn,
    /// The gateway is going down.
    #[error("the gateway is shutting down")]
    ShuttingDown,
}

/// What is desired and what is, at one time.
#[derive(Clone, Debug)]
pub struct View {
    /// The desired state.
    pub desired: Arc<Desired>,
    /// Its generation; 0 before the first.
    pub generation: u64,
    /// The last generation that changed the part of each owner.
    pub owners: Arc<BTreeMap<Owner, u64>>,
    /// The newest generation that every worker runs.
    pub running_generation: u64,
    /// Desired against actual. The API fills in its uptime and its own warnings.
    pub status: LazyStatus,
    /// What the engine counted.
    pub counters: Arc<Counters>,
    /// What the reconciler counted.
    pub reconciles: Reconciles,
    /// Whether clients are accepted and every worker runs the desired state.
    pub ready: bool,
}

/// A status that is made when it is first looked at, and then kept: it is as large as the state, and
/// most views are replaced before anybody looks.
#[derive(Clone)]
pub struct LazyStatus(Arc<LazyLock<Status, MakeStatus>>);

type MakeStatus = Box<dyn FnOnce() -> Status + Send + Sync>;

impl LazyStatus {
    /// One that is made so.
    pub fn new(make: impl FnOnce() -> Status + Send + Sync + 'static) -> Self {
        Self(Arc::new(LazyLock::new(Box::new(make))))
    }
}

impl From<Status> for LazyStatus {
    fn from(status: Status) -> Self {
        Self::new(|| status)
    }
}

impl Deref for LazyStatus {
    type Target = Status;

    fn deref(&self) -> &Status {
        &self.0
    }
}

impl fmt::Debug for LazyStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LazyStatus(…)")
    }
}

impl View {
    /// The last generation that changed the part of an owner, or of anybody; 0 if none did.
    pub fn generation_of(&self, whose: &Whose) -> u64 {
        match whose {
            Whose::All => self.generation,
            Whose::One(owner) => self.owners.get(owner).copied().unwrap_or_default(),
        }
    }
}

/// What the reconciler counted since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reconciles {
    /// Rounds of observing, planning and applying.
    pub rounds: u64,
    /// Rounds that ended with an error.
    pub failures: u64,
    /// Steps that were applied.
    pub steps: u64,
    /// Seconds that the last round took.
    pub last_seconds: f64,
}
