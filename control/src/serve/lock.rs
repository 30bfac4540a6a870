//! The lock that keeps a second gateway from the same store.

use std::{
    fs::{DirBuilder, File},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use rustix::fs::{CWD, Mode, OFlags};

/// Makes sure that no other gateway has the same store, and so the same networks. Held for as long
/// as the process lives: the kernel gives a lock back however the process ends (flock(2)).
///
/// The lock has a file of its own, which is always empty. What is no store, or no lock, is left as it
/// is.
pub(super) fn lock(store: &Path) -> anyhow::Result<Flock<File>> {
    control_store::examine(store)
        .with_context(|| format!("taking {} as the store", store.display()))?;
    let path = PathBuf::from(format!("{}.lock", store.display()));
    if let Some(folder) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("making the folder {}", folder.display()))?;
    }
    let file = open(&path).with_context(|| format!("opening {}", path.display()))?;
    hold(file, store)
}

/// The same of the store that was opened, for whoever deleted the lock's file under a gateway.
///
/// To be dropped after the store: closing a file gives back what SQLite has locked of it in this
/// process (fcntl(2), "Advisory record locking").
pub(super) fn lock_opened(store: &Path) -> anyhow::Result<Flock<File>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, store, flags, Mode::empty());
    let file = file.with_context(|| format!("opening {}", store.display()))?;
    hold(File::from(file), store)
}

fn hold(file: File, store: &Path) -> anyhow::Result<Flock<File>> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| {
        let store = store.display();
        if errno == Errno::EWOULDBLOCK {
            return anyhow::anyhow!(
                "another ringway uses the store {store}: end it, or give this one another store"
            );
        }
        anyhow::anyhow!("locking the store {store}: {errno}")
    })
}

fn open(path: &Path) -> anyhow::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW;
    let flags = flags | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(
        CWD,
        path,
        flags,
        Mode::from_raw_mode(0o600),
    )?);
    let found = file.metadata()?;
    anyhow::ensure!(
        found.is_file() && found.len() == 0,
        "it is no lock of Ringway's, which is an empty file: move it away, or name another store"
    );
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use control_store::Store;

    use super::*;

    #[test]
    fn only_an_empty_file_is_locked() {
        let folder = tempfile::tempdir().unwrap();
        let store = folder.path().join("db");
        let path = folder.path().join("db.lock");
        fs::write(&path, "theirs").unwrap();
        let refused = format!("{:#}", lock(&store).unwrap_err());
        assert!(refused.contains("it is no lock"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), b"theirs");
        fs::remove_file(&path).unwrap();
        symlink(folder.path().join("elsewhere"), &path).unwrap();
        lock(&store).unwrap_err();
        assert!(!folder.path().join("elsewhere").exists());
        fs::remove_file(&path).unwrap();
        let held = lock(&store).unwrap();
        assert!(lock(&store).is_err());
        drop(held);
        drop(lock(&store).unwrap());
        // The file may be deleted, and then the store itself is held.
        drop(Store::open(&store).unwrap());
        let _held = [lock(&store).unwrap(), lock_opened(&store).unwrap()];
        fs::remove_file(&path).unwrap();
        let _opened = Store::open(&store).unwrap();
        let again = lock(&store).and_then(|_| lock_opened(&store));
        assert!(
            again
                .unwrap_err()
                .to_string()
                .contains("another ringway uses the store")
        );
    }

    /// The folder may be a shared one, such as /tmp.
    #[test]
    fn a_folder_in_the_place_of_the_store_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let shared = folder.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
        for path in [shared.clone(), shared.join("")] {
            let refused = format!("{:#}", lock(&path).unwrap_err());
            assert!(refused.contains("it is a folder"), "{refused}");
        }
        let mode = fs::metadata(&shared).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o1777);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
