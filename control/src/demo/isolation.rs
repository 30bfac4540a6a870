//! A view of the mounts of its own, so that nothing of the demo outlives it.

use std::io;

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

use super::error::DemoError;

/// Moves this thread, and those that it starts, into a mount namespace with an empty `/run`: the
/// names of the demo's namespaces are only there, and the kernel removes all of it with the
/// process, however that ends. Must be called before any other thread is started.
///
/// # Errors
/// Without `CAP_SYS_ADMIN`.
pub(super) fn isolate() -> Result<(), DemoError> {
    let none = None::<&str>;
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS)
        // Nothing that is mounted here may show outside.
        .and_then(|()| mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none))
        .and_then(|()| mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none))
        .map_err(|errno| DemoError::Isolate(io::Error::from(errno)))
}
