//! Userspace devices whose namespaces were removed, ended in the background.
//!
//! The kernel takes some 30 ms to end a link, most of which it waits (`netdev_run_todo` in
//! `net/core/dev.c`). Several waits at once take no longer, so five hundred networks are gone in
//! seconds, and neither the thread that reconciles nor those that carry packets wait for it.

use std::{
    collections::BTreeMap,
    io,
    thread::{self, JoinHandle},
};

use control_api::place::NetworkKey;

use crossbeam_channel::{Receiver, Sender, TryRecvError};

use super::{device_name, spaces::Space, userspace::Userspace};

/// Waits at once.
const THREADS: usize = 8;

/// The threads that wait, started with the first device that ends. They end with this value, which
/// waits for them.
#[derive(Debug, Default)]
pub(super) struct Endings {
    sender: Option<Sender<Ending>>,
    threads: Vec<JoinHandle<()>>,
    /// Nothing is ever sent here: the other side goes when the device is gone.
    pending: BTreeMap<NetworkKey, Receiver<()>>,
}

/// A device on its way out, and the namespace that it holds.
#[derive(Debug)]
struct Ending {
    network: NetworkKey,
    space: Space,
    device: Userspace,
    /// Goes last.
    _open: Sender<()>,
}

impl Endings {
    /// Takes over a device that has no port any longer, and the namespace that it is in.
    pub(super) fn begin(&mut self, network: NetworkKey, space: Space, device: Userspace) {
        let is_pending =
            |pending: &Receiver<()>| pending.try_recv() != Err(TryRecvError::Disconnected);
        self.pending.retain(|_, pending| is_pending(pending));
        let (open, pending) = crossbeam_channel::bounded(0);
        let ending = Ending {
            network,
            space,
            device,
            _open: open,
        };
        match self.sender() {
            Ok(sender) => {
                // There is a thread at the other end as long as there is this one.
                let _ = sender.send(ending);
                self.pending.insert(network, pending);
            }
            // Without threads it happens here.
            Err(_) => ending.end(),
        }
    }

    /// Waits until an earlier device of a network is gone: it has a socket of the same name.
    pub(super) fn wait_for(&mut self, network: NetworkKey) {
        if let Some(pending) = self.pending.remove(&network) {
            // That the other side is gone is the answer.
            let _ = pending.recv();
        }
    }

    fn sender(&mut self) -> io::Result<Sender<Ending>> {
        if let Some(sender) = &self.sender {
            return Ok(sender.clone());
        }
        let (sender, endings) = crossbeam_channel::unbounded::<Ending>();
        for _ in 0..THREADS {
            let endings = endings.clone();
            let thread = thread::Builder::new().name("endings".into());
            let thread = thread.spawn(move || endings.iter().for_each(Ending::end))?;
            self.threads.push(thread);
        }
        Ok(self.sender.insert(sender).clone())
    }
}

impl Ending {
    /// The link goes before the device, so that no thread that carries packets waits for it.
    fn end(mut self) {
        let link = self.space.rtnl.link(&device_name(self.network));
        if let Ok(Some(link)) = link {
            // Otherwise it goes with the device.
            let _ = self.space.rtnl.remove_link(link.index);
        }
        drop(self.device);
        drop(self.space);
    }
}

impl Drop for Endings {
    fn drop(&mut self) {
        self.sender = None;
        for thread in self.threads.drain(..) {
            // One that panicked has nothing more to say.
            let _ = thread.join();
        }
    }
}
