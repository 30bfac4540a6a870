//! Why something could not be seen or done.

use std::{fmt, io, path::PathBuf};

use control_api::place::NetworkKey;

use control_plan::{actual::Backend, step::Step};
use nix::errno::Errno;

use super::{holder, socket::NetlinkError};
use crate::{kernel::OwnError, names::BindError};

/// A step was not done.
#[derive(Debug, thiserror::Error)]
#[error("network {network}: {op} {object}{}{}", Detail(.detail), Hint(.hint))]
pub struct ApplyError {
    /// The network that the step was for.
    pub network: NetworkKey,
    /// What was to be done, such as `make`.
    pub op: &'static str,
    /// What it was about, such as `network-51820/wg51820`.
    pub object: String,
    /// What exactly, without secrets. May be empty.
    pub detail: String,
    /// What whoever runs Ringway can do about it. May be empty.
    pub hint: String,
    /// Why not.
    pub source: Box<Refusal>,
}

/// A network could not be looked at.
#[derive(Debug, thiserror::Error)]
#[error("network {network}: reading {object}{}", Hint(.hint))]
pub struct ObserveError {
    /// The network.
    pub network: NetworkKey,
    /// What was read, such as `the addresses of wg51820`.
    pub object: String,
    /// What whoever runs Ringway can do about it. May be empty.
    pub hint: String,
    /// Why not.
    pub source: Box<Refusal>,
}

/// What is said of a step that lacks a privilege.
const NEEDS: &str = "Ringway needs CAP_NET_ADMIN and CAP_SYS_ADMIN";

/// Why something was refused.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The kernel did not do what it was asked for.
    #[error("over netlink")]
    Netlink(#[source] NetlinkError),
    /// The userspace device did not.
    #[error("in the userspace device")]
    Userspace(#[source] UserspaceError),
    /// A namespace could not be made or opened.
    #[error("making or opening the namespace")]
    Namespace(#[source] io::Error),
    /// A namespace was made, but not its name.
    #[error("naming the namespace")]
    Name(#[source] BindError),
    /// The name of a namespace could not be taken away.
    #[error("taking the name of the namespace away")]
    Unname(#[source] io::Error),
    /// A setting under `/proc/sys` could not be read or written.
    #[error("the setting {}", .path.display())]
    Setting {
        /// Its file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// It could not be recorded as Ringway's, so it was not made.
    #[error(transparent)]
    Own(OwnError),
    /// What is behind the name is not Ringway's.
    #[error("something else made it, and it is left alone")]
    Foreign,
    /// There is no such namespace.
    #[error("there is no such namespace")]
    NoNamespace,
    /// There is no such device.
    #[error("there is no such device")]
    NoDevice,
    /// Steps that are about a namespace of Ringway's were planned for another one.
    #[error("the step is for namespaces that Ringway makes")]
    Misplaced,
}

/// What a userspace device answered.
#[derive(Debug, thiserror::Error)]
pub enum UserspaceError {
    /// The threads that serve devices did not start.
    #[error("starting its threads")]
    Start(#[source] engine_wireguard::StartError),
    /// It was not made.
    #[error("opening it")]
    Open(#[source] engine_wireguard::OpenError),
    /// It was not changed.
    #[error("changing it")]
    Configure(#[source] engine_wireguard::ConfigureError),
    /// It did not take its MTU.
    #[error("setting its MTU")]
    Mtu(#[source] engine_wireguard::SetMtuError),
}

impl UserspaceError {
    /// The system's error number, where there is one.
    pub fn errno(&self) -> Option<Errno> {
        use engine_wireguard::{ConfigureError, OpenError, SetMtuError, StartError};
        let source = match self {
            Self::Start(StartError::Poll(source) | StartError::Thread(source))
            | Self::Open(
                OpenError::Namespace { source, .. }
                | OpenError::Tun { source, .. }
                | OpenError::Mtu { source, .. }
                | OpenError::Bind { source, .. }
                | OpenError::Register { source, .. }
                | OpenError::Uapi { source, .. },
            )
            | Self::Configure(ConfigureError::Bind { source, .. })
            | Self::Mtu(SetMtuError::Link { source, .. }) => source,
            Self::Configure(ConfigureError::TooMany { .. } | ConfigureError::Gone { .. })
            | Self::Mtu(SetMtuError::Gone { .. }) => return None,
        };
        source.raw_os_error().map(Errno::from_raw)
    }
}

/// The kernel cannot be worked with at all.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The namespace that Ringway runs in could not be opened.
    #[error("opening the namespace that Ringway runs in; is /proc mounted?")]
    Host(#[source] io::Error),
    /// The boot that identities of namespaces are told apart by.
    #[error("reading /proc/sys/kernel/random/boot_id")]
    Boot(#[source] io::Error),
    /// The names of namespaces.
    #[error("preparing the names of namespaces")]
    Names(#[source] BindError),
    /// A thread that listens to the kernel.
    #[error("listening for changes")]
    Watch(#[source] io::Error),
    /// A namespace to try WireGuard in.
    #[error("making a namespace to try WireGuard in; Ringway needs CAP_SYS_ADMIN")]
    Try(#[source] io::Error),
    /// rtnetlink(7) did not answer.
    #[error("talking to the kernel; Ringway needs CAP_NET_ADMIN")]
    Netlink(#[source] NetlinkError),
    /// The kernel was asked for, and cannot.
    #[error(
        "this kernel has no WireGuard: load the module `wireguard`, or set `wireguard.backend` to `userspace` or `auto`"
    )]
    NoModule(#[source] NetlinkError),
    /// The threads that carry packets in the module's place.
    #[error("preparing userspace WireGuard")]
    Carriers(#[source] UserspaceError),
}

/// The counters of a network could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SampleError {
    /// It was not observed yet, or has no device.
    #[error("network {0} has no device")]
    NoDevice(NetworkKey),
    /// The kernel did not show it.
    #[error("reading the counters of network {network}")]
    Read {
        /// The network.
        network: NetworkKey,
        /// Why not.
        source: Refusal,
    },
}

impl ApplyError {
    pub(super) fn new(step: &Step, source: Refusal, hint: String) -> Self {
        Self {
            network: step.network,
            op: step.op(),
            object: step.object(),
            detail: step.detail(),
            hint,
            source: Box::new(source),
        }
    }
}

impl Refusal {
    /// The system's error number, where there is one.
    pub fn errno(&self) -> Option<Errno> {
        let source = match self {
            Self::Netlink(error) => return error.errno(),
            Self::Namespace(source) | Self::Unname(source) | Self::Setting { source, .. } => source,
            Self::Name(error) => return error.errno(),
            Self::Own(OwnError { source, .. }) => source,
            Self::Userspace(error) => return error.errno(),
            Self::Foreign | Self::NoNamespace | Self::NoDevice | Self::Misplaced => return None,
        };
        source.raw_os_error().map(Errno::from_raw)
    }

    /// Which privilege is missing, where that is why.
    pub fn missing_privilege(&self) -> Option<&'static str> {
        let is_refused = matches!(self.errno(), Some(Errno::EPERM | Errno::EACCES));
        is_refused.then_some(NEEDS)
    }

    /// What whoever runs Ringway can do about it.
    pub(super) fn hint(&self, network: NetworkKey, backend: Backend) -> String {
        match self.errno() {
            Some(Errno::EROFS) => {
                "/proc/sys is read-only here: run Ringway where it can be written".to_owned()
            }
            Some(Errno::EPERM | Errno::EACCES) => NEEDS.to_owned(),
            Some(Errno::EADDRINUSE) => match holder::of_port(network) {
                Some(holder) => format!("{holder} has the UDP port {network}"),
                None => format!("another WireGuard device or program has the UDP port {network}"),
            },
            Some(Errno::EOPNOTSUPP) if backend == Backend::Kernel => {
                "this kernel has no WireGuard: load the module, or set `wireguard.backend` to \
                 `userspace`"
                    .to_owned()
            }
            Some(Errno::ENOENT) if self.is_without_tun() => {
                "this kernel has no TUN devices: load the module `tun`".to_owned()
            }
            Some(Errno::EMFILE | Errno::ENFILE) => "raise the limit of open files".to_owned(),
            Some(Errno::ENOSPC) => "raise user.max_net_namespaces".to_owned(),
            _ => String::new(),
        }
    }
}

impl Refusal {
    /// `/dev/net/tun` is not there.
    fn is_without_tun(&self) -> bool {
        matches!(
            self,
            Self::Userspace(UserspaceError::Open(
                engine_wireguard::OpenError::Tun { .. }
            ))
        )
    }
}

impl From<NetlinkError> for Refusal {
    fn from(error: NetlinkError) -> Self {
        Self::Netlink(error)
    }
}

impl From<UserspaceError> for Refusal {
    fn from(error: UserspaceError) -> Self {
        Self::Userspace(error)
    }
}

impl From<OwnError> for Refusal {
    fn from(error: OwnError) -> Self {
        Self::Own(error)
    }
}

struct Detail<'a>(&'a str);

impl fmt::Display for Detail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => Ok(()),
            detail => write!(f, " ({detail})"),
        }
    }
}

struct Hint<'a>(&'a str);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            "" => Ok(()),
            hint => write!(f, "; {hint}"),
        }
    }
}
