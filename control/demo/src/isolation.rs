//! A view of the mounts of its own, so that nothing of the demo outlives it.

use std::io;

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::error::DemoError;

/// The most that the new `/run` holds: the gateway's store and logs are there, in memory.
const RUN: &str = "size=256m,mode=755";

/// Moves this thread, and the threads and processes that it starts, into a mount namespace with an empty `/run`: the
/// names of the demo's namespaces, its store and its sockets are only there, and the kernel removes
/// all of it with the last of these processes, however that ends. Must be called before any other thread is started.
///
/// # Errors
/// Without `CAP_SYS_ADMIN`.
pub(super) fn isolate() -> Result<(), DemoError> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)
        // Nothing that is mounted here may show outside.
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
        .and_then(|()| {
            let tmpfs = Some("tmpfs");
            mount(tmpfs, "/run", tmpfs, MsFlags::empty(), Some(RUN))
        })
        .map_err(|errno| DemoError::Isolate(io::Error::from(errno)))
}
