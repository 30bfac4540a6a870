//! What the tests share.

use std::{
    collections::BTreeMap,
    env, io,
    num::NonZeroUsize,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use control_api::place::NetworkKey;

use control_api::state::{self, Desired, PrivateKey};
use control_plan::{
    NamespaceSource,
    actual::{Actual, ActualDevice, ActualNetwork, Backend, Owned},
    plan::{Input, Known, Plan, places, plan},
    step::Step,
};
use engine_sys::netns::Netns;
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use crate::{
    Kernel as _, Linux, LinuxConfig, OwnError, Ownership,
    linux::{
        Notice,
        rtnl::Rtnl,
        socket::{Family, Socket},
        spaces::Space,
    },
    name::NamespaceName,
    names::Names,
    private,
};

/// Names the backends that are tested, and makes sure that the kernel's is where it is required.
pub(super) fn backends() -> Vec<Backend> {
    let required = env::var("LAB_WIREGUARD_MODULE").is_ok_and(|value| value == "required");
    if required {
        vec![Backend::Kernel, Backend::Userspace]
    } else {
        vec![Backend::Userspace]
    }
}

/// A test for each backend, each on a thread of its own, because a thread that is in namespaces of
/// its own never comes back.
pub(super) fn on_each_backend(test: fn(&mut Lab)) {
    for backend in backends() {
        on(backend, test);
    }
}

/// A test for each backend together with the other one; nothing where there is only one.
pub(super) fn on_both_backends(test: fn(&mut Lab, Backend)) {
    if let [kernel, userspace] = backends()[..] {
        for (one, other) in [(kernel, userspace), (userspace, kernel)] {
            on(one, move |lab| test(lab, other));
        }
    }
}

fn on(backend: Backend, test: impl FnOnce(&mut Lab) + Send + 'static) {
    let run = move || test(&mut Lab::new(backend));
    let thread = std::thread::Builder::new().name(backend.label().into());
    if let Err(panic) = thread.spawn(run).unwrap().join() {
        std::panic::resume_unwind(panic);
    }
}

/// What Ringway made, in memory.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    pub(super) owned: BTreeMap<NetworkKey, Owned>,
    /// The next record is refused.
    pub(super) is_full: bool,
}

impl Ownership for Records {
    fn own(&mut self, network: NetworkKey, what: &Owned) -> Result<(), OwnError> {
        if self.is_full {
            let source = io::ErrorKind::StorageFull.into();
            return Err(OwnError { network, source });
        }
        // As the store keeps it.
        self.owned
            .insert(network, what.to_string().parse().unwrap());
        Ok(())
    }

    fn disown(&mut self, network: NetworkKey) -> Result<(), OwnError> {
        self.owned.remove(&network);
        Ok(())
    }

    fn owned(&self, network: NetworkKey) -> Option<Owned> {
        self.owned.get(&network).cloned()
    }
}

/// A machine of its own.
pub(super) struct Lab {
    pub(super) linux: Linux,
    pub(super) records: Records,
    pub(super) known: Known,
    config: LinuxConfig,
}

impl Lab {
    fn new(backend: Backend) -> Self {
        let directory = private::directory();
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        let config = LinuxConfig {
            backend: Some(backend),
            sockets: directory.with_file_name("wireguard"),
            names: directory,
            threads: NonZeroUsize::MIN,
            offload: true,
        };
        let lab = Self {
            linux: Linux::open(config.clone()).unwrap(),
            records: Records::default(),
            known: Known::default(),
            config,
        };
        let host = Netns::current().unwrap();
        let mut rtnl = rtnl(&host);
        let lo = rtnl.link("lo").unwrap().unwrap();
        rtnl.raise(lo.index).unwrap();
        lab
    }

    /// The boot file names another backend.
    pub(super) fn set_backend(&mut self, backend: Backend) {
        self.config.backend = Some(backend);
        self.restart();
    }

    pub(super) fn backend(&self) -> Backend {
        self.config.backend.unwrap()
    }

    /// The process ends and comes back.
    pub(super) fn restart(&mut self) {
        // The old one's devices and threads end first, as with a process.
        let elsewhere = LinuxConfig {
            backend: Some(Backend::Userspace),
            ..self.config.clone()
        };
        drop(std::mem::replace(
            &mut self.linux,
            Linux::open(elsewhere).unwrap(),
        ));
        self.linux = Linux::open(self.config.clone()).unwrap();
    }

    pub(super) fn names(&self) -> Names {
        Names::new(self.config.names.clone())
    }

    pub(super) fn path(&self, port: u16) -> PathBuf {
        self.config.names.join(format!("network-{port}"))
    }

    /// Somebody makes a namespace.
    pub(super) fn somebody_makes(&self, name: &str) -> Arc<Netns> {
        let netns = Netns::create().unwrap();
        let name = NamespaceName::parse(name).unwrap();
        self.names().bind(&name, &netns).unwrap();
        Arc::new(netns)
    }

    pub(super) fn observe(&mut self, desired: &Desired) -> Actual {
        let places = places(desired, &self.records.owned, None);
        let observed = self.linux.observe(&places, &self.records);
        assert!(observed.errors.is_empty(), "{:?}", observed.errors);
        observed.actual
    }

    pub(super) fn network(&mut self, port: u16) -> ActualNetwork {
        let port = self::port(port);
        let place = match self.records.owned(port) {
            Some(Owned::DeviceIn(place)) => place,
            Some(Owned::Namespace(_)) | None => NamespaceSource::Made(port),
        };
        let places = BTreeMap::from([(port, place)]);
        let mut observed = self.linux.observe(&places, &self.records);
        assert!(observed.errors.is_empty(), "{:?}", observed.errors);
        observed.actual.networks.remove(&port).unwrap()
    }

    pub(super) fn device(&mut self, port: u16) -> ActualDevice {
        self.network(port).device.unwrap()
    }

    pub(super) fn plan(&mut self, desired: &Desired) -> Plan {
        self.plan_with(desired, self.config.backend)
    }

    /// Where `backend` is absent, a device may be anybody's.
    pub(super) fn plan_with(&mut self, desired: &Desired, backend: Option<Backend>) -> Plan {
        let actual = self.observe(desired);
        plan(Input {
            desired,
            actual: &actual,
            owned: &self.records.owned,
            known: &self.known,
            backend,
            only: None,
        })
    }

    pub(super) fn apply(&mut self, step: &Step) {
        let applied = self.linux.apply(step, &mut self.records);
        if let Err(error) = applied {
            panic!("{error}: {:?}", error.source);
        }
    }

    /// Makes it so, and makes sure that it is so.
    pub(super) fn settle(&mut self, desired: &Desired) {
        loop {
            let plan = self.plan(desired);
            assert!(plan.refused.is_empty(), "{:?}", plan.refused);
            for step in plan.steps() {
                self.apply(step);
            }
            if !plan.is_partial {
                break;
            }
        }
        self.known
            .settle(desired, &std::collections::BTreeSet::new());
        let again = self.plan(desired);
        assert!(again.is_empty(), "{again:#?}");
    }

    pub(super) fn netns(&mut self, port: u16) -> Arc<Netns> {
        let source = NamespaceSource::Made(self::port(port));
        self.linux.namespace(&source).unwrap()
    }

    /// Waits for a notice about a network, and takes all that there are.
    pub(super) fn wait_for(&self, notice: Notice) {
        let notices = self.linux.notices();
        let deadline = Instant::now() + Duration::from_secs(2);
        while let Ok(told) = notices.recv_deadline(deadline) {
            if told == notice {
                return;
            }
        }
        panic!("{notice:?} was not told within 2 s");
    }

    /// Waits until nothing is told any longer.
    pub(super) fn wait_for_silence(&self) {
        let notices = self.linux.notices();
        let deadline = Instant::now() + Duration::from_secs(10);
        while notices.recv_timeout(Duration::from_millis(300)).is_ok() {
            assert!(Instant::now() < deadline, "notices never end");
        }
    }
}

pub(super) fn rtnl(netns: &Netns) -> Rtnl {
    let [route] = Socket::open(netns, [Family::Route]).unwrap();
    Rtnl::new(route)
}

pub(super) fn space(netns: &Arc<Netns>) -> Space {
    Space::open(Arc::clone(netns)).unwrap()
}

pub(super) fn port(port: u16) -> NetworkKey {
    NetworkKey::new(port).unwrap()
}

/// A private key, as WireGuard keeps it (RFC 7748, section 5), in hex.
pub(super) fn secret(seed: u16) -> String {
    let [high, low] = seed.to_be_bytes();
    format!("40{high:02x}{low:02x}{}41", "17".repeat(28))
}

/// The public key that belongs to it, in base64.
pub(super) fn public(seed: u16) -> String {
    let secret: PrivateKey = secret(seed).parse().unwrap();
    secret.public_key().to_string()
}

pub(super) fn desired(document: &Value) -> Desired {
    state::parse(&document.to_string()).unwrap().value
}

/// The network of the gateway: `10.0.0.1/24` and `fd00::1/64`, with these peers.
pub(super) fn gateway(port: u16, peers: &Value) -> Value {
    json!({
        "private_key": secret(port),
        "address": ["10.0.0.1/24", "fd00::1/64"],
        "peers": peers,
        "proxy": {},
    })
}

/// A tenant's machine in a namespace of its own: `10.0.0.<n>`, whose peer is the gateway's network
/// on `port`.
pub(super) fn tenant(number: u8, port: u16) -> Value {
    let keys = public(port);
    json!({
        "netns": format!("tenant-{number}"),
        "private_key": secret(number.into()),
        "address": [format!("10.0.0.{number}/32"), format!("fd00::{number}/128")],
        "peers": { keys: {
            "allowed_ips": ["10.0.0.0/24", "fd00::/64"],
            "endpoint": format!("127.0.0.1:{port}"),
        }},
        "proxy": {},
    })
}

/// The tenant's machine as the gateway declares it.
pub(super) fn peer(number: u8) -> (String, Value) {
    let allowed = json!([format!("10.0.0.{number}/32"), format!("fd00::{number}/128")]);
    (public(number.into()), json!({ "allowed_ips": allowed }))
}
