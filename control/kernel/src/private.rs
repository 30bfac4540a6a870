//! A directory of names that only this test sees.

use std::path::{Path, PathBuf};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};

/// Moves this thread into a mount namespace of its own, with an empty file system on a new
/// directory, and answers the directory. It ends with the thread.
pub(crate) fn directory() -> PathBuf {
    // A thread shares its root and working directory with its process, which pins them to the
    // mount namespace they are in: CLONE_FS first (unshare(2)).
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).expect("needs CAP_SYS_ADMIN");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    let directory = Path::new("/tmp");
    let none = MsFlags::empty();
    mount(Some("tmpfs"), directory, Some("tmpfs"), none, None::<&str>).unwrap();
    directory.join("netns")
}
