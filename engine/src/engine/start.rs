//! The start: what the kernel has to be able to do, listeners, and a thread for each worker.

use std::{
    collections::HashSet,
    io, mem,
    sync::{Arc, atomic::AtomicU64},
    thread,
    time::Instant,
};

use core_affinity::CoreId;
use crossbeam_channel::{bounded, unbounded};
use engine_core::{admit::Sources, balance::Load, ids::WorkerId};
use engine_sys::{
    netns::Netns,
    probe::{Missing, probe},
    process::raise_descriptor_limit,
};
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::{
    context::{
        Shared,
        config::{Config, DriverChoice, Workers},
        snapshot::{Bound, Publication, Published},
    },
    engine::{
        Engine, WorkerThread,
        counters::{ClientsTraffic, Counters},
        listeners::{Listeners, share_out},
    },
    rt::Driver,
    worker::{self, Came, Start},
};

/// Why an engine does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// io_uring was asked for and cannot be had.
    #[error("the io_uring driver cannot start")]
    Driver(#[source] Missing),
    /// Tenants' namespaces cannot be entered.
    #[error("upstream connections cannot be dialed from tenants' namespaces")]
    Namespaces(#[source] Missing),
    /// The gateway's own namespace cannot be opened.
    #[error("the gateway's own network namespace cannot be opened (is /proc mounted?)")]
    Home(#[source] io::Error),
    /// A worker's thread, mailbox or ring cannot be made.
    #[error("worker {worker} cannot start")]
    Worker {
        /// Its number.
        worker: WorkerId,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The limit of open descriptors cannot be read.
    #[error("the limit of open descriptors cannot be raised")]
    DescriptorLimit(#[source] io::Error),
}

impl Engine {
    /// Starts the workers, which accept from the sockets of the publication.
    ///
    /// # Errors
    /// Says what cannot be had, and for abilities of the kernel, how to get them. Nothing is left
    /// running then.
    pub fn start(config: Config, mut publication: Publication) -> Result<Self, StartError> {
        let abilities = probe();
        let driver = match config.driver {
            DriverChoice::Epoll => Driver::Epoll,
            DriverChoice::Auto if abilities.io_uring.is_err() => Driver::Epoll,
            DriverChoice::Auto | DriverChoice::IoUring => Driver::IoUring,
        };
        if driver == Driver::IoUring
            && let Err(missing) = abilities.io_uring
        {
            return Err(StartError::Driver(missing));
        }
        let home = Netns::current().map_err(StartError::Home)?.identity();
        let is_foreign = |netns: &Arc<Netns>| netns.identity() != home;
        if publication.namespaces.values().any(is_foreign)
            && let Err(missing) = abilities.setns
        {
            return Err(StartError::Namespaces(missing));
        }
        raise_descriptor_limit().map_err(StartError::DescriptorLimit)?;
        let cores = choose_cores(config.workers);
        let sockets = mem::take(&mut publication.sockets);
        let shared = Arc::new(share(config));
        let nothing = Published::default();
        let live = |_| Load::default();
        let (current, difference) = nothing.after(publication, &sockets, live, cores.len());
        let mut counters = Counters::new(cores.len());
        let mut listeners = Listeners::default();
        let both = (&nothing, &current);
        let came = listeners.take_up(both, &difference.listeners, &sockets, &mut counters);
        let current = Arc::new(current);
        let each = share_out(&came.came, sockets, cores.len());
        let mut engine = Self {
            workers: Vec::new(),
            listeners,
            abilities,
            driver,
            shared,
            current,
            retired: Vec::new(),
            counters,
            clients: ClientsTraffic::default(),
            gone: HashSet::new(),
        };
        for (id, (core, came)) in (0..).map(WorkerId).zip(cores.into_iter().zip(each)) {
            let started = engine.start_worker(id, core, came);
            engine
                .workers
                .push(started.map_err(|source| StartError::Worker { worker: id, source })?);
        }
        Ok(engine)
    }

    fn start_worker(
        &self,
        id: WorkerId,
        core: Option<CoreId>,
        came: Came,
    ) -> io::Result<WorkerThread> {
        let doorbell = Arc::new(EventFd::from_flags(
            EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC,
        )?);
        // Bounded by what control asks for, one question at a time.
        let (commands, received) = unbounded();
        let start = Start {
            id,
            shared: Arc::clone(&self.shared),
            published: Arc::clone(&self.current),
            came,
            commands: received,
            doorbell: Arc::clone(&doorbell),
        };
        let driver = self.driver;
        let (up, is_up) = bounded(1);
        let thread = thread::Builder::new()
            .name(format!("worker-{id}"))
            .spawn(move || {
                if let Some(core) = core {
                    // Unpinned is slower, not wrong.
                    core_affinity::set_for_current(core);
                }
                worker::run(driver, start, up)
            })?;
        match is_up.recv() {
            Ok(()) => Ok(WorkerThread {
                commands,
                doorbell,
                thread,
                report: None,
            }),
            Err(_) => match thread.join() {
                Ok(Err(error)) => Err(error),
                Ok(Ok(())) | Err(_) => Err(io::Error::other("the worker ended at once")),
            },
        }
    }
}

fn share(config: Config) -> Shared {
    let limits = config.limits;
    let reserved = config.reserved.into_iter().map(|address| Bound {
        address,
        network: None,
    });
    let run_id = ahash::RandomState::new().hash_one(Instant::now());
    Shared {
        gateway_load: Load::default(),
        sources: Sources::new(
            limits.connections_per_source_max,
            limits.accept_rate_per_source,
            run_id,
        ),
        started_at: Instant::now(),
        run_id,
        connections: AtomicU64::new(0),
        records: config.records,
        requests: config.requests,
        challenges: config.challenges,
        strangers: config.strangers,
        reserved: reserved.collect(),
        limits,
    }
}

/// The core of each worker; more workers than cores share them without being pinned.
pub(crate) fn choose_cores(workers: Workers) -> Vec<Option<CoreId>> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let count = match workers {
        Workers::Auto => cores.len().max(1),
        Workers::Count(count) => usize::from(count.get()),
    };
    (0..count)
        .map(|index| {
            if count <= cores.len() {
                cores.get(index).copied()
            } else {
                None
            }
        })
        .collect()
}
