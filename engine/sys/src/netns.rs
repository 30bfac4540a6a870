//! Network namespaces, held by descriptor.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
    thread,
};

use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace, held by descriptor: it lives at least as long as this value, whatever
/// becomes of its name.
#[derive(Debug)]
pub struct Netns {
    fd: OwnedFd,
    identity: Identity,
}

/// What tells one namespace from another: its device and inode on nsfs (namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    /// The device that nsfs is mounted as.
    pub device: u64,
    /// The namespace's inode there.
    pub inode: u64,
}

thread_local! {
    /// The namespace that this thread was in when it first asked. Threads start in their parent's
    /// and leave it only inside [`Netns::enter`], so this is the host's.
    static HOME: io::Result<Netns> = Netns::current();
}

impl Netns {
    /// Opens a namespace by its file: `/run/netns/NAME` or `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// When the file cannot be opened, or is not a network namespace (`InvalidInput`).
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::from_fd(File::open(path)?.into())
    }

    /// The namespace that this thread is in.
    ///
    /// # Errors
    /// When `/proc` is not mounted or no descriptor is left.
    pub fn current() -> io::Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// Takes a descriptor that was opened elsewhere.
    ///
    /// # Errors
    /// When it is not a network namespace (`InvalidInput`).
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        // SAFETY: NS_GET_NSTYPE takes no argument and only reads (ioctl_nsfs(2)).
        let kind = unsafe { libc::ioctl(fd.as_raw_fd(), libc::NS_GET_NSTYPE) };
        if kind != libc::CLONE_NEWNET {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "not a network namespace",
            ));
        }
        let stat = nix::sys::stat::fstat(&fd)?;
        Ok(Self {
            fd,
            identity: Identity {
                device: stat.st_dev,
                inode: stat.st_ino,
            },
        })
    }

    /// Makes a new namespace without a name. It ends with its last descriptor.
    ///
    /// # Errors
    /// `EPERM` without `CAP_SYS_ADMIN`; `ENOSPC` at `user.max_net_namespaces`.
    pub fn create() -> io::Result<Self> {
        on_a_thread_of_its_own(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            Self::current()
        })
    }

    /// What tells it from other namespaces.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Another descriptor of the same namespace.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            fd: self.fd.try_clone()?,
            identity: self.identity,
        })
    }

    /// Opens a socket inside the namespace. The socket stays there; the thread is back when this
    /// returns, also when `open` panics.
    ///
    /// The closure is synchronous and gives only a descriptor, so nothing can be awaited inside and
    /// nothing else of the tenant's can leak out. Entering costs two `setns` calls, and none at all
    /// when the thread is already there.
    ///
    /// # Errors
    /// Those of `open`, and `EPERM` without `CAP_SYS_ADMIN`.
    ///
    /// # Aborts
    /// When the thread cannot come back: a worker left in a tenant's namespace would serve that
    /// tenant's network to everybody.
    pub fn enter(&self, open: impl FnOnce() -> io::Result<OwnedFd>) -> io::Result<OwnedFd> {
        HOME.with(|home| {
            let home = home
                .as_ref()
                .map_err(|error| io::Error::from(error.kind()))?;
            if home.identity == self.identity {
                return open();
            }
            let back = Back {
                home: home.fd.as_fd(),
            };
            setns(&self.fd, CloneFlags::CLONE_NEWNET)?;
            let opened = open();
            drop(back);
            opened
        })
    }

    /// Runs anything on a short-lived thread inside the namespace: for set-up and tests, where
    /// [`Netns::enter`] is too narrow. The caller's thread does not move.
    ///
    /// # Errors
    /// Those of `work`; `EPERM` without `CAP_SYS_ADMIN`, unless the caller is inside already; `Other`
    /// when `work` panicked.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        on_a_thread_of_its_own(|| {
            if Self::current()?.identity != self.identity {
                setns(&self.fd, CloneFlags::CLONE_NEWNET)?;
            }
            work()
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Brings the thread home when it is dropped.
struct Back<'a> {
    home: BorrowedFd<'a>,
}

impl Drop for Back<'_> {
    fn drop(&mut self) {
        if setns(self.home, CloneFlags::CLONE_NEWNET).is_err() {
            std::process::abort();
        }
    }
}

fn on_a_thread_of_its_own<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new()
            .name("netns".into())
            .spawn_scoped(scope, work)?;
        thread
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the work panicked")))
    })
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[test]
    fn a_socket_opened_inside_stays_inside_and_the_thread_does_not() {
        let before = Netns::current().unwrap().identity();
        let tenant = Netns::create().expect("needs CAP_SYS_ADMIN");
        assert_ne!(tenant.identity(), before);
        let listener = tenant
            .enter(|| Ok(TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?.into()))
            .map(TcpListener::from)
            .unwrap();
        assert_eq!(Netns::current().unwrap().identity(), before);
        let port = listener.local_addr().unwrap().port();
        let same_port_outside = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port));
        assert!(
            same_port_outside.is_ok(),
            "the tenant's port is not the host's"
        );
    }

    #[test]
    fn a_panic_inside_brings_the_thread_home() {
        let before = Netns::current().unwrap().identity();
        let tenant = Netns::create().expect("needs CAP_SYS_ADMIN");
        let panicked = std::panic::catch_unwind(|| tenant.enter(|| panic!("on purpose")));
        assert!(panicked.is_err());
        assert_eq!(Netns::current().unwrap().identity(), before);
    }

    #[test]
    fn other_files_are_not_namespaces() {
        let error = Netns::open(Path::new("/proc/self/ns/mnt")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(Netns::open(Path::new("/proc/self/status")).is_err());
    }
}
