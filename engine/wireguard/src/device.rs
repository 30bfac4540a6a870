//! A handle to a device.

use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use engine_sys::netns::Netns;

use crate::{
    change::Change,
    core::configure::TooMany,
    courier::{Courier, Ended},
    pool::{
        self, Offloads, Threads,
        worker::{Command, Refused},
    },
    state::State,
    uapi,
};

/// A device. Dropping it closes it: when that returns, the socket is gone, and the link unless it
/// was to last, and the port is free.
pub struct Device {
    /// Goes first, so that nobody configures what is being closed.
    _socket: uapi::Socket,
    shared: Arc<Shared>,
}

/// What the handle and the socket share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) host: Netns,
    pub(crate) offloads: Offloads,
    pub(crate) id: usize,
    pub(crate) courier: Courier<Command>,
    /// How many devices its thread has.
    pub(crate) devices: Arc<AtomicUsize>,
    /// The threads last as long as their devices. After the courier, which they wait for.
    pub(crate) _threads: Arc<Threads>,
}

/// The device is gone: its link or its namespace was deleted, or its thread has ended. Only opening
/// it anew helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the device is gone")]
pub struct Gone;

/// Why a change was not made. None of it was.
#[derive(Debug, thiserror::Error)]
pub enum ConfigureError {
    /// The port could not be had.
    #[error("listening on the UDP port {port} for the device {name}")]
    Bind {
        /// The device.
        name: String,
        /// The port.
        port: u16,
        /// The kernel's answer.
        source: io::Error,
    },
    /// More than a device holds.
    #[error("changing the device {name}: more than {max} {what}")]
    TooMany {
        /// The device.
        name: String,
        /// What there is too much of.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// The device is not there any longer.
    #[error("changing the device {name}")]
    Gone {
        /// The device.
        name: String,
        /// That it is gone.
        source: Gone,
    },
}

/// Why an MTU was not set.
#[derive(Debug, thiserror::Error)]
pub enum SetMtuError {
    /// The link did not take it.
    #[error("setting the MTU of {name} to {mtu}")]
    Link {
        /// The device.
        name: String,
        /// The MTU.
        mtu: u16,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The device is not there any longer.
    #[error("setting the MTU of {name}")]
    Gone {
        /// The device.
        name: String,
        /// That it is gone.
        source: Gone,
    },
}

impl Device {
    pub(crate) fn new(shared: Arc<Shared>, socket: uapi::Socket) -> Self {
        Self {
            _socket: socket,
            shared,
        }
    }

    /// The name of its link.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Changes the device as a whole or not at all, and returns when it is done. What a change does
    /// not touch goes on undisturbed. A device takes 65,536 peers, and a peer 16,384 prefixes.
    ///
    /// # Errors
    /// Says what was refused.
    pub fn configure(&self, change: Change) -> Result<(), ConfigureError> {
        self.shared.configure(change)
    }

    /// What the device is. It takes about ten microseconds, and a tenth of one more for each peer.
    ///
    /// # Errors
    /// When the device is gone.
    pub fn state(&self) -> Result<State, Gone> {
        self.shared.state()
    }

    /// Sets the MTU of the link, in the namespace that the device was opened in.
    ///
    /// # Errors
    /// When the link does not take it, or is gone.
    pub fn set_mtu(&self, tenant: &Netns, mtu: u16) -> Result<(), SetMtuError> {
        let name = || self.shared.name.clone();
        pool::set_mtu(tenant, &self.shared.name, mtu).map_err(|source| SetMtuError::Link {
            name: name(),
            mtu,
            source,
        })?;
        let id = self.shared.id;
        let set = |answer| Command::SetMtu { id, mtu, answer };
        match self.shared.courier.ask(set) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(Ended) => Err(SetMtuError::Gone {
                name: name(),
                source: Gone,
            }),
        }
    }
}

impl Shared {
    pub(crate) fn configure(&self, change: Change) -> Result<(), ConfigureError> {
        let gone = || ConfigureError::Gone {
            name: self.name.clone(),
            source: Gone,
        };
        let bind = |port, source| ConfigureError::Bind {
            name: self.name.clone(),
            port,
            source,
        };
        let sockets = match change.listen_port {
            Some(port) if port != self.state().map_err(|_| gone())?.listen_port => Some(
                pool::bind(&self.host, port, self.offloads.receive)
                    .map_err(|source| bind(port, source))?,
            ),
            Some(_) | None => None,
        };
        let port = sockets.as_ref().map_or(0, |sockets| sockets.port);
        let id = self.id;
        let configure = |answer| Command::Configure {
            id,
            change,
            sockets,
            answer,
        };
        match self.courier.ask(configure) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Refused::TooMany(too_many))) => Err(self.too_many(too_many)),
            Ok(Err(Refused::Register(source))) => Err(bind(port, source)),
            Ok(Err(Refused::Lost)) | Err(Ended) => Err(gone()),
        }
    }

    pub(crate) fn state(&self) -> Result<State, Gone> {
        let id = self.id;
        let state = self.courier.ask(|answer| Command::State { id, answer });
        state.map_err(|Ended| Gone)?.map_err(|_| Gone)
    }

    fn too_many(&self, too_many: TooMany) -> ConfigureError {
        let (what, max) = too_many.what_and_max();
        ConfigureError::TooMany {
            name: self.name.clone(),
            what,
            max,
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.devices.fetch_sub(1, Ordering::Relaxed);
        let id = self.id;
        // A thread that has ended has closed it already.
        let _ = self.courier.ask(|answer| Command::Close { id, answer });
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Device")
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}
