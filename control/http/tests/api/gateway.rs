//! An API with real sockets and a real store, and a stand-in for the reconciler behind it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use control_api::{
    answer::{
        Applied, AppliedStep, CertificatesView, NetworkState, NetworkStatus, Status, StoreStatus,
    },
    boot::{self, Boot, Role, Token, TokenName},
    state::{Change, Desired, changed_owners, edit},
};
use control_http::{
    ChangeRefused, ChangeRequest, EVENTS_BEHIND_MAX, Front, Listener, Reconciles, Settings, Tokens,
    View,
};
use control_store::{DesiredStore as _, NewGeneration, Store};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    net::{TcpSocket, TcpStream, UnixStream},
    sync::{broadcast, mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::wire::{Answer, PATIENCE, Request, exchange};

/// When samples and generations of the tests are from.
pub(crate) const NOW: u64 = 1_800_000_000;

pub(crate) const ADMIN: &str = "the-token-of-the-admin";
pub(crate) const OPERATOR: &str = "the-token-of-an-operator";
pub(crate) const READER: &str = "the-token-of-a-reader";

/// The key pair of the tests' network, and peers.
pub(crate) const PRIVATE: &str = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=";
pub(crate) static PEER: LazyLock<String> = LazyLock::new(|| key(&"fb".repeat(32)));
/// Written, it is nearly all slashes.
pub(crate) static SLASHES: LazyLock<String> = LazyLock::new(|| key(&"ff".repeat(32)));
pub(crate) static OTHER_PEER: LazyLock<String> = LazyLock::new(|| key(&"02".repeat(32)));

fn key(hex: &str) -> String {
    let key: control_api::state::PublicKey = hex.parse().expect("a key");
    key.to_string()
}

/// The API, and the ends of everything that stands behind it.
pub(crate) struct Gateway {
    pub(crate) listen: boot::ApiListen,
    pub(crate) store: Store,
    pub(crate) view: watch::Sender<Arc<View>>,
    pub(crate) certificates: watch::Sender<Arc<CertificatesView>>,
    pub(crate) tokens: watch::Sender<Arc<Tokens>>,
    pub(crate) events: broadcast::Sender<control_api::answer::Event>,
    pub(crate) shutdown: Option<oneshot::Sender<()>>,
    pub(crate) served: JoinHandle<()>,
    reconciler: Option<JoinHandle<()>>,
    _folder: TempDir,
}

/// How a test wants its API.
pub(crate) struct Wanted {
    /// Lines of the boot file's section `api`.
    pub(crate) api: &'static str,
    pub(crate) tokens: Tokens,
    pub(crate) on_unix: bool,
    /// Changes that may wait.
    pub(crate) changes: usize,
    /// Whether changes are taken at all.
    pub(crate) is_stuck: bool,
}

impl Default for Wanted {
    fn default() -> Self {
        Self {
            api: "",
            tokens: Tokens::default(),
            on_unix: false,
            changes: 8,
            is_stuck: false,
        }
    }
}

/// One token of each role.
pub(crate) fn three_tokens() -> Tokens {
    let name = |text: &str| text.parse::<TokenName>().expect(text);
    let token = |text: &str| text.parse::<Token>().expect(text);
    let (ann, ops, eve) = (name("ann"), name("ops"), name("eve"));
    let (admin, operator, reader) = (token(ADMIN), token(OPERATOR), token(READER));
    Tokens::new([
        (&ann, Role::Admin, &admin),
        (&ops, Role::Operator, &operator),
        (&eve, Role::Reader, &reader),
    ])
}

impl Gateway {
    /// Without tokens.
    pub(crate) async fn open() -> Self {
        Self::start(Wanted::default()).await
    }

    /// With a token of each role.
    pub(crate) async fn guarded() -> Self {
        Self::start(Wanted {
            tokens: three_tokens(),
            ..Wanted::default()
        })
        .await
    }

    /// With changes that the test itself takes.
    pub(crate) async fn without_reconciler(
        api: &'static str,
    ) -> (Self, mpsc::Receiver<ChangeRequest>) {
        let wanted = Wanted {
            api,
            ..Wanted::default()
        };
        Self::serve(&wanted).await
    }

    pub(crate) async fn start(wanted: Wanted) -> Self {
        let is_stuck = wanted.is_stuck;
        let (mut gateway, requests) = Self::serve(&wanted).await;
        if is_stuck {
            // Held, and never read.
            std::mem::forget(requests);
        } else {
            let reconciler = reconcile(requests, gateway.store.clone(), gateway.view.clone());
            gateway.reconciler = Some(tokio::spawn(reconciler));
        }
        gateway
    }

    async fn serve(wanted: &Wanted) -> (Self, mpsc::Receiver<ChangeRequest>) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("ringway.db")).expect("a store");
        let listen = if wanted.on_unix {
            boot::ApiListen::Unix(folder.path().join("api.sock"))
        } else {
            "127.0.0.1:0".parse().expect("an address")
        };
        let listener = Listener::bind(&listen).await.expect("a socket");
        let listener = listener.expect("it is not off");
        let listen = listener.address();
        let (changes, requests) = mpsc::channel(wanted.changes);
        let (view, seen) = watch::channel(Arc::new(first_view()));
        let (certificates, had) = watch::channel(Arc::default());
        let (tokens, known) = watch::channel(Arc::new(wanted.tokens.clone()));
        let (events, _) = broadcast::channel(EVENTS_BEHIND_MAX);
        let front = Front {
            changes,
            view: seen,
            certificates: had,
            tokens: known,
            desired: Arc::new(store.desired()),
            accounts: store.accounts(),
            audit: store.audit(),
            events: events.clone(),
        };
        let (shutdown, ended) = oneshot::channel();
        let boot = boot_with(wanted.api);
        let settings = Settings {
            limits: boot.api.limits,
            metrics: boot.api.metrics,
        };
        let served = tokio::spawn(async move {
            let ended = async { drop(ended.await) };
            control_http::serve(listener, front, settings, ended).await;
        });
        let gateway = Self {
            listen,
            store,
            view,
            certificates,
            tokens,
            events,
            shutdown: Some(shutdown),
            served,
            reconciler: None,
            _folder: folder,
        };
        (gateway, requests)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        match &self.listen {
            boot::ApiListen::Tcp(address) => *address,
            boot::ApiListen::Unix(_) | boot::ApiListen::Off => panic!("not on TCP"),
        }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        match &self.listen {
            boot::ApiListen::Unix(path) => path.clone(),
            boot::ApiListen::Tcp(_) | boot::ApiListen::Off => panic!("not on a unix socket"),
        }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address()).await.expect("connected")
    }

    /// From another address of this machine.
    pub(crate) async fn connect_from(&self, source: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        let source = format!("{source}:0").parse().expect("an address");
        socket.bind(source).expect("bound");
        socket.connect(self.address()).await.expect("connected")
    }

    /// Asks once, on a connection of its own.
    pub(crate) async fn ask(&self, request: Request<'_>) -> Answer {
        if let boot::ApiListen::Unix(path) = &self.listen {
            let stream = UnixStream::connect(path).await.expect("connected");
            return exchange(stream, &request.bytes()).await;
        }
        exchange(self.connect().await, &request.bytes()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Request::new("GET", path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        let body = body.to_string();
        self.ask(Request::new("POST", path).body(body.as_bytes()))
            .await
    }

    /// The audit log once it has so many entries, the oldest first: `actor role action result`.
    pub(crate) async fn audit(&self, entries: usize) -> Vec<String> {
        let read = async {
            loop {
                let log = self
                    .store
                    .audit()
                    .entries(None, 1000)
                    .await
                    .expect("the audit log");
                if log.len() >= entries {
                    return log;
                }
                tokio::task::yield_now().await;
            }
        };
        let log = timeout(PATIENCE, read).await.expect("in time");
        let lines = log.iter().rev().map(|entry| {
            let control_api::answer::AuditEntry {
                actor,
                role,
                action,
                result,
                ..
            } = entry;
            format!("{actor} {role} {action} {result}")
        });
        lines.collect()
    }

    /// Ends the API, and waits until it has.
    pub(crate) async fn close(&mut self) {
        drop(self.shutdown.take());
        let served = timeout(PATIENCE, &mut self.served).await;
        served.expect("in time").expect("no panic");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.served.abort();
        if let Some(reconciler) = &self.reconciler {
            reconciler.abort();
        }
    }
}

fn boot_with(api: &str) -> Boot {
    let text =
        format!("listeners: [{{name: a, bind: 127.0.0.1:1, protocol: tls}}]\napi: {{{api}}}");
    match boot::parse(&text, &BTreeMap::new()) {
        Ok(valid) => valid.value,
        Err(problems) => panic!("{problems:?}"),
    }
}

fn first_view() -> View {
    View {
        desired: Arc::default(),
        generation: 0,
        owners: Arc::default(),
        running_generation: 0,
        status: Status {
            version: "0.1.0".to_owned(),
            started: NOW,
            ready: true,
            store: StoreStatus {
                ok: true,
                ..StoreStatus::default()
            },
            ..Status::default()
        }
        .into(),
        counters: Arc::default(),
        reconciles: Reconciles::default(),
        ready: true,
    }
}

/// Takes changes one after the other, as the gateway's own does, and programs no kernel.
async fn reconcile(
    mut requests: mpsc::Receiver<ChangeRequest>,
    store: Store,
    view: watch::Sender<Arc<View>>,
) {
    while let Some(request) = requests.recv().await {
        if !request.claim.take() {
            let _ = request.reply.send(Err(ChangeRefused::Withdrawn));
            continue;
        }
        let current = Arc::clone(&view.borrow());
        let answer = change(&request, &current, &store, &view).await;
        // Whoever asked may have gone.
        let _ = request.reply.send(answer);
    }
}

async fn change(
    request: &ChangeRequest,
    current: &View,
    store: &Store,
    view: &watch::Sender<Arc<View>>,
) -> Result<Applied, ChangeRefused> {
    let last = current.generation_of(&request.scope.whose);
    if let Some(expected) = request.if_match.filter(|id| *id != last) {
        return Err(ChangeRefused::Conflict {
            expected,
            current: last,
        });
    }
    let valid = edit(&current.desired, &request.change, &request.scope)?;
    let changed = valid.value != *current.desired;
    let mut generation = current.generation;
    if changed && !request.dry_run {
        let owners = changed_owners(&current.desired, &valid.value);
        let new = NewGeneration {
            owners: owners.iter().map(ToString::to_string).collect(),
            time: NOW,
            actor: request.actor.name.to_string(),
            note: request.change.to_string(),
            document: Some(valid.value.render_with_secrets().to_string()),
            ..NewGeneration::default()
        };
        let stored = store.desired().commit(new).await;
        generation = stored.map_err(ChangeRefused::Unstored)?;
        let mut next = next_view(current, generation, &valid.value);
        let known = Arc::make_mut(&mut next.owners);
        known.extend(owners.into_iter().map(|owner| (owner, generation)));
        view.send_replace(Arc::new(next));
    }
    let step = AppliedStep {
        op: "set".to_owned(),
        object: "everything".to_owned(),
        detail: if request.wait { "waited" } else { "" }.to_owned(),
    };
    Ok(Applied {
        generation,
        changed,
        dry_run: request.dry_run,
        steps: changed.then_some(step).into_iter().collect(),
        degraded: Vec::new(),
        warnings: valid.warnings.iter().map(Into::into).collect(),
    })
}

fn next_view(current: &View, generation: u64, desired: &Desired) -> View {
    let mut next = current.clone();
    next.generation = generation;
    next.running_generation = generation;
    let networks = desired.networks.iter().map(|(port, network)| {
        let status = NetworkStatus {
            name: network.name().to_string(),
            namespace: network.name().to_string(),
            state: NetworkState::Ok,
            reasons: Vec::new(),
            public_key: network.public_key(),
            device: None,
            peers: BTreeMap::new(),
            routes: Vec::new(),
            connections: 0,
            bytes_in: 0,
            bytes_out: 0,
        };
        (port.get(), status)
    });
    next.status = Status {
        networks: networks.collect(),
        ..Status::clone(&current.status)
    }
    .into();
    next.desired = Arc::new(desired.clone());
    next
}

/// A document with one network, one peer, one listener and two hosts, one of them by a rule.
pub(crate) fn document() -> Value {
    serde_json::json!({ "51820": {
        "private_key": PRIVATE,
        "address": ["10.0.0.1/24"],
        "peers": { (PEER.as_str()): { "allowed_ips": ["10.0.0.2/32"], "preshared_key": PRIVATE } },
        "proxy": { "a.example.com": ["10.0.0.2:443"] },
        "routes": [{ "id": "b", "host": "b.example.com", "to": ["10.0.0.2:80"] }],
        "listeners": { "c": { "bind": "10.0.0.1:80", "protocol": "http" } },
    }})
}

/// A change, as far as tests look at it.
pub(crate) fn replace(text: &str) -> Change {
    Change::Replace {
        text: text.to_owned(),
    }
}
