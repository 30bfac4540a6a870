//! The kernel that Ringway runs on.
//!
//! ```text
//!   names of namespaces ─► Spaces ─► Space: descriptor, rtnetlink, nftables, generic netlink
//!                                      │
//!        observe ◄── read ─────────────┤
//!        apply ────► steps ────────────┤──► wg<port>: the kernel's, or a userspace device
//!        sample ◄── counters ──────────┘
//!        notices ◄── watch: one thread, groups of every namespace
//! ```

mod endings;
mod error;
pub mod holder;
pub mod link;
mod nftables;
mod observe;
mod rtnl;
mod sample;
mod setting;
mod socket;
mod spaces;
mod steps;
mod userspace;
mod watch;
mod wireguard;

use std::{
    collections::BTreeMap, fs, io, num::NonZeroUsize, path::PathBuf, sync::Arc, time::SystemTime,
};

use control_api::place::NetworkKey;

use control_plan::{
    NamespaceSource,
    actual::{Backend, NamespaceState, Owned},
    step::Step,
};
use crossbeam_channel::Receiver;
use engine_sys::netns::Netns;
use nix::errno::Errno;

use self::{
    endings::Endings,
    rtnl::Rtnl,
    socket::{Family, Socket},
    spaces::{Space, Spaces},
    userspace::{Carriers, Userspace},
    watch::Watch,
};
pub use self::{
    error::{ApplyError, ObserveError, OpenError, Refusal, SampleError, UserspaceError},
    sample::{PeerSample, Sampled},
    socket::NetlinkError,
    watch::Notice,
};
use crate::{
    kernel::{Kernel, Observed, Ownership},
    names::{DIRECTORY, Names},
};

/// The boot that this is; another one has other namespaces (proc_sys_kernel(5)).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where things are, and who carries packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinuxConfig {
    /// Absent for whoever can: the kernel's module, or else Ringway.
    pub backend: Option<Backend>,
    /// Where the names of namespaces are (ip-netns(8)).
    pub names: PathBuf,
    /// Where `wg` looks for the sockets of userspace devices.
    pub sockets: PathBuf,
    /// Threads that carry the packets of userspace devices.
    pub threads: NonZeroUsize,
    /// Userspace devices move many packets at once, wherever the kernel can.
    pub offload: bool,
}

impl Default for LinuxConfig {
    fn default() -> Self {
        Self {
            backend: None,
            names: PathBuf::from(DIRECTORY),
            sockets: PathBuf::from(engine_wireguard::UAPI_DIRECTORY),
            threads: NonZeroUsize::MIN,
            offload: true,
        }
    }
}

/// Everything that Ringway holds in the kernel, by descriptor. What it made stays when it ends, but
/// for userspace devices.
#[derive(Debug)]
pub struct Linux {
    config: LinuxConfig,
    backend: Backend,
    spaces: Spaces,
    /// The rtnetlink socket of the host's namespace: whatever is made through it has its UDP port
    /// there.
    host: Rtnl,
    carriers: Carriers,
    devices: BTreeMap<NetworkKey, Userspace>,
    endings: Endings,
    /// Where each network was looked at last, and which device of the kernel's it has.
    seen: BTreeMap<NetworkKey, Seen>,
    watch: Watch,
    /// Which privilege is missing, and what cannot be done without it.
    lack: Option<String>,
}

/// What was seen of a network.
#[derive(Debug)]
struct Seen {
    place: NamespaceSource,
    /// Index and epoch of the kernel's device.
    device: Option<(u32, u64)>,
}

impl Linux {
    /// Finds out what this kernel can do. Without privileges, networks that need them fail one by
    /// one, and [`Linux::lack`] says which: what is dialed from the host's own namespace needs none.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn open(config: LinuxConfig) -> Result<Self, OpenError> {
        let boot = fs::read_to_string(BOOT_ID).map_err(OpenError::Boot)?;
        let host = Netns::current().map_err(OpenError::Host)?;
        let (backend, refused) = choose(config.backend)?;
        let names = Names::new(config.names.clone());
        let lack = match names.prepare() {
            Err(error) if is_privilege(error.errno()) => {
                refused.or_else(|| Some(NO_SYS_ADMIN.to_owned()))
            }
            prepared => {
                prepared.map_err(OpenError::Names)?;
                refused
            }
        };
        // They are in nobody's way.
        let _ = names.sweep();
        let watch = Watch::start(&config.names).map_err(OpenError::Watch)?;
        let [route] = Socket::open(&host, [Family::Route]).map_err(OpenError::Netlink)?;
        let mut carriers = Carriers::new(config.threads, config.offload);
        if backend == Backend::Userspace {
            // Not with the first device: whoever makes that may have lowered its own priority.
            let started = carriers.start(&config.sockets);
            started.map_err(OpenError::Carriers)?;
        }
        Ok(Self {
            backend,
            spaces: Spaces::new(names, boot.trim().to_owned(), Arc::new(host)),
            host: Rtnl::new(route),
            carriers,
            devices: BTreeMap::new(),
            endings: Endings::default(),
            seen: BTreeMap::new(),
            watch,
            lack,
            config,
        })
    }

    /// Which privilege is missing, and what cannot be done without it; absent when none is.
    pub fn lack(&self) -> Option<&str> {
        self.lack.as_deref()
    }

    /// Who carries the packets of devices for which it does not matter.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// The namespace to dial from. One that Ringway makes is there once it was observed as owned,
    /// or made.
    ///
    /// # Errors
    /// When there is none, or it cannot be opened.
    pub fn namespace(&mut self, source: &NamespaceSource) -> Result<Arc<Netns>, Refusal> {
        if *source == NamespaceSource::Host {
            return Ok(Arc::clone(&self.spaces.host));
        }
        if !matches!(source, NamespaceSource::Made(_))
            && self.spaces.find(source, None)? == NamespaceState::Absent
        {
            return Err(Refusal::NoNamespace);
        }
        let space = self.spaces.held(source).ok_or(Refusal::NoNamespace)?;
        Ok(Arc::clone(&space.netns))
    }

    /// What changed underneath is told here, at most 100 ms after it did. Take all that there is
    /// before looking: a burst of changes gives several notices for one network when nobody takes
    /// them.
    pub fn notices(&self) -> Receiver<Notice> {
        self.watch.notices()
    }

    /// Lets go of the namespaces that nothing names any longer. They stay as they are.
    pub fn release_all_but(&mut self, wanted: impl Fn(&NamespaceSource) -> bool) {
        self.seen.retain(|network, seen| {
            let stays = wanted(&seen.place);
            if !stays {
                self.watch.unfollow(*network);
                self.devices.remove(network);
            }
            stays
        });
        self.spaces.release_all_but(wanted);
    }

    fn space(&mut self, place: &NamespaceSource) -> Result<&mut Space, Refusal> {
        self.spaces.held(place).ok_or(Refusal::NoNamespace)
    }
}

impl Kernel for Linux {
    fn observe(
        &mut self,
        networks: &BTreeMap<NetworkKey, NamespaceSource>,
        ownership: &dyn Ownership,
    ) -> Observed {
        let mut observed = Observed::default();
        for (network, place) in networks {
            match self.observe_network(*network, place, ownership.owned(*network).as_ref()) {
                Ok(actual) => {
                    observed.actual.networks.insert(*network, actual);
                }
                Err(failed) => {
                    let hint = failed.refusal.hint(*network, self.backend);
                    let error = ObserveError {
                        network: *network,
                        object: failed.object,
                        hint,
                        source: Box::new(failed.refusal),
                    };
                    observed.errors.insert(*network, error);
                }
            }
        }
        observed
    }

    fn apply(&mut self, step: &Step, ownership: &mut dyn Ownership) -> Result<(), ApplyError> {
        let done = self.take(step, ownership);
        done.map_err(|refusal| {
            let hint = refusal.hint(step.network, self.backend);
            ApplyError::new(step, refusal, hint)
        })
    }
}

/// The name of a network's device.
fn device_name(network: NetworkKey) -> String {
    format!("wg{network}")
}

/// A number that no device made before or after it has.
fn new_epoch() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // Nanoseconds fit for another five hundred years.
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

/// Whoever is wanted, if it can; and where a privilege is missing, which. Ringway itself then, which
/// needs the fewest.
fn choose(wanted: Option<Backend>) -> Result<(Backend, Option<String>), OpenError> {
    let tried = match try_module() {
        Err(OpenError::Try(error)) if is_privilege(error.raw_os_error().map(Errno::from_raw)) => {
            return Ok((Backend::Userspace, Some(NO_SYS_ADMIN.to_owned())));
        }
        Err(error) if wanted != Some(Backend::Userspace) => return Err(error),
        Err(_) => return Ok((Backend::Userspace, None)),
        Ok(tried) => tried,
    };
    match (tried, wanted) {
        (Err(refused), _) if is_privilege(refused.errno()) => {
            Ok((Backend::Userspace, Some(NO_NET_ADMIN.to_owned())))
        }
        (_, Some(Backend::Userspace)) => Ok((Backend::Userspace, None)),
        (Ok(()), _) => Ok((Backend::Kernel, None)),
        (Err(refused), Some(_)) => Err(OpenError::NoModule(refused)),
        (Err(_), None) => Ok((Backend::Userspace, None)),
    }
}

const NO_SYS_ADMIN: &str = "without CAP_SYS_ADMIN no namespace can be made or entered: only networks \
                            with `\"netns\": null` are served";
const NO_NET_ADMIN: &str = "without CAP_NET_ADMIN there are no devices, addresses, routes and \
                            firewalls: only networks without a device are served";

fn is_privilege(errno: Option<Errno>) -> bool {
    matches!(errno, Some(Errno::EPERM | Errno::EACCES))
}

/// Makes a device in a namespace that ends right away; the kernel loads its module for it where it
/// has one.
fn try_module() -> Result<Result<(), NetlinkError>, OpenError> {
    const MTU: u16 = 1420;
    let netns = Netns::create().map_err(OpenError::Try)?;
    let sockets = Socket::open(&netns, [Family::Route, Family::Generic]);
    let [route, generic] = sockets.map_err(OpenError::Netlink)?;
    let made = Rtnl::new(route).make_wireguard("wg0", MTU, &netns);
    Ok(made.and_then(|()| {
        let shown = wireguard::WireGuard::new(generic).show("wg0")?;
        let missing = || NetlinkError::Open(io::ErrorKind::NotFound.into());
        shown.map(|_| ()).ok_or_else(missing)
    }))
}

/// Whether a network owns what is in a namespace that is not Ringway's.
fn is_record_of(owned: Option<&Owned>, place: &NamespaceSource) -> bool {
    matches!(owned, Some(Owned::DeviceIn(recorded)) if recorded == place)
}

#[cfg(test)]
mod tests;
