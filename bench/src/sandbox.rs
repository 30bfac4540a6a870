//! A network and a `/run` of the bench's own, so that networks which a gateway makes touch nothing
//! of the machine's, and go with it.

use std::{
    process::Command,
    sync::mpsc::{self, Sender},
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, bail};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::{Pid, gettid},
};

/// A sandbox that stays until it is dropped: a thread inside that does what it is given. Processes
/// that it starts end with it (see [`tied`](crate::process::tied)).
#[derive(Debug)]
pub(crate) struct Sandbox {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    task: Pid,
}

type Job = Box<dyn FnOnce() + Send>;

impl Sandbox {
    /// Makes a sandbox.
    ///
    /// # Errors
    /// As [`within`].
    pub(crate) fn open() -> Result<Self> {
        let (jobs, given) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        let inside = move || {
            let entered = enter().map(|()| gettid());
            let failed = entered.is_err();
            if tell.send(entered).is_ok() && !failed {
                given.into_iter().for_each(|job| job());
            }
        };
        let thread = thread::Builder::new().name("sandbox".to_owned());
        let thread = thread.spawn(inside).context("cannot start a thread")?;
        let task = told.recv().context("the sandbox's thread panicked")??;
        Ok(Self {
            jobs: Some(jobs),
            thread: Some(thread),
            task,
        })
    }

    /// Does `work` inside, after what was given before.
    ///
    /// # Errors
    /// What the work says.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (tell, told) = mpsc::channel();
        let job = move || {
            // Who asked waits for the answer.
            let _ = tell.send(work());
        };
        let jobs = self.jobs.as_ref().context("the sandbox is closed")?;
        // When nobody takes it any more, nobody answers either.
        let _ = jobs.send(Box::new(job));
        told.recv().context("a measure panicked")?
    }

    /// The path by which others see its network namespace (proc_pid_ns(5)).
    pub(crate) fn network(&self) -> String {
        format!("/proc/{}/task/{}/ns/net", Pid::this(), self.task)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Does `work` in a network namespace and a mount namespace of its own: loopback is up, `/run` is
/// empty. Processes and threads that it starts are in there too, and keep both alive; when the
/// last one has ended, the kernel takes everything away that was made inside.
///
/// # Errors
/// When the kernel refuses, which takes root or `CAP_SYS_ADMIN` and `CAP_NET_ADMIN`; and what the
/// work says.
pub(crate) fn within<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let inside = || {
        enter()?;
        work()
    };
    // A thread of its own: it cannot come back, and the others stay where they are.
    thread::scope(|scope| match scope.spawn(inside).join() {
        Ok(result) => result,
        Err(_) => bail!("a measure panicked"),
    })
}

fn enter() -> Result<()> {
    // A thread shares its root directory with its process, which keeps both in one mount
    // namespace: CLONE_FS comes with it (unshare(2)).
    let all = CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET;
    unshare(all).context("a gateway needs namespaces of its own to be measured in (root)")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .context("cannot make the mounts private")?;
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), none)
        .context("cannot mount an empty /run")?;
    ip(&["link", "set", "lo", "up"])
}

/// Whether this kernel carries WireGuard itself: it makes a device, or has no such kind.
pub(crate) fn has_kernel_wireguard() -> bool {
    within(|| ip(&["link", "add", "probe", "type", "wireguard"])).is_ok()
}

/// Runs ip(8).
///
/// # Errors
/// With what it says when it fails.
pub(crate) fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip").args(arguments).output();
    let output = output.context("cannot run ip (iproute2)")?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        bail!("ip {}: {}", arguments.join(" "), error.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{fs, net::TcpListener, path::Path};

    use super::*;
    use crate::measure;

    #[test]
    fn a_sandbox_stays_as_it_was_left_and_others_see_its_network() {
        let (sandbox, other) = (Sandbox::open().unwrap(), Sandbox::open().unwrap());
        let there = other.network();
        let link = [
            "link", "add", "sandbox0", "type", "veth", "peer", "sandbox1",
        ];
        sandbox
            .run(move || {
                fs::write("/run/mark", "")?;
                ip(&[&link[..], &["netns", &there]].concat())
            })
            .unwrap();
        assert!(sandbox.run(|| Ok(Path::new("/run/mark").exists())).unwrap());
        assert!(!other.run(|| Ok(Path::new("/run/mark").exists())).unwrap());
        other.run(|| ip(&["link", "show", "sandbox1"])).unwrap();
    }

    #[test]
    fn what_happens_in_a_sandbox_is_not_seen_outside() {
        let mark = Path::new("/run/ringway-bench-mark");
        let inside = within(|| {
            fs::write(mark, "")?;
            ip(&[
                "link", "add", "sandbox0", "type", "veth", "peer", "sandbox1",
            ])?;
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let port = listener.local_addr()?.port();
            assert!(measure::listening_ports()?.contains(&port));
            assert!(ip(&["link", "show", "sandbox0"]).is_ok());
            // A thread of the sandbox is in it, too.
            thread::scope(|scope| {
                let there = scope.spawn(|| mark.exists()).join();
                assert!(there.is_ok_and(|there| there));
            });
            Ok(())
        });
        inside.unwrap();
        assert!(!mark.exists());
        assert!(ip(&["link", "show", "sandbox0"]).is_err());
    }
}
