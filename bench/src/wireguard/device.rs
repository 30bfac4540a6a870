//! Ringway's own device without a gateway: a process of its own, as `wireguard-go` is one.

use std::{convert::Infallible, num::NonZeroUsize, path::Path, thread};

use anyhow::{Context, Result};
use clap::Args;
use engine_sys::netns::Netns;
use engine_wireguard::{Change, Key, Open, PeerChange, Pool, UAPI_DIRECTORY};

use super::end::MTU;

/// What the device, or the devices, are.
#[derive(Debug, Args)]
pub(crate) struct Devices {
    /// Name of the link; of more than one, its beginning
    name: String,
    /// How many there are, on one thread together, each with one peer that nobody hears of
    #[arg(long, default_value_t = 1)]
    count: u16,
}

impl Devices {
    /// Carries the devices in this network namespace, configured over their sockets, until this
    /// process is ended.
    ///
    /// # Errors
    /// When the kernel refuses a device.
    pub(crate) fn run(&self) -> Result<Infallible> {
        let here = Netns::current().context("cannot hold this namespace")?;
        let directory = Path::new(UAPI_DIRECTORY);
        let pool = Pool::start_in(NonZeroUsize::MIN, directory).context("cannot start")?;
        let mut devices = Vec::new();
        for number in 0..self.count {
            let name = match self.count {
                1 => self.name.clone(),
                _ => format!("{}{number}", self.name),
            };
            let device = pool.open(Open {
                name: &name,
                tenant: &here,
                host: &here,
                mtu: MTU,
                listen_port: 0,
                private_key: Key::ZERO,
            })?;
            if self.count > 1 {
                device.configure(at_rest())?;
            }
            devices.push(device);
        }
        loop {
            thread::park();
        }
    }
}

/// A key, and one peer that has never been heard.
fn at_rest() -> Change {
    Change {
        private_key: Some(Key::new([7; 32])),
        peers: vec![PeerChange::new(Key::new([9; 32]).public())],
        ..Change::default()
    }
}
